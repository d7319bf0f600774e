"""Groups of runs beside each other: what they remember, how they got there, what they lost, and what they cost.

As in labcore/drawings/figures.py every chart is two functions. Groups are told apart by name and place, never by a
task's colour; colours are the tasks' own. No torch, no Streamlit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from labcore.drawings.charts import Chart
from labcore.drawings.figures import (
    ACCURACY_SCALE,
    GREY,
    INK,
    ink_on,
    task_colour,
    task_dash,
    task_symbol,
)
from labcore.drawings.panels import PANELS_A_ROW, Column, Lines, axis_suffix, grid_panel, line_axes
from labcore.runs.results import RunResult
from labcore.studies.groups import Group, reference
from labcore.studies.measures import REFERENCES, ByTask, Reference, Spread

# ---- matrices and the way there -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MeanMatrix:
    """A group's accuracy matrix in per cent, as mean and sd over seeds; None for a task that is not learnt yet."""

    name: str
    percent: list[list[float | None]]
    sd: list[list[float | None]]


def matrices_info(groups: Sequence[Group]) -> list[MeanMatrix]:
    """A matrix for each group, cell by cell over its seeds."""
    found = []
    for group in groups:
        count = len(group.config.tasks)
        percent: list[list[float | None]] = [[None] * count for _ in range(count)]
        sd: list[list[float | None]] = [[None] * count for _ in range(count)]
        for k in range(count):
            for j in range(k + 1):
                cells = (_cell(run.result, k, j) for run in group.runs)
                spread = Spread(tuple(100 * value for value in cells if value is not None))
                percent[k][j], sd[k][j] = spread.mean, spread.sd
        found.append(MeanMatrix(group.name, percent, sd))
    return found


def _cell(result: RunResult, k: int, j: int) -> float | None:
    return result.accuracy_matrix[k][j] if k < len(result.accuracy_matrix) else None


def matrices(found: Sequence[MeanMatrix]) -> Chart:
    """Draw a matrix for each group on one scale: a row after learning each task, a column for each task it is asked.

    Rows and columns carry the tasks' colours.
    """
    chart = Chart()
    for number, matrix in enumerate(found):
        x, y = grid_panel(chart, number, [matrix.name for matrix in found])
        count = len(matrix.percent)
        places = list(range(count))
        chart.trace(
            "heatmap", x=places, y=places, z=matrix.percent, zmin=0, zmax=100, colorscale=ACCURACY_SCALE,
            showscale=False, xgap=2, ygap=2, xaxis=x, yaxis=y, hoverongaps=False,
            hovertemplate=f"{matrix.name}: %{{z:.1f}} %<extra></extra>",
        )  # fmt: skip
        for k in places:
            for j in places:
                value, sd = matrix.percent[k][j], matrix.sd[k][j]
                if value is not None:
                    more = (
                        f"<br><span style='font-size:10px'>± {sd:.0f}</span>" if sd is not None and count <= 4 else ""
                    )
                    chart.note(
                        x=j, y=k, xref=x, yref=y, text=f"{value:.0f}{more}",
                        font={"size": 12, "color": ink_on(value)},
                    )  # fmt: skip
        marks = [f"<span style='color:{task_colour(i + 1)}'>■</span> {i + 1}" for i in places]
        chart.set(**{
            f"xaxis{x[1:]}": {"tickvals": places, "ticktext": marks, "range": [-0.5, count - 0.5], "showgrid": False},
            f"yaxis{y[1:]}": {
                "tickvals": places, "ticktext": marks if number % PANELS_A_ROW == 0 else [""] * count,
                "range": [count - 0.5, -0.5], "showgrid": False,
            },
        })  # fmt: skip
    chart.set(margin={"l": 36, "r": 4, "t": 4, "b": 4}, showlegend=False)
    return chart


def sequences(found: Sequence[MeanMatrix]) -> Chart:
    """Draw a panel for each group on one scale: each task's accuracy after every stage since it was learnt."""
    chart = Chart()
    for number, matrix in enumerate(found):
        x, y = grid_panel(chart, number, [matrix.name for matrix in found])
        count = len(matrix.percent)
        for j in range(count):
            rows = [k for k in range(j, count) if matrix.percent[k][j] is not None]
            sds = [matrix.sd[k][j] or 0.0 for k in rows]
            chart.trace(
                "scatter", x=[k + 1 for k in rows], y=[matrix.percent[k][j] for k in rows], xaxis=x, yaxis=y,
                name=f"job {j + 1}", mode="lines+markers",
                line={"color": task_colour(j + 1), "dash": task_dash(j + 1), "width": 2.2},
                marker={"symbol": task_symbol(j + 1), "size": 8},
                error_y={"array": sds, "visible": any(sds), "thickness": 1, "width": 3},
                hovertemplate=f"job {j + 1}, after stage %{{x}}: %{{y:.1f}} %<extra></extra>",
            )  # fmt: skip
        chart.set(**{
            f"xaxis{x[1:]}": {"range": [0.8, count + 0.2], "tickvals": list(range(1, count + 1))},
            f"yaxis{y[1:]}": {
                "range": [0, 104], "tickvals": [0, 50, 100],
                "ticktext": ["0 %", "50 %", "100 %"] if number % PANELS_A_ROW == 0 else ["", "", ""],
            },
        })  # fmt: skip
    chart.set(margin={"l": 52, "r": 4, "t": 4, "b": 8}, showlegend=False)
    return chart


# ---- by task, and costs: one line a group ---------------------------------------------------------------------------


def by_task_info(groups: Sequence[Group]) -> Lines:
    """For each task the forgetting, and how far it stays below each method that is a reference, in points.

    Runs are paired with the reference's seed by seed. The column of a reference that is not among the groups is empty.
    """
    columns = [_column("forgetting", groups, [[run.result.forgetting for run in group.runs] for group in groups])]
    for against in REFERENCES:
        columns.append(_column(against.title, groups, [_gaps(groups, group, against) for group in groups]))
    return Lines([group.name for group in groups], columns)


def _gaps(groups: Sequence[Group], group: Group, against: Reference) -> list[ByTask]:
    """How far each task stays below the reference, for each run of a group whose seed the reference has, too."""
    by_seed = reference(groups, group, against.method)
    runs = [(run.result, by_seed.get(run.result.config["seed"])) for run in group.runs]
    return [against.gap(result, base) for result, base in runs if base is not None]


def _column(title: str, groups: Sequence[Group], found: Sequence[Sequence[ByTask]]) -> Column:
    """What was found for the runs of each group, as the mean and sd of every task in points."""
    spreads = [
        [
            Spread(tuple(100 * v for row in rows if k < len(row) and (v := row[k]) is not None))
            for k in range(len(group.config.tasks))
        ]
        for group, rows in zip(groups, found, strict=True)
    ]
    means = [[spread.mean for spread in row] for row in spreads]
    return Column(title, means, [[spread.sd for spread in row] for row in spreads])


COST_UNITS = {"train_seconds": ("training, s", 1.0), "energy_wh": ("energy, Wh (estimated)", 1.0),
              "bytes": ("memory, MB", 1e6), "test_ms": ("answering, ms a picture", 1.0)}  # fmt: skip


def costs_info(groups: Sequence[Group]) -> Lines:
    """What each group cost in time, energy and bytes; a cost that no run measured is left out."""
    columns = []
    for measure, (title, scale) in COST_UNITS.items():
        spreads = [group.spread(measure) for group in groups]
        if any(spread.n for spread in spreads):
            means = [None if spread.mean is None else spread.mean / scale for spread in spreads]
            sds = [None if spread.sd is None else spread.sd / scale for spread in spreads]
            columns.append(Column(title, [[mean] for mean in means], [[sd] for sd in sds]))
    return Lines([group.name for group in groups], columns)


def by_task(info: Lines) -> Chart:
    """Draw a mark for each task, in its colour and shape; the farther to the right, the worse."""
    chart = Chart()
    for number, column in enumerate(info.columns):
        suffix = axis_suffix(number)
        most = max(map(len, column.values), default=0)
        for task in range(most):
            rows = [i for i, values in enumerate(column.values) if task < len(values) and values[task] is not None]
            sds = [column.sds[i][task] or 0.0 for i in rows]
            chart.trace(
                "scatter", x=[column.values[i][task] for i in rows], y=rows, xaxis=f"x{suffix}", yaxis=f"y{suffix}",
                name=f"job {task + 1}", mode="markers",
                error_x={"array": sds, "visible": any(sds), "thickness": 1, "width": 3},
                marker={
                    "color": task_colour(task + 1), "size": 11,
                    "symbol": task_symbol(task + 1),
                },
                hovertemplate=f"job {task + 1}: %{{x:.1f}} points<extra></extra>",
            )  # fmt: skip
    line_axes(chart, info)
    for number in range(len(info.columns)):
        chart.set(**{f"xaxis{axis_suffix(number)}": {"ticksuffix": "", "rangemode": "tozero"}})
    return chart


def costs(info: Lines) -> Chart:
    """Draw a bar for each group; the shorter, the cheaper."""
    chart = Chart()
    for number, column in enumerate(info.columns):
        suffix = axis_suffix(number)
        known = [i for i, values in enumerate(column.values) if values[0] is not None]
        sds = [column.sds[i][0] or 0.0 for i in known]
        chart.trace(
            "bar", x=[column.values[i][0] for i in known], y=known, orientation="h", xaxis=f"x{suffix}",
            yaxis=f"y{suffix}", marker={"color": INK, "opacity": 0.75}, width=0.55,
            error_x={"array": sds, "visible": any(sds), "color": GREY, "thickness": 1, "width": 3},
            hovertemplate="%{x:.3g}<extra></extra>",
        )  # fmt: skip
    line_axes(chart, info)
    return chart
