"""Where the seconds of a run go, method by method.

    python -m benchmarks.spent [quick story] [--methods fine_tuning,ewc]

Each run is a process of its own, with a store of its own, nothing shared, and does what a worker does. What is called
within something else is counted there and not twice, and whatever nobody counts is the rest.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

PARTS = (
    "start-up",
    "pictures",
    "head-only passes",
    "forward",
    "backward",
    "optimiser",
    "method's own",
    "looking",
    "answer time",
    "maps",
    "checkpoints",
    "disk",
    "rest",
)


class Purse:
    """Counts seconds by what they were spent on; of two counts within each other, the inner one takes its time."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []
        self.head_only = False

    def count(self, owner: Any, name: str, part: str, head_only: Callable[..., bool] | None = None) -> None:
        """From now on, what `owner.name` takes is spent on `part`."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def counted(*args: Any, **more: Any) -> Any:
            if head_only is not None:
                self.head_only = head_only(*args)
            self._inner.append(0.0)
            begun = time.perf_counter()
            try:
                return original(*args, **more)
            finally:
                took = time.perf_counter() - begun
                where = "head-only passes" if self.head_only and part in ("forward", "backward", "optimiser") else part
                self.spent[where] += took - self._inner.pop()
                if self._inner:
                    self._inner[-1] += took

        setattr(owner, name, counted)


def train(preset: str, method: str) -> dict[str, float]:
    """Train a preset's run as a worker does, in this process, and say on what its seconds were spent."""
    import torch

    from labcore.configs import presets
    from labcore.methods.load import learner
    from labcore.runs import energy
    from labcore.runs.claims import Claim
    from labcore.runs.store import Store
    from labcore.training import learner as learners
    from labcore.training import saving, worker
    from labcore.training.lessons import PhaseBatches
    from labcore.training.map_maker import MapMaker
    from labcore.training.measuring import Measurer
    from labcore.training.optimizers import Updates
    from labcore.training.saving import Checkpoints
    from labcore.training.stored_stages import StoredStages

    purse = Purse()
    kind = learner(method)
    purse.count(learners, "load_task", "pictures")
    purse.count(PhaseBatches, "at", "pictures")
    purse.count(kind, "loss", "forward", head_only=lambda _, batch: bool(batch.head_only))
    purse.count(torch.Tensor, "backward", "backward")
    for name in ("prepare", "step"):
        purse.count(Updates, name, "optimiser")
    purse.count(Updates, "__init__", "start-up")  # a process's first optimizer takes torch two seconds
    for name in ("before_step", "after_step", "start_stage", "end_phase", "end_stage", "further_terms"):
        purse.count(kind, name, "method's own")
    for name in ("probe", "answers_now", "answers"):
        purse.count(Measurer, name, "looking")
    purse.count(Measurer, "ms_per_image", "answer time")
    for name in ("begin", "live", "before_end", "end"):
        purse.count(MapMaker, name, "maps")
    purse.count(Checkpoints, "save", "checkpoints")
    purse.count(saving, "save_stage", "disk")
    purse.count(StoredStages, "keep", "disk")
    for name in ("append", "sync", "finish"):
        purse.count(Claim, name, "disk")
    energy.warm_up()  # as a worker does before it takes a run
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        run = store.submit(presets.preset(preset, method)).run
        begun = time.time()
        before = purse.spent["start-up"] = begun - psutil.Process().create_time()
        assert worker.run_claim(store.claim_run(run), "cpu").state == "complete"
        whole = time.time() - begun
        store.close()
    purse.spent["rest"] = whole - (sum(purse.spent.values()) - before)
    return dict(purse.spent)


def row(preset: str, method: str) -> dict[str, float]:
    """The same in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.spent", preset, "--methods", method, "--here"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        env=os.environ,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each preset: a row a method, a column for what seconds are spent on."""
    from labcore.configs.registry import of_group

    parser = argparse.ArgumentParser()
    parser.add_argument("presets", nargs="*", default=["quick", "story"])
    parser.add_argument("--methods", default=",".join(about.name for about in of_group("article")))
    parser.add_argument("--here", action="store_true", help="train here, and print numbers alone")
    asked = parser.parse_args(arguments)
    methods = asked.methods.split(",")
    if asked.here:
        print(json.dumps(train(asked.presets[0], methods[0])))
        return
    for preset in asked.presets:
        print(f"\n| {preset}, seconds | all | {' | '.join(PARTS)} |\n|{'---|' * (len(PARTS) + 2)}")
        for method in methods:
            found = row(preset, method)
            cells = " | ".join(f"{found.get(part, 0.0):.1f}" for part in PARTS)
            print(f"| {method} | {sum(found.values()):.1f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
