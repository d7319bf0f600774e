"""How explorations look: first what each combination reached, then the charts. No torch, no Streamlit.

Combinations are chosen by their accuracy on validation images; what test images say stands beside it. A figure's points
are in the order of `Tried`, and after them come those of `Rising`, so that a click on a point opens its run.

A chart has three colours: one for all jobs, by which combinations are chosen and the best is marked, one for new jobs,
and one for old jobs. Where accuracy is a shade, it is one of blue.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labcore.configs.units import plain
from labcore.drawings.charts import Chart
from labcore.drawings.figures import ACCURACY_SCALE, GREY, INK, PERCENT_AXIS, apart, ink_on
from labcore.runs.results import Fold
from labcore.studies.experiments import Findings
from labcore.studies.measures import Spread
from labcore.studies.varied import Varied

CHOSEN, NEW, OLD = "#C26F14", INK, "#8A4F9E"


@dataclass(frozen=True, slots=True)
class Shown:
    """How a figure is shown: the measure, its words, and the line's colour, dash and points."""

    measure: str
    title: str
    colour: str
    dash: str | None
    symbol: str


# What the curve of one setting shows. The choice goes by the first; test images choose nothing, and have no line.
SHOWN = (
    Shown("validation_accuracy", "all jobs", CHOSEN, "solid", "circle"),
    Shown("validation_new", "new jobs", NEW, "dash", "diamond"),
    Shown("validation_old", "old jobs", OLD, "dot", "square"),
    Shown("accuracy", "all jobs, test", CHOSEN, None, "circle-open"),
)
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
        figures = {name: findings.spread(arm.label, name) for name in (shown.measure for shown in SHOWN)}
        mean = figures["validation_accuracy"].mean
        if mean is not None:
            found.append(Tried(dict(arm.values), figures, 100 * mean, runs[0].run, arm == best))
    return sorted(found, key=lambda one: [_place(one.values[setting.path], setting) for setting in varied])


@dataclass(frozen=True, slots=True)
class Rising:
    """A combination whose run trains now: its values by path, its run, and that job `job` of `jobs` is being learnt.

    `percent` is its accuracy over all jobs as far as the last live look tells, on validation images. A job that has not
    begun counts as 0 %, so that it rises towards what the finished run will have.
    """

    values: Mapping[str, Any]
    run: str
    percent: float
    job: int
    jobs: int

    @property
    def words(self) -> str:
        """How far it is: `job 2 of 3`."""
        return f"job {self.job} of {self.jobs}"


def rising_info(findings: Findings, folds: Mapping[str, Fold]) -> list[Rising]:
    """The combinations whose run trains now, as far as a look has been told; `folds` are of these runs by ID."""
    found = []
    for cell in findings.having("running"):
        fold = folds.get(cell.record.run) if cell.record else None
        if cell.record is not None and fold is not None and fold.accuracy:
            last, jobs = fold.accuracy[-1], len(cell.config.tasks)
            percent = 100 * sum(last.accuracy) / jobs
            found.append(Rising(dict(cell.arm.values), cell.record.run, percent, last.stage, jobs))
    return found


def _rising(chart: Chart, rising: Sequence[Rising], x: Sequence[float], y: Sequence[float]) -> None:
    """Draw the combinations that train now as hollow points, each with how far it is."""
    if rising:
        chart.trace(
            "scatter", x=list(x), y=list(y), mode="markers+text", showlegend=False, textposition="top center",
            text=[one.words for one in rising], textfont={"size": 12}, cliponaxis=False,
            customdata=[f"{one.percent:.1f}" for one in rising],
            hovertemplate="not finished, %{text}<br>all jobs so far, validation: %{customdata} %<extra></extra>",
            marker={"symbol": "circle-open", "size": 15, "color": CHOSEN, "line": {"width": 3}},
        )  # fmt: skip


def best_of(tried: Sequence[Tried]) -> Tried | None:
    """The best of them; None while there is none."""
    return next((one for one in tried if one.best), None)


def _best_place(tried: Sequence[Tried]) -> int | None:
    return next((number for number, one in enumerate(tried) if one.best), None)


def _place(value: Any, setting: Varied) -> float:
    """Where a value lies on its axis: a number at itself, a word at its position among those that are tried."""
    return float(value) if setting.numeric else float(setting.values.index(value))


# ---- one setting ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One figure in per cent for each value of the setting; None where it is not known."""

    shown: Shown
    percent: list[float | None]
    sd: list[float]


@dataclass(frozen=True, slots=True)
class Curve:
    """A setting's values, and what each of them reached. `names` holds the words for values that are no numbers.

    `best` is the place of the best among the values; None while there is none.
    """

    setting: Varied
    values: list[float]
    names: list[str] | None
    lines: list[Line]
    best: int | None


def curve_info(tried: Sequence[Tried], setting: Varied) -> Curve:
    """All figures against one setting."""
    lines = []
    for shown in SHOWN:
        spreads = [one.figures[shown.measure] for one in tried]
        means = [None if spread.mean is None else 100 * spread.mean for spread in spreads]
        if any(mean is not None for mean in means) or not tried:
            lines.append(Line(shown, means, [100 * (spread.sd or 0.0) for spread in spreads]))
    names = None if setting.numeric else [plain(value) for value in setting.values]
    values = [_place(one.values[setting.path], setting) for one in tried]
    return Curve(setting, values, names, lines, _best_place(tried))


def curve(info: Curve, rising: Sequence[Rising] = ()) -> Chart:
    """Draw a line for each figure, named at its end; the best value has a star, and what trains now a hollow point.

    The axis holds the setting's whole range from the start, so that nothing moves.
    """
    chart = Chart()
    _axis_of(chart, "xaxis", info.setting)
    ends = [end for line in info.lines if line.percent and (end := line.percent[-1]) is not None]
    heights = iter(apart(ends, gap=5.5))
    for number, line in enumerate(info.lines):
        shown, first = line.shown, number == 0
        stars = [first and place == info.best for place in range(len(info.values))]
        chart.trace(
            "scatter", x=info.values, y=line.percent, name=shown.title,
            mode="markers" if info.names or shown.dash is None else "lines+markers",
            line={"color": shown.colour, "dash": shown.dash or "solid", "width": 2.6 if first else 1.8},
            marker={
                "color": shown.colour, "symbol": ["star" if star else shown.symbol for star in stars],
                "size": [18 if star else 10 if first else 8 for star in stars],
            },
            error_y={"array": line.sd, "visible": any(line.sd) and shown.dash is not None, "thickness": 1, "width": 3},
            customdata=_texts(info),
            hovertemplate=f"{shown.title}: %{{y:.1f}} %<br>{info.setting.name} %{{customdata}}<extra></extra>",
        )  # fmt: skip
        if line.percent and line.percent[-1] is not None:
            mark = f"<span style='color:{shown.colour}'>{_MARKS[shown.symbol]}</span>"
            chart.note(
                x=1, xref="paper", xanchor="left", xshift=8, y=next(heights), text=f"{mark} {shown.title}",
                font={"size": 13},
            )  # fmt: skip
    places = [_place(one.values[info.setting.path], info.setting) for one in rising]
    _rising(chart, rising, places, [one.percent for one in rising])
    chart.set(yaxis=PERCENT_AXIS, margin={"l": 56, "r": 112, "t": 12, "b": 48}, showlegend=False)
    return chart


# How the points of a line look among words.
_MARKS = {"circle": "●", "diamond": "◆", "square": "■", "circle-open": "○"}


def _texts(info: Curve) -> list[str]:
    if info.names:
        return [info.names[int(value)] for value in info.values]
    return [plain(value) for value in info.values]


def _axis_of(chart: Chart, axis: str, setting: Varied) -> None:
    """Let an axis show a setting's whole range, logarithmic where it varies by equal factors, or its words."""
    layout: dict[str, Any] = {"title": {"text": setting.name, "font": {"size": 13}}, "zeroline": False, "tickangle": 0}
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


def plane(info: Plane, rising: Sequence[Rising] = ()) -> Chart:
    """Draw a tile for each combination where its values lie, dark where accuracy is high; the best one is framed.

    What trains now is a hollow point, with how far it is.
    """
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
            "line": {"width": [3 if info.best and i == last else 0 for i in range(len(info.x))], "color": CHOSEN},
        },
        hovertemplate=f"{info.settings[0].name} %{{x:.4g}}<br>{info.settings[1].name} %{{y:.4g}}"
        "<br>all jobs, validation: %{customdata} %<extra></extra>",
    )  # fmt: skip
    x, y = ([_place(one.values[setting.path], setting) for one in rising] for setting in info.settings)
    _rising(chart, rising, x, y)
    chart.set(margin={"l": 84, "r": 8, "t": 12, "b": 48}, showlegend=False)
    return chart


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A grid's combinations by row (`up`) and column (`across`): accuracy in per cent, and the place in `Tried`.

    `grid` holds the two settings' values, and `across` and `up` how these are written.
    """

    settings: tuple[Varied, Varied]
    grid: tuple[Sequence[Any], ...]
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
    return HeatMap(settings, grid, list(map(plain, across)), list(map(plain, up)), percent, which, best)


def heat_map(info: HeatMap, rising: Sequence[Rising] = ()) -> Chart:
    """Draw a tile for each combination with its figure in it, dark where accuracy is high; the best one is framed.

    What trains now is a hollow point in its place, with how far it is.
    """
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
        chart.shape(x0=x - 0.5, x1=x + 0.5, y0=y - 0.5, y1=y + 0.5, line={"color": CHOSEN, "width": 3})
    places = [
        [float(values.index(one.values[setting.path])) for one in rising]
        for setting, values in zip(info.settings, info.grid, strict=True)
    ]
    _rising(chart, rising, *places)
    for axis, setting, words in zip(("xaxis", "yaxis"), info.settings, (info.across, info.up), strict=True):
        chart.set(**{axis: {
            "title": {"text": setting.name, "font": {"size": 13}}, "range": [-0.5, len(words) - 0.5],
            "tickvals": list(range(len(words))), "ticktext": words, "showgrid": False, "zeroline": False,
        }})  # fmt: skip
    chart.set(margin={"l": 84, "r": 8, "t": 12, "b": 48}, showlegend=False)
    return chart


# ---- three settings -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parallel:
    """A line for each combination across its settings and its accuracy.

    Heights go from 0 to 1 on each axis, `words` say what they stand for, and so the ends of each axis.
    """

    axes: list[str]
    lows: list[str]
    highs: list[str]
    heights: list[list[float]]
    words: list[list[str]]
    percent: list[float]
    best: int | None
    settings: Sequence[Varied]


def parallel_info(tried: Sequence[Tried], settings: Sequence[Varied]) -> Parallel:
    """Each value's place in its setting's range, logarithmic where it varies so; the last axis is 0 to 100 %."""
    percent = [one.percent for one in tried]
    heights = [_heights(one, settings) for one in tried]
    ends = [_ends(setting) for setting in settings]
    return Parallel(
        [*(setting.name for setting in settings), "all jobs (validation)"],
        [*(low for low, _ in ends), "0 %"],
        [*(high for _, high in ends), "100 %"],
        heights,
        [_in_words(one, settings) for one in tried],
        percent,
        _best_place(tried),
        settings,
    )


def _heights(one: Tried | Rising, settings: Sequence[Varied]) -> list[float]:
    """A combination's place on the axis of each setting, and that of its accuracy, each from 0 to 1."""
    return [*(_share(one.values[setting.path], setting) for setting in settings), one.percent / 100]


def _in_words(one: Tried | Rising, settings: Sequence[Varied]) -> list[str]:
    """A combination's value of each setting, and its accuracy."""
    return [*(plain(one.values[setting.path]) for setting in settings), f"{one.percent:.1f} %"]


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


def parallel(info: Parallel, rising: Sequence[Rising] = ()) -> Chart:
    """Draw parallel coordinates, in which dark lines do well, the best is thick, and what trains now is dotted.

    Where lines meet at the right, the settings that they share are those that matter.
    """
    chart = Chart()
    places = list(range(len(info.axes)))
    for number, (heights, words, percent) in enumerate(zip(info.heights, info.words, info.percent, strict=True)):
        best = number == info.best
        chart.trace(
            "scatter", x=places, y=heights, text=words, name="the best" if best else f"number {number + 1}",
            mode="lines+markers",
            line={"color": CHOSEN if best else _shade(percent), "width": 4 if best else 1.8}, marker={"size": 8},
            hovertemplate=f"{percent:.1f} % of validation images<extra></extra>",
        )  # fmt: skip
    for one in rising:
        chart.trace(
            "scatter", x=places, y=_heights(one, info.settings), text=_in_words(one, info.settings),
            name=f"not finished, {one.words}", mode="lines+markers",
            line={"color": CHOSEN, "width": 1.8, "dash": "dot"}, marker={"size": 10, "symbol": "circle-open"},
            hovertemplate=f"not finished, {one.words}: {one.percent:.1f} % of validation images<extra></extra>",
        )  # fmt: skip
    for place, (axis, low, high) in enumerate(zip(info.axes, info.lows, info.highs, strict=True)):
        chart.shape(x0=place, x1=place, y0=0, y1=1, line={"color": GREY, "width": 1}, layer="below")
        for y, text, side in ((1.03, f"<b>{axis}</b><br>{high}", "bottom"), (-0.03, low, "top")):
            chart.note(x=place, y=y, yanchor=side, text=text, font={"size": 13})
    chart.set(
        xaxis={"visible": False, "range": [-0.3, len(places) - 0.7], "tickvals": places, "ticktext": info.axes},
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
