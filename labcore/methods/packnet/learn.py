"""PackNet: each task takes some of the weights for itself, and leaves those that it does not need to the next.

Idea     Learn a task with all weights that are free, prune those that came out smallest, learn once more with what is
         left, and freeze it. The next task learns with the pruned weights and uses the frozen ones as they are. A task
         is answered with the weights that were there when it was learnt: not a bit of it can change.
Formula  owner_i = k for the (1 − prune_ratio) largest |w_i| of a layer's weights that task k learnt, 0 for the others;
         task t sees w_i · [0 < owner_i ≤ t]
Source   Mallya & Lazebnik 2018, arXiv 1711.05769, §3. Pruning by rank in each layer: §3.1, after Han et al. 2015.

The article asks why pruned weights restart at zero (`freed_weights`) and why a task uses all earlier weights (`reuse`:
all of them, none, or a 0/1 choice that is learnt as Piggyback learns its masks).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labcore.configs.run import RunConfig
from labcore.methods.base import Mask, Phase, by_task, named
from labcore.methods.packnet.about import PackNetConfig
from labcore.methods.packnet.capacity import freed_of
from labcore.methods.shared.scored import Scored
from labcore.networks import masks
from labcore.networks.backbones import kaiming
from labcore.networks.batches import LoadedTask
from labcore.networks.network import Network, Overlay, count_bytes, like
from labcore.networks.streams import stream
from labcore.runs.map_files import MOST_SIDE, IfNew, Layer
from labcore.runs.reductions import block_majority, matrix


class PackNet(Scored):
    """Fine-tuning, with every weight owned by the task that learnt it.

    `owners[NAME]`, uint8 in the weight's shape, says which task a weight belongs to, 0 while it is free. With `reuse =
    learned` there are two more: while task T is learnt, `scores[NAME]` decide which earlier weights it uses, and
    afterwards `choices[T][NAME]` keep that choice as packed bits, one for each weight.
    """

    def __init__(self, network: Network, config: RunConfig, tasks: Sequence[LoadedTask]) -> None:
        super().__init__(network, config, tasks)
        self.owners = {name: torch.zeros_like(weight, dtype=torch.uint8) for name, weight in self.weights.items()}
        self.choices: dict[int, dict[str, Tensor]] = {}
        # Which weights each task sees. It is made again when owners change.
        self._seen: dict[int, dict[str, Tensor]] = {}

    @property
    def config(self) -> PackNetConfig:
        """The method's own settings."""
        assert isinstance(self.run.method, PackNetConfig)
        return self.run.method

    def prunes(self, stage: int) -> bool:
        """Whether the stage leaves weights to later ones; the last stage need not."""
        return self.config.prunes(stage, len(self.run.tasks))

    # ---- train → prune → retrain → freeze ---------------------------------------------------------------------------

    def phases(self, stage: int) -> Sequence[Phase]:
        """The phases of fine-tuning, and after pruning one more that retrains with what is left."""
        retrain = Phase("retrain", self.config.retrain_epochs)
        return [*super().phases(stage), *([retrain] if self.prunes(stage) and retrain.epochs else [])]

    @torch.no_grad()
    def start_stage(self, stage: int) -> None:
        """Give all free weights to the new task, until it is pruned."""
        generator = stream(self.run.seed, "freed", stage)
        for name, owner in self.owners.items():
            free, weight = owner == 0, self.weights[name]
            if stage > 1 and self.config.freed_weights == "zero":
                start = weight.new_zeros(())
                if self.config.reuse == "none":  # zeros above zeros would never learn, so it starts as a new net does
                    start = kaiming(weight.shape, generator).to(weight.device)
                weight.copy_(torch.where(free, start, weight))
            owner[free] = stage
        if self.config.reuse == "learned" and stage > 1:
            self.scores = {name: masks.new_scores(weight) for name, weight in self.weights.items()}
        self._seen = {}

    @torch.no_grad()
    def end_phase(self, stage: int, phase: Phase) -> None:
        """Prune: set the smallest of the task's own weights in each layer free."""
        if phase.name != "train" or not self.prunes(stage):
            return
        for name, owner in self.owners.items():
            freed = smallest(self.weights[name], owner == stage, self.config.prune_ratio)
            owner[freed] = 0
            if self.config.freed_weights == "zero":
                self.weights[name][freed] = 0.0
        self._seen = {}

    def end_stage(self, stage: int) -> None:
        """Freeze: from here on these weights have their owner for good. A learned choice is packed."""
        if self.scores:
            chosen = {name: score > masks.THRESHOLD for name, score in self.scores.items()}
            self.choices[stage] = {name: masks.pack(mask) for name, mask in chosen.items()}
            self.scores = {}
        self._seen = {}

    def trainable(self, stage: int, phase: Phase) -> dict[str, Mask]:
        """The task's own weights. Biases, and layers that are not pruned, learn only in stage 1."""
        found = super().trainable(stage, phase)
        if phase.head_only:
            return found
        for path in [path for path in found if path.startswith("trunk/")]:
            name = path.removeprefix("trunk/")
            if name in self.owners:
                own = self.owners[name] == stage
                found[path] = None if bool(own.all()) else own
            elif stage > 1 and name not in self.network.norm_weights:
                del found[path]
        return found | {f"scores/{name}": self._earlier(stage, name) for name in self.scores}

    # ---- what a task sees -------------------------------------------------------------------------------------------

    def overlay(self, task: int) -> Overlay:
        """The trunk's weights as the task sees them: those that it does not see are zero."""
        if task not in self._seen:
            self._seen[task] = self._look(task)
        found = super().overlay(task)
        for name, mask in self._seen[task].items():
            found[name] = torch.where(mask, self.weights[name], 0.0)
        if self.scores and task == len(self.tasks):
            for name, weight in self.weights.items():
                chosen = masks.keep(weight, self.scores[name], masks.THRESHOLD)
                found[name] = torch.where(self._earlier(task, name), chosen, found.get(name, weight))
        return found

    @torch.no_grad()
    def seen(self, task: int) -> dict[str, Tensor]:
        """The task's own weights, and those of earlier tasks that it uses."""
        seen = self._look(task)
        if self.scores and task == len(self.tasks):
            for name, score in self.scores.items():
                dropped = self._earlier(task, name) & (score <= masks.THRESHOLD)
                seen[name] = seen.get(name, torch.ones_like(dropped)) & ~dropped
        return seen

    def _look(self, task: int) -> dict[str, Tensor]:
        """Which weights the task sees, where that is not all of them. It is kept, because every step asks for it."""
        seen = {}
        for name, owner in self.owners.items():
            mask = owner == task
            if task in self.choices:
                mask |= self._earlier(task, name) & masks.unpack(self.choices[task][name], mask)
            elif self.config.reuse != "none":
                mask |= self._earlier(task, name)
            if not bool(mask.all()):
                seen[name] = mask
        return seen

    def _earlier(self, task: int, name: str) -> Tensor:
        return (self.owners[name] > 0) & (self.owners[name] < task)

    # ---- what it shows inside ---------------------------------------------------------------------------------------

    def maps(self, stage: int, layers: Sequence[Layer]) -> dict[str, Any]:
        """Who owns the weights, as maps.py describes. A layer is drawn anew only where its counts have changed."""
        counts = np.full((len(layers), 1 + len(self.run.tasks)), -1)
        pictures = {}
        for place, layer in enumerate(layers):
            owner = self.owners.get(f"{layer.name}.weight")
            if owner is not None:
                counts[place] = torch.bincount(owner.flatten(), minlength=counts.shape[1]).cpu().numpy()
                pictures[f"owner/{layer.name}"] = IfNew(counts[place].tobytes(), partial(_drawn, owner))
        return {"owners": counts, **pictures}

    # ---- what is kept -----------------------------------------------------------------------------------------------

    def footprint(self) -> dict[str, int]:
        """A byte for each weight's owner; with learned reuse also a bit for each weight and each task that chose."""
        kept = super().footprint() | {"owners": count_bytes(self.owners.values())}
        if self.choices:
            kept["choices"] = sum(count_bytes(choice.values()) for choice in self.choices.values())
        return kept

    def state_dict(self) -> dict[str, Tensor]:
        """The owners as `owner/NAME`, and with learned reuse the choices as packed bits `choice/T/NAME`."""
        return {f"owner/{name}": owner for name, owner in self.owners.items()} | named("choice", self.choices)

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back owners and choices."""
        device = self.network.device
        self.owners = {name: like(owner, state[f"owner/{name}"]) for name, owner in self.owners.items()}
        choices = by_task("choice", state)
        self.choices = {t: {n: bits.to(device) for n, bits in row.items()} for t, row in choices.items()}
        self.scores, self._seen = {}, {}


def smallest(weight: Tensor, own: Tensor, ratio: float) -> Tensor:
    """Which weights are the smallest of those where `own` is true, as a bool tensor in their shape.

    They are the share `ratio` of smallest |w|, taken by rank: exactly that many even where values are equal, in which
    case the earlier ones in row-major order go first.
    """
    places = own.flatten().nonzero().squeeze(1)
    order = weight.detach().flatten()[places].abs().argsort(stable=True)
    freed = torch.zeros(own.numel(), dtype=torch.bool, device=own.device)
    freed[places[order[: freed_of(len(places), ratio)]]] = True
    return freed.view(own.shape)


def _drawn(owner: Tensor) -> np.ndarray:
    """A layer's owners, brought down to as many pixels as a map shows."""
    return np.asarray(block_majority(matrix(owner), MOST_SIDE).cpu().numpy())
