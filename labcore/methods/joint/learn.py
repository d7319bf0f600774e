"""Joint training: all tasks' pictures together, old and new.

Idea     Keep every old picture and train on all of them at each stage. What every other method would reach if it
         could; it needs the old data, and the training time grows with each task.
Formula  L = mean over images of cross-entropy(head_{task of x}(trunk(x))), over the images of tasks 1…k shuffled
Source   Caruana 1997, Multitask Learning; as the upper bound of task-incremental learning: Li & Hoiem, arXiv 1606.09282
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from labcore.configs.catalogue import BACKBONES
from labcore.methods.base import Method, Phase
from labcore.networks.batches import Batch


class Joint(Method):
    """Each stage goes on from the one before, and trains on every task seen so far."""

    def data(self, stage: int, phase: Phase) -> Sequence[int]:
        """All tasks so far; a head that warms up needs only its own task."""
        return [stage] if phase.head_only else range(1, stage + 1)

    def trained_heads(self, stage: int, phase: Phase) -> Sequence[int]:
        """The heads of the tasks whose images the phase reads."""
        return self.data(stage, phase)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The terms `new task` and `old tasks`.

        Each image's loss is by its own task's head, and both sums are divided by the size of the whole batch.
        """
        network, every = self.network, range(len(self.network.trunk.block_names))
        one_place = network.config.image_size <= BACKBONES[network.config.name].one_place
        careful = one_place and network.config.norm == "per_task" and not batch.head_only and len(batch.labels) > 1
        features = None if network.config.norm_by_task else network.run_blocks(batch.inputs, {}, batch.first)
        terms = {"new task": batch.inputs.new_zeros(())}
        if batch.task > 1:
            terms["old tasks"] = batch.inputs.new_zeros(())
        for task in torch.unique(batch.tasks).tolist():
            mine = batch.tasks == task
            if careful:  # a task's only picture in the batch has one value a channel, which has no statistics
                network.let_statistics_move(every if int(mine.sum()) > 1 else ())
            own = (
                network.run_blocks(batch.inputs[mine], self.overlay(task), batch.first)
                if features is None
                else features[mine]
            )
            loss = functional.cross_entropy(network.heads[str(task)](own), batch.labels[mine], reduction="sum")
            name = "new task" if task == batch.task else "old tasks"
            terms[name] = terms[name] + loss / len(batch.labels)
        return terms

    def footprint(self) -> dict[str, int]:
        """The old images, as uint8."""
        images = sum(task.train.images.numel() for task in self.tasks)
        return {**super().footprint(), "old images": images}
