"""Where runs live: one folder that pages, workers and command lines share.

Laws that hold whoever comes and goes, `kill -9` included:

- A run has one writer at a time: whoever holds the lock of its folder (`flock`, which the system releases with the
  process). Everyone else reads.
- Events are only ever appended. A torn last line is no event: readers leave it, the next writer cuts it off.
- Records change in transactions, so two that submit the same configuration at once get the same run, and two that claim
  at once get different ones.
- Nothing read from the folder is ever unpickled: records are JSON text, arrays are safetensors or npz without objects.
- The folder and what is in it are for its owner alone (0700).

    HOME/records/            states and queue (diskcache, JSON text only, never evicted)
    HOME/runs/ID/            config.json  events.jsonl  checkpoint.safetensors, .before  stop  stages/K/*.safetensors
    HOME/cache/pictures/     decoded pictures, by fingerprint
    HOME/cache/stages/       trained stages (stages.py), by what they depend on; the arrays are the runs' own
    HOME/weights/, datasets/ what was downloaded, or put there by hand; never evicted
    HOME/workers/            a lock and a log for each device
    HOME/settings.json       what a person has set for the lab as a whole
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import diskcache
import psutil
from diskcache.core import MODE_PICKLE

from labcore.configs.run import ConfigError, Frozen, RunConfig, parse_json
from labcore.runs.energy import Country, country
from labcore.runs.events import Event, RunEnded, RunStarted, from_line, to_line
from labcore.runs.results import Fold, RunResult, State
from labcore.runs.settings import Settings, parse_settings, read_settings

RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_RESERVE_BYTES = 1 << 20
# So many attempts in a row may lose their worker without saving a checkpoint: then it is the run that ends workers.
MOST_LOST = 3
_LOST_TOO_OFTEN = (
    f"Its worker was gone {MOST_LOST} times in a row before anything more was saved; most likely the run needs more "
    "memory than there is. Close other programs and resume it, or run it again with a smaller training.batch_size or "
    "backbone.image_size."
)


class StoreError(RuntimeError):
    """The folder cannot be used as asked; one plain sentence that says what to do."""


class UnknownRun(ConfigError):
    """There is no run of this ID."""


class Busy(StoreError):
    """Someone else is the writer."""


class Process(Frozen):
    """A process that is this one and no later one of the same number: `created` is its start in Unix seconds."""

    pid: int
    created: float

    @classmethod
    def me(cls) -> "Process":
        """The calling process."""
        return cls(pid=os.getpid(), created=psutil.Process().create_time())

    @property
    def alive(self) -> bool:
        """Whether it still runs: a zombie, or another process with its number, is not it."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1
            return bool(same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False


class RunRecord(Frozen):
    """What the store knows of a run beside its events. Times in Unix seconds; `owner` is its writer while it runs."""

    run: str
    key: str
    state: State
    device: str
    submitted: float
    started: float | None = None
    ended: float | None = None
    attempt: int = 0
    lost_attempts: int = 0  # how many before this one lost their worker in a row, with the same last checkpoint
    checkpoint: int = 0  # when the one that this attempt began with was written, in nanoseconds; 0: there was none
    owner: Process | None = None
    error: str | None = None
    imported: bool = False
    fresh: bool = False  # it reads no stored stage
    pinned: bool = False  # its stages' arrays are never evicted
    # Of the result: see `summary`.
    average_accuracy: float | None = None
    forgetting: float | None = None
    train_seconds: float | None = None
    energy_wh: float | None = None

    @property
    def lost(self) -> bool:
        """It should be running, and its worker is gone."""
        return self.state == "running" and (self.owner is None or not self.owner.alive)

    @property
    def active(self) -> bool:
        """Queued or running, lost or not."""
        return self.state in ("queued", "running")


def summary(result: RunResult) -> dict[str, float | None]:
    """What a record keeps of a result, so that a table of runs reads no events."""
    return {
        "average_accuracy": result.average_accuracy,
        "forgetting": result.mean_forgetting,
        "train_seconds": result.train_seconds,
        "energy_wh": result.energy_wh,
    }


class WorkerRecord(Frozen):
    """A worker of a device, and the run it is at (None: it waits). `since` in Unix seconds."""

    device: str
    process: Process
    run: str | None
    since: float


@dataclass(frozen=True, slots=True)
class Submission:
    """`cached`: the run was complete before it was asked for."""

    run: str
    state: State
    cached: bool


class _TextDisk(diskcache.Disk):  # type: ignore[misc]
    """Text and bytes only. A pickled value, which only a stranger can have put there, is refused and not opened."""

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        if not isinstance(value, str | bytes):
            raise TypeError(f"only text and bytes are stored, not {type(value).__name__}")
        return super().store(value, read, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode == MODE_PICKLE:
            raise StoreError("The records hold a pickled value, which this lab never writes; it was not opened.")
        return super().fetch(mode, filename, value, read)

    def get(self, key: Any, raw: bool) -> Any:
        if not raw:
            raise StoreError("The records hold a pickled key, which this lab never writes; it was not opened.")
        return super().get(key, raw)


def home() -> Path:
    """`REUSE_LAB_HOME`, or `~/.local/share/reuse-lab`."""
    return Path(os.environ.get("REUSE_LAB_HOME") or Path.home() / ".local" / "share" / "reuse-lab")


class Store:
    """The folder at `root`, made on first use. Raises StoreError where it cannot be written."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or home()).expanduser().absolute()
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("runs", "cache", "workers"):
                (self.root / name).mkdir(mode=0o700, exist_ok=True)
            if not os.access(self.root / "runs", os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "not writable")
            # One function opens the records: diskcache keeps these settings in the database.
            self._records = diskcache.Cache(
                str(self.root / "records"), disk=_TextDisk, eviction_policy="none", statistics=0, timeout=60
            )
        except (OSError, diskcache.Timeout) as error:
            raise _unusable(self.root, error) from None
        except Exception as error:  # sqlite3's own errors share no useful base with OSError
            if type(error).__module__ == "sqlite3":
                raise _unusable(self.root, error) from None
            raise
        self._keep_reserve()

    def close(self) -> None:
        """Close the records' database."""
        self._records.close()

    @property
    def cache(self) -> Path:
        """Folder for what can be made again."""
        return self.root / "cache"

    def folder(self, run: str) -> Path:
        """A run's folder. Raises UnknownRun for what is not the ID of a run, `../` and the like included."""
        if not RUN_ID.fullmatch(run) or not (self.root / "runs" / run / "config.json").is_file():
            raise UnknownRun(f"There is no run {run[:80]!r}; `list` shows those there are.")
        return self.root / "runs" / run

    # ---- records ----------------------------------------------------------------------------------------------------

    def record(self, run: str) -> RunRecord:
        """What is known of a run. Raises UnknownRun."""
        if not RUN_ID.fullmatch(run):
            self.folder(run)  # says so
        text = self._records.get(f"run/{run}", retry=True)
        if text is None:
            raise UnknownRun(f"There is no run {run!r}; `list` shows those there are.")
        return RunRecord.model_validate_json(text)

    def records(self) -> list[RunRecord]:
        """All runs, the newest first."""
        found = []
        for name in list(self._records):
            if name.startswith("run/") and (text := self._records.get(name, retry=True)) is not None:
                found.append(RunRecord.model_validate_json(text))
        return sorted(found, key=lambda record: (record.submitted, record.run), reverse=True)

    def config(self, run: str) -> RunConfig:
        """The configuration of a run. Raises UnknownRun, ConfigError where this version cannot read it."""
        return parse_json((self.folder(run) / "config.json").read_bytes())

    def _put(self, record: RunRecord) -> RunRecord:
        """Overwrite a record, and keep the list of active runs in step."""
        with self._transaction():
            self._records.set(f"run/{record.run}", record.model_dump_json(), retry=True)
            active = self._active()
            if record.active != (record.run in active):
                (active.append if record.active else active.remove)(record.run)
                self._records.set("active", json.dumps(active), retry=True)
        return record

    def _change(self, run: str, **changes: Any) -> RunRecord:
        """Overwrite fields of a record, and leave the others as they are now. Raises UnknownRun."""
        with self._transaction():
            return self._put(self.record(run).model_copy(update=changes))

    def _transaction(self) -> contextlib.AbstractContextManager[None]:
        return self._records.transact(retry=True)  # type: ignore[no-any-return]

    # ---- the queue --------------------------------------------------------------------------------------------------

    def submit(self, config: RunConfig, *, device: str = "auto", use_cache: bool = True) -> Submission:
        """Queue a configuration, or find the run that it already is.

        The same key as a complete, queued or running run is that run. A stopped or failed one is queued again and goes
        on from its last checkpoint. `use_cache=False` always makes a new run, which reads no stored stage. Raises
        StoreError where nothing can be written.
        """
        key = config.key()
        try:
            with self._transaction():
                known = self._records.get(f"key/{key}", retry=True) if use_cache else None
                if known is not None:
                    with contextlib.suppress(UnknownRun):
                        self.folder(known)
                        return self._submit_again(self.record(known), device)
                run = self._create(config, key, device, fresh=not use_cache)
                if use_cache:
                    self._records.set(f"key/{key}", run, retry=True)
                return Submission(run, "queued", cached=False)
        except OSError as error:
            raise _unusable(self.root, error) from None

    def _submit_again(self, record: RunRecord, device: str) -> Submission:
        if record.state in ("stopped", "failed"):
            self._requeue(record.run, device)
            return Submission(record.run, "queued", cached=False)
        return Submission(record.run, record.state, cached=record.state == "complete")

    def _create(self, config: RunConfig, key: str, device: str, *, fresh: bool) -> str:
        run = _new_id(key[:6])
        folder = self.root / "runs" / run
        folder.mkdir(mode=0o700)
        write_atomically(folder / "config.json", config.model_dump_json(indent=2).encode())
        self._put(RunRecord(run=run, key=key, state="queued", device=device, submitted=time.time(), fresh=fresh))
        return run

    def claim(self, device: str) -> "Claim | None":
        """Become the writer of the oldest run that waits for this device or lost its worker; None if there is none.

        One that loses its worker again and again without getting further fails here; a person may resume it.
        """
        for run in self._active():
            with contextlib.suppress(Busy, UnknownRun):
                record = self.record(run)
                if record.device in ("auto", device) and (record.state == "queued" or record.lost):
                    claim = self.claim_run(run)
                    if claim.record.lost_attempts < MOST_LOST:
                        return claim
                    claim.fail(_LOST_TOO_OFTEN)
        return None

    def active(self) -> list[RunRecord]:
        """Runs that are queued or running, in the order in which they were queued."""
        found = []
        for run in self._active():
            with contextlib.suppress(UnknownRun):
                found.append(self.record(run))
        return found

    def _active(self) -> list[str]:
        """Runs that are queued or running: one small value to read, however many runs are finished."""
        return json.loads(self._records.get("active", "[]", retry=True))  # type: ignore[no-any-return]

    def claim_run(self, run: str) -> "Claim":
        """Become the writer of this run, queued or lost. Raises Busy where it is taken or over; UnknownRun."""
        lock = _lock(self.folder(run) / "lock")
        try:
            with self._transaction():
                record = self.record(run)
                if not (record.state == "queued" or record.lost):
                    raise Busy(f"Run {run} is {record.state}, not waiting.")
                checkpoint = self._checkpoint_time(run)
                before = record.lost_attempts if checkpoint == record.checkpoint else 0
                # Here, where nobody can ask a running run to stop yet: a later request is not lost.
                (self.folder(run) / "stop").unlink(missing_ok=True)
                record = self._change(
                    run,
                    state="running",
                    owner=Process.me(),
                    attempt=record.attempt + 1,
                    lost_attempts=before + 1 if record.lost else 0,
                    checkpoint=checkpoint,
                    started=record.started or time.time(),
                    ended=None,
                    error=None,
                )
            return Claim(self, record, lock)
        except BaseException:
            os.close(lock)
            raise

    def _checkpoint_time(self, run: str) -> int:
        try:
            return (self.folder(run) / "checkpoint.safetensors").stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def request_stop(self, run: str) -> None:
        """Ask the writer to stop, or take the run out of the queue; one that is over stays so. Raises UnknownRun."""
        with self._transaction():
            record = self.record(run)
            if record.state == "queued" or record.lost:
                self._change(run, state="stopped", owner=None, ended=time.time())
            elif record.state == "running":
                (self.folder(run) / "stop").touch(mode=0o600)

    def stop_requested(self, run: str) -> bool:
        """Whether a running run has been asked to stop: a look at one file, cheap enough for every step."""
        return os.path.exists(self.root / "runs" / run / "stop")

    def resume(self, run: str) -> Submission:
        """Queue a stopped, failed or lost run; it goes on from its last checkpoint. Others stay as they are."""
        with self._transaction():
            record = self.record(run)
            if record.state in ("stopped", "failed") or record.lost:
                self._requeue(run, record.device)
                return Submission(run, "queued", cached=False)
            return Submission(run, record.state, cached=record.state == "complete")

    def _requeue(self, run: str, device: str) -> None:
        (self.folder(run) / "stop").unlink(missing_ok=True)
        self._change(run, state="queued", device=device, owner=None, error=None, ended=None)

    def pin(self, run: str, pinned: bool) -> RunRecord:
        """Keep the arrays of a run's stages whatever room they take, or no longer. Raises UnknownRun."""
        record = self._change(run, pinned=pinned)
        (self.cache / "stages" / "room").unlink(missing_ok=True)  # counted anew, with or without them
        return record

    def delete(self, run: str) -> None:
        """Remove a run for good. Raises Busy while someone writes it, UnknownRun."""
        try:
            lock = _lock(self.folder(run) / "lock")
        except Busy:
            raise Busy(f"Run {run} is running; stop it first, then delete it.") from None
        try:
            with self._transaction():
                record = self.record(run)
                self._records.delete(f"run/{run}", retry=True)
                still = [other for other in self._active() if other != run]
                self._records.set("active", json.dumps(still), retry=True)
                if self._records.get(f"key/{record.key}", retry=True) == run:
                    self._records.delete(f"key/{record.key}", retry=True)
            # Out of sight in one step, so that a crash in the middle leaves no half run.
            gone = self.root / "cache" / f"deleted-{run}"
            os.replace(self.root / "runs" / run, gone)
            shutil.rmtree(gone, ignore_errors=True)
        finally:
            os.close(lock)

    def free_id(self, run: str) -> str:
        """This ID where it is one and no run has it, else a new one."""
        taken = (self.root / "runs" / run).exists() if RUN_ID.fullmatch(run) else True
        return _new_id(run[-11:-5]) if taken else run

    def take_in(self, record: RunRecord, folder: Path) -> None:
        """Make a prepared folder (on this disk) a run, in one step. Raises OSError where the ID is taken meanwhile."""
        with self._transaction():
            os.rename(folder, self.root / "runs" / record.run)
            self._put(record)

    # ---- events and results -----------------------------------------------------------------------------------------

    def tail(self, run: str, offset: int = 0) -> tuple[list[Event], int]:
        """Events that lie past `offset` bytes, and the offset to ask from next. Raises UnknownRun.

        A line still being written, or torn, is left for later; a whole line that is no event is passed over.
        """
        try:
            with (self.folder(run) / "events.jsonl").open("rb") as file:
                file.seek(offset)
                data = file.read()
        except FileNotFoundError:
            return [], offset
        whole = data[: data.rfind(b"\n") + 1]
        events = []
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                events.append(from_line(line))
        return events, offset + len(whole)

    def bytes_said(self, run: str) -> int:
        """How long the run's events are by now: another number tells that there are more. Raises UnknownRun."""
        try:
            return (self.folder(run) / "events.jsonl").stat().st_size
        except FileNotFoundError:
            return 0

    def fold(self, run: str) -> Fold:
        """All events of a run, folded. Raises UnknownRun."""
        folded = Fold()
        for event in self.tail(run)[0]:
            folded.add(event)
        return folded

    def engine(self, run: str) -> str:
        """The version of the engine that computed a run, its last attempt's; empty where it was not written down.

        Only the lines that say so are parsed: a page asks this of hundreds of runs. Raises UnknownRun.
        """
        path = self.folder(run) / "events.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        for line in reversed([line for line in lines if b'"event":"run_started"' in line]):
            with contextlib.suppress(ValueError):
                event = from_line(line)
                return event.versions.get("engine", "") if isinstance(event, RunStarted) else ""
        return ""

    def result(self, run: str, *, cached: bool = False) -> RunResult:
        """The figures of a run, finished or not. Raises UnknownRun."""
        record, config = self.record(run), self.config(run)
        return self.fold(run).result(
            run,
            record.state,
            config.model_dump(mode="json"),
            error=record.error,
            cached=cached,
            weights=self.stages_stored(run),
            country=self.country(),
        )

    def stage_folder(self, run: str, stage: int) -> Path:
        """Where the arrays of a stage (from 1) lie, or will."""
        return self.folder(run) / "stages" / str(stage)

    def stages_stored(self, run: str) -> list[int]:
        """The stages whose arrays are stored."""
        names = (path.parent.name for path in (self.folder(run) / "stages").glob("*/network.safetensors"))
        return sorted(int(name) for name in names if re.fullmatch("[0-9]{1,4}", name))

    def usage(self) -> dict[str, int]:
        """Bytes of `runs`, `stages` (their arrays), `pictures`, `downloads`, `other`; a file of two names is one."""
        places = {"weights": "downloads", "datasets": "downloads", "runs": "runs"}
        found = dict.fromkeys(("runs", "stages", "pictures", "downloads", "other"), 0)
        seen: set[tuple[int, int]] = set()
        for folder, _, names in os.walk(self.root):
            parts = Path(folder).relative_to(self.root).parts
            what = places.get(parts[0] if parts else "", "other")
            if "stages" in parts[1:]:
                what = "stages"
            elif parts[:2] == ("cache", "pictures"):
                what = "pictures"
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    status = os.lstat(os.path.join(folder, name))
                    if (place := (status.st_dev, status.st_ino)) not in seen:
                        seen.add(place)
                        found[what] += status.st_size
        return found

    # ---- workers ----------------------------------------------------------------------------------------------------

    def lock_device(self, device: str) -> int:
        """Become the one worker of a device, until the process ends. Returns the lock. Raises Busy."""
        try:
            return _lock(self.root / "workers" / f"{device.replace(':', '-')}.lock")
        except Busy:
            raise Busy(f"There is a worker for {device} already; one a device is enough.") from None

    def tell_worker(self, device: str, run: str | None) -> None:
        """Say what this worker is at."""
        record = WorkerRecord(device=device, process=Process.me(), run=run, since=time.time())
        with self._transaction():
            self._put_workers([*(other for other in self._workers() if other.device != device), record])

    def tell_devices(self, devices: dict[str, str]) -> None:
        """Say which devices this machine has: what each is, by name."""
        self._records.set("devices", json.dumps(devices), retry=True)

    def devices(self) -> dict[str, str]:
        """What each device of this machine is, by name; empty before the first worker has looked."""
        return dict(json.loads(self._records.get("devices", "{}", retry=True)))

    def known(self, config: RunConfig) -> RunRecord | None:
        """The run that this configuration already is, finished or not; what `submit` would find."""
        return self.known_by_key(config.key())

    def known_by_key(self, key: str) -> RunRecord | None:
        """The run that `submit` would find for a configuration of this key."""
        run = self._records.get(f"key/{key}", retry=True)
        try:
            return None if run is None else self.record(run)
        except UnknownRun:  # it was deleted
            return None

    def forget_worker(self, device: str) -> None:
        """Say that this worker is gone."""
        with self._transaction():
            self._put_workers([other for other in self._workers() if other.device != device])

    def _workers(self) -> list[WorkerRecord]:
        """One small value to read each second, however many runs there are."""
        return [WorkerRecord.model_validate(row) for row in json.loads(self._records.get("workers", "[]", retry=True))]

    def _put_workers(self, workers: list[WorkerRecord]) -> None:
        self._records.set("workers", json.dumps([worker.model_dump(mode="json") for worker in workers]), retry=True)

    def may_start_worker(self, device: str, patience: float) -> bool:
        """Whether the caller is the one to start a device's worker: true for one caller in `patience` seconds."""
        with self._transaction():
            text = self._records.get(f"starting/{device}", retry=True)
            if text is not None and abs(time.time() - float(text)) < patience:
                return False
            self._records.set(f"starting/{device}", str(time.time()), retry=True)
            return True

    def workers(self) -> list[WorkerRecord]:
        """The workers that are alive, by device."""
        return sorted((worker for worker in self._workers() if worker.process.alive), key=lambda worker: worker.device)

    # ---- settings ---------------------------------------------------------------------------------------------------

    def settings(self) -> Settings:
        """What a person has set; the defaults where the file is not there, or not right."""
        return read_settings(self.root / "settings.json")[0]

    def settings_problem(self) -> str | None:
        """What is wrong with the file of settings, in a sentence; None when it is right or not there."""
        return read_settings(self.root / "settings.json")[1]

    def change_settings(self, **changes: Any) -> Settings:
        """Overwrite some settings. Raises ConfigError for a value that cannot be, StoreError where it cannot write."""
        changed = parse_settings({**self.settings().model_dump(), **changes})
        try:
            write_atomically(self.root / "settings.json", changed.model_dump_json(indent=2).encode())
        except OSError as error:
            raise _unusable(self.root, error) from None
        return changed

    def country(self) -> Country:
        """Whose electricity carbon is counted by."""
        return country(self.settings().country)

    # ---- care -------------------------------------------------------------------------------------------------------

    def check(self) -> list[str]:
        """What is wrong with the folder, a sentence each; empty when all is well."""
        problems = [str(warning.message) for warning in self._records.check()]
        for record in self.records():
            try:
                self.config(record.run)
            except (ConfigError, OSError) as error:
                problems.append(f"Run {record.run}: {error}")
        return problems

    def _keep_reserve(self) -> None:
        """A megabyte set aside, given up when the disk is full, so that even then a failure can be written down."""
        path = self.root / "reserve"
        with contextlib.suppress(OSError):
            if not path.exists() and shutil.disk_usage(self.root).free > 16 * _RESERVE_BYTES:
                path.write_bytes(os.urandom(_RESERVE_BYTES))

    def spend_reserve(self) -> None:
        """Give up the reserve: the disk is full, and what comes next is the last word of a run."""
        with contextlib.suppress(OSError):
            (self.root / "reserve").unlink(missing_ok=True)


class Claim:
    """The right to write a run. Held by one process; ends with `finish`, or with the process."""

    def __init__(self, store: Store, record: RunRecord, lock: int) -> None:
        self.store, self.record, self._lock = store, record, lock
        self.run = record.run
        self.folder = store.folder(record.run)
        path = self.folder / "events.jsonl"
        self._events = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._seq = self._cut_torn_line()

    def _cut_torn_line(self) -> int:
        with open(self._events, "rb", closefd=False) as file:
            data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self._events, whole)
        return data.count(b"\n")

    def append(self, event: Event) -> Event:
        """Write the event, stamped with run, attempt and place. Raises OSError, leaving no torn line, if it cannot."""
        event = event.model_copy(update={"run": self.run, "attempt": self.record.attempt, "seq": self._seq})
        line, size = to_line(event), os.fstat(self._events).st_size
        try:
            written = os.write(self._events, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._events, size)
            raise
        self._seq += 1
        return event

    def sync(self) -> None:
        """Make sure that what was appended survives a power cut."""
        os.fsync(self._events)

    def stop_requested(self) -> bool:
        """Whether someone asked this run to stop."""
        return self.store.stop_requested(self.run)

    def finish(self, state: Literal["complete", "stopped", "failed"], error: str | None = None) -> RunRecord:
        """Write the run's state and summary, and give up the claim."""
        try:
            figures: dict[str, float | None] = {}
            with contextlib.suppress(ConfigError):  # one that cannot be read must not end the worker that says so
                figures = summary(self.store.result(self.run))
            with contextlib.suppress(OSError):
                self.sync()
            return self.store._change(
                self.run,
                state=state,
                owner=None,
                ended=time.time(),
                error=error,
                **figures,
            )
        finally:
            self.release()

    def fail(self, error: str) -> RunRecord:
        """The last word of a run that cannot go on, a full disk included."""
        self.store.spend_reserve()
        with contextlib.suppress(OSError):
            self.append(RunEnded(state="failed", error=error))
        return self.finish("failed", error)

    def put_back(self) -> RunRecord:
        """Give the run back to the queue: this process ends, and another may go on from the checkpoint."""
        try:
            return self.store._change(self.run, state="queued", owner=None)
        finally:
            self.release()

    def release(self) -> None:
        """Give up the claim and leave the record as it is."""
        (self.folder / "stop").unlink(missing_ok=True)
        for descriptor in (self._events, self._lock):
            with contextlib.suppress(OSError):
                os.close(descriptor)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place when the block ends well, and else vanishes."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # a dead process's of our number; perhaps a link to what must not change
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file or nothing."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _new_id(hint: str) -> str:
    """Sorts by time, and says a little of what it is."""
    hint = "".join(letter for letter in hint if letter in "0123456789abcdef")
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{hint or 'run'}-{secrets.token_hex(2)}"


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Busy(f"{path.parent.name} is in use by another process.") from None
    return descriptor


def _unusable(root: Path, error: Exception) -> StoreError:
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return StoreError(
        f"The store {root} cannot be written ({reason}); set REUSE_LAB_HOME to a folder that can, or free some space."
    )
