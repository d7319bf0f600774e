"""What feature extraction and Piggyback share: a trunk that never learns, or in stage 1 alone."""

import torch

from labcore.configs.catalogue import BACKBONES
from labcore.methods.base import Method
from labcore.methods.shared.settings import kept_trunk, learns_trunk

# Part of what the statistics are: each batch's own count alike.
_STATISTICS_BATCH = 100


class FixedTrunk(Method):
    """A trunk that is kept: the one that the run starts with (`start`), or the one after task 1 (`first_task`)."""

    def trunk_learns(self, stage: int) -> bool:
        """Whether the trunk learns in this stage, as it does by fine-tuning."""
        return learns_trunk(self.run, stage)

    def is_fresh(self, stage: int) -> bool:
        """As by fine-tuning, but false for a trunk that never learns: even if random, it gets no better."""
        return super().is_fresh(stage) and self.trunk_learns(stage)

    def frozen_blocks(self, stage: int) -> int:
        """All blocks; none in a stage in which the trunk learns."""
        return 0 if self.trunk_learns(stage) else len(self.network.trunk.block_names)

    @torch.no_grad()
    def start_stage(self, stage: int) -> None:
        """Measure a random trunk's statistics in one pass over task 1, because nothing will learn them later."""
        network = self.network
        if stage > 1 or self.pretrained or kept_trunk(self.run) == "first_task" or not network.norm_layers:
            return
        for layer in network.norm_layers.values():
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean over the batches
        network.let_statistics_move(range(len(network.trunk.block_names)))
        images = self.tasks[0].train.images
        for start in range(0, len(images), _STATISTICS_BATCH):
            chunk = images[start : start + _STATISTICS_BATCH]
            if len(chunk) > 1 or network.config.image_size > BACKBONES[network.config.name].one_place:
                network.trunk(network.trunk.normalise(chunk))  # one value a channel has no statistics
        network.let_statistics_move([])
        for layer in network.norm_layers.values():
            layer.momentum = 0.1
        if network.config.norm_by_task:
            network.norms[1] = network.new_norm(network.trunk_norm())
