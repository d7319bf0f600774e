"""Learning without forgetting: the old heads must go on saying of the new pictures what they said before.

Idea     Before a new task, write down what every old head makes of the new pictures. While the network learns the task,
         it is also asked to give these old answers again. No old picture is needed; the pictures of the new task stand
         in for them, the better the more alike the tasks are.
Formula  L = cross-entropy(new task) + λ₀ · Σ_old T² · KL(softmax(recorded / T) ‖ softmax(now / T))
Source   Li & Hoiem 2016, arXiv 1606.09282, eq. 1 to 4. Its distillation is this up to the entropy of the recorded
         answers, which is constant. T² keeps the gradient's size as T grows: Hinton et al. 2015, arXiv 1503.02531, §2.
         The paper trains the old heads too: `train_old_heads`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from labcore.configs.run import RunConfig
from labcore.methods.base import Method, Phase
from labcore.methods.lwf.about import LwFConfig
from labcore.networks.batches import CHUNK, Batch, LoadedTask, run_first_blocks
from labcore.networks.network import Network, count_bytes


class LwF(Method):
    """Fine-tuning, with the old heads' answers to the new images as a second aim.

    `recorded[T]` holds what head T made of the stage's training images: logits [images, classes of task T].
    """

    def __init__(self, network: Network, config: RunConfig, tasks: Sequence[LoadedTask]) -> None:
        super().__init__(network, config, tasks)
        self.recorded: dict[int, Tensor] = {}

    @property
    def config(self) -> LwFConfig:
        """The method's own settings."""
        assert isinstance(self.run.method, LwFConfig)
        return self.run.method

    @torch.no_grad()
    def start_stage(self, stage: int) -> None:
        """Record the old heads' outputs on the new images."""
        network, pictures, blocks = self.network, self.tasks[stage - 1].train, len(self.network.trunk.block_names)
        network.let_statistics_move([])
        self.recorded, features = {}, None
        for old in range(1, stage):
            if features is None or network.config.norm_by_task:
                features = run_first_blocks(network, self.overlay(old), pictures, blocks, self.should_stop)
            head = network.heads[str(old)]
            self.recorded[old] = torch.cat([head(chunk) for chunk in torch.split(features, CHUNK)])

    def trained_heads(self, stage: int, phase: Phase) -> Sequence[int]:
        """The new head; with `train_old_heads` all heads, once the trunk moves."""
        return range(1, stage + 1) if self.config.train_old_heads and not phase.head_only else [stage]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The term `new task`; once the trunk moves, also `old tasks`.

        Heads that share normalisation are answered by one forward.
        """
        if batch.task == 1 or batch.head_only:
            return super().loss(batch)
        network, heads = self.network, self.network.heads
        features = network.run_blocks(batch.inputs, self.overlay(batch.task), batch.first)
        new = functional.cross_entropy(heads[str(batch.task)](features), batch.labels)
        old = new.new_zeros(())
        for task, recorded in self.recorded.items():
            if network.config.norm_by_task:
                network.let_statistics_move([])  # an old task's own statistics stay as the task left them
                features = network.run_blocks(batch.inputs, self.overlay(task), batch.first)
            now = heads[str(task)](features)
            old = old + distillation(now, recorded[batch.index], self.config.temperature)
        return {"new task": new, "old tasks": self.config.strength * old}

    def end_stage(self, stage: int) -> None:
        """Throw away what was recorded: it has done its work."""
        self.recorded = {}

    def working_footprint(self) -> dict[str, int]:
        """The bytes of the recorded outputs."""
        return {"recorded outputs": count_bytes(self.recorded.values())} if self.recorded else {}

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """The state, and the recorded outputs as `recorded/T`."""
        return {f"recorded/{task}": value for task, value in self.recorded.items()}

    def load_checkpoint_tensors(self, state: dict[str, Tensor]) -> None:
        """Take back the state and what was recorded."""
        self.recorded = {int(name.split("/")[1]): value.to(self.network.device) for name, value in state.items()}


def distillation(now: Tensor, recorded: Tensor, temperature: float) -> Tensor:
    """T² · KL(softmax(recorded / T) ‖ softmax(now / T)) as the mean over images; both are logits [N, classes]."""
    target = functional.log_softmax(recorded / temperature, 1)
    given = functional.log_softmax(now / temperature, 1)
    return temperature**2 * functional.kl_div(given, target, reduction="batchmean", log_target=True)
