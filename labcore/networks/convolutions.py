"""Convolutions whose results are torch's but for rounding, and which take less time on a processor.

Depthwise      torch's gradient by the weights of a depthwise convolution takes long where the map that comes out is no
               larger than the kernel. `DepthwiseConv2d` takes it tap by tap there.
Normalisation  with fixed statistics, a normalisation is a factor and a shift for each channel. Both can be part of the
               convolution before it, as `convolve_and_normalise` has it.

Both are for float32 on a processor; anything else goes torch's own way. What they gain, and from which size on they
would gain nothing, is in docs/performance.md.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labcore.networks.trunk import is_depthwise

# Numbers for the height and for the width of a map.
_Pair = tuple[int, int]


class DepthwiseConv2d(nn.Conv2d):
    """torch's convolution, for layers that keep channels apart and put zeros around the picture."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not (weight.requires_grad and torch.is_grad_enabled() and _is_plain(x, weight)):
            return super()._conv_forward(x, weight, bias)  # type: ignore[no-any-return]
        x, padding = self._padded_evenly(x)
        sizes = zip(x.shape[2:], padding, self.kernel_size, self.stride, self.dilation, strict=True)
        if any((size + 2 * p - d * (k - 1) - 1) // s + 1 > k for size, p, k, s, d in sizes):  # the map that comes out
            return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, self.groups)
        found: Tensor = TapByTap.apply(x, weight, bias, self.stride, padding, self.dilation)  # type: ignore[no-untyped-call]
        return found

    def _padded_evenly(self, x: Tensor) -> tuple[Tensor, _Pair]:
        """x, and the zeros that are still to be put on both sides of its height and of its width.

        `same` may need one more after than before, which is then already in x, as torch does it, too.
        """
        (top, bottom), (left, right) = edges(self)
        if bottom > top or right > left:
            x = F.pad(x, (0, right - left, 0, bottom - top))
        return x, (top, left)


def edges(layer: nn.Conv2d) -> tuple[_Pair, _Pair]:
    """How many zeros a layer puts above and below a picture, and how many to its left and right."""
    if layer.padding == "valid":
        return (0, 0), (0, 0)
    if layer.padding == "same":  # the stride is 1 then, because torch takes no other
        down, right = (d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
        return (down // 2, down - down // 2), (right // 2, right - right // 2)
    high, wide = int(layer.padding[0]), int(layer.padding[1])
    return (high, high), (wide, wide)


class TapByTap(torch.autograd.Function):
    """A depthwise convolution whose weight gradient is summed tap by tap.

    With a picture n, a channel c, a place p, a tap k, stride s, dilation d and padding a,
    z_ncp = Σ_k w_ck x_nc(s·p + d·k − a), so ∂/∂w_ck = Σ_np g_ncp x_nc(s·p + d·k − a).
    A tap that meets nothing but padding has the gradient 0 and costs nothing.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor | None, stride: _Pair, padding: _Pair, dilation: _Pair
    ) -> Tensor:
        """What `F.conv2d` makes of x [N, C, H, W], weight [C·M, 1, …] and bias [C·M]: [N, C·M, H', W']."""
        return F.conv2d(x, weight, bias, stride, padding, dilation, x.shape[1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what the gradients need."""
        x, weight, _, *ctx.geometry = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        """The gradients by x, weight and bias; those that nobody wants are left out."""
        (g,), (x, weight), (stride, padding, dilation) = upstream, ctx.saved_tensors, ctx.geometry
        by_x = by_weight = by_bias = None
        if ctx.needs_input_grad[0]:
            of, none = (True, False, False), [0, 0]
            by_x, *_ = torch.ops.aten.convolution_backward(
                g, x, weight, None, stride, padding, dilation, False, none, x.shape[1], of
            )
        if ctx.needs_input_grad[1]:
            by_weight = _by_weight(x, g, weight.shape, stride, padding, dilation)
        if ctx.needs_input_grad[2]:
            by_bias = g.sum((0, 2, 3))
        return by_x, by_weight, by_bias, None, None, None


def _by_weight(x: Tensor, g: Tensor, shape: torch.Size, stride: _Pair, padding: _Pair, dilation: _Pair) -> Tensor:
    if g.shape[1] > x.shape[1]:  # several outputs of each channel stand side by side
        x = x.repeat_interleave(g.shape[1] // x.shape[1], 1)
    taps = []
    for row in range(shape[2]):
        below, above = _overlap(row * dilation[0] - padding[0], stride[0], g.shape[2], x.shape[2])
        for column in range(shape[3]):
            left, right = _overlap(column * dilation[1] - padding[1], stride[1], g.shape[3], x.shape[3])
            taps.append((g[:, :, below, left] * x[:, :, above, right]).sum((0, 2, 3)))
    return torch.stack(taps, 1).view(shape)


def _overlap(offset: int, stride: int, outputs: int, inputs: int) -> tuple[slice, slice]:
    """Which places p of 0…outputs−1 have p · stride + offset among 0…inputs−1, and which of these they meet."""
    first = max(0, -(offset // stride))
    count = max(0, min(outputs - 1, (inputs - 1 - offset) // stride) - first + 1)
    begin = first * stride + offset
    return slice(first, first + count), slice(begin, begin + count * stride, stride)


def quicken(network: nn.Module) -> None:
    """Let all depthwise convolutions of a network, whoever made it, be `DepthwiseConv2d`s.

    Only their class changes. Layers of a class of their own, and those that pad with anything but zeros, stay.
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and is_depthwise(module) and module.padding_mode == "zeros":
            module.__class__ = DepthwiseConv2d


def convolve_and_normalise(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """norm(conv(x)), by one convolution where the normalisation's statistics are fixed and that is less work.

    γ (w∗x − μ) / √(σ² + ε) + β = (w · f)∗x + (β − μ · f), with f = γ / √(σ² + ε) for each channel. Weights are
    multiplied then in place of the map, which pays where the map has more numbers. Somebody who listens to the layers,
    as the Fisher diagonal does, hears both of them.
    """
    if norm.training or norm.running_mean is None or norm.running_var is None or not _is_plain(x, conv.weight):
        return norm(conv(x))  # type: ignore[no-any-return]
    places = x.shape[2] * x.shape[3] // (conv.stride[0] * conv.stride[1])
    if len(x) * places * conv.out_channels < conv.weight.numel() or _is_heard(conv) or _is_heard(norm):
        return norm(conv(x))  # type: ignore[no-any-return]
    factor = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * factor
    if conv.bias is not None:
        shift = shift + conv.bias * factor
    weight = conv.weight * factor[:, None, None, None]
    return conv._conv_forward(x, weight, shift)  # type: ignore[no-any-return]


def _is_plain(x: Tensor, weight: Tensor) -> bool:
    """Whether both are float32 on a processor, and meant to stay so."""
    float32 = x.dtype == weight.dtype == torch.float32
    return float32 and x.is_cpu and weight.is_cpu and not torch.is_autocast_enabled("cpu")


def _is_heard(layer: nn.Module) -> bool:
    """Whether a hook waits for the layer to be called."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks)
