"""Piggyback: the weights stay as they are, and each task learns which of them to use.

Idea     Give every weight of a fixed network a score, and switch off those whose score falls below a threshold. Only
         scores and head learn; what is kept for a task is one bit a weight. Nothing old can change, and the fixed
         weights need not even be trained: masks over random ones learn, too.
Formula  task t sees w · m_t, m = [score > threshold]; ∂L/∂score = ∂L/∂(w·m) · w (straight-through: networks/masks.py)
Source   Mallya et al. 2018, arXiv 1801.06519, §3
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labcore.configs.run import RunConfig
from labcore.methods.base import Mask, Phase, by_task, named
from labcore.methods.piggyback import arrays
from labcore.methods.piggyback.about import PiggybackConfig
from labcore.methods.shared.fixed_trunk import FixedTrunk
from labcore.methods.shared.scored import Scored
from labcore.networks import masks
from labcore.networks.batches import LoadedTask
from labcore.networks.network import Network, Overlay, count_bytes
from labcore.runs.map_files import Layer


class Piggyback(Scored, FixedTrunk):
    """A trunk that is kept, and for each task a mask over its weights.

    While a task is learnt there are `scores[NAME]`, and afterwards `masks[T][NAME]` as packed bits. Where the trunk
    itself learns task 1 (`first_task`), that task's mask is all ones.
    """

    def __init__(self, network: Network, config: RunConfig, tasks: Sequence[LoadedTask]) -> None:
        super().__init__(network, config, tasks)
        self.masks: dict[int, dict[str, Tensor]] = {}

    @property
    def config(self) -> PiggybackConfig:
        """The method's own settings."""
        assert isinstance(self.run.method, PiggybackConfig)
        return self.run.method

    def start_stage(self, stage: int) -> None:
        """Begin with new scores, which leave all weights on, unless the trunk itself learns this task."""
        super().start_stage(stage)
        if not self.trunk_learns(stage):
            self.scores = {name: masks.new_scores(w, self.config.initial_score) for name, w in self.weights.items()}

    @torch.no_grad()
    def end_stage(self, stage: int) -> None:
        """Keep the mask, a bit for each weight, and warn where it leaves nothing of a layer."""
        threshold = self.config.threshold
        on = {
            name: self.scores[name] > threshold if self.scores else w.new_ones(w.shape, dtype=torch.bool)
            for name, w in self.weights.items()
        }
        self.masks[stage] = {name: masks.pack(mask) for name, mask in on.items()}
        self.scores = {}
        off = [name.removesuffix(".weight") for name, mask in on.items() if not mask.any()]
        if off:
            self.warnings.append(
                f"Task {stage}'s mask turns {len(off)} whole layer{'s' * (len(off) > 1)} off ({', '.join(off[:3])}): "
                "its answers no longer depend on the picture there. Try a smaller method.score_learning_rate."
            )

    # ---- what may change --------------------------------------------------------------------------------------------

    def trainable(self, stage: int, phase: Phase) -> dict[str, Mask]:
        """What fine-tuning would change, with scores in place of the trunk's weights."""
        found = super().trainable(stage, phase)
        if phase.head_only or self.trunk_learns(stage):
            return found
        shared = self.network.norm_weights if self.network.config.norm == "shared" else ()
        return found | dict.fromkeys([f"scores/{name}" for name in self.scores] + [f"trunk/{name}" for name in shared])

    def moving_statistics(self, stage: int, phase: Phase) -> Sequence[int]:
        """As by fine-tuning where normalisation is shared, which is the textbook mistake."""
        if self.network.config.norm == "shared" and not phase.head_only:
            return range(len(self.network.trunk.block_names))
        return super().moving_statistics(stage, phase)

    def score_learning_rate(self) -> float:
        """The step size of scores, as it is set."""
        return self.config.score_learning_rate

    def overlay(self, task: int) -> Overlay:
        """The weights that the task's mask leaves on."""
        found = super().overlay(task)
        if task in self.masks:
            for name, weight in self.weights.items():
                found[name] = torch.where(masks.unpack(self.masks[task][name], weight), weight, 0.0)
        elif self.scores:
            for name, weight in self.weights.items():
                found[name] = masks.keep(weight, self.scores[name], self.config.threshold)
        return found

    @torch.no_grad()
    def seen(self, task: int) -> dict[str, Tensor]:
        """The weights that the task's mask leaves on, or its scores while it is learnt."""
        if task in self.masks:
            return {name: masks.unpack(bits, self.weights[name]) for name, bits in self.masks[task].items()}
        return {name: score > self.config.threshold for name, score in self.scores.items()}

    # ---- what it shows inside ---------------------------------------------------------------------------------------

    def maps(self, stage: int, layers: Sequence[Layer]) -> dict[str, Any]:
        """The masks so far and, while they are learnt, the scores, whose mask is then this stage's: see maps.py."""
        packed = {task: {name: bits.cpu().numpy() for name, bits in row.items()} for task, row in self.masks.items()}
        if stage not in packed:
            packed[stage] = {name: np.packbits(m.cpu().contiguous().numpy()) for name, m in self.seen(stage).items()}
        if not packed[stage]:
            return {}  # the trunk itself learns this task
        pictures = arrays.pictures(packed[stage], stage, layers)
        scores = arrays.histogram(self.scores, self.config.initial_score, self.config.threshold, layers)
        return pictures | arrays.overlaps(packed, stage, layers) | scores

    # ---- what is kept -----------------------------------------------------------------------------------------------

    def footprint(self) -> dict[str, int]:
        """A bit for each weight and task."""
        return super().footprint() | {"masks": sum(count_bytes(mask.values()) for mask in self.masks.values())}

    def state_dict(self) -> dict[str, Tensor]:
        """The masks of every task that is learnt, as `mask/T/NAME`."""
        return named("mask", self.masks)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back the masks."""
        device = self.network.device
        self.masks = {t: {n: bits.to(device) for n, bits in row.items()} for t, row in by_task("mask", state).items()}
        self.scores = {}
