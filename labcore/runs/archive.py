"""A run in a zip, to take away and to bring back.

    config.json  result.json  events.jsonl  stages/K/network.safetensors  stages/K/method.safetensors
    maps/K/STEP-….npz

A zip that comes in is a stranger's until every part of it has been checked: names against a short list, sizes as they
are unpacked, the configuration and the events as ours are, the result against what the events fold to. Nothing becomes
visible before all of it is whole.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from labcore.configs.base import ConfigError
from labcore.configs.reading import parse_json
from labcore.configs.run import RunConfig
from labcore.runs import map_files
from labcore.runs.events import Event, RunEnded, from_line, to_line
from labcore.runs.files import atomic_path
from labcore.runs.map_files import MapError
from labcore.runs.records import RunRecord, summary
from labcore.runs.results import Fold, RunResult, fold
from labcore.runs.store import Store

_MEMBERS = re.compile(
    r"config\.json|result\.json|events\.jsonl|stages/[1-9][0-9]?/(network|method)\.safetensors|"
    + map_files.PATH.pattern
)
_NEEDED = ("config.json", "result.json", "events.jsonl")
LARGEST_TEXT = 256 << 20
LARGEST_IMPORT = 16 << 30
_CHUNK = 1 << 20


def export_run(store: Store, run: str, path: Path) -> list[int]:
    """Write a run that is over to a zip, whole or not at all.

    Args:
        store: The store that the run lives in.
        run: The ID of the run.
        path: The zip to write; it overwrites what is there.

    Returns:
        The stages whose arrays are no longer stored, which the zip does without.

    Raises:
        UnknownRun: There is no such run.
        ConfigError: The run is not over, or the path cannot be written.
    """
    record, folder = store.record(run), store.folder(run)
    if record.active:
        raise ConfigError(f"Run {run} is {record.state}; it can be exported when it is over.")
    result = store.result(run)
    missing = [number for number, stage in enumerate(result.stages, 1) if not stage.weights]
    try:
        with (
            atomic_path(path.absolute()) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        ):
            file.writestr("config.json", store.config(run).model_dump_json(indent=2))
            file.writestr("result.json", json.dumps(result.model_dump(mode="json"), indent=2, allow_nan=False))
            file.writestr("events.jsonl", b"".join(to_line(event) for event in store.tail(run)[0]))
            for part in sorted(folder.glob("stages/*/*.safetensors")):
                file.write(part, str(part.relative_to(folder)))
            for saved in store.fold(run).maps:
                if (folder / saved.path).is_file():
                    file.write(folder / saved.path, saved.path, zipfile.ZIP_STORED)
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be written: {error.strerror}.") from None
    return missing


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
    """
    here = Path(tempfile.mkdtemp(prefix="import-", dir=store.cache))
    try:
        _unpack(path, here, largest)
        return _take_in(store, here)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ConfigError(f"{path.name!r} is not a zip, or is cut short ({error}).") from None
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(here, ignore_errors=True)


def _unpack(path: Path, target: Path, largest: int) -> None:
    """Unpack what is expected and nothing else. Bytes are counted as they come, as a zip may lie about its sizes."""
    left = largest
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
        for name in names:
            if not _MEMBERS.fullmatch(name):
                raise ConfigError(f"The import holds {name[:80]!r}, which no export of this lab does.")
        if len(set(names)) < len(names):
            raise ConfigError("The import holds a file twice.")
        for needed in _NEEDED:
            if needed not in names:
                raise ConfigError(f"The import has no {needed}; it is not an export of this lab.")
        for name in names:
            limit = min(left, LARGEST_TEXT) if name in _NEEDED else left
            out = target / name
            out.parent.mkdir(parents=True, exist_ok=True)
            written = 0
            with file.open(name) as source, out.open("wb") as sink:
                while data := source.read(_CHUNK):
                    written += len(data)
                    if written > limit:
                        raise ConfigError(f"The import unpacks to more than {limit:,} bytes; it was not taken in.")
                    sink.write(data)
            left -= written


def _take_in(store: Store, here: Path) -> str:
    """Check an unpacked export, and move it among the runs in one step."""
    config = parse_json((here / "config.json").read_bytes(), stored=True)
    lines = (here / "events.jsonl").read_bytes().splitlines()
    try:
        events = [from_line(line) for line in lines]
    except ValueError:
        raise ConfigError("The import's events.jsonl holds a line that is no event.") from None
    if not events or not isinstance(events[-1], RunEnded):
        raise ConfigError("The import's events do not end with the end of a run; it is cut short.")
    result = _check_result(here, config, events[-1], _folded(events))
    _check_arrays(here, len(result.stages))
    run = store.free_id(result.run)
    (here / "events.jsonl").write_bytes(b"".join(to_line(event.model_copy(update={"run": run})) for event in events))
    (here / "result.json").unlink()
    record = RunRecord(
        run=run,
        key=config.key(),
        state=events[-1].state,
        device="auto",
        submitted=time.time(),
        started=events[0].time,
        ended=events[-1].time,
        attempt=events[-1].attempt,
        error=result.error,
        imported=True,
        **summary(result),
    )
    for folder, _, _ in os.walk(here):
        with contextlib.suppress(OSError):
            Path(folder).chmod(0o700)
    store.take_in(record, here)
    return run


def _check_arrays(here: Path, stages: int) -> None:
    """Refuse arrays of stages that the run has not ended, and files that are not what their names say."""
    for part in here.glob("stages/*/*.safetensors"):
        if int(part.parent.name) > stages:
            raise ConfigError(f"The import holds arrays of stage {part.parent.name}, which its run has not ended.")
        try:
            with safe_open(part, framework="numpy"):
                pass
        except SafetensorError as error:
            raise ConfigError(f"The import's {part.relative_to(here)} is not a safetensors file ({error}).") from None
    for part in here.glob("maps/*/*.npz"):
        try:
            map_files.check(part)
        except MapError as error:
            raise ConfigError(f"The import cannot be taken in. {error}") from None


def _folded(events: Sequence[Event]) -> Fold:
    """Fold events that a stranger may have put in any order."""
    try:
        return fold(events)
    except (IndexError, AttributeError):
        raise ConfigError("The import's events are not the story of a run.") from None


def _check_result(here: Path, config: RunConfig, ended: RunEnded, folded: Fold) -> RunResult:
    """Read the result of the import, which must be what its events fold to."""
    try:
        stored = RunResult.model_validate_json((here / "result.json").read_bytes())
        mine = folded.result(stored.run, ended.state, config.model_dump(mode="json"), error=stored.error)
    except (ValueError, IndexError, KeyError, TypeError):
        raise ConfigError("The import's result.json is not a result of this lab.") from None
    if folded.started is None or folded.started.config != config:
        raise ConfigError("The import's events are of another configuration than its config.json.")
    # These may differ, because they are of the lab that the run comes from.
    theirs = {"cached", "stages", "run", "carbon_g", "carbon_country"}
    if stored.model_dump(exclude=theirs) != mine.model_dump(exclude=theirs):
        raise ConfigError("The import's result.json does not agree with its events.")
    return stored
