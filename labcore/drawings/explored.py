"""How explorations look: first what each combination reached, then the charts. No torch, no Streamlit.

Combinations are chosen by their accuracy on validation images; what test images say stands beside it, faint. A figure's
points are in the order of `Tried`, so that a click on the nth one opens its run.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labcore.configs.units import plain
from labcore.drawings.charts import Chart
from labcore.drawings.figures import ACCURACY_SCALE, GREY, INK, PERCENT_AXIS, apart, ink_on
from labcore.studies.experiments import Findings
from labcore.studies.measures import Spread
from labcore.studies.varied import Varied

# What the curve of one setting shows: the measure, its words and its dash. The choice goes by the first.
LINES = (
    ("validation_accuracy", "all jobs", "solid"),
    ("validation_new", "new jobs", "dash"),
    ("validation_old", "old jobs", "dot"),
    ("accuracy", "all jobs, test", "dashdot"),
)
SYMBOLS = ("circle", "diamond", "square", "x-thin-open")
BEST = "#D0812B"
_BAR = {"ticksuffix": " %", "thickness": 12, "outlinewidth": 0, "tickvals": PERCENT_AXIS["tickvals"]}


@dataclass(frozen=True, slots=True)
class Tried:
    """A combination that has a finished run.

    It has its values by path, its figures over the seeds, its accuracy on validation images in per cent, its first run,
    and whether it is the best of all.
    """

    values: Mapping[str, Any]
    figures: Mapping[str, Spread]
    percent: float
    run: str
    best: bool


def tried_info(findings: Findings, varied: Sequence[Varied]) -> list[Tried]:
    """Every combination that has a finished run, ordered by its values, as a curve needs them."""
    found, best = [], findings.best()
    for arm in findings.experiment.arms:
        runs = [cell.finished for cell in findings.of(arm.label) if cell.finished]
        figures = {name: findings.spread(arm.label, name) for name, _, _ in LINES}
        mean = figures["validation_accuracy"].mean
        if mean is not None:
            found.append(Tried(dict(arm.values), figures, 100 * mean, runs[0].run, arm == best))
    return sorted(found, key=lambda one: [_place(one.values[setting.path], setting) for setting in varied])


def best_of(tried: Sequence[Tried]) -> Tried | None:
    """The best of them; None while there is none."""
    return next((one for one in tried if one.best), None)


def _place(value: Any, setting: Varied) -> float:
    """Where a value lies on its axis: a number at itself, a word at its position among those that are tried."""
    return float(value) if setting.numeric else float(setting.values.index(value))


# ---- one setting ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One figure in per cent for each value of the setting; None where it is not known."""

    title: str
    dash: str
    percent: list[float | None]
    sd: list[float]


@dataclass(frozen=True, slots=True)
class Curve:
    """A setting's values, and what each of them reached. `names` holds the words for values that are no numbers."""

    setting: Varied
    values: list[float]
    names: list[str] | None
    lines: list[Line]


def curve_info(tried: Sequence[Tried], setting: Varied) -> Curve:
    """All figures against one setting."""
    lines = []
    for measure, title, dash in LINES:
        spreads = [one.figures[measure] for one in tried]
        means = [None if spread.mean is None else 100 * spread.mean for spread in spreads]
        if any(mean is not None for mean in means) or not tried:
            lines.append(Line(title, dash, means, [100 * (spread.sd or 0.0) for spread in spreads]))
    names = None if setting.numeric else [plain(value) for value in setting.values]
    return Curve(setting, [_place(one.values[setting.path], setting) for one in tried], names, lines)


def curve(info: Curve) -> Chart:
    """Draw a line for each figure, named at its end.

    The axis holds the setting's whole range from the start, so that nothing moves.
    """
    chart = Chart()
    _axis_of(chart, "xaxis", info.setting)
    ends = [end for line in info.lines if line.percent and (end := line.percent[-1]) is not None]
    heights = iter(apart(ends, gap=5.5))
    for number, line in enumerate(info.lines):
        test = line.title.endswith("test")
        chart.trace(
            "scatter", x=info.values, y=line.percent, name=line.title,
            mode="markers" if info.names else "lines+markers",
            line={"color": GREY if test else INK, "dash": line.dash, "width": 2.6 if number == 0 else 1.8},
            marker={"size": 10 if number == 0 else 7, "symbol": SYMBOLS[number], "color": GREY if test else INK},
            error_y={"array": line.sd, "visible": any(line.sd) and not test, "thickness": 1, "width": 3},
            customdata=_texts(info),
            hovertemplate=f"{line.title}: %{{y:.1f}} %<br>{info.setting.name} %{{customdata}}<extra></extra>",
        )  # fmt: skip
        if line.percent and line.percent[-1] is not None:
            chart.note(
                x=1, xref="paper", xanchor="left", xshift=8, y=next(heights), text=line.title,
                font={"size": 13, "color": GREY if test else INK},
            )  # fmt: skip
    chart.set(yaxis=PERCENT_AXIS, margin={"l": 56, "r": 112, "t": 12, "b": 48}, showlegend=False)
    return chart


def _texts(info: Curve) -> list[str]:
    if info.names:
        return [info.names[int(value)] for value in info.values]
    return [plain(value) for value in info.values]


def _axis_of(chart: Chart, axis: str, setting: Varied) -> None:
    """Let an axis show a setting's whole range, logarithmic where it varies by equal factors, or its words."""
    layout: dict[str, Any] = {"title": {"text": setting.name, "font": {"size": 13}}, "zeroline": False}
    if setting.low is None or setting.high is None:
        count = len(setting.values)
        layout |= {"tickvals": list(range(count)), "ticktext": [plain(v) for v in setting.values]}
        layout["range"] = [-0.5, count - 0.5]
    else:
        low, high = setting.low, setting.high
        if setting.log:
            low, high = math.log10(low), math.log10(high)
            layout |= {"type": "log", "exponentformat": "power", **({"dtick": 1} if high - low >= 1 else {})}
        margin = 0.05 * (high - low) or 0.5
        layout["range"] = [low - margin, high + margin]
    chart.set(**{axis: layout})


# ---- two settings ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plane:
    """Two settings' values and the accuracy in per cent of each combination, the best last, so that it lies on top.

    `which` holds the place of each in the sequence of `Tried`. `told` says whether there is room for its figure: of two
    tiles that cover each other, only the better one shows it. `best` says whether the last is the best of all.
    """

    settings: tuple[Varied, Varied]
    x: list[float]
    y: list[float]
    percent: list[float]
    which: list[int]
    told: list[bool]
    best: bool


# A tile's sides as shares of the chart's. On a wide screen, tiles are farther apart than this says.
_TILE = (30 / 500, 30 / 330)


def plane_info(tried: Sequence[Tried], settings: tuple[Varied, Varied]) -> Plane:
    """Every combination as a place on the plane of its two settings."""
    across, up = settings
    which = sorted(range(len(tried)), key=lambda number: (tried[number].best, tried[number].percent))
    drawn = [tried[number] for number in which]
    shares = [(_share(one.values[across.path], across), _share(one.values[up.path], up)) for one in drawn]
    covered = [
        any(abs(x - a) < _TILE[0] and abs(y - b) < _TILE[1] for a, b in shares[place + 1 :])
        for place, (x, y) in enumerate(shares)
    ]
    return Plane(
        settings,
        [_place(one.values[across.path], across) for one in drawn],
        [_place(one.values[up.path], up) for one in drawn],
        [one.percent for one in drawn],
        which,
        [not hidden for hidden in covered],
        bool(drawn) and drawn[-1].best,
    )


def _best_place(tried: Sequence[Tried]) -> int | None:
    return next((number for number, one in enumerate(tried) if one.best), None)


def plane(info: Plane) -> Chart:
    """Draw a tile for each combination where its values lie, dark where accuracy is high; the best one is framed."""
    chart = Chart()
    for axis, setting in zip(("xaxis", "yaxis"), info.settings, strict=True):
        _axis_of(chart, axis, setting)
    last = len(info.x) - 1
    chart.trace(
        "scatter", x=info.x, y=info.y, mode="markers+text", customdata=[f"{value:.0f}" for value in info.percent],
        text=[f"{value:.0f}" if told else "" for value, told in zip(info.percent, info.told, strict=True)],
        textfont={"size": 12, "color": [ink_on(value) for value in info.percent]},
        marker={
            "symbol": "square", "size": 30, "color": info.percent, "cmin": 0, "cmax": 100,
            "colorscale": ACCURACY_SCALE, "showscale": True, "colorbar": _BAR,
            "line": {"width": [3 if info.best and i == last else 0 for i in range(len(info.x))], "color": BEST},
        },
        hovertemplate=f"{info.settings[0].name} %{{x:.4g}}<br>{info.settings[1].name} %{{y:.4g}}"
        "<br>all jobs, validation: %{customdata} %<extra></extra>",
    )  # fmt: skip
    chart.set(margin={"l": 84, "r": 8, "t": 12, "b": 48}, showlegend=False)
    return chart


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A grid's combinations by row (`up`) and column (`across`): accuracy in per cent, and the place in `Tried`."""

    names: tuple[str, str]
    across: list[str]
    up: list[str]
    percent: list[list[float | None]]
    which: list[list[int | None]]
    best: tuple[int, int] | None


def heat_map_info(tried: Sequence[Tried], settings: tuple[Varied, Varied], grid: tuple[Sequence[Any], ...]) -> HeatMap:
    """Every combination of a grid in its place, whether it was tried or not."""
    across, up = grid
    which: list[list[int | None]] = [[None] * len(across) for _ in up]
    percent: list[list[float | None]] = [[None] * len(across) for _ in up]
    best: tuple[int, int] | None = None
    for number, one in enumerate(tried):
        row, column = up.index(one.values[settings[1].path]), across.index(one.values[settings[0].path])
        which[row][column], percent[row][column] = number, one.percent
        if one.best:
            best = row, column
    names = (settings[0].name, settings[1].name)
    return HeatMap(names, list(map(plain, across)), list(map(plain, up)), percent, which, best)


def heat_map(info: HeatMap) -> Chart:
    """Draw a tile for each combination with its figure in it, dark where accuracy is high; the best one is framed."""
    chart = Chart()
    chart.trace(
        "heatmap", z=info.percent, zmin=0, zmax=100, colorscale=ACCURACY_SCALE, xgap=3, ygap=3, colorbar=_BAR,
        hoverongaps=False, hovertemplate="all jobs, validation: %{z:.1f} %<extra></extra>",
    )  # fmt: skip
    for row, values in enumerate(info.percent):
        for column, value in enumerate(values):
            if value is not None:
                font = {"size": 14, "color": ink_on(value)}
                chart.note(x=column, y=row, text=f"{value:.0f}", font=font)
    if info.best is not None:
        y, x = info.best
        chart.shape(x0=x - 0.5, x1=x + 0.5, y0=y - 0.5, y1=y + 0.5, line={"color": BEST, "width": 3})
    for axis, name, words in (("xaxis", info.names[0], info.across), ("yaxis", info.names[1], info.up)):
        chart.set(**{axis: {
            "title": {"text": name, "font": {"size": 13}}, "tickvals": list(range(len(words))), "ticktext": words,
            "range": [-0.5, len(words) - 0.5], "showgrid": False, "zeroline": False,
        }})  # fmt: skip
    chart.set(margin={"l": 84, "r": 8, "t": 12, "b": 48}, showlegend=False)
    return chart


# ---- three settings -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parallel:
    """A line for each combination across its settings and its accuracy.

    Heights go from 0 to 1 on each axis, and the ends of each axis are named in words.
    """

    axes: list[str]
    lows: list[str]
    highs: list[str]
    heights: list[list[float]]
    percent: list[float]
    best: int | None


def parallel_info(tried: Sequence[Tried], settings: Sequence[Varied]) -> Parallel:
    """Each value's place in its setting's range, logarithmic where it varies so; the last axis is 0 to 100 %."""
    percent = [one.percent for one in tried]
    heights = [
        [*(_share(one.values[setting.path], setting) for setting in settings), value / 100]
        for one, value in zip(tried, percent, strict=True)
    ]
    ends = [_ends(setting) for setting in settings]
    return Parallel(
        [*(setting.name for setting in settings), "all jobs (validation)"],
        [*(low for low, _ in ends), "0 %"],
        [*(high for _, high in ends), "100 %"],
        heights,
        percent,
        _best_place(tried),
    )


def _share(value: Any, setting: Varied) -> float:
    if setting.low is None or setting.high is None:
        return _place(value, setting) / max(1, len(setting.values) - 1)
    if setting.high == setting.low:
        return 0.5
    if setting.log:
        return math.log(float(value) / setting.low) / math.log(setting.high / setting.low)
    return (float(value) - setting.low) / (setting.high - setting.low)


def _ends(setting: Varied) -> tuple[str, str]:
    if setting.low is None or setting.high is None:
        return plain(setting.values[0]), plain(setting.values[-1])
    return plain(setting.low), plain(setting.high)


def parallel(info: Parallel) -> Chart:
    """Draw parallel coordinates, in which dark lines do well and the best is thick.

    Where lines meet at the right, the settings that they share are those that matter.
    """
    chart = Chart()
    places = list(range(len(info.axes)))
    for number, (heights, percent) in enumerate(zip(info.heights, info.percent, strict=True)):
        best = number == info.best
        chart.trace(
            "scatter", x=places, y=heights, mode="lines+markers",
            line={"color": BEST if best else _shade(percent), "width": 4 if best else 1.8}, marker={"size": 8},
            hovertemplate=f"{percent:.1f} % of validation images<extra></extra>",
        )  # fmt: skip
    for place, (axis, low, high) in enumerate(zip(info.axes, info.lows, info.highs, strict=True)):
        chart.shape(x0=place, x1=place, y0=0, y1=1, line={"color": GREY, "width": 1}, layer="below")
        for y, text, side in ((1.03, f"<b>{axis}</b><br>{high}", "bottom"), (-0.03, low, "top")):
            chart.note(x=place, y=y, yanchor=side, text=text, font={"size": 13})
    chart.set(
        xaxis={"visible": False, "range": [-0.3, len(places) - 0.7]},
        yaxis={"visible": False, "range": [-0.12, 1.2]},
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        showlegend=False,
    )
    return chart


def _shade(percent: float) -> str:
    """A line's colour from faint to full, by accuracy: readable on light and dark paper alike."""
    return f"rgba(91,120,191,{0.15 + 0.85 * (percent / 100) ** 2:.2f})"


# ---- what matters ---------------------------------------------------------------------------------------------------


def importance_bars(importance: Mapping[str, float], settings: Sequence[Varied]) -> Chart:
    """Draw a bar for each setting: its share of the differences in accuracy, in per cent."""
    chart = Chart()
    names = [setting.name for setting in settings]
    shares = [100 * importance.get(setting.path, 0.0) for setting in settings]
    chart.trace(
        "bar", x=shares, y=list(range(len(names))), orientation="h", marker={"color": INK, "opacity": 0.75}, width=0.55,
        text=[f"{share:.0f} %" for share in shares], textposition="outside", cliponaxis=False,
        hovertemplate="%{x:.0f} % of the differences<extra></extra>",
    )  # fmt: skip
    ticks = {"tickvals": list(range(len(names))), "ticktext": names, "showgrid": False}
    chart.set(
        xaxis={"range": [0, 112], "visible": False},
        yaxis={"range": [len(names) - 0.4, -0.6], **ticks},
        margin={"l": 150, "r": 8, "t": 4, "b": 4},
        showlegend=False,
    )
    return chart
