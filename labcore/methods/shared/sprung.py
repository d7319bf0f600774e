"""What EWC, synaptic intelligence and memory aware synapses share: weights that are held by springs."""

import sys
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from labcore.configs.run import RunConfig
from labcore.methods.base import Method, by_task, named
from labcore.methods.shared.settings import HoldsBySprings
from labcore.methods.shared.springs import ByName, Spring
from labcore.networks.batches import Batch, LoadedTask
from labcore.networks.network import Network, count_bytes, like
from labcore.networks.proportion import require_proportion


class Sprung(Method):
    """Fine-tuning, with a spring on every trunk weight that learns after stage 1.

    For every weight with a spring, `importance[T]` holds how important it is for task T, and `anchors[T]` where task T
    left it. Shared normalisation has springs, too, where it learns; a task's own never has. A subclass measures what
    importance is to it when a stage ends, and gives it to `hold`.
    """

    kept_as: ClassVar[str] = "importance"  # what importance is called in exports and in the footprint

    def __init__(self, network: Network, config: RunConfig, tasks: Sequence[LoadedTask]) -> None:
        super().__init__(network, config, tasks)
        self.importance: dict[int, ByName] = {}
        self.anchors: dict[int, ByName] = {}
        self.spring: Spring | None = None
        norm_learns = network.config.norm == "shared"
        self.weights: ByName = {
            name: weight
            for name, weight in network.trunk.named_parameters()
            if norm_learns or name not in network.norm_weights
        }

    @property
    def strength(self) -> float:
        """How stiff all springs are together, as set."""
        assert isinstance(self.run.method, HoldsBySprings)
        return self.run.method.strength

    def before_step(self, batch: Batch) -> None:
        """Add the springs' pull to the gradients, once there is an old task and the trunk moves."""
        if self.spring is not None and not batch.head_only:
            self.spring.pull(list(self.weights.values()))

    def further_terms(self, batch: Batch) -> dict[str, Tensor]:
        """The springs' energy, as the term `old tasks`."""
        if self.spring is None or batch.head_only:
            return {}
        return {"old tasks": self.spring.energy(list(self.weights.values()))}

    @torch.no_grad()
    def hold(self, stage: int, importance: ByName) -> None:
        """From now on, hold the weights where they are, each as firmly as it was important for the stage's task.

        Raises:
            OutOfProportion: Importance is not all finite; no spring is made of it.
        """
        require_proportion("importance", importance, largest=sys.float_info.max)
        self.importance[stage] = importance
        self.anchors[stage] = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.tie()

    @torch.no_grad()
    def tie(self) -> None:
        """Make one spring of all tasks' springs; none where no task was learnt yet."""
        self.spring = self.one_spring() if self.importance else None

    def one_spring(self) -> Spring:
        """The spring of the summed importance, at rest where the last task ended: its energy is λ Σ Ω (θ − θ*)²."""
        rows = list(self.importance.values())
        total = {name: torch.stack([row[name] for row in rows]).sum(0) for name in self.weights}
        return Spring.sum(2 * self.strength, [total], [self.anchors[max(self.anchors)]])

    def footprint(self) -> dict[str, int]:
        """Two trunks, however many tasks there are: the sum of what mattered, and the anchor of that sum."""
        kept = super().footprint()
        if self.spring is not None:
            kept |= {self.kept_as: count_bytes(self.spring.stiffness), "anchors": count_bytes(self.spring.rest)}
        return kept

    def state_dict(self) -> dict[str, Tensor]:
        """Importance and anchors of every task that is learnt, as `importance/T/NAME` and `anchor/T/NAME`."""
        return named(self.kept_as, self.importance) | named("anchor", self.anchors)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back importance and anchors in the weights' memory format and order, which a file does not keep."""
        self.importance, self.anchors = (
            {t: {n: like(w, row[n]) for n, w in self.weights.items()} for t, row in by_task(kind, state).items()}
            for kind in (self.kept_as, "anchor")
        )
        self.tie()
