"""Networks that train in seconds.

small_cnn            three convolutions with batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167)
small_cnn_plain      the same without normalisation
mlp                  two fully connected layers
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labcore.networks.convolutions import convolve_and_normalise
from labcore.networks.trunk import Trunk


def build(name: str, image_size: int) -> Trunk:
    """Build one of the networks above by its name; only `mlp` is tied to the size of its pictures."""
    return Mlp(image_size) if name == "mlp" else SmallCnn(norm=name == "small_cnn")


class SmallCnn(Trunk):
    """Three convolutions, each of which halves the picture; the last is averaged over it. Features are [N, 128]."""

    block_names = ("block1", "block2", "block3")
    width = 128

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.owners = {name: index for index, name in enumerate(self.block_names)}
        for name, inputs, outputs in zip(self.block_names, (3, 32, 64), (32, 64, self.width), strict=True):
            layers: dict[str, nn.Module] = {"conv": nn.Conv2d(inputs, outputs, 3, padding=1, bias=not norm)}
            if norm:
                layers["norm"] = nn.BatchNorm2d(outputs)
            self.add_module(name, nn.Sequential(OrderedDict(layers)))

    def run_block(self, index: int, x: Tensor) -> Tensor:
        """Run one block. At 28 px the blocks give [N, 32, 14, 14], [N, 64, 7, 7] and [N, 128]."""
        block = self.get_submodule(self.block_names[index])
        conv, norm = block.get_submodule("conv"), block._modules.get("norm")
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            x = convolve_and_normalise(conv, norm, x)
        else:
            x = conv(x)
        if index == 2:
            return F.relu_(x).mean((2, 3))
        # The same as in the usual order, ReLU first, with a quarter of the numbers for ReLU.
        return F.relu_(F.max_pool2d(x, 2))


class Mlp(Trunk):
    """Two fully connected layers on pictures of one size. Features are [N, 128]."""

    block_names = ("layer1", "layer2")
    width = 128
    layout = torch.contiguous_format  # the first layer takes all of a picture as one row

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.owners = {name: index for index, name in enumerate(self.block_names)}
        self.layer1 = nn.Linear(3 * image_size * image_size, 128)
        self.layer2 = nn.Linear(128, self.width)

    def run_block(self, index: int, x: Tensor) -> Tensor:
        """Run one layer; either gives [N, 128]."""
        return F.relu(self.layer1(x.flatten(1)) if index == 0 else self.layer2(x))
