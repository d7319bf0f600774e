"""What is inside a run while it learns, measured in the worker: importance, drift, owners, masks, features.

A map never touches what it looks at: gradients are taken on a copy of the trunk, draws come from their own streams.
Every map speaks of weights *as a task sees them*: with a mask, only what it leaves on; with a copy, the task's own. So
where nothing that a task uses can move, its drift is 0, whatever happens to the rest of the network.

Importance       F_i = mean over images of (∂ log p(y|x) / ∂w_i)², y drawn from the model (Kirkpatrick et al. 2017,
                 arXiv 1612.00796); a weight that the task does not see has none
Drift            √(mean (w − w*)²) / √(mean w*²) over a layer's or a filter's weights, w* when the task was learnt; a
                 filter's is measured by its layer's weights too, so a layer's is the root mean square of its filters'
What it broke    ½ Σ F_i (w_i − w*_i)², the Laplace approximation's estimate of the task's extra loss, in nats
Owners, masks    counted
Representation   linear CKA ‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖) of centred features X before and Y after the stage (Kornblith et al.
                 2019, arXiv 1905.00414, eq. 4), by Gram matrices as there are fewer images than features

What the files hold is said in `labcore/runs/map_files.py`.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from labcore.configs.run import RunConfig
from labcore.methods.base import Method
from labcore.methods.ewc import EWC
from labcore.methods.packnet import PackNet
from labcore.methods.piggyback import Piggyback
from labcore.networks.batches import LoadedTask, Stopped
from labcore.networks.fisher import fisher_diagonal
from labcore.networks.network import Network, count_bytes, like
from labcore.networks.streams import stream
from labcore.networks.trunk import Trunk
from labcore.runs import map_files
from labcore.runs.map_files import LARGEST_KEPT, MOST_SIDE, Layer, MapError, MapFile

ByName = dict[str, Tensor]

FULL_IMAGES = 100  # for importance at a stage's end
LIVE_IMAGES = 32  # for its estimate before
PROBES = 32  # validation images of each task whose features are compared
# The longer side of an importance map, at a stage's end and before.
FULL_SIDE, LIVE_SIDE = 256, 96
SCORE_BINS = 60


# ---------------------------------------------------------------------------------------------------------------------
# From tensors to arrays
# ---------------------------------------------------------------------------------------------------------------------


def layers_of(trunk: Trunk) -> list[Layer]:
    """The trunk's convolutions and linear layers, in the order of the data."""
    found = []
    for name, module in trunk.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            shape = (*module.weight.shape, 1, 1)[:4]
            found.append(Layer(name, trunk.block_names[trunk.block_of(f"{name}.weight")], shape))
    return sorted(found, key=lambda layer: trunk.block_names.index(layer.block))


def matrix(weight: Tensor) -> Tensor:
    """A weight as rows of filters and columns of inputs times places of the kernel."""
    return weight.detach().reshape(len(weight), -1)


def importance_matrix(values: Tensor) -> Tensor:
    """Filters × inputs, the mean over the places of the kernel; where a filter has few inputs, the places apart."""
    if values.ndim == 4 and values.shape[1] > 4 and values.shape[2:] != (1, 1):
        return values.detach().mean((2, 3))
    return matrix(values)


def block_mean(values: Tensor, most: int) -> Tensor:
    """The mean of as many rows and columns as a pixel stands for; at the edges, of those that there are."""
    size = map_files.factors(len(values), values.shape[1], most)
    if size == (1, 1):
        return values.float()
    return nn.functional.avg_pool2d(values[None].float(), size, ceil_mode=True, count_include_pad=False)[0]


def block_majority(owners: Tensor, most: int) -> Tensor:
    """The owner of most of a pixel's weights; of equals, the one with the smaller number. uint8 in and out."""
    rows, columns = map_files.factors(len(owners), owners.shape[1], most)
    if (rows, columns) == (1, 1):
        return owners
    # Place by place of a pixel: in whole numbers, many times quicker than means of each owner's share.
    places = [owners[row::rows, column::columns] for row in range(rows) for column in range(columns)]
    counts = torch.zeros((int(owners.max()) + 1, *places[0].shape), dtype=torch.int32, device=owners.device)
    for owner, count in enumerate(counts):
        for place in places:
            count[: len(place), : place.shape[1]] += place == owner
    return counts.argmax(0).to(torch.uint8)  # the first of equals


def share_codes(mask: Tensor, most: int) -> np.ndarray:
    """Share of a pixel's weights that are on, uint8, 255 all."""
    return (block_mean(mask, most) * 255).round().to(torch.uint8).cpu().numpy()


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


def count_on(mask: np.ndarray) -> int:
    """How many bits of a packed mask are on."""
    return int(np.bitwise_count(mask).sum())


def jaccard(shared: int, either: int) -> float:
    """Shared over all, of two masks; two that leave nothing on are alike."""
    return shared / either if either else 1.0


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
        self.layers = layers_of(network.trunk)
        self._anchors: dict[int, ByName | None] = {}  # task → its weights when it was learnt; None: not known
        self._unkept: set[int] = set()  # tasks without because they would not have fitted
        self._scales: dict[int, list[float]] = {}  # task → root mean square of each layer's weights in `_anchors`
        self._fisher: dict[int, ByName] = {}
        self._grams: tuple[int, dict[int, list[Tensor]]] | None = None  # stage and, by task, those before it
        self._after: dict[int, list[Tensor]] = {}
        self._last_scores: dict[str, Any] = {}
        self._trunk: Trunk | None = None
        self._said: dict[str, bytes] = {}

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

    def live(self, stage: int, step: int) -> str:
        """At a live point: importance estimated on a few images, everything else as it is."""
        self.network.let_statistics_move([])
        return self._save(stage, step, "live", self._state(stage) | self._importance(stage, LIVE_IMAGES, LIVE_SIDE))

    def before_end(self, stage: int) -> None:
        """Just before a method ends a stage: its scores will be gone."""
        self._last_scores = self._score_histogram()

    def end(self, stage: int, step: int) -> str:
        """When a task is learnt: everything in full. Remembers its weights and what matters to them."""
        self.network.let_statistics_move([])
        arrays = self._importance(stage, FULL_IMAGES, FULL_SIDE) | self._state(stage) | self._representation(stage)
        self._remember(stage)
        return self._save(stage, step, "stage", arrays)

    # ---- importance -------------------------------------------------------------------------------------------------

    def _importance(self, stage: int, images: int, side: int) -> dict[str, Any]:
        full = images == FULL_IMAGES
        if full and isinstance(self.method, EWC) and stage in self.method.fisher:
            found = {layer.name: self.method.fisher[stage][f"{layer.name}.weight"] for layer in self.layers}
            images = min(self.method.config.fisher_images, len(self.tasks[stage - 1].train))
        else:
            found = self._measured(stage, images)
        if full:
            self._fisher[stage] = found
        grids = {
            layer.name: block_mean(importance_matrix(found[layer.name]), side).cpu().numpy() for layer in self.layers
        }
        span = map_files.range_of(max(float(grid.max()) for grid in grids.values()))
        return {
            "importance": [float(found[layer.name].mean()) for layer in self.layers],
            "images": min(images, len(self.tasks[stage - 1].train)),
            "importance_range": span,
            **{f"importance/{name}": map_files.encode(grid, span) for name, grid in grids.items()},
        }

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
        if isinstance(self.method, EWC) and task in self.method.fisher:
            self._fisher[task] = {la.name: self.method.fisher[task][f"{la.name}.weight"] for la in self.layers}
        else:
            self._fisher[task] = self._fisher_of(task, FULL_IMAGES, state | norm, head)
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
        stacked = {name: np.stack(rows) for name, rows in by_filter.items()}
        return {"drift_tasks": tasks, "drift": drift, "broke": broke, **stacked, **unkept}

    # ---- the methods' own -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _state(self, stage: int) -> dict[str, Any]:
        """All that is there without taking a gradient."""
        return self._drift(stage) | self._owners() | self._masks(stage)

    def _owners(self) -> dict[str, Any]:
        if not isinstance(self.method, PackNet):
            return {}
        tasks = len(self.config.tasks)
        counts = np.full((len(self.layers), 1 + tasks), -1)
        pictures = {}
        for place, layer in enumerate(self.layers):
            owner = self.method.owners.get(f"{layer.name}.weight")
            if owner is not None:
                counts[place] = torch.bincount(owner.flatten(), minlength=1 + tasks).cpu().numpy()
                if self._is_news(f"owner/{layer.name}", counts[place].tobytes()):
                    pictures[f"owner/{layer.name}"] = block_majority(matrix(owner), MOST_SIDE).cpu().numpy()
        return {"owners": counts, **pictures}

    def _masks(self, stage: int) -> dict[str, Any]:
        if not isinstance(self.method, Piggyback):
            return {}
        method, count = self.method, len(self.layers)
        packed = {task: {name: bits.cpu().numpy() for name, bits in row.items()} for task, row in method.masks.items()}
        found: dict[str, Any] = {}
        seen = method.seen(stage) if stage not in packed else {}
        if seen:
            packed[stage] = {name: np.packbits(mask.cpu().contiguous().numpy()) for name, mask in seen.items()}
        elif stage not in packed:
            return {}
        density = np.full((stage, count), np.nan)
        by_layer = np.full((count, stage, stage), np.nan)
        whole = np.full((stage, stage), np.nan)
        pairs = list(combinations_with_replacement(sorted(packed), 2))
        sums = {pair: [0, 0] for pair in pairs}  # what both leave on, and what either does, over all layers
        for place, layer in enumerate(self.layers):
            name = f"{layer.name}.weight"
            if name not in method.weights:
                continue
            on = {task: count_on(row[name]) for task, row in packed.items()}
            for task, count_of_task in on.items():
                density[task - 1, place] = count_of_task / layer.weights
            for a, b in pairs:
                shared = on[a] if a == b else count_on(packed[a][name] & packed[b][name])
                either = on[a] + on[b] - shared
                by_layer[place, [a - 1, b - 1], [b - 1, a - 1]] = jaccard(shared, either)
                sums[a, b][0] += shared
                sums[a, b][1] += either
            if self._is_news(f"mask/{stage}/{layer.name}", packed[stage][name].tobytes()):
                flat = np.unpackbits(packed[stage][name], count=layer.weights).astype(bool)
                grid = torch.from_numpy(flat).view(layer.shape[0], -1)
                found[f"mask/{layer.name}"] = share_codes(grid, MOST_SIDE)
        for (a, b), (shared, either) in sums.items():
            whole[[a - 1, b - 1], [b - 1, a - 1]] = jaccard(shared, either)
        found |= {"density": density, "jaccard": whole, "jaccard_layers": by_layer}
        return found | (self._score_histogram() or self._last_scores)

    def _score_histogram(self) -> dict[str, Any]:
        """How many scores lie where, from well below the threshold to above their start; the ends hold the rest."""
        if not isinstance(self.method, Piggyback) or not self.method.scores:
            return {}
        begin, threshold = self.method.config.initial_score, self.method.config.threshold
        reach = begin - threshold
        edges = torch.linspace(threshold - 2 * reach, begin + 2 * reach, SCORE_BINS + 1)
        counts = np.zeros((len(self.layers), SCORE_BINS), np.int32)
        for place, layer in enumerate(self.layers):
            scores = self.method.scores.get(f"{layer.name}.weight")
            if scores is not None:
                kept = scores.detach().float().clamp(float(edges[0]), float(edges[-1]))
                low, high = float(edges[0]), float(edges[-1])
                counts[place] = torch.histc(kept.cpu(), SCORE_BINS, low, high).int().numpy()
        return {"scores": counts, "score_edges": edges.numpy(), "threshold": threshold}

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

    # ---- saving -----------------------------------------------------------------------------------------------------

    def _is_news(self, name: str, content: bytes) -> bool:
        """Whether this is not what was saved last under the name."""
        news = self._said.get(name) != content
        self._said[name] = content
        return news

    def _save(self, stage: int, step: int, kind: Any, arrays: dict[str, Any]) -> str:
        path = map_files.path_of(stage, step, kind)
        about = {
            "layers": [layer.name for layer in self.layers],
            "blocks": [layer.block for layer in self.layers],
            "shapes": [layer.shape for layer in self.layers],
        }
        map_files.save(self.folder / path, map_files.facts(about | arrays))
        return path
