"""Chaos: random commands on a store of real small runs, each with a fault, and the laws of the store after each.

    python -m tests.chaos --minutes 60          seed after seed, for so long
    python -m tests.chaos --seed 7 --seeds 1    seed 7 alone: the same commands and the same faults once more

A seed says which commands come one after the other, and with which fault each: none; a kill at the n-th failpoint; a
disk that is full from the n-th failpoint on; a disk that is really full, where a small one may be mounted; or damage to
a file of the store beforehand. A failpoint is a call of this process that changes a file or a folder of the store, by
the functions of `os` and `io` or past `files.about_to_write`. They are wrapped in the command's own process, so the
product knows nothing of them. What SQLite and safetensors write by themselves is not among them.

Each command runs in a process of its own, forked from this one, which has torch loaded and never trains itself. Where
two commands run at once, which one comes first is up to the machine, so such a seed may need several tries.

Laws, which hold after each command, whatever the fault:

- A command ends with status 0, 1 or 2 and no traceback; with 2 it says why in a sentence, and prints no result.
- Each run that was there is still listed, or named in a warning, unless it was deleted.
- A run that is complete stays so, with the same figures and the same events, and can be exported.
- What a run found is what the same configuration finds undisturbed, bit for bit, however often it was killed, stopped
  and resumed, and whatever it took over.
- A run's events are numbered without a gap and without a double: it has one writer.
- In the end `check --repair` leaves nothing temporary and no complaint but of what was damaged in the run itself; each
  run that is not over can be trained to its end; and each complete one can be imported elsewhere.

A run whose own configuration, record or events were damaged here must still be listed or named, and is let off the
other laws. Of one whose arrays or maps were damaged `check` may say so in the end, and of the settings.
"""

import argparse
import builtins
import collections
import errno
import hashlib
import io
import json
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from labcore.cli.main import main as command
from labcore.configs.base import ConfigError
from labcore.configs.run import RunConfig
from labcore.runs import energy, files
from labcore.runs.errors import StoreError, refused
from labcore.runs.stage_cache import StageCache
from labcore.runs.store import Store
from labcore.tasks import pictures
from tests.conftest import tiny

CONFIGS = [
    tiny(method, training__epochs=1, seed=seed)
    for method, seed in (("fine_tuning", 0), ("ewc", 0), ("fine_tuning", 1), ("separate_copies", 0), ("packnet", 1))
]
FIRST = 2  # so many of them are complete in the store that a seed begins with
DISK = 64 << 20  # bytes of the small disk
HANGS = 1800  # seconds after which a command counts as one that never ends
FAULTS = {"none": 30, "kill": 30, "full": 15, "really full": 5, "damage": 20}
OPERATIONS = {
    "submit": 12,
    "submit --no-cache": 3,
    "train": 22,
    "train, stopped midway": 8,
    "resume": 8,
    "cancel": 3,
    "delete": 7,
    "export": 6,
    "import": 8,
    "settings": 4,
    "pin": 4,
    "evict stages": 4,
    "check": 2,
    "check --repair": 5,
    "list": 2,
    "show": 3,
    "events": 2,
}
# What is done at the same time as another command, by what that is.
BESIDE = {
    "import": "import",
    "train": "train",
    "submit": "submit",
    "delete": "export",
    "check --repair": "train",
    "evict stages": "train",
}
_VARIES = re.compile(r"[0-9a-f]{4,}[0-9a-f-]*|[0-9]+|tmp\w+")
_LEFT_OVER = re.compile(r"\..+\.[0-9]+|import-.*|deleted-.*|tmp.*|\.gone-.*|\.new-.*|\.try-.*")

Act = Callable[[], int]
Figures = dict[str, Any]


class Broken(Exception):
    """A law does not hold; the text says which and how."""


# ---- failpoints -----------------------------------------------------------------------------------------------------


class Failpoints:
    """The calls of this process that change something below a folder: at the n-th it dies, or the disk is full.

    What takes no room (to rename, to remove, to sync) is never refused for want of it.
    """

    def __init__(self, root: Path, kind: str, at: int, told: Path) -> None:
        self._root, self._kind, self._left = str(root), kind, at
        self._told = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._write = os.write

    def install(self) -> None:
        """Wrap what writes, for the rest of this process."""
        files.about_to_write = lambda path: self._reached("about to write", str(path), True)
        for name, grows in {"mkdir": True, "link": True, "replace": False, "rename": False, "rmdir": False}.items():
            self._wrap(name, grows)
        for name in ("unlink", "fsync", "ftruncate"):
            self._wrap(name, False)
        self._wrap_open()
        os.write = self._writing  # type: ignore[assignment]

    def _reached(self, what: str, path: str, grows: bool) -> None:
        if not path.startswith(self._root):
            return
        self._left -= 1
        if self._left > 0 or (self._kind == "full" and not grows):
            return
        if self._told >= 0:
            self._write(self._told, f"{what} {_VARIES.sub('*', path[len(self._root) + 1 :])}".encode())
            os.close(self._told)
            self._told = -1
        if self._kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def _wrap(self, name: str, grows: bool) -> None:
        real = getattr(os, name)

        def wrapped(path: Any, *more: Any, **named: Any) -> Any:
            target = more[0] if name in ("link", "replace", "rename") else path
            place = _path(target, named.get("dir_fd"))
            if name not in ("mkdir", "unlink") or os.path.lexists(place) == (name == "unlink"):
                self._reached(name, place, grows)
            return real(path, *more, **named)

        setattr(os, name, wrapped)

    def _wrap_open(self) -> None:
        real_low, real = os.open, io.open

        def low(path: Any, flags: int, *more: Any, **named: Any) -> int:
            if flags & os.O_CREAT and not os.path.exists(path):
                self._reached("create", _path(path, named.get("dir_fd")), True)
            return real_low(path, flags, *more, **named)

        def opened(path: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
            if not isinstance(path, int) and set(mode) & set("wax"):
                self._reached("open to write", _path(path, None), True)
            return real(path, mode, *more, **named)

        os.open, io.open, builtins.open = low, opened, opened  # type: ignore[assignment]

    def _writing(self, descriptor: int, data: Any) -> int:
        """Of the write at which the process dies or the disk is full, half is written."""
        path = _path(descriptor, None)
        if path.startswith(self._root) and self._left == 1:
            written = self._write(descriptor, data[: len(data) // 2])
            if self._kind == "full":
                self._left = 0
                return written
        self._reached("write", path, True)
        return self._write(descriptor, data)


def _path(path: Any, folder: int | None) -> str:
    """The path that is meant by a path, a descriptor, or a name in a folder's descriptor."""
    if isinstance(path, int):
        return str(Path(f"/proc/self/fd/{path}").readlink())
    if folder is not None:
        return str(Path(f"/proc/self/fd/{folder}").readlink() / path)
    return os.path.abspath(os.fspath(path))


# ---- commands, each in a process of its own -------------------------------------------------------------------------


class Ended(NamedTuple):
    """How a command ended: its status, or None where it was killed, and what it printed."""

    status: int | None
    out: str
    err: str
    failpoint: str


class Process:
    """A command in a process of its own."""

    def __init__(self, lab: "Lab", act: Act, fault: str = "none", at: int = 0) -> None:
        self._place = Path(tempfile.mkdtemp(dir=lab.work))
        self._pid = os.fork()
        if self._pid == 0:
            self._be(lab, act, fault, at)

    def _be(self, lab: "Lab", act: Act, fault: str, at: int) -> None:
        status = 70
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.alarm(HANGS)
            for number, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(self._place / name, os.O_WRONLY | os.O_CREAT, 0o600), number)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            os.environ["REUSE_LAB_HOME"] = str(lab.home)
            # What a worker's log says of a run that failed has a traceback, and is for the file of that log.
            logging.disable(logging.CRITICAL)
            if fault in ("kill", "full"):
                Failpoints(lab.place, fault, at, self._place / "told").install()
            status = act()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def ended(self) -> Ended:
        _, status = os.waitpid(self._pid, 0)
        texts = []
        for name in ("out", "err", "told"):
            path = self._place / name
            texts.append(path.read_text() if path.exists() else "")
        shutil.rmtree(self._place)
        if os.WIFSIGNALED(status):
            if os.WTERMSIG(status) != signal.SIGKILL:
                raise Broken(f"the command was ended by signal {os.WTERMSIG(status)}: {texts[1][-2000:]}")
            return Ended(None, *texts)
        return Ended(os.WEXITSTATUS(status), *texts)


def _as_pages(act: Callable[[Store], object]) -> Act:
    """What only pages do, with the sentences that a command would end in."""

    def acted() -> int:
        try:
            act(Store())
        except (ConfigError, StoreError) as error:
            print(error, file=sys.stderr)
            return 2
        except OSError as error:
            print(refused(error), file=sys.stderr)
            return 2
        return 0

    return acted


def _train(stop_after: int | None, maps: str, otherwise: RunConfig | None = None) -> Act:
    """Train what waits first, as a worker does, saving at each step; perhaps asked to stop after so many events.

    Where nothing waits, a new run of the other configuration is queued and trained.
    """

    def train(store: Store) -> None:
        from labcore.training.worker import run_claim

        claim = store.claim("cpu")
        if claim is None and otherwise is not None:
            claim = store.claim_run(store.submit(otherwise, use_cache=False).run)
        if claim is None:
            return
        said = 0

        def tell(event: object) -> None:
            nonlocal said
            said += 1
            if said == stop_after:
                store.request_stop(claim.run)

        record = run_claim(claim, "cpu", checkpoint_seconds=0.0, tell=tell, maps=maps)  # type: ignore[arg-type]
        print(f"{record.run} is {record.state}: {record.error}")

    return _as_pages(train)


# ---- the store, as it looks from outside ----------------------------------------------------------------------------


class Facts(NamedTuple):
    """What must not change of a complete run: its row in the list, and its events."""

    row: tuple[object, ...]
    events: str


@dataclass
class Lab:
    """A store in which chaos is let loose, and what must be true of it."""

    work: Path  # what commands print
    place: Path  # the disk
    oracle: dict[str, Figures]  # what is found undisturbed, by the configuration's key
    small_disk: bool
    there: list[str] = field(default_factory=list)  # the runs, in the order in which they were first seen
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    complete: dict[str, Facts] = field(default_factory=dict)
    harmed: set[str] = field(default_factory=set)
    spoilt: set[str] = field(default_factory=set)  # of whose arrays or maps something was damaged
    zips: list[tuple[Path, bool]] = field(default_factory=list)  # and whether what it holds was whole

    @property
    def home(self) -> Path:
        return self.place / "home"

    def do(self, act: Act) -> Ended:
        """A command without a fault, which must end well or in a sentence."""
        ended = Process(self, act).ended()
        _check_end(ended)
        return ended

    # ---- laws

    def look(self, may_be_gone: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        """See whether all laws hold, and take note of what is new. Raises Broken."""
        listed = self.do(lambda: command(["list", "--json"]))
        if listed.status != 0:
            raise Broken(f"list ends with {listed.status}: {listed.err}")
        self.rows = {row["run"]: row for row in json.loads(listed.out)}
        for run in list(self.there):
            if run in may_be_gone and not (self.home / "runs" / run).exists():
                self.forget(run)
            elif run not in self.rows and not (run in self.harmed and run in listed.err):
                raise Broken(f"run {run} is gone: {listed.err}")
        self.there += sorted(self.rows.keys() - set(self.there), key=lambda run: self.rows[run]["submitted"])
        for run, row in self.rows.items():
            if run not in self.harmed:
                self._look_at(run, row)

    def _look_at(self, run: str, row: dict[str, Any]) -> None:
        events = self._events(run)
        if run not in self.complete and row["state"] != "complete":
            return
        figures = ("state", "key", "average_accuracy", "forgetting", "train_seconds", "energy_wh", "ended", "digest")
        path = self.home / "runs" / run / "events.jsonl"
        facts = Facts(tuple(row[name] for name in figures), hashlib.blake2b(path.read_bytes()).hexdigest())
        if run not in self.complete:
            found, undisturbed = _figures(events), self.oracle[row["key"]]
            if found != undisturbed:
                other = [name for name in found.keys() | undisturbed if found.get(name) != undisturbed.get(name)]
                raise Broken(f"run {run} found other figures than undisturbed: {sorted(other)}")
            if row["digest"] != facts.events:
                raise Broken(f"run {run} is complete, and its record does not hold the digest of its events")
            self.complete[run] = facts
        if facts != self.complete[run]:
            raise Broken(f"run {run} was {self.complete[run]} and is {facts}")

    def _events(self, run: str) -> list[dict[str, Any]]:
        """The events of a run, which are numbered from 0 and whose attempts follow each other; a torn end is none."""
        path = self.home / "runs" / run / "events.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        events = [json.loads(line) for line in lines]
        if [event["seq"] for event in events] != list(range(len(events))):
            raise Broken(f"the events of run {run} are numbered {[event['seq'] for event in events]}")
        attempts = [event["attempt"] for event in events]
        if attempts != sorted(attempts):
            raise Broken(f"the attempts of run {run} are mixed: {attempts}")
        return events

    def look_in_the_end(self) -> None:
        """The laws that hold once nobody disturbs the store any more. Raises Broken."""
        for path in self.home.rglob("*"):
            if _LEFT_OVER.fullmatch(path.name):
                os.utime(path, (0, 0))
        self.do(lambda: command(["check", "--repair"]))
        left = [path for path in self.home.rglob("*") if _LEFT_OVER.fullmatch(path.name)]
        if left:
            raise Broken(f"check --repair leaves {left}")
        checked = json.loads(self.do(lambda: command(["check", "--json"])).out)
        for text in checked["damaged"]:
            if not any(known in text for known in self.harmed | self.spoilt | {"settings.json"}):
                raise Broken(f"after check --repair, check says: {text}")
        self.look()
        for run in self.there:
            if self.rows.get(run, {}).get("state") in ("stopped", "failed", "running"):
                self.do(lambda run=run: command(["resume", run]))  # type: ignore[misc]
        for _ in self.there:
            self.do(_train(None, "none"))
        self.look()
        for run in self.there:
            if run in self.harmed:
                continue
            if run not in self.complete:
                row = self.rows[run]
                raise Broken(f"run {run} cannot be trained to its end: {row['state']}, {row['error']}")
            self._take_elsewhere(run)

    def _take_elsewhere(self, run: str) -> None:
        """Export a complete run, and import it into a store of its own."""
        out = self.place / "elsewhere.zip"
        exported = self.do(lambda: command(["export", run, str(out)]))
        if exported.status != 0:
            raise Broken(f"run {run} is complete and cannot be exported: {exported.err}")

        def take() -> int:
            os.environ["REUSE_LAB_HOME"] = str(self.place / "elsewhere")
            return command(["import", str(out)])

        taken = self.do(take)
        if taken.status != 0:
            raise Broken(f"run {run} was exported and cannot be imported: {taken.err}")
        out.unlink()

    # ---- what chaos needs to know

    def forget(self, run: str) -> None:
        self.there.remove(run)
        for known in (self.harmed, self.spoilt):
            known.discard(run)
        self.complete.pop(run, None)

    def in_state(self, *states: str) -> list[str]:
        return [run for run in self.there if self.rows.get(run, {}).get("state") in states]

    def damage(self, pick: random.Random) -> str:
        """Flip a bit of a file of the store, cut it short, or empty it; what was done, in words."""
        path = self._victim(pick)
        way, size = pick.choice(["a bit is flipped", "the end is torn off", "all is gone"]), path.stat().st_size
        mine = path.parts[len(self.home.parts) :]
        if mine[0] == "runs" and mine[2] in ("config.json", "record.jsonl", "events.jsonl"):
            self.harmed.add(mine[1])
        elif mine[0] == "runs" and mine[2] == "maps":
            self.spoilt.add(mine[1])
        elif path.suffix == ".safetensors" and not path.name.startswith("checkpoint"):
            inode = path.stat().st_ino
            for name in self.home.glob("runs/*/stages/*/*"):
                if name.stat().st_ino == inode:
                    self.spoilt.add(name.parts[len(self.home.parts) + 1])
        at = pick.random()
        if way == "a bit is flipped" and size:
            with path.open("r+b") as file:
                place = int(at * size)
                file.seek(place)
                byte = file.read(1)[0] ^ 1 << pick.randrange(8)
                file.seek(place)
                file.write(bytes([byte]))
        else:
            os.truncate(path, int(at * size) if way == "the end is torn off" else 0)
        return f"{'/'.join(mine)}: {way}"

    def _victim(self, pick: random.Random) -> Path:
        """A file of the store; each kind of them is as likely as each other. Runs are picked by age, not by name."""
        kinds: list[list[Path]] = [
            [self.home / "records" / "cache.db"],
            sorted(self.home.glob("settings.json")),
            sorted(self.home.glob("cache/pictures/*.npz")),
            sorted(self.home.glob("cache/stages/*/*")),
        ]
        if self.there:
            run = self.home / "runs" / pick.choice(self.there)
            for pattern in ("*.jsonl", "config.json", "checkpoint*", "stages/*/*", "maps/*/*"):
                kinds.append(sorted(run.glob(pattern)))
        return pick.choice(pick.choice([kind for kind in kinds if kind]))

    def fill_the_disk(self) -> None:
        with (self.place / "rest").open("wb") as file:
            free = os.statvfs(self.place)
            os.posix_fallocate(file.fileno(), 0, max(free.f_bavail * free.f_frsize, 1))


def _check_end(ended: Ended) -> None:
    """The law of every command's end. Raises Broken."""
    if ended.status is None:
        return
    if ended.status not in (0, 1, 2) or "Traceback" in ended.err:
        raise Broken(f"the command ends with {ended.status} and says: {ended.err[-3000:]}")
    if ended.status == 2:
        last = ended.err.strip().splitlines()[-1:] or [""]
        if ended.out or not last[0].endswith(".") or len(last[0].split()) < 3:
            raise Broken(f"the command ends with 2 and says {last[0]!r}; stdout: {ended.out[:200]!r}")


def _figures(events: list[dict[str, Any]]) -> Figures:
    """The last that was said of each test accuracy and each loss."""
    found: Figures = {}
    for event in events:
        if event["event"] == "evaluated" and event["kind"] == "test":
            found[f"after stage {len(event['accuracy'])}"] = event["accuracy"]
        elif event["event"] == "step_logged":
            found[f"loss in stage {event['stage']} after {event['images_seen']} images"] = event["loss"]
    return found


# ---- a seed ---------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What was tried and what came of it."""

    operations: collections.Counter[str] = field(default_factory=collections.Counter)
    faults: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)
    failpoints: collections.Counter[str] = field(default_factory=collections.Counter)
    completed: int = 0  # runs that were complete in the end, beside those that were from the first

    def told(self) -> str:
        """A table for people."""
        ends = ("done", "said in words", "killed")
        lines = [f"  {'command':24} times"]
        lines += [f"  {name:24} {count:5}" for name, count in self.operations.most_common()]
        lines.append(f"  {'fault':24} " + "".join(f"{end:>15}" for end in ends))
        for fault in ("none", "not reached", *FAULTS):
            if any(self.faults[fault, end] for end in ends):
                lines.append(f"  {fault:24} " + "".join(f"{self.faults[fault, end]:15}" for end in ends))
        lines.append(f"  {len(self.failpoints)} failpoints: ")
        lines += [f"  {count:5}  {name}" for name, count in self.failpoints.most_common()]
        return "\n".join(dict.fromkeys(lines))


def chaos(lab: Lab, seed: int, operations: int, tally: Tally, trace: list[str]) -> None:
    """Do what a seed says. `trace` is given a line for each command. Raises Broken."""
    pick = random.Random(seed)
    lab.look()
    begun_with = len(lab.complete)
    for number in range(operations):
        name = pick.choices(list(OPERATIONS), list(OPERATIONS.values()))[0]
        fault = pick.choices(list(FAULTS), list(FAULTS.values()))[0]
        # Most commands pass a few failpoints, a training hundreds.
        at = int(2 ** pick.uniform(0, 9 if name.startswith("train") else 3.5))
        two = name in BESIDE and pick.random() < 0.25
        if fault == "really full" and not lab.small_disk:
            fault = "full"
        detail = lab.damage(pick) if fault == "damage" else f"at {at}" if fault in ("kill", "full") else ""
        acts = [prepared(lab, name, pick), *([prepared(lab, BESIDE[name], pick, name)] if two else [])]
        trace.append(f"{number:3}  {' & '.join(act.text for act in acts)} | {fault} {detail}")
        if fault == "really full":
            lab.fill_the_disk()
        processes = [Process(lab, act.act, "none" if place else fault, at) for place, act in enumerate(acts)]
        may_be_gone: set[str] = set()
        for place, (act, process) in enumerate(zip(acts, processes, strict=True)):
            ended = process.ended()
            trace.append(f"       {ended.status} {ended.failpoint} {(ended.out + ended.err).strip()[-300:]!r}")
            _check_end(ended)
            if ended.status is None and (place or fault != "kill"):
                raise Broken("the command was killed, and not by us")
            tally.operations[act.name] += 1
            missed = fault in ("kill", "full") and not ended.failpoint
            tally.faults[
                "none" if place else "not reached" if missed else fault,
                "killed" if ended.status is None else "said in words" if ended.status else "done",
            ] += 1
            tally.failpoints.update([ended.failpoint] if ended.failpoint else [])
            may_be_gone |= act.settle(ended)
        (lab.place / "rest").unlink(missing_ok=True)
        lab.look(may_be_gone)
    trace.append("in the end")
    lab.look_in_the_end()
    tally.completed += len(lab.complete) - begun_with


class Prepared(NamedTuple):
    """A command that is about to be done."""

    name: str
    text: str
    act: Act
    settle: Callable[[Ended], set[str]]  # takes note of its end, and returns the runs that may be gone


def prepared(lab: Lab, name: str, pick: random.Random, beside: str | None = None) -> Prepared:
    """Pick what a command is about. What there is nothing for becomes `list`."""
    run = pick.choice(lab.there) if lab.there else None
    nothing: Callable[[Ended], set[str]] = lambda ended: set()  # noqa: E731
    config: RunConfig = CONFIGS[0 if beside == "submit" else pick.randrange(len(CONFIGS))]

    def line(*arguments: str, settle: Callable[[Ended], set[str]] = nothing) -> Prepared:
        return Prepared(name, " ".join(arguments), lambda: command(arguments), settle)

    match name:
        case "submit" | "submit --no-cache":
            path = lab.work / f"config-{config.key()[:12]}.json"
            path.write_text(config.model_dump_json())

            def submitted(ended: Ended) -> set[str]:
                if ended.status == 0:
                    lab.there += [ended.out.strip()] if ended.out.strip() not in lab.there else []
                return set()

            more = ["--no-cache"] if "no" in name else []
            return line("submit", str(path), *more, settle=submitted)
        case "train" | "train, stopped midway":
            stop = pick.randrange(2, 60) if "stopped" in name else None
            maps = pick.choice(["none", "none", "none", "stages", "all"])
            text = f"train (stop {stop}, maps {maps}, else {config.method.name} of seed {config.seed})"
            return Prepared(name, text, _train(stop, maps, config), nothing)
        case "resume":
            waiting = lab.in_state("stopped", "failed", "running")
            return line("resume", pick.choice(waiting or lab.there or ["none-such"]))
        case "cancel":
            return line("cancel", run or "none-such")
        case "delete" if run:

            def deleted(ended: Ended) -> set[str]:
                if ended.status == 0:
                    lab.forget(run)
                return {run} if ended.status is None else set()

            return line("delete", run, settle=deleted)
        case "export" if run:
            path = lab.place / "exports" / f"{len(lab.zips)}-{beside or ''}.zip"
            over = pick.choice(lab.in_state("complete", "stopped", "failed") or [run])
            whole = over not in lab.harmed | lab.spoilt

            def exported(ended: Ended) -> set[str]:
                if ended.status == 0:
                    if zipfile.ZipFile(path).testzip() is not None:
                        raise Broken(f"{path} is no whole zip")
                    lab.zips.append((path, whole))
                elif path.exists():
                    path.unlink() if ended.status is None else None
                return set()

            return line("export", over, str(path), settle=exported)
        case "import" if lab.zips:
            path, whole = lab.zips[-1] if beside else pick.choice(lab.zips)

            def imported(ended: Ended) -> set[str]:
                if ended.status == 0:
                    lab.there.append(ended.out.strip())
                    if not whole:
                        lab.spoilt.add(ended.out.strip())
                return set()

            return line("import", str(path), settle=imported)
        case "settings":
            chosen = {"country": pick.choice([None, "FRA", "DEU"]), "stage_cache_gb": pick.choice([10.0, 0.001, 0.0])}
            return Prepared(
                name, f"settings {chosen}", _as_pages(lambda store: store.change_settings(**chosen)), nothing
            )
        case "pin" if run:
            pinned = pick.random() < 0.7
            return Prepared(name, f"pin {run} {pinned}", _as_pages(lambda store: store.pin(run, pinned)), nothing)
        case "evict stages":
            return Prepared(name, name, _as_pages(lambda store: StageCache(store).empty()), nothing)
        case "check" | "check --repair":
            return line(*name.split())
        case "show" | "events" if run:
            return line(name, run)
    name = "list"
    return line("list")


# ---- the whole ------------------------------------------------------------------------------------------------------


def _warm_up() -> None:
    """Load here, once, what every command that trains needs. No thread may begin, as this process is forked."""
    import torch

    from labcore.training import hardware, loop, measuring  # noqa: F401

    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # which loads much that is loaded late
    # Most of what a run of a second computes, and no part of what is tried here.
    load = pictures.load

    def fewer(*where: Any, **named: Any) -> pictures.TaskData:
        data = load(*where, **named)
        few = (pictures.Split(split.images[:60], split.labels[:60]) for split in (data.validation, data.test))
        return pictures.TaskData(data.info, data.train, *few)

    pictures.load = fewer
    measuring.TIMED_PICTURES = 5
    energy._open = lambda device, runs: None  # type: ignore[assignment]


def _figures_undisturbed(work: Path) -> dict[str, Figures]:
    """Train every configuration once; `work/begin` becomes a store in which the first are complete."""
    lab = Lab(work, work / "whole", {}, small_disk=False)
    for number, config in enumerate(CONFIGS):
        if number == FIRST:
            subprocess.run(["cp", "-a", lab.home, work / "begin"], check=True)
        lab.do(_as_pages(lambda store, config=config: store.submit(config)))  # type: ignore[misc]
        lab.do(_train(None, "none" if number else "all"))
    rows = json.loads(lab.do(lambda: command(["list", "--json"])).out)
    return {row["key"]: _figures(lab._events(row["run"])) for row in rows}


def _small_disk(place: Path) -> bool:
    how = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "tmpfs", str(place)]
    return os.geteuid() == 0 and subprocess.run(how, capture_output=True).returncode == 0


def _seeds(options: argparse.Namespace) -> Iterator[int]:
    begun = time.monotonic()
    seed = options.seed
    while time.monotonic() - begun < 60 * options.minutes if options.minutes else seed < options.seed + options.seeds:
        yield seed
        seed += 1


def main(arguments: list[str] | None = None) -> int:
    """Let chaos loose; 0 where every law held."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, one after the other (default 1)")
    parser.add_argument("--minutes", type=float, help="seed after seed for so long, instead of --seeds")
    parser.add_argument("--operations", type=int, default=20, help="how many commands a seed (default 20)")
    parser.add_argument("--trace", action="store_true", help="print every command and how it ended")
    options = parser.parse_args(arguments)
    os.environ["REUSE_LAB_THREADS"] = "1"
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    begun, tally, failed, seed = time.monotonic(), Tally(), 0, options.seed
    _warm_up()
    work = Path(tempfile.mkdtemp(prefix="reuse-lab-chaos-"))
    try:
        oracle = _figures_undisturbed(work)
        small_disk = True
        for seed in _seeds(options):
            place, trace = work / "disk", []
            place.mkdir()
            small_disk = _small_disk(place)
            (place / "exports").mkdir()
            subprocess.run(["cp", "-a", work / "begin", place / "home"], check=True)
            lab = Lab(work, place, oracle, small_disk)
            try:
                chaos(lab, seed, options.operations, tally, trace)
            except Broken as broken:
                failed += 1
                kept = Path(tempfile.mkdtemp(prefix=f"reuse-lab-chaos-seed-{seed}-"))
                subprocess.run(["cp", "-a", lab.home, kept], check=False)
                print("\n".join(trace))
                print(f"Seed {seed}: {broken}\nThe store is kept in {kept}. Once more:")
                print(f"    python -m tests.chaos --seed {seed} --operations {options.operations}", flush=True)
                trace = []
            else:
                print(f"Seed {seed}: every law held.", file=sys.stderr, flush=True)
            finally:
                if small_disk:
                    subprocess.run(["umount", "--lazy", str(place)], check=False)
                shutil.rmtree(place, ignore_errors=True)
            if options.trace:
                print("\n".join(trace), flush=True)
        minutes = (time.monotonic() - begun) / 60
        print(f"Seeds {options.seed} to {seed}, {options.operations} commands each, {minutes:.0f} minutes.")
        if not small_disk:
            print("A small disk cannot be mounted here: full disks were injected alone.")
        print(tally.told())
        print(f"  {tally.completed} runs were completed; seeds in which a law broke: {failed}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
