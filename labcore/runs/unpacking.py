"""An exported run, unpacked and checked: a zip is a stranger's until every part of it has been looked at.

What costs least comes first: its directory (zips.py), then its texts, whose sizes and lines are counted before any of
it is understood, and last its arrays, one by one, each checked as soon as it is there.
"""

import contextlib
import os
import re
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open

from labcore.configs.base import ConfigError
from labcore.configs.reading import parse_json
from labcore.configs.run import RunConfig
from labcore.runs import feature_maps, map_files
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
from labcore.runs.files import digest_of
from labcore.runs.map_files import MapError
from labcore.runs.records import Names, RunRecord, summary
from labcore.runs.results import Fold, RunResult
from labcore.runs.zips import Zip

ARRAYS = re.compile(r"stages/([1-9][0-9]{0,2})/(network|method)\.safetensors")
MEMBERS = re.compile(rf"config\.json|result\.json|events\.jsonl|{ARRAYS.pattern}|{map_files.PATH.pattern}")
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


def unpack(file: Zip, here: Path, name: Callable[[str], str]) -> tuple[RunRecord, Fold]:
    """Unpack an export into the folder `here`, and check all of it.

    Args:
        file: The zip, opened, whose directory has been looked at.
        here: An empty folder, which becomes a run's.
        name: Gives the run an ID; it is asked with the one that the run had where it comes from.

    Returns:
        The record of the run, as an imported one, and its events, folded.

    Raises:
        ConfigError: It is not a whole export of this lab; the sentence says what is wrong with it.
        OSError, ZipError, BadZipFile, zlib.error, EOFError, NotImplementedError: It cannot be read, or written.
    """
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
    run = name(theirs.run)
    told = _Story(config)
    with (here / "events.jsonl").open("wb") as own:
        for event in _events(file):
            told.add(event)
            own.write(to_line(event.model_copy(update={"run": run})))
    first, last = told.ends()
    result = _agreed(theirs, told.fold, last, config)
    for path in names:
        if ARRAYS.fullmatch(path) or map_files.PATH.fullmatch(path):
            _take_arrays(file, path, here, told)
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
    return record, told.fold


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
    of_stage = ARRAYS.fullmatch(name)
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
    if (why := why_not(path, name)) is not None:
        raise ConfigError(f"The import cannot be taken in. {why}")


def why_not(path: Path, name: str) -> str | None:
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
