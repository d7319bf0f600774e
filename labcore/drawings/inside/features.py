"""What a block makes of a picture: its feature maps when the picture's job was learnt, and at a moment since."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from labcore.configs.looking import SEEN_JOBS, SEEN_PICTURES
from labcore.runs import feature_maps, moments
from labcore.runs.events import MapSaved
from labcore.runs.feature_maps import BlockMaps
from labcore.runs.map_files import MapError
from labcore.runs.moments import View


@dataclass(frozen=True, slots=True)
class Sight:
    """A block's maps of a picture at the end of a stage: each map's number in the block, and how it looks.

    A map of one place is told as a number, any other is a picture as a data address.
    """

    when: str
    channels: tuple[int, ...]
    looks: tuple[str, ...]


def pictures(seen: View) -> list[tuple[int, int]]:
    """The jobs, counted from 1, and their pictures, from 0, of which something may be known in this run."""
    jobs = min(len(seen.titles), SEEN_JOBS)
    return [(job, picture) for job in range(1, jobs + 1) for picture in range(SEEN_PICTURES)]


def kept_none(seen: View) -> bool:
    """Whether the last stage's maps were made without feature maps, by a version of before."""
    ends = [moment for moment in seen.fold.maps if moment.kind == "stage"]
    if not ends or not seen.book.layers(ends[-1]):  # nothing, or a damaged file, of which the page says so
        return False
    return seen.book.last(ends[-1:], "seen_sizes") is None


def sights(seen: View, job: int, picture: int, block: int) -> list[Sight] | str:
    """What a block made of a picture when its job was learnt, and at the end of the last stage since, if there is one.

    All are drawn on one scale. Where there is nothing to be shown, it is a sentence that says why.
    """
    title, name = seen.titles[job - 1], f"seen/{job}"
    learnt = seen.book.last(seen.until, name, job)
    if learnt is None:
        is_learnt = any(moment.stage == job and moment.kind == "stage" for moment in seen.until)
        return "Nothing of this was kept." if is_learnt else f"At this moment {title} is not learnt yet."
    latest = seen.book.last(seen.until, name) or learnt
    told = [learnt] if latest == learnt else [learnt, latest]
    try:
        found = [_read(seen, moment, job, picture, block) for moment in told]
    except MapError as error:
        return f"They cannot be shown. {error}"
    known = [maps for maps in found if maps is not None]
    if len(known) < len(told) or len({maps.values.shape for maps in known}) > 1:
        return "Nothing of this picture was kept."
    low, high = (float(end([end(maps.values) for maps in known])) for end in (np.min, np.max))
    words = [f"when {title} was learnt", moments.words_of(seen.fold, latest)]
    return [
        Sight(when, maps.channels, _looks(maps.values, low, high)) for when, maps in zip(words, known, strict=False)
    ]


def _read(seen: View, moment: MapSaved, job: int, picture: int, block: int) -> BlockMaps | None:
    return feature_maps.read(lambda name: seen.book.read(moment, name), job, picture, block)


def _looks(maps: np.ndarray, low: float, high: float) -> tuple[str, ...]:
    if maps.shape[1:] == (1, 1):
        return tuple(f"{value:.2g}" for value in maps[:, 0, 0])
    return tuple(_address(np.rint(255 * (map_ - low) / max(high - low, 1e-30)).astype(np.uint8)) for map_ in maps)


def _address(grey: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
