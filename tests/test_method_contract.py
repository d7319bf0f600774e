"""What every method keeps to, whatever it does inside."""

from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from labcore.configs.looking import SHOWN_PICTURES
from labcore.configs.registry import METHODS
from labcore.configs.run import RunConfig
from labcore.runs import answers
from labcore.runs.events import (
    Evaluated,
    Event,
    FootprintMeasured,
    RunEnded,
    RunStarted,
    StageEnded,
    StageStarted,
    StepLogged,
)
from labcore.runs.results import Fold, fold
from labcore.studies import estimates
from labcore.training import loop, saving
from labcore.training.learner import Learner
from tests.conftest import tiny
from tests.recorded import Recorded, recorded
from tests.test_estimates import ROUND

pytestmark = pytest.mark.usefixtures("device", "few_answers")

# Every method as it comes, and with the settings that take it another way.
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"name": name} for name in METHODS},
    "lwf, old heads learn": {"name": "lwf", "train_old_heads": True},
    "ewc, online": {"name": "ewc", "variant": "online", "labels": "exact", "fisher_images": 10},
    "packnet, kept": {"name": "packnet", "freed_weights": "keep", "prune_last": False},
    "packnet, none": {"name": "packnet", "reuse": "none"},
    "packnet, learned": {"name": "packnet", "reuse": "learned"},
    "piggyback, start": {"name": "piggyback", "trunk": "start", "score_learning_rate": 2e-3},
}
ISOLATING = [
    name for name in VARIANTS if name.startswith(("feature_extraction", "separate_copies", "packnet", "piggyback"))
]
NORMS = ["frozen", "affine_per_task", "per_task", "shared"]
# A kind each of what a method may keep between steps: with SGD too, `make test` stops and resumes these.
KINDS = ("fine_tuning", "ewc", "packnet", "piggyback")
OPTIMIZERS = [
    {"optimizer": "adam", "weight_decay": 0.01},
    {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01, "learning_rate": 0.02},
]
TIMES = {
    "time", "train_seconds", "evaluation_seconds", "test_ms_per_image", "peak_memory_bytes", "energy_wh", "carbon_g",
}  # fmt: skip


def config(variant: str, **changes: Any) -> RunConfig:
    return tiny(VARIANTS[variant]["name"], method=VARIANTS[variant], **changes)


def spoken(events: list[Event]) -> list[dict[str, Any]]:
    """Events without what a clock or the machine puts in them."""
    return [event.model_dump(exclude=TIMES) for event in events]


def train(config: RunConfig, **options: Any) -> list[Event]:
    events = list(loop.train(config, **options))
    assert isinstance(events[-1], RunEnded)
    return events


def said_of_pictures(fold: Fold) -> list[Any]:
    """All answers to single pictures that a fold has, without what a clock or a store puts in them."""

    def plain(events: Iterable[Event | None]) -> list[Any]:
        return [event and event.model_dump(exclude=TIMES | {"run", "attempt", "seq", "reused"}) for event in events]

    return [plain([*s.answers, s.pictures, s.learnt, *s.predicted.values()]) for s in fold.stages]


def arrays(folder: Path) -> dict[str, Tensor]:
    return {
        f"{p.parent.name}/{p.stem}/{k}": v
        for p in sorted(folder.glob("*/*.safetensors"))
        for k, v in load_file(p).items()
    }


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def trained_with(method: str, optimizer: dict[str, Any]) -> RunConfig:
    """A variant's run with one of the optimizers, and with a phase for the head alone before the trunk moves."""
    return config(method, training={**config(method).training.model_dump(), **optimizer, "head_warmup_epochs": 1})


def as_it_comes(method: str, device: str) -> Recorded:
    return recorded(trained_with(method, OPTIMIZERS[0]), device)


def with_statistics_of_its_own(method: str, device: str) -> Recorded:
    return recorded(config(method, backbone__norm="per_task"), device)


@pytest.mark.parametrize("method", VARIANTS)
def test_same_seed_gives_same_events_and_weights(method: str, device: str, tmp_path: Path) -> None:
    run = trained_with(method, OPTIMIZERS[0])
    first = as_it_comes(method, device)
    second = train(run, stages=lambda k: tmp_path / "b" / str(k))
    other = []
    for event in loop.train(run.model_copy(update={"seed": 1}), stages=lambda k: tmp_path / "c" / str(k)):
        other.append(event)
        if isinstance(event, StageEnded):  # the first stage is enough to differ
            break
    assert spoken(first.events) == spoken(second)
    ours, theirs = arrays(first.stages), arrays(tmp_path / "c")
    assert equal(ours, arrays(tmp_path / "b"))
    assert theirs
    assert not equal({name: ours[name] for name in theirs}, theirs)
    assert spoken(first.events)[1 : len(other)] != spoken(other)[1:]


STOPPED = [
    pytest.param(
        method, optimizer, marks=[] if name == "adam" or method in KINDS else [pytest.mark.heavy], id=f"{method}-{name}"
    )
    for method in VARIANTS
    for name, optimizer in zip(("adam", "sgd"), OPTIMIZERS, strict=True)
]


@pytest.mark.parametrize(("method", "optimizer"), STOPPED)
def test_stopped_anywhere_and_resumed_is_never_stopped(
    method: str, optimizer: dict[str, Any], device: str, tmp_path: Path
) -> None:
    run = trained_with(method, optimizer)
    whole = recorded(run, device)
    checkpoint, told, asked, attempts = tmp_path / "checkpoint", [], 0, 0

    def stop_later_each_time() -> bool:
        nonlocal asked
        asked += 1
        return asked == 6 + 2 * attempts**2

    while not told or told[-1].state != "complete":  # type: ignore[union-attr]
        told += train(
            run, checkpoint=checkpoint, stages=lambda k: tmp_path / "parts" / str(k), should_stop=stop_later_each_time
        )
        attempts, asked = attempts + 1, 0
        assert attempts < 100
    assert attempts > 5
    resumed = [event.resumed_from_step for event in told if isinstance(event, RunStarted)]
    assert resumed[0] is None
    assert max(step for step in resumed if step is not None) > 0
    assert equal(arrays(whole.stages), arrays(tmp_path / "parts"))
    one, many = fold(whole.events), fold(told)
    assert one.matrix("test") == many.matrix("test")
    assert one.matrix("validation") == many.matrix("validation")
    assert one.accuracy == many.accuracy
    assert one.losses == many.losses
    assert said_of_pictures(one) == said_of_pictures(many)


@pytest.mark.parametrize(
    "method",
    ["ewc", *(pytest.param(name, marks=pytest.mark.heavy) for name in ("packnet, learned", "piggyback, start"))],
)
def test_a_network_whose_layers_are_not_in_order_of_the_alphabet_goes_on_too(method: str, tmp_path: Path) -> None:
    """A file lists tensors by name; EfficientNet's data flows otherwise: `conv_stem`, `blocks`, `conv_head`."""
    run = config(
        method,
        backbone={"name": "efficientnet_lite0", "start": "kaiming", "image_size": 16, "norm": "affine_per_task"},
        tasks=[{"name": "digits:0-1", "images_per_class": 8}, {"name": "fashion:0-1", "images_per_class": 8}],
        training={"epochs": 2, "batch_size": 4, "weight_decay": 0.01, "head_warmup_epochs": 1},
    )
    whole = train(run, stages=lambda k: tmp_path / "whole" / str(k))
    places = {"checkpoint": tmp_path / "checkpoint", "stages": lambda k: tmp_path / "parts" / str(k)}
    last = max(event.step for event in whole if isinstance(event, StepLogged))
    for stop_at in (last // 4, last - 2):  # in the middle of each stage; the second reads what the first stage left
        for event in loop.train(run, checkpoint_seconds=0, **places):
            if isinstance(event, StepLogged) and event.step >= stop_at:
                break
    train(run, **places)
    assert equal(arrays(tmp_path / "whole"), arrays(tmp_path / "parts"))


# Each variant with two norms that follow one another, so with both optimizers; under the mark with the other two.
LEARNING = [
    pytest.param(
        method,
        norm,
        optimizer,
        marks=[] if (other - place) % len(NORMS) < 2 else [pytest.mark.heavy],
        id=f"{method}-{norm}",
    )
    for place, method in enumerate(VARIANTS)
    for other, (norm, optimizer) in enumerate(zip(NORMS, OPTIMIZERS * 2, strict=True))
]


@pytest.mark.parametrize(("method", "norm", "optimizer"), LEARNING)
def test_only_what_is_trainable_changes(
    method: str, norm: str, optimizer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if method == "feature_extraction" and norm == "shared":
        pytest.skip("bad input, tested with the configurations")
    seen: list[str] = []
    original = loop.Loop._phase

    def watched(self: Any, stage: int, number: int, phase: Any, *rest: Any) -> Iterator[Event]:
        network, method = self.learner.network, self.learner.method

        def now() -> dict[str, Tensor]:
            tensors = network.tensors() | method.own_tensors()
            return {name: value.detach().clone() for name, value in tensors.items()}

        before, masks = now(), method.trainable(stage, phase)
        allowed = set(masks)
        if statistics := set(method.moving_statistics(stage, phase)):
            own = f"norm/{stage}/" if norm == "per_task" else "trunk/"
            names = {f"{own}{name}" for name in network.norm_statistics if network.trunk.block_of(name) in statistics}
            allowed |= names | {
                f"norm/{task}/{name}" for task in method.data(stage, phase) for name in network.norm_statistics
            }
        yield from original(self, stage, number, phase, *rest)
        after = now()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed, "nothing was learnt"
        assert changed <= allowed, f"{stage}/{phase.name}"
        for name, mask in masks.items():
            if mask is not None:
                assert torch.equal(before[name][~mask], after[name][~mask]), f"frozen elements of {name}"
        seen.append(f"{stage}/{phase.name}")

    monkeypatch.setattr(loop.Loop, "_phase", watched)
    momentum = {**config(method).training.model_dump(), **optimizer}
    run = config(method, backbone__norm=norm, training={**momentum, "weight_decay": 0.1})
    train(run)
    assert {name.split("/")[0] for name in seen} == {"1", "2"}


# Each isolating method with one of the norms, and under the mark with the others.
ISOLATED = [
    pytest.param(method, norm, marks=[] if (place + other) % 3 == 0 else [pytest.mark.heavy])
    for place, method in enumerate(ISOLATING)
    for other, norm in enumerate(("frozen", "affine_per_task", "per_task"))
]


@pytest.mark.parametrize(("method", "norm"), ISOLATED)
def test_isolating_methods_answer_old_tasks_bit_for_bit_as_before(
    method: str, norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits: dict[int, list[Tensor]] = {}
    original = loop.Loop._measure

    @torch.no_grad()
    def measured(self: Any, stage: int) -> Generator[Event, None, Any]:
        network, method = self.learner.network, self.learner.method
        network.let_statistics_move([])
        for task in self.learner.tasks:
            images = network.trunk.normalise(task.test.images[:20])
            logits.setdefault(task.position, []).append(
                network.logits(images, task.position, method.fixed_overlay(task.position)).clone()
            )
        return (yield from original(self, stage))

    monkeypatch.setattr(loop.Loop, "_measure", measured)
    three = [{"name": name, "images_per_class": 40} for name in ("digits:0-2", "fashion:0-2", "digits:5-7")]
    events = train(config(method, backbone__norm=norm, tasks=three, training__epochs=3))
    for task, told in logits.items():
        assert all(torch.equal(told[0], later) for later in told[1:]), task
    learnt = [row[k] for k, row in enumerate(fold(events).matrix("test"))]
    assert min(value for value in learnt if value is not None) > 0.45, "a dead network is isolated too"


def test_fine_tuning_is_not_isolated() -> None:
    many = [{"name": name, "images_per_class": 40} for name in ("digits:0-2", "fashion:0-2")]
    matrix = fold(train(config("fine_tuning", tasks=many, training__epochs=5, training__learning_rate=0.01))).matrix(
        "test"
    )
    assert matrix[0][0] is not None
    assert matrix[1][0] is not None
    assert matrix[1][0] < matrix[0][0]


@pytest.mark.parametrize("method", VARIANTS)
def test_measuring_changes_nothing(method: str, device: str) -> None:
    measured = with_statistics_of_its_own(method, device).measured
    assert len(measured) == 2
    for found in measured:
        assert found.draws_stand_still
        assert found.changed == []


@pytest.mark.parametrize("method", VARIANTS)
def test_events_tell_the_whole_story(method: str, device: str) -> None:
    run = trained_with(method, OPTIMIZERS[0])
    events = as_it_comes(method, device).events
    first = events[0]
    assert isinstance(first, RunStarted)
    assert first.resumed_from_step is None
    live = [event for event in events if isinstance(event, Evaluated) and event.kind == "live"]
    assert live[0].images_seen == 0, "measured before any training"
    assert {len(event.accuracy) for event in live} == {1, 2}
    assert all(0 <= value <= 1 for event in live for value in event.accuracy)
    logs = [event for event in events if isinstance(event, StepLogged)]
    assert logs[-1].images_seen == first.total_images
    planned = [sum(part.images for part in stage) for stage in estimates.parts(run, ROUND)]
    assert planned == [*(event.images for event in events if isinstance(event, StageStarted)), 0]
    assert logs[-1].train_seconds > 0
    prints = [event.kept for event in events if isinstance(event, FootprintMeasured)]
    assert len(prints) == 2
    assert sum(prints[1].values()) > sum(prints[0].values())
    result = fold(events).result("r", "complete", run.model_dump(mode="json"))
    assert result.needs_old_data == (method == "joint")
    assert [stage.task for stage in result.stages] == run.task_names
    assert result.footprint_bytes["total"] == sum(prints[1].values())
    assert result.test_ms_per_image is not None
    assert result.test_ms_per_image > 0


@pytest.mark.parametrize("method", VARIANTS)
def test_answers_that_are_told_are_those_of_the_weights_that_are_stored(method: str, device: str) -> None:
    """Asked once more of each stage's own weights, in one naive pass."""
    run, whole = trained_with(method, OPTIMIZERS[0]), as_it_comes(method, device)
    learner = Learner(run, torch.device(device))
    for stage in (1, 2):
        learner.see(stage)
        saving.load_stage(learner, whole.stages / str(stage))
        learner.network.let_statistics_move([])
        over = next(n for n, event in enumerate(whole.events) if isinstance(event, StageEnded) and event.stage == stage)
        folded = fold(whole.events[: over + 1])
        test = folded.stages[-1].test
        assert test is not None and len(test.accuracy) == stage
        for task in learner.tasks:
            images = torch.cat([task.validation.images[:SHOWN_PICTURES], task.test.images])
            with torch.no_grad():
                overlay = learner.method.fixed_overlay(task.position)
                logits = learner.network.logits(learner.network.trunk.normalise(images), task.position, overlay)
            told = answers.of_job(folded, task.position)
            assert told is not None and told.now is not None and told.learnt is not None
            assert list(told.labels) == task.validation.labels[:SHOWN_PICTURES].tolist()
            shares = logits[:SHOWN_PICTURES].softmax(1).tolist()
            for exact, said in zip(shares, told.now, strict=True):
                assert exact[said[0].label] > max(exact) - 1e-5
                assert all(abs(guess.probability - exact[guess.label]) < 1.6 / 255 for guess in said)
            if stage == task.position:
                assert told.now == told.learnt
            predicted = answers.predicted(folded, task.position, stage)
            assert predicted is not None
            exact = logits[SHOWN_PICTURES:]
            best = exact.gather(1, torch.tensor(predicted, device=exact.device)[:, None])[:, 0]
            assert bool((best > exact.amax(1) - 1e-5).all())
            labels = task.test.labels.tolist()
            right = [one == other for one, other in zip(predicted, labels, strict=True)]
            assert test.accuracy[task.position - 1] == sum(right) / len(right), "to the last bit"
            found = answers.confusion(folded, task.position, "now", labels)
            assert found is not None and sum(map(sum, found.counts)) == len(labels)


@pytest.mark.parametrize("method", VARIANTS)
def test_stage_arrays_have_the_names_of_an_export(method: str, device: str) -> None:
    stages = with_statistics_of_its_own(method, device).stages
    last = load_file(stages / "2" / "network.safetensors")
    first = load_file(stages / "1" / "network.safetensors")
    assert {"trunk/block1.conv.weight", "heads/1/weight", "heads/1/bias", "heads/2/weight"} <= last.keys()
    assert {"norm/1/block1.norm.weight", "norm/2/block3.norm.running_var"} <= last.keys()
    assert last["heads/2/weight"].shape == (3, 128)
    assert "heads/2/weight" not in first
    assert ("copies/1/block1.conv.weight" in last) == (method == "separate_copies")
    own = stages / "2" / "method.safetensors"
    names = set(load_file(own)) if own.exists() else set()
    expected = {
        "ewc": {"fisher/1/block1.conv.weight", "anchor/2/block3.conv.weight"},
        "packnet": {"owner/block1.conv.weight"},
        "piggyback": {"mask/1/block1.conv.weight", "mask/2/block3.conv.weight"},
    }
    assert expected.get(method.split(",")[0], set()) <= names
    assert not any(name.startswith(("scores/", "recorded/")) for name in names), "kept for a stage only"
