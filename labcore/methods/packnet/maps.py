"""Which job owns which weights: the kind of map that PackNet brings along.

owners [L, 1 + tasks]             how many of a layer's weights are free, and how many each task owns; −1 where the
                                  layer is not pruned
owner/NAME uint8 [rows, columns]  who owns a weight, 0 where it is free; left out where nothing has changed since the
                                  moment before
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labcore.drawings.figures import TASK_COLOURS, task_colour
from labcore.drawings.inside.kind import MapKind, Words
from labcore.drawings.inside.layer import Figures, Panel, Pictures, Shown
from labcore.drawings.inside.overview import FREE, Bars, Overview, of_layers
from labcore.drawings.inside.pictures import Picture, task_colours, weight_map
from labcore.methods.packnet import capacity
from labcore.methods.packnet.about import PackNetConfig
from labcore.runs.map_files import Layer
from labcore.runs.moments import View

# ---- the whole network ----------------------------------------------------------------------------------------------


def owners_info(seen: View) -> Overview:
    """The share of each layer's weights that is free, and that each task owns, in %."""
    tasks, layers = len(seen.titles), len(seen.layers)
    counts = seen.read("owners")
    values = np.full((tasks + 1, layers), np.nan)
    if counts is not None and counts.shape == (layers, tasks + 1):
        whole = np.where(counts[:, 0] < 0, np.nan, counts.sum(1))
        values = 100 * counts.T / np.where(counts[:, 0] < 0, np.nan, whole)
    return of_layers(seen, values, nobody=True)


# ---- one layer ------------------------------------------------------------------------------------------------------


def owner_picture(seen: View, layer: Layer) -> Picture | None:
    """Each weight in its owner's colour."""
    owners = seen.recent(f"owner/{layer.name}")
    if owners is None or owners.ndim != 2:
        return None
    there = [int(owner) for owner in np.unique(owners) if owner <= len(seen.titles)]
    legend = [(task_colour(owner), seen.titles[owner - 1]) if owner else (FREE, "free") for owner in there]
    return weight_map(layer, owners, task_colours(), "the owner of most of up to", legend)


def _layer(shown: Shown) -> tuple[Panel, Panel]:
    def picture(seen: View) -> Picture | str:
        counts = seen.recent("owners")
        if counts is None:
            return "No job owns weights here: this run is not PackNet's."
        if drawn := owner_picture(seen, seen.layers[shown.place]):
            return drawn
        if counts[shown.place, 0] < 0:
            return "This layer is never pruned: it is fixed after the first job."
        return "Single weights were not kept, only how many each job owns."

    return [Pictures("Weight by weight", picture)], [_owned(shown.first, shown.place)]


def _owned(seen: View, place: int) -> Figures:
    title, counts = "Whose weights they are", seen.read("owners")
    if counts is None or place >= len(counts) or counts[place][0] < 0:
        return Figures(title, sentence="All jobs use this layer as the first one left it.")
    row = counts[place]
    names = [*seen.titles[: len(row) - 1], "free"]
    shares = {
        name: f"{100 * count / max(1, row.sum()):.0f} %" for name, count in zip(names, [*row[1:], row[0]], strict=True)
    }
    return Figures(title, {"weights": f"{int(row.sum()):,}", **shares})


# ---- free capacity --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Capacity:
    """Who owns which share of the weights that may be pruned, and how many more tasks would fit after the stage.

    `shares[0]` is the share that is free. While a task trains it holds all that was free, and `pruned` says whether it
    has given its part back. A last task that is not to be pruned holds it for good.
    """

    weights: int
    shares: list[float]
    pruned: bool
    more: int


def capacity_info(seen: View, ratio: float) -> Capacity | None:
    """The numbers of the gauge at a moment; None where there are none.

    The fullest layer decides how many more tasks fit, because a task must find a free weight in every layer.
    """
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
    """The HTML of a bar that shows each owner's share in its colour, and what is free."""
    parts = []
    for owner in [*range(1, len(info.shares)), 0]:
        share, name = info.shares[owner], titles[owner - 1] if owner else "free"
        if share > 0:
            label = f"{name} {100 * share:.0f} %"
            label = label if 50 * share > len(label) else f"{100 * share:.0f} %" if share > 0.07 else ""
            colour = task_colour(owner) if owner else FREE
            ink = "inherit" if not owner else "#FFFFFF" if colour == TASK_COLOURS[0] else "#000000"
            style = f"width:{100 * share:.2f}%;background:{colour};color:{ink}"
            parts.append(f"<div title='{html.escape(name, quote=True)}' style='{style}'>{html.escape(label)}</div>")
    return f"<div class='lab-gauge'>{''.join(parts)}</div>"


def _gauge(seen: View) -> str:
    """The gauge, and how many more jobs fit."""
    method = seen.fold.started.config.method if seen.fold.started else None
    info = capacity_info(seen, method.prune_ratio) if isinstance(method, PackNetConfig) else None
    if info is None or not isinstance(method, PackNetConfig):
        return ""
    when = "" if info.pruned else "; this job holds all that was free until it is pruned"
    more = "no more job" if not info.more else "1 more job" if info.more == 1 else f"{info.more} more jobs"
    return (
        f"{gauge(info, seen.titles)}<div class='lab-term'>of "
        f"{info.weights:,} weights · room for {more} at a prune ratio of {method.prune_ratio:g}, as the fullest "
        f"layer has it{when}</div>"
    )


OWNERS = MapKind(
    name="owners",
    place=40,
    needs=["owners"],
    read=owners_info,
    drawing=Bars("free", "not shared out", "never pruned: fixed after the first job"),
    layer=_layer,
    gauge=_gauge,
    leads=True,
    words=Words(
        "Owners",
        "Which job owns which weights?",
        "owner = the task that a weight was frozen for (PackNet); grey is free",
        "Watch the bars while it trains: a new job takes all that is free, pruning gives most of it back, "
        "retraining makes the rest good enough. A job also uses the weights of all jobs before it.",
        r"""Pruning frees, in each layer, the `prune_ratio` share of smallest $|w|$ among the weights that the task has
just learnt (Mallya & Lazebnik 2018, arXiv 1711.05769). The forecast counts whole weights: a job fits while every
layer has one that is free, and each job gives `prune_ratio` of what it took back.""",
        explained=("each bar is a layer", "its colours are the jobs that own its weights; grey is still free"),
    ),
)

KINDS = (OWNERS,)
