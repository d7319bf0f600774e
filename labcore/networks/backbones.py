"""Names to trunks: a backbone is found by its name, built, and given the weights that it starts with.

Which backbones there are, and which function builds each, stands in `labcore.configs.catalogue.BACKBONES`, which needs
no torch. The lab's own are in `lite0`, `small` and `zoo`; each module is loaded when one of its networks is built.
"""

import importlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from labcore.configs.catalogue import BACKBONES
from labcore.networks.convolutions import quicken
from labcore.networks.trunk import Trunk
from labcore.tasks.downloads import File


def build(name: str, start: str, image_size: int, generator: torch.Generator, weights: Path | None = None) -> Trunk:
    """Build a new trunk on the CPU, in evaluation mode, for square pictures of `image_size` px.

    All draws come from the generator, which is the CPU's, so that its state alone decides the weights; `pretrained`
    draws nothing. torch's global generator is left as it was. `weights` is where the catalogue's file of weights lies,
    if the start needs one. Raises ValueError, with a sentence, for an unknown name or start, for `pretrained` where
    there are no trained weights, and for a trunk whose blocks are not those that the catalogue announces.
    """
    if name not in BACKBONES:
        raise ValueError(f"no backbone is called {name}; choose one of {', '.join(BACKBONES)}")
    if start != "pretrained" and start not in _DRAWS:
        raise ValueError(f"no start is called {start}; choose pretrained, {', '.join(_DRAWS)}")
    info, pretrained = BACKBONES[name], start == "pretrained"
    if pretrained and not info.pretrained:
        raise ValueError(f"{name} has no pretrained weights; start it from kaiming, xavier or far")
    if pretrained and info.weights_file and weights is None:
        raise ValueError(f"{name}'s pretrained weights are in {info.weights_file.name}; say where it lies")
    module, _, function = info.builder.partition(":")
    builder: Callable[[str, int], Trunk] = getattr(importlib.import_module(module), function)
    with torch.random.fork_rng(devices=[]):  # constructors draw weights of their own, which nobody keeps
        trunk = builder(name, image_size)
        if trunk.block_names != info.blocks:
            raise ValueError(
                f"{name} is announced with the blocks {', '.join(info.blocks)}, but {info.builder} builds "
                f"{', '.join(trunk.block_names)}"
            )
        if pretrained:
            trunk.load_pretrained(weights)
    quicken(trunk)
    if not pretrained:
        _draw_start(trunk, start, generator)
    return trunk.eval()


def weights_file(name: str, start: str) -> File | None:
    """The file that a backbone's start needs; None where the weights come with a package, or are drawn.

    Raises KeyError for an unknown name.
    """
    return BACKBONES[name].weights_file if start == "pretrained" else None


# ---------------------------------------------------------------------------------------------------------------------
# Starts
# ---------------------------------------------------------------------------------------------------------------------


def _kaiming(weight: Tensor, groups: int, generator: torch.Generator) -> None:
    """Draw from N(0, 2 / fan in), which keeps activations' size through ReLUs (He et al. 2015, arXiv 1502.01852)."""
    nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)


def kaiming(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Fresh values for the weights of one layer, as a `kaiming` start draws them: float32, on the CPU."""
    weight = torch.empty(tuple(shape))
    _kaiming(weight, 1, generator)
    return weight


def _xavier(weight: Tensor, groups: int, generator: torch.Generator) -> None:
    """Draw evenly, with variance 2 / (fan in + fan out): a compromise between activations and gradients.

    Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward neural networks.
    """
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(weight)
    # torch counts every output channel, but in a grouped layer an input reaches only its own group's.
    bound = math.sqrt(6 / (fan_in + fan_out // groups))
    nn.init.uniform_(weight, -bound, bound, generator=generator)


def _far(weight: Tensor, groups: int, generator: torch.Generator) -> None:
    """Draw from N(0, 1) whatever the layer's size: a place so far off that training hardly comes back from it."""
    nn.init.normal_(weight, generator=generator)


_DRAWS: dict[str, Callable[[Tensor, int, torch.Generator], None]] = {
    "kaiming": _kaiming,
    "xavier": _xavier,
    "far": _far,
}


def _draw_start(trunk: Trunk, start: str, generator: torch.Generator) -> None:
    """Draw the weights of convolutions and linear layers as the start says, and set their biases to 0.

    Normalisation becomes new: its scales are 1, its shifts 0, and it has seen no statistics.
    """
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            _DRAWS[start](module.weight, module.groups if isinstance(module, nn.Conv2d) else 1, generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, _BatchNorm):
            module.reset_parameters()  # this makes its statistics new, too
