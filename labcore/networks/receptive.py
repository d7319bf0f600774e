"""How much of the picture each layer of a trunk sees: its receptive field, followed through the trunk's own forward.

A place of a map that a convolution or a pooling with kernel k makes (dilated kernels count whole) depends on k places
of the map before in each direction, which lie `step` pixels apart: size ← size + (k − 1) · step, step ← step · stride.
Where ways meet, the larger one counts. What mixes all places, as an average over the map or a fully connected layer
does, sees the whole picture.

The trunk answers one blank picture for it, and nothing in it is touched.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from labcore.networks.trunk import Trunk

_OF_ALL = {"mean", "sum", "adaptive_avg_pool2d", "linear", "matmul", "addmm", "mm", "bmm"}
# What leaves each place where it is, in place (relu_) or not, as an operator (__add__) or not.
_PLACE_BY_PLACE = {
    "relu", "relu6", "hardtanh", "clamp", "hardswish", "hardsigmoid", "silu", "sigmoid", "tanh", "gelu", "elu", "selu",
    "leaky_relu", "softplus", "dropout", "dropout2d", "batch_norm", "add", "radd", "iadd", "sub", "mul", "rmul", "imul",
    "div", "truediv", "neg", "cat", "stack", "pad", "view", "reshape", "flatten", "permute", "transpose", "expand",
    "unsqueeze", "squeeze", "contiguous", "clone", "detach", "to", "float", "chunk", "split", "unbind", "getitem",
}  # fmt: skip


class _Field(NamedTuple):
    """What a place of a map sees: pixels in each direction, and how many pixels lie between it and the next place."""

    size: int
    step: int


def fields(trunk: Trunk, image_size: int) -> dict[str, int]:
    """By layer, the side in pixels of the square of the picture that one place of its output depends on.

    Where it reaches twice the picture's side, every place depends on all of the picture, and twice the side is told.
    A layer is left out where the trunk does what cannot be followed.

    Args:
        trunk: The network, in evaluation mode.
        image_size: The side of the square pictures, in pixels.
    """
    modules = trunk.named_modules()
    layers = {id(module.weight): name for name, module in modules if isinstance(module, nn.Conv2d | nn.Linear)}
    device = next(trunk.parameters()).device
    picture = trunk.normalise(torch.zeros(1, image_size, image_size, 3, dtype=torch.uint8, device=device))
    follow = _Follow(picture, layers, whole=2 * image_size)
    with torch.no_grad(), follow:
        trunk(picture)
    return follow.found


class _Follow(TorchFunctionMode):
    """Follows a picture through all operations; `found` has the field behind each layer whose weight it met."""

    def __init__(self, picture: Tensor, layers: Mapping[int, str], whole: int) -> None:
        super().__init__()
        self.whole = whole
        self.found: dict[str, int] = {}
        self._fields: dict[int, _Field | None] = {id(picture): _Field(1, 1)}  # None: cannot be followed
        self._layers = dict(layers)
        self._kept: list[Tensor] = []  # so that no number of a tensor is used twice

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given, made = _tensors((args, kwargs or {})), _tensors(result)
        self._kept += made
        seen = [self._fields[id(part)] for part in given if id(part) in self._fields]
        names = [self._layers[id(part)] for part in given if id(part) in self._layers]
        if seen:
            field = None if None in seen else self._behind(func, args, kwargs or {}, [part for part in seen if part])
            self._fields |= {id(part): field for part in made}
            if field is not None:
                self.found |= {name: max(field.size, self.found.get(name, 0)) for name in names}
        elif len(names) == 1:  # a weight that is got ready for its layer
            self._layers |= {id(part): names[0] for part in made}
        return result

    def _behind(
        self, func: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any], before: Sequence[_Field]
    ) -> _Field | None:
        """The field behind an operation, of those of what goes into it; None where it is not known what it does."""
        size, step = max(part.size for part in before), max(part.step for part in before)
        kind = re.sub(r"^_+|_+$", "", getattr(func, "__name__", ""))

        def told(place: int, name: str, otherwise: Any) -> Sequence[int]:
            value = args[place] if place < len(args) else named.get(name)
            value = otherwise if value is None or value == [] else value
            return (value,) if isinstance(value, int) else value

        if kind in _OF_ALL:
            return _Field(self.whole, step)
        if kind == "conv2d":
            kernel, stride, dilation = (
                (args[1] if len(args) > 1 else named["weight"]).shape[2:],
                told(3, "stride", 1),
                told(5, "dilation", 1),
            )
        elif kind in ("max_pool2d", "avg_pool2d"):
            kernel = told(1, "kernel_size", 1)
            stride, dilation = told(2, "stride", kernel), told(4, "dilation", 1) if kind == "max_pool2d" else (1,)
        elif kind in _PLACE_BY_PLACE:
            return _Field(size, step)
        else:
            return None
        reach = max(dilation) * (max(kernel) - 1)
        return _Field(min(self.whole, size + reach * step), step * max(stride))


def _tensors(parts: Any) -> list[Tensor]:
    """All tensors in lists, tuples and dictionaries."""
    if isinstance(parts, Tensor):
        return [parts]
    if isinstance(parts, Mapping):
        parts = list(parts.values())
    return [found for part in parts for found in _tensors(part)] if isinstance(parts, list | tuple) else []
