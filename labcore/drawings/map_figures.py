"""How a run's maps look: the whole network at a moment, numbers first, chart second. No torch, no Streamlit.

The overview is one chart of the whole network, layers left to right as the data flows; how one layer looks is in
layer_figures.py. Magnitudes have one scale whatever runs lie beside each other: `span` says it, and the charts take it.
"""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from labcore.configs import capacity
from labcore.configs.run import PackNetConfig
from labcore.drawings.charts import Chart
from labcore.drawings.figures import GREY, TASK_COLOURS, task_colour, task_dash
from labcore.runs.map_moments import View

FREE = "rgba(138,143,156,0.32)"  # on light paper and on dark
PATTERNS = ("", "/", "x", "\\", ".", "+", "|")
SCALE = "Viridis"
MOST_DECADES = 6  # of a logarithmic scale


# ---------------------------------------------------------------------------------------------------------------------
# Overview
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole network: `values[row][layer]` (blocks in place of layers for the representation), NaN where nothing.

    `rows` are task positions. Importance and what it broke are log10; drift, shares and densities are per cent.
    """

    kind: str
    rows: list[int]
    titles: list[str]
    values: np.ndarray
    columns: list[str]
    blocks: list[str]
    estimated: int  # images, where the last row is an estimate; else 0


def overview_info(seen: View, kind: str) -> Overview:
    """The numbers of a kind at a moment; every task has its row from the beginning, so that nothing moves."""
    tasks, layers = len(seen.titles), seen.layers
    values = np.full((tasks, len(layers)), np.nan)
    columns, blocks, estimated = [layer.words for layer in layers], [layer.block for layer in layers], 0
    if kind == "importance":
        for task in range(1, seen.moment.stage + 1):
            row = seen.recent("importance", task)
            if row is not None and row.shape == (len(layers),):
                with np.errstate(divide="ignore"):
                    logs = np.log10(row)
                values[task - 1] = np.where(np.isfinite(logs), logs, np.nan)
        if seen.moment.kind == "live" and (images := seen.read("images")) is not None:
            estimated = int(images)
    elif kind in ("drift", "broke"):
        rows, about = seen.read(kind), seen.read("drift_tasks")
        if rows is not None and about is not None and rows.shape == (len(about), len(layers)):
            for task, row in zip(about, rows, strict=True):
                if 1 <= task <= tasks:
                    with np.errstate(divide="ignore"):
                        values[task - 1] = 100 * row if kind == "drift" else np.log10(row)
        values[~np.isfinite(values)] = np.nan
    elif kind == "owners":
        counts = seen.read("owners")
        values = np.full((tasks + 1, len(layers)), np.nan)
        if counts is not None and counts.shape == (len(layers), tasks + 1):
            whole = np.where(counts[:, 0] < 0, np.nan, counts.sum(1))
            values = 100 * counts.T / np.where(counts[:, 0] < 0, np.nan, whole)
        return Overview(kind, list(range(tasks + 1)), seen.titles, values, columns, blocks, 0)
    elif kind == "masks":
        for task in range(1, seen.moment.stage + 1):
            density = seen.recent("density", None)
            if density is not None and density.shape[1:] == (len(layers),) and task <= len(density):
                values[task - 1] = 100 * density[task - 1]
    else:
        # Told at stage ends alone: before the first of them, a later one knows the blocks.
        told = seen.book.last(seen.fold.maps, "block_names")
        names = None if told is None else seen.book.read(told, "block_names")
        similar = seen.recent("cka")
        columns = blocks = list(dict.fromkeys(blocks)) if names is None else [str(name) for name in names]
        count = len(columns)
        values = np.full((tasks, count), np.nan)
        if similar is not None and similar.shape[1] == count:
            values[: len(similar)] = similar[:tasks]
    return Overview(kind, list(range(1, tasks + 1)), seen.titles, values, columns, blocks, estimated)


def span(kind: str, overviews: Iterable[Overview]) -> tuple[float, float]:
    """One scale for all of them: whole decades for what is logarithmic, from 0 for what is a share."""
    shown = np.concatenate([overview.values.ravel() for overview in overviews])
    shown = shown[np.isfinite(shown)]
    if kind in ("importance", "broke"):
        if not len(shown):
            return -6.0, 0.0
        high = float(np.ceil(shown.max()))
        return max(float(np.floor(shown.min())), high - MOST_DECADES), high
    if kind == "masks":
        low = float(shown.min()) if len(shown) else 100.0
        return max(0.0, 10 * np.floor((low - 2) / 10)), 101.0
    high = float(shown.max()) if len(shown) else 1.0
    steps = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    return 0.0, next((float(step) for step in steps if step >= high), high)


def overview(
    info: Overview, scale: tuple[float, float], *, chosen: int | None = None, explain: bool = False, named: bool = True
) -> Chart:
    """The whole network; the `chosen` layer is framed, and with `explain` the figure says what is what.

    Not `named`: the blocks are named by a figure below this one.
    """
    drawn = _heat if info.kind in ("importance", "drift", "broke") else _bars if info.kind == "owners" else _lines
    chart = Chart()
    drawn(chart, info, scale)
    count = len(info.columns)
    starts = [place for place in range(count) if place == 0 or info.blocks[place] != info.blocks[place - 1]]
    middles = [(a + b - 1) / 2 for a, b in zip(starts, [*starts[1:], count], strict=True)]
    shown = _that_fit(middles, [info.blocks[place] for place in starts], count)
    title = "layers, in the order in which the picture passes them →" if named else ""
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
    if explain and count:
        _explain(chart, info)
    chart.set(
        xaxis={
            "range": [-0.5, max(count, 1) - 0.5], "tickvals": [place for place, _ in shown],
            "ticktext": [name for _, name in shown], "showgrid": False, "tickangle": 0, "fixedrange": True,
            "tickfont": {"size": 12}, "title": {"text": title, "font": {"size": 12}}, "showticklabels": named,
        },
        margin={"l": 150, "r": 84, "t": 10, "b": 44 if named else 6},
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


def labelled(position: int, title: str) -> str:
    """A task's name behind its colour."""
    return f"<span style='color:{task_colour(position)}'>■</span> {title}"


_LEGEND = {"x": -0.02, "xanchor": "right", "y": 0.5, "yanchor": "middle", "font": {"size": 12}}


def _heat(chart: Chart, info: Overview, scale: tuple[float, float]) -> None:
    low, high = scale
    log = info.kind != "drift"
    unit = {"importance": "", "drift": " %", "broke": " nats"}[info.kind]
    shown = 10**info.values if log else info.values
    texts = [[f"{value:.2g}{unit}" if np.isfinite(value) else "nothing" for value in row] for row in shown]
    ticks = list(np.arange(low, high + 0.5, max(1, round((high - low) / 4)))) if log else [low, high / 2, high]
    chart.trace(
        "heatmap", z=info.values, x=list(range(len(info.columns))), y=list(range(len(info.rows))), zmin=low, zmax=high,
        colorscale=SCALE, xgap=1, ygap=3, hoverongaps=False, text=texts,
        customdata=[info.columns] * len(info.rows), hovertemplate="%{customdata}<br>%{text}<extra></extra>",
        colorbar={
            "thickness": 12, "len": 1, "outlinewidth": 0, "tickvals": ticks,
            "ticktext": [power(tick) if log else f"{tick:g} %" for tick in ticks],
        },
    )  # fmt: skip
    prefix = "" if info.kind == "importance" else "since "
    names = [labelled(position, prefix + info.titles[position - 1]) for position in info.rows]
    if info.estimated:
        told = [place for place, row in enumerate(info.values) if np.isfinite(row).any()]
        if told:
            names[told[-1]] += f"<br><i>estimate, {info.estimated} images</i>"
    rows = {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.5, -0.5]}
    chart.set(yaxis={**rows, "showgrid": False, "fixedrange": True})


def power(exponent: float) -> str:
    """`10⁻³`."""
    digits = str(round(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{digits}"


def _bars(chart: Chart, info: Overview, scale: tuple[float, float]) -> None:
    places = list(range(len(info.columns)))
    for row, owner in zip([*info.values[1:].tolist(), info.values[0].tolist()], [*info.rows[1:], 0], strict=True):
        name = info.titles[owner - 1] if owner else "free"
        shape = PATTERNS[(owner - 1) % len(PATTERNS)] if owner else ""
        pattern = {
            "shape": shape,
            "size": 7,
            "solidity": 0.22,
            "fillmode": "overlay",
            "fgcolor": "rgba(255,255,255,0.6)",
        }
        chart.trace(
            "bar", x=places, y=row, name=name, customdata=info.columns,
            marker={"color": task_colour(owner) if owner else FREE, "pattern": pattern, "line": {"width": 0}},
            hovertemplate=f"%{{customdata}}<br>{name}: %{{y:.1f}} %<extra></extra>",
        )  # fmt: skip
    fixed = [place for place in places if np.isnan(info.values[0, place])]
    if fixed:
        chart.trace(
            "bar", x=fixed, y=[100] * len(fixed), name="not shared out", customdata=[info.columns[p] for p in fixed],
            marker={"color": "rgba(138,143,156,0.10)", "line": {"width": 0}},
            hovertemplate="%{customdata}<br>never pruned: fixed after the first job<extra></extra>",
        )  # fmt: skip
    percent = {"range": [0, 100], "tickvals": [0, 50, 100], "ticktext": ["0 %", "50 %", "100 %"]}
    chart.set(
        barmode="stack", bargap=0.12, showlegend=True, legend={**_LEGEND, "traceorder": "reversed"},
        yaxis={**percent, "fixedrange": True, "side": "right"},
    )  # fmt: skip


def _lines(chart: Chart, info: Overview, scale: tuple[float, float]) -> None:
    masks = info.kind == "masks"
    places, symbols = list(range(len(info.columns))), ("circle", "square", "diamond", "cross", "x", "triangle-up")
    for position, row in zip(info.rows, info.values, strict=True):
        if not np.isfinite(row).any():
            continue
        title, colour = info.titles[position - 1], task_colour(position)
        hover = "%{y:.1f} % left on" if masks else "similarity %{y:.3f}"
        chart.trace(
            "scatter", x=places, y=row, name=title, mode="lines+markers", customdata=info.columns, connectgaps=True,
            line={"color": colour, "width": 2.5, "dash": task_dash(position)},
            marker={"size": 8, "symbol": symbols[(position - 1) % len(symbols)]},
            hovertemplate=f"%{{customdata}}<br>{title}: {hover}<extra></extra>",
        )  # fmt: skip
    if masks:
        ticks = list(np.linspace(scale[0], 100, 3))
        axis = {"range": list(scale), "tickvals": ticks, "ticktext": [f"{tick:.0f} %" for tick in ticks]}
    else:
        axis = {"range": [0, 1.05], "tickvals": [0, 0.5, 1], "ticktext": ["0 changed", "0.5", "1 the same"]}
    chart.set(showlegend=True, legend=_LEGEND, yaxis={**axis, "fixedrange": True, "side": "right"})


_EXPLAINED = {
    "importance": ("each column is a layer, each row a job", "bright: the job's answers hang on these weights"),
    "drift": ("each column is a layer, each row an earlier job", "bright: weights moved far since that job was learnt"),
    "broke": ("each column is a layer, each row an earlier job", "bright: weights moved that this job needs"),
    "owners": ("each bar is a layer", "its colours are the jobs that own its weights; grey is still free"),
    "masks": ("each point is a layer, each line a job", "100 %: the job uses all weights of the layer"),
    "representation": ("each point is a block, each line a job's pictures", "1: the stage changed nothing here"),
}


def _explain(chart: Chart, info: Overview) -> None:
    for text, x, y, side in zip(_EXPLAINED[info.kind], (0.04, 0.96), (0.86, 0.14), ("left", "right"), strict=True):
        chart.note(
            text=text, x=x, y=y, xanchor=side, xref="paper", yref="paper", borderpad=5,
            bgcolor="rgba(20,24,34,0.88)", font={"size": 13, "color": "#FFFFFF"},
        )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Free capacity
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much of what may be pruned is whose, and how many more tasks would fit after the stage at this ratio.

    `shares[0]` is free. While a task trains it holds all that was free; `pruned` says whether that is over. A last task
    that is not to be pruned holds it for good.
    """

    weights: int
    shares: list[float]
    pruned: bool
    more: int


def capacity_info(seen: View, ratio: float) -> Capacity | None:
    """The gauge at a moment. The fullest layer decides: each task must find a free weight in every one."""
    counts = seen.read("owners")
    if counts is None or counts.ndim != 2:
        return None
    kept = counts[counts[:, 0] >= 0]
    if not len(kept) or seen.moment.stage >= kept.shape[1]:
        return None
    method = seen.fold.started.config.method if seen.fold.started else None
    for_good = isinstance(method, PackNetConfig) and not method.prunes(seen.moment.stage, len(seen.titles))
    pruned = for_good or bool(kept[:, 0].any())
    free = kept[:, 0] if pruned else [capacity.freed_of(int(own), ratio) for own in kept[:, seen.moment.stage]]
    more = min(capacity.tasks_that_fit(int(weights), ratio) for weights in free)
    return Capacity(int(kept.sum()), (kept.sum(0) / kept.sum()).tolist(), pruned, more)


def gauge(info: Capacity, titles: Sequence[str]) -> str:
    """HTML of a bar: each owner's share in its colour, and what is free."""
    parts = []
    for owner in [*range(1, len(info.shares)), 0]:
        share, name = info.shares[owner], titles[owner - 1] if owner else "free"
        if share > 0:
            label = f"{name} {100 * share:.0f} %"
            label = label if 50 * share > len(label) else f"{100 * share:.0f} %" if share > 0.07 else ""
            colour = task_colour(owner) if owner else FREE
            ink = "inherit" if not owner else "#FFFFFF" if TASK_COLOURS.index(colour) in (0, 2, 5) else "#1C2130"
            style = f"width:{100 * share:.2f}%;background:{colour};color:{ink}"
            parts.append(f"<div title='{html.escape(name, quote=True)}' style='{style}'>{html.escape(label)}</div>")
    return f"<div class='lab-gauge'>{''.join(parts)}</div>"
