"""torchvision's networks, under torchvision's names: VGG, ResNet, DenseNet and MobileNet.

torchvision takes longer to import than torch, so it is loaded only when one of these networks is built. Their trained
weights are a download; which file it is stands in `labcore.configs.catalogue.BACKBONES`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from labcore.networks.trunk import Trunk


@dataclass(frozen=True, slots=True)
class _ZooEntry:
    """One of torchvision's networks: its blocks as rows of its own modules, and the name of its last layer."""

    blocks: dict[str, tuple[str, ...]]
    last: str


def _vgg(ends: tuple[int, ...]) -> _ZooEntry:
    """A VGG whose blocks of convolutions each end with a pooling layer, at these places of `features`."""
    begins = (0, *(end + 1 for end in ends))
    blocks = {
        f"conv{number}": tuple(f"features.{place}" for place in range(begin, end + 1))
        for number, (begin, end) in enumerate(zip(begins, ends, strict=False), 1)
    }
    return _ZooEntry({**blocks, "classifier": ("avgpool", "flatten", "classifier")}, "classifier.6")


def _resnet() -> _ZooEntry:
    blocks = {
        "stem": ("conv1", "bn1", "relu", "maxpool"),
        **{f"layer{number}": (f"layer{number}",) for number in (1, 2, 3)},
        "layer4": ("layer4", "avgpool", "flatten"),
    }
    return _ZooEntry(blocks, "fc")


def _densenet() -> _ZooEntry:
    blocks = {"stem": tuple(f"features.{name}" for name in ("conv0", "norm0", "relu0", "pool0"))}
    for number in (1, 2, 3):
        for name in (f"denseblock{number}", f"transition{number}"):
            blocks[name] = (f"features.{name}",)
    blocks["denseblock4"] = ("features.denseblock4", "features.norm5", "relu", "avgpool", "flatten")
    return _ZooEntry(blocks, "classifier")


def _mobilenet() -> _ZooEntry:
    blocks = {f"features.{number}": (f"features.{number}",) for number in range(13)}
    return _ZooEntry({**blocks, "classifier": ("avgpool", "flatten", "classifier")}, "classifier.3")


# No block holds the last layer that a network has in torchvision, because heads are the lab's own.
_ZOO: dict[str, _ZooEntry] = {
    "vgg16": _vgg((4, 9, 16, 23, 30)),
    "vgg16_bn": _vgg((6, 13, 23, 33, 43)),
    "resnet18": _resnet(),
    "resnet50": _resnet(),
    "densenet121": _densenet(),
    "mobilenet_v3_small": _mobilenet(),
}


def build(name: str, image_size: int) -> Trunk:
    """Build one of torchvision's networks by torchvision's name; its weights are still to be drawn or loaded."""
    return Zoo(name)


class Zoo(Trunk):
    """One of torchvision's networks up to its last linear layer, with torchvision's own modules and names.

    torchvision's activations work in place, but each on the fresh output of a layer, never on a block's input. VGG's
    and MobileNet's dropout is there and does nothing, as a trunk is in evaluation mode: features can be kept, and the
    same weights give the same loss.
    """

    shift = (0.485 * 255, 0.456 * 255, 0.406 * 255)  # ImageNet's mean and spread, by channel
    scale = (0.229 * 255, 0.224 * 255, 0.225 * 255)

    def __init__(self, name: str) -> None:
        super().__init__()
        from torchvision.models import get_model  # here, as it takes longer to import than torch

        entry = _ZOO[name]
        with torch.device("meta"):  # torchvision's own draws take seconds, and nobody keeps them
            model = get_model(name)
        last = model.get_submodule(entry.last)
        assert isinstance(last, nn.Linear)
        self.head_name, self.width = entry.last, last.in_features
        parent, _, leaf = entry.last.rpartition(".")
        delattr(model.get_submodule(parent), leaf)
        for child, module in model.to_empty(device="cpu").named_children():
            self.add_module(child, module)
        # These steps torchvision takes between its modules, so here they become modules.
        for child, module in (("relu", nn.ReLU()), ("avgpool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())):
            if child not in self._modules:
                self.add_module(child, module)
        self.block_names = tuple(entry.blocks)
        self._parts = tuple(entry.blocks.values())
        self.owners = {part: index for index, parts in enumerate(self._parts) for part in parts}

    def run_block(self, index: int, x: Tensor) -> Tensor:
        """Run the block's modules, one after the other; the last block gives [N, features]."""
        for part in self._parts[index]:
            x = self.get_submodule(part)(x)
        return x

    def load_pretrained(self, weights: Path | None) -> None:
        """Take torchvision's weights from a file. Raises RuntimeError where they are another network's."""
        assert weights is not None
        saved = torch.load(weights, map_location="cpu", weights_only=True)
        # Some files are older than today's modules: DenseNet's says `denselayer1.norm.1` for `denselayer1.norm1`, and
        # lacks the counts of batches.
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.reset_running_stats()
        renamed = {re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", name): value for name, value in saved.items()}
        prefix = f"{self.head_name}."
        self.load_state_dict({name: value for name, value in renamed.items() if not name.startswith(prefix)})
