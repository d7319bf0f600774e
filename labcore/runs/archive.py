"""A run in a zip, to take away and to bring back.

    config.json  result.json  events.jsonl  stages/K/network.safetensors  stages/K/method.safetensors
    maps/K/STEP-….npz

A zip that comes in is a stranger's until every part of it has been checked (unpacking.py), and nothing becomes visible
before all of it is whole. And what goes out is looked at again: a run's events name its maps, and whoever wrote them
may have named another file.
"""

import contextlib
import json
import secrets
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

from labcore.configs.base import ConfigError
from labcore.runs import map_files, zips
from labcore.runs.errors import Busy, unusable
from labcore.runs.events import (
    to_line,
)
from labcore.runs.files import atomic_path
from labcore.runs.stage_cache import StageCache
from labcore.runs.store import Store
from labcore.runs.unpacking import ARRAYS, MEMBERS, MOST_FILES, unpack, why_not
from labcore.runs.zips import ZipError

LARGEST_IMPORT = 16 << 30
# Of what a zip may unpack to, for each byte that it has: weights hardly become smaller, events by ten, empty masks by a
# thousand, but they are the smallest part of a run.
UNPACKS, UNPACKS_ALWAYS = 100, 64 << 20


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
        if ARRAYS.fullmatch(name := str(path.relative_to(folder))) and _is_own(folder, name)
    ]
    maps = [saved.path for saved in told.maps if map_files.PATH.fullmatch(saved.path) and _is_own(folder, saved.path)]
    # What no lab could import stays here.
    unread = {name for name in arrays + maps if why_not(folder / name, name) is not None}
    of_stages = {int(part[1]) for name in unread if (part := ARRAYS.fullmatch(name))}
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
        with zips.opened(path, MEMBERS, MOST_FILES, largest) as file:
            record, _ = unpack(file, here, store.free_id)
        store.take_in(record, here)
        StageCache(store).count_anew()  # with its maps
        return record.run
    except ZipError as error:
        raise ConfigError(f"{path.name!r} {error}.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ConfigError(f"{path.name!r} is not a zip, or is cut short ({error}).") from None
    except OSError as error:
        raise unusable(store.root, error) from None
    finally:
        shutil.rmtree(here, ignore_errors=True)
