"""Trained stages, kept so that no stage is trained twice: a run begins after as many of its stages as are stored here.

    HOME/cache/stages/TRAINING/        named by a hash of all that the stage's training depends on (stage_keys.py)
        network.safetensors            the network after it
        events.jsonl                   what was said, StageStarted to StageEnded; seconds count from its start
        stage.json                     digests of both
        method-ADDITION.safetensors    the arrays that `end_stage` added, if any, by a hash of what they depend on
        method-ADDITION.json           their digest, how long that took, and what it warned of
    HOME/cache/stages/room             how many bytes may still be put before all entries and maps are looked through

Laws that hold whoever comes and goes, `kill -9` included:

- The arrays are the files that lie in the folders of runs: one file of two names, never written to again. Where the
  disk knows no second names they are copies.
- An entry appears in one step, and so does an addition with its JSON. What is cut short, or has other bytes than its
  digest says, is no entry: it is removed, and the stage is trained again.
- Whoever changes the folder holds its lock, which the system releases with the process.
- The maps of runs count in the same room (stored_maps.py). When there is none left, entries are evicted, and their
  arrays vanish with them from the folders of runs that are over; where that is not enough, live maps are, and then the
  maps of stages' ends: of each the least recently used first. What a running or a pinned run holds is never evicted,
  and no run ever loses its events or its result.
- To keep trained stages is a convenience: where the system refuses, that is logged, and the stage is trained again.

No torch here: pages read this module.
"""

import contextlib
import fcntl
import json
import logging
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labcore.configs.base import Frozen
from labcore.runs import stored_maps
from labcore.runs.errors import UnknownRun
from labcore.runs.events import (
    Answered,
    Evaluated,
    Event,
    FootprintMeasured,
    Predicted,
    StageEnded,
    StageStarted,
    from_line,
    to_line,
)
from labcore.runs.files import atomic_path, digest_of, digest_of_bytes, write_atomically
from labcore.runs.stage_keys import StageKey
from labcore.runs.store import Store

log = logging.getLogger("labcore.runs.stage_cache")

# Eviction goes on until a twentieth of the limit is free.
SLACK = 20
_NAME = re.compile(r"[0-9a-f]{64}")


class _Record(Frozen):
    """What `stage.json` holds: the digests of the network and of the events.

    `peak_memory` is how many bytes the run that trained the stage had needed by its end.
    """

    network: str
    events: str
    peak_memory: int


class Addition(Frozen):
    """What `method-….json` holds: what the end of a stage took and said, and in `file` the digest of its arrays.

    `file` is None where the end of the stage adds no arrays.
    """

    seconds: float
    energy_wh: float | None = None
    warnings: tuple[str, ...] = ()
    file: str | None = None


@dataclass(frozen=True, slots=True)
class StoredStage:
    """A stage that was taken over, whose arrays now lie in the folder that was given.

    `told` are the events from StageStarted up to the end of training. `measured` (live, validation and test accuracy,
    and the answers that they rest on, but for stages of before there were such), `footprint` and `ended` are what was
    said after it. `addition` is what the method's end of the stage added, None
    where that is not stored.
    """

    told: list[Event]
    measured: list[Event]
    footprint: FootprintMeasured
    ended: StageEnded
    addition: Addition | None
    peak_memory: int

    @property
    def images_seen(self) -> int:
        """How many images the run had seen by the end of the stage."""
        return next(event.images_seen for event in self.measured if isinstance(event, Evaluated))


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry as it lies in the folder: its bytes, when it was last used, and its files by device and inode."""

    path: Path
    size: int
    used: int
    files: frozenset[tuple[int, int]]


class StageCache:
    """The folder of trained stages of a store. The laws at the head of this file are its contract."""

    def __init__(self, store: Store, limit_bytes: int | None = None) -> None:
        """Open the folder, which may take `limit_bytes`, or by default as much as the person has set for the lab."""
        self.store = store
        self.limit_bytes = _limit(store) if limit_bytes is None else limit_bytes
        self.root = store.cache / "stages"

    # ---- taking -----------------------------------------------------------------------------------------------------

    def take(self, key: StageKey, folder: Path, *, needs_addition: bool) -> StoredStage | None:
        """Take a stage over, and put its arrays into `folder`.

        Args:
            key: What the stage depends on.
            folder: Where the arrays shall lie: the run's own folder of this stage.
            needs_addition: Whether the stage is of no use without what the method's end of it added.

        Returns:
            The stage, or None where it is not stored, not whole, or without the addition that it needs.
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
        if any(digest_of(folder / f"{name}.safetensors") != digests[name] for name in parts):
            with self._locked():
                self._discard(entry, spoilt=True)
            for name in parts:
                (folder / f"{name}.safetensors").unlink(missing_ok=True)
            return None
        return StoredStage(*stored, addition, record.peak_memory)

    def has(self, key: StageKey, *, needs_addition: bool) -> bool:
        """Whether a stage seems to be stored with what it is to have; only `take` tells whether it is whole."""
        entry = self.root / key.training
        return (entry / "stage.json").exists() and (
            not needs_addition or _arrays(entry, key).with_suffix(".json").exists()
        )

    def spoilt(self, runs: Iterable[str]) -> dict[str, list[int]]:
        """The stages of runs whose arrays are not those that were written, as far as that is known here.

        It is known of what is stored as a trained stage, too, under a second name.

        Args:
            runs: The IDs of the runs; for those that are not there, nothing is found.

        Returns:
            By run the stages (counted from 1), for the runs that have such stages.
        """
        own: dict[tuple[int, int], list[tuple[str, int]]] = {}
        for run in runs:
            with contextlib.suppress(UnknownRun):
                for path in self.store.folder(run).glob("stages/*/*.safetensors"):
                    if re.fullmatch("[0-9]{1,4}", path.parent.name):
                        with contextlib.suppress(FileNotFoundError):
                            status = path.stat()
                            own.setdefault((status.st_dev, status.st_ino), []).append((run, int(path.parent.name)))
        found: dict[str, set[int]] = {}
        for entry in self._entries():
            if entry.files.isdisjoint(own):
                continue
            for part in entry.path.glob("*.safetensors"):
                with contextlib.suppress(FileNotFoundError):
                    status = part.stat()
                    mine = own.get((status.st_dev, status.st_ino))
                    if mine is not None and (told := _digest_told(part)) is not None and digest_of(part) != told:
                        for run, stage in mine:
                            found.setdefault(run, set()).add(stage)
        return {run: sorted(stages) for run, stages in found.items()}

    # ---- putting ----------------------------------------------------------------------------------------------------

    def put(
        self, key: StageKey, folder: Path, events: Sequence[Event], addition: Addition, *, peak_memory: int = 0
    ) -> None:
        """Keep a stage whose arrays lie in `folder`; from now on they have two names. A stage that is stored stays.

        Args:
            key: What the stage depends on.
            folder: The run's own folder of this stage.
            events: All that was said of the stage: the four parts of `StoredStage`, in a row.
            addition: What the method's end of the stage took and said; its `file` is filled in here.
            peak_memory: How many bytes the run had needed by the end of the stage.
        """
        lines = b"".join(map(to_line, events))
        with self._trying(), self._locked():
            entry, network = self.root / key.training, folder / "network.safetensors"
            record = _Record(network=digest_of(network), events=digest_of_bytes(lines), peak_memory=peak_memory)
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
        """Keep what the method's end of a stored stage added, whose arrays lie in `folder`, beside other additions."""
        with self._trying(), self._locked():
            if (self.root / key.training).exists():
                self._put_addition(key, folder, addition)
                self._make_room(self.limit_bytes)

    def _put_addition(self, key: StageKey, folder: Path, addition: Addition) -> None:
        entry, arrays = self.root / key.training, folder / "method.safetensors"
        digest = digest_of(arrays) if arrays.exists() else None
        try:
            known = _read_addition(entry, key)
        except (OSError, ValueError):
            known = None
        if known is not None and (known.file is None or digest_of(_arrays(entry, key)) == known.file):
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
        """Log it where the system refuses what the block does, and go on after the block."""
        try:
            yield
        except OSError as error:
            log.warning("The stage store cannot be used: %s", error)

    # ---- room -------------------------------------------------------------------------------------------------------

    def usage(self) -> tuple[int, int]:
        """How many stages are stored, and how many bytes they take."""
        entries = list(self._entries())
        return len(entries), sum(entry.size for entry in entries)

    def keep_to_limit(self, run: str | None = None) -> None:
        """Evict what is over the limit. It is called when a run is over, whose stages could not be evicted before.

        The maps that this `run` has drawn are counted from now on, and were used last.
        """
        with self._trying(), self._locked():
            if run is not None:
                stored_maps.looked_at(self.store, run)
                self._take_room(sum(maps.live + maps.stage for maps in stored_maps.all_of(self.store, [run])))
            self._make_room(self.limit_bytes)

    def count_anew(self) -> None:
        """Look through all entries and maps when something is put next: others came or went meanwhile."""
        with self._trying():
            self._forget_room()

    def empty(self) -> None:
        """Evict every stage that no running or pinned run holds. Raises OSError where the system refuses."""
        with self._locked():
            self._forget_room()
            self._make_room(-1, with_maps=False)
            self._forget_room()

    def _make_room(self, limit: int, *, with_maps: bool = True) -> None:
        """Where the limit is passed evict the least recently used, until the rest is a little below it.

        Entries go first, then live maps, then the maps of stages' ends. What pinned runs hold does not count. Raises
        OSError.
        """
        if self._room() >= 0:
            return
        entries = sorted(self._entries(), key=lambda entry: entry.used)
        maps = stored_maps.all_of(self.store) if with_maps else []
        left = sum(entry.size for entry in entries) + sum(each.live + each.stage for each in maps)
        if left > limit:
            pinned, running, over = self._runs_arrays()
            keep = {record.run for record in self.store.records() if record.pinned}
            maps = [each for each in maps if each.run not in keep]
            left = sum(entry.size for entry in entries if not entry.files & pinned)
            left += sum(each.live + each.stage for each in maps)
            aim = limit - limit // SLACK if left > limit else limit
            for entry in entries:
                if left > aim and not entry.files & (pinned | running):
                    self._evict(entry, over)
                    left -= entry.size
            for kind in stored_maps.KINDS:
                for each in maps:
                    if left > aim:
                        left -= stored_maps.make_room(self.store, each.run, kind)
        write_atomically(self.root / "room", json.dumps([limit, limit - left]).encode())

    # To look through thousands of entries takes a second. So a file says how many bytes may still be put, and only when
    # they are used up are the entries looked through again.

    def _room(self) -> int:
        """How many bytes may be put before the entries are looked through; negative once it is time to do so."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            limit, room = json.loads((self.root / "room").read_bytes())
            return int(room) if limit == self.limit_bytes else -1
        return -1

    def _take_room(self, size: int) -> None:
        """Count `size` bytes as put, before they are: whoever dies in between leaves less room and not more."""
        room = self._room()
        if room >= 0:
            write_atomically(self.root / "room", json.dumps([self.limit_bytes, room - size]).encode())

    def _forget_room(self) -> None:
        (self.root / "room").unlink(missing_ok=True)

    def _evict(self, entry: _Entry, over: Mapping[tuple[int, int], Sequence[Path]]) -> None:
        # The names in the folders of runs go first: while the entry is still here, whoever comes after a crash can
        # finish what was begun.
        for file in entry.files:
            for path in over.get(file, ()):
                path.unlink(missing_ok=True)
        gone = self.root / f".gone-{secrets.token_hex(8)}"
        os.rename(entry.path, gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _discard(self, path: Path, *, spoilt: bool = False) -> None:
        """Remove an entry that is not whole. Where its arrays are `spoilt`, runs that are over lose them too."""
        log.warning("The stage %s is not whole; it was removed.", path.name[:12])
        self._evict(_entry(path), self._runs_arrays()[2] if spoilt else {})

    def _runs_arrays(
        self,
    ) -> tuple[set[tuple[int, int]], set[tuple[int, int]], dict[tuple[int, int], list[Path]]]:
        """Which files pinned runs hold, which ones active runs hold, and by file the names that other runs have for it.

        A file is known by its device and inode. An active run is one that is queued or running.
        """
        records = {record.run: record for record in self.store.records()}
        pinned: set[tuple[int, int]] = set()
        running: set[tuple[int, int]] = set()
        over: dict[tuple[int, int], list[Path]] = {}
        # Sorted backwards, so that `network`, which says that a stage's arrays are there, is removed after `method`.
        for path in sorted((self.store.root / "runs").glob("*/stages/*/*.safetensors"), reverse=True):
            with contextlib.suppress(FileNotFoundError):
                status, record = path.stat(), records.get(path.parts[-4])
                file = (status.st_dev, status.st_ino)
                if record is None or record.active:  # a run without a record is being made, or being deleted
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
        """Be alone in the folder for the block. What a dead process left half made is removed first."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for left in self.root.glob(".*-*"):
                shutil.rmtree(left, ignore_errors=True)
            yield
        finally:
            os.close(descriptor)


def _limit(store: Store) -> int:
    """How much a person has allowed; all there is where that cannot be read, as what was evicted does not come back."""
    settings = store.settings()
    if store.settings_problem() is not None and "stage_cache_gb" not in settings.model_fields_set:
        return sys.maxsize
    return round(settings.stage_cache_gb * 1e9)


def _digest_told(part: Path) -> str | None:
    """The digest that an entry tells of its arrays `part`; None where it tells none."""
    with contextlib.suppress(OSError, ValueError):
        if part.name == "network.safetensors":
            return _Record.model_validate_json((part.parent / "stage.json").read_bytes()).network
        return Addition.model_validate_json(part.with_suffix(".json").read_bytes()).file
    return None


def before_measured(events: Sequence[Event]) -> int:
    """How many of a stage's events were said before it was measured at its end, which begins with its last live look.

    Raises ValueError where there is no such look.
    """
    live = [number for number, event in enumerate(events) if isinstance(event, Evaluated) and event.kind == "live"]
    if not live:
        raise ValueError("a stage that was not looked at")
    return live[-1]


def _read_events(path: Path, record: _Record) -> tuple[list[Event], list[Event], FootprintMeasured, StageEnded]:
    """Read the events of a stage in their four parts, as `StoredStage` has them. Raises OSError, ValueError."""
    data = path.read_bytes()
    if digest_of_bytes(data) != record.events:
        raise ValueError("other events than were written")
    lines: list[Event] = list(map(from_line, data.splitlines()))
    *said, footprint, ended = lines
    begun = before_measured(said)
    told, measured = said[:begun], said[begun:]
    accuracies = [event.kind for event in measured if isinstance(event, Evaluated)]
    if (
        not told
        or not isinstance(told[0], StageStarted)
        or accuracies != ["live", "validation", "test"]
        or not all(isinstance(event, Evaluated | Answered | Predicted) for event in measured)
        or not isinstance(footprint, FootprintMeasured)
        or not isinstance(ended, StageEnded)
    ):
        raise ValueError("not the events of a stage")
    return told, measured, footprint, ended


def _read_addition(entry: Path, key: StageKey) -> Addition | None:
    """Read what the end of a stage added; None where that is not stored. Raises OSError, ValueError."""
    with contextlib.suppress(FileNotFoundError):
        return Addition.model_validate_json(_arrays(entry, key).with_suffix(".json").read_bytes())
    return None


def _arrays(entry: Path, key: StageKey) -> Path:
    """Where an entry holds the arrays that the end of the stage added."""
    return entry / f"method-{key.addition}.safetensors"


def _is_whole(entry: Path) -> bool:
    try:
        record = _Record.model_validate_json((entry / "stage.json").read_bytes())
        _read_events(entry / "events.jsonl", record)
        return digest_of(entry / "network.safetensors") == record.network
    except (OSError, ValueError):
        return False


def _entry(path: Path) -> _Entry:
    """Look at an entry as it lies there, whole or not."""
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


def _place(source: Path, target: Path) -> None:
    """Give a file a second name in one step, or a copy where the disk knows no second names. Raises OSError."""
    with atomic_path(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def _make_one(stored: Path, own: Path, digest: str) -> None:
    """Turn a run's own file into a second name of the stored one, where both hold the same bytes (`digest`)."""
    if not own.samefile(stored) and digest_of(stored) == digest:
        _place(stored, own)
