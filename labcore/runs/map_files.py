"""Maps on disk: what a run's inside looked like at one moment, as small arrays. No torch here.

    HOME/runs/ID/maps/STAGE/STEP-live.npz     at a live point of the stage, importance estimated
    HOME/runs/ID/maps/STAGE/STEP-stage.npz    when its task was learnt, everything in full
    HOME/runs/ID/maps/STAGE/grams.npz         the worker's own: how features compared before the stage

A file is a zip of plain arrays (npz, never objects). In it, L layers are those with a weight matrix (convolutions and
linear ones) in the order of the data; NAME is a layer's; F filters are a layer's outputs:

    layers [L], shapes [L, 4], blocks [L]     names, sizes of weights (1 where there is no such axis), their blocks
    sees [L]                                  side in pixels of the square of the picture that a place of the layer's
                                              output depends on; 0: not known
    importance [L]                            mean Fisher diagonal of the stage's task over the layer's weights
    importance/NAME uint8 [rows, columns]     the same by filter and input, logarithmic: see `decode`
    importance_range [2], images              log10 of what codes 1 and 255 stand for; images that were measured
    drift_unkept [U]                          earlier tasks whose weights were too much to be kept to measure drift by
    drift_tasks [T]                           the earlier tasks that these speak of:
    drift [T, L], drift/NAME uint8 [T, F]     root mean square of a weight's move since, as a share of the layer's
    broke [T, L], broke/NAME uint8 [T, F]     ½ Σ importance · move²: estimated extra loss of the task, in nats
    drift_most [T, L], broke_most [T, L]      what code 255 of a layer stands for: see `decode_roots`
    cka [tasks, blocks], block_names          similarity of a block's features before and after the stage
    seen…                                     what blocks make of pictures: see `labcore.runs.feature_maps`

A method adds what it shows itself, by names of its own: its `maps.py` says what they hold. An array that would be as it
was the moment before may be left out (see `IfNew`): look back for it.

The uint8 arrays FAMILY/NAME are most of a file, so those of a family lie in it squeezed together (see `_squeezed`):

    index/FAMILY int32 [n, 3]                 of each array the layer's place in `layers`, rows and columns
    packed/FAMILY.K uint8 [bytes]             those that begin within the K-th PACK numbers of the family

A `MapFile` reads them by their own names all the same. Files of before have each array apart, and drift and broke by
filter in float32.
"""

import contextlib
import io
import math
import re
import zipfile
import zlib
from collections.abc import Callable, KeysView, Mapping, Sequence
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
PACK = 1 << 17  # numbers: to read an array, no more than those and the rest of the last one are unpacked
MOST_UNPACKED = 9  # bytes that one of a pack stands for: it is coded number by number, with a bit at least


class MapError(ValueError):
    """A file is not a map of ours; one sentence."""


def path_of(stage: int, step: int, kind: Literal["live", "stage"]) -> str:
    """Where a moment's maps lie in a run's folder."""
    return f"maps/{stage}/{step:09}-{kind}.npz"


def save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as npz, whole or not at all. Raises OSError, and MapError for a name that no array may have."""
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as file:
        for name, value in _packed(arrays).items():
            if not _MEMBER.fullmatch(f"{name}.npy"):
                raise MapError(f"An array of a map is named {name[:60]!r}; allowed are a-z, 0-9 and _, as in path_sum.")
            member = io.BytesIO()
            npy.write_array(member, np.asarray(value, order="C"), allow_pickle=False)
            # What was measured hardly compresses, and what is packed is already.
            stored = value.dtype == np.float32 or name.startswith("packed/")
            way = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            file.writestr(f"{name}.npy", member.getvalue(), way, compresslevel=1)


class MapFile:
    """One file, opened: its directory is read and checked, arrays as they are asked for. Raises MapError.

    It stays open, as finding an array's place takes longer than reading it, until it is closed or forgotten.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive: Zip | None = None
        self._unpacked: tuple[str, int, bytes] | None = None  # the pack that was read last, its way and numbers
        members = self._opened().infolist()
        if any(member.file_size > LARGEST_MEMBER for member in members):
            raise MapError(f"The map {path.name} holds an array larger than any of this lab.")
        self._members = dict.fromkeys(member.filename.removesuffix(".npy") for member in members)
        self._families: dict[str, dict[str, _Place]] = {}  # those asked for, as there is no need to read all

    @property
    def names(self) -> KeysView[str]:
        """The names of all arrays, those of a pack one after the other. Raises MapError."""
        families = [name.removeprefix("index/") for name in self._members if name.startswith("index/")]
        packed = [name for family in families for name in self._family(family)]
        return dict.fromkeys([*packed, *(name for name in self._members if not _OWN.match(name))]).keys()

    def __contains__(self, name: str) -> bool:
        with contextlib.suppress(MapError):
            return self._place(name) is not None or (name in self._members and not _OWN.match(name))
        return False

    def read(self, name: str) -> np.ndarray:
        """An array. Raises KeyError where there is none of this name, MapError where it is no plain array."""
        place = self._place(name)
        if place is not None:
            return self._of_pack(place)
        if name not in self._members or _OWN.match(name):
            raise KeyError(name)
        return self._member(name)

    def _place(self, name: str) -> "_Place | None":
        family, _, layer = name.partition("/")
        return self._family(family).get(name) if layer and f"index/{family}" in self._members else None

    def _family(self, family: str) -> "dict[str, _Place]":
        if family not in self._families:
            layers = self._member("layers").tolist() if "layers" in self._members else []
            self._families[family] = _places(family, self._member(f"index/{family}"), layers, self.path.name)
        return self._families[family]

    def _of_pack(self, place: "_Place") -> np.ndarray:
        """An array out of its pack, which is kept: most likely the next one that is read lies in it, too."""
        pack = f"packed/{place.pack}"
        try:
            if self._unpacked is None or self._unpacked[0] != pack:
                if pack not in self._members:
                    raise ValueError("a part is missing")
                self._unpacked = pack, *_unpacked(self._member(pack))
            return _cut(self._unpacked[1], self._unpacked[2], place)
        except MapError:
            raise
        except (ValueError, zlib.error) as error:
            raise MapError(f"The map {self.path.name} holds {place.pack!r}, which is damaged ({error}).") from None

    def _member(self, name: str) -> np.ndarray:
        try:
            return _plain(self._opened(), name, self.path.name)
        except ZipError as error:
            raise MapError(f"The map {self.path.name} {error}.") from None
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise MapError(f"The map {self.path.name} cannot be read, or is cut short ({error}).") from None

    def close(self) -> None:
        """Let go of the file; reading opens it again."""
        self._unpacked = None
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
    opened.close()


@dataclass(frozen=True, slots=True)
class IfNew:
    """An array that is made, and saved, only when its `state` is not that of the one saved last under the same name."""

    state: bytes
    make: Callable[[], np.ndarray]


# ---- what the arrays mean -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with a weight matrix: `shape` of its weight [filters, inputs, height, width].

    A place of its output `sees` a square of the picture of so many pixels a side; 0 where that is not known.
    """

    name: str
    block: str
    shape: tuple[int, int, int, int]
    sees: int = 0

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
    sees = opened.read("sees") if "sees" in opened else np.zeros(len(names), np.int32)  # files of before have none
    if sees.shape != names.shape or sees.dtype.kind != "i" or sees.min(initial=0) < 0:
        raise MapError(f"The map {opened.path.name} does not say how much of the picture its layers see.")
    return [
        Layer(str(name), str(block), tuple(map(int, shape)), int(seen))  # type: ignore[arg-type]
        for name, block, shape, seen in zip(names, blocks, shapes, sees, strict=True)
    ]


def columns_of(shape: Sequence[int]) -> int:
    """Columns of an importance map: inputs, or where a filter sees few of them, inputs times places of the kernel."""
    _, inputs, height, width = shape
    return inputs * height * width if inputs <= 4 else inputs


def encode(values: np.ndarray, log_range: tuple[float, float], step: int = 1) -> np.ndarray:
    """Magnitudes ≥ 0 as uint8: 0 for none or too little to tell, else 1…255 evenly by logarithm over the range.

    Only each `step`-th code is used: fewer take less room.
    """
    low, high = log_range
    with np.errstate(divide="ignore"):
        place = (np.log10(values.astype(np.float64)) - low) / max(high - low, 1e-9)
    steps = np.rint(254 / step * place.clip(0, 1)).clip(0, 254 // step)
    return np.where(place < 0, 0, 1 + step * steps).astype(np.uint8)


def decode(codes: np.ndarray, log_range: Sequence[float] | np.ndarray) -> np.ndarray:
    """log10 of the magnitudes, float32; NaN for none."""
    low, high = float(log_range[0]), float(log_range[1])
    return np.where(codes == 0, np.nan, low + (codes.astype(np.float32) - 1) / 254 * (high - low)).astype(np.float32)


def encode_roots(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers ≥ 0 [T, F] as uint8, evenly by their square roots; and the largest of each row [T], which is code 255.

    They are drawn as lines, on an axis from 0 to the largest: a code is at most half a step off, 0.4 % of the axis,
    and the smaller the number, the less. Code 0 stands for what is not known or not finite.
    """
    known = np.isfinite(values)
    most = np.where(known, values, 0).max(1).astype(np.float32)
    place = np.where(known, values, 0) / np.where(most > 0, most, 1)[:, None]
    codes = np.where(known, 1 + np.rint(254 * np.sqrt(place.clip(0, 1))), 0)
    return codes.astype(np.uint8), most


def decode_roots(codes: np.ndarray, most: np.ndarray) -> np.ndarray:
    """The numbers [T, F] of codes [T, F] and the rows' largest [T], float32; NaN where they are not known."""
    place = (codes.astype(np.float32) - 1) / 254
    return np.where(codes == 0, np.nan, place**2 * most[:, None]).astype(np.float32)


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


# ---- packing --------------------------------------------------------------------------------------------------------

_OWN = re.compile("index/|packed/")
_BITS, _PLAIN, _MARGINS = 0, 1, 2


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an array is: in its pack, whose arrays have these `shapes`, the one of this number."""

    pack: str
    shapes: list[tuple[int, int]]
    number: int


def _packed(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The members of a file: the uint8 matrices of layers by family, everything else as it is. Raises MapError."""
    places = {str(name): place for place, name in enumerate(arrays.get("layers", ()))}
    families: dict[str, list[tuple[int, np.ndarray]]] = {}
    members = {}
    for name, value in arrays.items():
        family, _, layer = name.partition("/")
        if _OWN.match(name):
            raise MapError(f"An array of a map is named {name[:60]!r}; index/ and packed/ are the lab's own.")
        if layer in places and value.dtype == np.uint8 and value.ndim == 2 and value.size:
            families.setdefault(family, []).append((places[layer], value))
        else:
            members[name] = value
    for family, found in families.items():
        members[f"index/{family}"] = np.array([(place, *value.shape) for place, value in found], np.int32)
        packs: dict[int, list[np.ndarray]] = {}
        begins = 0
        for _, value in found:
            packs.setdefault(begins // PACK, []).append(value)
            begins += value.size
        for number, values in packs.items():
            members[f"packed/{family}.{number}"] = np.frombuffer(_squeezed(values), np.uint8)
    return members


def _places(family: str, index: np.ndarray, layers: Sequence[str], where: str) -> dict[str, _Place]:
    """Where the arrays of a family are, by name. Raises MapError where the index cannot be one."""
    good = index.dtype == np.int32 and index.ndim == 2 and index.shape[1] == 3 and len(index) <= len(layers)
    good = good and bool(((index[:, 0] >= 0) & (index[:, 0] < len(layers)) & (index[:, 1:].min(1) >= 1)).all())
    if not good or len(set(index[:, 0].tolist())) < len(index):
        raise MapError(f"The map {where} does not say where the arrays {family!r} are.")
    found: dict[str, _Place] = {}
    shapes: list[tuple[int, int]] = []
    begins, pack = 0, 0
    for place, rows, columns in index.tolist():
        if rows * columns > LARGEST_MEMBER:
            raise MapError(f"The map {where} holds an array larger than any of this lab.")
        if begins // PACK != pack:
            pack, shapes = begins // PACK, []
        found[f"{family}/{layers[place]}"] = _Place(f"{family}.{pack}", shapes, len(shapes))
        shapes.append((rows, columns))
        begins += rows * columns
    return found


def _squeezed(arrays: Sequence[np.ndarray]) -> bytes:
    """uint8 matrices in as few bytes as one of three ways needs: a byte that tells the way, then a zlib stream of it.

    An array is told in numbers of the values that there are, the smallest first:

        bits      of each array how many values it has, less 1, the values, and 0, 1, 2 or 4 bits a number; where no
                  array has more than 16, as of owners
        plain     how many values all arrays have, less 1, the values, and then of each array a byte a number
        margins   the same, but of each array the mean of every row, of every column the mean of what is left of it, and
                  what is left of each number (modulo 256): importance is by and large a filter's times an input's, and
                  its logarithm their sum

    What is left is noise, in which nothing is found twice, so the numbers are coded one by one (Huffman): it takes a
    tenth of the time of looking for what is, and a tenth fewer bytes.
    """
    sets = [np.unique(array) for array in arrays]
    if max(map(len, sets)) <= 16:
        return bytes([_BITS]) + _coded(b"".join(map(_in_bits, arrays, sets)))
    values = np.unique(np.concatenate(sets))
    ranks = [np.searchsorted(values, array) for array in arrays]
    ways = {_PLAIN: [array.astype(np.uint8).tobytes() for array in ranks], _MARGINS: map(_without_margins, ranks)}
    head = _told(values)
    return min((bytes([way]) + _coded(head + b"".join(bodies)) for way, bodies in ways.items()), key=len)


def _coded(data: bytes) -> bytes:
    stream = zlib.compressobj(6, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
    return stream.compress(data) + stream.flush()


def _told(values: np.ndarray) -> bytes:
    return bytes([len(values) - 1]) + values.tobytes()


def _in_bits(array: np.ndarray, values: np.ndarray) -> bytes:
    ranks, bits = np.searchsorted(values, array).astype(np.uint8), _bits(len(values))
    return _told(values) + np.packbits(np.unpackbits(ranks.reshape(-1, 1), axis=1)[:, 8 - bits :]).tobytes()


def _without_margins(ranks: np.ndarray) -> bytes:
    rows = np.rint(ranks.mean(1))
    columns = np.rint((ranks - rows[:, None]).mean(0))
    parts = (rows, columns, ranks - rows[:, None] - columns[None])
    return b"".join((part.astype(np.int16) & 255).astype(np.uint8).tobytes() for part in parts)


def _unpacked(pack: np.ndarray) -> tuple[int, bytes]:
    """The way of a pack, and its stream. Raises ValueError and zlib.error where it is none, or is longer than ours."""
    if pack.dtype != np.uint8 or pack.ndim != 1 or not len(pack) or pack[0] > _MARGINS:
        raise ValueError("no pack")
    stream = zlib.decompressobj()
    data = stream.decompress(pack[1:].tobytes(), MOST_UNPACKED * len(pack))
    if not stream.eof:
        raise ValueError("cut short, or too long")
    return int(pack[0]), data


def _cut(way: int, data: bytes, place: _Place) -> np.ndarray:
    """An array out of a pack's stream. Raises ValueError where the stream does not hold it."""
    begins = 0
    values = np.zeros(0, np.uint8)
    if way != _BITS:
        values, begins = _values(data, begins)
    for shape in place.shapes[: place.number + 1]:
        if way == _BITS:
            values, begins = _values(data, begins)
        start, begins = begins, begins + _size(way, len(values), shape)
    rows, columns = shape
    body = np.frombuffer(data[start:begins], np.uint8)
    if len(body) != begins - start:
        raise ValueError("cut short")
    if way == _BITS:
        bits = _bits(len(values))
        ranks = np.unpackbits(body, count=bits * rows * columns).reshape(rows * columns, bits)
        ranks = np.packbits(np.pad(ranks, ((0, 0), (8 - bits, 0))), axis=1)
    else:
        ranks = body[-rows * columns :]
    ranks = ranks.reshape(rows, columns)
    if way == _MARGINS:
        ranks = ranks + body[:rows, None] + body[None, rows : rows + columns]
    if ranks.max() >= len(values):
        raise ValueError("a number that stands for nothing")
    return np.asarray(values[ranks])


def _values(data: bytes, begins: int) -> tuple[np.ndarray, int]:
    """The values that are told from here on, and where they end. Raises ValueError where they are cut short."""
    told = data[begins : begins + 1 + 256]
    if not told or len(told) < 2 + told[0]:
        raise ValueError("cut short")
    return np.frombuffer(told, np.uint8, told[0] + 1, 1), begins + told[0] + 2


def _size(way: int, values: int, shape: tuple[int, int]) -> int:
    """How many bytes an array takes in a stream, without its values."""
    rows, columns = shape
    if way == _BITS:
        return -(-rows * columns * _bits(values) // 8)
    return rows * columns + (rows + columns if way == _MARGINS else 0)


def _bits(values: int) -> int:
    return 0 if values == 1 else 1 if values <= 2 else 2 if values <= 4 else 4 if values <= 16 else 8
