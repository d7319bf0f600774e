"""What the store knows of its runs beside their events: one small record each, in a database that all processes share.

    run/ID           RunRecord, as JSON, sealed
    key/KEY          the ID of the run that a configuration of this key is, when it is submitted
    active           the IDs of the runs that are queued or running, in the order of the queue, sealed
    workers          the list of WorkerRecord; `devices` and `starting/DEVICE` beside it (workers.py)

Beside it, a run's folder keeps the record as it was last written (`record.jsonl`), so that the database can be made
anew from the folders (`made_anew`). What is sealed has its digest on a second line: a flipped bit is seen, and what is
damaged is read from the folder.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from pydantic import Field

from labcore.configs.base import ConfigError, Frozen
from labcore.configs.reading import parse_json
from labcore.configs.run import RunConfig
from labcore.runs import files
from labcore.runs.database import Database
from labcore.runs.errors import Busy, StoreError, UnknownRun, no_such_run, unusable
from labcore.runs.events import Event, RunEnded, RunStarted, from_line
from labcore.runs.files import Reserve, digest_of, digest_of_bytes, home, is_held, seal_of, take_lock, write_atomically
from labcore.runs.results import RunResult, State, fold

_FOLDERS = ("runs", "cache", "workers", "records", "weights", "datasets", "explorations")
_FILES = (
    "records/cache.db",
    "records/cache.db-wal",
    "records/cache.db-shm",
    "settings.json",
    "reserve",
    "records.lock",
)

# How the IDs of recorded runs begin, which ship with the lab (gallery.py) and lie in no store.
RECORDED = "gallery-"
RUN_ID = re.compile(rf"(?!{RECORDED})[a-z0-9][a-z0-9-]{{0,63}}")


class Process(Frozen):
    """A process that is this one and no later one of the same number: `created` is its start in Unix seconds."""

    pid: int
    created: float

    @classmethod
    def me(cls) -> "Process":
        """The calling process."""
        return cls(pid=os.getpid(), created=psutil.Process().create_time())

    def memory(self) -> int:
        """How many bytes it holds; 0 where it is not seen from here. Whether it lives, its lock alone can tell."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1
            return int(process.memory_info().rss) if same else 0
        except psutil.Error:
            return 0


class Loss(Frozen):
    """How a worker was lost that wrote a run: by which signal or exit status (empty where nobody was told).

    `memory` says that the system is known to have run out of it.
    """

    process: Process | None
    how: str = ""
    memory: bool = False


class Names(Frozen):
    """What a run's configuration names, so that a list of many runs need read no configurations."""

    method: str
    backbone: str
    tasks: tuple[str, ...]

    @classmethod
    def of(cls, config: RunConfig) -> "Names":
        """Those of a configuration."""
        return cls(method=config.method.name, backbone=config.backbone.name, tasks=config.task_names)


class RunRecord(Frozen):
    """What the store knows of a run beside its events. Times are Unix seconds.

    `owner` is the process that writes the run while it runs. `is_held` says whether a process held the run's lock when
    the record was read, which is asked of active runs alone and stands in no file. `lost_attempts` counts how many
    attempts before this one lost their worker in a row and left no newer checkpoint; `checkpoint` says when the one
    that this attempt began with was written, in nanoseconds, and is 0 where there was none. `times_lost` counts all the
    lost workers of the run, `loss` tells of the last one, and `memory_kills` is the system's count when this attempt
    began (`losses.memory_kills`). A `fresh` run reads no stored stage, and the arrays of a `pinned` one are never
    evicted. `asked_by` names the experiment that queued it; it is empty where a person did, for the run alone. A
    `recorded` one ships with the lab and is never changed. `digest` is the BLAKE2b (hexadecimal) of its events as they
    were when it was over; None before, and for runs of before there were digests. `config_digest` is that of its
    `config.json`; None for runs of before it was kept. `names` is None in records of before there were names, until a
    worker has come up (see `Records.names`). The last four fields are the result's in short: see `summary`.
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
    times_lost: int = 0
    loss: Loss | None = None
    memory_kills: tuple[int, int] | None = None
    owner: Process | None = None
    is_held: bool = Field(default=False, exclude=True)
    error: str | None = None
    imported: bool = False
    recorded: bool = False
    fresh: bool = False
    pinned: bool = False
    asked_by: str = ""
    digest: str | None = None
    config_digest: str | None = None
    names: Names | None = None
    average_accuracy: float | None = None
    forgetting: float | None = None
    train_seconds: float | None = None
    energy_wh: float | None = None

    @property
    def lost(self) -> bool:
        """Whether it should be running and nobody has the right to write it: its worker is gone."""
        return self.state == "running" and not self.is_held

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


class Records:
    """Which runs there are: their records, folders and configurations.

    Laws:

    - A record changes in a transaction that all threads and processes wait for, so nobody sees half a change, and a
      change that was read for (`change`) never undoes another's.
    - The list of active runs is in step with the records at every moment.
    - A record that was read is a value: it does not change when the store does.
    - What is not the ID of a run, `../` and the like included, is an unknown run to every method, and never a path.
    - A run is there where its folder is. The folder comes before the record and goes before it, and what is written
      into the folder's `record.jsonl` is written before the database has it. So whoever is killed in between leaves a
      folder without a record, which whoever opens the store next takes in as it stands; or a record without a folder,
      which was being deleted, and goes; or a `record.jsonl` that is ahead of the record. Then the record counts, and
      the next change overwrites the file; where the database is lost first, the file is what is made of it.

    Attributes:
        root: The folder of the store, made on first use for its owner alone (0700). A folder that was there before
            keeps its own mode, and what the store has in it is for its owner alone all the same.
        reserve: A megabyte of the disk for the last words of a run, and for opening and deleting on a full one.
    """

    def __init__(self, root: Path | None = None) -> None:
        """Open the store at `root`, by default at `files.home()`. Raises StoreError where it can be neither written
        nor read."""
        self.root = (root or home()).expanduser().absolute()
        self.reserve = Reserve(self.root / "reserve")
        self._own = threading.local()  # the records that a thread's transaction has changed
        # What was read, so that it is read again only where it was changed: of each record its text; and the last list,
        # with the places in it of those that are active.
        self._read: dict[str, tuple[str, RunRecord]] = {}
        self._listed: tuple[object, list[RunRecord], list[int]] | None = None
        self._names: dict[str, Names] = {}
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("runs", "cache", "workers", "records"):
                with contextlib.suppress(OSError):  # on a full disk, or one that can only be read
                    (self.root / name).mkdir(mode=0o700, exist_ok=True)
            if not (self.root / "runs").is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "there is no folder of runs, and none can be made")
        except OSError as error:
            raise unusable(self.root, error) from None
        self._database = Database(self.root, self._fill, self.reserve)
        self._database.open()
        if self.read_only is None:
            self.reserve.keep()
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
    def read_only(self) -> str | None:
        """Why nothing in the store can be changed, in the system's words; None where it can."""
        return self._database.read_only

    @property
    def notes(self) -> list[str]:
        """What was found damaged and put right within the last hour, a sentence each."""
        return self._database.notes

    @property
    def cache(self) -> Path:
        """The folder for what can be made again."""
        return self.root / "cache"

    # ---- reading ----------------------------------------------------------------------------------------------------

    def folder(self, run: str) -> Path:
        """The folder of a run. Raises UnknownRun."""
        folder = self.root / "runs" / run
        if not RUN_ID.fullmatch(run) or not (folder / "config.json").is_file():
            raise no_such_run(run)
        return folder

    def record(self, run: str) -> RunRecord:
        """What is known of a run now, also where its folder is gone. Raises UnknownRun."""
        if not RUN_ID.fullmatch(run):
            raise no_such_run(run)
        found = self._row(run)
        if found is None and (found := self._from_folder(run)) is not None:
            self._put_right(found)
        if found is None:
            raise no_such_run(run)
        return self._asked(found)

    def records(self) -> list[RunRecord]:
        """The records of all runs, the newest first; read again only where anything has changed."""
        stamp = self._database.stamp()
        # A folder without a record changes no record, but the time of the folder that it is in.
        state = None if stamp is None else (stamp, (self.root / "runs").stat().st_mtime_ns)
        known = self._listed
        if known is None or state is None or known[0] != state:
            found = self._read_all()
            known = self._listed = state, found, [place for place, record in enumerate(found) if record.active]
        _, listed, active = known
        listed = listed.copy()
        for place in active:
            listed[place] = self._asked(listed[place])
        return listed

    def _read_all(self) -> list[RunRecord]:
        """The records of all runs, the newest first, without asking who holds a lock."""
        texts = {name.removeprefix("run/"): text for name, text in self._database.texts("run/").items()}
        there = {run: record for run, text in texts.items() if (record := self._parsed(run, text)) is not None}
        for run in (self._folders() | texts.keys()) - there.keys():
            with contextlib.suppress(UnknownRun):
                there[run] = self.record(run)
        for run in self._read.keys() - there.keys():  # deleted since
            self._read.pop(run, None)
            self._names.pop(run, None)
        return sorted(there.values(), key=lambda record: (record.submitted, record.run), reverse=True)

    def active(self) -> list[RunRecord]:
        """The records of the runs that are queued or running, in the order in which they were queued."""
        found = []
        for run in self._active():
            with contextlib.suppress(UnknownRun):
                found.append(self.record(run))
        return found

    def known_by_key(self, key: str) -> RunRecord | None:
        """The run that `submit` would find for a configuration of this key, finished or not; None where none is."""
        run = self._database.get(f"key/{key}")
        try:
            return None if run is None else self.record(run)
        except UnknownRun:
            return None

    def config(self, run: str) -> RunConfig:
        """The configuration of a run, also where not all that it names is installed here (any more).

        Raises:
            UnknownRun: There is no such run.
            ConfigError: The file is not what was written, or this version of the lab cannot read it.
        """
        text = (self.folder(run) / "config.json").read_bytes()
        config = parse_json(text, stored=True)
        record = self._row(run)
        if record is not None and record.config_digest not in (None, digest_of_bytes(text)):
            raise ConfigError(
                "config.json is not what was written; `python -m labcore check --repair` restores it from the run's "
                "events, where these are whole. Else delete the run, and start it again."
            )
        return config

    def names(self, record: RunRecord) -> Names:
        """What a run's configuration names: as its record says, or from its configuration, which is then read once.

        Raises:
            UnknownRun: There is no such run.
            ConfigError: This version of the lab cannot read the configuration.
        """
        found = record.names or self._names.get(record.run)
        if found is None:
            found = self._names[record.run] = Names.of(self.config(record.run))
        return found

    # ---- changing ---------------------------------------------------------------------------------------------------

    def at_once(self) -> contextlib.AbstractContextManager[None]:
        """A block whose changes others see all together, when it ends; until then whoever else changes records waits.

        Where the block raises, none of its records is changed.
        """
        return self._transaction()

    def change(self, run: str, **changes: Any) -> RunRecord:
        """Overwrite some fields of a record, and leave the others as they are at this moment.

        It is written into the run's folder, too, when the transaction ends.

        Only whoever holds the right to it changes a record: the queue while nobody writes the run, else its writer.

        Returns:
            The record as it is now.

        Raises:
            UnknownRun: There is no such run, or it was deleted meanwhile.
            ConfigError: It is a recorded one.
        """
        with self._transaction():
            return self._put(self.own(run).model_copy(update=changes))

    def own(self, run: str) -> RunRecord:
        """The record of a run of this store, which may be changed. Raises UnknownRun, and ConfigError for a recorded
        run."""
        record = self.record(run)
        _require_own(run)
        return record

    def answer_with(self, record: RunRecord) -> None:
        """Let `submit` find this run for its configuration, unless there is another one that it finds."""
        with self._transaction():
            known = self._database.get(f"key/{record.key}")
            if known is None or not (self.root / "runs" / known / "config.json").is_file():
                self._database.set(f"key/{record.key}", record.run)

    def delete(self, run: str) -> None:
        """Remove a run for good: record, folder, and the way to it from its configuration.

        The folder is put out of sight in one step, so that a crash in the middle leaves no half run.

        Raises:
            Busy: Somebody writes the run.
            UnknownRun: There is no such run.
            ConfigError: It is a recorded one.
        """
        self._database.make_room()
        folder = self.folder(run)
        _require_own(run)
        try:
            lock = self.reserve.give_for(lambda: take_lock(folder / "lock"))
        except Busy:
            raise Busy(f"Run {run} is running; stop it first, then delete it.") from None
        try:
            gone = self.root / "cache" / f"deleted-{run}-{secrets.token_hex(4)}"
            files.about_to_write(gone)
            self.reserve.give_for(lambda: os.replace(folder, gone))
            shutil.rmtree(gone, ignore_errors=True)  # first of all: on a full disk this is what makes room
            with contextlib.suppress(OSError):
                (self.cache / "folds" / f"{run}.json").unlink(missing_ok=True)
            # On a disk that is still full the record stays, and goes when the store is next opened.
            with contextlib.suppress(OSError, StoreError):
                if self._database.make_room():
                    self.reserve.give_for(lambda: self._forget(run))
        finally:
            os.close(lock)

    def _forget(self, run: str) -> None:
        """Remove what the database knows of a run."""
        with self._transaction():
            record = self._row(run)
            self._database.delete(f"run/{run}")
            self._set_active([other for other in self._active() if other != run])
            if record is not None and self._database.get(f"key/{record.key}") == run:
                self._database.delete(f"key/{record.key}")

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
            Busy: The ID was taken meanwhile, as by somebody who takes in the same run.
            OSError: The system refuses.
        """
        write_atomically(folder / "record.jsonl", _sealed(record.model_dump_json()).encode())
        with self._transaction():
            place = self.root / "runs" / record.run
            if place.exists():
                raise Busy(f"There is a run {record.run} by now.")
            files.about_to_write(place)
            os.rename(folder, place)
            self._own.undo.append(lambda: os.rename(place, folder))
            self._put(record)

    # ---- for the parts of the store ---------------------------------------------------------------------------------

    def _asked(self, record: RunRecord) -> RunRecord:
        """The record, and whether somebody holds the run's lock now."""
        held = record.active and is_held(self.root / "runs" / record.run / "lock")
        return record.model_copy(update={"is_held": held})

    def _put(self, record: RunRecord) -> RunRecord:
        """Overwrite a record, and keep the list of active runs in step."""
        with self._transaction():
            self._own.changed[record.run] = record
            active = self._active()
            self._database.set(f"run/{record.run}", _sealed(record.model_dump_json()))
            if record.active != (record.run in active):
                (active.append if record.active else active.remove)(record.run)
                self._set_active(active)
        return record

    def _active(self) -> list[str]:
        """The IDs of active runs: one small value to read, however many runs are finished.

        Where it is missing or damaged, it is made anew, and written where that can be.
        """
        found = self._active_as_listed()
        if found is None:
            with contextlib.suppress(OSError, StoreError), self._transaction():
                if (found := self._active_as_listed()) is None:
                    found = self._active_by_records()
                    self._set_active(found)
        return self._active_by_records() if found is None else found

    def _active_as_listed(self) -> list[str] | None:
        with contextlib.suppress(ValueError):
            found = json.loads(_unsealed(self._database.get("active") or ""))
            if isinstance(found, list) and all(isinstance(run, str) for run in found):
                return found
        return None

    def _active_by_records(self) -> list[str]:
        """The same, read from every record: the order of the queue is then that in which the runs were first queued."""
        found = [record for run in self._runs_known() if (record := self._row(run)) is not None and record.active]
        return [record.run for record in sorted(found, key=lambda record: (record.submitted, record.run))]

    def _set_active(self, runs: list[str]) -> None:
        self._database.set("active", _sealed(json.dumps(runs)))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """A block in which all other writers wait. It may stand inside another one of the same thread.

        At its end the records that it changed are written into their folders, and then the database has them. Where it
        raises, neither has, as what was written into the folders is taken back, and the folders that it made are gone.
        Raises StoreError, and OSError where the disk refuses.
        """
        if getattr(self._own, "changed", None) is not None:
            yield
            return
        changed: dict[str, RunRecord] = {}
        undo: list[Callable[[], None]] = []
        try:
            with self._database.transact():
                self._own.changed, self._own.undo = changed, undo
                yield
                # Where nothing can be written, what is filled is a copy of the database, and of that alone.
                for run, record in changed.items() if self.read_only is None else ():
                    undo.append(self._as_written_down(run))
                    self._write_down(run, record)
        except BaseException:
            for step in reversed(undo):
                with contextlib.suppress(OSError):
                    step()
            raise
        finally:
            self._own.changed = None

    def _as_written_down(self, run: str) -> Callable[[], None]:
        """What puts the file of a run's record back as it is now."""
        path = self.root / "runs" / run / "record.jsonl"
        try:
            before = path.read_bytes()
        except OSError:
            return lambda: path.unlink(missing_ok=True)
        return lambda: self.reserve.give_for(lambda: write_atomically(path, before))

    def _write_down(self, run: str, record: RunRecord) -> None:
        """Write a record into its run's folder, if that is still there. To be called in a transaction alone."""
        folder = self.root / "runs" / run
        if folder.is_dir():
            for left in folder.glob(".record.jsonl.*"):  # of a process that died: we alone write it now
                left.unlink(missing_ok=True)
            write_atomically(folder / "record.jsonl", _sealed(record.model_dump_json()).encode())

    # ---- what is damaged --------------------------------------------------------------------------------------------

    def _row(self, run: str) -> RunRecord | None:
        """The record that the database has of a run; None where it has none, or a damaged one."""
        return self._parsed(run, self._database.get(f"run/{run}"))

    def _parsed(self, run: str, text: str | None) -> RunRecord | None:
        """The record that a text of the database is; None where it is none, or damaged."""
        known = self._read.get(run)
        if known is not None and known[0] == text:
            return known[1]
        if text is None:
            return None
        with contextlib.suppress(ValueError):
            record = RunRecord.model_validate_json(_unsealed(text))
            if record.run == run and RUN_ID.fullmatch(run):
                self._read[run] = text, record
                return record
        return None

    def _runs_known(self) -> set[str]:
        """The IDs of which the database has a record, damaged or not."""
        names = (name.removeprefix("run/") for name in self._database if name.startswith("run/"))
        return {name for name in names if RUN_ID.fullmatch(name)}

    def _folders(self) -> set[str]:
        """The IDs that have a folder."""
        return {name for name in os.listdir(self.root / "runs") if RUN_ID.fullmatch(name)}

    def _from_folder(self, run: str) -> RunRecord | None:
        """The record of a run as its folder tells it; None where no run is there."""
        folder = self.root / "runs" / run
        return made_anew(folder) if (folder / "config.json").is_file() else None

    def _put_right(self, record: RunRecord) -> None:
        """Write down a record that was missing or damaged, where it can be, and say so."""
        with contextlib.suppress(OSError, StoreError), self._transaction():
            if self._row(record.run) is None and (self.root / "runs" / record.run).is_dir():
                self._take_back(record)
                self._database.note(
                    f"The record of run {record.run} was missing or damaged; it was made anew from the run's folder."
                )

    def _take_back(self, record: RunRecord) -> None:
        self._put(record)
        if not (record.imported or record.fresh):
            self.answer_with(record)

    def _fill(self) -> None:
        """Take in what the folders hold and the database does not; forget the runs whose folders are gone."""
        known, folders = self._runs_known(), self._folders()
        self._active()
        if known == folders:
            return
        found = [record for run in folders - known if (record := self._from_folder(run)) is not None]
        if not found and not known - folders:
            return
        with self._transaction():
            for record in sorted(found, key=lambda record: (record.submitted, record.run)):
                if self._row(record.run) is None and (self.root / "runs" / record.run).is_dir():
                    self._take_back(record)
            for run in known - folders:
                if not (self.root / "runs" / run).exists():
                    self._forget(run)
                    if not self.read_only:
                        self._database.note(f"Run {run}: its folder is gone, so its record was removed.")
        if found and self.read_only:
            self._database.damage = self._database.damage or "they do not tell all that lies in runs/"
        elif found:
            many = f"Run {found[0].run} had" if len(found) == 1 else f"{len(found)} runs had"
            self._database.note(f"{many} no record; it was made anew from what lies in runs/.")


def _require_own(run: str) -> None:
    if run.startswith(RECORDED):
        raise ConfigError(
            f"{run} is a recorded run that ships with the lab: it can be looked at and exported, but neither changed, "
            "stopped, resumed nor deleted."
        )


def made_anew(folder: Path) -> RunRecord | None:
    """The record of a run as its folder tells it: what was last written down, and how its events end.

    A run of which no record can be read counts as imported, because nobody knows who computed it. One that has no
    events either had not begun to be trained: it is stopped, and a person may resume it.

    Returns:
        The record; None where neither a record, be it a damaged one, nor an event is in the folder: then nobody was
        told of the run.
    """
    written = _written_down(folder)
    if written is not None and written.state != "running":
        return written
    events = _events(folder)
    begun = next((event for event in reversed(events) if isinstance(event, RunStarted)), None)
    ended = events[-1] if events and isinstance(events[-1], RunEnded) else None
    if written is None:
        if not events and not (folder / "record.jsonl").exists():
            return None
        written = RunRecord(
            run=folder.name,
            key=_key(folder),
            state="stopped" if ended is None else ended.state,
            device="auto",
            submitted=events[0].time if events else folder.stat().st_mtime,
            started=events[0].time if events else None,
            ended=events[-1].time if events else None,
            attempt=max((event.attempt for event in events), default=0),
            error=ended.error if ended else None,
            imported=True,
            config_digest=_digest_of_config(folder, begun),
            names=_names(folder),
        )
        return written.model_copy(update=_figures(written, begun, events))
    if written.state == "running" and ended is not None and ended.attempt == written.attempt:
        # Its worker was killed after the last event, before it could write down that the run is over.
        over: dict[str, object] = {"state": ended.state, "owner": None, "ended": ended.time, "error": ended.error}
        with contextlib.suppress(OSError):
            over["digest"] = digest_of(folder / "events.jsonl")
        written = written.model_copy(update={**over, **_figures(written, begun, events)})
    return written


def _written_down(folder: Path) -> RunRecord | None:
    with contextlib.suppress(OSError, ValueError):
        with (folder / "record.jsonl").open("rb") as file:
            record = RunRecord.model_validate_json(_unsealed(file.read(1 << 16).decode()))
        return record if record.run == folder.name else None
    return None


def _sealed(text: str) -> str:
    """A line of text, and its digest on the next."""
    return f"{text}\n{json.dumps(seal_of(text))}\n"


def _unsealed(text: str) -> str:
    """The line that was sealed; one from before there were seals as it is. Raises ValueError where it was changed."""
    line, _, rest = text.partition("\n")
    if rest and _sealed(line) != text:
        raise ValueError("not what was written")
    return line


def _events(folder: Path) -> list[Event]:
    """The events of a run, as far as they can be read."""
    events: list[Event] = []
    with contextlib.suppress(OSError):
        for line in (folder / "events.jsonl").read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                events.append(from_line(line))
    return events


def _figures(record: RunRecord, begun: RunStarted | None, events: list[Event]) -> dict[str, float | None]:
    if begun is None:
        return {}
    return summary(fold(events).result(record.run, record.state, begun.config.model_dump(mode="json")))


def _key(folder: Path) -> str:
    """The key of a run's configuration; empty where this lab cannot tell it."""
    try:
        return parse_json((folder / "config.json").read_bytes(), stored=True).key()
    except (OSError, ConfigError, LookupError):
        return ""


def _digest_of_config(folder: Path, begun: RunStarted | None) -> str | None:
    """The digest of a configuration that is what the run began with; one that nothing confirms is not sealed."""
    with contextlib.suppress(OSError, ConfigError):
        text = (folder / "config.json").read_bytes()
        if begun is not None and parse_json(text, stored=True) == begun.config:
            return digest_of_bytes(text)
    return None


def _names(folder: Path) -> Names | None:
    try:
        return Names.of(parse_json((folder / "config.json").read_bytes(), stored=True))
    except (OSError, ConfigError):
        return None


def new_id(hint: str) -> str:
    """An ID that no run has: it sorts by time, and its middle (of `hint`, hexadecimal) says a little of what it is."""
    hint = "".join(letter for letter in hint if letter in "0123456789abcdef")
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{hint or 'run'}-{secrets.token_hex(2)}"
