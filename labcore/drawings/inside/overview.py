"""How the whole network looks at a moment: layers from left to right as the data flows, and jobs as rows or lines.

The numbers are an `Overview`, which a kind of map reads from a run; a `Drawing` says how such numbers become a chart.
Magnitudes have one scale whatever runs lie beside each other: `Drawing.scale` says it, and the charts take it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from labcore.drawings.charts import Chart
from labcore.drawings.figures import GREY, task_colour, task_dash
from labcore.runs.moments import View

FREE = "rgba(138,143,156,0.32)"  # can be seen on light paper and on dark
PATTERNS = ("", "/", "x", "\\", ".", "+", "|")
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up")
SCALE = "Viridis"
MOST_DECADES = 6  # the most that a logarithmic scale shows
Scale = tuple[float, float]


# ---------------------------------------------------------------------------------------------------------------------
# The numbers
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole network at a moment: `values[row][column]`, NaN where there is nothing.

    A column is a layer, or a block; `places` has the column of each layer. `rows` are task positions; 0 is nobody.
    Every task has its row from the beginning, so that nothing moves while a run goes on. Values that a drawing shows
    on a logarithmic scale are log10; shares are per cent.
    """

    rows: list[int]
    titles: list[str]
    values: np.ndarray
    columns: list[str]
    blocks: list[str]
    places: list[int]
    estimated: int = 0  # on how many images the last row rests, where it is an estimate; else 0

    def column_of(self, layer: int) -> int | None:
        """The column that a layer is shown in, by the layer's number; None where this network has no such layer."""
        return self.places[layer] if layer < len(self.places) else None

    def layer_at(self, column: int) -> int | None:
        """The first layer that a column shows."""
        return self.places.index(column) if column in self.places else None


def unknown(seen: View) -> np.ndarray:
    """A row for each task and a column for each layer, in which nothing is known yet: a kind fills it in."""
    return np.full((len(seen.titles), len(seen.layers)), np.nan)


def of_layers(seen: View, values: np.ndarray, *, estimated: int = 0, nobody: bool = False) -> Overview:
    """An overview whose columns are the layers; with `nobody`, the first row belongs to no task."""
    columns = [f"{seen.role(place)}<br>{layer.words}" for place, layer in enumerate(seen.layers)]
    blocks = [layer.block for layer in seen.layers]
    rows = list(range(0 if nobody else 1, len(seen.titles) + 1))
    return Overview(rows, seen.titles, values, columns, blocks, list(range(len(columns))), estimated)


def log10(values: np.ndarray) -> np.ndarray:
    """The decimal logarithm, which is NaN for 0, because none is not the same as very little."""
    with np.errstate(divide="ignore"):
        logs = np.log10(values)
    return np.where(np.isfinite(logs), logs, np.nan)


# ---------------------------------------------------------------------------------------------------------------------
# Ways of drawing them
# ---------------------------------------------------------------------------------------------------------------------


class Drawing(ABC):
    """A way of drawing the whole network. Where `rows_are_jobs` is true, a click on a row chooses its job."""

    rows_are_jobs: ClassVar[bool] = False

    @abstractmethod
    def scale(self, overviews: Iterable[Overview]) -> Scale:
        """One scale for all of these, which lie beside each other."""

    @abstractmethod
    def draw(self, chart: Chart, info: Overview, scale: Scale) -> None:
        """Add the traces, and the axis of what is not the layers."""


def finite(overviews: Iterable[Overview]) -> np.ndarray:
    """All values of these that are known."""
    shown: np.ndarray = np.concatenate([overview.values.ravel() for overview in overviews])
    return np.asarray(shown[np.isfinite(shown)])


@dataclass(frozen=True, slots=True)
class Heat(Drawing):
    """A row for each job, in which colours stand for numbers.

    Where `since` is true, a row tells what has happened since its job was learnt.
    """

    unit: str = ""
    logarithmic: bool = True
    since: bool = False

    rows_are_jobs: ClassVar[bool] = True

    def scale(self, overviews: Iterable[Overview]) -> Scale:
        """Whole decades, six at most; a scale that is not logarithmic begins at 0 and ends at a round number."""
        shown = finite(overviews)
        if self.logarithmic:
            if not len(shown):
                return -6.0, 0.0
            high = float(np.ceil(shown.max()))
            return max(float(np.floor(shown.min())), high - MOST_DECADES), high
        high = float(shown.max()) if len(shown) else 1.0
        steps = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
        return 0.0, next((float(step) for step in steps if step >= high), high)

    def draw(self, chart: Chart, info: Overview, scale: Scale) -> None:
        """The heat map, its colours explained beside it, and the names of the rows."""
        low, high = scale
        log = self.logarithmic
        shown = 10**info.values if log else info.values
        texts = [[f"{value:.2g}{self.unit}" if np.isfinite(value) else "nothing" for value in row] for row in shown]
        ticks = list(np.arange(low, high + 0.5, max(1, round((high - low) / 4)))) if log else [low, high / 2, high]
        chart.trace(
            "heatmap", z=info.values, x=list(range(len(info.columns))), y=list(range(len(info.rows))), zmin=low,
            zmax=high, colorscale=SCALE, xgap=1, ygap=3, hoverongaps=False, text=texts,
            customdata=[info.columns] * len(info.rows), hovertemplate="%{customdata}<br>%{text}<extra></extra>",
            colorbar={
                "thickness": 12, "len": 1, "outlinewidth": 0, "tickvals": ticks,
                "ticktext": [power(tick) if log else f"{tick:g} %" for tick in ticks],
            },
        )  # fmt: skip
        prefix = "since " if self.since else ""
        names = [labelled(position, prefix + info.titles[position - 1]) for position in info.rows]
        if info.estimated:
            told = [place for place, row in enumerate(info.values) if np.isfinite(row).any()]
            if told:
                names[told[-1]] += f"<br><i>estimate, {info.estimated} images</i>"
        rows = {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.5, -0.5]}
        chart.set(yaxis={**rows, "showgrid": False, "fixedrange": True})


@dataclass(frozen=True, slots=True)
class Bars(Drawing):
    """A bar for each layer, shared out in per cent among the tasks; the overview's first row is nobody's share.

    `nobody` is what that share is called, `apart` what a layer is called that is not shared out, and `why` the reason.
    """

    nobody: str
    apart: str
    why: str

    def scale(self, overviews: Iterable[Overview]) -> Scale:
        """The whole of each layer."""
        return 0.0, 100.0

    def draw(self, chart: Chart, info: Overview, scale: Scale) -> None:
        """Add the bars, with nobody's share on top."""
        places = list(range(len(info.columns)))
        for row, owner in zip([*info.values[1:].tolist(), info.values[0].tolist()], [*info.rows[1:], 0], strict=True):
            name = info.titles[owner - 1] if owner else self.nobody
            shape = PATTERNS[(owner - 1) % len(PATTERNS)] if owner else ""
            pattern = {
                "shape": shape, "size": 7, "solidity": 0.22, "fillmode": "overlay", "fgcolor": "rgba(255,255,255,0.6)",
            }  # fmt: skip
            chart.trace(
                "bar", x=places, y=row, name=name, customdata=info.columns,
                marker={"color": task_colour(owner) if owner else FREE, "pattern": pattern, "line": {"width": 0}},
                hovertemplate=f"%{{customdata}}<br>{name}: %{{y:.1f}} %<extra></extra>",
            )  # fmt: skip
        fixed = [place for place in places if np.isnan(info.values[0, place])]
        if fixed:
            chart.trace(
                "bar", x=fixed, y=[100] * len(fixed), name=self.apart, customdata=[info.columns[p] for p in fixed],
                marker={"color": "rgba(138,143,156,0.10)", "line": {"width": 0}},
                hovertemplate=f"%{{customdata}}<br>{self.why}<extra></extra>",
            )  # fmt: skip
        percent = {"range": list(scale), "tickvals": [0, 50, 100], "ticktext": ["0 %", "50 %", "100 %"]}
        chart.set(
            barmode="stack", bargap=0.12, showlegend=True, legend={**_LEGEND, "traceorder": "reversed"},
            yaxis={**percent, "fixedrange": True, "side": "right"},
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lines(Drawing):
    """A line for each job, in per cent. The scale ends at 100 % and begins a little below the lowest of all lines.

    `reading` is what the pointer says of a point, with Plotly's place for its number.
    """

    reading: str

    def scale(self, overviews: Iterable[Overview]) -> Scale:
        """From a multiple of ten per cent up to 100, so that what lies close to 100 can be told apart."""
        shown = finite(overviews)
        low = float(shown.min()) if len(shown) else 100.0
        return max(0.0, 10 * np.floor((low - 2) / 10)), 101.0

    def axis(self, scale: Scale) -> dict[str, object]:
        """The axis of the values, as Plotly has it."""
        ticks = list(np.linspace(scale[0], 100, 3))
        return {"range": list(scale), "tickvals": ticks, "ticktext": [f"{tick:.0f} %" for tick in ticks]}

    def draw(self, chart: Chart, info: Overview, scale: Scale) -> None:
        """Add the lines of those jobs that have one yet."""
        places = list(range(len(info.columns)))
        for position, row in zip(info.rows, info.values, strict=True):
            if not np.isfinite(row).any():
                continue
            title, colour = info.titles[position - 1], task_colour(position)
            chart.trace(
                "scatter", x=places, y=row, name=title, mode="lines+markers", customdata=info.columns, connectgaps=True,
                line={"color": colour, "width": 2.5, "dash": task_dash(position)},
                marker={"size": 8, "symbol": SYMBOLS[(position - 1) % len(SYMBOLS)]},
                hovertemplate=f"%{{customdata}}<br>{title}: {self.reading}<extra></extra>",
            )  # fmt: skip
        chart.set(showlegend=True, legend=_LEGEND, yaxis={**self.axis(scale), "fixedrange": True, "side": "right"})


_LEGEND = {"x": -0.02, "xanchor": "right", "y": 0.5, "yanchor": "middle", "font": {"size": 12}}


def labelled(position: int, title: str) -> str:
    """A task's name behind its colour."""
    return f"<span style='color:{task_colour(position)}'>■</span> {title}"


def power(exponent: float) -> str:
    """A power of ten with its exponent raised, such as `10⁻³`."""
    digits = str(round(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{digits}"


# ---------------------------------------------------------------------------------------------------------------------
# The chart
# ---------------------------------------------------------------------------------------------------------------------


def overview(
    drawing: Drawing,
    info: Overview,
    scale: Scale,
    *,
    chosen: int | None = None,
    named: bool = True,
) -> Chart:
    """Draw the whole network; the `chosen` column is framed.

    Where `named` is false, a figure below this one names the blocks.
    """
    chart = Chart()
    drawing.draw(chart, info, scale)
    count = len(info.columns)
    starts = [place for place in range(count) if place == 0 or info.blocks[place] != info.blocks[place - 1]]
    middles = [(a + b - 1) / 2 for a, b in zip(starts, [*starts[1:], count], strict=True)]
    shown = _that_fit(middles, [info.blocks[place] for place in starts], count)
    for start in starts[1:]:
        chart.shape(
            type="line", x0=start - 0.5, x1=start - 0.5, y0=0, y1=1, yref="paper", opacity=0.6,
            line={"color": GREY, "width": 1, "dash": "dot"},
        )  # fmt: skip
    if chosen is not None and count:
        chart.shape(
            type="rect", x0=chosen - 0.5, x1=chosen + 0.5, y0=0, y1=1, yref="paper",
            line={"color": "#D8432E", "width": 2.5}, fillcolor="rgba(0,0,0,0)", layer="above",
        )  # fmt: skip
    chart.set(
        xaxis={
            "range": [-0.5, max(count, 1) - 0.5], "tickvals": [place for place, _ in shown],
            "ticktext": [name for _, name in shown], "showgrid": False, "tickangle": 0, "fixedrange": True,
            "tickfont": {"size": 12}, "showticklabels": named,
        },
        margin={"l": 150, "r": 84, "t": 10, "b": 26 if named else 6},
    )  # fmt: skip
    return chart


def _that_fit(places: Sequence[float], names: Sequence[str], columns: int) -> list[tuple[float, str]]:
    """The names of blocks, short, without those that would be written over the one before."""
    column, free = 700 / max(1, columns), -1e9
    fit = []
    for place, name in zip(places, names, strict=True):
        short = name.replace("blocks.", "block ").replace("features.", "features ")
        half = 3.6 * len(short)
        if place * column - half > free:
            fit.append((place, short))
            free = place * column + half + 4
    return fit
