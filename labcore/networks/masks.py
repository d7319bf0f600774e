"""0/1 masks over weights: which layers have them, how they are learnt, how they are packed.

A mask is learnt through a score for each weight, a real number: the weight is on where its score exceeds the threshold.
The threshold has no useful derivative, so the gradient reaches the score as if it were the identity (the
straight-through estimator: Bengio et al. 2013, arXiv 1308.3432), ∂L/∂score = ∂L/∂(w·m) · w. Piggyback learns its masks
so (Mallya et al. 2018, arXiv 1801.06519, §3), and PackNet its reuse, which takes the constants below.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labcore.networks.trunk import is_depthwise

INITIAL_SCORE, THRESHOLD, LEARNING_RATE = 1e-2, 5e-3, 3e-4


def layers(trunk: nn.Module, depthwise: bool) -> dict[str, Tensor]:
    """The weights of a trunk's convolutions and linear layers by name; depthwise ones only where `depthwise` asks."""
    return {
        f"{name}.weight": module.weight
        for name, module in trunk.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and (depthwise or not is_depthwise(module))
    }


def new_scores(weight: Tensor, initial: float = INITIAL_SCORE) -> Tensor:
    """New scores in the weight's shape and memory format, all equal to `initial`.

    With an `initial` above the threshold every weight is on.
    """
    return torch.full_like(weight, initial, requires_grad=False)


class _Keep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, score: Tensor, threshold: float) -> Tensor:
        on = score > threshold
        ctx.save_for_backward(weight, on)
        return torch.where(on, weight, 0.0)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        weight, on = ctx.saved_tensors
        (grad,) = upstream
        return (
            torch.where(on, grad, 0.0) if ctx.needs_input_grad[0] else None,
            grad * weight if ctx.needs_input_grad[1] else None,
            None,
        )


def keep(weight: Tensor, score: Tensor, threshold: float) -> Tensor:
    """The weights whose score exceeds the threshold, 0 for the others; the gradient reaches all scores."""
    return _Keep.apply(weight, score, threshold)  # type: ignore[no-any-return, no-untyped-call]


def pack(mask: Tensor) -> Tensor:
    """A bool tensor as bits, uint8 [⌈N/8⌉], row-major as `numpy.packbits` has it, on the same device."""
    bits = np.packbits(mask.detach().cpu().contiguous().numpy())
    return torch.from_numpy(bits).to(mask.device)


def unpack(bits: Tensor, template: Tensor) -> Tensor:
    """The mask that was packed into these bits, as a bool tensor in the template's shape and memory format."""
    flat = np.unpackbits(bits.cpu().numpy(), count=template.numel()).astype(bool)
    mask = torch.empty_like(template, dtype=torch.bool, requires_grad=False)
    return mask.copy_(torch.from_numpy(flat).view(template.shape))
