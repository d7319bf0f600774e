"""How quick the lab feels: from Start to the first point, a page's tick, a cold server, memory.

    python -m benchmarks.pages

Each line is measured on its own store and its own processes. The browser's figures need Chromium.
"""

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path

import psutil
from playwright.sync_api import Page

from benchmarks import compare
from labcore.configs import presets
from labcore.drawings import figures
from labcore.runs.events import Evaluated
from labcore.runs.store import Store
from pages.parts import live_plot
from tests import stories
from tests.browser import CHROMIUM, browsing, serving

SHORT, LONG = 100, 100_000  # how many events a short and a long run have
OPENED = 10  # how many runs are opened, one after the other
SETTLING, WATCHED = 5, 20  # for how many seconds a server is left alone, and then watched
LOST = 15  # so many points less than when it was learnt is forgetting that anybody sees
OPENINGS = 3  # how often the first page and the least there can be are opened, in turn
START = "Start:"  # as the button of Launch begins
STORY = presets.preset("story")
# A script of one button: no page of Streamlit's can be quicker.
LEAST = f"import streamlit as st; st.button({START!r})"


@contextlib.contextmanager
def fresh_store() -> Iterator[Store]:
    """For the block, a store in a folder of its own. Afterwards the folder and the store's workers are gone."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        try:
            yield store
        finally:
            for worker in store.workers():
                os.kill(worker.process.pid, signal.SIGKILL)
            store.close()


def worker(store: Store, *options: str) -> subprocess.Popen[bytes]:
    """Start a worker of the store as the app would."""
    return subprocess.Popen(
        [sys.executable, "-m", "labcore", "worker", "--device", "cpu", *options],
        env={**os.environ, "REUSE_LAB_HOME": str(store.root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def first_point(store: Store, run: str, since: float) -> float:
    """Seconds until the run's first live accuracy is there to be drawn."""
    while True:
        events, _ = store.tail(run, 0)
        if any(isinstance(event, Evaluated) and event.kind == "live" for event in events):
            return time.perf_counter() - since
        time.sleep(0.01)


def start_to_first_point() -> tuple[float, float]:
    """The seconds with a warm worker and with a cold one, for the story by fine-tuning with its pictures decoded."""
    with fresh_store() as store:
        process = worker(store)
        for seed in (0, 1):  # the first decodes the pictures and warms the worker
            run = store.submit(STORY.model_copy(update={"seed": seed})).run
            warm = first_point(store, run, time.perf_counter())
            store.request_stop(run)
            while store.record(run).active:
                time.sleep(0.02)
        process.kill()
        process.wait()
        since = time.perf_counter()
        run = store.submit(STORY.model_copy(update={"seed": 2})).run
        worker(store)
        return warm, first_point(store, run, since)


def ahead_to_first_point() -> tuple[float, float]:
    """What a worker that came up ahead is worth to a fresh store: seconds to the first live point of its first run.

    And the share of a core, in per cent, that the worker took while it waited.
    """
    with fresh_store() as store:
        process = settled_ahead(store)
        share = computing(psutil.Process(process.pid), lambda: time.sleep(WATCHED)) / 10
        since = time.perf_counter()
        return first_point(store, store.submit(STORY).run, since), share


def settled_ahead(store: Store) -> subprocess.Popen[bytes]:
    """Start a worker ahead of need, and wait until it is up, has the story's pictures, and was idle for a while."""
    process = worker(store, "--ahead")
    while not store.workers() or len(list((store.cache / "pictures").glob("*.npz"))) < len(STORY.tasks):
        time.sleep(0.1)
    time.sleep(SETTLING)
    return process


def start_to_forgetting() -> tuple[float, float]:
    """The seconds from Start until a live look sees LOST points less of the first task than when it was learnt.

    And until the run's end: the story by fine-tuning, in a fresh store whose worker came up ahead.
    """
    with fresh_store() as store:
        settled_ahead(store)
        since = time.perf_counter()
        run = store.submit(STORY).run
        forgot = 0.0
        while store.record(run).active:
            looks = [event for event in store.tail(run, 0)[0] if isinstance(event, Evaluated) and event.kind != "test"]
            learnt = next((event.accuracy[0] for event in looks if event.kind == "validation"), None)
            if not forgot and learnt is not None and looks[-1].accuracy[0] <= learnt - LOST / 100:
                forgot = time.perf_counter() - since
            time.sleep(0.05)
        assert forgot and store.record(run).state == "complete"
        return forgot, time.perf_counter() - since


def start_to_answers() -> float:
    """Seconds from a press of Start to the network's first answers on pictures, in a browser, its worker up ahead."""
    with fresh_store() as store, browsing() as page:
        settled_ahead(store)
        with serving("app.py", store.root) as address:
            shown(page, address, "[class*=st-key-card-]")
            page.wait_for_timeout(1000 * SETTLING)
            begun = time.time()
            page.get_by_role("button", name=START).click()
            return seen(page, ".lab-answer") - begun


def tick(events: int) -> float:
    """The median milliseconds of what Watch itself does each second when nothing is new, without Streamlit."""
    with fresh_store() as store:
        run = stories.long_run(store, events)
        fold, offset = store.fold(run), (store.folder(run) / "events.jsonl").stat().st_size
        titles = [task.title for task in fold.tasks]

        config = store.config(run).model_dump(mode="json")
        charts: dict[str, tuple[Hashable, bytes]] = {}

        def once() -> float:
            begun = time.perf_counter()
            store.record(run)
            store.tail(run, offset)
            store.workers()
            for name, make in (
                ("accuracy", lambda: figures.accuracy_curves(figures.accuracy_curves_info(fold))),
                ("matrix", lambda: figures.accuracy_matrix(figures.accuracy_matrix_info(fold, titles))),
                ("loss", lambda: figures.loss_terms(figures.loss_terms_info(fold))),
            ):
                live_plot.remembered(charts, make, live_plot.Head(name, 320), fold.events)
            fold.result(run, "complete", config)
            return 1000 * (time.perf_counter() - begun)

        return statistics.median(once() for _ in range(30))


def server_at(address: str) -> psutil.Process:
    """The server that `serving` started."""
    return next(
        process
        for process in psutil.Process().children(recursive=True)
        if "streamlit" in " ".join(process.cmdline()) and address.rsplit(":", 1)[1] in process.cmdline()
    )


def computing(server: psutil.Process, meanwhile: Callable[[], object]) -> float:
    """How many milliseconds a process computes in each second meanwhile; a page's tick comes once a second."""
    before, begun = sum(server.cpu_times()[:2]), time.perf_counter()
    meanwhile()
    return 1000 * (sum(server.cpu_times()[:2]) - before) / (time.perf_counter() - begun)


def shown(page: Page, address: str, selector: str, words: str = "") -> float:
    """Go to an address, and tell when such an element with such words was first shown, in seconds since 1970.

    The browser itself looks at each frame and at the clock, because Playwright would ask it ever less often, in the end
    twice a second.
    """
    page.goto(address, wait_until="commit")
    return seen(page, selector, words)


def seen(page: Page, selector: str, words: str = "") -> float:
    """The same of the page that is open, or of one that it goes on to by itself."""
    moment: float = page.evaluate(
        """([selector, words]) => new Promise(done => {
            const there = it => it.checkVisibility() && it.textContent.includes(words);
            const look = () => [...document.querySelectorAll(selector)].some(there)
                ? setTimeout(() => done(Date.now() / 1000)) : requestAnimationFrame(look);
            look();
        })""",
        [selector, words],
    )
    return moment


def first_page(script: str) -> float:
    """Seconds from starting a server of this script, its store empty, to the page's button, in a fresh browser."""
    with fresh_store() as store, browsing() as page:
        begun = time.time()
        with serving(script, store.root) as address:
            return shown(page, address, "button", START) - begun


def first_pages() -> tuple[float, float]:
    """The seconds of the app's first page and of the least there can be: medians of several, opened in turn."""
    with tempfile.TemporaryDirectory() as folder:
        least = Path(folder) / "least.py"
        least.write_text(LEAST)
        rounds = [(first_page("app.py"), first_page(str(least))) for _ in range(OPENINGS)]
    own, bare = (statistics.median(column) for column in zip(*rounds, strict=True))
    return own, bare


def opened() -> tuple[float, float, float]:
    """What a server takes: MB after ten runs were opened in turn, and twice the milliseconds it computes in a second.

    The milliseconds are Streamlit's and ours together, while Watch is open on a run at work without news: first a short
    run, then a long one.
    """
    with fresh_store() as store, browsing() as page:
        runs = [stories.long_run(store, 2000) for _ in range(OPENED)]
        with serving("app.py", store.root) as address:
            for run in runs:
                page.goto(f"{address}/watch?run={run}")
                page.locator(".js-plotly-plot").nth(2).wait_for()
            server = server_at(address)
            memory = server.memory_info().rss / 1e6
            ticks: list[float] = []
            for events in (SHORT, LONG):
                claim = stories.long_claim(store, events)
                page.goto(f"{address}/watch?run={claim.run}")
                page.locator(".js-plotly-plot").nth(2).wait_for()
                page.wait_for_timeout(1000 * SETTLING)
                ticks.append(computing(server, lambda: page.wait_for_timeout(1000 * WATCHED)))
                claim.finish("stopped")
                claim.release()
        short, long = ticks
        return memory, short, long


def worker_peak() -> float:
    """The peak of resident MB of a process that trains the story by fine-tuning, torch included."""
    with fresh_store() as store:
        process = subprocess.Popen(
            [sys.executable, "-m", "labcore", "run", "--preset", "story", "--json"],
            env={**os.environ, "REUSE_LAB_HOME": str(store.root)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        return usage.ru_maxrss * 1024 / 1e6


def main() -> None:
    """Print a table: what, how much, the aim."""
    print("| what | measured | aim |\n|---|---|---|")
    warm, cold = start_to_first_point()
    print(f"| Start to first live point, warm worker (story) | {warm:.2f} s | ≤ 1.5 s |")
    print(f"| the same, no worker running | {cold:.2f} s | ≤ 6 s |", flush=True)
    first, share = ahead_to_first_point()
    print(f"| the first run of a fresh store, its worker up ahead | {first:.2f} s | ≤ 1.0 s |")
    print(f"| that worker while it waits, of a core | {share:.1f} % | ≤ 1 % |", flush=True)
    forgot, over = start_to_forgetting()
    print(f"| Start to {LOST} points of forgetting; to the end of that run | {forgot:.1f}; {over:.1f} s | ≤ 60 s |")
    if shutil.which(str(CHROMIUM)):
        print(
            f"| Start to the first answers on pictures, in a browser | {start_to_answers():.2f} s | ≤ 2 s |", flush=True
        )
    short, long = tick(SHORT), tick(LONG)
    print(f"| idle tick of Watch, the lab's own part, run of {SHORT} events | {short:.1f} ms | |")
    print(f"| the same, run of {LONG:,} events | {long:.1f} ms | |", flush=True)
    compare.report()
    if shutil.which(str(CHROMIUM)):
        own, least = first_pages()
        print(f"| cold server to Start on the first page in a browser | {own:.2f} s | ≤ {least + 0.7:.2f} s |")
        print(f"| the same of a script of one button, the least that Streamlit takes | {least:.2f} s | |", flush=True)
        memory, short, long = opened()
        print(f"| memory of the server after {OPENED} runs opened in turn | {memory:.0f} MB | < 300 MB |")
        print(f"| idle tick of Watch, the whole server's computing, run of {SHORT} events | {short:.1f} ms | ≤ 20 ms |")
        print(f"| the same, run of {LONG:,} events | {long:.1f} ms | ≤ 20 ms |", flush=True)
    print(f"| peak memory of a process training the story | {worker_peak():.0f} MB | ≤ 1500 MB |")


if __name__ == "__main__":
    main()
