"""What a large store costs: each page over its empty self, ticks, commands; and a run of very many events.

    python -m benchmarks.stores [--runs 5000] [--events 100000]

Times are of the processor, in this process, without a browser. The store holds copies of one real run and a run at
work. A page is opened as Streamlit runs it: at first by a server that has read nothing yet, then again. A tick is what
an open page does each second or two while something runs; here it is every part of the page that ticks, drawn once more
when the run at work has said something new.
"""

import argparse
import contextlib
import functools
import io
import itertools
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.testing.v1 import AppTest

from labcore.cli import main as cli
from labcore.runs import kept_folds
from labcore.runs.files import digest_of
from labcore.runs.records import new_id
from labcore.runs.store import Store
from labcore.training import worker
from tests import stories
from tests.conftest import tiny

APP = str(Path(__file__).parent.parent / "app.py")
AT_ONCE = 250  # copies that are taken in together
PAGES: tuple[tuple[str, dict[str, str]], ...] = (
    ("launch", {}),
    ("watch", {}),
    ("inside", {}),
    ("compare", {}),
    ("compare", {"view": "runs"}),
    ("compare", {"view": "which"}),
    ("explore", {}),
    ("runs", {}),
)


def filled(store: Store, count: int) -> None:
    """Train one small run and copy it, with its folder and its record, until the store has `count`; one is at work."""
    config = tiny()
    first = worker.run_claim(store.claim_run(store.submit(config).run), "cpu")
    folder = store.folder(first.run)
    told = (folder / "events.jsonl").read_bytes()
    for begun in range(1, count - 1, AT_ONCE):
        with store.at_once():
            for seed in range(begun, min(begun + AT_ONCE, count - 1)):
                other = config.model_copy(update={"seed": seed})
                run = f"{new_id(other.key()[:6])}-{seed}"
                place = store.cache / f"import-{run}"
                shutil.copytree(folder, place, copy_function=os.link, ignore=shutil.ignore_patterns("*.json*", "lock"))
                (place / "config.json").write_text(other.model_dump_json(indent=2))
                own = told.replace(first.run.encode(), run.encode()).replace(b'"seed":0', b'"seed":%d' % seed)
                (place / "events.jsonl").write_bytes(own)
                digests = {"digest": "events.jsonl", "config_digest": "config.json"}
                said = {"run": run, "key": other.key()}
                said |= {field: digest_of(place / name) for field, name in digests.items()}
                record = first.model_copy(update={**said, "submitted": first.submitted + seed / 1000})
                store.take_in(record, place)
                store.answer_with(record)


@contextlib.contextmanager
def at_home(store_of: Path) -> Iterator[None]:
    """For the block, the lab's store is this one, and nobody has opened it yet."""
    os.environ["REUSE_LAB_HOME"] = str(store_of)
    st.cache_resource.clear()
    st.cache_data.clear()
    yield
    st.cache_resource.clear()


class Ticks:
    """How long a page's script took since `begin`, and what of it is in the parts that are drawn again by themselves.

    Only the script's own thread counts: what is counted beside it keeps nobody waiting.
    """

    def __init__(self) -> None:
        self.seconds = self.script = 0.0
        fragment, run = st.fragment, threading.Thread.run

        def counted(thread: threading.Thread) -> None:
            run(thread)
            if "script" in thread.name.lower():
                self.script += time.thread_time()

        threading.Thread.run = counted  # type: ignore[method-assign, assignment]

        def measured(part: Callable[..., Any] | None = None, *, run_every: Any = None) -> Any:
            if part is None:
                return lambda part: measured(part, run_every=run_every)

            @functools.wraps(part)
            def timed(*args: Any, **kwargs: Any) -> Any:
                begun = time.thread_time()
                try:
                    return part(*args, **kwargs)
                finally:
                    self.seconds += time.thread_time() - begun

            return fragment(timed, run_every=run_every)

        st.fragment = measured  # type: ignore[assignment]

    def begin(self) -> None:
        self.seconds = self.script = 0.0


def opened(
    page_name: str, address: dict[str, str], ticks: Ticks, news: Callable[[], object] = lambda: None
) -> tuple[float, float]:
    """The seconds that a page's script takes to open it, and those of its ticks after `news`."""
    page = AppTest.from_file(APP, default_timeout=300)
    page.session_state["drawn"] = True
    page.query_params.update(address)
    page.switch_page(f"pages/{page_name}.py")
    ticks.begin()
    page.run()
    script = ticks.script
    news()
    ticks.begin()
    page.run()
    assert not page.exception, page.exception
    return script, ticks.seconds


def command(*words: str) -> float:
    """The seconds of a command, imports apart."""
    begun = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        cli.main(list(words))
    return time.process_time() - begun


def pages(own: Path, empty: Path, what: str, news: Callable[[], object] = lambda: None) -> None:
    """Print what each page takes on a store, beside an empty one, and what its ticks take after `news`."""
    ticks = Ticks()
    print(f"\n| {what} | empty store (s) | first opening | again | its ticks (ms) |\n|---|---|---|---|---|")
    for name, address in PAGES:
        with at_home(empty):
            opened(name, address, ticks)
            alone, _ = opened(name, address, ticks)
        with at_home(own):
            first, _ = opened(name, address, ticks)
            again, tick = min(opened(name, address, ticks, news) for _ in range(3))
        told = " ".join([name, *address.values()])
        print(f"| {told} | {alone:.2f} | {first:.2f} | {again:.2f} | {1000 * tick:.0f} |", flush=True)


def large_store(root: Path, count: int) -> None:
    """Print the lines for a store of so many runs."""
    own, empty = root / "own", root / "empty"
    store = Store(own)
    filled(store, count)
    at_work = stories.long_claim(store, 1000)
    steps = itertools.count(1011)
    pages(own, empty, f"{count:,} runs", lambda: at_work.append(stories.logged(2, 152, next(steps), new_task=0.2)))
    at_work.release()
    print(f"\n| command, {count:,} runs | seconds |\n|---|---|")
    with at_home(own):
        for words in ("list", "check"):
            print(f"| {words} | {command(words):.2f} |", flush=True)
    store.close()


def long_run(root: Path, events: int) -> None:
    """Print the lines for a run of so many events."""
    store = Store(root / "long")
    run = stories.long_run(store, events)
    print(f"\n| a run of {events:,} events | seconds |\n|---|---|")
    (store.cache / "folds" / f"{run}.json").unlink()  # which was written at the run's end
    for told in ("folded for the first time", "again, by another process", "again, by the same one"):
        if "another" in told:
            kept_folds._digest_once.cache_clear()
        begun = time.process_time()
        store.fold(run)
        print(f"| {told} | {time.process_time() - begun:.3f} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--events", type=int, default=100_000)
    asked = parser.parse_args()
    worker.ensure = lambda *arguments, **options: None
    with tempfile.TemporaryDirectory() as folder:
        long_run(Path(folder), asked.events)
        large_store(Path(folder), asked.runs)


if __name__ == "__main__":
    main()
