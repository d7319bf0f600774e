"""A run in a zip, to take away and to bring back.

    config.json  result.json  events.jsonl  stages/K/network.safetensors  stages/K/method.safetensors
    maps/K/STEP-….npz

A zip that comes in is a stranger's until every part of it has been checked. What costs least comes first: its directory
(zips.py), then its texts, whose sizes and lines are counted before any of it is understood, and last its arrays, one by
one, each checked as soon as it is there. Nothing becomes visible before all of it is whole. And what goes out is looked
at again: a run's events name its maps, and whoever wrote them may have named another file.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from labcore.configs.base import ConfigError
from labcore.configs.reading import parse_json
from labcore.configs.run import RunConfig
from labcore.runs import feature_maps, map_files, zips
from labcore.runs.errors import Busy, unusable
from labcore.runs.events import (
    Answered,
    Downloading,
    Evaluated,
    Event,
    FootprintMeasured,
    MapSaved,
    PhaseStarted,
    PicturesChosen,
    Predicted,
    RunEnded,
    RunStarted,
    StageEnded,
    StageStarted,
    StepLogged,
    Unreadable,
    Waiting,
    Warned,
    from_line,
    to_line,
)
from labcore.runs.files import atomic_path, digest_of
from labcore.runs.map_files import MapError
from labcore.runs.records import Names, RunRecord, summary
from labcore.runs.results import Fold, RunResult
from labcore.runs.stage_cache import StageCache
from labcore.runs.store import Store
from labcore.runs.zips import Zip, ZipError

_ARRAYS = re.compile(r"stages/([1-9][0-9]{0,2})/(network|method)\.safetensors")
_MEMBERS = re.compile(rf"config\.json|result\.json|events\.jsonl|{_ARRAYS.pattern}|{map_files.PATH.pattern}")
LARGEST_IMPORT = 16 << 30
# Of what a zip may unpack to, for each byte that it has: weights hardly become smaller, events by ten, empty masks by a
# thousand, but they are the smallest part of a run.
UNPACKS, UNPACKS_ALWAYS = 100, 64 << 20
# Two files of arrays a stage, and maps at eight moments a phase and at a stage's end: 7,000 for 254 stages of 3 phases.
MOST_FILES = 10_000
# A step in ten is told, so half of these are a million steps, with a third of the bytes. The rest is for the answers to
# single pictures: of 32 jobs, at nine looks in each of 254 stages, and for a thousand test pictures of each at its end.
# An attempt is one more start after a kill or a stop.
MOST_EVENTS, LARGEST_EVENTS = 200_000, 96 << 20
MOST_ATTEMPTS = 1_000
# The configuration of 254 tasks has 25 KB, their two matrices 3.6 MB, the event that names them and their classes 0.4,
# any other event with a figure for each of them less than 10 KB, and one with a class for each picture up to 64.
LARGEST_TEXTS = {"config.json": 1 << 20, "result.json": 4 << 20, "events.jsonl": LARGEST_EVENTS}
_LONGEST_START, _LONGEST_EVENT = 1 << 20, 64 << 10
_MOST_BRACKETS = 5_000  # in a configuration and in a result; more of them in little text would fill the memory
_MOST_TERMS = 64  # of a loss, purposes of what is kept, or phases of a stage
# Of 70,000 tensors: EWC's for two hundred tasks.
_LONGEST_HEADER = 8 << 20
_CHUNK = 1 << 20


# ---- going out -------------------------------------------------------------------------------------------------------


class Exported(NamedTuple):
    """What a zip does without.

    Attributes:
        missing: The stages whose arrays are no longer stored.
        damaged: Those whose arrays are damaged.
        damaged_maps: How many maps are damaged.
    """

    missing: list[int]
    damaged: list[int]
    damaged_maps: int


def export_run(store: Store, run: str, path: Path) -> Exported:
    """Write a run that is over to a zip, whole or not at all. It holds files of the run's own folder alone.

    Args:
        store: The store that the run lives in.
        run: The ID of the run.
        path: The zip to write; it overwrites what is there.

    Returns:
        What the zip does without.

    Raises:
        UnknownRun: There is no such run, or it was deleted meanwhile.
        ConfigError: The run is not over, its events are damaged, or the path cannot be written.
    """
    record, folder = store.record(run), store.folder(run)
    if record.active:
        raise ConfigError(f"Run {run} is {record.state}; it can be exported when it is over.")
    told = store.fold(run)
    if (why := store.damage(run, told)) is not None:
        raise ConfigError(f"{why} It was not exported, as no lab could import it.")
    result = store.result(run)
    arrays = [
        name
        for path in sorted(folder.glob("stages/*/*.safetensors"))
        if _ARRAYS.fullmatch(name := str(path.relative_to(folder))) and _is_own(folder, name)
    ]
    maps = [saved.path for saved in told.maps if map_files.PATH.fullmatch(saved.path) and _is_own(folder, saved.path)]
    # What no lab could import stays here.
    unread = {name for name in arrays + maps if _why_not(folder / name, name) is not None}
    of_stages = {int(part[1]) for name in unread if (part := _ARRAYS.fullmatch(name))}
    damaged = sorted({*StageCache(store).spoilt([run]).get(run, []), *of_stages})
    missing = [number for number, stage in enumerate(result.stages, 1) if not stage.weights and number not in damaged]
    stages = (
        stage.model_copy(update={"weights": stage.weights and number not in damaged})
        for number, stage in enumerate(result.stages, 1)
    )
    result = result.model_copy(update={"stages": tuple(stages)})
    try:
        with (
            atomic_path(path.absolute()) as temporary,
            # Files of a disk whose clock was wrong may be from before a zip can say.
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1, strict_timestamps=False) as file,
        ):
            file.writestr("config.json", store.config(run).model_dump_json(indent=2))
            file.writestr("result.json", json.dumps(result.model_dump(mode="json"), indent=2, allow_nan=False))
            file.writestr("events.jsonl", b"".join(to_line(event) for event in store.tail(run)[0]))
            for name in arrays:
                if not any(name.startswith(f"stages/{stage}/") for stage in damaged):
                    file.write(folder / name, name)
            for name in maps:
                if name not in unread:
                    file.write(folder / name, name, zipfile.ZIP_STORED)
            store.folder(run)  # what was deleted meanwhile is not whole
    except OSError as error:
        store.folder(run)  # where the run was deleted meanwhile, that is what is wrong
        if error.filename and Path(error.filename).is_relative_to(folder):
            raise ConfigError(f"Run {run} cannot be read: {error.filename}: {error.strerror}.") from None
        raise ConfigError(f"{str(path)!r} cannot be written: {error.strerror}.") from None
    return Exported(missing, damaged, sum(name in unread for name in maps))


def _is_own(folder: Path, name: str) -> bool:
    """Whether a run's folder holds a file of this name itself: neither it nor its folder is a link elsewhere."""
    path = folder / name
    return path.is_file() and path.resolve() == folder.resolve() / name


# ---- coming in -------------------------------------------------------------------------------------------------------


def import_run(store: Store, path: Path, *, largest: int = LARGEST_IMPORT) -> str:
    """Take an exported run into the store.

    Args:
        store: Where the run shall live.
        path: The zip.
        largest: The most bytes that the zip may unpack to.

    Returns:
        The ID of the run: the one that it had where it came from, or a new one where that is taken here.

    Raises:
        ConfigError: The zip is not a whole export of this lab; the sentence says what is wrong with it.
        StoreError: The store cannot be written.
    """
    try:
        largest = min(largest, UNPACKS_ALWAYS + UNPACKS * path.stat().st_size)
        path.open("rb").close()
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from None
    while True:
        with contextlib.suppress(Busy):  # somebody took in the same run just now: it gets another ID
            return _import(store, path, largest)


def _import(store: Store, path: Path, largest: int) -> str:
    """Raises Busy where the ID that was free is taken by now, and otherwise as `import_run` does."""
    here = store.cache / f"import-{secrets.token_hex(8)}"
    try:
        here.mkdir(mode=0o700)
        with zips.opened(path, _MEMBERS, MOST_FILES, largest) as file:
            return _take_in(store, file, here)
    except ZipError as error:
        raise ConfigError(f"{path.name!r} {error}.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ConfigError(f"{path.name!r} is not a zip, or is cut short ({error}).") from None
    except OSError as error:
        raise unusable(store.root, error) from None
    finally:
        shutil.rmtree(here, ignore_errors=True)


def _take_in(store: Store, file: Zip, here: Path) -> str:
    """Unpack an export into the folder `here`, check it, and move it among the runs in one step."""
    names = file.namelist()
    for needed, most in LARGEST_TEXTS.items():
        if needed not in names:
            raise ConfigError(f"The import has no {needed}; it is not an export of this lab.")
        if (size := file.getinfo(needed).file_size) > most:
            raise ConfigError(f"The import's {needed} has {size:,} bytes, and none of this lab more than {most:,}.")
    text = _text(file, "config.json")
    config = parse_json(text, stored=True)
    (here / "config.json").write_bytes(text)
    text = _text(file, "result.json")
    try:
        theirs = RunResult.model_validate_json(text)
    except ValueError:
        raise ConfigError("The import's result.json is not a result of this lab.") from None
    if len(theirs.error or "") > _LONGEST_EVENT:
        raise ConfigError("The import's result.json has an error longer than any of this lab.")
    run = store.free_id(theirs.run)
    told = _Story(config)
    with (here / "events.jsonl").open("wb") as own:
        for event in _events(file):
            told.add(event)
            own.write(to_line(event.model_copy(update={"run": run})))
    first, last = told.ends()
    result = _agreed(theirs, told.fold, last, config)
    for name in names:
        if name not in LARGEST_TEXTS:
            _take_arrays(file, name, here, told)
    for folder, _, _ in os.walk(here):
        with contextlib.suppress(OSError):
            Path(folder).chmod(0o700)
    record = RunRecord(
        run=run,
        key=config.key(),
        state=last.state,
        device="auto",
        submitted=time.time(),
        started=first.time,
        ended=last.time,
        attempt=last.attempt,
        error=result.error,
        imported=True,
        digest=digest_of(here / "events.jsonl"),
        config_digest=digest_of(here / "config.json"),
        names=Names.of(config),
        **summary(result),
    )
    store.take_in(record, here)
    StageCache(store).count_anew()  # with its maps
    return run


def _text(file: Zip, name: str) -> bytes:
    """A text of an import, which is no longer than the directory says. Raises ConfigError where it is a jumble."""
    with file.open(name) as source:
        text = source.read(file.getinfo(name).file_size)
    if text.count(b"[") + text.count(b"{") > _MOST_BRACKETS:
        raise ConfigError(f"The import's {name} holds more lists than any of this lab.")
    return text


def _events(file: Zip) -> Iterator[Event]:
    """An import's events, read line by line, once there are known to be no more than a run tells."""
    with file.open("events.jsonl") as source:
        lines = sum(chunk.count(b"\n") for chunk in iter(lambda: source.read(_CHUNK), b""))
    if lines > MOST_EVENTS:
        raise ConfigError(f"The import has {lines:,} events, and no run of this lab more than {MOST_EVENTS:,}.")
    with file.open("events.jsonl") as source:
        for line in iter(lambda: source.readline(_LONGEST_START), b""):
            try:
                event = from_line(line)
            except ValueError:
                raise ConfigError("The import's events.jsonl holds a line that is no event.") from None
            if len(line) > _LONGEST_EVENT and not isinstance(event, RunStarted):
                raise ConfigError(f"The import has an event of {len(line):,} bytes, which no run of this lab has.")
            yield event


class _Story:
    """An import's events, folded one by one, each held against what a run of this configuration can say.

    Pages and figures take a place in the sequence, a count or a path as the events say it, so all of them are checked
    here.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.fold = Fold()
        self.maps: set[str] = set()
        self._first: Event | None = None
        self._last: Event | None = None

    def add(self, event: Event) -> None:
        """Take the next event. Raises ConfigError where no run would say it here."""
        if isinstance(event, RunStarted) and event.config != self.config:
            raise ConfigError("The import's events are of another configuration than its config.json.")
        try:
            fits = self._fits(event)
        except IndexError:
            fits = False
        self.fold.add(event)
        if not fits and isinstance(event, PicturesChosen | Answered | Predicted):
            raise ConfigError("The import tells answers about pictures or classes that its jobs do not have.")
        if not fits or self.fold.damaged:
            raise ConfigError("The import's events are not the story of a run.")
        if self.fold.attempts > MOST_ATTEMPTS:
            raise ConfigError(f"The import has more than {MOST_ATTEMPTS:,} attempts, which no run of this lab has.")
        if isinstance(event, MapSaved):
            self.maps.add(event.path)
            if len(self.maps) > MOST_FILES:
                raise ConfigError(f"The import tells of more than {MOST_FILES:,} maps, which no run of this lab does.")
        self._first, self._last = self._first or event, event

    def ends(self) -> tuple[Event, RunEnded]:
        """The first event and the last. Raises ConfigError where the last is not the end of a run."""
        if self._first is None or self.fold.started is None or not isinstance(self._last, RunEnded):
            raise ConfigError("The import's events do not end with the end of a run; it is cut short.")
        return self._first, self._last

    def _fits(self, event: Event) -> bool:
        begun, names = len(self.fold.stages), self.config.task_names
        match event:
            case RunStarted():
                return tuple(task.name for task in event.tasks) == tuple(names)
            case StageStarted():
                return event.stage <= begun + 1 and event.stage <= len(names) and event.task == names[event.stage - 1]
            case Downloading() | RunEnded():
                return True
            case Unreadable():
                return False
            case Waiting() | Warned():
                return event.stage <= len(names)
            case StageEnded():
                return event.stage <= begun and event.task == names[event.stage - 1]
            case Evaluated():
                return event.stage <= begun and len(event.accuracy) == len(event.images) == event.stage
            case MapSaved():
                return event.stage <= begun and event.path == map_files.path_of(event.stage, event.step, event.kind)
            case PhaseStarted():
                phases = self.fold.stages[event.stage - 1].phases
                return event.phase in phases or len(phases) < _MOST_TERMS
            case StepLogged():
                return event.stage <= begun and len(event.loss) <= _MOST_TERMS
            case FootprintMeasured():
                return event.stage <= begun and len(event.kept) + len(event.working) <= _MOST_TERMS
            case Answered():
                told = self.fold.stages[event.task - 1].answers if event.task <= begun else []
                in_order = not told or (told[-1].stage, told[-1].step) <= (event.stage, event.step)
                return event.task <= event.stage <= begun and in_order and self.fold.fits(event)
            case Predicted():
                return event.task <= event.stage <= begun and self.fold.fits(event)
            case PicturesChosen():
                return event.stage <= begun and self.fold.fits(event)
        return event.stage <= begun


def _agreed(theirs: RunResult, folded: Fold, ended: RunEnded, config: RunConfig) -> RunResult:
    """The result that the events fold to, which must be the one that the import has."""
    try:
        mine = folded.result(theirs.run, ended.state, config.model_dump(mode="json"), error=theirs.error)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError):
        raise ConfigError("The import's events are not the story of a run.") from None
    # These may differ, because they are of the lab that the run comes from.
    its_own = {"cached", "stages", "run", "carbon_g", "carbon_country"}
    if theirs.model_dump(exclude=its_own) != mine.model_dump(exclude=its_own):
        raise ConfigError("The import's result.json does not agree with its events.")
    return mine


def _take_arrays(file: Zip, name: str, here: Path, told: _Story) -> None:
    """Unpack a file of arrays, of a stage that has ended or of a map that was told of, and check that it is one."""
    of_stage = _ARRAYS.fullmatch(name)
    if of_stage and not any(stage.ended for stage in told.fold.stages[int(of_stage[1]) - 1 :][:1]):
        raise ConfigError(f"The import holds arrays of stage {of_stage[1]}, which its run has not ended.")
    if not of_stage and name not in told.maps:
        raise ConfigError(f"The import holds {name}, of which its events do not tell.")
    path = here / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file.open(name) as source, path.open("wb") as own:
        if of_stage:
            own.write(start := source.read(8))
            if len(start) < 8 or struct.unpack("<Q", start)[0] > _LONGEST_HEADER:
                raise ConfigError(f"The import's {name} is not a safetensors file of this lab.")
        shutil.copyfileobj(source, own, _CHUNK)
    if (why := _why_not(path, name)) is not None:
        raise ConfigError(f"The import cannot be taken in. {why}")


def _why_not(path: Path, name: str) -> str | None:
    """Why a file is not the arrays that its name in a run's folder promises, in a sentence; None where it is."""
    try:
        if of_map := map_files.PATH.fullmatch(name):
            map_files.check(path)
            feature_maps.check(path, int(of_map[1]))
        else:
            with safe_open(path, framework="numpy"):
                pass
    except SafetensorError as error:
        return f"{name} is not a safetensors file ({error})."
    except MapError as error:
        return str(error)
    except OSError as error:  # as where it made room just now
        return f"{name} cannot be read ({error.strerror or error})."
    return None
