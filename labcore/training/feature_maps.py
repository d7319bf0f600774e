"""What blocks of the network make of a few pictures, for the maps of stages' ends; see `labcore.runs.feature_maps`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labcore.configs.looking import SEEN_MAPS, SEEN_SIDE
from labcore.networks.batches import Stopped
from labcore.networks.network import Network, Overlay
from labcore.runs import reductions


@torch.no_grad()
def look(
    network: Network, overlay: Overlay, pictures: Tensor, chosen: np.ndarray | None, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Run pictures, uint8 [P, H, W, C], through the network as a job sees it; statistics must stand still.

    `chosen` says which maps are wanted, [P, B, M] as in `seen_channels`. Where it is None, or names maps that a block
    does not have, it is those that vary most over the picture.

    Returns:
        The arrays of the job by name, without the job.
    """
    x = network.trunk.normalise(pictures)
    blocks = len(network.trunk.block_names)
    codes: list[list[np.ndarray]] = [[] for _ in pictures]
    channels = np.full((len(pictures), blocks, SEEN_MAPS), -1)
    ranges = np.zeros((len(pictures), blocks, 2))
    sizes = []
    for block in range(blocks):
        if should_stop():
            raise Stopped
        x = network.run_blocks(x, overlay, block, block + 1)
        maps = x if x.ndim == 4 else x.flatten(1)[:, :, None, None]
        kept = min(SEEN_MAPS, maps.shape[1])
        for place, picture in enumerate(maps):
            named = [] if chosen is None else chosen[place, block, :kept].tolist()
            if not named or not 0 <= min(named) <= max(named) < len(picture):
                named = _most_varied(picture, kept)
            values = _reduced(picture[torch.as_tensor(named, device=x.device)])
            low, high = float(values.min()), float(values.max())
            codes[place].append(np.rint(255 * (values - low) / max(high - low, 1e-30)).astype(np.uint8).ravel())
            channels[place, block, :kept], ranges[place, block] = named, (low, high)
        sizes.append(values.shape)
    return {
        "seen_sizes": sizes,
        "seen": np.concatenate([part for row in codes for part in row]),
        "seen_channels": channels,
        "seen_ranges": ranges,
    }


def _most_varied(maps: Tensor, count: int) -> list[int]:
    """The numbers of the maps [C, H, W] that vary most over their places, or are the largest where there is one."""
    rows = maps.float().flatten(1)
    strength = rows.std(1) if rows.shape[1] > 1 else rows[:, 0].abs()
    return strength.topk(count).indices.tolist()


def _reduced(maps: Tensor) -> np.ndarray:
    """Maps [M, H, W] in no more places than are kept."""
    size = reductions.factors(maps.shape[1], maps.shape[2], SEEN_SIDE)
    pooled = nn.functional.avg_pool2d(maps[None].float(), size, ceil_mode=True, count_include_pad=False)[0]
    return np.asarray(np.nan_to_num(pooled.cpu().numpy()))
