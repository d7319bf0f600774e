"""How quick Compare is on a store of 500 finished runs: to the page, and each second while something trains.

    python -m benchmarks.compare

The page runs as Streamlit runs it, without a browser. The tick is all that the table's two fragments compute.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

from streamlit.testing.v1 import AppTest

from labcore import presets, questions, worker
from labcore.configs import METHODS
from labcore.experiments import Findings, Reader
from labcore.store import Store
from pages.parts import measured_table
from tests import stories

FINISHED, SEEDS, OPENED, TICKS = 500, 5, 3, 30
APP = str(Path(__file__).parent.parent / "app.py")


def filled(store: Store) -> None:
    """So many finished runs, all seeds of the quick table among them but for one run, which is running."""
    made = 0
    for seed in range(FINISHED):
        for method in METHODS:
            if made < FINISHED and (seed, method) != (SEEDS - 1, "piggyback"):
                config = presets.preset("quick", method).model_copy(update={"seed": seed})
                stories.told(store, config, [[0.9], [0.5, 0.8], [0.4, 0.6, 0.85]])
                made += 1


def open_page(view: str) -> float:
    """Seconds for a script run of Compare from nothing: what a person waits for, less the browser."""
    page = AppTest.from_file(APP, default_timeout=120)
    page.query_params.update(view=view, preset="quick", seeds=str(SEEDS))
    page.run()
    begun = time.perf_counter()
    page.query_params.update(view=view, preset="quick", seeds=str(SEEDS))
    page.switch_page("pages/compare.py").run()
    assert not page.exception, page.exception
    return time.perf_counter() - begun


def tick(reader: Reader, findings: Findings) -> float:
    """Milliseconds of a tick without news."""
    begun = time.perf_counter()
    for _ in range(2):  # the button and the table look, each by itself
        findings = reader.look(findings.experiment)
    progress = {cell.record.run: 0.5 for cell in findings.having("running") if cell.record}
    reader.seconds_left(findings, "cpu", progress)
    measured_table.table_html(findings, progress)
    findings.told()
    return 1000 * (time.perf_counter() - begun)


def measure() -> tuple[float, float, float, float]:
    """Seconds to the table for the first time and again, seconds to runs side by side, milliseconds of a tick."""
    worker.ensure = lambda store, device="auto": None
    with tempfile.TemporaryDirectory() as folder:
        os.environ["REUSE_LAB_HOME"] = folder
        store = Store(Path(folder))
        filled(store)
        experiment = questions.named("table", "quick", SEEDS)
        config = experiment.arm("Piggyback").seeded(SEEDS - 1)
        claim = store.claim_run(store.submit(config).run)
        first = open_page("table")
        again = statistics.median(open_page("table") for _ in range(OPENED))
        beside = open_page("runs")
        reader = Reader(store)
        findings = reader.look(experiment)
        ticks = statistics.median(tick(reader, findings) for _ in range(TICKS))
        claim.put_back()
        store.close()
        return first, again, beside, ticks


def report() -> None:
    """Print the lines of a table: what, how much, the aim."""
    first, again, beside, ticks = measure()
    print(f"| Compare, {FINISHED} finished runs: to the table, nothing read before | {first:.2f} s | ≤ 1.5 s |")
    print(f"| the same, again | {again:.2f} s | ≤ 1.5 s |")
    print(f"| to runs side by side | {beside:.2f} s | ≤ 1.5 s |")
    print(f"| a live tick of the table of {8 * SEEDS} runs, no news | {ticks:.1f} ms | ≤ 30 ms |", flush=True)


if __name__ == "__main__":
    print("| what | measured | aim |\n|---|---|---|")
    report()
