"""A layer's weight map as a picture: a palette PNG, and what its rows, columns and pixels stand for."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from plotly.colors import sample_colorscale

from labcore.drawings.figures import task_colour
from labcore.drawings.inside.overview import SCALE, power
from labcore.runs import map_files
from labcore.runs.map_files import Layer

Colour = tuple[int, int, int, int]  # red, green, blue and opacity, each from 0 to 255
NOTHING: Colour = (138, 143, 156, 82)


@dataclass(frozen=True, slots=True)
class Picture:
    """A weight map to draw: PNG bytes, and what its rows, columns and pixels stand for."""

    png: bytes
    rows: int
    columns: int
    pixel: str
    legend: list[tuple[str, str]]  # colours and their words; of a scale, its two ends

    @property
    def address(self) -> str:
        """The picture as a data address, for a page."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


def weight_map(
    layer: Layer, indices: np.ndarray, palette: Sequence[Colour], rule: str, legend: list[tuple[str, str]]
) -> Picture:
    """A picture weight by weight, from uint8 `indices` into the palette: each filter is a row.

    `rule` says how weights share a pixel.
    """
    return _picture(layer, indices, palette, (layer.shape[0], layer.weights // layer.shape[0]), rule, legend)


def magnitude_map(layer: Layer, logs: np.ndarray, scale: tuple[float, float]) -> Picture:
    """A picture of filters × inputs, from log10 of magnitudes on this scale; NaN where there is none."""
    low, high = scale
    place = np.clip((logs - low) / max(high - low, 1e-9), 0, 1)
    indices = np.where(np.isnan(logs), 0, 1 + np.rint(254 * np.nan_to_num(place))).astype(np.uint8)
    whole = layer.shape[0], map_files.columns_of(layer.shape)
    ends = [("0", f"{power(low)} or less"), ("1", power(high))]
    return _picture(layer, indices, _MAGNITUDES, whole, "the mean of up to", ends)


def task_colours() -> list[Colour]:
    """A palette for owners: 0 is nobody, and any other number has the colour of the task at that position."""
    return [NOTHING, *((*rgb(task_colour(task)), 255) for task in range(1, 256))]


def shades(task: int) -> list[Colour]:
    """A palette for shares of 255, from grey to the task's colour."""
    colour, off = np.array(rgb(task_colour(task))), np.array(NOTHING[:3])
    mixed = [np.rint(off + (colour - off) * level / 255) for level in range(256)]
    return [(*(int(part) for part in mix), round(90 + 165 * level / 255)) for level, mix in enumerate(mixed)]  # type: ignore[misc]


def rgb(colour: str) -> tuple[int, int, int]:
    """The red, green and blue of a colour such as `#0072B2`."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _picture(
    layer: Layer,
    indices: np.ndarray,
    palette: Sequence[Colour],
    whole: tuple[int, int],
    rule: str,
    legend: list[tuple[str, str]],
) -> Picture:
    return Picture(_png(indices, palette), *whole, _per_pixel(layer, indices, whole, rule), legend)


def _png(indices: np.ndarray, palette: Sequence[Colour]) -> bytes:
    """Write uint8 indices as a palette PNG."""
    image = Image.fromarray(np.ascontiguousarray(indices), "P")
    image.putpalette([part for colour in palette for part in colour[:3]])
    data = io.BytesIO()
    image.save(data, "PNG", transparency=bytes(colour[3] for colour in palette))
    return data.getvalue()


def _viridis() -> list[tuple[int, int, int]]:
    found = sample_colorscale(SCALE, [place / 254 for place in range(255)])
    return [tuple(round(float(part)) for part in text[4:-1].split(",")) for text in found]  # type: ignore[misc]


_MAGNITUDES: list[Colour] = [NOTHING, *((*colour, 255) for colour in _viridis())]


def _per_pixel(layer: Layer, drawn: np.ndarray, matrix: tuple[int, int], rule: str) -> str:
    """What a pixel stands for, told in words."""
    rows, columns = (-(-whole // part) for whole, part in zip(matrix, drawn.shape, strict=True))
    inside = layer.weights // (matrix[0] * matrix[1])
    weights = rows * columns * inside
    return "a pixel is one weight" if weights == 1 else f"a pixel is {rule} {weights} weights"
