"""What seeing inside costs: making and saving the maps of a stage, and opening the page.

    python -m benchmarks.maps

The story, shortened to its first two tasks and one method at a time: seconds spent on maps, importance apart, against
the stage's training. Then Inside is opened in a browser on a finished run of five tasks. Needs Chromium for that.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from benchmarks.pages import fresh_store
from labcore import maps, presets, trainer, worker
from labcore.configs import parse
from labcore.events import StageEnded
from tests.test_journey import CHROMIUM, FLAGS, serving

METHODS = ("fine_tuning", "ewc", "packnet", "piggyback")


class _Timed(maps.MapMaker):
    """Counts its own seconds, and of them those spent on importance."""

    spent: dict[int, list[float]] = {}

    def _count(self, stage: int, place: int, work: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        try:
            return work()
        finally:
            self.spent.setdefault(stage, [0.0, 0.0])[place] += time.perf_counter() - begun

    def begin(self, stage: int) -> None:
        self._count(stage, 0, lambda: super(_Timed, self).begin(stage))

    def live(self, stage: int, step: int) -> str:
        return self._count(stage, 0, lambda: super(_Timed, self).live(stage, step))

    def end(self, stage: int, step: int) -> str:
        return self._count(stage, 0, lambda: super(_Timed, self).end(stage, step))

    def _measured(self, stage: int, images: int) -> dict[str, Any]:
        return self._count(stage, 1, lambda: super(_Timed, self)._measured(stage, images))


def stage_costs(method: str, tasks: int) -> list[tuple[float, float, float]]:
    """By stage: seconds of training, of maps without importance, and of importance."""
    data = presets.preset_data("story", method)
    data["tasks"] = data["tasks"][:tasks]
    trainer.MapMaker, _Timed.spent = _Timed, {}  # type: ignore[misc]
    try:
        with tempfile.TemporaryDirectory() as folder:
            events = trainer.train(parse(data), maps=Path(folder))
            trained = [event.train_seconds for event in events if isinstance(event, StageEnded)]
    finally:
        trainer.MapMaker = maps.MapMaker  # type: ignore[misc]
    return [
        (seconds, _Timed.spent[stage][0] - _Timed.spent[stage][1], _Timed.spent[stage][1])
        for stage, seconds in enumerate(trained, 1)
    ]


def opening() -> float:
    """Seconds from asking for Inside to its overview being drawn: the best of five, on a finished run of five tasks."""
    data = presets.preset_data("long", "packnet")
    data["training"] |= {"epochs": 1, "head_warmup_epochs": 0}
    data["method"]["retrain_epochs"] = 1
    for task in data["tasks"]:
        task["images_per_class"] = 20
    with fresh_store() as store, sync_playwright() as playwright:
        run = store.submit(parse(data)).run
        assert worker.run_claim(store.claim_run(run), "cpu").state == "complete"
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = chromium.new_page(viewport={"width": 1280, "height": 720})
        with serving("app.py", store.root) as address:
            page.goto(address)  # the server has shown a page before
            page.get_by_role("button", name="Start the story").wait_for()
            found = []
            for _ in range(5):
                page.goto("about:blank")
                begun = time.perf_counter()
                page.goto(f"{address}/inside?run={run}", wait_until="commit")
                page.locator(".js-plotly-plot .xtick text").first.wait_for()
                found.append(time.perf_counter() - begun)
        chromium.close()
        return min(found)


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=3, help="how many of the story's tasks")
    parser.add_argument("--methods", default=",".join(METHODS))
    options = parser.parse_args()
    print(f"{trainer.use_threads()} threads\n")
    print("| story, EfficientNet-Lite0 | training (s) | maps (s) | share | aim | importance apart (s) |")
    print("|---|---|---|---|---|---|")
    for method in options.methods.split(","):
        for stage, (seconds, made, fisher) in enumerate(stage_costs(method, options.tasks), 1):
            share = f"{100 * made / seconds:.1f} %"
            print(
                f"| {method}, stage {stage} | {seconds:.1f} | {made:.2f} | {share} | ≤ 5 % | {fisher:.2f} |", flush=True
            )
    print("\n| what | measured | aim |\n|---|---|---|")
    if CHROMIUM.exists():
        print(f"| opening Inside on a finished run of five tasks, to the overview | {opening():.2f} s | ≤ 1.5 s |")


if __name__ == "__main__":
    main()
