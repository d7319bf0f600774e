"""What a network makes of pictures: how alike its features are before a stage and after it, block by block."""

from dataclasses import dataclass

import numpy as np

from labcore.drawings.charts import Chart
from labcore.drawings.figures import task_colour, task_dash
from labcore.drawings.inside.kind import MapKind, Words
from labcore.drawings.inside.layer import ABOVE, ChartPiece, Figures, Panel, Shown, titled
from labcore.drawings.inside.overview import Lines, Overview, Scale
from labcore.runs.moments import View

NOTE = "A line for each job's pictures, a point for each stage. At 1 the stage changed nothing here."


@dataclass(frozen=True, slots=True)
class _Similarity(Lines):
    """Lines on a scale from 0 to 1, whatever they are."""

    def scale(self, overviews: object) -> Scale:
        """The whole scale."""
        return 0.0, 1.05

    def axis(self, scale: Scale) -> dict[str, object]:
        """An axis with a word at either end."""
        return {"range": list(scale), "tickvals": [0, 0.5, 1], "ticktext": ["0 changed", "0.5", "1 the same"]}


def blocks_of(seen: View) -> list[str]:
    """The names of the network's blocks.

    Maps tell them only at stage ends. Before the first of these they are read from a later one, and where there is none
    yet, they are the blocks that have layers.
    """
    told = seen.book.last(seen.fold.maps, "block_names")
    names = None if told is None else seen.book.read(told, "block_names")
    return list(dict.fromkeys(layer.block for layer in seen.layers)) if names is None else [str(name) for name in names]


def similarity_info(seen: View) -> Overview:
    """How alike each block's features are before and after the latest stage that ended, for each task's pictures."""
    blocks, tasks = blocks_of(seen), len(seen.titles)
    values = np.full((tasks, len(blocks)), np.nan)
    similar = seen.recent("cka")
    if similar is not None and similar.shape[1] == len(blocks):
        values[: len(similar)] = similar[:tasks]
    places = [blocks.index(layer.block) if layer.block in blocks else -1 for layer in seen.layers]
    columns = [f"block {number} of {len(blocks)}<br>{block}" for number, block in enumerate(blocks, 1)]
    return Overview(list(range(1, tasks + 1)), seen.titles, values, columns, blocks, places)


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
        margin={"l": 40, "r": 30, "t": 26, "b": 44}, showlegend=True, legend=ABOVE,
        xaxis={**titled("the job that was learnt in the stage"), **stages},
        yaxis={"range": [0, 1.05], "tickvals": [0, 0.5, 1]},
    )  # fmt: skip
    return chart


def _figures(seen: View, block: str) -> Figures:
    similar, names = seen.recent("cka"), seen.recent("block_names")
    if similar is None or names is None or block not in list(names):
        return Figures("In numbers", sentence="Measured when a stage ends.")
    column = similar[:, list(names).index(block)]
    return Figures("In numbers", {title: f"{value:.3f}" for title, value in zip(seen.titles, column, strict=False)})


def _layer(shown: Shown) -> tuple[Panel, Panel]:
    first, block = shown.first, shown.layer.block

    def make() -> Chart | None:
        blocks = blocks_of(first)
        return similarity_over_stages(first, blocks.index(block)) if block in blocks else None

    title = f"Block {block}, stage by stage"
    return [ChartPiece(f"cka-{shown.runs[0].run}", title, make, note=NOTE)], [_figures(first, block)]


REPRESENTATION = MapKind(
    name="representation",
    place=60,
    needs=["cka"],
    read=similarity_info,
    drawing=_Similarity("similarity %{y:.3f}"),
    layer=_layer,
    words=Words(
        "Representation",
        "What does it see differently now?",
        "similarity of features before and after the stage = linear CKA, 1: the same but for rotation and scale",
        "Each line follows the same pictures of one job through the network. Where the line falls, the stage has "
        "changed what the network makes of them, even if its answers are still right. Later blocks usually change "
        "most.",
        r"""$\mathrm{CKA} = \|X^\top Y\|_F^2 / (\|X^\top X\|_F \|Y^\top Y\|_F)$ of centred features $X$ before and $Y$
after the stage, of 32 fixed validation images of each job, as the job sees the network (Kornblith et al. 2019, arXiv
1905.00414). With so few images unlike features score above 0, too: compare blocks rather than read absolute
numbers.""",
        explained=("each point is a block, each line a job's pictures", "1: the stage changed nothing here"),
    ),
)
