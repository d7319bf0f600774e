"""Fine-tuning, one task after another.

Idea     Go on training the network on the new task, all of it or all but its first blocks. What the old task needed
         is overwritten: the forgetting that every other method is measured against.
Formula  L = cross-entropy(new task); θ_trunk moves at learning_rate · trunk_lr_scale
Source   Girshick et al. 2014, arXiv 1311.2524; how far first layers carry over: Yosinski et al. 2014, arXiv 1411.1792
"""

from labcore.methods.base import Method
from labcore.methods.shared.settings import TrainsTrunkConfig


class FineTuning(Method):
    """The base class with two settings: how fast the trunk moves, and how many of its first blocks do not move."""

    @property
    def config(self) -> TrainsTrunkConfig:
        """The method's own settings."""
        assert isinstance(self.run.method, TrainsTrunkConfig)
        return self.run.method

    def frozen_blocks(self, stage: int) -> int:
        """The number that `frozen_blocks` sets; all blocks where the trunk's step size is 0."""
        return self.config.frozen_blocks if self.config.trunk_lr_scale else len(self.network.trunk.block_names)

    def learning_rate(self, name: str) -> float:
        """The base class's step size, which `trunk_lr_scale` scales for all tensors but the heads'."""
        rate = super().learning_rate(name)
        return rate if name.startswith("heads/") else rate * self.config.trunk_lr_scale
