"""What the store knows of its runs beside their events: one small record each, in a database that all processes share.

    run/ID           RunRecord, as JSON
    key/KEY          the ID of the run that a configuration of this key is, when it is submitted
    active           the IDs of the runs that are queued or running, in the order of the queue
    workers          the list of WorkerRecord; `devices` and `starting/DEVICE` beside it (workers.py)

The database is diskcache's, which keeps it in SQLite. It holds text alone and never evicts; a pickled value, which only
a stranger can have put there, is refused and not opened.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import diskcache
import psutil
from diskcache.core import MODE_PICKLE

from labcore.configs.base import Frozen
from labcore.configs.reading import parse_json
from labcore.configs.run import RunConfig
from labcore.runs.errors import Busy, StoreError, UnknownRun, no_such_run, unusable
from labcore.runs.files import home, take_lock
from labcore.runs.results import RunResult, State

_FOLDERS = ("runs", "cache", "workers", "records", "weights", "datasets", "explorations")
_FILES = ("records/cache.db", "records/cache.db-wal", "records/cache.db-shm", "settings.json", "reserve")

RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


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
        """Whether it still runs. A zombie does not, and another process that was given its number is another."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1
            return bool(same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False


class RunRecord(Frozen):
    """What the store knows of a run beside its events. Times are Unix seconds.

    `owner` is the process that writes the run while it runs. `lost_attempts` counts how many attempts before this one
    lost their worker in a row with the same last checkpoint; `checkpoint` says when the one that this attempt began
    with was written, in nanoseconds, and is 0 where there was none. A `fresh` run reads no stored stage, and the arrays
    of a `pinned` one are never evicted. The last four fields are the result's in short: see `summary`.
    """

    run: str
    key: str
    state: State
    device: str
    submitted: float
    started: float | None = None
    ended: float | None = None
    attempt: int = 0
    lost_attempts: int = 0
    checkpoint: int = 0
    owner: Process | None = None
    error: str | None = None
    imported: bool = False
    fresh: bool = False
    pinned: bool = False
    average_accuracy: float | None = None
    forgetting: float | None = None
    train_seconds: float | None = None
    energy_wh: float | None = None

    @property
    def lost(self) -> bool:
        """Whether it should be running and its worker is gone."""
        return self.state == "running" and (self.owner is None or not self.owner.alive)

    @property
    def active(self) -> bool:
        """Whether it is queued or running, lost or not."""
        return self.state in ("queued", "running")


def summary(result: RunResult) -> dict[str, float | None]:
    """What a record keeps of a result, so that a table of many runs need read no events."""
    return {
        "average_accuracy": result.average_accuracy,
        "forgetting": result.mean_forgetting,
        "train_seconds": result.train_seconds,
        "energy_wh": result.energy_wh,
    }


class WorkerRecord(Frozen):
    """A process that trains on a device, and the run that it trains (None while it waits), since when in Unix seconds.

    `slot` 0 is the device's worker, which lets up to `slots` runs train at once; the further slots are processes that
    it starts for them. A run is trained with so many `threads`, and `stage` is the key of the first stage that the
    process trains for it; None where it only takes over what is stored, and where that is not known.
    """

    device: str
    process: Process
    run: str | None
    since: float
    slot: int = 0
    slots: int = 1
    threads: int = 0
    stage: str | None = None


class _TextDisk(diskcache.Disk):  # type: ignore[misc]
    """The form in which diskcache stores values, held to text and bytes."""

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


class Records:
    """Which runs there are: their records, folders and configurations.

    Laws:

    - A record changes in a transaction that all threads and processes wait for, so nobody sees half a change, and a
      change that was read for (`change`) never undoes another's.
    - The list of active runs is in step with the records at every moment.
    - A record that was read is a value: it does not change when the store does.
    - What is not the ID of a run, `../` and the like included, is an unknown run to every method, and never a path.

    Attributes:
        root: The folder of the store, made on first use for its owner alone (0700). A folder that was there before
            keeps its own mode, and what the store has in it is for its owner alone all the same.
    """

    def __init__(self, root: Path | None = None) -> None:
        """Open the store at `root`, by default at `files.home()`. Raises StoreError where it cannot be written."""
        self.root = (root or home()).expanduser().absolute()
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("runs", "cache", "workers", "records"):
                (self.root / name).mkdir(mode=0o700, exist_ok=True)
            if not os.access(self.root / "runs", os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "not writable")
            # The records are opened here and nowhere else, because diskcache keeps these settings in the database.
            self._database = diskcache.Cache(
                str(self.root / "records"), disk=_TextDisk, eviction_policy="none", statistics=0, timeout=60
            )
        except (OSError, diskcache.Timeout, sqlite3.Error) as error:
            raise unusable(self.root, error) from None
        self._keep_to_owner()

    def _keep_to_owner(self) -> None:
        """Let nobody else read what the store has: its folders may have been there before, open to all."""
        for name in _FOLDERS + _FILES:
            path = self.root / name
            with contextlib.suppress(OSError):  # it is not there, or belongs to somebody else
                if path.stat().st_mode & 0o077:
                    path.chmod(0o700 if name in _FOLDERS else 0o600)

    def close(self) -> None:
        """Close the database. A later call opens it again."""
        self._database.close()

    @property
    def cache(self) -> Path:
        """The folder for what can be made again."""
        return self.root / "cache"

    # ---- reading ----------------------------------------------------------------------------------------------------

    def folder(self, run: str) -> Path:
        """The folder of a run. Raises UnknownRun."""
        if not RUN_ID.fullmatch(run) or not (self.root / "runs" / run / "config.json").is_file():
            raise no_such_run(run)
        return self.root / "runs" / run

    def record(self, run: str) -> RunRecord:
        """What is known of a run now, also where its folder is gone. Raises UnknownRun."""
        text = self._database.get(f"run/{run}", retry=True) if RUN_ID.fullmatch(run) else None
        if text is None:
            raise no_such_run(run)
        return RunRecord.model_validate_json(text)

    def records(self) -> list[RunRecord]:
        """The records of all runs, the newest first."""
        found = []
        for name in list(self._database):
            if name.startswith("run/") and (text := self._database.get(name, retry=True)) is not None:
                found.append(RunRecord.model_validate_json(text))
        return sorted(found, key=lambda record: (record.submitted, record.run), reverse=True)

    def active(self) -> list[RunRecord]:
        """The records of the runs that are queued or running, in the order in which they were queued."""
        found = []
        for run in self._active():
            with contextlib.suppress(UnknownRun):
                found.append(self.record(run))
        return found

    def known_by_key(self, key: str) -> RunRecord | None:
        """The run that `submit` would find for a configuration of this key, finished or not; None where none is."""
        run = self._database.get(f"key/{key}", retry=True)
        try:
            return None if run is None else self.record(run)
        except UnknownRun:
            return None

    def config(self, run: str) -> RunConfig:
        """The configuration of a run, also where not all that it names is installed here (any more).

        Raises:
            UnknownRun: There is no such run.
            ConfigError: This version of the lab cannot read the configuration.
        """
        return parse_json((self.folder(run) / "config.json").read_bytes(), stored=True)

    # ---- changing ---------------------------------------------------------------------------------------------------

    def at_once(self) -> contextlib.AbstractContextManager[None]:
        """A block whose changes others see all together, when it ends; until then whoever else changes records waits.

        Where the block raises, none of its records is changed.
        """
        return self._transaction()

    def change(self, run: str, **changes: Any) -> RunRecord:
        """Overwrite some fields of a record, and leave the others as they are at this moment.

        Only whoever holds the right to it changes a record: the queue while nobody writes the run, else its writer.

        Returns:
            The record as it is now.

        Raises:
            UnknownRun: There is no such run, or it was deleted meanwhile.
        """
        with self._transaction():
            return self._put(self.record(run).model_copy(update=changes))

    def delete(self, run: str) -> None:
        """Remove a run for good: record, folder, and the way to it from its configuration.

        The folder is put out of sight in one step, so that a crash in the middle leaves no half run.

        Raises:
            Busy: Somebody writes the run.
            UnknownRun: There is no such run.
        """
        try:
            lock = take_lock(self.folder(run) / "lock")
        except Busy:
            raise Busy(f"Run {run} is running; stop it first, then delete it.") from None
        try:
            with self._transaction():
                record = self.record(run)
                self._database.delete(f"run/{run}", retry=True)
                self._set_active([other for other in self._active() if other != run])
                if self._database.get(f"key/{record.key}", retry=True) == run:
                    self._database.delete(f"key/{record.key}", retry=True)
            gone = self.root / "cache" / f"deleted-{run}"
            os.replace(self.root / "runs" / run, gone)
            shutil.rmtree(gone, ignore_errors=True)
        finally:
            os.close(lock)

    def free_id(self, run: str) -> str:
        """Return `run` where it can be an ID and no run has it, else an ID that is new."""
        taken = (self.root / "runs" / run).exists() if RUN_ID.fullmatch(run) else True
        return new_id(run[-11:-5]) if taken else run

    def take_in(self, record: RunRecord, folder: Path) -> None:
        """Make a prepared folder a run, in one step.

        Args:
            record: The record of the new run, under an ID that `free_id` gave.
            folder: A whole run's folder on the same disk; it is moved.

        Raises:
            OSError: The ID was taken meanwhile, or the system refuses.
        """
        with self._transaction():
            os.rename(folder, self.root / "runs" / record.run)
            self._put(record)

    # ---- for the parts of the store ---------------------------------------------------------------------------------

    def _put(self, record: RunRecord) -> RunRecord:
        """Overwrite a record, and keep the list of active runs in step."""
        with self._transaction():
            self._database.set(f"run/{record.run}", record.model_dump_json(), retry=True)
            active = self._active()
            if record.active != (record.run in active):
                (active.append if record.active else active.remove)(record.run)
                self._set_active(active)
        return record

    def _active(self) -> list[str]:
        """The IDs of active runs: one small value to read, however many runs are finished."""
        return json.loads(self._database.get("active", "[]", retry=True))  # type: ignore[no-any-return]

    def _set_active(self, runs: list[str]) -> None:
        self._database.set("active", json.dumps(runs), retry=True)

    def _transaction(self) -> contextlib.AbstractContextManager[None]:
        """A block in which all other writers wait. It may stand inside another one of the same thread."""
        return self._database.transact(retry=True)  # type: ignore[no-any-return]


def new_id(hint: str) -> str:
    """An ID that no run has: it sorts by time, and its middle (of `hint`, hexadecimal) says a little of what it is."""
    hint = "".join(letter for letter in hint if letter in "0123456789abcdef")
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{hint or 'run'}-{secrets.token_hex(2)}"
