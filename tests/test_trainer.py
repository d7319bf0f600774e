import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from labcore.configs import presets
from labcore.configs.base import ConfigError
from labcore.configs.reading import parse
from labcore.networks import batches
from labcore.networks.network import Network
from labcore.networks.streams import stream
from labcore.runs import checkpoints
from labcore.runs.events import Evaluated, Event, PhaseStarted, RunEnded, RunStarted, Warned
from labcore.runs.results import fold
from labcore.training import hardware, lessons, loop, optimizers
from labcore.training.learner import Learner
from labcore.training.spending import Progress
from tests.conftest import in_fresh_process, tiny


def ended(config: object, **options: object) -> RunEnded:
    last = list(loop.train(config, **options))[-1]  # type: ignore[arg-type]
    assert isinstance(last, RunEnded)
    return last


def events_of(learner: Learner) -> Iterator[Event]:
    return loop.Loop(learner, Progress.begin(learner.device)).events()


def test_a_loss_that_is_no_number_ends_the_run_with_step_term_and_advice() -> None:
    last = ended(
        tiny(
            training={"optimizer": "sgd", "learning_rate": 10, "head_learning_rate": 10, "epochs": 20, "batch_size": 8},
            backbone__start="far",
            backbone__name="small_cnn_plain",
        )
    )
    assert last.state == "failed"
    assert last.diverged
    assert last.error is not None
    assert all(part in last.error for part in ("step", "new task", "training.learning_rate", "10"))


def test_rate_rises_then_follows_the_cosine() -> None:
    rates = [optimizers.rate_at(step, 100, 0.1, "cosine") for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert [optimizers.rate_at(step, 10, 0, "constant") for step in (0, 9)] == [1, 1]


def test_frozen_blocks_are_run_once_and_stay_bit_for_bit() -> None:
    run = tiny(
        method={"name": "fine_tuning", "frozen_blocks": 2}, training__optimizer="sgd", training__weight_decay=0.5
    )
    start = Network(run.backbone, run.seed, torch.device("cpu")).tensors()
    seen = {}
    state = Learner(run, torch.device("cpu"))
    phases = [event for event in events_of(state) if isinstance(event, PhaseStarted)]
    seen = state.network.tensors()
    assert [phase.cached_blocks for phase in phases] == [2, 2]
    for name, value in start.items():
        frozen = state.network.block_of(name) in (0, 1)
        assert torch.equal(value, seen[name]) == frozen or "running" in name or "num_batches" in name, name


def test_a_method_may_change_gradients_before_a_step() -> None:
    """Without gradients plain steps leave the trunk where it is."""
    state = Learner(
        tiny(training__optimizer="sgd", training__momentum=0, backbone__start="xavier"), torch.device("cpu")
    )
    start = {name: value.detach().clone() for name, value in state.network.tensors().items()}
    seen: list[bool] = []

    def before_step(batch: batches.Batch) -> None:
        seen.append(torch.is_grad_enabled())
        for weight in state.network.trunk.parameters():
            assert (weight.grad is not None) == weight.requires_grad
            weight.grad = None

    state.method.before_step = before_step  # type: ignore[method-assign]
    *_, last = events_of(state)
    assert seen == [False] * last.step
    for name, value in state.network.trunk.named_parameters():
        assert torch.equal(value, start[f"trunk/{name}"]), name
    assert bool(state.network.tensors()["heads/1/bias"].any()), "heads learn as ever, from zero"


def test_after_a_step_what_is_frozen_is_back_and_gradients_are_still_there() -> None:
    run = tiny("packnet", training__weight_decay=0.1)
    state, moved = Learner(run, torch.device("cpu")), 0
    before: dict[str, torch.Tensor] = {}
    method = state.method

    def before_step(batch: batches.Batch) -> None:
        before.update({name: weight.clone() for name, weight in method.weights.items()})  # type: ignore[attr-defined]

    def after_step(batch: batches.Batch) -> None:
        nonlocal moved
        for name, weight in method.weights.items():  # type: ignore[attr-defined]
            own = method.owners[name] == batch.task  # type: ignore[attr-defined]
            assert weight.grad is not None
            assert torch.equal(weight[~own], before[name][~own])
            moved += int((weight != before[name]).sum())

    method.before_step, method.after_step = before_step, after_step  # type: ignore[method-assign]
    *_, last = events_of(state)
    assert isinstance(last, RunEnded)
    assert moved > 0


def test_cached_features_are_what_the_trunk_gives() -> None:
    run = tiny(backbone__norm="frozen")
    network = Network(run.backbone, 0, torch.device("cpu"))
    task = batches.load_task(1, run.tasks[0], 16, None, torch.device("cpu"))
    cached = batches.run_first_blocks(network, {}, task.train, 3, lambda: False)
    with torch.no_grad():
        assert torch.allclose(cached, network.trunk(network.trunk.normalise(task.train.images)), atol=1e-6)


def test_a_cache_too_large_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "LARGEST_FEATURE_CACHE", 1000)
    phases = [
        e for e in loop.train(tiny("feature_extraction", backbone__start="xavier")) if isinstance(e, PhaseStarted)
    ]
    assert [phase.cached_blocks for phase in phases] == [0, 0]


def test_evaluation_is_full_at_the_end_of_a_stage() -> None:
    events = [event for event in loop.train(tiny()) if isinstance(event, Evaluated)]
    last = {event.kind: event for event in events}
    assert last["test"].images == (4 * 50, 3 * 100)
    assert last["validation"].images == (4 * 19, 3 * 45)
    assert last["live"].images == (50, 50)
    assert last["live"].images_seen == last["test"].images_seen


@pytest.mark.parametrize("images", [1, 2, 31, 32, 33, 64, 65])
def test_every_epoch_sees_every_image_once_and_no_batch_is_a_single_image(images: int) -> None:
    order = batches.epoch_order(0, 1, "train", 0, images)
    parts = [batches.batch_slice(order, step, 32) for step in range(batches.steps_in_epoch(images, 32))]
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(images))
    assert all(len(part) > 1 for part in parts) or images == 1
    assert images < 3 or not torch.equal(order, batches.epoch_order(0, 1, "train", 1, images))


def test_streams_are_their_names() -> None:
    draws = [
        torch.rand(1, generator=stream(*name)).item() for name in [(0, "a", 1), (0, "a", 1), (0, "a", 2), (1, "a", 1)]
    ]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


def test_bfloat16_trains_too() -> None:
    run = tiny(training__precision="bfloat16")
    assert ended(run).state == "complete"
    assert fold(loop.train(run)).losses != fold(loop.train(tiny())).losses


@pytest.mark.parametrize("content", [b"", b"torn", b"\x00" * 64])
def test_a_checkpoint_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(content)
    assert checkpoints.load(path, "key") is None
    events = list(loop.train(tiny(), checkpoint=path))
    assert isinstance(events[0], RunStarted) and events[0].resumed_from_step is None
    (warned,) = [event.text for event in events if isinstance(event, Warned)]
    assert warned.startswith("The checkpoint could not be read")
    assert events[-1].event == "run_ended" and events[-1].state == "complete"


def test_where_the_newest_checkpoint_is_cut_short_the_run_goes_on_from_the_one_before(tmp_path: Path) -> None:
    path, told = tmp_path / "checkpoint", list[Event]()
    for event in loop.train(tiny(), checkpoint=path, checkpoint_seconds=0):
        told.append(event)
        if event.step >= 13:
            break
    path.write_bytes(path.read_bytes()[:-100])
    told += loop.train(tiny(), checkpoint=path)
    (opened,) = [event for event in told if isinstance(event, RunStarted) and event.resumed_from_step is not None]
    assert opened.resumed_from_step is not None and 0 < opened.resumed_from_step < 13
    assert any("the one before" in event.text for event in told if isinstance(event, Warned))
    assert fold(told).losses == fold(loop.train(tiny())).losses


def test_a_flipped_bit_anywhere_in_a_checkpoint_is_seen(tmp_path: Path) -> None:
    path, position = tmp_path / "checkpoint", checkpoints.Position(key="a", step=3)
    tensors = {"x": torch.arange(40.0), "y": torch.tensor(3), "z": torch.ones(5, dtype=torch.bfloat16)}
    checkpoints.save(path, position, tensors)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        found = checkpoints.load(path, "a")
        if found is not None:  # the bit says nothing of the run, as in the name of the digest
            assert found[0] == position
            assert found[1].keys() == tensors.keys()
            assert all(torch.equal(found[1][name], value) for name, value in tensors.items())


def test_a_checkpoint_of_another_run_is_none(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    checkpoints.save(path, checkpoints.Position(key="a", step=3), {"x": torch.ones(2)})
    assert checkpoints.load(path, "b") is None
    position, tensors = checkpoints.load(path, "a") or pytest.fail("not found")
    assert position.step == 3
    assert torch.equal(tensors["x"], torch.ones(2))


def test_devices_and_threads_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="'cuda:99'"):
        hardware.pick_device("cuda:99")
    for text in ("0", "many", "", "-1"):
        monkeypatch.setenv("REUSE_LAB_THREADS", text)
        with pytest.raises(ConfigError, match="REUSE_LAB_THREADS"):
            hardware.prepare()


def test_a_random_trunk_that_is_kept_gets_statistics_from_one_pass() -> None:
    run = tiny("feature_extraction", method={"name": "feature_extraction", "trunk": "start"})
    state = Learner(run, torch.device("cpu"))
    list(events_of(state))
    norm = state.network.norm_layers["block1.norm"]
    images = state.network.trunk.normalise(state.tasks[0].train.images)
    with torch.no_grad():
        before = state.network.trunk.get_submodule("block1.conv")(images)
    assert torch.allclose(norm.running_mean, before.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(norm.running_var, before.var((0, 2, 3)), rtol=1e-4)


def test_a_later_run_of_a_process_needs_memory_too() -> None:
    data = presets.preset_data("quick")
    data["tasks"], data["training"]["epochs"] = data["tasks"][:1], 1
    sizes = [ended(parse(data | {"seed": seed})).peak_memory_bytes or 0 for seed in range(3)]
    assert min(sizes) > 15_000_000, sizes


def test_the_first_point_waits_for_no_compiler(tmp_path: Path) -> None:
    """A process's first optimizer imports it, two seconds; accuracy before training is told before."""
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from labcore.configs.reading import parse\n"
        "from labcore.runs import events\n"
        "from labcore.training import loop\n"
        "config = parse(json.loads(sys.argv[1]))\n"
        "told = loop.train(config, device='cpu', cache=Path(sys.argv[2]))\n"
        "assert any(isinstance(event, events.Evaluated) for event in told)\n"
        "assert 'torch._dynamo' not in sys.modules, 'imported before the first point'\n"
        "assert any(isinstance(event, events.StepLogged) for event in told)\n"
        "assert 'torch._dynamo' in sys.modules, 'imported no longer: this test tells nothing'"
    )
    config = tiny(backbone={"name": "efficientnet_lite0", "start": "kaiming", "image_size": 16})
    in_fresh_process(code, config.model_dump_json(), str(tmp_path))
