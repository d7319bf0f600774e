"""Maps on disk: what a run's inside looked like at one moment, as small arrays. No torch here.

    HOME/runs/ID/maps/STAGE/STEP-live.npz     at a live point of the stage, importance estimated
    HOME/runs/ID/maps/STAGE/STEP-stage.npz    when its task was learnt, everything in full
    HOME/runs/ID/maps/STAGE/grams.npz         the worker's own: how features compared before the stage

A file is a zip of plain arrays (npz, never objects). In it, L layers are those with a weight matrix (convolutions and
linear ones) in the order of the data; NAME is a layer's; F filters are a layer's outputs:

    layers [L], shapes [L, 4], blocks [L]     names, sizes of weights (1 where there is no such axis), their blocks
    importance [L]                            mean Fisher diagonal of the stage's task over the layer's weights
    importance/NAME uint8 [rows, columns]     the same by filter and input, logarithmic: see `decode`
    importance_range [2], images              log10 of what codes 1 and 255 stand for; images that were measured
    drift_unkept [U]                          earlier tasks whose weights were too much to be kept to measure drift by
    drift_tasks [T]                           the earlier tasks that these speak of:
    drift [T, L], drift/NAME [T, F]           root mean square of a weight's move since, as a share of the layer's
    broke [T, L], broke/NAME [T, F]           ½ Σ importance · move²: estimated extra loss of the task, in nats
    cka [tasks, blocks], block_names          similarity of a block's features before and after the stage

A method adds what it shows itself, by names of its own: its `maps.py` says what they hold. An array that would be as it
was the moment before may be left out (see `IfNew`): look back for it.
"""

import io
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy

from labcore.runs import zips
from labcore.runs.files import atomic_path
from labcore.runs.zips import Zip, ZipError

MOST_SIDE = 512  # of a drawn weight map, in pixels
# Bytes of weights and importance that a worker keeps to measure drift by; with more tasks than fit, the later ones have
# none, and the maps say so.
LARGEST_KEPT = 2 << 30
DECADES = 8.0  # from the strongest importance of a file down to the weakest that is told from none

PATH = re.compile(r"maps/([1-9][0-9]{0,2})/([0-9]{9})-(live|stage)\.npz")
_MEMBER = re.compile(r"[a-z][a-z0-9_]*(/[A-Za-z0-9_.]{1,200})?\.npy")
MOST_MEMBERS = 10_000
LARGEST_MEMBER = 4 << 20
LARGEST_FILE = 128 << 20
_START = npy.magic(1, 0)
# What numpy writes before an array, word by word, of the types that a map may have: float32, uint8, int32 and text.
# Numpy's own reader takes the header for Python, and each of its versions stumbles over other words of a stranger's.
_HEADER = re.compile(
    rb"\{'descr': '([<>][fi]4|\|u1|[<>]U[0-9]{1,7})', 'fortran_order': False, "
    rb"'shape': \(((?:[0-9]{1,9}, ?){0,8}(?:[0-9]{1,9})?)\), \} *\n"
)


class MapError(ValueError):
    """A file is not a map of ours; one sentence."""


def path_of(stage: int, step: int, kind: Literal["live", "stage"]) -> str:
    """Where a moment's maps lie in a run's folder."""
    return f"maps/{stage}/{step:09}-{kind}.npz"


def save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as npz, whole or not at all. Raises OSError, and MapError for a name that no array may have.

    Time counts more than bytes: what compresses well is compressed lightly, and what was measured, which does not (by a
    quarter at most, importance), never.
    """
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as file:
        for name, value in arrays.items():
            if not _MEMBER.fullmatch(f"{name}.npy"):
                raise MapError(f"An array of a map is named {name[:60]!r}; allowed are a-z, 0-9 and _, as in path_sum.")
            member = io.BytesIO()
            npy.write_array(member, np.asarray(value, order="C"), allow_pickle=False)
            measured = value.dtype == np.float32 or name.startswith("importance/")
            way = zipfile.ZIP_STORED if measured else zipfile.ZIP_DEFLATED
            file.writestr(f"{name}.npy", member.getvalue(), way, compresslevel=1)


class MapFile:
    """One file, opened: its directory is read and checked, arrays as they are asked for. Raises MapError.

    It stays open, as finding an array's place takes longer than reading it, until it is closed or forgotten.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive: Zip | None = None
        members = self._opened().infolist()
        if any(member.file_size > LARGEST_MEMBER for member in members):
            raise MapError(f"The map {path.name} holds an array larger than any of this lab.")
        self.names = frozenset(member.filename.removesuffix(".npy") for member in members)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def read(self, name: str) -> np.ndarray:
        """An array. Raises KeyError where there is none of this name, MapError where it is no plain array."""
        if name not in self.names:
            raise KeyError(name)
        try:
            return _plain(self._opened(), name, self.path.name)
        except ZipError as error:
            raise MapError(f"The map {self.path.name} {error}.") from None
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise MapError(f"The map {self.path.name} cannot be read, or is cut short ({error}).") from None

    def close(self) -> None:
        """Let go of the file; reading opens it again."""
        if self._archive is not None:
            self._archive.close()
            self._archive = None

    def _opened(self) -> Zip:
        try:
            self._archive = self._archive or zips.opened(self.path, _MEMBER, MOST_MEMBERS, LARGEST_FILE)
        except FileNotFoundError:
            raise MapError(f"The map {self.path.name} is not there any more.") from None
        except OSError as error:
            raise MapError(f"The map {self.path.name} cannot be read ({error.strerror}).") from None
        except ZipError as error:
            raise MapError(f"The map {self.path.name} {error}.") from None
        return self._archive


def _plain(file: Zip, name: str, where: str) -> np.ndarray:
    """An array that is as large as its header says, of a type that a map may have."""
    with file.open(f"{name}.npy") as member:
        start = member.read(len(_START) + 2)
        header = _HEADER.fullmatch(member.read(int.from_bytes(start[-2:], "little")))
        if not start.startswith(_START) or not header:
            raise MapError(f"The map {where} holds {name!r}, which is no array of this lab.")
        dtype, shape = np.dtype(header[1].decode()), tuple(map(int, re.findall(rb"[0-9]+", header[2])))
        size = math.prod(shape) * dtype.itemsize  # not by numpy, whose product may pass what an integer of it holds
        if size > LARGEST_MEMBER or not dtype.itemsize:
            raise MapError(f"The map {where} holds an array larger than any of this lab.")
        data = member.read(size + 1)
    if len(data) != size:
        raise MapError(f"The map {where} holds {name!r}, which is not as long as it says.")
    if dtype.kind == "U" and not _are_letters(np.frombuffer(data, dtype.byteorder + "u4")):
        raise MapError(f"The map {where} holds {name!r}, which is no text.")
    return np.frombuffer(data, dtype).reshape(shape)


def _are_letters(codes: np.ndarray) -> bool:
    """Whether numbers [n] are those of letters, which Python and JSON can write."""
    return not bool(((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))).any())


def check(path: Path) -> None:
    """Read a stranger's file to its end. Raises MapError."""
    opened = MapFile(path)
    layers(opened)
    for name in opened.names:
        opened.read(name)


@dataclass(frozen=True, slots=True)
class IfNew:
    """An array that is made, and saved, only when its `state` is not that of the one saved last under the same name."""

    state: bytes
    make: Callable[[], np.ndarray]


# ---- what the arrays mean -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with a weight matrix: `shape` of its weight [filters, inputs, height, width]."""

    name: str
    block: str
    shape: tuple[int, int, int, int]

    @property
    def weights(self) -> int:
        """How many weights it has."""
        return math.prod(self.shape)

    @property
    def depthwise(self) -> bool:
        """Whether each filter looks at one channel alone."""
        return self.shape[1] == 1

    @property
    def words(self) -> str:
        """`block2.conv (32 → 64, 18,432 weights)`."""
        filters, inputs, height, width = self.shape
        size = f", {height}×{width}" if height * width > 1 else ""
        flow = f"{filters} channels, one by one" if self.depthwise else f"{inputs} → {filters}"
        return f"{self.name} ({flow}{size}, {self.weights:,} weights)"


def layers(opened: MapFile) -> list[Layer]:
    """The layers of a file, in the order of the data. Raises MapError."""
    try:
        names, shapes, blocks = (opened.read(name) for name in ("layers", "shapes", "blocks"))
    except KeyError as error:
        raise MapError(f"The map {opened.path.name} has no {error.args[0]}.") from None
    if names.ndim != 1 or shapes.shape != (len(names), 4) or blocks.shape != names.shape or shapes.min(initial=1) < 1:
        raise MapError(f"The map {opened.path.name} does not say which layers it is of.")
    return [
        Layer(str(name), str(block), tuple(map(int, shape)))  # type: ignore[arg-type]
        for name, block, shape in zip(names, blocks, shapes, strict=True)
    ]


def columns_of(shape: Sequence[int]) -> int:
    """Columns of an importance map: inputs, or where a filter sees few of them, inputs times places of the kernel."""
    _, inputs, height, width = shape
    return inputs * height * width if inputs <= 4 else inputs


def encode(values: np.ndarray, log_range: tuple[float, float]) -> np.ndarray:
    """Magnitudes ≥ 0 as uint8: 0 for none or too little to tell, else 1…255 evenly by logarithm over the range."""
    low, high = log_range
    with np.errstate(divide="ignore"):
        place = (np.log10(values.astype(np.float64)) - low) / max(high - low, 1e-9)
    return np.where(place < 0, 0, 1 + np.rint(254 * place.clip(0, 1))).astype(np.uint8)


def decode(codes: np.ndarray, log_range: Sequence[float] | np.ndarray) -> np.ndarray:
    """log10 of the magnitudes, float32; NaN for none."""
    low, high = float(log_range[0]), float(log_range[1])
    return np.where(codes == 0, np.nan, low + (codes.astype(np.float32) - 1) / 254 * (high - low)).astype(np.float32)


def range_of(largest: float) -> tuple[float, float]:
    """The range that `encode` takes for a file whose largest value is this."""
    high = float(np.log10(largest)) if largest > 0 and np.isfinite(largest) else 0.0
    return high - DECADES, high


def facts(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Numbers and lists as the arrays that a map may hold. A number that is infinite is as one that is not known."""
    found = {}
    for name, value in arrays.items():
        array = np.asarray(value)
        if array.dtype.kind == "U" or array.dtype == np.uint8:
            found[name] = array
        elif array.dtype.kind in "iub":
            found[name] = array.astype(np.int32)
        else:
            with np.errstate(over="ignore"):
                single = array.astype(np.float32)
            found[name] = np.where(np.isinf(single), np.float32(np.nan), single)
    return found
