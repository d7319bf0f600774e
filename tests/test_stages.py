"""Stages that are trained once: what is shared, what is not, and that nobody could tell the difference."""

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from labcore.configs.base import ConfigError
from labcore.configs.registry import METHODS
from labcore.configs.run import RunConfig
from labcore.methods import load
from labcore.methods.base import BASE
from labcore.methods.fine_tuning.about import FineTuningConfig
from labcore.methods.fine_tuning.learn import FineTuning
from labcore.networks.batches import Batch
from labcore.runs import stage_cache
from labcore.runs.events import Event, MapSaved, RunStarted, StageEnded, StepLogged, Warned
from labcore.runs.results import fold
from labcore.runs.stage_cache import StageCache
from labcore.runs.stage_keys import shared_stages
from labcore.runs.store import Store
from labcore.studies.forecast import forecast
from labcore.training import loop, stored_stages, worker
from labcore.training.learner import Learner
from tests import kept
from tests.conftest import Killed, tiny
from tests.test_method_contract import KINDS, TIMES, said_of_pictures
from tests.test_worker import held_worker, longer, start_worker
from tests.waiting import ended, growth, until, work

pytestmark = pytest.mark.usefixtures("few_answers")
THREE = [{"name": name, "images_per_class": 10} for name in ("digits:0-3", "fashion:0-2", "digits:5-7")]


def first(config: RunConfig, count: int) -> RunConfig:
    return config.model_copy(update={"tasks": config.tasks[:count]})


def run(store: Store, config: RunConfig, **options: Any) -> str:
    """Submit and train here; the run's ID."""
    name = store.submit(config, **options).run
    record = worker.run_claim(store.claim_run(name), "cpu", maps="none")
    assert record.state == "complete", record.error
    return name


def reused(store: Store, name: str) -> list[bool]:
    return [stage.reused for stage in store.result(name).stages]


def weights(store: Store, name: str) -> list[bool]:
    return [stage.weights for stage in store.result(name).stages]


def arrays(store: Store, name: str) -> dict[str, Tensor]:
    found = {}
    for path in sorted((store.folder(name) / "stages").glob("*/*.safetensors")):
        found |= {f"{path.parent.name}/{path.stem}/{key}": value for key, value in load_file(path).items()}
    return found


def spoken(events: list[Event]) -> list[dict[str, Any]]:
    # Maps are looked at again where a stage is reused: those of its end alone.
    events = [event for event in events if not isinstance(event, MapSaved)]
    return [event.model_dump(exclude=TIMES | {"run", "attempt", "seq", "reused"}) for event in events]


def assert_same(store: Store, one: str, other: str, elsewhere: Store | None = None) -> None:
    """Nobody could tell the two runs apart, but by times and marks; the other may lie in another store."""
    there = elsewhere or store
    assert spoken(store.tail(one)[0]) == spoken(there.tail(other)[0])
    mine, theirs = arrays(store, one), arrays(there, other)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    one_result, other_result = store.result(one), there.result(other)
    a, b = (result.model_dump(exclude=TIMES | {"run", "cached", "stages"}) for result in (one_result, other_result))
    assert a == b
    assert [s.model_dump(exclude=TIMES | {"reused"}) for s in one_result.stages] == [
        s.model_dump(exclude=TIMES | {"reused"}) for s in other_result.stages
    ]


def begun(store: Store, config: RunConfig) -> str:
    """The first run of a store that has none, with what it leaves in the cache: made once a session, and copied."""
    assert not store.records()
    return kept.taken(store, _home(config))


def assert_as_from_scratch(store: Store, name: str) -> None:
    """Nobody could tell the run from one that was trained in a store of its own."""
    elsewhere = Store(_home(store.config(name)))
    (scratch,) = [record.run for record in elsewhere.records()]
    assert reused(elsewhere, scratch) == [False] * len(store.config(name).tasks)
    assert_same(store, name, scratch, elsewhere)
    elsewhere.close()


def _home(config: RunConfig) -> Path:
    """A store with this run alone, by the method that would train it now."""
    trains = load.learner(config.method.name)
    settings = [str(vars(trains).get(name)) for name in ("scale", "strength")]
    key = "-".join([f"stages-{config.key()}", trains.__name__, *settings])
    return kept.folder(key, lambda path: [run(Store(path), config)].clear())


# ---- every method ---------------------------------------------------------------------------------------------------


# Each method with one of the norms, and under the mark with the other.
NORMS = [
    pytest.param(method, norm, marks=[] if (place + other) % 2 == 0 else [pytest.mark.heavy])
    for place, method in enumerate(METHODS)
    for other, norm in enumerate(("frozen", "per_task"))
]


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(("method", "norm"), NORMS)
def test_from_a_stored_prefix_equals_from_scratch_bit_for_bit(method: str, norm: str, store: Store) -> None:
    warm = {"head_warmup_epochs": 1, "epochs": 2, "batch_size": 8, "learning_rate": 2e-3}
    whole = tiny(method, tasks=THREE, training=warm, backbone__norm=norm)
    shorter = run(store, first(whole, 2))
    seconds = [stage.train_seconds for stage in store.result(shorter).stages]
    store.delete(shorter)
    going_on = run(store, whole)
    assert reused(store, going_on) == [True, True, False]
    assert [stage.train_seconds for stage in store.result(going_on).stages[:2]] == seconds
    assert_as_from_scratch(store, going_on)


VARIANTS: list[dict[str, Any]] = [
    {"name": "ewc", "variant": "online", "labels": "exact"},
    {"name": "lwf", "train_old_heads": True},
    {"name": "packnet", "freed_weights": "keep", "retrain_epochs": 1},
    {"name": "packnet", "reuse": "learned", "prune_last": False},
    {"name": "packnet", "reuse": "none"},
    {"name": "piggyback", "trunk": "start"},
    {"name": "fine_tuning", "frozen_blocks": 1},
    {"name": "feature_extraction", "trunk": "start"},
]
# One of each kind: what `make test` tries; the others under the mark.
SETTINGS = [
    pytest.param(
        settings,
        marks=[] if place in (0, 3, 5, 6) else [pytest.mark.heavy],
        id="-".join(map(str, settings.values())),
    )
    for place, settings in enumerate(VARIANTS)
]


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("settings", SETTINGS)
def test_so_it_does_with_other_settings_and_with_momentum(settings: dict[str, Any], store: Store) -> None:
    plain = {"optimizer": "sgd", "learning_rate": 0.01, "weight_decay": 0.01, "epochs": 1, "batch_size": 8}
    whole = tiny(tasks=THREE, method=settings, training=plain, backbone__norm="affine_per_task")
    store.delete(run(store, first(whole, 2)))
    going_on = run(store, whole)
    special = settings.get("prune_last") is False  # the shorter run's last stage was not pruned
    assert reused(store, going_on) == [True, not special, False]
    assert_same(store, going_on, run(store, whole, use_cache=False))


@pytest.mark.parametrize("method", METHODS)
def test_what_the_configuration_says_of_stages_the_method_says_too(method: str) -> None:
    config = tiny(method, tasks=THREE)
    built = Learner(config, torch.device("cpu")).method
    for stage in (1, 2, 3):
        assert built.stage_config(stage) == config.method.stage_config(stage, 3)
        assert built.addition_config(stage) == config.method.addition_config(stage, 3)


def shares_base(method: str) -> bool:
    return tiny(method).method.stage_config(1, 2) == BASE


@pytest.mark.parametrize("method", [method for method in METHODS if shares_base(method)])
def test_a_first_stage_that_is_the_base_classs_is_fine_tunings(method: str, store: Store) -> None:
    plain = begun(store, first(tiny("fine_tuning"), 1))
    other = run(store, tiny(method))
    assert reused(store, other) == [True, False]
    alone = run(store, tiny(method), use_cache=False)
    assert_same(store, other, alone)
    mine, theirs = (load_file(store.stage_folder(r, 1) / "network.safetensors") for r in (plain, alone))
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_fine_tuning_is_the_base_class_as_long_as_its_trunk_moves_whole() -> None:
    assert all(FineTuningConfig().stage_config(stage, 3) == BASE for stage in (1, 2, 3))
    assert FineTuningConfig(frozen_blocks=1).stage_config(1, 3) != BASE
    assert FineTuningConfig(trunk_lr_scale=0.5).stage_config(1, 3) != BASE


# ---- what the end adds ----------------------------------------------------------------------------------------------


class Anchored(FineTuning):
    """Holds weights near a multiple of where the last stage left them: what `end_stage` adds is computed from those."""

    scale, strength = 1.0, 0.1
    ended: list[int] = []

    anchor: dict[str, Tensor] = {}

    def stage_config(self, stage: int) -> dict[str, Any]:
        return BASE if stage == 1 else {"name": "anchored", "scale": self.scale, "strength": self.strength}

    def addition_config(self, stage: int) -> dict[str, Any] | None:
        return {"name": "anchored", "scale": self.scale}

    def end_stage(self, stage: int) -> None:
        self.ended.append(stage)
        trunk = self.network.trunk
        assert not any(module.training for module in trunk.modules()), "the network does not stand still"
        self.anchor = {name: self.scale * value.detach() for name, value in trunk.named_parameters()}
        self.warnings.append(f"Anchored at {self.scale:g}.")

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        terms = super().loss(batch)
        if self.anchor and not batch.head_only:
            far = [(value - self.anchor[name]).square().sum() for name, value in self.network.trunk.named_parameters()]
            terms["penalty"] = self.strength * torch.stack(far).sum()
        return terms

    def footprint(self) -> dict[str, int]:
        return {**super().footprint(), "anchors": 4 * sum(value.numel() for value in self.anchor.values())}

    def state_dict(self) -> dict[str, Tensor]:
        return {f"anchor/{name}": value for name, value in self.anchor.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.anchor = {name.removeprefix("anchor/"): value for name, value in state.items()}


@pytest.fixture
def anchored(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def use(**settings: Any) -> None:
        made = type("Anchored", (Anchored,), {"ended": [], **settings})
        monkeypatch.setattr(load, "learner", lambda _: made)

    return use


def stages_ended() -> list[int]:
    return load.learner("fine_tuning").ended  # type: ignore[attr-defined, no-any-return]


def test_what_the_end_adds_is_computed_for_a_stage_that_another_method_trained(
    store: Store, anchored: Callable[..., None]
) -> None:
    store.delete(begun(store, first(tiny(), 1)))
    anchored()
    there = run(store, tiny())
    assert (reused(store, there), stages_ended()) == ([True, False], [1, 2])
    assert_as_from_scratch(store, there)
    assert any(isinstance(event, Warned) and event.reused for event in store.tail(there)[0])
    # And now it is stored: another strength computes nothing again.
    store.delete(there)
    anchored(strength=0.5)
    again = run(store, tiny())
    assert (reused(store, again), stages_ended()) == ([True, False], [2])
    assert_as_from_scratch(store, again)
    store.delete(again)
    anchored(scale=0.5)
    other = run(store, tiny())
    assert (reused(store, other), stages_ended()) == ([True, False], [1, 2])
    assert_as_from_scratch(store, other)


def test_the_plain_method_takes_a_stage_without_what_the_end_added(
    store: Store, anchored: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    anchored()
    store.delete(begun(store, first(tiny(), 1)))
    monkeypatch.setattr(load, "learner", lambda _: FineTuning)
    plain = run(store, tiny())
    assert reused(store, plain) == [True, False]
    assert not any(isinstance(event, Warned) for event in store.tail(plain)[0])
    assert not list(store.folder(plain).glob("stages/*/method.safetensors"))
    assert_as_from_scratch(store, plain)


# ---- what is shared -------------------------------------------------------------------------------------------------


def test_one_more_task_continues_the_finished_run_and_the_arrays_are_one_file(store: Store) -> None:
    whole = tiny(tasks=THREE)
    before = begun(store, first(whole, 2))
    after = run(store, whole)
    assert reused(store, after) == [True, True, False]
    one, other = (store.stage_folder(name, 2) / "network.safetensors" for name in (before, after))
    assert one.samefile(other)
    # Trained again on purpose, the bytes are the same, and so is the file.
    again = run(store, first(whole, 2), use_cache=False)
    assert (store.stage_folder(again, 2) / "network.safetensors").samefile(one)
    note = (store.cache / "stages" / "room").stat().st_size
    assert store.usage()["stages"] == StageCache(store).usage()[1] + note


def test_a_run_all_of_whose_stages_are_stored_trains_nothing(store: Store) -> None:
    store.delete(begun(store, tiny()))
    again = run(store, tiny())
    assert reused(store, again) == [True, True]
    assert_as_from_scratch(store, again)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"backbone__start": "xavier"},
        {"backbone__norm": "shared"},
        {"training__epochs": 3},
        {"training__weight_decay": 0.1},
        {"tasks": [{"name": "digits:0-3", "images_per_class": 11}, {"name": "fashion:0-2"}]},
        {"method": {"name": "fine_tuning", "trunk_lr_scale": 0.5}},
    ],
    ids=str,
)
def test_another_seed_network_training_or_picture_shares_nothing(changes: dict[str, Any], store: Store) -> None:
    begun(store, tiny())
    assert shared_stages(tiny(), tiny(**changes)) == 0
    assert reused(store, run(store, tiny(**changes))) == [False, False]


def test_another_machine_shares_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(store, first(tiny(), 1))
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "another")
    assert reused(store, run(store, tiny())) == [False, False]
    monkeypatch.undo()
    monkeypatch.setattr(stored_stages, "ENGINE_VERSION", "next")
    assert reused(store, run(store, tiny(), use_cache=False)) == [False, False]


@functools.cache
def keys_of(method: str, tasks: int) -> list[Any]:
    config = first(tiny(method, tasks=THREE), tasks)
    return list(stored_stages.keys_of(Learner(config, torch.device("cpu")), 1))


@pytest.mark.parametrize("one", METHODS)
@pytest.mark.parametrize("other", METHODS)
def test_how_many_stages_come_out_the_same_is_known_without_torch(one: str, other: str) -> None:
    a, b = tiny(one, tasks=THREE), first(tiny(other, tasks=THREE), 2)
    keys = [keys_of(one, 3), keys_of(other, 2)]
    same = [x.training == y.training for x, y in zip(*keys, strict=False)]
    assert shared_stages(a, b) == shared_stages(b, a) == sum(same)
    assert same == sorted(same, reverse=True), "a prefix"


def test_no_cache_reads_no_stage_and_stays_so_in_the_queue(store: Store) -> None:
    begun(store, tiny())
    name = store.submit(tiny(), use_cache=False).run
    store.request_stop(name)
    store.resume(name)
    assert Store().record(name).fresh
    assert worker.run_claim(Store().claim_run(name), "cpu").state == "complete"
    assert reused(store, name) == [False, False]


# ---- what is told ---------------------------------------------------------------------------------------------------


def test_what_is_told_again_is_marked_and_counts_neither_as_speed_nor_as_time_left(store: Store) -> None:
    store.delete(begun(store, first(tiny(), 1)))
    name = run(store, tiny())
    events = store.tail(name)[0]
    told_again = [event for event in events if event.reused]
    assert told_again[0].event == "stage_started" and told_again[-1].event == "stage_ended"
    assert all(isinstance(e, RunStarted) or e.time >= events[0].time for e in told_again)
    position = events.index(told_again[-1])
    at_the_start = fold(events[: position + 1])
    assert at_the_start.images_per_second is None
    ahead = forecast(at_the_start, None)
    assert ahead.seconds_left is None
    assert ahead.share > 0
    logs = [event for event in events if isinstance(event, StepLogged)]
    assert all(a.train_seconds <= b.train_seconds for a, b in pairwise(logs))
    stages_ended = [event for event in events if isinstance(event, StageEnded)]
    later = fold([event for event in events if event.event != "run_ended"])
    images = later.images_seen - stages_ended[0].images_seen
    assert later.images_per_second == pytest.approx(images / (logs[-1].train_seconds - stages_ended[0].train_seconds))
    assert later.reused_seconds == stages_ended[0].train_seconds
    spent, cost = later.energy_wh, later.reused_energy_wh
    assert spent is not None and cost is not None
    assert cost > 0
    before = [e.energy_wh for e in logs if e.reused]
    assert spent >= before[-1] == before[0], "the run spent nothing on what it reused"
    assert store.record(name).train_seconds == pytest.approx(sum(event.train_seconds for event in stages_ended))


# ---- stopping and dying ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=[] if name in KINDS else [pytest.mark.heavy]) for name in METHODS]
)
def test_stopped_anywhere_after_a_stored_prefix_it_ends_the_same(method: str, store: Store, tmp_path: Path) -> None:
    whole = tiny(method, tasks=THREE)
    store.delete(run(store, first(whole, 1)))
    checkpoint, told, asked, attempts = tmp_path / "checkpoint", [], 0, 0

    def stop_later_each_time() -> bool:
        nonlocal asked
        asked += 1
        return asked == 1 + 4 * attempts**2

    name = store.submit(whole).run
    claim = store.claim_run(name)
    while not told or told[-1].state != "complete":  # type: ignore[union-attr]
        told += loop.train(
            whole,
            checkpoint=checkpoint,
            stages=lambda k: store.stage_folder(name, k),
            should_stop=stop_later_each_time,
            stage_cache=StageCache(store),
        )
        attempts, asked = attempts + 1, 0
        assert attempts < 50
    assert attempts > 3
    for event in told:
        claim.append(event)
    claim.finish("complete")
    elsewhere = Store(_home(whole))
    (scratch,) = [record.run for record in elsewhere.records()]
    mine, theirs = arrays(store, name), arrays(elsewhere, scratch)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    one, other = store.fold(name), elsewhere.fold(scratch)
    assert (one.matrix("test"), one.accuracy, one.losses) == (other.matrix("test"), other.accuracy, other.losses)
    assert said_of_pictures(one) == said_of_pictures(other)
    # A stage that was trained in pieces is stored as one, and told as if it had never been interrupted.
    store.delete(name)
    again = run(store, whole)
    assert reused(store, again) == [True, True, True]
    assert_same(store, again, scratch, elsewhere)
    elsewhere.close()


def test_killed_in_a_later_stage_it_goes_on_and_ends_bit_for_bit_the_same(
    store: Store, few_answers: pytest.MonkeyPatch
) -> None:
    few_answers.undo()  # workers of their own process ask for all
    store.delete(run(store, first(longer(), 1)))
    name = store.submit(longer()).run
    victim = held_worker(store.root / "gate", "--checkpoint-seconds", "0.1")
    try:
        until(lambda: (store.folder(name) / "checkpoint.safetensors").exists(), growth(store.root))
        victim.send_signal(signal.SIGKILL)
        until(lambda: store.record(name).lost)
    finally:
        victim.kill()
        victim.wait()
    assert ended(start_worker("--until-idle")) == 0
    assert store.record(name).state == "complete"
    starts = [event for event in store.tail(name)[0] if isinstance(event, RunStarted)]
    assert [start.resumed_from_step is None for start in starts] == [True, False]
    assert reused(store, name) == [True, False]
    whole = run(store, longer(), use_cache=False)
    mine, theirs = arrays(store, name), arrays(store, whole)
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    assert store.fold(name).losses == store.fold(whole).losses
    assert store.result(name).accuracy_matrix == store.result(whole).accuracy_matrix


# ---- entries that are not whole -------------------------------------------------------------------------------------


def only_entry(store: Store) -> Path:
    (entry,) = [path for path in (store.cache / "stages").iterdir() if path.is_dir()]
    return entry


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        byte = file.read(1)
        file.seek(-5, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))


def lose_a_line(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


SPOILT: list[tuple[str, Callable[[Path], None]]] = [
    ("network.safetensors", cut),
    ("network.safetensors", flip),
    ("network.safetensors", Path.unlink),
    ("events.jsonl", cut),
    ("events.jsonl", flip),
    ("events.jsonl", lose_a_line),
    ("events.jsonl", Path.unlink),
    ("stage.json", cut),
    ("stage.json", Path.unlink),
    ("method-*.safetensors", cut),
    ("method-*.safetensors", flip),
    ("method-*.safetensors", Path.unlink),
    ("method-*.json", cut),
]


@pytest.mark.parametrize(("pattern", "spoil"), SPOILT, ids=[f"{name}-{how.__name__}" for name, how in SPOILT])
def test_an_entry_that_is_not_whole_is_no_entry_and_goes(
    pattern: str, spoil: Callable[[Path], None], store: Store, anchored: Callable[..., None]
) -> None:
    anchored()
    store.delete(begun(store, first(tiny(), 1)))
    (path,) = only_entry(store).glob(pattern)
    spoil(path)
    name = run(store, tiny())
    assert reused(store, name) == [False, False]
    assert weights(store, name) == [True, True]
    assert_as_from_scratch(store, name)
    store.delete(name)
    assert reused(store, run(store, tiny())) == [True, True]


def test_spoilt_arrays_go_from_the_run_too_and_good_ones_stay(store: Store) -> None:
    before = begun(store, first(tiny(), 1))
    cut(only_entry(store) / "stage.json")
    run(store, tiny())
    assert weights(store, before) == [True]
    flip(store.stage_folder(before, 1) / "network.safetensors")
    again = run(store, first(tiny(), 1), use_cache=False)
    assert weights(store, again) == [True]


def test_a_flipped_bit_is_not_taken_and_not_left_to_the_run_it_came_from(store: Store) -> None:
    before = begun(store, first(tiny(), 1))
    flip(only_entry(store) / "network.safetensors")
    after = run(store, tiny())
    assert reused(store, after) == [False, False]
    assert weights(store, before) == [False]
    assert store.result(before).average_accuracy is not None


@pytest.mark.parametrize("call", ["os.link", "os.rename", "write_atomically", "os.utime"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_killed_while_it_puts_leaves_no_half_entry(
    call: str, number: int, store: Store, anchored: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    anchored()
    calls = 0
    owner, name = (stage_cache.os, call[3:]) if call.startswith("os.") else (stage_cache, call)
    real = getattr(owner, name)

    def dies(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise Killed
        return real(*arguments, **named)

    one = store.submit(first(tiny(), 1)).run
    claim = store.claim_run(one)
    monkeypatch.setattr(owner, name, dies)
    try:
        worker.run_claim(claim, "cpu")
    except Killed:
        claim.release()
        monkeypatch.setattr(owner, name, real)
        store.change(one, state="stopped", owner=None)
    monkeypatch.setattr(owner, name, real)
    after = run(store, tiny())
    assert_as_from_scratch(store, after)
    assert not [path for path in (store.cache / "stages").iterdir() if path.name.startswith(".")]


def test_a_disk_that_knows_no_second_names_gets_copies(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("labcore.runs.stage_cache.os.link", refuse)
    before = run(store, first(tiny(), 1))
    after = run(store, tiny())
    assert reused(store, after) == [True, False]
    one, other = (store.stage_folder(name, 1) / "network.safetensors" for name in (before, after))
    assert not one.samefile(other)
    assert one.read_bytes() == other.read_bytes()


def test_a_cache_that_cannot_be_written_stops_no_run(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    (store.cache / "stages").write_text("in the way")
    assert weights(store, run(store, tiny(), use_cache=False)) == [True, True]
    assert "cannot be used" in caplog.text
    name = run(store, tiny())
    assert weights(store, name) == [True, True]


def test_two_processes_that_put_the_same_stage_make_one_entry(store: Store, few_answers: pytest.MonkeyPatch) -> None:
    few_answers.undo()
    names = [store.submit(tiny(), use_cache=False).run for _ in range(2)]
    code = """
import sys
from labcore.training import loop, worker
from labcore.runs.store import Store
store = Store()
(store.root / "ready").touch()
assert worker.run_claim(store.claim_run(sys.argv[1]), "cpu", maps="none").state == "complete"
"""
    root = Path(__file__).parent.parent
    other_process = subprocess.Popen([sys.executable, "-c", code, names[0]], cwd=root)
    until((store.root / "ready").exists, work(other_process))
    assert worker.run_claim(store.claim_run(names[1]), "cpu", maps="none").state == "complete"
    assert ended(other_process) == 0
    assert StageCache(store).usage()[0] == 2
    for stage in (1, 2):
        one, other = (store.stage_folder(name, stage) / "network.safetensors" for name in names)
        assert one.samefile(other)
        assert one.stat().st_nlink == 3
    store.delete(names[0])
    assert reused(store, run(store, tiny())) == [True, True]


def test_nothing_in_the_cache_is_unpickled(store: Store) -> None:
    store.delete(begun(store, first(tiny(), 1)))
    bomb = b"cos\nmkdir\n(S'exploded'\ntR."
    for path in only_entry(store).iterdir():
        path.unlink()
        path.write_bytes(bomb)
    assert reused(store, run(store, tiny())) == [False, False]
    assert not Path("exploded").exists()


# ---- room -----------------------------------------------------------------------------------------------------------


def sized(store: Store, count: float) -> StageCache:
    """A cache with room for so many stages."""
    entries, size = StageCache(store).usage()
    return StageCache(store, limit_bytes=int(count * size / entries))


def test_the_least_recently_used_stage_goes_first_with_its_arrays_but_never_a_record(store: Store) -> None:
    names = [run(store, first(tiny(seed=seed), 1)) for seed in range(3)]
    whole = run(store, tiny(seed=0))  # uses the oldest again
    assert reused(store, whole) == [True, False]
    before = {name: (store.tail(name), store.result(name).accuracy_matrix) for name in names}
    sized(store, 3.5).keep_to_limit()
    assert [weights(store, name) for name in [*names, whole]] == [[True], [False], [True], [True, True]]
    sized(store, 2.5).keep_to_limit()
    assert [weights(store, name) for name in [*names, whole]] == [[True], [False], [False], [True, True]]
    assert before == {name: (store.tail(name), store.result(name).accuracy_matrix) for name in names}
    assert store.records()[-1].average_accuracy is not None
    # What is gone is trained again when it is wanted.
    assert reused(store, run(store, tiny(seed=1))) == [False, False]


def test_a_full_cache_makes_room_while_it_takes(store: Store) -> None:
    first_run = begun(store, first(tiny(), 1))
    cache = sized(store, 1.5)
    name = store.submit(first(tiny(seed=1), 1)).run
    claim = store.claim_run(name)
    options = {"stages": lambda k: store.stage_folder(name, k), "stage_cache": cache}
    for event in loop.train(store.config(name), **options):
        claim.append(event)
    assert weights(store, first_run) == [False]
    assert weights(store, name) == [True]
    claim.finish("complete")
    assert cache.usage()[0] == 1


def test_what_a_running_or_pinned_run_holds_stays(store: Store) -> None:
    pinned = begun(store, first(tiny(), 1))
    over = run(store, first(tiny(seed=1), 1))
    running = store.submit(tiny(seed=2)).run
    store.claim_run(running)
    list(
        loop.train(
            store.config(running), stages=lambda k: store.stage_folder(running, k), stage_cache=StageCache(store)
        )
    )
    assert store.pin(pinned, True).pinned
    StageCache(store).empty()
    assert store.stages_stored(pinned) == [1]
    assert store.stages_stored(over) == []
    assert store.stages_stored(running) == [1, 2]
    assert StageCache(store).usage()[0] == 3
    store.pin(pinned, False)
    StageCache(store).empty()
    assert store.stages_stored(pinned) == []


def test_a_stage_shared_with_a_pinned_run_stays_for_both(store: Store) -> None:
    short, long = begun(store, first(tiny(), 1)), run(store, tiny())
    store.pin(short, True)
    StageCache(store).empty()
    assert weights(store, long) == [True, False]


def test_the_store_says_what_lies_in_it(store: Store) -> None:
    begun(store, tiny())
    usage = store.usage()
    assert usage["stages"] > 700_000
    assert 10_000 < usage["runs"] < 200_000
    assert usage["pictures"] > 100_000
    record = json.loads((next((store.cache / "stages").glob("*/stage.json"))).read_text())
    assert record.keys() == {"network", "events", "peak_memory"}


def test_the_limit_is_the_persons(store: Store) -> None:
    assert StageCache(store).limit_bytes == 10_000_000_000
    store.change_settings(stage_cache_gb=0)
    assert weights(store, run(store, tiny())) == [False, False]
    with pytest.raises(ConfigError, match=r"-1.*from 0"):
        store.change_settings(stage_cache_gb=-1)
