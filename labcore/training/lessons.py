"""What a phase trains on: its pictures in the order of its epochs, or what the blocks that stand still make of them.

Where the first blocks of the network cannot change in a phase, they are run once over its pictures, and the steps begin
at the block after them: that is the feature cache.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from labcore.methods.base import Mask, Phase
from labcore.networks.batches import (
    LARGEST_FEATURE_CACHE,
    Batch,
    Lesson,
    batch_slice,
    epoch_order,
    run_first_blocks,
    steps_in_epoch,
)
from labcore.training.learner import Learner


class FeatureCache:
    """Decides how many first blocks of the network are run once over the pictures of a phase."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self._bytes: dict[int, int] = {}  # by number of blocks: what they make of one image

    def blocks(self, masks: Mapping[str, Mask], statistics: Sequence[int], images: int) -> int:
        """How many: all those that stand still in the phase, or none where the cache of so many images was too large.

        `masks` and `statistics` say what may change, as the method tells them.
        """
        fixed = self._fixed_blocks(masks, statistics)
        self.learner.network.let_statistics_move([])
        return 0 if fixed and self._bytes_an_image(fixed) * images > LARGEST_FEATURE_CACHE else fixed

    def _fixed_blocks(self, masks: Mapping[str, Mask], statistics: Sequence[int]) -> int:
        """How many of the first blocks no step of the phase can change."""
        network = self.learner.network
        touched = {block for name in masks if (block := network.block_of(name)) is not None} | set(statistics)
        return min(touched, default=len(network.trunk.block_names))

    def _bytes_an_image(self, blocks: int) -> int:
        """Bytes of what these first blocks make of one image; a picture of the run is put through them once."""
        if blocks not in self._bytes:
            learner = self.learner
            one = run_first_blocks(learner.network, {}, learner.tasks[0].train.first(1), blocks, learner.should_stop)
            self._bytes[blocks] = one.numel() * one.element_size()
        return self._bytes[blocks]


class PhaseBatches:
    """The batches of a phase, step by step. The first that is asked for fills the feature cache, which takes time."""

    def __init__(self, learner: Learner, stage: int, phase: Phase, cached_blocks: int) -> None:
        self.learner, self.stage, self.phase, self.cached_blocks = learner, stage, phase, cached_blocks
        self.images = learner.phase_images(stage, phase)
        self.steps_in_epoch = steps_in_epoch(self.images, learner.config.training.batch_size)
        self._lesson: Lesson | None = None
        self._order: Tensor | None = None  # of the epoch that the last batch was of

    def at(self, step: int) -> Batch:
        """The batch of a step, counted from 0. Steps are asked for in turn. Raises Stopped."""
        if self._lesson is None:
            self._lesson = _lesson(self.learner, self.stage, self.phase, self.cached_blocks)
        config = self.learner.config
        epoch, number = divmod(step, self.steps_in_epoch)
        if self._order is None or number == 0:
            order = epoch_order(config.seed, self.stage, self.phase.name, epoch, self.images)
            self._order = order.to(self.learner.device)
        return self._lesson.batch(self.learner.network, batch_slice(self._order, number, config.training.batch_size))


def _lesson(learner: Learner, stage: int, phase: Phase, cached_blocks: int) -> Lesson:
    """All that the phase trains on; the first `cached_blocks` blocks are run once over it."""
    tasks = [learner.tasks[number - 1] for number in learner.method.data(stage, phase)]
    labels = torch.cat([task.train.labels for task in tasks])
    whose = torch.cat([torch.full_like(task.train.labels, task.position) for task in tasks])
    learner.network.let_statistics_move([])
    features = None
    if cached_blocks:
        parts = []
        for task in tasks:
            overlay = learner.method.fixed_overlay(task.position)
            parts.append(run_first_blocks(learner.network, overlay, task.train, cached_blocks, learner.should_stop))
        features = torch.cat(parts)
    pictures = [task.train.images for task in tasks]
    return Lesson(stage, pictures, features, labels, whose, cached_blocks, phase.head_only)
