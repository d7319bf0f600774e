"""Make the store that tests/test_stores_of_before.py opens: `python scripts/make_store_of_before.py 555d13e`.

A commit trains a few tiny runs through its own command line, in a `git worktree`; the store it leaves and what it said
of its runs are kept as two files in tests/fixtures. The trained networks of most stages are taken out again, exactly
as a store without room for them would do it: a test needs them once, and figures are never evicted.

    store-COMMIT.tar.xz   home/: the store
    store-COMMIT.json     what the commit was, on what machine, and of every run: its ID, its result, and for the run
                          that was broken off the SHA-256 of every tensor that it ends with when nothing stops it
"""

import hashlib
import json
import lzma
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from same_as import ROOT, Plan, Side, break_off, tensors, tiny, train, worktree

Data = dict[str, Any]

FIXTURES = ROOT / "tests" / "fixtures"
CHANGES: Data = {
    "backbone": {"name": "small_cnn_plain"},
    "training": {"optimizer": "sgd", "learning_rate": 0.02, "head_learning_rate": 0.05, "epochs": 30},
}
METHODS: dict[str, Data] = {
    "fine_tuning": {"name": "fine_tuning"},
    "ewc": {"name": "ewc", "fisher_images": 20},
    "packnet": {"name": "packnet", "prune_ratio": 0.9, "retrain_epochs": 2},
    "piggyback": {"name": "piggyback", "trunk": "first_task", "score_learning_rate": 2e-3},
}
WITH_MAPS = "packnet"
# It takes its first stage from the cache, where `ewc` has put it, and is stopped in the second.
BROKEN_OFF = Plan("broken off", tiny(METHODS["ewc"] | {"strength": 20.0}, **CHANGES), ("--maps", "none"))
# The arrays of these stages stay; those of the others are evicted.
SHARED = {("fine_tuning", 1), ("ewc", 1), ("broken off", 1)}  # one file of three names
KEPT = SHARED | {("packnet", 2), ("piggyback", 1), ("piggyback", 2)}
LEFT_OUT = ("/cache/pictures", "/reserve")  # made again by whoever opens the store


def evict(home: Path, run: Path, stage: int) -> None:
    """Take the arrays of a stage out of the store, from the run's folder and from the cache."""
    folder = run / "stages" / str(stage)
    network = (folder / "network.safetensors").stat().st_ino
    for entry in (home / "cache" / "stages").iterdir():
        if entry.is_dir() and (entry / "network.safetensors").stat().st_ino == network:
            for path in entry.iterdir():
                path.unlink()
            entry.rmdir()
    for path in folder.iterdir():
        path.unlink()


def command(side: Side, *arguments: str) -> Any:
    """What a command of that commit prints."""
    done = subprocess.run(
        [sys.executable, "-m", "labcore", *arguments, "--json"],
        cwd=side.tree,
        env=side.environment(),
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout)


def machine(events: Path) -> Data:
    """What the bits of this store depend on beside the configurations, as its runs tell it."""
    import torch

    started = json.loads(events.read_text().splitlines()[0])
    return {
        "engine": started["versions"]["engine"],
        "torch": started["versions"]["torch"],
        "device": started["device"],
        "device_name": started["device_name"],
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": started["threads"],
    }


def make(tree: Path, folder: Path, commit: str) -> None:
    """Train, stop one, evict, and write both files."""
    side, other = Side(tree, folder / "kept"), Side(tree, folder / "whole")
    finished = [
        Plan(name, tiny(method, **CHANGES), ("--maps", "all" if name == WITH_MAPS else "none"))
        for name, method in METHODS.items()
    ]
    list(train([side], finished))
    runs = {plan.name: side.home / "runs" / side.result(plan.name)["run"] for plan in finished}  # type: ignore[index]
    break_off(side, BROKEN_OFF)
    (runs["broken off"],) = set((side.home / "runs").iterdir()) - set(runs.values())
    list(train([other], [BROKEN_OFF]))
    whole = other.home / "runs" / other.result("broken off")["run"]  # type: ignore[index]
    for name, run in runs.items():
        for stage in sorted(int(path.name) for path in (run / "stages").iterdir()):
            if (name, stage) not in KEPT:
                evict(side.home, run, stage)
    (side.home / "cache" / "stages" / "room").unlink(missing_ok=True)
    facts: Data = {
        "commit": commit,
        "machine": machine(whole / "events.jsonl"),
        "runs": {name: run.name for name, run in runs.items()},
        "list": command(side, "list"),
        "shown": {name: command(side, "show", run.name) for name, run in runs.items()},
        "never_stopped": {
            "result": command(other, "show", whole.name),
            "tensors": {name: hashlib.sha256(value.tobytes()).hexdigest() for name, value in tensors(whole).items()},
        },
    }
    target = FIXTURES / f"store-{commit}.tar.xz"
    with (
        lzma.open(target, "wb", preset=9 | lzma.PRESET_EXTREME) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        tar.add(
            side.home, "home", filter=lambda member: None if any(part in member.name for part in LEFT_OUT) else member
        )
    target.with_name(f"store-{commit}.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(f"{target.name}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", sys.argv[1]]
    short = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as temporary, worktree(short, Path(temporary) / "tree") as checkout:
        make(checkout, Path(temporary), short)
