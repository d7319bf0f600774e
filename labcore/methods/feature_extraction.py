"""Feature extraction: the network stays, each task gets a last layer of its own.

Idea     Use the trunk as it is, as a fixed describer of pictures, and learn only a new head. Nothing old can be lost;
         nothing in the trunk adapts to the new task either.
Formula  L = cross-entropy(head_k(trunk(x))), trunk fixed (from the start, or once task 1 was learnt)
Source   Donahue et al. 2014 (DeCAF), arXiv 1310.1531; Razavian et al. 2014, arXiv 1403.6382
"""

import torch

from labcore.batches import CHUNK
from labcore.configs import FeatureExtractionConfig
from labcore.methods.base import Method


class FeatureExtraction(Method):
    """A trunk that never learns (`start`), or only in stage 1 (`first_task`)."""

    @property
    def kept_trunk(self) -> str:
        """`start` or `first_task`; not said: `start` where the weights are trained already."""
        assert isinstance(self.run.method, FeatureExtractionConfig)
        return self.run.method.trunk or ("start" if self.pretrained else "first_task")

    def is_fresh(self, stage: int) -> bool:
        """With `start`, even a random trunk is as good as it will get."""
        return super().is_fresh(stage) and self.kept_trunk == "first_task"

    def frozen_blocks(self, stage: int) -> int:
        """All blocks, but in stage 1 of `first_task`."""
        learns = stage == 1 and self.kept_trunk == "first_task"
        return 0 if learns else len(self.network.trunk.block_names)

    @torch.no_grad()
    def start_stage(self, stage: int) -> None:
        """Measure a random trunk's statistics in one pass over task 1, as nothing will learn them later."""
        network = self.network
        if stage > 1 or self.pretrained or self.kept_trunk == "first_task" or not network.norm_layers:
            return
        for layer in network.norm_layers.values():
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean over the batches
        network.let_statistics_move(range(len(network.trunk.block_names)))
        images = self.tasks[0].train.images
        for start in range(0, len(images), CHUNK):
            network.trunk(network.trunk.normalise(images[start : start + CHUNK]))
        network.let_statistics_move([])
        for layer in network.norm_layers.values():
            layer.momentum = 0.1
        if network.norm_by_task:
            network.norms[1] = network.new_norm(network.trunk_norm())
