"""Separate copies: a copy of the starting network for every task ("copy the fan").

Idea     Before each task, copy the network that the run starts from and fine-tune the copy. No task can touch another,
         nor learn from another, and memory grows by one network for each task.
Formula  L = cross-entropy(head_k(trunk_k(x))), trunk_k starts from the same weights for every k
Source   the article's "copy the net"; as a baseline: Rusu et al. 2016, arXiv 1606.04671, §3
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from labcore.configs.run import RunConfig
from labcore.methods.base import by_task, named
from labcore.methods.fine_tuning.learn import FineTuning
from labcore.networks.batches import LoadedTask
from labcore.networks.network import Network, Overlay, count_bytes, like


class SeparateCopies(FineTuning):
    """Fine-tuning that starts over for each task.

    `copies[T]` is the whole trunk with which task T ended, its statistics included.
    """

    copies: dict[int, Overlay]

    def __init__(self, network: Network, config: RunConfig, tasks: Sequence[LoadedTask]) -> None:
        super().__init__(network, config, tasks)
        self.copies = {}

    def is_fresh(self, stage: int) -> bool:
        """Always, because every stage is a first stage."""
        return not self.pretrained

    def start_stage(self, stage: int) -> None:
        """Start over from where the run started."""
        if stage > 1:
            self.network.restart_trunk()
            if self.network.config.norm_by_task:
                self.network.norms[stage] = self.network.new_norm(self.network.trunk_norm())

    @torch.no_grad()
    def end_stage(self, stage: int) -> None:
        """Put the trunk aside for its task."""
        self.copies[stage] = {name: value.clone() for name, value in self.network.trunk.state_dict().items()}

    def overlay(self, task: int) -> Overlay:
        """The task's own trunk, which takes the place of the live one."""
        return {**self.copies.get(task, {}), **super().overlay(task)}

    def footprint(self) -> dict[str, int]:
        """A trunk for each task, in place of one. The start can be made again from its file of weights or the seed."""
        kept = super().footprint()
        del kept["trunk"]
        return {**kept, "copies": sum(count_bytes(copy.values()) for copy in self.copies.values())}

    def network_tensors(self) -> dict[str, Tensor]:
        """The trunks of every task that is learnt, as `copies/T/NAME`."""
        return named("copies", self.copies)

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back the copies, in the live trunk's memory format."""
        live, saved = self.network.trunk.state_dict(), by_task("copies", state)
        self.copies = {t: {name: like(live[name], value) for name, value in copy.items()} for t, copy in saved.items()}
