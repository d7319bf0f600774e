"""What Piggyback shows inside, as the arrays of a map that maps.py describes. Masks are packed bits here."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labcore.runs.map_files import MOST_SIDE, IfNew, Layer
from labcore.runs.reductions import share_codes

SCORE_BINS = 60
Packed = Mapping[str, np.ndarray]  # by the layer's name, a bit for each of its weights


def pictures(mask: Packed, stage: int, layers: Sequence[Layer]) -> dict[str, Any]:
    """The arrays `mask/NAME` of a stage's mask. Every stage has its own, even one that equals the stage before's."""
    there = [(layer, mask[f"{layer.name}.weight"]) for layer in layers if f"{layer.name}.weight" in mask]
    return {
        f"mask/{layer.name}": IfNew(bytes([stage]) + bits.tobytes(), partial(_drawn, layer, bits))
        for layer, bits in there
    }


def _drawn(layer: Layer, bits: np.ndarray) -> np.ndarray:
    on = np.unpackbits(bits, count=layer.weights).astype(bool)
    return share_codes(torch.from_numpy(on).view(layer.shape[0], -1), MOST_SIDE)


def overlaps(masks: Mapping[int, Packed], stage: int, layers: Sequence[Layer]) -> dict[str, Any]:
    """How much each task's mask leaves on, and how much it shares with each other one: by layer, and in all."""
    density = np.full((stage, len(layers)), np.nan)
    by_layer = np.full((len(layers), stage, stage), np.nan)
    whole = np.full((stage, stage), np.nan)
    pairs = list(combinations_with_replacement(sorted(masks), 2))
    sums = {pair: [0, 0] for pair in pairs}  # how many weights both leave on, and how many either does, in all layers
    for place, layer in enumerate(layers):
        bits = {task: mask[f"{layer.name}.weight"] for task, mask in masks.items() if f"{layer.name}.weight" in mask}
        if not bits:
            continue
        on = {task: count_on(mask) for task, mask in bits.items()}
        for task, count in on.items():
            density[task - 1, place] = count / layer.weights
        for a, b in pairs:
            shared = on[a] if a == b else count_on(bits[a] & bits[b])
            either = on[a] + on[b] - shared
            by_layer[place, [a - 1, b - 1], [b - 1, a - 1]] = jaccard(shared, either)
            sums[a, b][0] += shared
            sums[a, b][1] += either
    for (a, b), (shared, either) in sums.items():
        whole[[a - 1, b - 1], [b - 1, a - 1]] = jaccard(shared, either)
    return {"density": density, "jaccard": whole, "jaccard_layers": by_layer}


def histogram(scores: Mapping[str, Tensor], start: float, threshold: float, layers: Sequence[Layer]) -> dict[str, Any]:
    """A histogram of the scores, from well below the threshold to above their start; the ends hold the rest."""
    if not scores:
        return {}
    reach = start - threshold
    edges = torch.linspace(threshold - 2 * reach, start + 2 * reach, SCORE_BINS + 1)
    low, high = float(edges[0]), float(edges[-1])
    counts = np.zeros((len(layers), SCORE_BINS), np.int32)
    for place, layer in enumerate(layers):
        found = scores.get(f"{layer.name}.weight")
        if found is not None:
            kept = found.detach().float().clamp(low, high)
            counts[place] = torch.histc(kept.cpu(), SCORE_BINS, low, high).int().numpy()
    return {"scores": counts, "score_edges": edges.numpy(), "threshold": threshold}


def count_on(mask: np.ndarray) -> int:
    """How many bits of a packed mask are on."""
    return int(np.bitwise_count(mask).sum())


def jaccard(shared: int, either: int) -> float:
    """The overlap of two masks: what both leave on, over what either does; 1 where neither leaves anything on."""
    return shared / either if either else 1.0
