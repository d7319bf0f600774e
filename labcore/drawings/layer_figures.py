"""How one layer looks: its weight map as a picture, its filters and scores as charts. No torch, no Streamlit.

Runs that lie beside each other have one scale: `layer_span` and `strips_top` say it, and the figures take it.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from plotly.colors import sample_colorscale

from labcore.drawings.charts import Chart
from labcore.drawings.figures import task_colour, task_dash
from labcore.drawings.map_figures import FREE, MOST_DECADES, SCALE, labelled, power
from labcore.runs import map_files
from labcore.runs.map_files import Layer
from labcore.runs.map_moments import View


@dataclass(frozen=True, slots=True)
class Picture:
    """A weight map to draw: PNG bytes, and what its rows, columns and pixels stand for."""

    png: bytes
    rows: int
    columns: int
    pixel: str
    legend: list[tuple[str, str]]  # colour and word, or for a scale its two ends

    @property
    def address(self) -> str:
        """A data address for a page."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


def _png(indices: np.ndarray, palette: Sequence[tuple[int, ...]]) -> bytes:
    """uint8 indices as a palette PNG."""
    image = Image.fromarray(np.ascontiguousarray(indices), "P")
    image.putpalette([part for colour in palette for part in colour[:3]])
    data = io.BytesIO()
    image.save(data, "PNG", transparency=bytes(colour[3] for colour in palette))
    return data.getvalue()


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _viridis() -> list[tuple[int, int, int]]:
    found = sample_colorscale(SCALE, [place / 254 for place in range(255)])
    return [tuple(round(float(part)) for part in text[4:-1].split(",")) for text in found]  # type: ignore[misc]


_NOTHING = (138, 143, 156, 82)
_PALETTE = [_NOTHING, *((*colour, 255) for colour in _viridis())]


def _per_pixel(layer: Layer, drawn: np.ndarray, matrix: tuple[int, int], rule: str) -> str:
    """What a pixel stands for, in words."""
    rows, columns = (-(-whole // part) for whole, part in zip(matrix, drawn.shape, strict=True))
    inside = layer.weights // (matrix[0] * matrix[1])
    weights = rows * columns * inside
    return "a pixel is one weight" if weights == 1 else f"a pixel is {rule} {weights} weights"


def layer_span(views: Iterable[View], layer: Layer, task: int) -> tuple[float, float]:
    """One scale for a layer's importance in all of these: whole decades, six at most."""
    ranges = []
    for seen in views:
        codes, log_range = seen.recent(f"importance/{layer.name}", task), seen.recent("importance_range", task)
        if codes is not None and log_range is not None and codes.any():
            there = codes[codes > 0]
            ends = map_files.decode(np.array([there.min(), there.max()], np.uint8), log_range)
            ranges.append((float(ends[0]), float(ends[1])))
    if not ranges:
        return -6.0, 0.0
    high = float(np.ceil(max(top for _, top in ranges)))
    return max(float(np.floor(min(bottom for bottom, _ in ranges))), high - MOST_DECADES), high


def importance_picture(seen: View, layer: Layer, scale: tuple[float, float], task: int | None = None) -> Picture | None:
    """Filters × inputs, on this scale (see `layer_span`); of the moment's task, or of an earlier one."""
    stage = task or seen.moment.stage
    codes, log_range = seen.recent(f"importance/{layer.name}", stage), seen.recent("importance_range", stage)
    if codes is None or log_range is None or codes.ndim != 2:
        return None
    logs = map_files.decode(codes, log_range)
    low, high = scale
    place = np.clip((logs - low) / max(high - low, 1e-9), 0, 1)
    indices = np.where(np.isnan(logs), 0, 1 + np.rint(254 * np.nan_to_num(place))).astype(np.uint8)
    whole = layer.shape[0], map_files.columns_of(layer.shape)
    ends = [("0", f"{power(low)} or less"), ("1", power(high))]
    return Picture(_png(indices, _PALETTE), *whole, _per_pixel(layer, codes, whole, "the mean of up to"), ends)


def owner_picture(seen: View, layer: Layer) -> Picture | None:
    """Each weight in its owner's colour."""
    owners = seen.recent(f"owner/{layer.name}")
    if owners is None or owners.ndim != 2:
        return None
    palette = [_NOTHING, *((*_rgb(task_colour(task)), 255) for task in range(1, 256))]
    whole = layer.shape[0], layer.weights // layer.shape[0]
    there = [("free" if owner == 0 else seen.titles[owner - 1], owner) for owner in np.unique(owners)
             if owner <= len(seen.titles)]  # fmt: skip
    legend = [(FREE if owner == 0 else task_colour(int(owner)), name) for name, owner in there]
    return Picture(
        _png(owners, palette), *whole, _per_pixel(layer, owners, whole, "the owner of most of up to"), legend
    )


def mask_picture(seen: View, layer: Layer, task: int) -> Picture | None:
    """What a task's mask leaves on, in the task's colour; off is grey."""
    share = seen.recent(f"mask/{layer.name}", task)
    if share is None or share.ndim != 2:
        return None
    colour, off = np.array(_rgb(task_colour(task))), np.array(_NOTHING[:3])
    palette = [
        (*(int(part) for part in np.rint(off + (colour - off) * level / 255)), round(90 + 165 * level / 255))
        for level in range(256)
    ]
    whole = layer.shape[0], layer.weights // layer.shape[0]
    legend = [(task_colour(task), "on"), (FREE, "off")]
    return Picture(_png(share, palette), *whole, _per_pixel(layer, share, whole, "the share on of up to"), legend)


def filters_info(seen: View, layer: Layer, task: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Importance of a task, drift in % and nats broken, by filter; filters that share a pixel are averaged."""
    about = seen.read("drift_tasks")
    drift, broke = seen.read(f"drift/{layer.name}"), seen.read(f"broke/{layer.name}")
    codes, log_range = seen.recent(f"importance/{layer.name}", task), seen.recent("importance_range", task)
    if about is None or drift is None or broke is None or codes is None or log_range is None or task not in about:
        return None
    row = int(np.flatnonzero(about == task)[0])
    values = np.nan_to_num(10 ** map_files.decode(codes, log_range)).mean(1)
    group = -(-drift.shape[1] // len(values))
    starts = np.arange(0, drift.shape[1], group)
    sizes = np.diff([*starts, drift.shape[1]])
    if len(starts) != len(values):
        return None
    moved = np.sqrt(np.add.reduceat(drift[row].astype(float) ** 2, starts) / sizes)
    return values, 100 * moved, np.add.reduceat(broke[row].astype(float), starts)


_ABOVE = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}


def _titled(text: str) -> dict[str, Any]:
    return {"title": {"text": text, "font": {"size": 12}}}


def spring(groups: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> Chart:
    """Importance against drift, a point a filter; each run its own sign, as methods have no colours."""
    chart = Chart()
    for number, (name, importance, moved) in enumerate(groups):
        there = importance > 0
        chart.trace(
            "scatter", x=np.log10(importance[there]), y=moved[there], name=name, mode="markers",
            marker={
                "symbol": ("circle", "x-thin-open")[number % 2], "size": 8, "opacity": 0.75,
                "color": ("#5B6C94", "#B0603A")[number % 2], "line": {"width": 1.5},
            },
            hovertemplate="importance 10^%{x:.1f}<br>moved %{y:.2g} %<extra></extra>",
        )  # fmt: skip
    chart.set(
        margin={"l": 58, "r": 8, "t": 26, "b": 44}, showlegend=len(groups) > 1, legend=_ABOVE,
        xaxis=_titled("importance of a filter (log₁₀)"),
        yaxis={**_titled("moved, %"), "rangemode": "tozero"},
    )  # fmt: skip
    return chart


def strips_info(seen: View, layer: Layer, kind: str) -> dict[int, np.ndarray] | None:
    """Drift (%) or nats broken of each filter, by the position of the task."""
    about, rows = seen.read("drift_tasks"), seen.read(f"{kind}/{layer.name}")
    if about is None or rows is None or rows.ndim != 2 or len(rows) != len(about):
        return None
    unit = 100 if kind == "drift" else 1
    there = range(1, len(seen.titles) + 1)
    return {position: unit * row for position, row in zip(about.tolist(), rows, strict=True) if position in there}


def strips_top(found: Iterable[dict[int, np.ndarray] | None]) -> float:
    """The largest of all these, so that runs beside each other have one scale; 0 where nothing moved."""
    values = np.concatenate([np.zeros(1), *(row for rows in found if rows is not None for row in rows.values())])
    return float(values[np.isfinite(values)].max())


def strips(seen: View, layer: Layer, kind: str, top: float) -> Chart | None:
    """Drift or nats broken of each filter, a line a task; the scale ends at `top`, see `strips_top`."""
    rows = strips_info(seen, layer, kind)
    if rows is None:
        return None
    chart = Chart()
    unit = "%" if kind == "drift" else "nats"
    for position, row in rows.items():
        chart.trace(
            "scatter", x=list(range(1, len(row) + 1)), y=row, mode="lines", name=f"since {seen.titles[position - 1]}",
            line={"color": task_colour(position), "width": 1.5, "dash": task_dash(position), "shape": "hvh"},
            hovertemplate=f"filter %{{x}}: %{{y:.2g}} {unit}<extra></extra>",
        )  # fmt: skip
    title = "moved, %" if kind == "drift" else "estimated extra loss, nats"
    chart.set(
        margin={"l": 62, "r": 8, "t": 26, "b": 44}, showlegend=True, legend=_ABOVE,
        xaxis=_titled("filters of this layer"),
        yaxis={**_titled(title), "range": [0, 1.05 * top or 1]},
    )  # fmt: skip
    return chart


def histogram(seen: View, place: int, task: int) -> Chart | None:
    """The scores of a layer against the threshold; below it a weight is off."""
    counts, edges, threshold = (seen.recent(name, task) for name in ("scores", "score_edges", "threshold"))
    if counts is None or edges is None or threshold is None or place >= len(counts):
        return None
    chart = Chart()
    middles, limit = (edges[1:] + edges[:-1]) / 2, 1000 * float(threshold)
    for on in (False, True):
        there = (middles > float(threshold)) == on
        chart.trace(
            "bar", x=1000 * middles[there], y=counts[place][there], name="on" if on else "off",
            width=900 * float(edges[1] - edges[0]),
            marker={"color": task_colour(task) if on else FREE, "line": {"width": 0}},
            hovertemplate="%{y:,} weights<extra></extra>",
        )  # fmt: skip
    line, font = {"color": "#D8432E", "width": 2}, {"size": 12, "color": "#D8432E"}
    chart.shape(type="line", x0=limit, x1=limit, y0=0, y1=1, yref="paper", line=line)
    chart.note(x=limit, y=1, yref="paper", yanchor="bottom", text="threshold", font=font)
    chart.set(
        margin={"l": 58, "r": 8, "t": 26, "b": 44}, showlegend=False, bargap=0,
        xaxis=_titled("score of a weight, thousandths"),
        yaxis={**_titled("weights (log)"), "type": "log", "dtick": 1},
    )  # fmt: skip
    return chart


def overlaps(seen: View, place: int | None) -> Chart | None:
    """Jaccard overlap between tasks' masks: of a layer, or of the whole network."""
    values = seen.recent("jaccard") if place is None else seen.recent("jaccard_layers")
    if values is None:
        return None
    table = values if place is None else values[place]
    count = len(seen.titles)
    whole = np.full((count, count), np.nan)
    whole[: len(table), : len(table)] = 100 * table
    places = list(range(count))
    chart = Chart()
    chart.trace(
        "heatmap", x=places, y=places, z=whole, zmin=0, zmax=100, colorscale=SCALE, xgap=3, ygap=3, hoverongaps=False,
        colorbar={
            "thickness": 12, "tickvals": [0, 50, 100], "ticktext": ["0 %", "50 %", "100 %"], "outlinewidth": 0,
        },
        hovertemplate="%{z:.1f} % shared<extra></extra>",
    )  # fmt: skip
    for (row, column), share in np.ndenumerate(whole):
        if np.isfinite(share):
            font = {"size": 12, "color": "#1C2130" if share > 60 else "#FFFFFF"}
            chart.note(x=column, y=row, text=f"{share:.0f} %", font=font)
    names = [labelled(position, title) for position, title in enumerate(seen.titles, 1)]
    short = [f"<span style='color:{task_colour(i + 1)}'>■</span> {i + 1}" for i in places]
    chart.set(
        margin={"l": 120, "r": 60, "t": 10, "b": 26},
        xaxis={"tickvals": places, "ticktext": short, "range": [-0.5, count - 0.5], "showgrid": False},
        yaxis={"tickvals": places, "ticktext": names, "range": [count - 0.5, -0.5], "showgrid": False},
    )  # fmt: skip
    return chart


def similarity_over_stages(seen: View, block: int) -> Chart | None:
    """How much each stage changed a block's features of each task's pictures."""
    ends = [m for m in seen.until if m.kind == "stage"]
    rows = [(m.stage, seen.book.read(m, "cka")) for m in ends]
    known = [(stage, row) for stage, row in rows if row is not None and block < row.shape[1]]
    if not known:
        return None
    chart = Chart()
    count = len(seen.titles)
    for position in range(1, count + 1):
        points = [(stage, float(row[position - 1, block])) for stage, row in known if position <= len(row)]
        if points:
            chart.trace(
                "scatter", x=[stage for stage, _ in points], y=[value for _, value in points], mode="lines+markers",
                name=seen.titles[position - 1], marker={"size": 9},
                line={"color": task_colour(position), "width": 2.5, "dash": task_dash(position)},
                hovertemplate="similarity %{y:.3f}<extra></extra>",
            )  # fmt: skip
    stages = {"range": [0.7, count + 0.3], "tickvals": list(range(1, count + 1)), "ticktext": seen.titles}
    chart.set(
        margin={"l": 40, "r": 30, "t": 26, "b": 44}, showlegend=True, legend=_ABOVE,
        xaxis={**_titled("the job that was learnt in the stage"), **stages},
        yaxis={"range": [0, 1.05], "tickvals": [0, 0.5, 1]},
    )  # fmt: skip
    return chart
