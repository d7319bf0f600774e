"""One trunk and a head for each task (where asked, a normalisation too), behind one forward that takes an overlay.

Every tensor has the name that it has in an export: `trunk/NAME`, `heads/T/weight`, `norm/T/NAME` (T counts from 1).
An overlay maps trunk names to tensors that stand in for the live ones in one forward: a task's own normalisation,
masked or owned weights, a whole copy. The live tensors are never written for it, so measuring cannot change a network.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from labcore.configs.run import BackboneConfig
from labcore.networks import backbones
from labcore.networks.streams import stream
from labcore.networks.trunk import Trunk

Overlay = dict[str, Tensor]


class Network(nn.Module):
    """The network of a run.

    `norms[T]` holds scales, shifts and statistics of task T where normalisation is by task. `weights` is the file that
    a pretrained start is read from, for backbones whose weights are a download. The network is always in evaluation
    mode, even while it is trained, so that dropout never drops; `let_statistics_move` makes the one exception.
    """

    def __init__(self, config: BackboneConfig, seed: int, device: torch.device, weights: Path | None = None) -> None:
        super().__init__()
        self.config, self.seed, self.device, self.weights = config, seed, device, weights
        self.trunk = self._new_trunk()
        self.heads = nn.ModuleDict()
        self.norms: dict[int, dict[str, Tensor]] = {}
        self._moving: frozenset[int] = frozenset()
        layers = {name: module for name, module in self.trunk.named_modules() if isinstance(module, _BatchNorm)}
        self.norm_layers: dict[str, _BatchNorm] = layers
        self.norm_weights = frozenset(f"{name}.{part}" for name in layers for part in ("weight", "bias"))
        self.norm_statistics = frozenset(
            f"{name}.{part}" for name in layers for part in ("running_mean", "running_var", "num_batches_tracked")
        )

    def _new_trunk(self) -> Trunk:
        generator = stream(self.seed, "trunk")
        config = self.config
        trunk = backbones.build(config.name, config.start, config.image_size, generator, self.weights)
        trunk.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return trunk.eval()

    @torch.no_grad()
    def restart_trunk(self) -> None:
        """Put the trunk back to where the run started."""
        self.trunk.load_state_dict(self._new_trunk().state_dict())

    def add_task(self, task: int, classes: int) -> None:
        """Add a new head, and where normalisation is by task, a new one for the task.

        That of task 1 starts from the trunk's, that of any later task from task 1's.
        """
        head = nn.Linear(self.trunk.width, classes, device=self.device)
        bound = 1 / math.sqrt(self.trunk.width)
        with torch.no_grad():
            draw = torch.rand(head.weight.shape, generator=stream(self.seed, "head", task))
            head.weight.copy_((2 * draw - 1) * bound)
            head.bias.zero_()
        self.heads[str(task)] = head
        if self.config.norm_by_task:
            self.norms[task] = self.new_norm(self.norms[1] if task > 1 else self.trunk_norm())

    def trunk_norm(self) -> dict[str, Tensor]:
        """The trunk's own normalisation by name: its scales, shifts and statistics."""
        state = self.trunk.state_dict(keep_vars=True)
        return {name: state[name] for name in state if name in self.norm_weights or name in self.norm_statistics}

    def new_norm(self, source: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A copy of a normalisation, whose scales and shifts are ready to learn."""
        return {
            name: nn.Parameter(value.detach().clone()) if name in self.norm_weights else value.detach().clone()
            for name, value in source.items()
        }

    # -----------------------------------------------------------------------------------------------------------------

    def norm_overlay(self, task: int) -> Overlay:
        """A task's own normalisation, which takes the trunk's place; with `affine_per_task` it has no statistics."""
        own = self.norms.get(task, {})
        if self.config.norm == "affine_per_task":
            return {name: value for name, value in own.items() if name in self.norm_weights}
        return dict(own)

    def run_blocks(self, x: Tensor, overlay: Overlay, first: int = 0, last: int | None = None) -> Tensor:
        """Run blocks first…last−1 on normalised images [N, 3, H, W], or on what the block before made of them.

        Raises IndexError where there are no such blocks.
        """
        if not overlay:
            return self.trunk(x, first, last)  # type: ignore[no-any-return]
        return torch.func.functional_call(self.trunk, overlay, (x, first, last))  # type: ignore[no-any-return]

    def logits(self, x: Tensor, task: int, overlay: Overlay, first: int = 0) -> Tensor:
        """Class scores [N, classes of the task] by the task's own head. Raises KeyError for a task that has none."""
        return self.heads[str(task)](self.run_blocks(x, overlay, first))  # type: ignore[no-any-return]

    def let_statistics_move(self, blocks: Iterable[int]) -> None:
        """Normalise by the batch, and learn statistics from it, in these blocks; elsewhere by fixed statistics."""
        moving = frozenset(blocks)
        if moving == self._moving:  # every step asks; walking through all layers would cost more than a small step
            return
        self._moving = moving
        for name, layer in self.norm_layers.items():
            layer.train(self.trunk.block_of(f"{name}.weight") in moving)

    # -----------------------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """All that the network is made of, by export name."""
        found = {f"trunk/{name}": value for name, value in self.trunk.state_dict(keep_vars=True).items()}
        for task, head in self.heads.items():
            found |= {f"heads/{task}/{name}": value for name, value in head.named_parameters()}
        for number, norm in self.norms.items():
            found |= {f"norm/{number}/{name}": value for name, value in norm.items()}
        return found

    @torch.no_grad()
    def load_tensors(self, saved: Mapping[str, Tensor]) -> None:
        """Take over saved tensors, in place; the tasks must be the same.

        Raises KeyError where a tensor is missing, and RuntimeError where one has another shape.
        """
        for name, value in self.tensors().items():
            value.copy_(saved[name])

    def block_of(self, name: str) -> int | None:
        """The block that an export name (`trunk/…`, `norm/T/…`, a method's own) belongs to; None for heads.

        Raises KeyError for a name that belongs to no block.
        """
        return None if name.startswith("heads/") else self.trunk.block_of(name.rsplit("/", 1)[-1])


def count_bytes(tensors: Iterable[Tensor]) -> int:
    """How many bytes the tensors take in memory."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def like(template: Tensor, value: Tensor) -> Tensor:
    """`value` on the template's device and in its memory format, so that the same kernels give the same bits."""
    return torch.empty_like(template, requires_grad=False).copy_(value)
