"""Synaptic intelligence: a weight is held as firmly as it helped while the old task was learnt.

Idea     While a task is learnt, add up for each weight by how much its own moves lowered the loss: the path integral of
         the loss's gradient along the way that training took. Divided by how far the weight moved in all, squared, it
         is the stiffness of a spring that would have the same effect; the damping keeps that finite for a weight that
         hardly moved. While later tasks are learnt, these springs pull each weight back to where the last task left it.
Formula  ω_i = Σ_steps −g_i · Δθ_i,   g the gradient of the task's own loss, before any spring, Δθ what the step did
         Ω_i = Σ_tasks max(0, ω_i / ((θ_i(end) − θ_i(start))² + ξ))
         L = cross-entropy(new task) + c · Σ_i Ω_i (θ_i − θ*_i)²,   over the weights of the trunk
         θ* is where the last task ended
Source   Zenke, Poole, Ganguli 2017, arXiv 1703.04200, eq. 2 to 5.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from labcore.configs.run import RunConfig
from labcore.methods.shared.springs import ByName
from labcore.methods.shared.sprung import Sprung
from labcore.methods.si.about import SIConfig
from labcore.methods.si.maps import ARRAY
from labcore.networks.batches import Batch, LoadedTask
from labcore.networks.network import Network, count_bytes, like
from labcore.runs.map_files import Layer
from labcore.runs.reductions import magnitudes


class SI(Sprung):
    """Springs whose importance is what the weights' own moves did for the loss, along the way that training took.

    `path` is ω of the stage that is being learnt, `start` where its weights began.
    """

    def __init__(self, network: Network, config: RunConfig, tasks: Sequence[LoadedTask]) -> None:
        super().__init__(network, config, tasks)
        self.path: ByName = {}
        self.start: ByName = {}
        self._gradient: list[Tensor] = []  # of the task's loss, in the step that is under way
        self._before: list[Tensor] = []  # the weights before it

    @property
    def config(self) -> SIConfig:
        """The method's own settings."""
        assert isinstance(self.run.method, SIConfig)
        return self.run.method

    # ---- the step ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def start_stage(self, stage: int) -> None:
        """The path of this stage begins where the weights are now."""
        self.start = {name: weight.clone() for name, weight in self.weights.items()}
        self.path = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}

    def before_step(self, batch: Batch) -> None:
        """Note the weights, and the gradient of the task's loss alone, to which the springs' pull is added then."""
        if batch.head_only:
            return
        weights = list(self.weights.values())
        self._before = [weight.clone() for weight in weights]
        self._gradient = [torch.zeros_like(w) if w.grad is None else w.grad.clone() for w in weights]
        super().before_step(batch)

    def after_step(self, batch: Batch) -> None:
        """ω ← ω − g · Δθ, with what the step really did, momentum and weight decay included."""
        if batch.head_only:
            return
        change = torch._foreach_sub(list(self.weights.values()), self._before)
        torch._foreach_addcmul_(list(self.path.values()), self._gradient, change, value=-1)
        self._gradient, self._before = [], []

    # ---- what it shows inside ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def maps(self, stage: int, layers: Sequence[Layer]) -> dict[str, Any]:
        """Importance of the stage's task: as the path stands by now, or once the stage has ended as it is kept."""
        return magnitudes(ARRAY, layers, self.importance.get(stage) or self._importance_so_far())

    def _importance_so_far(self) -> ByName:
        return {
            name: importance_of(path, self.weights[name] - self.start[name], self.config.damping)
            for name, path in self.path.items()
        }

    # ---- what is kept -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def end_stage(self, stage: int) -> None:
        """Turn the path into importance, and hold the weights where they are."""
        self.hold(stage, self._importance_so_far())
        self.path, self.start = {}, {}

    def working_footprint(self) -> dict[str, int]:
        """The path and its start, and of a step its gradient and the weights before it."""
        return {"path": 4 * count_bytes(self.weights.values())}

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """The state, and in the middle of a stage its path and where that began: `path/NAME`, `start/NAME`."""
        parts = {"path": self.path, "start": self.start}
        return self.state_dict() | {f"{kind}/{n}": value for kind, row in parts.items() for n, value in row.items()}

    def load_checkpoint_tensors(self, state: dict[str, Tensor]) -> None:
        """Take back all of that."""
        self.load_state_dict(state)
        self.path, self.start = (
            {n: like(w, state[f"{kind}/{n}"]) for n, w in self.weights.items() if f"{kind}/{n}" in state}
            for kind in ("path", "start")
        )


def importance_of(path: Tensor, move: Tensor, damping: float) -> Tensor:
    """max(0, ω / (Δ² + ξ)): a weight whose moves raised the loss in all is not held. Pure: tested by hand."""
    return (path / (move.square() + damping)).clamp(min=0)
