"""Memory aware synapses: a weight is held as firmly as the network's answers to the old task change with it.

Idea     After a task, ask for each of its images how much the length of the network's output would change with each
         weight. No label is needed, and not even the network's own guess: what is protected is the function that was
         learnt, not the loss. While later tasks are learnt, a spring as stiff as that pulls each weight back to where
         the last task left it.
Formula  Ω_i = Σ_tasks mean over images x of |∂ ‖f(x)‖² / ∂θ_i|,   f(x) the logits of the task's own head
         L = cross-entropy(new task) + λ · Σ_i Ω_i (θ_i − θ*_i)²,   over the weights of the trunk
         θ* is where the last task ended
Source   Aljundi et al. 2018, arXiv 1711.09601, eq. 2 to 4; the squared norm of the outputs: §4.1.
         The absolute value is one image's: over a batch's summed gradient, images would cancel each other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from labcore.methods.mas.about import MASConfig
from labcore.methods.mas.maps import ARRAY
from labcore.methods.shared.springs import ByName
from labcore.methods.shared.sprung import Sprung
from labcore.networks.batches import Stopped
from labcore.networks.streams import stream
from labcore.runs.map_files import Layer
from labcore.runs.reductions import magnitudes


class MAS(Sprung):
    """Springs whose importance is how much the network's own answers would change."""

    @property
    def config(self) -> MASConfig:
        """The method's own settings."""
        assert isinstance(self.run.method, MASConfig)
        return self.run.method

    # ---- what it shows inside ---------------------------------------------------------------------------------------

    def maps(self, stage: int, layers: Sequence[Layer]) -> dict[str, Any]:
        """Importance of the stage's task, once it is measured."""
        return magnitudes(ARRAY, layers, self.importance[stage]) if stage in self.importance else {}

    # ---- what matters -----------------------------------------------------------------------------------------------

    def end_stage(self, stage: int) -> None:
        """Measure importance on some of the task's images, and hold the weights where they are."""
        network, train = self.network, self.tasks[stage - 1].train
        chosen = torch.randperm(len(train), generator=self.draws(stage))[: self.config.importance_images]
        overlay = self.fixed_overlay(stage)

        def logits(weights: Mapping[str, Tensor], image: Tensor) -> Tensor:
            if self.should_stop():
                raise Stopped
            return network.logits(image, stage, {**overlay, **weights})

        images = network.trunk.normalise(train.images[chosen.to(network.device)])
        self.hold(stage, sensitivity(logits, self.weights, images))

    def draws(self, stage: int) -> torch.Generator:
        """By which the images of a stage are chosen."""
        return stream(self.run.seed, stage, "importance")


def sensitivity(
    logits: Callable[[Mapping[str, Tensor], Tensor], Tensor], weights: Mapping[str, Tensor], images: Tensor
) -> ByName:
    """The mean over images [N, …] of |∂ ‖logits(weights, image)‖² / ∂weight|, by name.

    One image at a time: there is no product of a layer's inputs and gradients that gives absolute values.
    """
    leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    sums = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in weights.items()}
    for number in range(len(images)):
        with torch.enable_grad():
            length = logits(leaves, images[number : number + 1]).square().sum()
        gradients = torch.autograd.grad(length, list(leaves.values()), allow_unused=True)
        for total, gradient in zip(sums.values(), gradients, strict=True):
            if gradient is not None:
                total.add_(gradient.abs())
    return {name: total / len(images) for name, total in sums.items()}
