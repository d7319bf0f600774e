"""Which weights a job switches on: the kind of map that Piggyback brings along.

density [tasks, L]                        share of a layer's weights that each task's mask leaves on; NaN where there
                                          is no mask
jaccard [tasks, tasks], jaccard_layers [L, tasks, tasks]     how much masks overlap, in all and by layer
mask/NAME uint8 [rows, columns]           share of weights that the stage's mask leaves on, 255 for all of them; left
                                          out where nothing has changed since the moment before
scores [L, bins], score_edges, threshold  a histogram of the scores while they are learnt
"""

import numpy as np

from labcore.drawings.charts import Chart
from labcore.drawings.figures import task_colour
from labcore.drawings.inside.kind import MapKind, Words
from labcore.drawings.inside.layer import ChartPiece, Panel, Pictures, Shown, titled
from labcore.drawings.inside.overview import FREE, SCALE, Lines, Overview, labelled, of_layers, unknown
from labcore.drawings.inside.pictures import Picture, shades, weight_map
from labcore.runs.map_files import Layer
from labcore.runs.moments import View

NOTES = {
    "scores": "Each bar counts weights of about one score: those right of the red line are on, those left of it off.",
    "overlap": "Each square: of the weights that either of two jobs switches on, the share that both do.",
}


def density_info(seen: View) -> Overview:
    """The share of each layer's weights that each task's mask leaves on, in %."""
    values, density = unknown(seen), seen.recent("density")
    if density is not None and density.shape[1:] == (len(seen.layers),):
        known = min(seen.moment.stage, len(density))
        values[:known] = 100 * density[:known]
    return of_layers(seen, values)


def mask_picture(seen: View, layer: Layer, task: int) -> Picture | None:
    """What a task's mask leaves on, in the task's colour; what it switches off is grey."""
    share = seen.recent(f"mask/{layer.name}", task)
    if share is None or share.ndim != 2:
        return None
    return weight_map(layer, share, shades(task), "the share on of up to", [(task_colour(task), "on"), (FREE, "off")])


def histogram(seen: View, place: int, task: int) -> Chart | None:
    """The scores of a layer beside the threshold, below which a weight is off."""
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
        xaxis=titled("score of a weight, thousandths"),
        yaxis={**titled("weights (log)"), "type": "log", "dtick": 1},
    )  # fmt: skip
    return chart


def overlaps(seen: View, place: int | None) -> Chart | None:
    """The Jaccard overlap between tasks' masks, of one layer or of the whole network."""
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
            font = {"size": 12, "color": "#000000" if share > 43 else "#FFFFFF"}  # 4.5 : 1 or more
            chart.note(x=column, y=row, text=f"{share:.0f} %", font=font)
    names = [labelled(position, title) for position, title in enumerate(seen.titles, 1)]
    short = [f"<span style='color:{task_colour(i + 1)}'>■</span> {i + 1}" for i in places]
    chart.set(
        margin={"l": 120, "r": 60, "t": 10, "b": 26},
        xaxis={"tickvals": places, "ticktext": short, "range": [-0.5, count - 0.5], "showgrid": False},
        yaxis={"tickvals": places, "ticktext": names, "range": [count - 0.5, -0.5], "showgrid": False},
    )  # fmt: skip
    return chart


def _layer(shown: Shown) -> tuple[Panel, Panel]:
    first, place, task = shown.first, shown.place, shown.task
    name = first.titles[task - 1]

    def picture(seen: View) -> Picture | str:
        if drawn := mask_picture(seen, seen.layers[place], task):
            return drawn
        density = seen.recent("density")
        if density is not None and task <= len(density) and np.isfinite(density[task - 1, place]):
            return "Single weights were not kept, only how many of them are on."
        return "No mask here: this layer is used as it is, or the network itself learnt this job."

    scores = ChartPiece(
        "scores",
        f"Scores against the threshold: {name}",
        lambda: histogram(first, place, task),
        "There are no scores in this stage.",
        NOTES["scores"],
    )
    return [Pictures(f"Weight by weight: {name}", picture)], [scores]


def _below(shown: Shown) -> list[Panel]:
    def piece(key: str, place: int | None, title: str) -> ChartPiece:
        def make() -> Chart | None:
            return overlaps(shown.first, place)

        return ChartPiece(key, f"Shared by two jobs: {title}", make, note=NOTES["overlap"], height=190)

    return [[piece("overlap", None, "whole network")], [piece("overlap-layer", shown.place, "this layer")]]


MASKS = MapKind(
    name="masks",
    place=50,
    needs=["density"],
    read=density_info,
    drawing=Lines("%{y:.1f} % left on"),
    layer=_layer,
    below=_below,
    jobs="so far",
    words=Words(
        "Masks",
        "Which weights does each job switch on?",
        "mask density = share of weights left on (Piggyback)",
        "The network itself never changes: a job only switches weights off. Layers where the lines lie apart "
        "are where jobs want different things. An overlap near 100 % means two jobs use almost the same "
        "network.",
        r"""A weight is on where its score exceeds the threshold (Mallya et al. 2018, arXiv 1801.06519). Overlap is
Jaccard's: $|A \cap B| / |A \cup B|$ of the weights that two masks leave on. Scores at the ends of the histogram
hold all beyond.""",
        explained=("each point is a layer, each line a job", "100 %: the job uses all weights of the layer"),
    ),
)

KINDS = (MASKS,)
