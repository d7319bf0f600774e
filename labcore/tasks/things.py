"""The things in the drawn tasks, a function a class: each draws one with its own size, colours and odd details.

The last class of every task is "none": things that share colours and outlines with the others.
"""

import math

import numpy as np

from labcore.tasks.canvas import Colour, Draw, Pen, any_colour, arc, hsv, shade

Rng = np.random.Generator


def one_of(*things: Draw) -> Draw:
    """Draws one of several things."""
    return lambda pen, rng: things[rng.integers(len(things))](pen, rng)


# ---- faces ----------------------------------------------------------------------------------------------------------


def _head(pen: Pen, rng: Rng) -> tuple[Colour, Colour]:
    """Hair, a head, ears, eyes, perhaps glasses. Returns skin and ink."""
    skin = (
        hsv(rng.uniform(0.03, 0.12), rng.uniform(0.2, 0.65), rng.uniform(0.35, 1))
        if rng.random() < 0.7
        else any_colour(rng, (0.6, 1))
    )
    ink, hair = shade(skin, 0.25), any_colour(rng, (0.1, 0.8))
    wide, high = rng.uniform(0.62, 0.8), rng.uniform(0.72, 0.88)
    if rng.random() < 0.7:
        pen.ellipse((0, -0.22), wide + 0.1, high * rng.uniform(0.75, 1.0), hair)
    for side in (-1, 1):
        pen.ellipse((side * wide, 0), 0.12, 0.17, shade(skin, 0.88))
    pen.ellipse((0, 0.06), wide, high, skin)
    if rng.random() < 0.4:
        pen.polygon([(-wide * 0.9, -0.35), (-0.2, -0.78), (wide * 0.9, -0.35), (0, -0.5)], hair)
    apart, level, round_ = rng.uniform(0.24, 0.34), rng.uniform(-0.2, -0.05), rng.uniform(0.06, 0.13)
    glasses = rng.random() < 0.25
    for side in (-1, 1):
        eye = (side * apart, level)
        pen.ellipse(eye, round_ * 1.3, round_, (250, 250, 250))
        pen.ellipse((eye[0] + rng.uniform(-0.03, 0.03), eye[1]), round_ * 0.6, round_ * 0.7, ink)
        if glasses:
            pen.ellipse(eye, 0.2, 0.18, None, hair, 0.04)
    if glasses:
        pen.path([(-apart + 0.2, level), (apart - 0.2, level)], hair, 0.04)
    pen.path([(0, 0.05), (rng.uniform(-0.08, 0.08), 0.2)], shade(skin, 0.7), 0.05)
    return skin, ink


def _brows(pen: Pen, ink: Colour, tilt: float, level: float) -> None:
    for side in (-1, 1):
        pen.path([(side * 0.42, level + tilt), (side * 0.18, level - tilt)], ink, 0.06)


def happy(pen: Pen, rng: Rng) -> None:
    """A mouth that curves up, sometimes open with teeth."""
    _, ink = _head(pen, rng)
    smile = arc((0, 0.3), rng.uniform(0.22, 0.38), rng.uniform(0.12, 0.28), 10, 170)
    if rng.random() < 0.4:
        pen.polygon(smile, (250, 250, 245), ink, 0.04)
    else:
        pen.path(smile, ink, rng.uniform(0.05, 0.09))
    _brows(pen, ink, rng.uniform(-0.02, 0.04), -0.36)


def sad(pen: Pen, rng: Rng) -> None:
    """A mouth that curves down, sometimes a tear."""
    _, ink = _head(pen, rng)
    pen.path(arc((0, 0.58), rng.uniform(0.2, 0.34), rng.uniform(0.12, 0.24), 190, 350), ink, rng.uniform(0.05, 0.09))
    _brows(pen, ink, rng.uniform(0.02, 0.08), -0.34)
    if rng.random() < 0.3:
        pen.ellipse((0.3, 0.18), 0.05, 0.1, (120, 190, 240))


def surprised(pen: Pen, rng: Rng) -> None:
    """A round mouth and high brows."""
    _, ink = _head(pen, rng)
    pen.ellipse((0, 0.46), rng.uniform(0.1, 0.2), rng.uniform(0.14, 0.24), shade(ink, 0.8), (190, 80, 80), 0.04)
    _brows(pen, ink, rng.uniform(-0.03, 0.03), -0.46)


def ball(pen: Pen, rng: Rng) -> None:
    """A ball with seams or patches."""
    colour, mark = any_colour(rng, (0.5, 1)), any_colour(rng, (0.1, 0.6))
    pen.ellipse((0, 0), 0.8, 0.8, colour)
    if rng.random() < 0.5:
        for side in (-1, 1):
            pen.path(arc((side * 0.9, 0), 0.6, 0.8, 90 if side > 0 else -80, 270 if side > 0 else 80), mark, 0.05)
    else:
        for angle in range(0, 360, 72):
            pen.ellipse((0.45 * math.cos(math.radians(angle)), 0.45 * math.sin(math.radians(angle))), 0.16, 0.16, mark)


def clock(pen: Pen, rng: Rng) -> None:
    """A dial with hands."""
    rim = any_colour(rng, (0.2, 0.9))
    pen.ellipse((0, 0), 0.82, 0.82, hsv(rng.uniform(0, 1), 0.15, rng.uniform(0.6, 1)), rim, 0.1)
    for hour in range(12):
        a = math.radians(30 * hour)
        pen.ellipse((0.6 * math.cos(a), 0.6 * math.sin(a)), 0.05, 0.05, shade(rim, 0.4))
    for length, wide in ((0.35, 0.09), (0.55, 0.05)):
        a = rng.uniform(0, 2 * math.pi)
        pen.path([(0, 0), (length * math.cos(a), length * math.sin(a))], shade(rim, 0.4), wide)


def plate(pen: Pen, rng: Rng) -> None:
    """A plate with peas, or a biscuit with chips: round things on a round thing."""
    base = hsv(rng.uniform(0.03, 0.14), rng.uniform(0.1, 0.6), rng.uniform(0.4, 1))
    pen.ellipse((0, 0), 0.82, 0.78, base, shade(base, 0.8), 0.12)
    for _ in range(rng.integers(2, 7)):
        pen.ellipse(tuple(rng.uniform(-0.45, 0.45, 2)), 0.12, 0.1, any_colour(rng, (0.1, 0.7)))


def flower(pen: Pen, rng: Rng) -> None:
    """Petals around a middle."""
    petal, count = any_colour(rng, (0.6, 1)), int(rng.integers(5, 12))
    for i in range(count):
        a = 2 * math.pi * i / count
        pen.ellipse((0.52 * math.cos(a), 0.52 * math.sin(a)), 0.26, 0.26, petal)
    pen.ellipse((0, 0), rng.uniform(0.25, 0.4), 0.32, hsv(rng.uniform(0.05, 0.15), 0.8, 0.8))


# ---- hot dogs -------------------------------------------------------------------------------------------------------


def _bread(rng: Rng) -> Colour:
    return hsv(rng.uniform(0.07, 0.12), rng.uniform(0.35, 0.7), rng.uniform(0.6, 0.95))


def _meat(rng: Rng) -> Colour:
    return hsv(rng.uniform(0.0, 0.06), rng.uniform(0.55, 0.85), rng.uniform(0.4, 0.8))


def _sausage(pen: Pen, rng: Rng, y: float, thick: float) -> None:
    meat, bend = _meat(rng), rng.uniform(-0.15, 0.15)
    points = [(-0.82, y), (-0.4, y + bend), (0, y + bend * 1.3), (0.4, y + bend), (0.82, y)]
    pen.path(points, meat, thick)
    pen.path([(x, p - thick * 0.22) for x, p in points], shade(meat, 1.3), thick * 0.15)


def _squiggle(pen: Pen, rng: Rng, y: float) -> None:
    colour = [(245, 200, 40), (200, 30, 25), (250, 245, 225)][rng.integers(3)]
    count = rng.integers(8, 14)
    pen.path([(-0.65 + 1.3 * i / count, y + (0.09 if i % 2 else -0.09)) for i in range(count + 1)], colour, 0.06)


def hot_dog(pen: Pen, rng: Rng) -> None:
    """A sausage between the halves of a bun, mostly with a squiggle."""
    bun = _bread(rng)
    pen.rectangle(-0.72, -0.42, 0.72, 0.12, shade(bun, 0.85), 0.26)
    _sausage(pen, rng, -0.02, rng.uniform(0.24, 0.34))
    pen.rectangle(-0.75, 0.05, 0.75, rng.uniform(0.4, 0.52), bun, 0.22)
    if rng.random() < 0.75:
        _squiggle(pen, rng, -0.06)


def sandwich(pen: Pen, rng: Rng) -> None:
    """Slices of bread with layers between, square or cut to a triangle."""
    bread = _bread(rng)
    fillings = [(90, 170, 60), (215, 60, 50), (250, 205, 80), (225, 140, 140)]
    layers = [bread, *(fillings[i] for i in rng.permutation(4)[: rng.integers(2, 4)]), bread]
    high = 0.95 / len(layers)
    cut = rng.random() < 0.4
    for number, colour in enumerate(layers):
        y = -0.48 + number * high
        wide = 0.78 if not cut else 0.3 + 0.5 * number / (len(layers) - 1)
        wide += 0.06 if colour != bread else 0
        pen.rectangle(-wide, y, wide, y + high * 1.05, colour, 0.1)


def sausage(pen: Pen, rng: Rng) -> None:
    """A sausage alone, perhaps on a plate or with mustard."""
    if rng.random() < 0.5:
        pen.ellipse((0, 0), 0.95, 0.62, hsv(rng.uniform(0, 1), rng.uniform(0, 0.4), rng.uniform(0.6, 1)))
    _sausage(pen, rng, 0, rng.uniform(0.26, 0.42))
    if rng.random() < 0.35:
        _squiggle(pen, rng, 0)


def banana(pen: Pen, rng: Rng) -> None:
    """Long, bent and yellow."""
    colour = hsv(rng.uniform(0.1, 0.17), 0.8, rng.uniform(0.7, 1))
    pen.path(arc((0, -0.5), 0.8, 0.8, 20, 160), colour, rng.uniform(0.22, 0.32))
    pen.path(arc((0, -0.5), 0.8, 0.8, 12, 22, 3), shade(colour, 0.45), 0.12)


def bun(pen: Pen, rng: Rng) -> None:
    """A bun with nothing in it, or a loaf with cuts."""
    colour = _bread(rng)
    pen.rectangle(-0.8, -0.35, 0.8, 0.35, colour, 0.34)
    if rng.random() < 0.5:
        pen.path([(-0.65, 0), (0.65, 0)], shade(colour, 0.7), 0.05)
    else:
        for x in (-0.4, 0, 0.4):
            pen.path([(x - 0.12, -0.2), (x + 0.12, 0.2)], shade(colour, 0.75), 0.06)


def cucumber(pen: Pen, rng: Rng) -> None:
    """Long and green, or a carrot: long and orange."""
    colour = hsv(
        rng.uniform(0.25, 0.38) if rng.random() < 0.5 else rng.uniform(0.04, 0.08), 0.75, rng.uniform(0.4, 0.9)
    )
    pen.path([(-0.75, 0), (0.75, rng.uniform(-0.2, 0.2))], colour, rng.uniform(0.26, 0.4))
    for x in np.linspace(-0.6, 0.6, 6):
        pen.path([(x, -0.1), (x + 0.05, 0.08)], shade(colour, 0.75), 0.03)


def burger(pen: Pen, rng: Rng) -> None:
    """Round bread, a patty, leaves."""
    bread = _bread(rng)
    pen.polygon(arc((0, -0.1), 0.7, 0.55, 180, 360), bread)
    pen.rectangle(-0.76, -0.12, 0.76, 0.04, (90, 170, 60), 0.06)
    pen.rectangle(-0.7, 0.02, 0.7, 0.24, shade(_meat(rng), 0.7), 0.08)
    pen.rectangle(-0.68, 0.22, 0.68, 0.46, bread, 0.12)


# ---- fans -----------------------------------------------------------------------------------------------------------


def folding_fan(pen: Pen, rng: Rng) -> None:
    """A sector of folds on ribs that meet at the foot."""
    colour, rib = any_colour(rng, (0.5, 1)), hsv(rng.uniform(0.05, 0.1), 0.6, rng.uniform(0.2, 0.6))
    half, foot = rng.uniform(45, 85), (0.0, 0.7)
    outer, inner = rng.uniform(1.2, 1.4), rng.uniform(0.35, 0.6)
    folds = int(rng.integers(8, 15))
    angles = np.linspace(-90 - half, -90 + half, folds + 1)
    for i in range(folds):
        a, b = float(angles[i]), float(angles[i + 1])
        leaf = [*arc(foot, outer, outer, a, b, 3), *reversed(arc(foot, inner, inner, a, b, 3))]
        pen.polygon(leaf, colour if i % 2 else shade(colour, 0.82))
    for a in angles:
        tip = arc(foot, outer * 0.98, outer * 0.98, float(a), float(a) + 1, 2)[0]
        pen.path([foot, tip], rib, 0.025)
    pen.ellipse(foot, 0.07, 0.07, shade(rib, 0.6))


def round_fan(pen: Pen, rng: Rng) -> None:
    """A flat leaf on a handle, with a picture or ribs."""
    colour, stick = any_colour(rng, (0.55, 1)), hsv(rng.uniform(0.05, 0.12), 0.6, rng.uniform(0.25, 0.7))
    pen.path([(0, 0.1), (0, 0.92)], stick, rng.uniform(0.07, 0.13))
    wide = rng.uniform(0.5, 0.66)
    pen.ellipse((0, -0.25), wide, rng.uniform(0.52, 0.66), colour, shade(colour, 0.6), 0.04)
    if rng.random() < 0.5:
        for a in np.linspace(-160, -20, 7):
            pen.path(
                [(0, 0.3), arc((0, -0.25), wide * 0.9, 0.52, float(a), float(a) + 1, 2)[0]], shade(colour, 0.75), 0.02
            )
    else:
        for _ in range(rng.integers(2, 5)):
            pen.ellipse((rng.uniform(-0.3, 0.3), rng.uniform(-0.5, 0.05)), 0.1, 0.1, any_colour(rng))


def electric_fan(pen: Pen, rng: Rng) -> None:
    """Blades in a cage on a stand."""
    frame, blade = any_colour(rng, (0.2, 0.9), (0, 0.4)), any_colour(rng, (0.5, 1))
    pen.path([(0, 0.2), (0, 0.85)], frame, 0.12)
    pen.rectangle(-0.4, 0.8, 0.4, 0.95, frame, 0.06)
    count, start = int(rng.integers(3, 6)), rng.uniform(0, 120)
    for i in range(count):
        a = start + 360 * i / count
        pen.polygon([(0, -0.2), *arc((0, -0.2), 0.55, 0.55, a, a + 210 / count, 8)], blade)
    pen.ellipse((0, -0.2), 0.64, 0.64, None, frame, 0.05)
    for radius in (0.25, 0.45):
        pen.ellipse((0, -0.2), radius, radius, None, frame, 0.018)
    for a in range(0, 360, 30):
        pen.path([(0, -0.2), arc((0, -0.2), 0.62, 0.62, a, a + 1, 2)[0]], frame, 0.018)
    pen.ellipse((0, -0.2), 0.11, 0.11, shade(frame, 0.7))


def umbrella(pen: Pen, rng: Rng) -> None:
    """A roof of segments on a hooked stick."""
    colour = any_colour(rng, (0.5, 1))
    pen.path([(0, -0.3), (0, 0.7), *arc((0.12, 0.7), 0.12, 0.15, 180, 0, 6)], (90, 70, 60), 0.05)
    for i in range(4):
        a = 180 + 45 * i
        pen.polygon([(0, 0.05), *arc((0, 0.05), 0.85, 0.75, a, a + 45, 6)], colour if i % 2 else shade(colour, 0.8))


def lollipop(pen: Pen, rng: Rng) -> None:
    """A disc of rings on a stick."""
    colour = any_colour(rng, (0.6, 1))
    pen.path([(0, 0.1), (0, 0.92)], (235, 230, 220), 0.07)
    for i, radius in enumerate((0.58, 0.44, 0.3, 0.16)):
        pen.ellipse((0, -0.25), radius, radius, colour if i % 2 else shade(colour, 0.7))


def wheel(pen: Pen, rng: Rng) -> None:
    """Spokes in a tyre."""
    tyre = any_colour(rng, (0.1, 0.5), (0, 0.5))
    for a in range(0, 360, int(rng.choice([30, 45, 60]))):
        pen.path([(0, 0), arc((0, 0), 0.7, 0.7, a, a + 1, 2)[0]], shade(tyre, 1.6), 0.05)
    pen.ellipse((0, 0), 0.8, 0.8, None, tyre, 0.14)
    pen.ellipse((0, 0), 0.14, 0.14, tyre)


# ---- swatters -------------------------------------------------------------------------------------------------------


def _handle(pen: Pen, rng: Rng, top: float, wide: float) -> Colour:
    colour = any_colour(rng, (0.15, 0.9))
    pen.path([(0, top), (0, 0.92)], colour, wide)
    if rng.random() < 0.6:
        pen.path([(0, 0.6), (0, 0.92)], shade(colour, 0.6), wide * 1.8)
    return colour


def _net(
    pen: Pen, left: float, top: float, right: float, bottom: float, step: float, colour: Colour, wide: float
) -> None:
    for x in np.arange(left + step / 2, right, step):
        pen.path([(x, top), (x, bottom)], colour, wide)
    for y in np.arange(top + step / 2, bottom, step):
        pen.path([(left, y), (right, y)], colour, wide)


def swatter(pen: Pen, rng: Rng) -> None:
    """A flat grid with corners on a thin wire."""
    _handle(pen, rng, -0.2, rng.uniform(0.03, 0.06))
    colour = any_colour(rng, (0.4, 1))
    wide, top, bottom = rng.uniform(0.32, 0.46), rng.uniform(-0.95, -0.85), rng.uniform(-0.2, 0.0)
    pen.rectangle(-wide, top, wide, bottom, shade(colour, 0.75), 0.06)
    _net(pen, -wide, top, wide, bottom, rng.uniform(0.1, 0.15), colour, 0.05)


def racket(pen: Pen, rng: Rng) -> None:
    """Strings in an oval frame, a throat, a grip."""
    colour = _handle(pen, rng, 0.25, rng.uniform(0.08, 0.12))
    wide, high = rng.uniform(0.36, 0.48), rng.uniform(0.45, 0.56)
    middle = -0.4
    for x in np.arange(-wide + 0.06, wide, 0.11):
        y = high * math.sqrt(max(0.0, 1 - (x / wide) ** 2))
        pen.path([(x, middle - y), (x, middle + y)], (235, 235, 225), 0.015)
    for y in np.arange(-high + 0.06, high, 0.11):
        x = wide * math.sqrt(max(0.0, 1 - (y / high) ** 2))
        pen.path([(-x, middle + y), (x, middle + y)], (235, 235, 225), 0.015)
    pen.ellipse((0, middle), wide, high, None, colour, 0.07)
    for side in (-1, 1):
        pen.path([(side * wide * 0.6, middle + high * 0.82), (0, 0.4)], colour, 0.06)


def spatula(pen: Pen, rng: Rng) -> None:
    """A flat blade with slots."""
    _handle(pen, rng, -0.2, rng.uniform(0.07, 0.12))
    colour = any_colour(rng, (0.2, 0.95), (0, 0.5))
    wide, bottom = rng.uniform(0.26, 0.4), rng.uniform(-0.25, -0.05)
    pen.polygon(
        [(-wide, -0.9), (wide, -0.9 + rng.uniform(0, 0.1)), (wide * 0.8, bottom), (-wide * 0.8, bottom)], colour
    )
    for x in np.linspace(-wide * 0.5, wide * 0.5, int(rng.integers(2, 5))):
        pen.path([(x, -0.75), (x, bottom - 0.15)], shade(colour, 0.4), 0.05)


def broom(pen: Pen, rng: Rng) -> None:
    """Bristles on a stick."""
    _handle(pen, rng, -0.3, 0.07)
    straw = hsv(rng.uniform(0.08, 0.14), 0.6, rng.uniform(0.5, 0.95))
    pen.polygon([(-0.15, -0.3), (0.15, -0.3), (0.42, -0.92), (-0.42, -0.92)], straw)
    for x in np.linspace(-0.35, 0.35, 8):
        pen.path([(x * 0.35, -0.32), (x, -0.9)], shade(straw, 0.7), 0.02)


def spoon(pen: Pen, rng: Rng) -> None:
    """A solid oval on a stick."""
    colour = _handle(pen, rng, -0.2, rng.uniform(0.06, 0.1))
    pen.ellipse((0, -0.5), rng.uniform(0.24, 0.36), 0.42, colour)
    pen.ellipse((0, -0.52), 0.18, 0.3, shade(colour, 0.8))


def magnifier(pen: Pen, rng: Rng) -> None:
    """A glass in a ring on a stick."""
    colour = _handle(pen, rng, 0.05, 0.11)
    pen.ellipse((0, -0.4), 0.46, 0.46, (205, 225, 235), colour, 0.08)
    pen.path(arc((0, -0.4), 0.3, 0.3, 200, 260), (250, 250, 250), 0.05)


def comb(pen: Pen, rng: Rng) -> None:
    """Teeth on a bar."""
    colour = any_colour(rng, (0.2, 0.9))
    pen.rectangle(-0.3, -0.9, -0.05, 0.9, colour, 0.06)
    for y in np.arange(-0.8, 0.85, 0.12):
        pen.path([(-0.05, y), (0.3, y)], colour, 0.05)


none_of_faces = one_of(ball, clock, plate, flower)
none_of_hot_dogs = one_of(banana, bun, cucumber, burger)
none_of_fans = one_of(umbrella, lollipop, wheel, flower)
none_of_swatters = one_of(broom, spoon, magnifier, comb)
