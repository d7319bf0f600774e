"""A pen, colours, backgrounds, clutter and light: what every drawn picture is made with.

Everything is drawn larger than it is kept, in coordinates from −1 to 1 (x to the right, y down), and averaged down.
"""

import colorsys
import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 96  # px of a finished picture
_LARGE = SIZE * 2
_Y, _X = np.mgrid[0 : 1 : _LARGE * 1j, 0 : 1 : _LARGE * 1j]

Colour = tuple[int, int, int]
Point = tuple[float, float]
Draw = Callable[["Pen", np.random.Generator], None]


class Pen:
    """Draws on a transparent layer of `side` px; lengths are in halves of the layer's side."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.layer = Image.new("RGBA", (side, side), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self.layer)

    def _at(self, points: Sequence[Point]) -> list[Point]:
        return [((x + 1) * self.side / 2, (y + 1) * self.side / 2) for x, y in points]

    def _width(self, width: float) -> int:
        return max(1, round(width * self.side / 2))

    def ellipse(
        self, centre: Point, rx: float, ry: float, fill: Colour | None, line: Colour | None = None, width: float = 0.03
    ) -> None:
        """An ellipse with its axes along x and y."""
        (x, y) = centre
        box = [*self._at([(x - rx, y - ry)])[0], *self._at([(x + rx, y + ry)])[0]]
        self._draw.ellipse(box, fill=fill, outline=line, width=self._width(width) if line else 0)

    def polygon(self, points: Sequence[Point], fill: Colour, line: Colour | None = None, width: float = 0.02) -> None:
        """A filled polygon."""
        self._draw.polygon(self._at(points), fill=fill)
        if line:
            self.path([*points, points[0]], line, width)

    def path(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """A line through points, round at corners and ends."""
        at, wide = self._at(points), self._width(width)
        self._draw.line(at, fill=colour, width=wide, joint="curve")
        for x, y in (at[0], at[-1]):
            self._draw.ellipse([x - wide / 2, y - wide / 2, x + wide / 2, y + wide / 2], fill=colour)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, fill: Colour, radius: float = 0.0) -> None:
        """A rectangle with round corners."""
        (a, b), (c, d) = self._at([(min(x0, x1), min(y0, y1)), (max(x0, x1), max(y0, y1))])
        self._draw.rounded_rectangle([a, b, c, d], radius=radius * self.side / 2, fill=fill)


def arc(centre: Point, rx: float, ry: float, first: float, last: float, count: int = 24) -> list[Point]:
    """Points on an ellipse from angle `first` to `last`, degrees, clockwise from the right."""
    angles = [math.radians(first + (last - first) * i / (count - 1)) for i in range(count)]
    return [(centre[0] + rx * math.cos(a), centre[1] + ry * math.sin(a)) for a in angles]


def any_colour(
    rng: np.random.Generator, light: tuple[float, float] = (0.3, 0.9), strong: tuple[float, float] = (0.2, 0.9)
) -> Colour:
    """A colour of any hue."""
    return hsv(rng.uniform(0, 1), rng.uniform(*strong), rng.uniform(*light))


def hsv(hue: float, strength: float, light: float) -> Colour:
    """A colour from hue, saturation and value, each 0 to 1."""
    r, g, b = colorsys.hsv_to_rgb(hue % 1, min(1, max(0, strength)), min(1, max(0, light)))
    return round(r * 255), round(g * 255), round(b * 255)


def shade(colour: Colour, factor: float) -> Colour:
    """Darker (below 1) or lighter (above 1)."""
    r, g, b = (min(255, max(0, round(part * factor))) for part in colour)
    return r, g, b


def picture(thing: Draw, rng: np.random.Generator, turn: float) -> np.ndarray:
    """One finished picture, uint8 [SIZE, SIZE, 3]: a background, clutter, the thing, more clutter, and light.

    `turn` is the largest rotation either way, in degrees.
    """
    scene = _background(rng)
    for _ in range(rng.integers(1, 5)):
        _place(scene, _clutter, rng, (0.12, 0.34), 1.0, 180)
    _place(scene, thing, rng, (0.52, 0.95), 0.42, turn)
    for _ in range(rng.integers(0, 3)):
        _place(scene, _clutter, rng, (0.10, 0.24), 1.0, 180)
    return _light(scene, rng)


def _place(
    scene: Image.Image, thing: Draw, rng: np.random.Generator, scale: tuple[float, float], spread: float, turn: float
) -> None:
    """Draw a thing turned, stretched, scaled and shifted, sometimes mirrored."""
    size = rng.uniform(*scale)
    pen = Pen(max(8, round(_LARGE * size)))
    thing(pen, rng)
    layer = pen.layer
    if rng.random() < 0.5:
        layer = layer.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    layer = layer.rotate(rng.uniform(-turn, turn), Image.Resampling.BILINEAR)
    width, height = (max(4, round(_LARGE * size * rng.uniform(0.88, 1.12))) for _ in range(2))
    layer = layer.resize((width, height), Image.Resampling.BILINEAR)
    x, y = ((_LARGE / 2) * (1 + spread * rng.uniform(-1, 1)) - side / 2 for side in (width, height))
    scene.paste(layer, (round(x), round(y)), layer)


def _background(rng: np.random.Generator) -> Image.Image:
    light = rng.uniform(0.25, 0.95)
    first = any_colour(rng, (light * 0.8, light), (0.05, 0.6))
    second = (
        any_colour(rng, (light * 0.6, light), (0.05, 0.6))
        if rng.random() < 0.5
        else shade(first, rng.uniform(0.7, 1.25))
    )
    angle = rng.uniform(0, math.pi)
    along = _X * math.cos(angle) + _Y * math.sin(angle)
    across = _Y * math.cos(angle) - _X * math.sin(angle)
    match rng.integers(6):
        case 0:
            mix = along
        case 1:
            mix = (np.sin(along * rng.uniform(15, 50)) > 0).astype(float)
        case 2:
            mix = ((np.sin(along * 30) > 0) ^ (np.sin(across * 30) > 0)).astype(float)
        case 3:  # wood
            grain = rng.uniform(3, 8)
            mix = 0.5 + 0.5 * np.sin(40 * across + grain * np.sin(along * rng.uniform(2, 6)))
        case 4:  # clouds
            small = Image.fromarray(rng.integers(0, 256, (7, 7), dtype=np.uint8))
            mix = np.asarray(small.resize((_LARGE, _LARGE), Image.Resampling.BICUBIC)) / 255.0
        case _:  # dots
            mix = ((np.sin(along * 45) * np.sin(across * 45)) > 0.55).astype(float)
    mix = np.clip(mix, 0, 1)[..., None]
    return Image.fromarray((np.array(first) * (1 - mix) + np.array(second) * mix).astype(np.uint8))


def _clutter(pen: Pen, rng: np.random.Generator) -> None:
    """A blob, a box, a star, a stick or a ring."""
    colour = any_colour(rng)
    match rng.integers(5):
        case 0:
            pen.ellipse((0, 0), rng.uniform(0.4, 0.9), rng.uniform(0.3, 0.9), colour)
        case 1:
            pen.rectangle(-0.8, -rng.uniform(0.3, 0.8), 0.8, rng.uniform(0.3, 0.8), colour, rng.uniform(0, 0.2))
        case 2:
            corners = rng.integers(3, 8)
            radii = [0.9 if i % 2 else rng.uniform(0.35, 0.8) for i in range(2 * corners)]
            angles = [math.pi * i / corners for i in range(2 * corners)]
            pen.polygon([(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)], colour)
        case 3:
            pen.path(
                [(-0.9, 0), (rng.uniform(-0.3, 0.3), rng.uniform(-0.5, 0.5)), (0.9, 0)], colour, rng.uniform(0.08, 0.35)
            )
        case _:
            pen.ellipse((0, 0), 0.8, 0.8, None, colour, rng.uniform(0.1, 0.35))


def _light(scene: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Average down, then a slope of light, contrast, a little blur and noise."""
    small = scene.resize((SIZE, SIZE), Image.Resampling.BOX)
    if rng.random() < 0.3:
        small = small.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
    pixels = np.asarray(small).astype(np.float64)
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    angle = rng.uniform(0, 2 * math.pi)
    slope = 1 + rng.uniform(0, 0.35) * (x * math.cos(angle) + y * math.sin(angle))
    pixels = (pixels - 128) * rng.uniform(0.6, 1.15) + 128 + rng.uniform(-28, 28)
    pixels = pixels * slope[..., None] + rng.normal(0, rng.uniform(1, 9), pixels.shape)
    finished: np.ndarray = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
    return finished
