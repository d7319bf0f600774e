"""What PackNet and Piggyback share: layers that may be masked, and the scores through which a mask is learnt."""

from collections.abc import Sequence

import torch
from torch import Tensor

from labcore.configs.run import RunConfig
from labcore.methods.base import Method
from labcore.methods.shared.settings import MasksLayers
from labcore.networks import masks
from labcore.networks.batches import LoadedTask
from labcore.networks.network import Network, count_bytes, like


class Scored(Method):
    """A method that learns masks by scores.

    `weights[NAME]` are the weights of layers that may be masked; `scores[NAME]` are there while a mask is being learnt.
    """

    def __init__(self, network: Network, config: RunConfig, tasks: Sequence[LoadedTask]) -> None:
        super().__init__(network, config, tasks)
        assert isinstance(config.method, MasksLayers)
        self.weights = masks.layers(network.trunk, config.method.depthwise)
        self.scores: dict[str, Tensor] = {}

    def score_learning_rate(self) -> float:
        """The step size of scores, before the schedule changes it."""
        return masks.LEARNING_RATE

    def learning_rate(self, name: str) -> float:
        """As by fine-tuning, but scores have a step size of their own."""
        return self.score_learning_rate() if name.startswith("scores/") else super().learning_rate(name)

    def working_footprint(self) -> dict[str, int]:
        """The bytes of the scores."""
        return {"scores": count_bytes(self.scores.values())} if self.scores else {}

    def own_tensors(self) -> dict[str, Tensor]:
        """The scores, as `scores/NAME`."""
        return {f"scores/{name}": score for name, score in self.scores.items()}

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """The state, and the scores."""
        return self.state_dict() | self.own_tensors()

    @torch.no_grad()
    def load_checkpoint_tensors(self, state: dict[str, Tensor]) -> None:
        """Take back the state and the scores."""
        self.load_state_dict(state)
        self.scores = {
            name: like(weight, state[f"scores/{name}"])
            for name, weight in self.weights.items()
            if f"scores/{name}" in state
        }
