"""The optimizers of a phase, and how their step size rises and falls."""

import math
from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

from labcore.configs.run import TrainingConfig


def new_optimizers(
    training: TrainingConfig, parameters: Mapping[str, Tensor], own: Collection[str], rate: Callable[[str], float]
) -> list[torch.optim.Optimizer]:
    """Fresh ones for tensors by name, each at its `rate`.

    The run's rule is for weights; what only the method has (`own`: scores) learns by Adam, without decay.
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
    """The step size at `step` (from 0) of a phase, as a share of its full value: a linear rise, then level or a cosine.

    Cosine: Loshchilov & Hutter 2017, arXiv 1608.03983, eq. 5, one period without restarts.
    """
    warmup = round(steps * warmup_fraction)
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
