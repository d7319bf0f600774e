"""What a trunk is: the network that every task shares, without its head.

A trunk is a row of named blocks from pictures to feature vectors. What goes into a block is never written to, so the
first n blocks can be run once over a task, their outputs kept, and the rest run on those as often as wanted.
"""

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from labcore.networks import torchvision_beside

torchvision_beside.make_importable()


class Trunk(nn.Module):
    """A backbone without its head: a row of named blocks that turns pictures into feature vectors.

    A subclass sets the attributes below, and runs one block in `run_block`, which must leave its input as it was.
    """

    block_names: tuple[str, ...]
    """The blocks, in the order in which the data flows."""
    width: int
    """The number of features that come out."""
    owners: dict[str, int]
    """Which block each module belongs to: the prefix of its parameters' and buffers' names → the block's index."""
    shift: ClassVar[tuple[float, ...]] = (127.5,)
    """What is taken from a pixel, a whole number from 0 to 255, before it is divided by `scale`: one number for all
    channels, or one for every channel."""
    scale: ClassVar[tuple[float, ...]] = (64.0,)
    """What a pixel is divided by once `shift` has been taken from it; as many numbers as `shift` has."""

    layout: ClassVar[torch.memory_format] = torch.channels_last
    """How the normalised pictures lie in memory."""

    def run_block(self, index: int, x: Tensor) -> Tensor:
        """Run one block: the first on normalised pictures [N, 3, H, W], any other on what the block before gave."""
        raise NotImplementedError

    def forward(self, x: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """Run the blocks first…last−1 on what comes out of block first−1; with `last` None, run all that follow.

        The last block of all gives [N, features]; where first = last, no block runs and x is returned. Raises
        IndexError unless 0 ≤ first ≤ last ≤ number of blocks.
        """
        count = len(self.block_names)
        last = count if last is None else last
        if not 0 <= first <= last <= count:
            raise IndexError(f"no blocks {first} to {last}: there are {count}")
        for index in range(first, last):
            x = self.run_block(index, x)
        return x

    def block_of(self, name: str) -> int:
        """The index of the block that a parameter or buffer belongs to. Raises KeyError if it belongs to none."""
        for prefix, index in self.owners.items():
            if name.startswith(prefix + "."):
                return index
        raise KeyError(f"{name} belongs to no block; blocks are {', '.join(self.block_names)}")

    def normalise(self, images: Tensor) -> Tensor:
        """Turn pictures as stored, uint8 [N, H, W, 3 or 1], into float32 [N, 3, H, W] in `layout`, on their device.

        Grey pictures get three equal channels. Raises ValueError for another type or shape.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise ValueError(f"pictures are uint8 [N, H, W, 3 or 1], not {images.dtype} {list(images.shape)}")
        channels_first = images.permute(0, 3, 1, 2).expand(-1, 3, -1, -1)
        x = torch.empty(channels_first.shape, device=images.device, dtype=torch.float32, memory_format=self.layout)
        count = len(self.shift)
        parts = zip(channels_first.chunk(count, 1), x.chunk(count, 1), self.shift, self.scale, strict=True)
        for whole, part, shift, scale in parts:
            torch.sub(whole, shift, out=part).div_(scale)
        return x

    def load_pretrained(self, weights: Path | None) -> None:
        """Take the trained weights from the file that the catalogue names, or from a package where it names none.

        Raises RuntimeError where they are another network's.
        """
        assert weights is not None, "a backbone whose weights come without a file loads them itself"
        self.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))


def is_depthwise(module: nn.Module) -> bool:
    """Whether a layer is a convolution that keeps channels apart: a handful of weights each."""
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
