"""What seeing inside costs: making and saving the maps of a stage, and opening the page.

    python -m benchmarks.maps

The story, one method at a time: seconds spent on maps, importance apart, against the stage's training. Then Inside is
opened in a browser: on a finished run of five tasks, and on one at work. Needs Chromium for that.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from benchmarks.pages import OPENINGS, SETTLING, WATCHED, computing, fresh_store, server_at, shown
from labcore.configs import presets
from labcore.configs.reading import parse
from labcore.runs.events import StageEnded
from labcore.training import hardware, loop, map_maker, worker
from tests import stories
from tests.browser import CHROMIUM, browsing, serving

OVERVIEW = ".js-plotly-plot .xtick text"
# How many maps are told before a live run is watched, which leads into its second stage, and how many while it is.
MAPS_BEFORE, MAPS_TOLD = 13, 5
METHODS = ("fine_tuning", "ewc", "packnet", "piggyback")

Result = TypeVar("Result")


@dataclass
class Spent:
    """The seconds that a stage's maps take in all, and those of them that importance takes, live and at its end."""

    maps: float = 0.0
    live: float = 0.0
    end: float = 0.0


class _Timed(map_maker.MapMaker):
    """A maker of maps that counts its own seconds."""

    spent: dict[int, Spent] = {}

    def _count(self, stage: int, what: str, work: Callable[[], Result]) -> Result:
        begun = time.perf_counter()
        try:
            return work()
        finally:
            spent = self.spent.setdefault(stage, Spent())
            setattr(spent, what, getattr(spent, what) + time.perf_counter() - begun)

    def begin(self, stage: int) -> None:
        self._count(stage, "maps", lambda: super(_Timed, self).begin(stage))

    def live(self, stage: int, step: int, images: int) -> str:
        return self._count(stage, "maps", lambda: super(_Timed, self).live(stage, step, images))

    def before_end(self, stage: int) -> None:
        self._count(stage, "maps", lambda: super(_Timed, self).before_end(stage))

    def end(self, stage: int, step: int) -> str:
        return self._count(stage, "maps", lambda: super(_Timed, self).end(stage, step))

    def _measured(self, stage: int, images: int) -> dict[str, Any]:
        what = "end" if images == map_maker.FULL_IMAGES else "live"
        return self._count(stage, what, lambda: super(_Timed, self)._measured(stage, images))


def stage_costs(method: str, tasks: int) -> list[tuple[float, Spent]]:
    """The seconds of training and of maps, stage by stage."""
    data = presets.preset_data("story", method)
    data["tasks"] = data["tasks"][:tasks]
    _Timed.spent = {}
    with mock.patch.object(loop, "MapMaker", _Timed), tempfile.TemporaryDirectory() as folder:
        events = loop.train(parse(data), maps=Path(folder))
        trained = [event.train_seconds for event in events if isinstance(event, StageEnded)]
    return [(seconds, _Timed.spent[stage]) for stage, seconds in enumerate(trained, 1)]


def opening() -> float:
    """The median of the seconds from asking for Inside to its overview being drawn, on a finished run of five tasks."""
    data = presets.preset_data("long", "packnet")
    data["training"] |= {"epochs": 1, "head_warmup_epochs": 0}
    data["method"]["retrain_epochs"] = 1
    for task in data["tasks"]:
        task["images_per_class"] = 20
    with fresh_store() as store:
        run = store.submit(parse(data)).run
        assert worker.run_claim(store.claim_run(run), "cpu").state == "complete"
        with browsing() as page, serving("app.py", store.root) as address:
            # The server has shown a page before, and its worker has come up and measured the machine.
            page.goto(address)
            page.get_by_text("estimated").wait_for()
            found = []
            for _ in range(OPENINGS):
                page.goto("about:blank")
                begun = time.time()
                found.append(shown(page, f"{address}/inside?run={run}", OVERVIEW) - begun)
        return statistics.median(found)


def live() -> tuple[float, float, float]:
    """The most seconds from a map being told to the overview showing it, and twice the server's milliseconds a second.

    A page's clock ticks once a second, and as often a browser asks for news. The server is measured while nothing is
    new, and while there is a map every three seconds. A run of the story's network is trained shortly beforehand, then
    told again bit by bit, so that training takes nothing from the server.
    """
    data = presets.preset_data("story", "fine_tuning")
    data["training"] |= {"epochs": 1, "head_warmup_epochs": 0}
    data["tasks"] = [task | {"images_per_class": 40} for task in data["tasks"][:2]]  # enough steps for all live points
    with fresh_store() as store, browsing() as page:
        run = store.submit(parse(data)).run
        assert worker.run_claim(store.claim_run(run), "cpu").state == "complete"
        claim = store.claim_run(store.submit(parse(data | {"seed": 1})).run)
        maps_told = stories.map_by_map(store, run, claim)
        for _ in range(MAPS_BEFORE):
            next(maps_told)
        with serving("app.py", store.root) as address:
            page.goto(f"{address}/inside?run={claim.run}&map=importance")
            page.locator(OVERVIEW).first.wait_for()
            server = server_at(address)
            page.wait_for_timeout(1000 * SETTLING)
            idle = computing(server, lambda: page.wait_for_timeout(1000 * WATCHED))
            page.evaluate(
                "document.querySelector('.js-plotly-plot').on('plotly_afterplot', () => window.drawn = Date.now())"
            )
            waits = []

            def follow() -> None:
                for _ in range(MAPS_TOLD):
                    begun = time.perf_counter()
                    page.evaluate("window.drawn = 0")
                    next(maps_told)
                    while not page.evaluate("window.drawn"):
                        assert time.perf_counter() - begun < 30, "the map is not on the page"
                        page.wait_for_timeout(20)
                    waits.append(time.perf_counter() - begun)
                    page.wait_for_timeout(max(0, 3000 - 1000 * waits[-1]))

            busy = computing(server, follow)
        claim.finish("stopped")
        claim.release()
        return max(waits), idle, busy


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=3, help="how many of the story's tasks")
    parser.add_argument("--methods", default=",".join(METHODS))
    options = parser.parse_args()
    print(f"{hardware.prepare()} threads\n")
    # An estimate at a live point is nothing that any method computes, so it is apart for all of them. At a stage's end
    # EWC measures importance itself, within its training: the map takes that, so there is nothing to be counted.
    print("| story, EfficientNet-Lite0 | training (s) | maps (s) | share | aim | importance apart: live, end (s) |")
    print("|---|---|---|---|---|---|")
    for method in options.methods.split(","):
        for stage, (seconds, spent) in enumerate(stage_costs(method, options.tasks), 1):
            made = spent.maps - spent.live - spent.end
            print(
                f"| {method}, stage {stage} | {seconds:.1f} | {made:.2f} | {100 * made / seconds:.1f} % | ≤ 5 % "
                f"| {spent.live:.2f}, {spent.end:.2f} |",
                flush=True,
            )
    print("\n| what | measured | aim |\n|---|---|---|")
    if CHROMIUM.exists():
        print(f"| opening Inside on a finished run of five tasks, to the overview | {opening():.2f} s | ≤ 1.5 s |")
        wait, idle, busy = live()
        print(
            f"| a run at work: from a map being told to the overview showing it, the longest | {wait:.2f} s | ≤ 3 s |"
        )
        print(f"| the server's computing a tick, without news | {idle:.1f} ms | ≤ 30 ms |")
        print(f"| the same with a map every three seconds | {busy:.1f} ms | ≤ 30 ms |")


if __name__ == "__main__":
    main()
