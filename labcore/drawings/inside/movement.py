"""How far weights have moved since a job was learnt, and what that broke."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from labcore.drawings.charts import Chart
from labcore.drawings.figures import task_colour, task_dash
from labcore.drawings.inside import magnitudes
from labcore.drawings.inside.kind import MapKind, Words
from labcore.drawings.inside.layer import ABOVE, HEIGHT, ChartPiece, Panel, Shown, titled
from labcore.drawings.inside.overview import Heat, Overview, Scale, log10, of_layers, unknown
from labcore.runs import map_files
from labcore.runs.map_files import Layer
from labcore.runs.moments import View

NOTES = {
    "drift": "A line for each earlier job: how far each filter has moved since, from the farthest to the least.",
    "broke": "A line for each earlier job: how much each filter's move hurt it, from the worst to the least.",
    "spring": "Each point is a filter. Right: more {quantity}. Up: it has moved farther since.",
}


# ---- the whole network ----------------------------------------------------------------------------------------------


def by_task(seen: View, array: str, shown: Callable[[np.ndarray], np.ndarray]) -> Overview:
    """What an array tells of each layer since each earlier task, put through `shown`; NaN where nothing is known."""
    values = unknown(seen)
    rows, about = seen.read(array), seen.read("drift_tasks")
    if rows is not None and about is not None and rows.shape == (len(about), len(seen.layers)):
        for task, row in zip(about, rows, strict=True):
            if 1 <= task <= len(values):
                values[task - 1] = shown(row)
    return of_layers(seen, np.where(np.isfinite(values), values, np.nan))


def drift_info(seen: View) -> Overview:
    """The move of each layer since each earlier task, in %."""
    return by_task(seen, "drift", lambda row: 100 * row)


def broke_info(seen: View) -> Overview:
    """The nats that each layer's move cost each earlier task, log10."""
    return by_task(seen, "broke", log10)


def drift_task(seen: View, task: int) -> int | None:
    """The earlier task whose drift is shown: this one where it is known, else the first; None where there is none."""
    tasks = seen.read("drift_tasks")
    if tasks is None or not len(tasks):
        return None
    return task if task in tasks else int(tasks[0])


def unkept(seen: View) -> str:
    """A sentence on the earlier tasks whose weights the worker could not keep, so that drift from them is not known.

    It is empty where there are none.
    """
    tasks = seen.read("drift_unkept")
    missing = [] if tasks is None else [seen.titles[task - 1] for task in tasks if 1 <= task <= len(seen.titles)]
    if not missing:
        return ""
    return (
        f"no map since {', '.join(missing)}. To measure moves, a run keeps earlier weights in memory, up to "
        f"{map_files.LARGEST_KEPT >> 30} GiB; those of this network would be more."
    )


# ---- importance against the move ------------------------------------------------------------------------------------


def by_filter(seen: View, layer: Layer, kind: str) -> np.ndarray | None:
    """Drift as a share, or nats broken, of a layer's filters [T, F] since each task that these maps speak of."""
    rows, most = seen.read(f"{kind}/{layer.name}"), seen.read(f"{kind}_most")
    if rows is None or rows.dtype != np.uint8:  # of before there were codes
        return rows
    place = seen.layers.index(layer)
    if most is None or rows.ndim != 2 or most.shape != (len(rows), len(seen.layers)):
        return None
    return map_files.decode_roots(rows, most[:, place])


def filters_info(
    seen: View, layer: Layer, task: int, array: str = "importance"
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Importance of a task, drift in % and nats broken, by filter; filters that share a pixel are averaged."""
    about = seen.read("drift_tasks")
    drift, broke = by_filter(seen, layer, "drift"), by_filter(seen, layer, "broke")
    logs = magnitudes.by_weight(seen, layer, task, array)
    if about is None or drift is None or broke is None or logs is None or task not in about:
        return None
    row = int(np.flatnonzero(about == task)[0])
    values = np.nan_to_num(10**logs).mean(1)
    group = -(-drift.shape[1] // len(values))
    starts = np.arange(0, drift.shape[1], group)
    sizes = np.diff([*starts, drift.shape[1]])
    if len(starts) != len(values):
        return None
    moved = np.sqrt(np.add.reduceat(drift[row].astype(float) ** 2, starts) / sizes)
    return values, 100 * moved, np.add.reduceat(broke[row].astype(float), starts)


def spring(groups: Sequence[tuple[str, np.ndarray, np.ndarray]], quantity: str, scale: Scale, top: float) -> Chart:
    """Draw importance, or what it is called, against drift, a point for each filter.

    The axes are those of the whole run: `scale` is log10 of importance, and `top` the farthest move in %. Runs differ
    by sign, as methods have no colours.
    """
    chart = Chart()
    for number, (name, importance, moved) in enumerate(groups):
        there = importance > 0
        chart.trace(
            "scatter", x=np.log10(importance[there]), y=moved[there], name=name, mode="markers",
            marker={
                "symbol": ("circle", "x-thin-open")[number % 2], "size": 8, "opacity": 0.75,
                "color": ("#5B6C94", "#B0603A")[number % 2], "line": {"width": 1.5},
            },
            hovertemplate=quantity + " 10^%{x:.1f}<br>moved %{y:.2g} %<extra></extra>",
        )  # fmt: skip
    chart.set(
        margin={"l": 58, "r": 8, "t": 26, "b": 44}, showlegend=len(groups) > 1, legend=ABOVE,
        xaxis={**titled(f"{quantity} of a filter (log₁₀)"), "range": list(scale)},
        yaxis={**titled("moved, %"), "range": [0, 1.05 * top or 1]},
    )  # fmt: skip
    return chart


def _spring_axes(views: Sequence[View], place: int, task: int, array: str) -> tuple[Scale, float]:
    """log10 of importance from the least to the most, and the farthest move in %, in these runs at whatever moment."""

    infos: dict[tuple[int, str], tuple[np.ndarray, np.ndarray, np.ndarray] | None] = {}

    def told(seen: View, number: int) -> np.ndarray | None:
        key = id(seen.book), seen.moment.path
        if key not in infos:
            since = drift_task(seen, task)
            infos[key] = None if since is None else filters_info(seen, seen.layers[place], since, array)
        info = infos[key]
        return None if info is None else log10(info[0]) if number == 0 else info[number]

    def spans(number: int) -> list[Scale]:
        found = (seen.span(("spring", array, place, task, number), lambda seen: told(seen, number)) for seen in views)
        return [span for span in found if span is not None]

    across, up = spans(0), spans(1)
    left, right = min((low for low, _ in across), default=-6.0), max((high for _, high in across), default=0.0)
    return (left - 0.1, right + 0.1), max((high for _, high in up), default=0.0)


def spring_chart(shown: Shown, array: str = "importance", quantity: str = "importance") -> ChartPiece:
    """How much each filter mattered for an earlier job, by `array`, and how far it has moved since.

    `quantity` is what the array holds, in words.
    """

    def make() -> Chart | None:
        found, views = [], [each.seen for each in shown.runs]
        for each in shown.runs:
            since = drift_task(each.seen, shown.task)
            info = None if since is None else filters_info(each.seen, each.seen.layers[shown.place], since, array)
            if info is not None:
                found.append((each.name, info[0], info[1]))
        return spring(found, quantity, *_spring_axes(views, shown.place, shown.task, array)) if found else None

    since = drift_task(shown.first, shown.task)
    whose = "" if since is None else f" since {shown.first.titles[since - 1]}"
    title = f"{quantity[:1].upper()}{quantity[1:]} against the move{whose}"
    later = f"From the second job on: how far each filter moved, against its {quantity}."
    return ChartPiece("spring", title, make, later, NOTES["spring"].format(quantity=quantity))


# ---- filter by filter -----------------------------------------------------------------------------------------------


class _Strips(NamedTuple):
    """How the numbers of a layer's filters are drawn."""

    factor: int
    unit: str
    title: str
    most: str  # which filter is the first


_STRIPS = {
    "drift": _Strips(100, "%", "moved, %", "the most moved"),
    "broke": _Strips(1, "nats", "extra loss, nats", "the most harmful"),
}


def strips_info(seen: View, layer: Layer, kind: str) -> dict[int, np.ndarray] | None:
    """Drift (%) or nats broken of each filter, by the position of the task."""
    about, rows = seen.read("drift_tasks"), by_filter(seen, layer, kind)
    if about is None or rows is None or rows.ndim != 2 or len(rows) != len(about):
        return None
    there = range(1, len(seen.titles) + 1)
    return {
        position: _STRIPS[kind].factor * row
        for position, row in zip(about.tolist(), rows, strict=True)
        if position in there
    }


def strips_top(views: Iterable[View], place: int, kind: str) -> float:
    """The largest of all these numbers in these runs, at whatever moment; 0 where nothing moved."""

    def read(seen: View) -> np.ndarray | None:
        rows = strips_info(seen, seen.layers[place], kind)
        return np.concatenate([np.zeros(1), *rows.values()]) if rows else None

    known = [span for seen in views if (span := seen.span((kind, place), read)) is not None]
    return max((high for _, high in known), default=0.0)


def strips(seen: View, layer: Layer, kind: str, top: float) -> Chart | None:
    """Draw drift or nats broken of each filter, for each task from the largest down; the scale ends at `top`.

    Filters lie in a layer in no order that means something, so a line through them as they lie would not either.
    """
    rows = strips_info(seen, layer, kind)
    if rows is None:
        return None
    chart = Chart()
    how = _STRIPS[kind]
    for position, row in rows.items():
        falling = -np.sort(-row[np.isfinite(row)])
        chart.trace(
            "scatter", x=list(range(1, len(falling) + 1)), y=falling, mode="lines",
            name=f"since {seen.titles[position - 1]}",
            line={"color": task_colour(position), "width": 2, "dash": task_dash(position), "shape": "hvh"},
            hovertemplate=f"{how.most} no. %{{x}}: %{{y:.2g}} {how.unit}<extra></extra>",
        )  # fmt: skip
    chart.set(
        margin={"l": 62, "r": 8, "t": 26, "b": 44}, showlegend=True, legend=ABOVE,
        xaxis=titled(f"filters of this layer, {how.most} first"),
        yaxis={**titled(how.title), "range": [0, 1.05 * top or 1], "exponentformat": "power"},
    )  # fmt: skip
    return chart


def strips_charts(shown: Shown, kind: str) -> Panel:
    """The charts filter by filter; those of two runs lie one below the other on one scale."""
    layers = [(each.seen, each.seen.layers[shown.place]) for each in shown.runs]
    views = [each.seen for each in shown.runs]
    alone, last = len(shown.runs) == 1, shown.runs[-1]
    missing = "The first job has nothing to compare with yet."

    def piece(run: str, name: str, seen: View, layer: Layer) -> ChartPiece:
        def make() -> Chart | None:
            return strips(seen, layer, kind, strips_top(views, shown.place, kind))

        title = "How far did its filters move?" if kind == "drift" else "Which filters did the harm?"
        title = title if alone else f"{title} {name}"
        note, height = NOTES[kind] if run == last.run else "", HEIGHT if alone else HEIGHT // 2 + 20
        return ChartPiece(f"strips-{run}", title, make, missing, note, height)

    return [piece(each.run, each.name, *layer) for each, layer in zip(shown.runs, layers, strict=True)]


def _layer(kind: str, shown: Shown) -> tuple[Panel, Panel]:
    return strips_charts(shown, kind), [spring_chart(shown)]


DRIFT = MapKind(
    name="drift",
    place=20,
    needs=["drift", "drift_unkept"],
    read=drift_info,
    drawing=Heat(" %", logarithmic=False, since=True),
    layer=partial(_layer, "drift"),
    jobs="earlier",
    remark=unkept,
    words=Words(
        "Drift",
        "How far have weights moved since?",
        "drift = root mean square of the move, in % of the layer's own weights",
        "Where it is dark, the weights are still where the job left them. Methods that keep jobs apart stay at 0. With "
        "EWC, look at the points beside this: filters that matter stay low, and the others are free to move.",
        r"""$\sqrt{\overline{(w - w^*)^2}} / \sqrt{\overline{w^{*2}}}$ over a layer's (or a filter's) weights, where
$w^*$ are the weights when the job was learnt. A filter's move is measured by its layer's weights, too. Weights are
those that the job sees: with a mask only what it leaves on, with separate copies the job's own copy.""",
        explained=(
            "each column is a layer, each row an earlier job",
            "bright: weights moved far since that job was learnt",
        ),
    ),
)

BROKE = MapKind(
    name="broke",
    place=30,
    needs=["broke", "drift_unkept"],
    read=broke_info,
    drawing=Heat(" nats", since=True),
    layer=partial(_layer, "broke"),
    jobs="earlier",
    remark=unkept,
    words=Words(
        "What it broke",
        "Where did learning more hurt an older job?",
        "drift × importance = estimated extra loss, in nats; a logarithmic scale",
        "Moving a weight does harm only where the job needs it. Bright layers are where the older job was damaged, so "
        "this map says more about forgetting than drift does. Where nothing is drawn, nothing was broken.",
        r"""$\tfrac12 \sum_i F_i (w_i - w^*_i)^2$, summed over a layer or a filter: the Laplace approximation's estimate
of how much the older job's loss has risen, in nats (0.7 nats: a right answer half as likely). It is an estimate
for small moves; after large ones it overstates.""",
        explained=("each column is a layer, each row an earlier job", "bright: weights moved that this job needs"),
    ),
)
