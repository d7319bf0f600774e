"""Learning the new against keeping the old: groups as points on a plane of plasticity and stability.

The numbers come first, the chart second, as everywhere in this room. No torch, no Streamlit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from labcore.configs.method import About
from labcore.configs.verdicts import Mark
from labcore.drawings.charts import Chart
from labcore.drawings.figures import GREY, INK
from labcore.studies.groups import Group

# ---- what to expect -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Expected:
    """A method's place before anything is measured: the literature's marks for new and old jobs.

    It is `compared` where the marks come from a table that compares methods, and not from the method's own paper.
    """

    name: str
    new: Mark
    old: Mark
    compared: bool


def expected_info(methods: Sequence[About]) -> list[Expected]:
    """The methods that the literature rates for both new and old jobs, in their order."""
    found = []
    for about in methods:
        new, old = about.verdict.of("new").mark, about.verdict.of("old").mark
        if new is not None and old is not None:
            found.append(Expected(about.title, new, old, about.verdict.compared))
    return found


# ---- what was measured ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlanePoint:
    """A group by what it reached on new tasks and what it keeps of old ones, in per cent.

    Its `number`, from 1, stands for its name where there is no room for names. It is of the `front` where no other
    group is better in both.
    """

    number: int
    name: str
    new: float
    old: float
    new_sd: float
    old_sd: float
    front: bool


def plane_info(groups: Sequence[Group]) -> list[PlanePoint]:
    """The groups that have both figures; a sequence of a single task has no old one."""
    found = [(group.name, group.spread("new"), group.spread("old")) for group in groups]
    known = [(name, new, old) for name, new, old in found if new.mean is not None and old.mean is not None]
    points = []
    for number, (name, new, old) in enumerate(known, 1):
        beaten = any(
            (other.mean or 0) >= (new.mean or 0)
            and (kept.mean or 0) >= (old.mean or 0)
            and (other.mean, kept.mean) != (new.mean, old.mean)
            for _, other, kept in known
        )
        x, y, x_sd, y_sd = (100 * (value or 0.0) for value in (new.mean, old.mean, new.sd, old.sd))
        points.append(PlanePoint(number, name, x, y, x_sd, y_sd, not beaten))
    return points


def plane(points: Sequence[PlanePoint]) -> Chart:
    """Draw the plane: those farther right learn new jobs better, those farther up keep old ones better.

    The line joins the groups that no other beats in both. Every point has its name beside it and its number in it; a
    page shows one of the two (assets/tables.css).
    """
    chart = Chart()
    front = sorted((point for point in points if point.front), key=lambda point: point.new)
    chart.trace(
        "scatter", x=[p.new for p in front], y=[p.old for p in front], mode="lines", hoverinfo="skip",
        line={"color": GREY, "width": 1.5, "dash": "dot", "shape": "hv"}, showlegend=False,
    )  # fmt: skip
    chart.trace(
        "scatter", x=[p.new for p in points], y=[p.old for p in points], mode="markers+text", showlegend=False,
        error_x={"array": [p.new_sd for p in points], "color": GREY, "thickness": 1, "width": 3},
        error_y={"array": [p.old_sd for p in points], "color": GREY, "thickness": 1, "width": 3},
        marker={
            "size": 12, "color": [INK if p.front else "rgba(0,0,0,0)" for p in points],
            "line": {"color": INK, "width": 2}, "symbol": "circle",
        },
        text=[str(p.number) for p in points], textposition="top right", textfont={"size": 13},
        customdata=[p.name for p in points],
        hovertemplate="%{customdata}<br>new jobs, when learnt: %{x:.1f} %"
        "<br>old jobs, at the end: %{y:.1f} %<extra></extra>",
    )  # fmt: skip
    across = _tens([p.new + by for p in points for by in (-p.new_sd, p.new_sd)])
    up = _tens([p.old + by for p in points for by in (-p.old_sd, p.old_sd)])
    for point, x, y, side in labels_apart(points, across, up):
        chart.note(
            x=point.new, y=point.old, text=point.name, showarrow=True, arrowhead=0, arrowwidth=1, arrowcolor=GREY,
            standoff=7, ax=x, ay=y, xanchor=side, yanchor="middle", font={"size": 13},
        )  # fmt: skip
    new = {"text": "how well a new job is learnt →", "font": {"size": 13}}
    old = {"text": "how well old jobs are still done →", "font": {"size": 13}}
    chart.set(
        xaxis={"range": across, "ticksuffix": " %", "title": new},
        yaxis={"range": up, "ticksuffix": " %", "title": old},
        margin={"l": 66, "r": 16, "t": 12, "b": 48},
        showlegend=False,
    )
    return chart


def _tens(percent: Sequence[float]) -> tuple[float, float]:
    """A range from the ten below all of these to the ten above, and at 100 % a little beyond, which seldom moves."""
    low, high = min(percent, default=64.0) - 4, max(percent, default=100.0) + 4
    return max(0.0, 10 * (low // 10)), min(102.0, -10 * (-high // 10))


# About how large the chart's area and a letter are on a projector, in px: names need not be placed exactly, only apart.
_AREA, _LETTER, _LINE = (540, 250), 7, 17


def labels_apart(
    points: Sequence[PlanePoint], across: tuple[float, float], up: tuple[float, float]
) -> list[tuple[PlanePoint, int, int, Literal["left", "right"]]]:
    """Where names go, in px to the right of their points and below them, so that none covers another or a point.

    The names of the front are placed first. A name for which there is no room is left out.
    """
    per_x, per_y = _AREA[0] / (across[1] - across[0]), _AREA[1] / (up[1] - up[0])
    points = sorted(points, key=lambda point: not point.front)
    places = [((p.new - across[0]) * per_x, (up[1] - p.old) * per_y) for p in points]
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in places]
    for p, (x, y) in zip(points, places, strict=True):
        wide, high = p.new_sd * per_x, p.old_sd * per_y
        taken += [(x - wide, y - 2, x + wide, y + 2), (x - 2, y - high, x + 2, y + high)]
    found: list[tuple[PlanePoint, int, int, Literal["left", "right"]]] = []
    tries = sorted(
        ((dx, dy) for dy in range(-9 * _LINE, 10 * _LINE, _LINE) for dx in (12, -12, 60, -60)),
        key=lambda offset: (abs(offset[1]) + abs(offset[0]), offset),
    )
    for point, (x, y) in zip(points, places, strict=True):
        width = _LETTER * len(point.name)
        for dx, dy in tries:
            left = x + dx if dx > 0 else x + dx - width
            box = (left, y + dy - _LINE / 2, left + width, y + dy + _LINE / 2)
            inside = box[0] > 0 and box[2] < _AREA[0] and box[1] > 0 and box[3] < _AREA[1]
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                found.append((point, dx, dy, "left" if dx > 0 else "right"))
                break
    return found


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
