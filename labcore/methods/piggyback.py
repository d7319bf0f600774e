"""Piggyback: the weights stay as they are, and each task learns which of them to use.

Idea     Give every weight of a fixed network a score, and switch off those whose score falls below a threshold. Only
         scores and head learn; what is kept for a task is one bit a weight. Nothing old can change, and the fixed
         weights need not even be trained: masks over random ones learn, too.
Formula  task t sees w · m_t, m = [score > threshold]; ∂L/∂score = ∂L/∂(w·m) · w (straight-through: labcore/masks.py)
Source   Mallya et al. 2018, arXiv 1801.06519, §3
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from labcore import masks
from labcore.batches import LoadedTask
from labcore.configs import PiggybackConfig, RunConfig
from labcore.methods.base import Mask, Phase
from labcore.methods.fixed_trunk import FixedTrunk
from labcore.network import Network, Overlay, count_bytes, like


class Piggyback(FixedTrunk):
    """`scores[NAME]` while a task is learnt; `masks[T][NAME]`, packed bits, afterwards.

    Where the trunk itself learns task 1 (`first_task`), that task's mask is all ones.
    """

    def __init__(self, network: Network, config: RunConfig, tasks: Sequence[LoadedTask]) -> None:
        super().__init__(network, config, tasks)
        self.weights = masks.layers(network.trunk, self.config.depthwise)
        self.scores: dict[str, Tensor] = {}
        self.masks: dict[int, dict[str, Tensor]] = {}

    @property
    def config(self) -> PiggybackConfig:
        """The method's own settings."""
        assert isinstance(self.run.method, PiggybackConfig)
        return self.run.method

    def start_stage(self, stage: int) -> None:
        """All weights are on at first."""
        super().start_stage(stage)
        if not self.trunk_learns(stage):
            self.scores = {name: masks.new_scores(w, self.config.initial_score) for name, w in self.weights.items()}

    @torch.no_grad()
    def end_stage(self, stage: int) -> None:
        """Keep the mask, a bit a weight; say so where it leaves nothing of a layer."""
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
        """Scores in place of weights."""
        found = super().trainable(stage, phase)
        if phase.head_only or self.trunk_learns(stage):
            return found
        shared = self.network.norm_weights if self.network.config.norm == "shared" else ()
        return found | dict.fromkeys([f"scores/{name}" for name in self.scores] + [f"trunk/{name}" for name in shared])

    def moving_statistics(self, stage: int, phase: Phase) -> Sequence[int]:
        """As by fine-tuning where normalisation is shared: the textbook mistake."""
        if self.network.config.norm == "shared" and not phase.head_only:
            return range(len(self.network.trunk.block_names))
        return super().moving_statistics(stage, phase)

    def learning_rate(self, name: str) -> float:
        """Scores have their own."""
        return self.config.score_learning_rate if name.startswith("scores/") else super().learning_rate(name)

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
        """The weights that its mask, or while it is learnt its scores, leave on."""
        if task in self.masks:
            return {name: masks.unpack(bits, self.weights[name]) for name, bits in self.masks[task].items()}
        return {name: score > self.config.threshold for name, score in self.scores.items()}

    # ---- what is kept -----------------------------------------------------------------------------------------------

    def footprint(self) -> dict[str, int]:
        """A bit a weight a task."""
        return super().footprint() | {"masks": sum(count_bytes(mask.values()) for mask in self.masks.values())}

    def working_footprint(self) -> dict[str, int]:
        """The scores."""
        return {"scores": count_bytes(self.scores.values())} if self.scores else {}

    def own_tensors(self) -> dict[str, Tensor]:
        """`scores/NAME`."""
        return {f"scores/{name}": score for name, score in self.scores.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """`mask/T/NAME` for every task that is learnt."""
        return {f"mask/{task}/{name}": bits for task, row in self.masks.items() for name, bits in row.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back the masks."""
        self.masks, self.scores = {}, {}
        for path, value in state.items():
            kind, rest = path.split("/", 1)
            if kind == "mask":
                task, name = rest.split("/", 1)
                self.masks.setdefault(int(task), {})[name] = value.to(self.network.device)

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """The scores, too."""
        return self.state_dict() | self.own_tensors()

    def load_checkpoint_tensors(self, state: dict[str, Tensor]) -> None:
        """Take back the scores, too."""
        self.load_state_dict(state)
        for path, value in state.items():
            if path.startswith("scores/"):
                name = path.removeprefix("scores/")
                self.scores[name] = like(self.weights[name], value)
