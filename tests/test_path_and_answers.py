"""SI and MAS by hand: the path integral and the answers' sensitivity, and the springs that both make of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from labcore.configs.run import RunConfig
from labcore.drawings.inside import registry
from labcore.methods.load import learner
from labcore.methods.mas.learn import MAS, sensitivity
from labcore.methods.si.learn import SI, importance_of
from labcore.networks.batches import Batch, load_task
from labcore.networks.network import Network
from labcore.runs.events import RunEnded, StageEnded, StepLogged
from labcore.runs.map_files import MapFile
from labcore.runs.moments import Book, view
from labcore.runs.results import fold
from labcore.runs.stage_cache import StageCache
from labcore.runs.store import Store
from labcore.training import loop, worker
from tests.conftest import tiny

ByName = dict[str, Tensor]
CPU = torch.device("cpu")


def begin(method: dict[str, Any], images: int = 10) -> Any:
    """A method on a network that has seen two tasks, `images` a class, and learnt nothing; in float64."""
    tasks = [{"name": name, "images_per_class": images} for name in ("digits:0-3", "fashion:0-2")]
    config = tiny(method["name"], method=method, backbone__name="mlp", tasks=tasks)
    network = Network(config.backbone, config.seed, CPU)
    loaded = [load_task(k, task, 16, None, CPU) for k, task in enumerate(config.tasks, 1)]
    for task in loaded:
        network.add_task(task.position, len(task.info.classes))
    network.double()
    return learner(config.method.name)(network, config, loaded)


def batch_of(method: Any, task: int) -> Batch:
    """All images of a task as one batch."""
    pictures = method.tasks[task - 1].train
    inputs = method.network.trunk.normalise(pictures.images).double()
    count = len(pictures)
    return Batch(inputs, pictures.labels, 0, task, torch.full((count,), task), torch.arange(count), False)


def learn(method: Any, task: int, steps: int, rate: float) -> list[float]:
    """Plain gradient descent of the trunk, by the method's hooks; gives the task's own loss, step by step."""
    batch, losses = batch_of(method, task), []
    method.start_stage(task)
    for _ in range(steps):
        for weight in method.weights.values():
            weight.grad = None
        terms = method.loss(batch)
        losses.append(float(terms["new task"].detach()))
        sum(terms.values()).backward()
        with torch.no_grad():
            method.before_step(batch)
            for weight in method.weights.values():
                weight -= rate * weight.grad
            method.after_step(batch)
    return [*losses, float(method.loss(batch)["new task"].detach())]


def by_hand(
    method: Any, task: int, steps: int, rate: float, pulls: list[tuple[ByName, ByName]]
) -> tuple[ByName, ByName]:
    """The same descent on copies of the weights; `pulls` are springs: stiffness and rest. Gives ω and the weights."""
    batch, network = batch_of(method, task), method.network
    weights = {name: weight.detach().clone() for name, weight in method.weights.items()}
    path = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for _ in range(steps):
        leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
        loss = functional.cross_entropy(network.logits(batch.inputs, task, leaves), batch.labels)
        own = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        for name in weights:
            pull = sum((stiff[name] * (weights[name] - rest[name]) for stiff, rest in pulls), torch.tensor(0.0))
            after = weights[name] - rate * (own[name] + pull)
            path[name] -= own[name] * (after - weights[name])
            weights[name] = after
    return path, weights


def assert_close(found: ByName, expected: ByName, relative: float) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        scale = float(expected[name].abs().max())
        assert scale > 0, name
        assert float((found[name] - expected[name]).abs().max()) <= relative * scale, name


# ---- SI -------------------------------------------------------------------------------------------------------------


def test_importance_of_a_path_by_hand() -> None:
    path, move = torch.tensor([0.3, 0.3, -0.3, 0.0]), torch.tensor([0.5, 0.0, 0.5, 0.0])
    assert importance_of(path, move, 0.05).tolist() == pytest.approx([1.0, 6.0, 0.0, 0.0])


def test_the_path_is_that_of_the_task_s_loss_alone() -> None:
    si: SI = begin({"name": "si", "strength": 3.0, "damping": 1e-3})
    first_path, first = by_hand(si, 1, 20, 0.05, [])
    start = {name: weight.detach().clone() for name, weight in si.weights.items()}
    learn(si, 1, 20, 0.05)
    assert_close(si.path, first_path, 1e-12)
    si.end_stage(1)
    omega = {name: (first_path[name] / ((first[name] - start[name]) ** 2 + 1e-3)).clamp(min=0) for name in first}
    assert_close(si.importance[1], omega, 1e-10)
    assert_close(si.anchors[1], first, 1e-12)

    # In the second stage the step follows the springs too; the path must not.
    springs = [({name: 2 * 3.0 * omega[name] for name in omega}, first)]
    path, _ = by_hand(si, 2, 20, 0.02, springs)
    ignored, _ = by_hand(si, 2, 20, 0.02, [])
    learn(si, 2, 20, 0.02)
    assert_close(si.path, path, 1e-10)
    assert any(not torch.allclose(path[name], ignored[name], rtol=1e-3) for name in path), "the springs did something"


def test_the_path_adds_up_to_what_the_loss_fell_by() -> None:
    si: SI = begin({"name": "si"})
    losses = learn(si, 1, 300, 0.0005)
    drop = losses[0] - losses[-1]
    assert drop > 0.1
    assert sum(float(path.sum()) for path in si.path.values()) == pytest.approx(drop, rel=0.02)


def test_a_warming_head_leaves_no_trace_on_the_path() -> None:
    si: SI = begin({"name": "si"})
    si.start_stage(1)
    batch = batch_of(si, 1)
    head_only = Batch(batch.inputs, batch.labels, 0, 1, batch.tasks, batch.index, True)
    si.before_step(head_only)
    si.after_step(head_only)
    assert not any(bool(path.any()) for path in si.path.values())


def test_stage_one_trains_as_fine_tuning_does(tmp_path: Path) -> None:
    for name in ("fine_tuning", "si", "mas"):
        list(loop.train(tiny(name), stages=lambda k, name=name: tmp_path / name / str(k)))
    plain, *others = (load_file(tmp_path / name / "1/network.safetensors") for name in ("fine_tuning", "si", "mas"))
    for other in others:
        assert all(torch.equal(plain[name], other[name]) for name in plain)


def reused(store: Store, config: RunConfig) -> list[bool]:
    run = store.submit(config, device="cpu").run
    worker.run_claim(store.claim_run(run), "cpu", maps="none")
    return [event.reused for event in store.tail(run)[0] if isinstance(event, StageEnded)]


def test_which_runs_share_the_first_stage(store: Store) -> None:
    def of(**method: Any) -> RunConfig:
        return tiny(method["name"], method=method)

    assert StageCache(store).usage()[0] == 0
    assert reused(store, of(name="fine_tuning")) == [False, False]
    assert reused(store, of(name="mas", strength=1.0)) == [True, False]
    assert reused(store, of(name="mas", strength=2.0)) == [True, False]
    assert reused(store, of(name="si", strength=1.0)) == [False, False], "a network alone does not tell its path"
    assert reused(store, of(name="si", strength=2.0)) == [True, False]
    assert reused(store, of(name="si", damping=0.1)) == [False, False]


# ---- MAS ------------------------------------------------------------------------------------------------------------


def test_sensitivity_of_two_weights_by_hand() -> None:
    """f(x) = (a x₁, b x₂): ‖f‖² = a² x₁² + b² x₂², so |∂/∂a| = 2 |a| x₁². No image's sign cancels another's."""
    weights = {"a": torch.tensor(-3.0), "b": torch.tensor(0.5)}
    images = torch.tensor([[1.0, 2.0], [-2.0, 0.0]])
    found = sensitivity(lambda w, x: torch.stack([w["a"] * x[:, 0], w["b"] * x[:, 1]], 1), weights, images)
    assert {name: value.item() for name, value in found.items()} == {"a": (6 * 1 + 6 * 4) / 2, "b": (1 * 4 + 0) / 2}


def test_importance_is_a_loop_over_images() -> None:
    mas: MAS = begin({"name": "mas", "importance_images": 12})
    mas.network.trunk.normalise = doubled(mas.network.trunk.normalise)
    mas.end_stage(1)
    order = torch.randperm(len(mas.tasks[0].train), generator=mas.draws(1))[:12]
    inputs = mas.network.trunk.normalise(mas.tasks[0].train.images[order])
    sums = {name: torch.zeros_like(weight) for name, weight in mas.weights.items()}
    for x in inputs:
        mas.network.zero_grad()
        for weight in mas.weights.values():
            weight.requires_grad_(True)
        (mas.network.heads["1"](mas.network.trunk(x[None])) ** 2).sum().backward()
        for name, weight in mas.weights.items():
            sums[name] += weight.grad.abs()
    assert_close(mas.importance[1], {name: value / 12 for name, value in sums.items()}, 1e-12)


def doubled(normalise: Any) -> Any:
    return lambda images: normalise(images).double()


def test_measuring_leaves_gradients_and_flags_alone() -> None:
    mas: MAS = begin({"name": "mas", "importance_images": 3})
    mas.network.trunk.normalise = doubled(mas.network.trunk.normalise)
    weight = next(iter(mas.weights.values())).requires_grad_(False)
    weight.grad = torch.ones_like(weight)
    mas.end_stage(1)
    assert not weight.requires_grad
    assert torch.equal(weight.grad, torch.ones_like(weight))


# ---- the springs of both --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["si", "mas"])
def test_springs_hold_the_sum_of_importance_where_the_last_task_ended(name: str) -> None:
    method = begin({"name": name, "strength": 0.7})
    generator = torch.Generator().manual_seed(0)

    def drawn() -> ByName:
        return {n: torch.rand(w.shape, generator=generator, dtype=w.dtype) for n, w in method.weights.items()}

    importance, anchors = {1: drawn(), 2: drawn()}, {1: drawn(), 2: drawn()}
    state = {f"importance/{t}/{n}": v for t, row in importance.items() for n, v in row.items()}
    method.load_state_dict(state | {f"anchor/{t}/{n}": v for t, row in anchors.items() for n, v in row.items()})
    energy = sum(
        0.7 * (sum(importance[t][n] for t in (1, 2)) * (w - anchors[2][n]) ** 2).sum()
        for n, w in method.weights.items()
    )
    assert method.further_terms(batch_of(method, 2))["old tasks"].item() == pytest.approx(energy.item(), rel=1e-12)


@pytest.mark.parametrize(("name", "strong"), [("si", 1e5), ("mas", 1e5)])
def test_strong_springs_hold_the_old_task(name: str, strong: float) -> None:
    def trained(strength: float) -> list[Any]:
        method = {"name": name, "strength": strength}
        tasks = [{"name": task, "images_per_class": 40} for task in ("digits:0-2", "fashion:0-2")]
        return list(loop.train(tiny(name, method=method, tasks=tasks, training__epochs=4)))

    def moved(events: list[Any]) -> float:
        return max(event.loss.get("old tasks", 0.0) for event in events if isinstance(event, StepLogged))

    free, held = trained(0.0), trained(strong)
    assert isinstance(held[-1], RunEnded)
    assert held[-1].state == "complete"
    assert moved(free) == 0
    assert moved(held) > 0


# ---- what they show inside ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind", "live"), [("si", "path", True), ("mas", "answers", False)])
def test_importance_is_a_kind_of_map(name: str, kind: str, live: bool, tmp_path: Path) -> None:
    events = list(loop.train(tiny(name), maps=tmp_path, stages=lambda k: tmp_path / "stages" / str(k)))
    story, book = fold(events), Book(tmp_path)
    shown = registry.kinds()[kind]
    assert shown in registry.kinds_of(book, story)
    assert not set(shown.needs) & {
        need for other in registry.kinds().values() if other != shown for need in other.needs
    }
    last = load_file(tmp_path / "stages/2/method.safetensors")
    seen = view(book, story, story.maps[-1])
    assert seen is not None
    info = shown.read(seen)
    mean = last["importance/2/block2.conv.weight"].mean().log10().item()
    assert info.values[1, [layer.name for layer in seen.layers].index("block2.conv")] == pytest.approx(mean, abs=1e-5)
    halfway = [moment for moment in story.maps if moment.stage == 1 and moment.kind == "live"][-1]
    assert (shown.needs[0] in MapFile(tmp_path / halfway.path)) == live
