"""How quick Compare and Explore are on a store of 500 finished runs: to the page, and each second while one trains.

    python -m benchmarks.compare

The page runs as Streamlit runs it, without a browser. A tick is all that the page's fragments compute.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

from labcore.configs import presets
from labcore.configs.registry import METHODS
from labcore.runs.store import Store
from labcore.studies import advancing, explorations, questions
from labcore.studies.experiments import Findings
from labcore.studies.reader import Reader
from labcore.training import worker
from pages.parts import experiment_bar, exploring, measured_table
from tests import stories

FINISHED, SEEDS, OPENED, TICKS = 500, 5, 3, 30
APP = str(Path(__file__).parent.parent / "app.py")


def filled(store: Store) -> None:
    """Fill a store with finished runs, among them the quick table's but for one run, which is at work."""
    made = 0
    for seed in range(FINISHED):
        for method in METHODS:
            if made < FINISHED and (seed, method) != (SEEDS - 1, "piggyback"):
                config = presets.preset("quick", method).model_copy(update={"seed": seed})
                stories.told(store, config, [[0.9], [0.5, 0.8], [0.4, 0.6, 0.85]])
                made += 1


def explored(store: Store) -> str:
    """Make an exploration of three settings that has tried all its combinations but the last, which trains.

    Returns its name.
    """
    rates = {"path": "training.learning_rate", "low": 1e-4, "high": 1e-2, "steps": 20, "log": True}
    strengths = {"path": "method.strength", "low": 1.0, "high": 1e6, "steps": 13, "log": True}
    labels = {"path": "method.labels", "values": ["sampled", "exact"]}
    base = presets.preset_data("quick", "ewc")
    exploration = explorations.parse_exploration({"base": base, "varied": [rates, strengths, labels], "runs": 1000})
    arms = [exploration.arm(values) for values in exploration.grid()]
    for arm in arms[:-1]:
        stories.told(store, arm.seeded(0), [[0.9], [0.5, 0.8], [0.4, 0.6, 0.85]])
    name = explorations.create(store, exploration)
    advancing.advance(store, Reader(store))
    return name


def open_page(page_name: str, **address: str) -> float:
    """The seconds that a page's script takes from nothing: what a person waits for, without the browser."""
    page = AppTest.from_file(APP, default_timeout=120)
    page.query_params.update(address)
    page.run()
    begun = time.perf_counter()
    page.query_params.update(address)
    page.switch_page(f"pages/{page_name}.py").run()
    assert not page.exception, page.exception
    return time.perf_counter() - begun


def tick(reader: Reader, findings: Findings) -> float:
    """Milliseconds of a tick without news."""
    begun = time.perf_counter()
    for _ in range(2):  # the button and the table each look by themselves
        findings = reader.look(findings.experiment)
    progress = {cell.record.run: 0.5 for cell in findings.having("running") if cell.record}
    reader.seconds_left(findings, "cpu", progress)
    measured_table.table_html(findings, findings.experiment.arms, progress)
    findings.told()
    return 1000 * (time.perf_counter() - begun)


def explore_tick(name: str) -> float:
    """Milliseconds of a tick of Explore without news."""
    begun = time.perf_counter()
    for _ in range(3):  # the two buttons and the rest each look by themselves
        seen = exploring.follow(name)
    progress = experiment_bar.progress_of(seen.findings)
    exploring.time_left(seen, progress)
    exploring.share_used(seen, progress)
    return 1000 * (time.perf_counter() - begun)


def report() -> None:
    """Print the lines of a table: what, how much, the aim."""
    worker.ensure = lambda *arguments, **options: None
    with tempfile.TemporaryDirectory() as folder:
        os.environ["REUSE_LAB_HOME"] = folder
        store = Store(Path(folder))
        filled(store)
        experiment = questions.named("table", "quick", SEEDS)
        claim = store.claim_run(store.submit(experiment.arm("Piggyback").seeded(SEEDS - 1)).run)
        table = {"view": "table", "preset": "quick", "seeds": str(SEEDS)}
        say(f"Compare, {FINISHED} finished runs: to the table, nothing read before", open_page("compare", **table))
        say("the same, again", statistics.median(open_page("compare", **table) for _ in range(OPENED)))
        say("to runs side by side", open_page("compare", view="runs"))
        reader = Reader(store)
        findings = reader.look(experiment)
        say_tick(f"a live tick of the table of {8 * SEEDS} runs", lambda: tick(reader, findings))
        claim.put_back()
        store.close()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["REUSE_LAB_HOME"] = folder
        store = Store(Path(folder))
        name = explored(store)
        say(
            f"Explore, {len(store.records())} runs of one exploration: to the page, nothing read before",
            open_page("explore", exploration=name),
        )
        say("the same, again", statistics.median(open_page("explore", exploration=name) for _ in range(OPENED)))
        say_tick("a live tick of it", lambda: explore_tick(name))
        store.close()


def say(what: str, seconds: float) -> None:
    print(f"| {what} | {seconds:.2f} s | ≤ 1.5 s |", flush=True)


def say_tick(what: str, once: Callable[[], float]) -> None:
    print(f"| {what}, no news | {statistics.median(once() for _ in range(TICKS)):.1f} ms | ≤ 30 ms |", flush=True)


if __name__ == "__main__":
    print("| what | measured | aim |\n|---|---|---|")
    report()
