"""How a run's maps look: numbers from its files first, charts and pictures second. No torch, no Streamlit.

The overview is one figure of the whole network, layers left to right as the data flows; the detail is of one layer. A
`Book` opens the files of a run as they are asked for. Magnitudes have one scale whatever runs lie beside each other:
`span` says it, and the figures take it.
"""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from plotly.colors import sample_colorscale

from labcore import capacity, map_files
from labcore.charts import Chart
from labcore.configs import PackNetConfig
from labcore.events import MapSaved
from labcore.figures import GREY, TASK_COLOURS, task_colour, task_dash
from labcore.map_files import Layer, MapError, MapFile
from labcore.results import Fold

KINDS = ("importance", "drift", "broke", "owners", "masks", "representation")
# What a kind is read from; a run has the kind where some moment holds one of these.
_NEEDS = {"importance": ["importance"], "drift": ["drift", "drift_unkept"], "broke": ["broke", "drift_unkept"],
          "owners": ["owners"], "masks": ["density"], "representation": ["cka"]}  # fmt: skip
FREE = "rgba(138,143,156,0.32)"  # on light paper and on dark
PATTERNS = ("", "/", "x", "\\", ".", "+", "|")
SCALE = "Viridis"
MOST_OPEN = 64
_BROKE_DECADES = 6


# ---------------------------------------------------------------------------------------------------------------------
# Moments
# ---------------------------------------------------------------------------------------------------------------------


def name_of(moment: MapSaved) -> str:
    """A moment in an address: `2.550`."""
    return f"{moment.stage}.{moment.step}"


def share_done(fold: Fold, moment: MapSaved) -> float:
    """How much of its stage was done, 0 to 1."""
    stage = fold.stages[moment.stage - 1]
    if moment.kind == "stage":
        return 1.0
    seen = next((p.images_seen for p in fold.accuracy if (p.stage, p.step) == (moment.stage, moment.step)), None)
    return 0.0 if seen is None else min(1.0, (seen - stage.first_image) / max(1, stage.images))


def words_of(fold: Fold, moment: MapSaved) -> str:
    """`after Fashion`, or `learning Fashion, 40 %`."""
    title = fold.tasks[moment.stage - 1].title
    return f"after {title}" if moment.kind == "stage" else f"learning {title}, {100 * share_done(fold, moment):.0f} %"


def tied(fold: Fold, other: Fold, moment: MapSaved) -> MapSaved | None:
    """The other run's moment that is as far: in the same stage, or its last; None where it has none."""
    if not other.maps:
        return None
    share = share_done(fold, moment)
    reached = [m for m in other.maps if m.stage <= moment.stage] or [other.maps[0]]
    same = [m for m in reached if m.stage == moment.stage]
    return min(same, key=lambda m: abs(share_done(other, m) - share)) if same else reached[-1]


class Book:
    """A run's maps, opened as they are asked for, the longest unused closed again. Missing files hold nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, MapFile | None] = {}
        self._read: dict[tuple[str, str], np.ndarray] = {}
        self._layers: list[Layer] = []  # they are the same in all of a run's maps
        self.trouble = ""

    def _file(self, moment: MapSaved) -> MapFile | None:
        path = moment.path
        if path not in self._open:
            try:
                if not map_files.PATH.fullmatch(path):
                    raise MapError("An event of this run names a map that is none of its own.")
                self._open[path] = MapFile(self.folder / path)
            except MapError as error:
                self._open[path], self.trouble = None, str(error)
        while len(self._open) > MOST_OPEN:
            self._open.pop(next(iter(self._open)))
        return self._open.get(path)

    def read(self, moment: MapSaved, name: str) -> np.ndarray | None:
        """An array of this moment; None where it has none of the name, or cannot be read."""
        key = moment.path, name
        if key in self._read:
            return self._read[key]
        opened = self._file(moment)
        if opened is None or name not in opened:
            return None
        try:
            self._read[key] = opened.read(name)
        except MapError as error:
            self.trouble = str(error)
            return None
        while len(self._read) > 8 * MOST_OPEN:
            self._read.pop(next(iter(self._read)))
        return self._read[key]

    def layers(self, moment: MapSaved) -> list[Layer]:
        """The network's layers; none where the file cannot be read."""
        opened = self._file(moment)
        if opened is None:
            return []
        try:
            self._layers = self._layers or map_files.layers(opened)
        except MapError as error:
            self.trouble = str(error)
        return self._layers

    def last(self, moments: Sequence[MapSaved], name: str, stage: int | None = None) -> MapSaved | None:
        """The last of these moments (of a stage) that holds the array."""
        for moment in reversed(moments):
            if stage is None or moment.stage == stage:
                opened = self._file(moment)
                if opened is not None and name in opened:
                    return moment
            elif moment.stage < stage:
                break
        return None


@dataclass(frozen=True, slots=True)
class View:
    """A run at a moment: all that figures need. `until` are its moments up to this one, which is the last."""

    book: Book
    fold: Fold
    until: list[MapSaved]
    layers: list[Layer]

    @property
    def moment(self) -> MapSaved:
        """The moment looked at."""
        return self.until[-1]

    @property
    def titles(self) -> list[str]:
        """All tasks' names on a page."""
        return [task.title for task in self.fold.tasks]

    def read(self, name: str) -> np.ndarray | None:
        """An array of the moment itself."""
        return self.book.read(self.moment, name)

    def recent(self, name: str, stage: int | None = None) -> np.ndarray | None:
        """An array as it was last said."""
        moment = self.book.last(self.until, name, stage)
        return None if moment is None else self.book.read(moment, name)


def view(book: Book, fold: Fold, moment: MapSaved) -> View | None:
    """The run at this moment; None where its files are not readable."""
    until = [m for m in fold.maps if (m.stage, m.step) <= (moment.stage, moment.step)]
    layers = book.layers(moment)
    return View(book, fold, until, layers) if layers and until else None


def kinds_of(book: Book, fold: Fold) -> list[str]:
    """The kinds of maps that this run has so far.

    A kind that it has is in some stage's last map or in the latest one: looking for a missing kind opens no others.
    """
    moments = [moment for moment in fold.maps if moment.kind == "stage" or moment is fold.maps[-1]]
    return [kind for kind in KINDS if any(book.last(moments, name) is not None for name in _NEEDS[kind])]


def unkept(seen: View) -> list[str]:
    """Names of the earlier tasks that drift cannot be measured from, as the worker could not keep their weights."""
    tasks = seen.read("drift_unkept")
    return [] if tasks is None else [seen.titles[task - 1] for task in tasks if 1 <= task <= len(seen.titles)]


def drift_task(seen: View, task: int) -> int | None:
    """The earlier task whose drift is known: this one, else the first; None where there is none."""
    tasks = seen.read("drift_tasks")
    if tasks is None or not len(tasks):
        return None
    return task if task in tasks else int(tasks[0])


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
        return max(float(np.floor(shown.min())), high - _BROKE_DECADES), high
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


def _labelled(position: int, title: str) -> str:
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
            "ticktext": [_power(tick) if log else f"{tick:g} %" for tick in ticks],
        },
    )  # fmt: skip
    prefix = "" if info.kind == "importance" else "since "
    names = [_labelled(position, prefix + info.titles[position - 1]) for position in info.rows]
    if info.estimated:
        told = [place for place, row in enumerate(info.values) if np.isfinite(row).any()]
        if told:
            names[told[-1]] += f"<br><i>estimate, {info.estimated} images</i>"
    rows = {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.5, -0.5]}
    chart.set(yaxis={**rows, "showgrid": False, "fixedrange": True})


def _power(exponent: float) -> str:
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
# One layer
# ---------------------------------------------------------------------------------------------------------------------


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
    return max(float(np.floor(min(bottom for bottom, _ in ranges))), high - _BROKE_DECADES), high


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
    ends = [("0", f"{_power(low)} or less"), ("1", _power(high))]
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
    names = [_labelled(position, title) for position, title in enumerate(seen.titles, 1)]
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
