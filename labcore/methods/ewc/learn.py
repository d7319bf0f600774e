"""Elastic weight consolidation: weights that mattered for old tasks are held by springs, and the others move freely.

Idea     After a task, measure how much its answers depend on each weight (the Fisher information, by which the
         posterior over weights is approximated around the learnt ones: the Laplace approximation). While later tasks
         are learnt, a spring as stiff as that pulls each weight back to where the task left it.
Formula  L = cross-entropy(new task) + λ/2 · Σ_tasks Σ_i F_i (θ_i − θ*_i)², over the weights of the trunk
         `online`: one spring in place of the sum, F̃ ← γ F̃ + F_new, anchored where the last task ended
Source   Kirkpatrick et al. 2017, arXiv 1612.00796, eq. 3; online: Schwarz et al. 2018, arXiv 1805.06370, §4.
         Per-image gradients and sampled labels, as the Fisher is defined: Kunstner et al., arXiv 1905.12558, eq. 3.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from labcore.configs.run import RunConfig
from labcore.methods.base import Method, by_task, named
from labcore.methods.ewc.about import EWCConfig
from labcore.methods.shared.springs import ByName, Spring
from labcore.networks.batches import Batch, LoadedTask, Stopped
from labcore.networks.fisher import fisher_diagonal
from labcore.networks.network import Network, count_bytes, like
from labcore.networks.streams import stream


class EWC(Method):
    """Fine-tuning, with a spring on every trunk weight that learns after stage 1.

    For every weight with a spring, `fisher[T]` holds how important it is for task T, and `anchors[T]` where task T left
    it. Shared normalisation has springs, too, where it learns; a task's own never has.
    """

    def __init__(self, network: Network, config: RunConfig, tasks: Sequence[LoadedTask]) -> None:
        super().__init__(network, config, tasks)
        self.fisher: dict[int, ByName] = {}
        self.anchors: dict[int, ByName] = {}
        self.spring: Spring | None = None
        norm_learns = network.config.norm == "shared"
        self.weights: ByName = {
            name: weight
            for name, weight in network.trunk.named_parameters()
            if norm_learns or name not in network.norm_weights
        }

    @property
    def config(self) -> EWCConfig:
        """The method's own settings."""
        assert isinstance(self.run.method, EWCConfig)
        return self.run.method

    # ---- the step ---------------------------------------------------------------------------------------------------

    def start_stage(self, stage: int) -> None:
        """Warn where SGD's steps would overshoot: it diverges once step size · stiffness exceeds 2."""
        if self.spring is None or self.run.training.optimizer != "sgd":
            return
        stiffest = max(float(value.max()) for value in self.spring.stiffness)
        rate = self.run.training.learning_rate
        if rate * stiffest > 1:
            importance = stiffest / self.config.strength
            self.warnings.append(
                f"method.strength {self.config.strength:g} times training.learning_rate {rate:g} times the largest "
                f"importance {importance:.3g} is above 1: SGD may overshoot and diverge. Choose a learning_rate below "
                f"{1 / stiffest:.2g}, a smaller strength, or adam."
            )

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The term `new task`; once there is an old task and the trunk moves, also the springs' term `old tasks`."""
        terms = super().loss(batch)
        if self.spring is not None and not batch.head_only:
            terms["old tasks"] = self.spring.energy(list(self.weights.values()))
        return terms

    # ---- what is kept -----------------------------------------------------------------------------------------------

    def end_stage(self, stage: int) -> None:
        """Measure importance on some of the task's images, and remember where the weights are."""
        config, task = self.config, self.tasks[stage - 1]
        generator = stream(self.run.seed, stage, "fisher")
        chosen = torch.randperm(len(task.train), generator=generator)[: config.fisher_images].to(self.network.device)
        classifier = _Classifier(self, stage)
        diagonal = fisher_diagonal(
            classifier,
            self.network.trunk.normalise(task.train.images[chosen]),
            task.train.labels[chosen],
            kind=config.labels,
            generator=generator,
            names=[classifier.name_of(name) for name in self.weights],
        )
        self.fisher[stage] = {name: diagonal[classifier.name_of(name)] for name in self.weights}
        self.anchors[stage] = {name: weight.detach().clone() for name, weight in self.weights.items()}
        if not any(bool(value.any()) for value in self.fisher[stage].values()):
            self.warnings.append(
                f"All importance is zero after task {stage}: its answers do not depend on the trunk's weights, so EWC "
                "protects none of them. The network may be dead: try a smaller training.learning_rate."
            )
        self._tie()

    @torch.no_grad()
    def _tie(self) -> None:
        """Make one spring of all tasks' springs: their sum, or with `online` the running one."""
        if not self.fisher:
            self.spring = None
            return
        if self.config.variant == "separate":
            self.spring = Spring.sum(self.config.strength, list(self.fisher.values()), list(self.anchors.values()))
            return
        running: ByName = {}
        for diagonal in self.fisher.values():
            running = {
                name: value + self.config.decay * running[name] if running else value
                for name, value in diagonal.items()
            }
        last = max(self.anchors)
        self.spring = Spring.sum(self.config.strength, [running], [self.anchors[last]])

    def fisher_of(self, task: int) -> tuple[ByName, int] | None:
        """What `end_stage` has measured, so that maps show the importance that the springs go by."""
        if task not in self.fisher:
            return None
        return self.fisher[task], min(self.config.fisher_images, len(self.tasks[task - 1].train))

    def footprint(self) -> dict[str, int]:
        """Two trunks, however many tasks there are: the sum of the Fisher diagonals, and the anchor of that sum."""
        kept = super().footprint()
        if self.spring is not None:
            kept |= {"fisher": count_bytes(self.spring.stiffness), "anchors": count_bytes(self.spring.rest)}
        return kept

    def state_dict(self) -> dict[str, Tensor]:
        """Importance and anchors of every task that is learnt, as `fisher/T/NAME` and `anchor/T/NAME`."""
        return named("fisher", self.fisher) | named("anchor", self.anchors)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back importance and anchors in the weights' memory format and order, which a file does not keep."""
        self.fisher, self.anchors = (
            {t: {n: like(w, row[n]) for n, w in self.weights.items()} for t, row in by_task(kind, state).items()}
            for kind in ("fisher", "anchor")
        )
        self._tie()


class _Classifier(nn.Module):
    """Trunk and head of one task as an ordinary classifier, which maps normalised images to logits.

    A forward raises Stopped once the method should stop.
    """

    def __init__(self, method: Method, task: int) -> None:
        super().__init__()
        self.network, self.task = method.network, task
        self.overlay = method.overlay(task)
        self.should_stop = method.should_stop

    def name_of(self, weight: str) -> str:
        """The name that a trunk's weight has in this module."""
        return f"network.trunk.{weight}"

    def forward(self, x: Tensor) -> Tensor:
        if self.should_stop():
            raise Stopped
        return self.network.logits(x, self.task, self.overlay)
