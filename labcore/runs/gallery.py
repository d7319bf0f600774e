"""Recorded runs that ship with the lab: files of the folder `gallery/`, read in place and never changed.

    gallery/ID.zip     recorded.json  config.json  result.json  events.jsonl  maps/K/STEP-….npz

Laws:

- A recorded run is asked for by its ID, which begins with `gallery-`, and is then as any run that is over. It is in no
  list of the store's runs, answers to no configuration, and lies in no store: also one that cannot be written shows it.
- A file is a stranger's until it has been checked as an import is. What is cut short, foreign or missing is told in a
  sentence, and the others are as they were.
- A recording whose key is not the one that its configuration has today is hidden.
"""

import atexit
import re
import shutil
import tempfile
import threading
import time
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

from labcore.configs.base import ConfigError, Frozen
from labcore.configs.recordings import RECORDINGS, Recording
from labcore.configs.units import count_of
from labcore.runs import map_files, zips
from labcore.runs.errors import UnknownRun, no_such_run
from labcore.runs.records import RECORDED, Records, RunRecord
from labcore.runs.results import Fold
from labcore.runs.unpacking import MOST_FILES, unpack
from labcore.runs.zips import ZipError

FOLDER = Path(__file__).parents[2] / "gallery"
LARGEST = 300_000  # bytes of a file
FACTS = "recorded.json"
_MEMBERS = re.compile(rf"recorded\.json|config\.json|result\.json|events\.jsonl|{map_files.PATH.pattern}")
_UNPACKED = 32 << 20  # bytes that a file may unpack to
_LONGEST_FACTS = 1 << 14


class Facts(Frozen):
    """Where a recorded run comes from: its key when it was trained, the machine, the day, and what repeats it."""

    key: str
    machine: str
    date: str
    versions: dict[str, str]
    command: str

    @classmethod
    def of(cls, recording: Recording, key: str, fold: Fold) -> "Facts":
        """Those of a run of this key. Raises ValueError where its events do not end."""
        started, ended = fold.started, fold.ended
        if started is None or ended is None:
            raise ValueError("not ended")
        return cls(
            key=key,
            machine=f"{started.device_name} ({started.device}, {count_of(started.threads, 'thread')})",
            date=time.strftime("%Y-%m-%d", time.gmtime(ended.time)),
            versions=started.versions,
            command=recording.command,
        )

    @property
    def words(self) -> str:
        """`recorded on 2026-11-28, on …`."""
        return f"recorded on {self.date}, on {self.machine}"


class _Opened(NamedTuple):
    """A recorded run that was checked: the file it was read from, by its time and size, and the run's own folder."""

    stamp: tuple[int, int]
    folder: Path
    record: RunRecord
    facts: Facts


class Stale(UnknownRun):
    """A recording is of an earlier version of the lab."""


class Missing(UnknownRun):
    """A recording is not there."""


class Gallery(Records):
    """The records of a store, and beside them the recorded runs, which are found by their IDs alone."""

    def folder(self, run: str) -> Path:
        """The folder of a run. Raises UnknownRun."""
        return opened(run).folder if run.startswith(RECORDED) else super().folder(run)

    def record(self, run: str) -> RunRecord:
        """What is known of a run now, also where its folder is gone. Raises UnknownRun."""
        return opened(run).record if run.startswith(RECORDED) else super().record(run)

    def recorded(self, run: str) -> Facts | None:
        """Where a recorded run comes from; None for a run of the store. Raises UnknownRun."""
        return opened(run).facts if run.startswith(RECORDED) else None

    def recordings(self) -> tuple[list[RunRecord], list[str]]:
        """The recorded runs that can be shown, in the order of their list, and what of the gallery cannot, a sentence
        each."""
        found: list[RunRecord] = []
        wrong: list[str] = []
        stale = missing = 0
        for run in RECORDINGS:
            try:
                found.append(opened(run).record)
            except Stale:
                stale += 1
            except Missing:
                missing += 1
            except UnknownRun as error:
                wrong.append(str(error))
        if missing:
            be, them = ("is", "it") if missing == 1 else ("are", "them")
            wrong.append(f"{count_of(missing, 'recorded run')} {be} not there; `make gallery` trains {them}.")
        if stale:
            be, them = ("is", "it") if stale == 1 else ("are", "them")
            many = count_of(stale, "recorded run")
            wrong.append(f"{many} of an earlier version of the lab {be} hidden; `make gallery` trains {them} anew.")
        there = sorted(path.name for path in FOLDER.glob("*.zip"))
        wrong += [
            f"The file {name} is not listed by this lab, and is left alone."
            for name in there
            if name.removesuffix(".zip") not in RECORDINGS
        ]
        return found, wrong


_lock = threading.Lock()
_known: dict[Path, _Opened] = {}


def opened(run: str) -> _Opened:
    """A recorded run, unpacked once for each time that its file changed. Raises UnknownRun, with a sentence."""
    recording = RECORDINGS.get(run)
    if recording is None:
        raise no_such_run(run)
    path = FOLDER / f"{run}.zip"
    try:
        status = path.stat()
    except OSError:
        raise Missing(f"The recorded run {run} is not there; `make gallery` trains it.") from None
    stamp = status.st_mtime_ns, status.st_size
    with _lock:
        known = _known.get(path)
        if known is None or known.stamp != stamp or not (known.folder / "config.json").is_file():
            known = _known[path] = _unpacked(run, recording, path, stamp)
    if known.facts.key != recording.key:
        raise _stale(run)
    return known


def _unpacked(run: str, recording: Recording, path: Path, stamp: tuple[int, int]) -> _Opened:
    """Check a file of the gallery as an import is checked, and lay its run out in a folder of this process."""
    try:
        here = Path(tempfile.mkdtemp(prefix="reuse-lab-gallery-"))
    except OSError as error:
        raise UnknownRun(f"The recorded run {run} cannot be unpacked ({error.strerror or error}).") from None
    try:
        with zips.opened(path, _MEMBERS, MOST_FILES, _UNPACKED) as file:
            if file.getinfo(FACTS).file_size > _LONGEST_FACTS:
                raise ValueError("longer than any")
            facts = Facts.model_validate_json(file.read(FACTS))
            if facts.key != recording.key:  # before its events, which this version may not understand
                raise _stale(run)
            record, told = unpack(file, here, lambda _: run)
        if record.state != "complete" or record.key != facts.key or facts != Facts.of(recording, facts.key, told):
            raise ValueError("another run's")
    except BaseException as error:
        shutil.rmtree(here, ignore_errors=True)
        if isinstance(error, Stale) or not isinstance(error, _NO_RECORDING):
            raise
        raise UnknownRun(
            f"The recorded run {run} cannot be shown: {path.name} is damaged, or is not of this lab; `make gallery` "
            "trains it anew."
        ) from error
    atexit.register(shutil.rmtree, here, ignore_errors=True)
    changes = {"imported": False, "recorded": True, "submitted": record.started or 0.0}
    return _Opened(stamp, here, record.model_copy(update=changes), facts)


# What reading a stranger's file raises.
_NO_RECORDING = (ConfigError, ZipError, ValueError, KeyError, OSError, EOFError, NotImplementedError, zlib.error,
                 zipfile.BadZipFile)  # fmt: skip


def _stale(run: str) -> Stale:
    return Stale(f"The recorded run {run} is of an earlier version of the lab; `make gallery` trains it anew.")
