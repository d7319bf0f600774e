"""Several runs beside each other: groups that differ by seed alone, their numbers, and the figures of them.

As in labcore/drawings/figures.py every chart is two functions. Groups are told apart by name and place, never by a
task's colour; colours are the tasks' own. No torch, no Streamlit.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from labcore.configs.catalogue import BACKBONES
from labcore.configs.run import METHOD_TITLES, RunConfig
from labcore.configs.units import plain, setting_name
from labcore.drawings.charts import Chart
from labcore.drawings.figures import ACCURACY_SCALE, GREY, TASK_COLOURS, apart, ink_on, task_colour, task_dash
from labcore.runs.results import RunResult
from labcore.studies.experiments import Findings
from labcore.studies.measures import MEASURES, CurvePoint, Finished, Spread, gap_to_copies, intransigence

INK = "#5B78BF"
TASK_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon")
PANELS_A_ROW = 4


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of one configuration but for the seed. `note` marks what no mean of others may hold: another version."""

    name: str
    config: RunConfig
    runs: tuple[Finished, ...]
    note: str = ""

    def spread(self, measure: str) -> Spread:
        """A measure over its seeds."""
        found = (MEASURES[measure].read(run) for run in self.runs)
        return Spread(tuple(value for value in found if value is not None))


def groups_of(findings: Findings) -> list[Group]:
    """An experiment's arms, as far as they have a finished run."""
    found = []
    for arm in findings.experiment.arms:
        runs = tuple(cell.finished for cell in findings.of(arm.label) if cell.finished)
        if runs:
            found.append(Group(arm.label, arm.config, runs))
    return found


def without_seed(config: RunConfig) -> str:
    """The same text for configurations that differ by seed alone."""
    return config.model_copy(update={"seed": 0}).canonical_json()


def fold_seeds(runs: Sequence[tuple[RunConfig, Finished, str]], *, unfold: bool = False) -> list[Group]:
    """Runs, each with a note, into groups; `unfold` gives every run one of its own. Named by what sets them apart."""
    found: dict[tuple[str, str], list[tuple[RunConfig, Finished]]] = {}
    for number, (config, finished, note) in enumerate(runs):
        key = f"{number}" if unfold else without_seed(config)
        found.setdefault((key, note), []).append((config, finished))
    configs = [members[0][0] for members in found.values()]
    names = names_of(configs, seeds=unfold)
    method = f"{METHOD_TITLES[configs[0].method.name]}, " if configs else ""
    if len(names) > 1 and all(name.startswith(method) for name in names):  # only the rest tells them apart
        rest = [name.removeprefix(method) for name in names]
        names = [name[:1].upper() + name[1:] for name in rest]
    return [
        Group(name + (f" ({note})" if note else ""), members[0][0], tuple(run for _, run in members), note)
        for name, ((_, note), members) in zip(names, found.items(), strict=True)
    ]


def _flat(config: RunConfig) -> dict[str, Any]:
    data = config.model_dump(mode="json")
    flat = {
        f"{part}.{name}": value for part in ("backbone", "training", "method") for name, value in data[part].items()
    }
    return {"tasks": json.dumps(data["tasks"]), **flat}


def differences(configs: Sequence[RunConfig]) -> dict[str, list[str]]:
    """The settings in which configurations differ, with their values in order; one that some lack is not named."""
    flats = [_flat(config) for config in configs]
    shared = [path for path in flats[0] if all(path in flat for flat in flats)] if flats else []
    values = {path: list(dict.fromkeys(plain(flat[path]) for flat in flats)) for path in shared}
    return {path: found for path, found in values.items() if len(found) > 1}


def differences_line(configs: Sequence[RunConfig]) -> str:
    """What sets the chosen configurations apart, in a line."""
    found = differences(configs)
    if len(configs) < 2:
        return "One configuration: choose another to compare it with."
    if not found:
        return "They have the same settings."
    methods = {config.method.name for config in configs}
    all_are = f"All are {METHOD_TITLES[methods.pop()]}. " if len(methods) == 1 else ""
    parts = []
    for path, values in found.items():
        name = setting_name(path)
        if path == "tasks":
            parts.append("jobs")
        elif path == "method.name":
            parts.append("method")
        elif path == "backbone.name":
            parts.append(f"network ({', '.join(BACKBONES[value].title for value in values)})")
        else:
            parts.append(f"{name} ({', '.join(values[:4])}{', …' * (len(values) > 4)})")
    return f"{all_are}They differ in {', '.join(parts)}; all else that they share is the same."


def names_of(configs: Sequence[RunConfig], *, seeds: bool = False) -> list[str]:
    """Short names: the method, and where that is not enough what else differs."""
    names = []
    for config in configs:
        same = [other for other in configs if other.method.name == config.method.name]
        mine = _flat(config)
        more = [_told_apart(config, path, mine[path]) for path in differences(same)]
        parts = [METHOD_TITLES[config.method.name], *(part.replace("_", " ") for part in more[:3])]
        names.append(", ".join([*parts, f"seed {config.seed}"] if seeds else parts))
    return names


def _told_apart(config: RunConfig, path: str, value: Any) -> str:
    if path == "tasks":
        return "jobs " + "+".join(config.task_names)
    return BACKBONES[value].title if path == "backbone.name" else f"{path.split('.')[-1]} {plain(value)}"


# ---- stability against plasticity -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlanePoint:
    """A group by what it reached on new tasks and keeps of old ones, in per cent; `front`: none is better in both."""

    name: str
    new: float
    old: float
    new_sd: float
    old_sd: float
    front: bool


def plane_info(groups: Sequence[Group]) -> list[PlanePoint]:
    """Groups that have both figures; a single task has no old one."""
    found = [(group.name, group.spread("new"), group.spread("old")) for group in groups]
    known = [(name, new, old) for name, new, old in found if new.mean is not None and old.mean is not None]
    points = []
    for name, new, old in known:
        beaten = any(
            (other.mean or 0) >= (new.mean or 0)
            and (kept.mean or 0) >= (old.mean or 0)
            and (other.mean, kept.mean) != (new.mean, old.mean)
            for _, other, kept in known
        )
        x, y, x_sd, y_sd = (100 * (value or 0.0) for value in (new.mean, old.mean, new.sd, old.sd))
        points.append(PlanePoint(name, x, y, x_sd, y_sd, not beaten))
    return points


def plane(points: Sequence[PlanePoint]) -> Chart:
    """Right: learns the new job. Up: keeps the old ones. The line joins those that no other beats in both."""
    chart = Chart()
    front = sorted((point for point in points if point.front), key=lambda point: point.new)
    chart.trace(
        "scatter", x=[p.new for p in front], y=[p.old for p in front], mode="lines", hoverinfo="skip",
        line={"color": GREY, "width": 1.5, "dash": "dot", "shape": "hv"}, showlegend=False,
    )  # fmt: skip
    chart.trace(
        "scatter", x=[p.new for p in points], y=[p.old for p in points], mode="markers", showlegend=False,
        error_x={"array": [p.new_sd for p in points], "color": GREY, "thickness": 1, "width": 3},
        error_y={"array": [p.old_sd for p in points], "color": GREY, "thickness": 1, "width": 3},
        marker={
            "size": 11, "color": [INK if p.front else "rgba(0,0,0,0)" for p in points],
            "line": {"color": INK, "width": 2}, "symbol": "circle",
        },
        customdata=[p.name for p in points],
        hovertemplate="%{customdata}<br>new job %{x:.1f} %, old jobs %{y:.1f} %<extra></extra>",
    )  # fmt: skip
    across = _tens([p.new + by for p in points for by in (-p.new_sd, p.new_sd)])
    up = _tens([p.old + by for p in points for by in (-p.old_sd, p.old_sd)])
    for point, x, y, side in labels_apart(points, across, up):
        chart.note(
            x=point.new, y=point.old, text=point.name, showarrow=True, arrowhead=0, arrowwidth=1, arrowcolor=GREY,
            standoff=7, ax=x, ay=y, xanchor=side, yanchor="middle", font={"size": 13},
        )  # fmt: skip
    new = {"text": "new job, right after it is learnt →", "font": {"size": 13}}
    old = {"text": "old jobs, kept →", "font": {"size": 13}}
    chart.set(
        xaxis={"range": across, "ticksuffix": " %", "title": new},
        yaxis={"range": up, "ticksuffix": " %", "title": old},
        margin={"l": 66, "r": 16, "t": 12, "b": 48},
        showlegend=False,
    )
    return chart


def _tens(percent: Sequence[float]) -> tuple[float, float]:
    """From the ten below all of these to the ten above, and at 100 % a little beyond: an axis that seldom moves."""
    low, high = min(percent, default=64.0) - 4, max(percent, default=100.0) + 4
    return max(0.0, 10 * (low // 10)), min(102.0, -10 * (-high // 10))


# About how large the chart's area and a letter are, px: names need not be placed exactly, only apart.
_AREA, _LETTER, _LINE = (900, 320), 7, 17


def labels_apart(
    points: Sequence[PlanePoint], across: tuple[float, float], up: tuple[float, float]
) -> list[tuple[PlanePoint, int, int, Literal["left", "right"]]]:
    """Where names go, px right of their points and below, so that none covers another or a point.

    The front's are placed first; a name for which there is no room is left out.
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


# ---- matrices and the way there -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MeanMatrix:
    """A group's accuracy matrix in per cent, mean and sd over seeds; None where not learnt yet."""

    name: str
    percent: list[list[float | None]]
    sd: list[list[float | None]]


def matrices_info(groups: Sequence[Group]) -> list[MeanMatrix]:
    """One a group, cell by cell over its seeds."""
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


def panel_rows(count: int) -> int:
    """How many rows of panels hold so many."""
    return max(1, -(-count // PANELS_A_ROW))


def _suffix(number: int) -> str:
    """What plotly puts behind `x`, `y` of panel `number` (from 0)."""
    return "" if number == 0 else str(number + 1)


# Letters that fit above a panel, and beside the lines of groups, on a projector too.
_LETTERS_ABOVE, _LETTERS_BESIDE = 30, 26


def _folded(name: str, letters: int) -> str:
    """A long name on two lines, broken after the comma that is nearest to its middle, or at a space if it has none."""
    breaks = [i + 1 for i, letter in enumerate(name) if letter == ","] or [i for i, c in enumerate(name) if c == " "]
    if len(name) <= letters or not breaks:
        return name
    at = min(breaks, key=lambda place: abs(place - len(name) / 2))
    return f"{name[:at]}<br>{name[at:].lstrip()}"


def _panel(chart: Chart, number: int, names: Sequence[str]) -> tuple[str, str]:
    """Lay out a panel of a grid, one a name; the suffixes of its axes."""
    rows = panel_rows(len(names))
    titles = [_folded(name, _LETTERS_ABOVE) for name in names]
    above = 0.21 if any("<br>" in title for title in titles) else 0.14
    column, row = number % PANELS_A_ROW, number // PANELS_A_ROW
    width, height = 1 / PANELS_A_ROW, 1 / rows
    suffix = _suffix(number)
    left, top = column * width, 1 - row * height
    chart.set(**{
        f"xaxis{suffix}": {
            "domain": [left + 0.012, left + width - 0.018], "anchor": f"y{suffix}", "zeroline": False,
        },
        f"yaxis{suffix}": {
            "domain": [top - height + 0.16 * height, top - above * height], "anchor": f"x{suffix}", "zeroline": False,
        },
    })  # fmt: skip
    chart.note(
        x=left + 0.012, xref="paper", xanchor="left", y=top - (above - 0.02) * height, yref="paper", yanchor="bottom",
        align="left", text=f"<b>{titles[number]}</b>", font={"size": 13},
    )  # fmt: skip
    return f"x{suffix}", f"y{suffix}"


def matrices(found: Sequence[MeanMatrix]) -> Chart:
    """Small multiples on one scale: rows after learning …, columns how well it does …, both by the task's colour."""
    chart = Chart()
    for number, matrix in enumerate(found):
        x, y = _panel(chart, number, [matrix.name for matrix in found])
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
    """Small multiples on one scale: each task's accuracy after every stage, from the one in which it was learnt."""
    chart = Chart()
    for number, matrix in enumerate(found):
        x, y = _panel(chart, number, [matrix.name for matrix in found])
        count = len(matrix.percent)
        for j in range(count):
            rows = [k for k in range(j, count) if matrix.percent[k][j] is not None]
            sds = [matrix.sd[k][j] or 0.0 for k in rows]
            chart.trace(
                "scatter", x=[k + 1 for k in rows], y=[matrix.percent[k][j] for k in rows], xaxis=x, yaxis=y,
                mode="lines+markers", line={"color": task_colour(j + 1), "dash": task_dash(j + 1), "width": 2.2},
                marker={"symbol": TASK_SYMBOLS[j % len(TASK_SYMBOLS)], "size": 8},
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


@dataclass(frozen=True, slots=True)
class Column:
    """A panel: for each group, by name, a value a task (or one alone) with its sd; None where it cannot be told."""

    title: str
    values: list[list[float | None]]
    sds: list[list[float | None]]


@dataclass(frozen=True, slots=True)
class Lines:
    """Groups from top to bottom, and panels beside each other."""

    names: list[str]
    columns: list[Column]


def reference(groups: Sequence[Group], group: Group, method: str) -> dict[int, RunResult]:
    """Another method's results by seed, on the same sequence and starting network, by the same version of the lab.

    Of several settings the first is taken, with all its seeds, which may be groups of their own. A group is no
    reference to itself.
    """

    def fits(other: Group) -> bool:
        backbone = other.config.backbone.model_copy(update={"norm": group.config.backbone.norm})
        same = (other.config.tasks, backbone, other.note) == (group.config.tasks, group.config.backbone, group.note)
        return other.config.method.name == method and same

    fitting = [(without_seed(other.config), other) for other in groups if fits(other)]
    if not fitting or fitting[0][0] == without_seed(group.config):
        return {}
    results = (run.result for setting, other in fitting if setting == fitting[0][0] for run in other.runs)
    return {result.config["seed"]: result for result in results}


def by_task_info(groups: Sequence[Group]) -> Lines:
    """Forgetting, intransigence against joint training, and the gap to separate copies, in points, a task each.

    A reference is paired seed by seed; where it is not among the groups, its column holds nothing for a group.
    """
    columns: list[Column] = []
    for title, method, gap in (
        ("forgetting", "", None),
        ("intransigence (against joint training)", "joint", intransigence),
        ("gap to separate copies", "separate_copies", gap_to_copies),
    ):
        values, sds = [], []
        for group in groups:
            count = len(group.config.tasks)
            rows: list[tuple[float | None, ...]] = []
            by_seed = reference(groups, group, method)
            for run in group.runs:
                base = by_seed.get(run.result.config["seed"])
                if gap is None:
                    rows.append(run.result.forgetting)
                elif base is not None:
                    rows.append(gap(run.result, base))
            cells = [
                Spread(tuple(100 * v for row in rows if k < len(row) and (v := row[k]) is not None))
                for k in range(count)
            ]
            values.append([cell.mean for cell in cells])
            sds.append([cell.sd for cell in cells])
        columns.append(Column(title, values, sds))
    return Lines([group.name for group in groups], columns)


COST_UNITS = {"train_seconds": ("training, s", 1.0), "energy_wh": ("energy, Wh (estimated)", 1.0),
              "bytes": ("memory, MB", 1e6), "test_ms": ("answering, ms a picture", 1.0)}  # fmt: skip


def costs_info(groups: Sequence[Group]) -> Lines:
    """Time, energy, bytes; what no run measured is left out."""
    columns = []
    for measure, (title, scale) in COST_UNITS.items():
        spreads = [group.spread(measure) for group in groups]
        if any(spread.n for spread in spreads):
            means = [None if spread.mean is None else spread.mean / scale for spread in spreads]
            sds = [None if spread.sd is None else spread.sd / scale for spread in spreads]
            columns.append(Column(title, [[mean] for mean in means], [[sd] for sd in sds]))
    return Lines([group.name for group in groups], columns)


def lines_height(groups: int) -> int:
    """px for so many lines."""
    return 64 + 34 * max(1, groups)


def _line_axes(chart: Chart, info: Lines) -> None:
    count = max(1, len(info.columns))
    names = [_folded(name, _LETTERS_BESIDE) for name in info.names]
    longest = max((len(line) for name in names for line in name.split("<br>")), default=0)
    for number, column in enumerate(info.columns):
        suffix = _suffix(number)
        chart.set(**{
            f"xaxis{suffix}": {
                "domain": [number / count, (number + 0.9) / count], "anchor": f"y{suffix}", "zeroline": True,
                "zerolinecolor": GREY, "nticks": 5,
            },
            f"yaxis{suffix}": {
                "range": [len(info.names) - 0.4, -0.6], "tickvals": list(range(len(info.names))), "zeroline": False,
                "ticktext": names if number == 0 else [""] * len(names), "anchor": f"x{suffix}",
            },
        })  # fmt: skip
        chart.note(
            x=number / count, xref="paper", xanchor="left", y=1.0, yref="paper", yanchor="bottom",
            text=f"<b>{column.title}</b>", font={"size": 13},
        )  # fmt: skip
    chart.set(margin={"l": 24 + 7 * longest, "r": 8, "t": 28, "b": 32}, showlegend=False)


def by_task(info: Lines) -> Chart:
    """A mark a task in its colour and shape; right is worse."""
    chart = Chart()
    for number, column in enumerate(info.columns):
        suffix = _suffix(number)
        most = max(map(len, column.values), default=0)
        for task in range(most):
            rows = [i for i, values in enumerate(column.values) if task < len(values) and values[task] is not None]
            sds = [column.sds[i][task] or 0.0 for i in rows]
            chart.trace(
                "scatter", x=[column.values[i][task] for i in rows], y=rows, xaxis=f"x{suffix}", yaxis=f"y{suffix}",
                mode="markers", error_x={"array": sds, "visible": any(sds), "thickness": 1, "width": 3},
                marker={
                    "color": TASK_COLOURS[task % len(TASK_COLOURS)], "size": 11,
                    "symbol": TASK_SYMBOLS[task % len(TASK_SYMBOLS)],
                },
                hovertemplate=f"job {task + 1}: %{{x:.1f}} points<extra></extra>",
            )  # fmt: skip
    _line_axes(chart, info)
    for number in range(len(info.columns)):
        chart.set(**{f"xaxis{_suffix(number)}": {"ticksuffix": "", "rangemode": "tozero"}})
    return chart


def costs(info: Lines) -> Chart:
    """A bar a group; shorter is cheaper."""
    chart = Chart()
    for number, column in enumerate(info.columns):
        suffix = _suffix(number)
        known = [i for i, values in enumerate(column.values) if values[0] is not None]
        sds = [column.sds[i][0] or 0.0 for i in known]
        chart.trace(
            "bar", x=[column.values[i][0] for i in known], y=known, orientation="h", xaxis=f"x{suffix}",
            yaxis=f"y{suffix}", marker={"color": INK, "opacity": 0.75}, width=0.55,
            error_x={"array": sds, "visible": any(sds), "color": GREY, "thickness": 1, "width": 3},
            hovertemplate="%{x:.3g}<extra></extra>",
        )  # fmt: skip
    _line_axes(chart, info)
    return chart


# ---- questions ------------------------------------------------------------------------------------------------------

ASKED = {"accuracy": "all jobs at the end", "new": "new jobs, when learnt", "old": "old jobs, at the end"}


@dataclass(frozen=True, slots=True)
class SeedDots:
    """For each arm and panel: every seed's accuracy in per cent."""

    names: list[str]
    panels: dict[str, list[list[float]]]


def seed_dots_info(findings: Findings) -> SeedDots:
    """Every arm from the start, so that nothing moves as it fills."""
    labels = [arm.label for arm in findings.experiment.arms]
    return SeedDots(
        labels,
        {
            title: [[100 * value for value in findings.spread(label, measure).values] for label in labels]
            for measure, title in ASKED.items()
        },
    )


def seed_dots(info: SeedDots) -> Chart:
    """A small mark a seed, a bar at the mean; one scale for all panels."""
    chart = Chart()
    lines = Lines(info.names, [Column(title, [], []) for title in info.panels])
    every = [value for panel in info.panels.values() for row in panel for value in row]
    low = max(0.0, 10 * (min(every, default=0.0) // 10) - 5)
    for number, panel in enumerate(info.panels.values()):
        suffix = _suffix(number)
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
    _line_axes(chart, lines)
    for number in range(len(info.panels)):
        chart.set(**{f"xaxis{_suffix(number)}": {"range": [low, 101], "ticksuffix": " %"}})
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
    """`against` is `steps` or `seconds`; `panel_of` says by label in which panel an arm is drawn."""
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
    """Panels side by side on one scale, lines told apart by dash and by the name at their end; a level across."""
    chart = Chart()
    count = len(panels)
    furthest = max((curve.x[-1] for curve in found), default=1.0)
    for number, panel in enumerate(panels):
        suffix = _suffix(number)
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
