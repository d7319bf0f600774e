"""What blocks of the network make of a picture, as a map of a stage's end holds it. No torch here.

Of each of the first jobs learnt so far, the first test pictures went through the network as the job sees it, and of
each block those maps are kept that varied most over the picture when the job was learnt. T is a job, counted from 1;
P pictures, B blocks and M maps:

    seen_sizes int32 [B, 3]              of each block: how many of its maps are kept, their height and width
    seen/T uint8 [numbers]               picture by picture and block by block, the maps, 0 to 255 over their range
    seen_channels/T int32 [P, B, M]      which of the block's maps they are, counted from 0; −1 where there are fewer
    seen_ranges/T float32 [P, B, 2]      the smallest and the largest number of a picture's maps of a block

A block that gives one number for each map, as the last one does, has maps of one place.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labcore.configs.looking import SEEN_JOBS, SEEN_MAPS, SEEN_PICTURES, SEEN_SIDE
from labcore.runs.map_files import MapError, MapFile

_MOST_BLOCKS = 1000
_OURS = re.compile("seen(_channels|_ranges)?/")
Reader = Callable[[str], np.ndarray | None]


@dataclass(frozen=True, slots=True)
class BlockMaps:
    """What a block made of a picture: the block's maps by number, and what they hold, float32 [maps, height, width]."""

    channels: tuple[int, ...]
    values: np.ndarray


def read(array: Reader, job: int, picture: int, block: int) -> BlockMaps | None:
    """What a block made of a picture of a job, the latter two counted from 0; None where that was not kept.

    `array` gives an array of the file by its name, or None. Raises MapError where arrays do not fit together.
    """
    found = [array(name) for name in _names(job)]
    if any(part is None for part in found):
        return None
    sizes, codes, channels, ranges = (part for part in found if part is not None)
    _require_fit(sizes, codes, channels, ranges)
    if not (picture < len(channels) and block < len(sizes)):
        return None
    counts = sizes.astype(np.int64).prod(1)
    begins = picture * int(counts.sum()) + int(counts[:block].sum())
    maps, height, width = map(int, sizes[block])
    low, high = map(float, ranges[picture, block])
    values = low + codes[begins : begins + int(counts[block])].astype(np.float32) / 255 * (high - low)
    return BlockMaps(tuple(map(int, channels[picture, block, :maps])), values.reshape(maps, height, width))


def check(path: Path, stage: int) -> None:
    """Look through what a stranger's file of a stage says of blocks. Raises MapError."""
    opened = MapFile(path)
    known = {name: job for job in range(1, min(stage, SEEN_JOBS) + 1) for name in _names(job)[1:]}
    there = [name for name in opened.names if _OURS.match(name)]
    if not set(there) <= known.keys():
        raise MapError(f"The map {path.name} holds feature maps of a job that it cannot know.")
    for job in {known[name] for name in there}:
        found = [opened.read(name) for name in _names(job) if name in opened]
        if len(found) < len(_names(job)):
            raise MapError(f"The map {path.name} holds feature maps that are not whole.")
        try:
            _require_fit(*found)
        except MapError as error:
            raise MapError(f"The map {path.name} is damaged. {error}") from None
    opened.close()


def _names(job: int) -> tuple[str, str, str, str]:
    return "seen_sizes", f"seen/{job}", f"seen_channels/{job}", f"seen_ranges/{job}"


def _require_fit(sizes: np.ndarray, codes: np.ndarray, channels: np.ndarray, ranges: np.ndarray) -> None:
    """Raises MapError where these are no feature maps of ours, or do not belong together."""
    types = [sizes.dtype == np.int32, codes.dtype == np.uint8, channels.dtype == np.int32, ranges.dtype == np.float32]
    good = all(types) and sizes.ndim == 2 and sizes.shape[1] == 3 and 0 < len(sizes) <= _MOST_BLOCKS
    good = good and bool((sizes >= 1).all() and (sizes <= [SEEN_MAPS, SEEN_SIDE, SEEN_SIDE]).all())
    pictures = len(channels) if channels.ndim == 3 else 0
    good = good and 0 < pictures <= SEEN_PICTURES and channels.shape[1:] == (len(sizes), SEEN_MAPS)
    good = good and ranges.shape == (pictures, len(sizes), 2) and bool(np.isfinite(ranges).all())
    good = good and codes.shape == (pictures * int(sizes.astype(np.int64).prod(1).sum()),)
    if not good or bool((channels < -1).any()):
        raise MapError("Its feature maps do not fit together.")
