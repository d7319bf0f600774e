"""Trained stages, kept so that no stage is trained twice: a run starts from the longest prefix that is here.

    HOME/cache/stages/TRAINING/        named by a hash of all that the stage's training depends on
        network.safetensors            the network after it
        events.jsonl                   what was said, StageStarted to StageEnded; seconds count from its start
        stage.json                     digests of both
        method-ADDITION.safetensors    what `end_stage` added, by a hash of what that depends on; where it adds arrays
        method-ADDITION.json           its digest, its seconds, what it warned of
    HOME/cache/stages/room             what may still be put before all is looked through

Laws that hold whoever comes and goes, `kill -9` included:

- The arrays are the files that lie in the folders of runs: one file of two names, never written to again. Where the
  disk knows no second names they are copies.
- An entry appears in one step, and so does an addition with its JSON. What is cut short, or has other bytes than its
  digest says, is no entry: it is removed, and the stage is trained.
- Whoever changes the folder holds its lock, which the system releases with the process.
- When there is no room, entries go, the least recently used first, and their arrays with them from the folders of runs
  that are over; never what a running or pinned run holds, and never a run's events or results.

No torch here: pages read this module.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labcore import tasks
from labcore.configs.run import Frozen, RunConfig
from labcore.runs.events import Evaluated, Event, FootprintMeasured, StageEnded, StageStarted, from_line, to_line
from labcore.runs.store import Store, atomic_path, write_atomically

log = logging.getLogger("labcore.runs.stages")

# Eviction goes on until a twentieth of the limit is free.
SLACK = 20
_NAME = re.compile(r"[0-9a-f]{64}")

# ---------------------------------------------------------------------------------------------------------------------
# What a stage depends on
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StageKey:
    """A stage by what it depends on: its training, and what its end added to it. SHA-256, 64 hex digits each."""

    training: str
    addition: str


def stage_keys(
    config: RunConfig,
    machine: Mapping[str, str | int],
    trained: Sequence[Mapping[str, Any]],
    added: Sequence[Mapping[str, Any] | None],
) -> list[StageKey]:
    """The keys of all stages. `machine`: what the bits depend on beside the configuration.

    `trained` and `added`: the method's `stage_config` and `addition_config`, stage by stage. Training depends on both
    of all earlier stages.
    """
    whole = config.model_dump(mode="json")
    told: list[Any] = [dict(machine), whole["seed"], whole["backbone"], whole["training"]]
    keys = []
    for task, how, more in zip(whole["tasks"], trained, added, strict=True):
        told += [task, tasks.fingerprint(task["name"]), how]
        training = _hash(told)
        keys.append(StageKey(training, _hash([training, more])))
        told.append(more)
    return keys


def shared_stages(one: RunConfig, other: RunConfig) -> int:
    """How many first stages come out the same in two runs on the same machine."""
    pairs = zip(_plain_keys(one), _plain_keys(other), strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(one.tasks), len(other.tasks)))


def _plain_keys(config: RunConfig) -> list[str]:
    count, method = len(config.tasks), config.method
    stages = range(1, count + 1)
    trained = [method.stage_config(stage, count) for stage in stages]
    return [
        key.training
        for key in stage_keys(config, {}, trained, [method.addition_config(stage, count) for stage in stages])
    ]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# What is kept of it
# ---------------------------------------------------------------------------------------------------------------------


class _Record(Frozen):
    """`stage.json`. `peak_memory`: bytes that the run which trained it had needed by its end."""

    network: str
    events: str
    peak_memory: int


class Addition(Frozen):
    """`method-….json`: what the end of a stage added. `file`: the digest of its arrays, None where it adds none."""

    seconds: float
    energy_wh: float | None = None
    warnings: tuple[str, ...] = ()
    file: str | None = None


@dataclass(frozen=True, slots=True)
class StoredStage:
    """A stage taken over: its arrays are in the folder that was given.

    `told` are its events from StageStarted on up to its end; what its end said is in `addition`, None where that is not
    stored.
    """

    told: list[Event]
    measured: list[Evaluated]
    footprint: FootprintMeasured
    ended: StageEnded
    addition: Addition | None
    peak_memory: int


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    size: int
    used: int
    files: frozenset[tuple[int, int]]


class StageCache:
    """The folder of trained stages of a store, held to `limit_bytes`; not said: to what the person has set."""

    def __init__(self, store: Store, limit_bytes: int | None = None) -> None:
        self.store = store
        self.limit_bytes = round(store.settings().stage_cache_gb * 1e9) if limit_bytes is None else limit_bytes
        self.root = store.cache / "stages"

    # ---- taking -----------------------------------------------------------------------------------------------------

    def take(self, key: StageKey, folder: Path, *, needs_addition: bool) -> StoredStage | None:
        """The stage of this key, its arrays put into `folder`; None where it is not here, or not whole.

        `needs_addition`: a stage whose addition is not here is not here. A system that refuses is logged, and the stage
        is as good as not here.
        """
        with self._trying():
            return self._take(key, folder, needs_addition)
        return None

    def _take(self, key: StageKey, folder: Path, needs_addition: bool) -> StoredStage | None:
        entry = self.root / key.training
        with self._locked():
            if not entry.exists():
                return None
            try:
                record = _Record.model_validate_json((entry / "stage.json").read_bytes())
                stored = _read_events(entry / "events.jsonl", record)
                addition = _read_addition(entry, key)
                if addition is None and needs_addition:
                    return None
                parts = {"network": entry / "network.safetensors"}
                if addition is not None and addition.file:
                    parts["method"] = _arrays(entry, key)
                missing = next((part for part in parts.values() if not part.exists()), None)
                if missing is not None:
                    raise ValueError(f"{missing.name} is not there")
            except (OSError, ValueError):
                self._discard(entry)
                return None
            for name, part in parts.items():
                _place(part, folder / f"{name}.safetensors")
            os.utime(entry / "stage.json")
        digests = {"network": record.network, "method": addition.file if addition else None}
        if any(_digest(folder / f"{name}.safetensors") != digests[name] for name in parts):
            with self._locked():
                self._discard(entry, spoilt=True)
            for name in parts:
                (folder / f"{name}.safetensors").unlink(missing_ok=True)
            return None
        return StoredStage(*stored, addition, record.peak_memory)

    # ---- putting ----------------------------------------------------------------------------------------------------

    def put(
        self, key: StageKey, folder: Path, events: Sequence[Event], addition: Addition, *, peak_memory: int = 0
    ) -> None:
        """Keep a stage whose arrays lie in `folder`, from now on under both names. A stage already here stays.

        `events` as in `StoredStage`, all four parts in a row; `addition.file` is seen to here. A system that refuses
        is logged: what is not kept is trained again.
        """
        lines = b"".join(map(to_line, events))
        with self._trying(), self._locked():
            entry, network = self.root / key.training, folder / "network.safetensors"
            record = _Record(
                network=_digest(network), events=hashlib.blake2b(lines).hexdigest(), peak_memory=peak_memory
            )
            if entry.exists() and not _is_whole(entry):
                self._discard(entry)
            if entry.exists():
                _make_one(entry / "network.safetensors", network, record.network)
            else:
                self._take_room(network.stat().st_size + len(lines))
                new = self.root / f".new-{secrets.token_hex(8)}"
                _place(network, new / "network.safetensors")
                write_atomically(new / "events.jsonl", lines)
                write_atomically(new / "stage.json", record.model_dump_json().encode())
                os.rename(new, entry)
            self._put_addition(key, folder, addition)
            os.utime(entry / "stage.json")
            self._make_room(self.limit_bytes)

    def put_addition(self, key: StageKey, folder: Path, addition: Addition) -> None:
        """Keep what the end of a stage that is here added; its arrays lie in `folder`."""
        with self._trying(), self._locked():
            if (self.root / key.training).exists():
                self._put_addition(key, folder, addition)
                self._make_room(self.limit_bytes)

    def _put_addition(self, key: StageKey, folder: Path, addition: Addition) -> None:
        entry, arrays = self.root / key.training, folder / "method.safetensors"
        digest = _digest(arrays) if arrays.exists() else None
        try:
            known = _read_addition(entry, key)
        except (OSError, ValueError):
            known = None
        if known is not None and (known.file is None or _digest(_arrays(entry, key)) == known.file):
            if digest is not None:
                _make_one(_arrays(entry, key), arrays, digest)
            return
        if digest is not None:
            self._take_room(arrays.stat().st_size)
            _place(arrays, _arrays(entry, key))
        record = addition.model_copy(update={"file": digest})
        write_atomically(_arrays(entry, key).with_suffix(".json"), record.model_dump_json().encode())

    @contextlib.contextmanager
    def _trying(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            log.warning("The stage store cannot be used: %s", error)

    # ---- room -------------------------------------------------------------------------------------------------------

    def usage(self) -> tuple[int, int]:
        """How many stages are here, and their bytes."""
        entries = list(self._entries())
        return len(entries), sum(entry.size for entry in entries)

    def keep_to_limit(self) -> None:
        """Evict what is over the limit, now that a run is over."""
        with self._trying(), self._locked():
            self._make_room(self.limit_bytes)

    def empty(self) -> None:
        """Evict all that no running or pinned run holds. Raises OSError."""
        with self._locked():
            self._forget_room()
            self._make_room(-1)

    def _make_room(self, limit: int) -> None:
        """Where the limit is passed, evict the least recently used until the rest is a little below it.

        What pinned runs hold is not counted. Raises OSError.
        """
        if self._room() >= 0:
            return
        entries = sorted(self._entries(), key=lambda entry: entry.used)
        left = sum(entry.size for entry in entries)
        if left > limit:
            pinned, running, over = self._runs_arrays()
            left = sum(entry.size for entry in entries if not entry.files & pinned)
            aim = limit - limit // SLACK if left > limit else limit
            for entry in entries:
                if left > aim and not entry.files & (pinned | running):
                    self._evict(entry, over)
                    left -= entry.size
        write_atomically(self.root / "room", json.dumps([limit, limit - left]).encode())

    # To look through thousands of entries takes a second, so it is not done for each that is put.

    def _room(self) -> int:
        """Bytes that may be put before all is looked through; negative where it is time, or nobody knows."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            limit, room = json.loads((self.root / "room").read_bytes())
            return int(room) if limit == self.limit_bytes else -1
        return -1

    def _take_room(self, size: int) -> None:
        """Before anything is put, so that whoever dies in between leaves less room and not more."""
        room = self._room()
        if room >= 0:
            write_atomically(self.root / "room", json.dumps([self.limit_bytes, room - size]).encode())

    def _forget_room(self) -> None:
        (self.root / "room").unlink(missing_ok=True)

    def _evict(self, entry: _Entry, over: Mapping[tuple[int, int], Sequence[Path]]) -> None:
        # The runs' own names first: as long as the entry is here, whoever comes after a crash finishes this.
        for file in entry.files:
            for path in over.get(file, ()):
                path.unlink(missing_ok=True)
        gone = self.root / f".gone-{secrets.token_hex(8)}"
        os.rename(entry.path, gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _discard(self, path: Path, *, spoilt: bool = False) -> None:
        """Remove an entry that is not whole; where its arrays are `spoilt`, so are those of runs that are over."""
        log.warning("The stage %s is not whole; it was removed.", path.name[:12])
        self._evict(_entry(path), self._runs_arrays()[2] if spoilt else {})

    def _runs_arrays(
        self,
    ) -> tuple[set[tuple[int, int]], set[tuple[int, int]], dict[tuple[int, int], list[Path]]]:
        """Files that pinned runs hold, files that running ones hold, and by file the names that others have for it."""
        records = {record.run: record for record in self.store.records()}
        pinned: set[tuple[int, int]] = set()
        running: set[tuple[int, int]] = set()
        over: dict[tuple[int, int], list[Path]] = {}
        # Sorted backwards: `network` goes after `method`, and says that a stage's arrays are there.
        for path in sorted((self.store.root / "runs").glob("*/stages/*/*.safetensors"), reverse=True):
            with contextlib.suppress(FileNotFoundError):
                status, record = path.stat(), records.get(path.parts[-4])
                file = (status.st_dev, status.st_ino)
                if record is None or record.active:  # without a record it is being made, or being deleted
                    running.add(file)
                elif record.pinned:
                    pinned.add(file)
                else:
                    over.setdefault(file, []).append(path)
        return pinned, running, over

    def _entries(self) -> Iterator[_Entry]:
        with contextlib.suppress(FileNotFoundError):
            for path in self.root.iterdir():
                if _NAME.fullmatch(path.name):
                    yield _entry(path)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone in the folder; what a dead process left half made is taken away."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for left in self.root.glob(".*-*"):
                shutil.rmtree(left, ignore_errors=True)
            yield
        finally:
            os.close(descriptor)


def _read_events(path: Path, record: _Record) -> tuple[list[Event], list[Evaluated], FootprintMeasured, StageEnded]:
    """The four parts of a stage's events. Raises OSError, ValueError."""
    data = path.read_bytes()
    if hashlib.blake2b(data).hexdigest() != record.events:
        raise ValueError("other events than were written")
    *told, live, validation, test, footprint, ended = map(from_line, data.splitlines())
    measured = [event for event in (live, validation, test) if isinstance(event, Evaluated)]
    if (
        not told
        or not isinstance(told[0], StageStarted)
        or [event.kind for event in measured] != ["live", "validation", "test"]
        or not isinstance(footprint, FootprintMeasured)
        or not isinstance(ended, StageEnded)
    ):
        raise ValueError("not the events of a stage")
    return told, measured, footprint, ended


def _read_addition(entry: Path, key: StageKey) -> Addition | None:
    """Raises OSError, ValueError."""
    with contextlib.suppress(FileNotFoundError):
        return Addition.model_validate_json(_arrays(entry, key).with_suffix(".json").read_bytes())
    return None


def _arrays(entry: Path, key: StageKey) -> Path:
    return entry / f"method-{key.addition}.safetensors"


def _is_whole(entry: Path) -> bool:
    try:
        record = _Record.model_validate_json((entry / "stage.json").read_bytes())
        _read_events(entry / "events.jsonl", record)
        return _digest(entry / "network.safetensors") == record.network
    except (OSError, ValueError):
        return False


def _entry(path: Path) -> _Entry:
    """An entry as it lies there, whole or not."""
    size, used, files = 0, 0, set()
    with contextlib.suppress(FileNotFoundError):
        for part in os.scandir(path):
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(part.path)
                size += status.st_size
                files.add((status.st_dev, status.st_ino))
                if part.name == "stage.json":
                    used = status.st_mtime_ns
    return _Entry(path, size, used, frozenset(files))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _place(source: Path, target: Path) -> None:
    """Give a file a second name, or where the disk knows none a copy, in one step. Raises OSError."""
    with atomic_path(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def _make_one(stored: Path, own: Path, digest: str) -> None:
    """Make a run's own file a name of the stored one, where both hold the same bytes."""
    if not own.samefile(stored) and _digest(stored) == digest:
        _place(stored, own)
