"""Whether this checkout trains exactly as another commit does: `python scripts/same_as.py COMMIT`.

A rearrangement of the code must not change a bit of a result. This script trains the same runs in a `git worktree` of
the commit and in this checkout, and compares every tensor of every stage, every array of every map and every event,
clocks apart. It prints what was compared and ends with status 1 where anything differs, naming the first differences.

    variants    every variant of tests/test_method_contract.py, with the contract's own settings
    crosses     the same with other normalisations and optimizers, two of each kind for every variant
    big         EfficientNet-Lite0 with its pretrained weights, at 32 px
    cached      runs whose first stages come from the stage cache
    broken off  runs that the other commit leaves half-way: both sides go on from the one checkpoint, which must end
                as the run that was never stopped

The two commits may keep their modules wherever they like. All that they share is the command line (`run CONFIG.json
--json`), the names and formats of the files in the store, and the methods' names; a method, or a kind of event, that
the commit does not know is left out and named. Each side trains in one process of its own, with one thread, in a store
of its own.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.test_method_contract import NORMS, OPTIMIZERS, VARIANTS  # noqa: E402

Data = dict[str, Any]

# What a clock, a meter or chance puts into an event or a result; everything else must be equal. An event's place among
# the others is compared by their order, as some of them may be left out.
CLOCKS = {
    "run", "seq", "time", "train_seconds", "evaluation_seconds", "test_ms_per_image", "peak_memory_bytes", "energy_wh",
    "carbon_g", "carbon_country", "device_name",
}  # fmt: skip
BIG = ("fine_tuning", "ewc", "packnet", "piggyback", "lwf", "separate_copies")
BROKEN_OFF = ("ewc", "packnet, learned", "piggyback", "separate_copies")
MOST_NAMED = 20  # differences

# One process trains all runs of a side: to start Python and torch for each would take most of the time.
DRIVER = """
import contextlib, json, pathlib, runpy, sys, traceback
folder = pathlib.Path(sys.argv[1])
for number, arguments in enumerate(json.loads((folder / "commands.json").read_text())):
    sys.argv = ["labcore", *arguments]
    with (folder / f"{number}.json").open("w") as out, contextlib.redirect_stdout(out):
        try:
            runpy.run_module("labcore", run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            if ended.code:
                print(f"\\n{' '.join(arguments)} ended with status {ended.code}", file=sys.stderr)
        except Exception:
            traceback.print_exc()
    (folder / f"{number}.done").touch()
"""


@dataclass(frozen=True)
class Plan:
    """One run: its name in the table, its configuration, and what the command line is told beside it."""

    name: str
    config: Data
    options: tuple[str, ...] = ("--no-cache",)


@dataclass
class Side:
    """A checkout, and the folder with its store and what it printed."""

    tree: Path
    folder: Path
    printed: dict[str, Path] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """The store."""
        return self.folder / "home"

    def environment(self) -> dict[str, str]:
        """One thread, as results depend on their number; no variable that points Python at another checkout."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return kept | {
            "REUSE_LAB_HOME": str(self.home),
            "REUSE_LAB_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def start(self, plans: Sequence[Plan]) -> subprocess.Popen[bytes]:
        """A process that trains these, one after the other."""
        folder = self.folder / f"part{len(list(self.folder.glob('part*')))}"
        folder.mkdir(parents=True)
        commands = []
        for number, plan in enumerate(plans):
            path = folder / f"config{number}.json"
            path.write_text(json.dumps(plan.config))
            commands.append(["run", str(path), "--json", "--device", "cpu", *plan.options])
            self.printed[plan.name] = folder / f"{number}.json"
        (folder / "commands.json").write_text(json.dumps(commands))
        with (folder / "log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-c", DRIVER, str(folder)], cwd=self.tree, env=self.environment(), stderr=log
            )

    def result(self, name: str) -> Data | None:
        """What the command printed of a run; None where it failed, and the log says why."""
        try:
            found: Data = json.loads(self.printed[name].read_text())
        except (KeyError, OSError, ValueError):
            return None
        return found

    def known_methods(self) -> set[str]:
        """The names of the methods that this checkout has."""
        command = [sys.executable, "-m", "labcore", "methods", "--json"]
        done = subprocess.run(command, cwd=self.tree, env=self.environment(), capture_output=True, check=True)
        return {method["name"] for method in json.loads(done.stdout)}

    def knows(self, kind: str) -> bool:
        """Whether this checkout names a kind of event anywhere."""
        return any(f'"{kind}"' in path.read_text() for path in (self.tree / "labcore").rglob("*.py"))


# ---- what is trained ------------------------------------------------------------------------------------------------


def tiny(method: Data, **changes: Any) -> Data:
    """A run of a second, as in tests/conftest.py; `changes` are merged into its parts."""
    data: Data = {
        "backbone": {"name": "small_cnn", "start": "kaiming", "image_size": 16},
        "tasks": [{"name": "digits:0-3", "images_per_class": 10}, {"name": "fashion:0-2", "images_per_class": 12}],
        "training": {"epochs": 2, "batch_size": 8, "learning_rate": 2e-3, "head_learning_rate": 6e-3},
        "method": method,
        "seed": 0,
    }
    for part, values in changes.items():
        data[part] = {**data[part], **values} if isinstance(values, dict) else values
    return data


def plans(methods: set[str]) -> list[Plan]:
    """All runs that need no special care, of the methods that both sides know."""
    variants = {name: method for name, method in VARIANTS.items() if method["name"] in methods}
    found = [Plan(name, tiny(method)) for name, method in variants.items()]
    for number, (name, method) in enumerate(variants.items()):
        for step in (0, 1):
            norm, optimizer = NORMS[(number + 2 * step) % len(NORMS)], OPTIMIZERS[(number + step) % len(OPTIMIZERS)]
            if method["name"] == "feature_extraction" and norm == "shared":
                norm = "per_task"
            training = {**optimizer, "head_warmup_epochs": 1}
            title = f"{name} · {norm} · {optimizer['optimizer']}"
            config = tiny(method, backbone={"norm": norm}, training=training, seed=1 + step)
            found.append(Plan(title, config, ("--no-cache", "--maps", "stages")))
    tasks = [{"name": name, "images_per_class": 8} for name in ("digits:0-1", "fashion:0-1")]
    backbone = {"name": "efficientnet_lite0", "start": "pretrained", "image_size": 32}
    training = {"epochs": 1, "batch_size": 4, "head_warmup_epochs": 1}
    for name in BIG:
        if name in methods:
            found.append(
                Plan(f"{name} · Lite0", tiny({"name": name}, backbone=backbone, tasks=tasks, training=training))
            )
    three = [*tiny({})["tasks"], {"name": "digits:5-7", "images_per_class": 10}]
    for name, method in (("ewc", {"name": "ewc", "strength": 5.0}), ("lwf", {"name": "lwf", "strength": 0.5})):
        if name in methods:
            found.append(Plan(f"{name} · cached", tiny(method, tasks=three), ()))
    return found


def broken_off(methods: set[str]) -> list[Plan]:
    """Runs that are long enough to be stopped half-way."""
    return [
        Plan(f"{name} · broken off", tiny(VARIANTS[name], training={"epochs": 25, "momentum": 0.8}, seed=3), ())
        for name in BROKEN_OFF
        if VARIANTS[name]["name"] in methods
    ]


def break_off(side: Side, plan: Plan) -> None:
    """Train a run until it is in the midst of its second stage, and stop it there. Raises RuntimeError if it ends."""
    side.folder.mkdir(parents=True, exist_ok=True)
    path = side.folder / "broken.json"
    path.write_text(json.dumps(plan.config))
    before = set((side.home / "runs").glob("*"))
    process = subprocess.Popen(
        [sys.executable, "-m", "labcore", "run", str(path), "--json", "--device", "cpu", *plan.options],
        cwd=side.tree,
        env=side.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None:
            new = set((side.home / "runs").glob("*")) - before
            said = [line for run in new if (run / "events.jsonl").exists() for line in read_lines(run / "events.jsonl")]
            if sum(event["event"] == "step_logged" and event["stage"] == 2 for event in said) >= 3:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
    finally:
        process.wait()
    (run,) = set((side.home / "runs").glob("*")) - before
    if not (run / "checkpoint.safetensors").exists():
        raise RuntimeError(f"{plan.name}: the run was over before it could be stopped")


# ---- what is compared -----------------------------------------------------------------------------------------------


def read_lines(path: Path) -> list[Data]:
    """The events of a file; a last line that is still being written is left out."""
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def without_clocks(value: Any) -> Any:
    """The same without what clocks and meters measured."""
    if isinstance(value, dict):
        return {name: without_clocks(part) for name, part in value.items() if name not in CLOCKS}
    return [without_clocks(part) for part in value] if isinstance(value, list) else value


def tensors(run: Path) -> dict[str, np.ndarray]:
    """All tensors of all stages of a run, by file and name."""
    return {
        f"{path.relative_to(run)}: {name}": value
        for path in sorted(run.glob("stages/*/*.safetensors"))
        for name, value in load_file(path).items()
    }


def maps(run: Path) -> dict[str, np.ndarray]:
    """All arrays of all maps of a run, by file and name."""
    found = {}
    for path in sorted(run.glob("maps/**/*.npz")):
        with np.load(path, allow_pickle=False) as file:
            found |= {f"{path.relative_to(run)}: {name}": file[name] for name in file.files}
    return found


def differing_arrays(before: dict[str, np.ndarray], now: dict[str, np.ndarray]) -> Iterator[str]:
    """What differs, to the last bit, in a sentence each."""
    for name in [*before, *(name for name in now if name not in before)]:
        if name not in now:
            yield f"{name} is no longer there"
        elif name not in before:
            yield f"{name} is new"
        else:
            a, b = before[name], now[name]
            if a.dtype != b.dtype or a.shape != b.shape:
                yield f"{name} was {a.dtype} {list(a.shape)} and is {b.dtype} {list(b.shape)}"
            elif a.tobytes() != b.tobytes():
                unequal = int(np.count_nonzero(a != b))
                yield f"{name}: {unequal} of {a.size} elements differ"


def differing_values(before: Any, now: Any, where: str) -> Iterator[str]:
    """What differs in two JSON values, with the path to it."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in [*before, *(name for name in now if name not in before)]:
            yield from differing_values(before.get(name), now.get(name), f"{where}.{name}")
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (a, b) in enumerate(zip(before, now, strict=True)):
            yield from differing_values(a, b, f"{where}[{number}]")
    elif before != now:
        yield f"{where} was {json.dumps(before)[:80]} and is {json.dumps(now)[:80]}"


@dataclass(frozen=True)
class Compared:
    """A row of the table: how much was compared, what differs, and which kinds of events were left out."""

    name: str
    tensors: int
    maps: int
    events: int
    differences: list[str]
    left_out: Set[str] = frozenset()


def compare(plan: Plan, before: Side, now: Side) -> Compared:
    """One run of both sides."""
    results = before.result(plan.name), now.result(plan.name)
    if results[0] is None or results[1] is None:
        where = " and ".join(
            name for name, result in zip(("the commit", "this checkout"), results, strict=True) if result is None
        )
        return Compared(plan.name, 0, 0, 0, [f"{where} printed no result; see the log"])
    runs = [side.home / "runs" / result["run"] for side, result in zip((before, now), results, strict=True) if result]
    stages, moments = [tensors(run) for run in runs], [maps(run) for run in runs]
    said = [read_lines(run / "events.jsonl") for run in runs]
    unknown = {event["event"] for event in said[1]} - {event["event"] for event in said[0]}
    unknown = {kind for kind in unknown if not before.knows(kind)}
    events = [without_clocks([event for event in told if event["event"] not in unknown]) for told in said]
    keys = [run.name.split("-")[2] for run in runs]  # the first digits of the configuration's key
    found = [f"the run's key began with {keys[0]} and begins with {keys[1]}"] if keys[0] != keys[1] else []
    found += differing_arrays(*stages)
    found += differing_arrays(*moments)
    found += differing_values(*events, "events")
    found += differing_values(*map(without_clocks, results), "result")
    if not stages[0] or results[0]["state"] != "complete":
        found.append(f"the run ended as {results[0]['state']} with {len(stages[0])} tensors, so it proves nothing")
    return Compared(plan.name, len(stages[0]), len(moments[0]), len(events[0]), found, unknown)


def stage_keys(side: Side) -> set[str]:
    """The names of all stages in the cache, and of what their ends added: hashes of what they depend on."""
    root = side.home / "cache" / "stages"
    return {str(path.relative_to(root)) for path in root.glob("*/*.json")}


def never_stopped(plan: Plan, whole: Plan, side: Side) -> Compared:
    """A run that was broken off, against the same run of this side that was not."""
    results = side.result(plan.name), side.result(whole.name)
    found = [tensors(side.home / "runs" / result["run"]) if result else {} for result in results]
    unequal = list(differing_arrays(found[1], found[0])) or ([] if found[1] else ["there is nothing to compare"])
    return Compared(f"{plan.name} = never stopped", len(found[1]), 0, 0, unequal)


# ---- the whole ------------------------------------------------------------------------------------------------------


@contextmanager
def worktree(commit: str, path: Path) -> Iterator[Path]:
    """The files of a commit, for as long as the block lasts."""
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(path), commit], check=True)
    try:
        yield path
    finally:
        subprocess.run([*git, "remove", "--force", str(path)], check=True)


def train(sides: Sequence[Side], plans: Sequence[Plan]) -> Iterator[Plan]:
    """Train the same runs on all sides, the sides at the same time; tell of each run once all have it."""
    processes = [side.start(plans) for side in sides]
    try:
        for plan in plans:
            for side, process in zip(sides, processes, strict=True):
                while not side.printed[plan.name].with_suffix(".done").exists() and process.poll() is None:
                    time.sleep(0.1)
            yield plan
    finally:
        for process in processes:
            process.kill()
            process.wait()


def compared(before: Side, now: Side, only: str) -> Iterator[Compared]:
    """Train everything on both sides, and compare it."""
    methods = before.known_methods()
    left_out = [name for name, method in VARIANTS.items() if method["name"] not in methods]
    if left_out:
        print(f"Left out, as the commit does not know them: {', '.join(left_out)}.\n")
    chosen = [plan for plan in plans(methods) if only in plan.name]
    yield from (compare(plan, before, now) for plan in train([before, now], chosen))
    halves = [plan for plan in broken_off(methods) if only in plan.name]
    stores = [Side(side.tree, side.folder / "broken") for side in (before, now)]
    for plan in halves:
        break_off(stores[0], plan)
    if halves:
        shutil.copytree(stores[0].home, stores[1].home)
    wholes = [Plan(f"{plan.name}, whole", plan.config) for plan in halves]
    yield from (compare(plan, *stores) for plan in train(stores, [*halves, *wholes]))
    yield from (never_stopped(plan, whole, stores[1]) for plan, whole in zip(halves, wholes, strict=True))
    for name, one, other in (("stage keys", before, now), ("stage keys · broken off", *stores)):
        keys = [stage_keys(one), stage_keys(other)]
        unequal = [f"only one side has the stage {key}" for key in sorted(keys[0] ^ keys[1])]
        yield Compared(name, 0, 0, len(keys[0]), unequal)


def main() -> int:
    """Compare, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("commit")
    parser.add_argument("--only", default="", metavar="TEXT", help="runs whose name holds this text")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep stores, logs and configurations here")
    options = parser.parse_args()
    temporary = Path(tempfile.mkdtemp(prefix="same-as-"))
    folder = options.keep.resolve() if options.keep else temporary
    differing, left_out = 0, set[str]()
    try:
        with worktree(options.commit, temporary / "tree") as tree:
            before, now = Side(tree, folder / "before"), Side(ROOT, folder / "now")
            print(f"{'run':52} {'tensors':>8} {'maps':>6} {'events':>7}")
            for row in compared(before, now, options.only):
                verdict = f"{len(row.differences)} differ" if row.differences else "equal"
                left_out |= row.left_out
                print(f"{row.name:52} {row.tensors:8} {row.maps:6} {row.events:7}  {verdict}", flush=True)
                for sentence in row.differences[: max(0, MOST_NAMED - differing)]:
                    print(f"    {sentence}")
                differing += len(row.differences)
            if differing and not options.keep:
                for side in ("before", "now"):
                    for log in sorted((folder / side).glob("**/log")):
                        failed = [line for line in log.read_text().splitlines() if "ended with status" in line]
                        print("\n".join(failed[:5]), file=sys.stderr)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if left_out:
        print(f"\nLeft out, as the commit does not know these events: {', '.join(sorted(left_out))}.")
    print(f"\n{differing} differences." if differing else "\nEverything is equal.")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
