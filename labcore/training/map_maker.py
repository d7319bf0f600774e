"""What is inside a run while it learns, measured in the worker: importance, drift, features, what a method shows.

A map never touches what it looks at: gradients are taken on a copy of the trunk, draws come from their own streams.
Every map speaks of weights *as a task sees them*: with a mask, only what it leaves on; with a copy, the task's own. So
where nothing that a task uses can move, its drift is 0, whatever happens to the rest of the network.

Importance       F_i = mean over images of (∂ log p(y|x) / ∂w_i)², y drawn from the model (Kirkpatrick et al. 2017,
                 arXiv 1612.00796); a weight that the task does not see has none
Drift            √(mean (w − w*)²) / √(mean w*²) over a layer's or a filter's weights, w* when the task was learnt; a
                 filter's is measured by its layer's weights too, so a layer's is the root mean square of its filters'
What it broke    ½ Σ F_i (w_i − w*_i)², the Laplace approximation's estimate of the task's extra loss, in nats
Representation   linear CKA ‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖) of centred features X before and Y after the stage (Kornblith et al.
                 2019, arXiv 1905.00414, eq. 4), by Gram matrices as there are fewer images than features

What the files hold is said in `labcore/runs/map_files.py`; what a method shows beside it, in the method's `maps.py`.
"""

import contextlib
import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from labcore.configs.looking import SEEN_JOBS, SEEN_MAPS, SEEN_PICTURES
from labcore.configs.run import RunConfig
from labcore.methods.base import Method
from labcore.networks.batches import LoadedTask, Stopped
from labcore.networks.fisher import fisher_diagonal
from labcore.networks.network import Network, count_bytes, like
from labcore.networks.proportion import require_proportion
from labcore.networks.streams import stream
from labcore.networks.trunk import Trunk
from labcore.runs import map_files, reductions
from labcore.runs.map_files import LARGEST_KEPT, IfNew, MapError, MapFile
from labcore.runs.reductions import FULL_SIDE, LIVE_SIDE
from labcore.training import feature_maps

ByName = dict[str, Tensor]

FULL_IMAGES = 100  # for importance at a stage's end
PROBES = 32  # validation images of each task whose features are compared


# ---------------------------------------------------------------------------------------------------------------------
# What is measured
# ---------------------------------------------------------------------------------------------------------------------


def rms(values: Tensor) -> float:
    """Root mean square."""
    return float(values.square().mean().sqrt())


def moved(now: Tensor, then: Tensor) -> tuple[Tensor, Tensor]:
    """How far weights moved, squared: of each weight [F, …], and the mean of each filter [F]."""
    squares = (now - then).square_().flatten(1)
    return squares, squares.mean(1)


def broke_of(importance: Tensor, squares: Tensor) -> Tensor:
    """½ Σ F (w − w*)² of each filter [F]: nats. `squares` are used up: these maps are many, and memory is slow."""
    return squares.mul_(importance.flatten(1)).sum(1) / 2


def gram(features: Tensor) -> Tensor:
    """The centred Gram matrix of features [N, …]: float32 [N, N], summed in float64."""
    rows = features.flatten(1).double()
    rows = rows - rows.mean(0)
    return (rows @ rows.T).float()


def cka(before: Tensor, after: Tensor) -> float:
    """Linear CKA of two centred Gram matrices: 1, the same but for rotation and scale; NaN, one is constant."""
    x, y = before.double(), after.double()
    norm = float((x.square().sum() * y.square().sum()).sqrt())
    return float((x * y).sum()) / norm if norm > 0 else float("nan")


# ---------------------------------------------------------------------------------------------------------------------
# Looking at a run
# ---------------------------------------------------------------------------------------------------------------------


class _Probe(nn.Module):
    """A copy of the network as one task sees it: an ordinary classifier, free to be differentiated."""

    def __init__(self, trunk: nn.Module, head: nn.Module, should_stop: Callable[[], bool]) -> None:
        super().__init__()
        self.trunk, self.head, self.should_stop = trunk, head, should_stop

    def forward(self, x: Tensor) -> Tensor:
        if self.should_stop():
            raise Stopped
        return self.head(self.trunk(x))  # type: ignore[no-any-return]


class MapMaker:
    """Makes and saves the maps of one run, whose network and method it only reads.

    `folder` is the run's; `stages(k)` has the arrays of earlier stages, from which it takes up what it needs to know
    of them when a run goes on. A path that it returns is in the run's folder, None where there was nothing to save.
    """

    def __init__(
        self,
        network: Network,
        method: Method,
        config: RunConfig,
        tasks: Sequence[LoadedTask],
        folder: Path,
        stages: Callable[[int], Path] | None,
        should_stop: Callable[[], bool],
    ) -> None:
        self.network, self.method, self.config, self.tasks = network, method, config, tasks
        self.folder, self.stages, self.should_stop = folder, stages, should_stop
        self.layers = reductions.layers_of(network.trunk, config.backbone.image_size)
        self._anchors: dict[int, ByName | None] = {}  # task → its weights when it was learnt; None: not known
        self._unkept: set[int] = set()  # tasks without because they would not have fitted
        self._scales: dict[int, list[float]] = {}  # task → root mean square of each layer's weights in `_anchors`
        self._fisher: dict[int, ByName] = {}
        self._grams: tuple[int, dict[int, list[Tensor]]] | None = None  # stage and, by task, those before it
        self._after: dict[int, list[Tensor]] = {}
        self._passing: dict[str, Any] = {}  # what the method showed just before it ended the stage
        self._trunk: Trunk | None = None
        self._channels: dict[int, np.ndarray] = {}  # task → which feature maps were kept when it was learnt
        self._said: dict[str, bytes] = {}  # by name, the state of what was saved last

    # ---- when -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def begin(self, stage: int) -> None:
        """Before a stage's first step: what features look like."""
        self.network.let_statistics_move([])
        grams = dict(self._after)
        if self._trunk_moves(stage):
            for task in self.tasks[:stage]:
                if task.position not in grams:
                    grams[task.position] = self._features(task)
        self._grams = stage, grams
        map_files.save(
            self._grams_path(stage),
            {f"gram/{task}.{block}": g.cpu().numpy() for task, row in grams.items() for block, g in enumerate(row)},
        )

    def live(self, stage: int, step: int, images: int) -> str:
        """At a live point: importance estimated on so few images, everything else as it is."""
        self.network.let_statistics_move([])
        return self._save(stage, step, "live", self._state(stage) | self._importance(stage, images, LIVE_SIDE))

    @torch.no_grad()
    def before_end(self, stage: int) -> None:
        """Just before a method ends a stage: what it shows only while one lasts is kept for the map of the end."""
        shown = self.method.maps(stage, self.layers)
        self._passing = {name: value for name, value in shown.items() if not isinstance(value, IfNew)}

    def end(self, stage: int, step: int) -> str:
        """When a task is learnt: everything in full. Remembers its weights and what matters to them."""
        self.network.let_statistics_move([])
        arrays = self._importance(stage, FULL_IMAGES, FULL_SIDE) | self._state(stage) | self._representation(stage)
        arrays |= self._feature_maps(stage)
        self._passing = {}
        self._remember(stage)
        return self._save(stage, step, "stage", arrays)

    # ---- importance -------------------------------------------------------------------------------------------------

    def _importance(self, stage: int, images: int, side: int) -> dict[str, Any]:
        full = images == FULL_IMAGES
        known = self._fisher_that_method_has(stage) if full else None
        found, images = known or (self._measured(stage, images), images)
        if full:
            require_proportion("importance", found, largest=sys.float_info.max)
            self._fisher[stage] = found
        tensors = {f"{name}.weight": values for name, values in found.items()}
        counted = {"images": min(images, len(self.tasks[stage - 1].train))}
        return reductions.magnitudes("importance", self.layers, tensors, side) | counted

    def _fisher_that_method_has(self, task: int) -> tuple[ByName, int] | None:
        """The Fisher diagonal by layer, and on how many images it rests, where the method has measured it already."""
        known = self.method.fisher_of(task)
        if known is None:
            return None
        diagonal, images = known
        return {layer.name: diagonal[f"{layer.name}.weight"] for layer in self.layers}, images

    def _measured(self, stage: int, images: int) -> ByName:
        """The Fisher diagonal of a task's weights as it sees them, by layer, on some of its training images."""
        with torch.no_grad():
            state = dict(self.network.trunk.state_dict())
            state |= self.method.fixed_overlay(stage)
        found = self._fisher_of(stage, images, state, self.network.heads[str(stage)])
        for name, mask in self.method.seen(stage).items():
            layer = name.removesuffix(".weight")
            if layer in found:
                found[layer] = torch.where(mask, found[layer], 0.0)
        return found

    def _fisher_of(self, stage: int, images: int, state: Mapping[str, Tensor], head: nn.Module) -> ByName:
        """The same of any state of the trunk, on a copy."""
        if self._trunk is None:
            self._trunk = copy.deepcopy(self.network.trunk).eval()
        task, generator = self.tasks[stage - 1], stream(self.config.seed, stage, "maps")
        chosen = torch.randperm(len(task.train), generator=generator)[:images].to(self.network.device)
        with torch.no_grad():
            for name, value in self._trunk.state_dict().items():
                value.copy_(state[name])
        probe = _Probe(self._trunk, copy.deepcopy(head), self.should_stop)
        names = [f"trunk.{layer.name}.weight" for layer in self.layers]
        pictures = self.network.trunk.normalise(task.train.images[chosen])
        diagonal = fisher_diagonal(probe, pictures, kind="sampled", generator=generator, names=names)
        return {layer.name: diagonal[f"trunk.{layer.name}.weight"] for layer in self.layers}

    # ---- drift ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _weights(self, task: int) -> ByName:
        """The weights of all layers, as the task sees them; the network's own, not copies, where it sees them as is."""
        overlay = self.method.overlay(task)
        own = dict(self.network.trunk.named_parameters())
        names = [f"{layer.name}.weight" for layer in self.layers]
        return {name.removesuffix(".weight"): overlay.get(name, own[name]).detach() for name in names}

    def _remember(self, stage: int) -> None:
        weights = self._weights(stage)
        if self._fits(stage, weights):
            self._anchors[stage] = {name: value.clone() for name, value in weights.items()}

    def _fits(self, task: int, weights: ByName) -> bool:
        """Whether a task's weights may be kept beside those of the others; if not, its importance goes, too."""
        kept = sum(count_bytes(row.values()) for row in [*self._anchors.values(), *self._fisher.values()] if row)
        if kept + count_bytes(weights.values()) <= LARGEST_KEPT:
            return True
        self._anchors[task] = None
        self._fisher.pop(task, None)
        self._unkept.add(task)
        return False

    def _recall(self, task: int) -> ByName | None:
        """The weights of an earlier task when it was learnt, and `_fisher` with what mattered to them.

        They are in memory, or where the run goes on after a break in the arrays of that stage.
        """
        if task in self._anchors:
            return self._anchors[task]
        self._anchors[task] = None
        overlay = self.method.overlay(task)
        if any(f"{layer.name}.weight" in overlay for layer in self.layers):
            # What a task sees through a mask, or a copy, is what it saw when it was learnt.
            self._remember(task)
            return self._anchors[task]
        path = self.stages(task) / "network.safetensors" if self.stages else None
        try:
            saved = load_file(path) if path else {}
            own = dict(self.network.trunk.state_dict())
            state = {name: like(value, saved[f"trunk/{name}"]) for name, value in own.items()}
            head = copy.deepcopy(self.network.heads[str(task)])
            head.load_state_dict({name: saved[f"heads/{task}/{name}"] for name in ("weight", "bias")})
            norm = {name: like(own[name], saved[f"norm/{task}/{name}"]) for name in self.network.norm_overlay(task)}
        except (OSError, SafetensorError, KeyError, RuntimeError):
            return None
        known = self._fisher_that_method_has(task)
        self._fisher[task] = known[0] if known else self._fisher_of(task, FULL_IMAGES, state | norm, head)
        weights = {layer.name: state[f"{layer.name}.weight"] for layer in self.layers}
        if self._fits(task, weights):
            self._anchors[task] = weights
        return self._anchors[task]

    def _drift(self, stage: int) -> dict[str, Any]:
        tasks = [task for task in range(1, stage) if self._recall(task) is not None]
        unkept = {"drift_unkept": sorted(self._unkept)} if self._unkept else {}
        if not tasks:
            return unkept
        count = len(self.layers)
        drift, broke = np.zeros((len(tasks), count)), np.zeros((len(tasks), count))
        by_filter: dict[str, list[np.ndarray]] = {}
        with torch.no_grad():
            for row, task in enumerate(tasks):
                now, then, fisher = self._weights(task), self._anchors[task], self._fisher.get(task)
                assert then is not None
                if task not in self._scales:
                    self._scales[task] = [max(rms(then[layer.name]), 1e-30) for layer in self.layers]
                for place, layer in enumerate(self.layers):
                    name, scale = layer.name, self._scales[task][place]
                    squares, means = moved(now[name], then[name])
                    drift[row, place] = float(means.mean()) ** 0.5 / scale
                    by_filter.setdefault(f"drift/{name}", []).append((means.sqrt() / scale).cpu().numpy())
                    extra = torch.zeros_like(means)  # what has not moved has broken nothing, known importance or not
                    if fisher is not None:
                        extra = broke_of(fisher[name], squares)
                    elif drift[row, place]:
                        extra = torch.full_like(means, torch.nan)
                    broke[row, place] = float(extra.sum())
                    by_filter.setdefault(f"broke/{name}", []).append(extra.cpu().numpy())
        found: dict[str, Any] = {"drift_tasks": tasks, "drift": drift, "broke": broke, **unkept}
        for kind in ("drift", "broke"):
            most = np.zeros((len(tasks), count))
            for place, layer in enumerate(self.layers):
                name = f"{kind}/{layer.name}"
                found[name], most[:, place] = map_files.encode_roots(np.stack(by_filter[name]))
            found[f"{kind}_most"] = most
        return found

    # ---- what the method shows itself -------------------------------------------------------------------------------

    @torch.no_grad()
    def _state(self, stage: int) -> dict[str, Any]:
        """All that is there without taking a gradient."""
        shown = self.method.maps(stage, self.layers)
        shown |= {name: value for name, value in self._passing.items() if name not in shown}
        return self._drift(stage) | self._news(shown)

    def _news(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Without those that are as they were when they were saved last."""
        found = {}
        for name, value in arrays.items():
            if not isinstance(value, IfNew):
                found[name] = value
            elif self._said.get(name) != value.state:
                self._said[name] = value.state
                found[name] = value.make()
        return found

    # ---- representation ---------------------------------------------------------------------------------------------

    def _trunk_moves(self, stage: int) -> bool:
        """Whether anything that the trunk computes can change in this stage."""
        method, network = self.method, self.network
        return any(
            method.moving_statistics(stage, phase)
            or any(network.block_of(name) is not None for name in method.trainable(stage, phase))
            for phase in method.phases(stage)
        )

    @torch.no_grad()
    def _features(self, task: LoadedTask) -> list[Tensor]:
        """Gram matrices of what each block makes of the task's probes, as the task sees the trunk."""
        x = self.network.trunk.normalise(task.validation.images[:PROBES])
        overlay, grams = self.method.overlay(task.position), []
        for block in range(len(self.network.trunk.block_names)):
            if self.should_stop():
                raise Stopped
            x = self.network.run_blocks(x, overlay, block, block + 1)
            grams.append(gram(x))
        return grams

    def _representation(self, stage: int) -> dict[str, Any]:
        blocks = self.network.trunk.block_names
        similar = np.full((stage, len(blocks)), np.nan)
        before = self._grams[1] if self._grams and self._grams[0] == stage else self._saved_grams(stage)
        before = before or dict(self._after)  # a stage taken from the cache did not begin here
        if not self._trunk_moves(stage):
            similar[:] = 1.0  # nothing that makes features has changed
            self._after = before
            return {"cka": similar, "block_names": list(blocks)}
        self._after = {task.position: self._features(task) for task in self.tasks[:stage]}
        for task, after in self._after.items():
            if task in before and len(before[task]) == len(blocks):
                similar[task - 1] = [cka(b.to(a), a) for b, a in zip(before[task], after, strict=True)]
        return {"cka": similar, "block_names": list(blocks)}

    def _grams_path(self, stage: int) -> Path:
        return self.folder / "maps" / str(stage) / "grams.npz"

    def _saved_grams(self, stage: int) -> dict[int, list[Tensor]]:
        """Those written down when the stage began, for a run that goes on within it."""
        found: dict[int, list[Tensor]] = {}
        try:
            opened = MapFile(self._grams_path(stage))
            for name in sorted(opened.names, key=lambda name: [int(part) for part in name[5:].split(".")]):
                found.setdefault(int(name[5:].split(".")[0]), []).append(torch.tensor(opened.read(name)))
        except (MapError, ValueError):
            return {}
        return found

    # ---- what blocks make of pictures -------------------------------------------------------------------------------

    def _feature_maps(self, stage: int) -> dict[str, Any]:
        """What each block makes of the first pictures of the first jobs: the same maps as when each job was learnt."""
        found: dict[str, Any] = {}
        for task in self.tasks[: min(stage, SEEN_JOBS)]:
            number = task.position
            chosen = self._kept_channels(number) if number < stage else None
            if chosen is None and number < stage:
                continue
            pictures = task.test.images[:SEEN_PICTURES]
            arrays = feature_maps.look(self.network, self.method.overlay(number), pictures, chosen, self.should_stop)
            self._channels[number] = arrays["seen_channels"]
            found["seen_sizes"] = arrays.pop("seen_sizes")
            found |= {f"{name}/{number}": value for name, value in arrays.items()}
        return found

    def _kept_channels(self, task: int) -> np.ndarray | None:
        """Which maps were kept when an earlier task was learnt: as remembered, or as its map says; None: not known."""
        if task not in self._channels:
            pictures = len(self.tasks[task - 1].test.images[:SEEN_PICTURES])
            for path in sorted((self.folder / "maps" / str(task)).glob("*-stage.npz")):
                with contextlib.suppress(MapError, KeyError):
                    found = MapFile(path).read(f"seen_channels/{task}")
                    if found.shape == (pictures, len(self.network.trunk.block_names), SEEN_MAPS):
                        self._channels[task] = found
        return self._channels.get(task)

    # ---- saving -----------------------------------------------------------------------------------------------------

    def _save(self, stage: int, step: int, kind: Any, arrays: dict[str, Any]) -> str:
        path = map_files.path_of(stage, step, kind)
        about = {
            "layers": [layer.name for layer in self.layers],
            "blocks": [layer.block for layer in self.layers],
            "shapes": [layer.shape for layer in self.layers],
            "sees": [layer.sees for layer in self.layers],
        }
        map_files.save(self.folder / path, map_files.facts(about | arrays))
        return path
