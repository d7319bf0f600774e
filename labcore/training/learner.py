"""What a run trains: a network, the method that guides it, and the tasks, those seen so far and those to come."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from labcore.configs.run import RunConfig
from labcore.methods import load
from labcore.methods.base import Mask, Phase
from labcore.networks import backbones
from labcore.networks.batches import LoadedTask, load_task
from labcore.networks.network import Network
from labcore.runs.results import difference
from labcore.runs.stage_cache import Addition
from labcore.training.spending import Progress


class Learner:
    """Network, method and tasks of one run, ready to learn the first task.

    `all_tasks` are those of the configuration, `tasks` the ones seen so far, in the same order; the method shares that
    list. Decoded pictures are kept in `cache`; files that were downloaded lie below `downloads`. No picture is
    read where `tasks` are given. Raises TaskError.
    """

    def __init__(
        self,
        config: RunConfig,
        device: torch.device,
        cache: Path | None = None,
        downloads: Path | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        *,
        tasks: list[LoadedTask] | None = None,
    ) -> None:
        self.config, self.device, self.should_stop = config, device, should_stop
        size = config.backbone.image_size
        if tasks is None:
            tasks = [load_task(i, task, size, cache, device, downloads) for i, task in enumerate(config.tasks, 1)]
        self.all_tasks = tasks
        self.tasks: list[LoadedTask] = []
        weights = backbones.weights_file(config.backbone.name, config.backbone.start)
        path = weights.path(downloads) if weights and downloads else None
        self.network = Network(config.backbone, config.seed, device, path)
        self.method = load.learner(config.method.name)(self.network, config, self.tasks)
        self.method.should_stop = should_stop

    def see(self, stage: int) -> None:
        """Let the task of a stage be one of those seen, and give the network a head for it."""
        task = self.all_tasks[stage - 1]
        self.tasks.append(task)
        self.network.add_task(task.position, len(task.info.classes))

    def let_learn(self, masks: Mapping[str, Mask]) -> dict[str, Tensor]:
        """Let the named tensors learn, and no other, whatever was set before; returns them by name."""
        everything = self.network.tensors() | self.method.own_tensors()
        for tensor in everything.values():
            if tensor.is_floating_point():
                tensor.requires_grad_(False)
        return {name: everything[name].requires_grad_(True) for name in masks}

    def end_stage(self, stage: int, progress: Progress) -> Addition:
        """Let the method add what it adds at a stage's end, from a network that stands still.

        Returns what that cost, and the sentences that the method had to say about it.
        """
        before, energy = progress.clock.train, progress.energy.read()
        progress.clock.start()
        self.network.let_statistics_move([])
        self.method.end_stage(stage)
        progress.clock.trained()
        warnings, self.method.warnings = tuple(self.method.warnings), []
        spent = difference(progress.energy.read(), energy)
        return Addition(seconds=progress.clock.train - before, energy_wh=spent, warnings=warnings)

    # ---- how many images --------------------------------------------------------------------------------------------

    def phase_images(self, stage: int, phase: Phase) -> int:
        """The training images that one pass of a phase reads."""
        return sum(len(self.all_tasks[number - 1].train) for number in self.method.data(stage, phase))

    def stage_images(self, stage: int) -> int:
        """The training images of a stage, each counted as often as it is read."""
        return sum(phase.epochs * self.phase_images(stage, phase) for phase in self.method.phases(stage))

    def old_images(self, stage: int) -> int:
        """How many different images of earlier tasks a stage reads."""
        read = {number for phase in self.method.phases(stage) for number in self.method.data(stage, phase)}
        return sum(len(self.all_tasks[number - 1].train) for number in read if number < stage)
