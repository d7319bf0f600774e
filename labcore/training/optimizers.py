"""The optimizers of a phase, how their step size rises and falls, and how what is frozen stays as it is."""

import math
from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

from labcore.configs.run import TrainingConfig
from labcore.methods.base import Mask, Method
from labcore.runs import checkpoints


class Updates:
    """Changes what learns in a phase, and nothing else: fresh optimizers, at the step size of the schedule.

    `learns` are the tensors that learn, by name. Where `masks` has a mask for one, only its true elements may change.
    """

    def __init__(
        self, training: TrainingConfig, learns: Mapping[str, Tensor], masks: Mapping[str, Mask], method: Method
    ) -> None:
        self.learns = learns
        self._frozen = [
            (learns[name], mask, learns[name].detach().clone()) for name, mask in masks.items() if mask is not None
        ]
        self._optimizers = new_optimizers(training, learns, method.own_tensors(), method.learning_rate)
        self._groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]
        self._full_rates = [group["lr"] for group in self._groups]

    def prepare(self, scale: float) -> None:
        """Forget the gradients of the step before, and set the step sizes to `scale` times their full values."""
        for group, rate in zip(self._groups, self._full_rates, strict=True):
            group["lr"] = rate * scale
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def step(self) -> None:
        """Move what learns along its gradients."""
        for optimizer in self._optimizers:
            optimizer.step()
        # Momentum and weight decay move weights whose gradient is zero: put frozen ones back, bit for bit.
        for tensor, mask, value in self._frozen:
            tensor.copy_(torch.where(mask, tensor, value))

    def tensors(self) -> dict[str, Tensor]:
        """The optimizers' memory, by the names that it has in a checkpoint."""
        return checkpoints.optimizer_tensors(self._optimizers, self.learns)

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave, from among the tensors of a checkpoint."""
        checkpoints.restore_optimizers(self._optimizers, self.learns, saved)


def new_optimizers(
    training: TrainingConfig, parameters: Mapping[str, Tensor], own: Collection[str], rate: Callable[[str], float]
) -> list[torch.optim.Optimizer]:
    """Fresh optimizers for tensors by name, each tensor at its own `rate`.

    The optimizer of the run's settings is for weights. Tensors that only the method has (`own`, such as scores) learn
    by Adam and without decay.
    """
    rules = {name: "adam" if name in own else training.optimizer for name in parameters}
    optimizers: list[torch.optim.Optimizer] = []
    for rule in dict.fromkeys(rules.values()):
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for name, parameter in parameters.items():
            if rules[name] == rule:
                decay = 0.0 if name in own else training.weight_decay
                groups.setdefault((rate(name), decay), []).append(parameter)
        rows = [{"params": group, "lr": lr, "weight_decay": decay} for (lr, decay), group in groups.items()]
        if rule == "sgd":
            optimizers.append(torch.optim.SGD(rows, momentum=training.momentum, fused=True))
        else:
            optimizers.append((torch.optim.AdamW if rule == "adamw" else torch.optim.Adam)(rows, fused=True))
    return optimizers


def rate_at(step: int, steps: int, warmup_fraction: float, schedule: str) -> float:
    """The step size at `step` (counted from 0) of a phase, as a share of its full value.

    It rises linearly while the phase warms up; afterwards it stays level or falls along a cosine. Cosine: Loshchilov &
    Hutter 2017, arXiv 1608.03983, eq. 5, one period without restarts.
    """
    warmup = round(steps * warmup_fraction)
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
