"""What the article's questions show: a dot for each seed, and learning curves. No torch, no Streamlit.

As in labcore/drawings/figures.py every chart is two functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from labcore.drawings.charts import Chart
from labcore.drawings.figures import GREY, INK, TASK_SYMBOLS, apart, task_dash
from labcore.drawings.panels import Column, Lines, axis_suffix, line_axes
from labcore.studies.experiments import Findings
from labcore.studies.measures import CurvePoint, Spread

ASKED = {"accuracy": "all jobs at the end", "new": "new jobs, when learnt", "old": "old jobs, at the end"}


@dataclass(frozen=True, slots=True)
class SeedDots:
    """Every seed's accuracy in per cent, for each arm in each panel."""

    names: list[str]
    panels: dict[str, list[list[float]]]


def seed_dots_info(findings: Findings) -> SeedDots:
    """The dots of every arm. All arms have their places from the start, so that nothing moves as the chart fills."""
    labels = [arm.label for arm in findings.experiment.arms]
    return SeedDots(
        labels,
        {
            title: [[100 * value for value in findings.spread(label, measure).values] for label in labels]
            for measure, title in ASKED.items()
        },
    )


def seed_dots(info: SeedDots) -> Chart:
    """Draw a small mark for each seed and a bar at the mean, all panels on one scale."""
    chart = Chart()
    lines = Lines(info.names, [Column(title, [], []) for title in info.panels])
    every = [value for panel in info.panels.values() for row in panel for value in row]
    low = max(0.0, 10 * (min(every, default=0.0) // 10) - 5)
    for number, panel in enumerate(info.panels.values()):
        suffix = axis_suffix(number)
        axes = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
        dots = [(value, row) for row, values in enumerate(panel) for value in values]
        means = [(sum(values) / len(values), row) for row, values in enumerate(panel) if values]
        chart.trace(
            "scatter", x=[x for x, _ in dots], y=[y for _, y in dots], mode="markers", **axes,
            marker={"size": 9, "color": INK, "opacity": 0.55}, hovertemplate="one seed: %{x:.1f} %<extra></extra>",
        )  # fmt: skip
        chart.trace(
            "scatter", x=[x for x, _ in means], y=[y for _, y in means], mode="markers", **axes,
            marker={"symbol": "line-ns", "size": 20, "line": {"width": 3, "color": INK}},
            hovertemplate="mean: %{x:.1f} %<extra></extra>",
        )  # fmt: skip
    line_axes(chart, lines)
    for number in range(len(info.panels)):
        chart.set(**{f"xaxis{axis_suffix(number)}": {"range": [low, 101], "ticksuffix": " %"}})
    return chart


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """An arm's mean curve over its seeds: per cent against steps (or seconds), in one of several panels."""

    name: str
    panel: str
    x: list[float]
    percent: list[float]
    sd: list[float]


def learning_curves_info(findings: Findings, against: str, panel_of: dict[str, str]) -> list[LearningCurve]:
    """The arms' curves `against` either `steps` or `seconds`; `panel_of` gives the panel of an arm by its label."""
    found = []
    for arm in findings.experiment.arms:
        curves = [cell.finished.curve for cell in findings.of(arm.label) if cell.finished and cell.finished.curve]
        if curves:
            places: list[tuple[CurvePoint, ...]] = list(zip(*curves, strict=False))
            spreads = [Spread(tuple(100 * point.accuracy for point in place)) for place in places]
            xs = [sum(getattr(point, against) for point in place) / len(place) for place in places]
            means = [spread.mean or 0.0 for spread in spreads]
            found.append(
                LearningCurve(arm.label, panel_of.get(arm.label, ""), xs, means, [s.sd or 0.0 for s in spreads])
            )
    return found


def learning_curves(found: Sequence[LearningCurve], panels: Sequence[str], axis: str, level: float) -> Chart:
    """Draw panels side by side on one scale, with a line across each at `level`.

    Curves are told apart by their dashes and by the names at their ends.
    """
    chart = Chart()
    count = len(panels)
    furthest = max((curve.x[-1] for curve in found), default=1.0)
    for number, panel in enumerate(panels):
        suffix = axis_suffix(number)
        mine = [curve for curve in found if curve.panel == panel]
        chart.set(**{
            f"xaxis{suffix}": {
                "domain": [number / count + 0.005, (number + 1) / count - 0.11], "anchor": f"y{suffix}",
                "range": [0, furthest], "zeroline": False, "title": {"text": axis, "font": {"size": 13}},
            },
            f"yaxis{suffix}": {
                "range": [0, 102], "tickvals": [0, 25, 50, 75, 100], "anchor": f"x{suffix}", "zeroline": False,
                "ticktext": [f"{v} %" for v in (0, 25, 50, 75, 100)] if number == 0 else [""] * 5,
            },
        })  # fmt: skip
        chart.note(
            x=number / count + 0.005, xref="paper", xanchor="left", y=1, yref="paper", yanchor="bottom",
            text=f"<b>{panel}</b>", font={"size": 13},
        )  # fmt: skip
        chart.trace(
            "scatter", x=[0, furthest], y=[100 * level] * 2, mode="lines", hoverinfo="skip", xaxis=f"x{suffix}",
            yaxis=f"y{suffix}", line={"color": GREY, "width": 1, "dash": "dot"},
        )  # fmt: skip
        ranked = sorted(mine, key=lambda curve: -curve.percent[-1])
        ends = apart([curve.percent[-1] for curve in ranked], gap=6)
        for place, (curve, height) in enumerate(zip(ranked, ends, strict=True)):
            order = [c.name for c in mine].index(curve.name)
            chart.trace(
                "scatter", x=curve.x, y=curve.percent, mode="lines+markers", xaxis=f"x{suffix}", yaxis=f"y{suffix}",
                line={"color": INK, "width": 2.4, "dash": task_dash(order + 1)}, opacity=1 - 0.13 * place,
                marker={"size": 6, "symbol": TASK_SYMBOLS[order]},
                error_y={"array": curve.sd, "visible": any(curve.sd), "thickness": 1, "width": 2},
                hovertemplate=f"{curve.name}: %{{y:.0f}} %<extra></extra>",
            )  # fmt: skip
            chart.note(
                x=curve.x[-1], y=height, xref=f"x{suffix}", yref=f"y{suffix}", xanchor="left", xshift=8,
                text=curve.name.split(",")[0], font={"size": 12},
            )  # fmt: skip
    chart.set(margin={"l": 52, "r": 8, "t": 28, "b": 48}, showlegend=False)
    return chart
