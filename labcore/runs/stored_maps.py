"""Maps that are stored: what they take, which of a run's are there, and how they make room.

Laws that hold whoever comes and goes, `kill -9` included:

- A run's live maps go all together, and so do the rest of its maps after them. What is half gone still reads as it is:
  the latest goes first, and what a later map says nothing of is told by an earlier one.
- The live maps that a stage's end leans on, because it leaves out what had not changed since, stay with it.
- Nothing of a run that is queued, running, pinned or being written is touched: its record says so, and its lock is held
  meanwhile. Events and results are never touched, so a run still says which maps it had.
"""

import contextlib
import copy
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labcore.configs.units import count_of
from labcore.runs import files, map_files
from labcore.runs.errors import Busy, UnknownRun
from labcore.runs.files import take_lock
from labcore.runs.map_files import MapError, MapFile
from labcore.runs.results import Fold
from labcore.runs.store import Store

Kind = Literal["live", "stage"]
KINDS: tuple[Kind, ...] = ("live", "stage")  # in the order in which they make room


@dataclass(frozen=True, slots=True)
class Stored:
    """The maps of a run: bytes by kind, and when they were last drawn or looked at, in nanoseconds."""

    run: str
    used: int
    live: int
    stage: int


def all_of(store: Store, runs: Sequence[str] | None = None) -> list[Stored]:
    """The maps of all runs, or of these `runs`, that have some, the least recently used first."""
    found = []
    for run in os.listdir(store.root / "runs") if runs is None else runs:
        with contextlib.suppress(OSError):
            folder = store.root / "runs" / run / "maps"
            used, sizes = folder.stat().st_mtime_ns, {"live": 0, "stage": 0}
            for stage in os.scandir(folder):
                for file in os.scandir(stage.path):
                    sizes["live" if file.name.endswith("-live.npz") else "stage"] += file.stat().st_size
            found.append(Stored(run, used, sizes["live"], sizes["stage"]))
    return sorted(found, key=lambda maps: (maps.used, maps.run))


def looked_at(store: Store, run: str) -> None:
    """Let a run's maps be the last to make room. Nothing happens where there are none, or nothing can be written."""
    with contextlib.suppress(OSError, UnknownRun):
        os.utime(store.folder(run) / "maps")


def make_room(store: Store, run: str, kind: Kind) -> int:
    """Remove a run's live maps, or all that are left of its maps.

    Returns:
        How many bytes that freed: 0 where the run is queued, running, pinned, or in somebody's hands.

    Raises:
        OSError: The system refuses.
    """
    try:
        folder = store.folder(run)
        lock = take_lock(folder / "lock")
    except (Busy, UnknownRun):
        return 0
    try:
        record = store.record(run)
        if record.active or record.pinned:
            return 0
        return _remove_live(folder) if kind == "live" else _remove_all(store, run, folder)
    except UnknownRun:
        return 0
    finally:
        os.close(lock)


def _remove_live(folder: Path) -> int:
    paths = sorted(path for path in _paths(folder) if map_files.PATH.fullmatch(path))
    needed, freed = _leaned_on(folder, sorted(paths, key=_when)), 0
    for path in sorted(paths, key=_when, reverse=True):
        if _kind(path) == "live" and path not in needed:
            size = (folder / path).stat().st_size
            files.about_to_write(folder / path)
            (folder / path).unlink()
            freed += size
    return freed


def _remove_all(store: Store, run: str, folder: Path) -> int:
    """In one step out of sight, as a run that is deleted goes."""
    freed = sum((folder / path).stat().st_size for path in _paths(folder))
    gone = store.cache / f"deleted-{run}-{secrets.token_hex(4)}"
    files.about_to_write(gone)
    os.rename(folder / "maps", gone)
    shutil.rmtree(gone, ignore_errors=True)
    return freed


def _leaned_on(folder: Path, paths: Sequence[str]) -> set[str]:
    """Those of a run's maps, in the order of time, that are the last to say what a stage's end leaves out."""
    last: dict[str, str] = {}
    needed: set[str] = set()
    for path in paths:
        with contextlib.suppress(MapError):
            opened = MapFile(folder / path)
            last |= dict.fromkeys(opened.names, path)
            opened.close()
        if _kind(path) == "stage":
            needed |= set(last.values())
    return needed


def _paths(folder: Path) -> list[str]:
    """All files below a run's folder of maps, as the run's events name them."""
    return [str(path.relative_to(folder)) for path in (folder / "maps").glob("*/*")]


def _when(path: str) -> tuple[int, int, str]:
    """A map's place in time; a stage's end comes after what is live at the same step."""
    stage, step, kind = map_files.PATH.fullmatch(path).groups()  # type: ignore[union-attr]
    return int(stage), int(step), kind


def _kind(path: str) -> str:
    return _when(path)[2]


# ---- what is gone ---------------------------------------------------------------------------------------------------


def there(fold: Fold, folder: Path) -> Fold:
    """The fold, without the moments whose maps are not stored in the run's `folder`."""
    missing = _missing(fold, folder)
    if not missing:
        return fold
    left = copy.copy(fold)
    left.maps = [moment for moment in fold.maps if moment.path not in missing]
    return left


def _missing(fold: Fold, folder: Path) -> set[str]:
    """The paths of maps that a run told of and that are not stored. A path that is none of ours is not among them."""
    stored = set(_paths(folder))
    return {moment.path for moment in fold.maps if moment.path not in stored and map_files.PATH.fullmatch(moment.path)}


@dataclass(frozen=True, slots=True)
class Gone:
    """What of the maps that a run told of is not stored: how many live ones, and which stages' ends; `of` all."""

    live: int
    ends: tuple[int, ...]
    of: int

    @property
    def words(self) -> str:
        """A sentence on what is gone; empty where nothing is."""
        what = [count_of(self.live, "live map")] if self.live else []
        if self.ends:
            stages = f"stage{'s' * (len(self.ends) > 1)} {', '.join(map(str, self.ends))}"
            what.append(f"those of the end{'s' * (len(self.ends) > 1)} of {stages}")
        many = f"Of {count_of(self.of, 'map')} of this run, {' and '.join(what)}"
        return f"{many} are no longer stored, to make room. All curves and figures are still there." if what else ""


def gone(fold: Fold, folder: Path) -> Gone:
    """What is missing of the maps that a run told of."""
    paths = _missing(fold, folder)
    missing = [moment for moment in fold.maps if moment.path in paths]
    ends = tuple(dict.fromkeys(moment.stage for moment in missing if moment.kind == "stage"))
    return Gone(sum(moment.kind == "live" for moment in missing), ends, len(fold.maps))
