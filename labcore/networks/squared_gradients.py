"""The squared gradients of every image of a batch, from what passes by in it: one rule for each kind of layer.

With a layer's input x and the gradient g at its output, for all images at once, its squares are a few products:

    linear         z_nto = Σ_i w_oi x_nti + b_o           ∂/∂w_oi = Σ_t g_nto x_nti       ∂/∂b_o = Σ_t g_nto
    convolution    the same with patches in place of x: t is a place, i a channel at one tap of the kernel
    normalisation  z_ncp = w_c x̂_ncp + b_c                ∂/∂w_c  = Σ_p g_ncp x̂_ncp       ∂/∂b_c = Σ_p g_ncp

(n an image, o and c channels, t and p places.)
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from labcore.networks.convolutions import DepthwiseConv2d, edges

# Takes a weight's name in its layer and the gradient g at the layer's output, and gives Σ_n (gradient of image n)².
Squares = Callable[[str, Tensor], Tensor]
# Takes a layer and its input x [N, …], and gives its squares.
Rule = Callable[[Any, Tensor], Squares]

# How many numbers a temporary of one layer holds, unless a single image needs more: about as many as a processor's
# cache holds.
SLICE_NUMBERS = 1_000_000
# The same for the temporary that is written and read once for each tap of a kernel.
TAP_NUMBERS = 300_000
# Up to so many places, all pairs of places are cheaper than a product for each image.
FEW_PLACES = 4


def rule_for(module: nn.Module) -> Rule | None:
    """The rule for a layer. A subclass with a forward of its own is another layer, for which there may be none."""
    forward = type(module).forward
    if "forward" in vars(module):
        return None
    if forward is nn.Linear.forward:
        return _linear
    if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros":
        ways = (nn.Conv2d._conv_forward, DepthwiseConv2d._conv_forward)
        plain = forward is nn.Conv2d.forward and type(module)._conv_forward in ways
        return _conv if plain else None
    if forward is _BatchNorm.forward:
        return _norm
    return None


def _linear(layer: nn.Linear, x: Tensor) -> Squares:
    """The rule for x [N, …, I] and g [N, …, O]; what lies between counts as places t."""
    x = x.reshape(len(x), -1, x.shape[-1])

    def squares(part: str, g: Tensor) -> Tensor:
        g = g.reshape(len(g), -1, g.shape[-1])
        if part == "bias":
            return g.sum(1).square().sum(0)
        return _add_slices(_squared_products, _temporary(g.shape[1], g.shape[2], x.shape[2]), SLICE_NUMBERS, g, x)

    return squares


def _norm(layer: _BatchNorm, x: Tensor) -> Squares:
    """The rule for x and g [N, C] or [N, C, …]; x̂ = (x − μ) / √(σ² + ε), with the statistics of this call."""
    assert layer.running_mean is not None and layer.running_var is not None
    mean, scale = layer.running_mean, (layer.running_var + layer.eps).rsqrt()

    def squares(part: str, g: Tensor) -> Tensor:
        sums = g.reshape(*g.shape[:2], -1).sum(2)
        if part == "weight":
            sums = ((g * x).reshape(*g.shape[:2], -1).sum(2) - sums * mean) * scale
        return sums.square().sum(0)

    return squares


def _conv(layer: nn.Conv2d, x: Tensor) -> Squares:
    """The rule for x [N, C, H, W] and g [N, O, H', W']."""

    def squares(part: str, g: Tensor) -> Tensor:
        if part == "bias":
            return g.sum((2, 3)).square().sum(0)
        padded = _pad(layer, x)
        if layer.groups == layer.in_channels > 1:
            found = _squared_by_channel(layer, g, padded)
        else:  # a group is a convolution by itself
            pairs = zip(g.chunk(layer.groups, 1), padded.chunk(layer.groups, 1), strict=True)
            found = torch.cat([_squared_patches(layer, part_g, part_x) for part_g, part_x in pairs])
        return found.reshape(layer.weight.shape)

    return squares


def _pad(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """x with the zeros that the layer puts around it, [N, C, H + …, W + …]."""
    vertical, horizontal = edges(layer)
    around = (*horizontal, *vertical)
    return F.pad(x, around) if any(around) else x


def _squared_patches(layer: nn.Conv2d, g: Tensor, x: Tensor) -> Tensor:
    """A dense convolution's squares [O, C, K] (K taps), from g and the padded x: a linear layer on patches."""
    (height, width), channels, taps = g.shape[2:], x.shape[1], math.prod(layer.kernel_size)

    def squares(g: Tensor, x: Tensor) -> Tensor:
        # Patches [N, T, K·C] by strides alone, then one copy; a kernel of 1 × 1 needs not even that.
        x = x.permute(0, 2, 3, 1)
        image, down, right, channel = x.stride()
        steps = (down * layer.stride[0], right * layer.stride[1], down * layer.dilation[0], right * layer.dilation[1])
        patches = x.as_strided((len(x), height, width, *layer.kernel_size, channels), (image, *steps, channel))
        return _squared_products(g.flatten(2).transpose(1, 2), patches.reshape(len(x), height * width, -1))

    places, inputs = height * width, taps * channels
    numbers = max(places * inputs, _temporary(places, g.shape[1], inputs))
    return _add_slices(squares, numbers, SLICE_NUMBERS, g, x).reshape(-1, taps, channels).transpose(1, 2)


def _squared_by_channel(layer: nn.Conv2d, g: Tensor, x: Tensor) -> Tensor:
    """The squares [O, K] of a convolution that keeps channels apart, from g and the padded x, tap by tap."""
    if g.shape[1] > x.shape[1]:
        x = x.repeat_interleave(g.shape[1] // x.shape[1], 1)
    # Channels last, so that sums over places run along rows of channels.
    g, x = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (g, x))
    (height, width), (down, right) = g.shape[2:], layer.stride
    taps = [
        (slice(top, top + down * (height - 1) + 1, down), slice(left, left + right * (width - 1) + 1, right))
        for top in range(0, layer.kernel_size[0] * layer.dilation[0], layer.dilation[0])
        for left in range(0, layer.kernel_size[1] * layer.dilation[1], layer.dilation[1])
    ]

    def squares(g: Tensor, x: Tensor) -> Tensor:
        product = torch.empty_like(g)
        sums = [torch.mul(g, x[:, :, rows, columns], out=product).sum((2, 3)) for rows, columns in taps]
        return torch.stack(sums).square_().sum(1)

    return _add_slices(squares, g[0].numel(), TAP_NUMBERS, g, x).T


def _squared_products(g: Tensor, x: Tensor) -> Tensor:
    """Σ_n (Σ_t g_nto x_nti)², [O, I], from g [N, T, O] and x [N, T, I]."""
    if g.shape[1] <= FEW_PLACES:
        # Σ_n Σ_ts (g_nto g_nso)(x_nti x_nsi) is one product for all images; a pair t < s counts for s < t as well.
        t, s = torch.triu_indices(g.shape[1], g.shape[1], device=g.device)
        pairs = (g[:, t] * g[:, s]).mul_((1 + (t < s).to(g.dtype))[:, None])
        return (pairs.flatten(0, 1).T @ (x[:, t] * x[:, s]).flatten(0, 1)).clamp_(min=0)  # rounding may fall below
    if g.shape[2] > x.shape[2]:
        return _squared_products(x, g).T  # the product is faster with the wider one last
    return torch.bmm(g.transpose(1, 2), x).square_().sum(0)


def _temporary(places: int, outputs: int, inputs: int) -> int:
    """How many numbers `_squared_products` makes on its way for each image."""
    return places * (places + 1) // 2 * (outputs + inputs) if places <= FEW_PLACES else outputs * inputs


def _add_slices(squares: Callable[[Tensor, Tensor], Tensor], numbers: int, limit: int, g: Tensor, x: Tensor) -> Tensor:
    """The sum of squares(g, x) over slices of a few images, so that `numbers` an image stay within the limit."""
    count = max(1, limit // numbers)
    slices = zip(torch.split(g, count), torch.split(x, count), strict=True)
    return functools.reduce(Tensor.add_, (squares(some_g, some_x) for some_g, some_x in slices))
