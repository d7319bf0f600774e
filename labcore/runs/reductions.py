"""From a network's tensors to the small arrays of a map: which layers, in how many pixels, as which codes.

With torch, unlike `map_files`, which says what the arrays are. Methods use it for what they show inside themselves.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labcore.networks import receptive
from labcore.networks.trunk import Trunk
from labcore.runs import map_files
from labcore.runs.map_files import MOST_SIDE, Layer

# The longer side of a map of magnitudes, in pixels: in full, and where it is only an estimate.
FULL_SIDE, LIVE_SIDE = 256, 96
# Every how many codes one is used: 0.19 of a decade, and where it is an estimate 0.25, which is less than what so few
# images leave open, and hardly to be told apart in a picture whose colours span six decades.
FULL_STEP, LIVE_STEP = 6, 8


def layers_of(trunk: Trunk, image_size: int) -> list[Layer]:
    """The trunk's convolutions and linear layers, in the order of the data, on pictures of so many pixels a side."""
    found, sees = [], receptive.fields(trunk, image_size)
    for name, module in trunk.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            shape = (*module.weight.shape, 1, 1)[:4]
            block = trunk.block_names[trunk.block_of(f"{name}.weight")]
            found.append(Layer(name, block, shape, sees.get(name, 0)))
    return sorted(found, key=lambda layer: trunk.block_names.index(layer.block))


def matrix(weight: Tensor) -> Tensor:
    """A weight as rows of filters and columns of inputs times places of the kernel."""
    return weight.detach().reshape(len(weight), -1)


def importance_matrix(values: Tensor) -> Tensor:
    """Filters × inputs, the mean over the places of the kernel; where a filter has few inputs, the places apart."""
    if values.ndim == 4 and values.shape[1] > 4 and values.shape[2:] != (1, 1):
        return values.detach().mean((2, 3))
    return matrix(values)


def block_mean(values: Tensor, most: int) -> Tensor:
    """The mean of as many rows and columns as a pixel stands for; at the edges, of those that there are."""
    size = factors(len(values), values.shape[1], most)
    if size == (1, 1):
        return values.float()
    return nn.functional.avg_pool2d(values[None].float(), size, ceil_mode=True, count_include_pad=False)[0]


def block_majority(owners: Tensor, most: int) -> Tensor:
    """The owner of most of a pixel's weights; of equals, the one with the smaller number. uint8 in and out."""
    rows, columns = factors(len(owners), owners.shape[1], most)
    if (rows, columns) == (1, 1):
        return owners
    # Place by place of a pixel: in whole numbers, many times quicker than means of each owner's share.
    places = [owners[row::rows, column::columns] for row in range(rows) for column in range(columns)]
    counts = torch.zeros((int(owners.max()) + 1, *places[0].shape), dtype=torch.int32, device=owners.device)
    for owner, count in enumerate(counts):
        for place in places:
            count[: len(place), : place.shape[1]] += place == owner
    return counts.argmax(0).to(torch.uint8)  # the first of equals


def share_codes(mask: Tensor, most: int) -> np.ndarray:
    """Share of a pixel's weights that are on, uint8, 255 all."""
    return (block_mean(mask, most) * 255).round().to(torch.uint8).cpu().numpy()


def factors(rows: int, columns: int, most: int = MOST_SIDE) -> tuple[int, int]:
    """How many rows and columns of weights one pixel stands for, so that neither side exceeds `most` pixels."""
    return -(-rows // most), -(-columns // most)


def magnitudes(
    array: str, layers: Sequence[Layer], found: Mapping[str, Tensor], side: int = FULL_SIDE
) -> dict[str, Any]:
    """Values ≥ 0 of the trunk's weights, by the names of its tensors, as a map has them; other tensors are left out.

    So are those that are not all finite. ARRAY holds the mean over each layer (NaN where nothing was found of it),
    ARRAY/NAME the layer by filter and input in logarithmic codes, and ARRAY_range what these mean:
    `labcore.drawings.inside.importance.magnitude_kind` draws them.
    """
    there = {layer.name: found[f"{layer.name}.weight"] for layer in layers if f"{layer.name}.weight" in found}
    mean = {name: float(values.mean()) for name, values in there.items()}
    there = {name: values for name, values in there.items() if math.isfinite(mean[name])}
    grids = {name: block_mean(importance_matrix(values), side).cpu().numpy() for name, values in there.items()}
    span = map_files.range_of(max((float(grid.max()) for grid in grids.values()), default=0.0))
    means = [mean[layer.name] if layer.name in there else float("nan") for layer in layers]
    step = LIVE_STEP if side == LIVE_SIDE else FULL_STEP
    codes = {f"{array}/{name}": map_files.encode(grid, span, step) for name, grid in grids.items()}
    return {array: means, f"{array}_range": span, **codes}
