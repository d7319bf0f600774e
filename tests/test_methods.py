"""Each method's mathematics, by hand and on paper."""

import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from labcore.configs.base import ConfigError
from labcore.configs.registry import METHODS
from labcore.configs.run import RunConfig
from labcore.methods.base import Method
from labcore.methods.ewc.learn import EWC
from labcore.methods.load import learner
from labcore.methods.lwf.learn import distillation
from labcore.methods.packnet import capacity
from labcore.methods.packnet.learn import PackNet, smallest
from labcore.methods.piggyback.learn import Piggyback
from labcore.methods.shared.springs import Spring
from labcore.networks import masks
from labcore.networks.batches import load_task
from labcore.networks.network import Network
from labcore.runs.events import Event, RunEnded, StepLogged, Warned
from labcore.runs.results import fold
from labcore.training import loop
from tests.conftest import tiny

pytestmark = pytest.mark.usefixtures("few_answers")
THREE = [{"name": name, "images_per_class": 40} for name in ("digits:0-2", "fashion:0-2", "digits:5-7")]


def begin(config: RunConfig) -> Any:
    """A method on a network that has seen its first task, nothing trained."""
    network = Network(config.backbone, config.seed, torch.device("cpu"))
    tasks = [load_task(1, config.tasks[0], config.backbone.image_size, None, torch.device("cpu"))]
    method: Method = learner(config.method.name)(network, config, tasks)
    network.add_task(1, len(tasks[0].info.classes))
    return method


def train(config: RunConfig, folder: Path | None = None) -> list[Event]:
    events = list(loop.train(config, stages=(lambda k: folder / str(k)) if folder else None))
    assert isinstance(events[-1], RunEnded)
    assert events[-1].state == "complete"
    return events


# ---- LwF ------------------------------------------------------------------------------------------------------------


def test_distillation_on_two_logits_by_hand() -> None:
    # Before: 3 to 1; now: even. At T = 2 the odds are their square roots.
    recorded, now = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
    p = math.sqrt(3) / (1 + math.sqrt(3))
    by_hand = 4 * (p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)))
    assert distillation(now, recorded, 2.0).item() == pytest.approx(by_hand, rel=1e-5)
    assert distillation(recorded, recorded, 2.0).item() == pytest.approx(0, abs=1e-7)
    # Its gradient is T (softmax(now/T) − softmax(recorded/T)), as Hinton et al. have it.
    now.requires_grad_(True)
    distillation(now, recorded, 2.0).backward()
    assert now.grad is not None
    assert now.grad[0].tolist() == pytest.approx([2 * (0.5 - p), -2 * (0.5 - p)], rel=1e-5)


@pytest.mark.parametrize("norm", ["frozen", "affine_per_task", "per_task"])
def test_recorded_outputs_follow_their_image(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first step of a stage nothing has moved: each image's answers are those recorded for it."""
    terms = []
    original = learner("lwf").loss

    def watched(self: Any, batch: Any) -> dict[str, Tensor]:
        found = original(self, batch)
        if "old tasks" in found:
            terms.append(found["old tasks"].item())
        return found

    monkeypatch.setattr(learner("lwf"), "loss", watched)
    train(tiny("lwf", backbone__norm=norm, training__head_warmup_epochs=1))
    assert terms[0] == pytest.approx(0, abs=1e-6)
    assert max(terms) > 1e-4


# ---- EWC ------------------------------------------------------------------------------------------------------------


def test_penalty_and_gradient_on_a_quadratic_by_hand() -> None:
    spring = Spring.sum(10.0, [{"w": torch.tensor([2.0, 0.0])}], [{"w": torch.tensor([1.0, 5.0])}])
    weight = torch.tensor([4.0, 7.0], requires_grad=True)
    assert spring.energy([weight]).item() == pytest.approx(10 / 2 * 2 * 3**2)
    spring.pull([weight])  # where the loss gave no gradient
    assert weight.grad is not None
    assert weight.grad.tolist() == [10 * 2 * 3, 0]
    spring.pull([weight])  # beside the gradient that is there
    assert weight.grad.tolist() == [2 * 10 * 2 * 3, 0]


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("away", [1.0, 1e-4, 0.0])
def test_one_spring_is_the_sum_over_tasks(away: float, scale: float) -> None:
    """Value and gradient, near the anchors too, where ΣFθ − ΣFθ* would cancel."""
    draw = torch.Generator().manual_seed(0)
    shapes = {"a": (8, 3, 3, 3), "b": (7,)}
    middle = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    fishers, anchors = [], []
    for _ in range(3):
        fishers.append({n: torch.randn(s, generator=draw).relu() ** 2 for n, s in shapes.items()})
        anchors.append({n: middle[n] + away * torch.randn(s, generator=draw) for n, s in shapes.items()})
    weights = {n: (middle[n] + away * torch.randn(s, generator=draw)).requires_grad_(True) for n, s in shapes.items()}
    spring = Spring.sum(scale * 7.0, fishers, anchors)
    energy = spring.energy(list(weights.values()))
    spring.pull(list(weights.values()))
    exact = {n: w.detach().double().requires_grad_(True) for n, w in weights.items()}
    plain = scale * sum(
        7.0 / 2 * (f[n].double() * (exact[n] - a[n].double()) ** 2).sum()
        for f, a in zip(fishers, anchors, strict=True)
        for n in shapes
    )
    assert isinstance(plain, Tensor)
    plain.backward()
    assert energy.item() == pytest.approx(plain.item(), rel=1e-4, abs=1e-9)
    for n in shapes:
        wanted, got = exact[n].grad, weights[n].grad
        assert wanted is not None
        assert got is not None
        # As exact as where the spring rests can be told in float32: to a last place of the weight.
        stiffness = scale * 7 * sum(f[n] for f in fishers)
        room = 1e-5 * wanted.abs() + stiffness * exact[n].detach().abs() * torch.finfo(torch.float32).eps
        assert bool(((got - wanted).abs() <= room).all())


def test_the_gradient_of_a_spring_is_that_of_its_energy() -> None:
    draw = torch.Generator().manual_seed(0)
    one = lambda: {"w": torch.rand(5, 2, generator=draw, dtype=torch.float64)}  # noqa: E731
    spring = Spring.sum(2.0, [one(), one()], [one(), one()])
    weight = one()["w"].requires_grad_(True)
    spring.pull([weight])
    for place in range(weight.numel()):
        step = torch.zeros(weight.numel(), dtype=torch.float64).index_fill_(0, torch.tensor(place), 1e-3).view(5, 2)
        slope = (spring.energy([weight + step]) - spring.energy([weight - step])) / 2e-3
        assert weight.grad is not None
        assert weight.grad.flatten()[place].item() == pytest.approx(slope.item(), rel=1e-9, abs=1e-12)
    assert spring.strain > 0


def test_online_springs_fade_and_follow() -> None:
    method = begin(tiny("ewc", method={"name": "ewc", "variant": "online", "decay": 0.5, "strength": 3.0}))
    assert isinstance(method, EWC)
    for task, (importance, place) in {1: (4.0, 1.0), 2: (2.0, 3.0)}.items():
        method.importance[task] = {name: torch.full_like(w, importance) for name, w in method.weights.items()}
        method.anchors[task] = {name: torch.full_like(w, place) for name, w in method.weights.items()}
    method.tie()
    assert method.spring is not None
    assert method.spring.stiffness[0].unique().tolist() == [3 * (0.5 * 4 + 2)]
    assert method.spring.rest[0].unique().tolist() == [3.0]
    assert method.spring.strain == 0


def test_no_spring_is_fine_tuning_bit_for_bit(tmp_path: Path) -> None:
    train(tiny("fine_tuning", tasks=THREE), tmp_path / "plain")
    train(tiny("ewc", tasks=THREE, method={"name": "ewc", "strength": 0.0}), tmp_path / "ewc")
    for stage in ("1", "2", "3"):
        plain = load_file(tmp_path / "plain" / stage / "network.safetensors")
        ewc = load_file(tmp_path / "ewc" / stage / "network.safetensors")
        assert plain.keys() == ewc.keys()
        assert all(torch.equal(plain[name], ewc[name]) for name in plain)


@pytest.mark.parametrize("method", ["ewc", "lwf"])
def test_the_first_task_is_learnt_as_by_fine_tuning_bit_for_bit(method: str, tmp_path: Path) -> None:
    train(tiny("fine_tuning"), tmp_path / "plain")
    train(tiny(method), tmp_path / "other")
    plain = load_file(tmp_path / "plain" / "1" / "network.safetensors")
    other = load_file(tmp_path / "other" / "1" / "network.safetensors")
    assert all(torch.equal(plain[name], other[name]) for name in plain)


def test_stiff_springs_hold_what_matters(tmp_path: Path) -> None:
    """The drift of weights, each by its importance, at λ = 1e6 is at most 5 % of that at λ = 0."""

    def drift(strength: float) -> float:
        folder = tmp_path / str(strength)
        train(tiny("ewc", tasks=THREE[:2], training__epochs=6, method={"name": "ewc", "strength": strength}), folder)
        kept = load_file(folder / "2" / "method.safetensors")
        found = 0.0
        for path in (path for path in kept if path.startswith("fisher/1/")):
            name = path.removeprefix("fisher/1/")
            moved = kept[f"anchor/2/{name}"] - kept[f"anchor/1/{name}"]
            found += float((kept[path] * moved**2).sum())
        return found

    loose, tight = drift(0.0), drift(1e6)
    assert loose > 0
    assert tight <= 0.05 * loose


def test_sgd_against_stiff_springs_is_warned_of() -> None:
    sgd = {**tiny().training.model_dump(), "optimizer": "sgd", "learning_rate": 0.02}

    def said(strength: float) -> list[str]:
        events = loop.train(tiny("ewc", training=sgd, method={"name": "ewc", "strength": strength}))
        return [event.text for event in events if isinstance(event, Warned)]

    assert said(1e-3) == []
    (warning,) = said(1e9)
    assert "learning_rate" in warning
    assert "diverge" in warning


def test_importance_of_a_dead_network_is_all_zero_and_told() -> None:
    method = begin(tiny("ewc", backbone__name="small_cnn_plain"))
    with torch.no_grad():
        dict(method.network.trunk.named_parameters())["block3.conv.bias"].fill_(-1e9)
    method.end_stage(1)
    assert "zero after task 1" in method.warnings[0]


# ---- PackNet --------------------------------------------------------------------------------------------------------


def test_pruning_is_by_rank_and_ties_go_in_order() -> None:
    weight = torch.tensor([[0.5, -0.1, 0.1], [0.1, 9.0, -0.05]])
    own = torch.tensor([[True, True, True], [True, False, True]])
    freed = smallest(weight, own, 0.6)  # of five: three
    assert freed.tolist() == [[False, True, True], [False, False, True]]
    assert smallest(weight, own, 0.1).sum() == 0
    assert smallest(weight, own, 0.99).sum() == 4, "one is always kept"


def test_pruning_does_not_see_how_a_layer_lies_in_memory() -> None:
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0)).mul(2).round()  # many ties
    own = torch.ones_like(weight, dtype=torch.bool)
    channels_last = weight.to(memory_format=torch.channels_last)
    assert torch.equal(
        smallest(weight, own, 0.5), smallest(channels_last, own.to(memory_format=torch.channels_last), 0.5)
    )


@pytest.mark.parametrize("freed", ["zero", "keep"])
def test_owners_after_three_tasks(freed: str, tmp_path: Path) -> None:
    method = {"name": "packnet", "prune_ratio": 0.6, "freed_weights": freed, "retrain_epochs": 1}
    train(tiny("packnet", tasks=THREE, method=method), tmp_path)
    final = load_file(tmp_path / "3" / "method.safetensors")
    network = load_file(tmp_path / "3" / "network.safetensors")
    for path, owner in final.items():
        weights = owner.numel()
        assert owner.dtype == torch.uint8
        for task in (1, 2, 3):
            left = capacity.freed_of(weights, 0.6)
            assert int((owner == task).sum()) == weights - left
            weights = left
        assert int((owner == 0).sum()) == weights
        pruned = network[path.replace("owner/", "trunk/")][owner == 0]
        assert bool((pruned == 0).all()) == (freed == "zero")
        # Once given, a weight stays its task's, and does not move.
        for stage in (1, 2):
            earlier = load_file(tmp_path / str(stage) / "method.safetensors")[path]
            taken = earlier > 0
            assert torch.equal(earlier[taken], owner[taken])
            before = load_file(tmp_path / str(stage) / "network.safetensors")[path.replace("owner/", "trunk/")]
            assert torch.equal(before[taken], network[path.replace("owner/", "trunk/")][taken])


def test_the_last_task_may_take_the_rest(tmp_path: Path) -> None:
    train(tiny("packnet", method={"name": "packnet", "prune_last": False}), tmp_path)
    owners = load_file(tmp_path / "2" / "method.safetensors")
    assert all(set(owner.unique().tolist()) == {1, 2} for owner in owners.values())


@pytest.mark.parametrize("reuse", ["all", "none", pytest.param("learned", marks=pytest.mark.heavy)])
def test_a_task_sees_what_reuse_says(reuse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[int, Tensor] = {}
    original = loop.Loop._measure

    def measured(self: Any, stage: int) -> Generator[Event, None, Any]:
        name = "block2.conv.weight"
        for task in self.learner.tasks:
            seen[task.position] = self.learner.method.fixed_overlay(task.position)[name] != 0
        seen[0] = self.learner.method.owners[name].clone()
        return (yield from original(self, stage))

    monkeypatch.setattr(loop.Loop, "_measure", measured)
    epochs = 8 if reuse == "learned" else 2  # until it has learnt what to take
    train(tiny("packnet", tasks=THREE, method={"name": "packnet", "reuse": reuse}, training__epochs=epochs))
    owner = seen[0]
    assert torch.equal(seen[1], owner == 1)
    assert bool(seen[2][owner == 2].all())
    assert not seen[2][(owner == 0) | (owner == 3)].any()
    share = float(seen[2][owner == 1].double().mean())
    assert share == {"all": 1.0, "none": 0.0}.get(reuse, share)
    assert share > 0 or reuse == "none"


def test_room_is_counted_in_whole_weights() -> None:
    assert capacity.freed_of(9, 0.5) == 4
    assert capacity.freed_of(1, 0.999999) == 0, "at least one is kept"
    assert capacity.tasks_that_fit(8, 0.5) == 4  # 8, 4, 2, 1
    assert capacity.tasks_that_fit(10, 0.05) == 1
    assert capacity.tasks_that_fit(10**9, 0.99) == 254
    ratio = capacity.smallest_ratio(512, 12)
    assert ratio is not None
    assert capacity.tasks_that_fit(512, ratio) >= 12 > capacity.tasks_that_fit(512, ratio - 0.01)
    assert capacity.smallest_ratio(8, 9) is None


def test_a_full_network_is_refused_before_it_starts_with_the_ratio_that_fits() -> None:
    twelve = [{"name": "digits"}] * 12
    with pytest.raises(ConfigError) as error:
        tiny("packnet", tasks=twelve, method={"name": "packnet", "prune_ratio": 0.3})
    sentence = str(error.value)
    assert "method.prune_ratio is 0.3" in sentence
    ratio = float(sentence.split("choose ")[1].split(" or more")[0])
    tiny("packnet", tasks=twelve, method={"name": "packnet", "prune_ratio": ratio})
    with pytest.raises(ConfigError, match="choose"):
        tiny("packnet", tasks=twelve, method={"name": "packnet", "prune_ratio": ratio - 0.01})


@pytest.mark.parametrize("method", METHODS)
def test_more_tasks_than_a_byte_can_tell_apart_are_refused(method: str) -> None:
    with pytest.raises(ConfigError, match="tasks has 255 entries; at most 254"):
        tiny(method, tasks=[{"name": "digits"}] * 255)


# ---- Piggyback ------------------------------------------------------------------------------------------------------


def test_the_gradient_goes_straight_through_the_threshold() -> None:
    weight = torch.tensor([2.0, -3.0, 5.0], requires_grad=True)
    score = torch.tensor([0.01, 0.004, 0.005], requires_grad=True)
    kept = masks.keep(weight, score, 5e-3)
    assert kept.tolist() == [2.0, 0.0, 0.0], "on means above, not at, the threshold"
    (kept * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert weight.grad is not None
    assert score.grad is not None
    assert weight.grad.tolist() == [1.0, 0.0, 0.0]
    assert score.grad.tolist() == [2.0, -30.0, 500.0]


@pytest.mark.parametrize("shape", [(3,), (4, 4), (5, 3, 3, 3)])
def test_masks_are_packed_as_numpy_packs_them(shape: tuple[int, ...]) -> None:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) > 0.5
    bits = masks.pack(mask)
    assert bits.tolist() == np.packbits(mask.numpy()).tolist()
    assert torch.equal(masks.unpack(bits, mask), mask)
    if len(shape) == 4:
        channels_last = mask.to(memory_format=torch.channels_last)
        assert torch.equal(masks.pack(channels_last), bits)
        assert masks.unpack(bits, channels_last).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "start", ["kaiming", *(pytest.param(start, marks=pytest.mark.heavy) for start in ("xavier", "far"))]
)
def test_masks_over_random_weights_learn(start: str, tmp_path: Path) -> None:
    """Not one weight of the trunk is trained, and the task is learnt."""
    method = {"name": "piggyback", "trunk": "start", "score_learning_rate": 1e-3}
    run = tiny("piggyback", tasks=THREE[:1], backbone__start=start, method=method, training__epochs=30)
    matrix = fold(train(run, tmp_path)).matrix("test")
    assert matrix[0][0] is not None
    assert matrix[0][0] > 0.6, "chance is a third"
    before = begin(run).network.tensors()
    after = load_file(tmp_path / "1" / "network.safetensors")
    assert all(torch.equal(value, after[name]) for name, value in before.items() if name.endswith("conv.weight"))
    packed = load_file(tmp_path / "1" / "method.safetensors")
    assert any(
        masks.unpack(bits, after[name.replace("mask/1/", "trunk/")]).float().mean() < 1 for name, bits in packed.items()
    )


def test_the_first_mask_is_all_ones_where_the_trunk_learnt_the_first_task(tmp_path: Path) -> None:
    train(tiny("piggyback"), tmp_path)
    packed = load_file(tmp_path / "2" / "method.safetensors")
    network = load_file(tmp_path / "2" / "network.safetensors")
    for name, bits in packed.items():
        if name.startswith("mask/1/"):
            assert bool(masks.unpack(bits, network[name.replace("mask/1/", "trunk/")]).all())


def test_a_mask_that_turns_a_layer_off_is_warned_of_and_training_goes_on() -> None:
    method = begin(tiny("piggyback", method={"name": "piggyback", "trunk": "start"}))
    assert isinstance(method, Piggyback)
    method.start_stage(1)
    method.scores["block2.conv.weight"].zero_()
    method.end_stage(1)
    assert "block2.conv" in method.warnings[0]
    assert torch.isfinite(method.network.logits(torch.zeros(1, 3, 16, 16), 1, method.overlay(1))).all()


@pytest.mark.parametrize("method", [PackNet, Piggyback])
def test_depthwise_layers_are_left_alone_unless_asked(method: type[Method]) -> None:
    names = {}
    for depthwise in (False, True):
        config = tiny(
            next(name for name in METHODS if learner(name) is method),
            backbone={"name": "efficientnet_lite0", "start": "pretrained", "image_size": 32},
            method={"name": method.__name__.lower(), "depthwise": depthwise},
        )
        names[depthwise] = set(begin(config).weights)
    assert names[False] < names[True]
    assert "blocks.1.0.conv_dw.weight" in names[True] - names[False]
    assert all("dw" in name for name in names[True] - names[False])


# ---- all ------------------------------------------------------------------------------------------------------------


def test_every_term_of_a_loss_is_told() -> None:
    for method in ("lwf", "ewc"):
        logs = [event for event in train(tiny(method)) if isinstance(event, StepLogged)]
        assert next(set(log.loss) for log in logs if log.stage == 1) == {"new task"}
        assert next(set(log.loss) for log in logs if log.stage == 2) == {"new task", "old tasks"}


def test_working_memory_is_told_apart() -> None:
    working = {
        method: fold(train(tiny(method))).result("r", "complete", tiny(method).model_dump(mode="json")).footprint_bytes
        for method in ("lwf", "piggyback")
    }
    assert working["lwf"]["working"] == 36 * 4 * 4, "36 images, 4 classes, float32"
    scores = sum(w.numel() for w in begin(tiny("piggyback")).weights.values())
    assert working["piggyback"]["working"] == 4 * scores
    assert working["piggyback"]["masks"] == 2 * sum(
        math.ceil(w.numel() / 8) for w in begin(tiny("piggyback")).weights.values()
    )


def test_ewc_keeps_two_trunks_however_many_tasks() -> None:
    run = tiny("ewc", tasks=THREE, method={"name": "ewc", "fisher_images": 10})
    kept = fold(train(run)).result("r", "complete", run.model_dump(mode="json")).footprint_bytes
    weights = 4 * sum(w.numel() for w in begin(run).weights.values())
    assert (kept["fisher"], kept["anchors"]) == (weights, weights)
