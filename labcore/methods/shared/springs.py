"""Springs that hold weights where an earlier task left them, as stiff as each weight was important to it.

A method says what importance is (for EWC it is the Fisher diagonal); the springs are the same for all:
λ/2 Σ_tasks Σ_i F_i (θ_i − θ*_i)².
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from labcore.networks.network import like

# Tensors by the names of the trunk's parameters, each in the shape of its parameter.
ByName = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Spring:
    """All tasks' springs as one, so that a step costs the same however many tasks there were.

    λ Σ_t F_t (θ − θ*_t)² = S (θ − θ̄)² + c, with S = λ Σ F_t, θ̄ = Σ F_t θ*_t / Σ F_t and c = λ Σ_t F_t (θ*_t − θ̄)².
    S is the springs' `stiffness`, θ̄ the place at which they `rest` (0 where nothing pulls), and c ≥ 0 the `strain`
    that they never lose.
    """

    stiffness: list[Tensor]
    rest: list[Tensor]
    strain: float

    @classmethod
    @torch.no_grad()
    def sum(cls, strength: float, diagonals: Sequence[ByName], anchors: Sequence[ByName]) -> "Spring":
        """The one spring that acts as all of these do together.

        The sums are taken in float64, because Σ F θ − Σ F θ* would lose its digits in float32.
        """
        stiffness, rest, strain = [], [], 0.0
        for name in diagonals[0]:
            fisher = [diagonal[name].double() for diagonal in diagonals]
            anchor = [values[name].double() for values in anchors]
            total = torch.stack(fisher).sum(0)
            moment = torch.stack([f * a for f, a in zip(fisher, anchor, strict=True)]).sum(0)
            middle = torch.where(total > 0, moment / total, 0.0)
            strain += sum(float((f * (a - middle) ** 2).sum()) for f, a in zip(fisher, anchor, strict=True))
            weight = anchors[0][name]
            stiffness.append(like(weight, strength * total))
            rest.append(like(weight, middle))
        return cls(stiffness, rest, strength * strain)

    def energy(self, weights: Sequence[Tensor]) -> Tensor:
        """The springs' energy ½ (Σ S (θ − θ̄)² + c), a scalar whose gradient is S (θ − θ̄)."""
        return _Energy.apply(self, *weights)  # type: ignore[no-any-return, no-untyped-call]


class _Energy(torch.autograd.Function):
    """The energy and its gradient, from the same two passes over the weights."""

    @staticmethod
    def forward(ctx: Any, spring: Spring, *weights: Tensor) -> Tensor:
        stretch = torch._foreach_sub(weights, spring.rest)
        pull = torch._foreach_mul(spring.stiffness, stretch)
        work = torch.stack([torch.dot(_row(p), _row(s)) for p, s in zip(pull, stretch, strict=True)]).sum()
        ctx.pull = pull
        return (work + spring.strain) / 2

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        # A loss is a sum of terms, so the gradient from above is 1 and one pass over the weights is saved. To ask a
        # GPU whether it is 1 would mean to wait for it.
        as_it_is = upstream[0].is_cpu and bool(upstream[0] == 1)
        return None, *(ctx.pull if as_it_is else torch._foreach_mul(ctx.pull, upstream[0]))


def _row(tensor: Tensor) -> Tensor:
    """All elements in the order in which they lie in memory. It is a view, whereas `flatten` may copy."""
    return tensor.as_strided((tensor.numel(),), (1,))
