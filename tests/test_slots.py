"""Several runs at once: whose turn it is, who waits for whom, and that nobody could tell the runs from others."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from labcore.configs.run import RunConfig
from labcore.runs import energy, stage_locks
from labcore.runs.events import Event, RunStarted, StepLogged, Waiting
from labcore.runs.quiet import Quiet, somebody_measures
from labcore.runs.records import WorkerRecord
from labcore.runs.results import fold
from labcore.runs.stage_keys import StageKey
from labcore.runs.store import Store
from labcore.studies import advancing, experiments, explorations
from labcore.studies.experiments import Arm, Experiment
from labcore.studies.forecast import forecast
from labcore.studies.reader import Reader
from labcore.training import hardware, loop, worker
from labcore.training.slots import Slots, Turn, most_slots
from labcore.training.spending import Clock
from labcore.training.stored_stages import keys_ahead
from tests import stories
from tests.conftest import tiny
from tests.test_explorations import STRENGTH, explored
from tests.test_worker import stage_arrays, start_worker
from tests.waiting import ended, growth, until


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Let the machine have so many cores, and nobody ask for a number of threads."""
    monkeypatch.delenv("REUSE_LAB_THREADS")

    def have(count: int) -> None:
        monkeypatch.setattr(hardware, "cores", lambda: count)

    have(2)
    return have  # type: ignore[return-value]


def strength(value: float, **changes: Any) -> RunConfig:
    """EWC with another strength: all of them learn their first stage alike."""
    return tiny("ewc", method={"name": "ewc", "strength": value}, **changes)


def turns(store: Store, slot: int = 0, most: int = 2, device: str = "cpu") -> list[Turn]:
    return list(Slots(store, device, most, slot).turns(store.waiting(device)))


def told(found: list[Turn]) -> list[tuple[str, int]]:
    return [(turn.record.run, turn.threads) for turn in found]


def begin(store: Store, config: RunConfig, threads: int) -> str:
    """A run that has begun with so many threads, and waits to go on from its checkpoint."""
    run = store.submit(config).run
    claim = store.claim_run(run)
    claim.append(stories.opened().model_copy(update={"threads": threads, "config": config}))
    (claim.folder / "checkpoint.safetensors").write_bytes(b"")
    claim.put_back()
    return run


def occupy(store: Store, threads: int = 1, stage: str | None = None, slot: int = 1) -> None:
    """As if another slot of this machine trained a run of its own."""
    stories.worker_told(store, "cpu", "another-run", slot=slot, slots=2, threads=threads, stage=stage)


# ---- whose turn it is -----------------------------------------------------------------------------------------------


def test_alone_a_run_gets_all_cores_and_several_share_them(store: Store, cores: Any) -> None:
    first = store.submit(tiny()).run
    assert told(turns(store)) == [(first, 2)]
    assert turns(store, slot=1) == []  # a further slot is there for company
    second = store.submit(tiny("packnet")).run
    assert told(turns(store)) == told(turns(store, slot=1)) == [(first, 1), (second, 1)]
    assert told(turns(store, most=1)) == [(first, 2), (second, 2)]
    store.submit(tiny("piggyback"))
    cores(16)
    assert {turn.threads for turn in turns(store, most=16)} == {5}
    assert {turn.threads for turn in turns(store, most=2)} == {8}


def test_beside_one_that_is_at_work_a_run_gets_a_part(store: Store, cores: Any) -> None:
    run = store.submit(tiny()).run
    occupy(store, threads=1)
    assert told(turns(store)) == [(run, 1)]
    occupy(store, threads=2)
    assert turns(store) == []  # no core is free beside one that has all


def test_the_environment_decides(store: Store, cores: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cores(4)
    assert (most_slots("cpu", None), most_slots("cpu", 3), most_slots("cuda:0", None), most_slots("cuda:0", 2)) == (
        (4, 3, 1, 2)
    )
    monkeypatch.setenv("REUSE_LAB_THREADS", "2")
    assert most_slots("cpu", None) == 2
    begin(store, tiny(), 1)
    store.submit(tiny("packnet"))
    assert {turn.threads for turn in turns(store)} == {2}
    monkeypatch.setenv("REUSE_LAB_THREADS", "5")
    assert most_slots("cpu", None) == 1


def test_a_run_goes_on_with_the_threads_that_it_began_with(store: Store, cores: Any) -> None:
    one, two = begin(store, tiny(), 1), begin(store, tiny("packnet"), 2)
    assert told(turns(store)) == [(one, 1), (two, 2)]
    store.request_stop(two)
    assert told(turns(store)) == [(one, 1)]  # alone, too


def test_what_needs_more_cores_is_passed_over_by_its_own_company_only(store: Store, cores: Any) -> None:
    whole, beside, late = begin(store, tiny(), 2), store.submit(tiny("packnet")).run, store.submit(tiny("lwf")).run
    occupy(store)
    assert told(turns(store)) == [(beside, 1), (late, 1)]
    store.change(late, submitted=store.record(whole).submitted + 3600)
    assert told(turns(store)) == [(beside, 1)]
    store.request_stop(beside)
    assert turns(store) == []


def test_a_run_takes_the_threads_of_the_stages_that_it_can_take_over(store: Store, cores: Any) -> None:
    before = store.submit(strength(1.0)).run
    assert worker.run_claim(store.claim_run(before), "cpu", maps="none", threads=1).state == "complete"
    assert store.fold(before).started.threads == 1  # type: ignore[union-attr]
    run = store.submit(strength(2.0)).run
    assert told(turns(store)) == [(run, 1)]
    assert Slots(store, "cpu").threads_alone(store.record(run)) == 1
    fresh = store.submit(strength(2.0), use_cache=False).run
    assert told(turns(store, most=1)) == [(run, 1), (fresh, 2)]
    assert worker.run_claim(store.claim_run(run), "cpu", maps="none").state == "complete"
    assert [stage.reused for stage in store.result(run).stages] == [True, False]
    started = store.fold(run).started
    assert started is not None and started.cores is not None
    assert store.result(run).device_share == 1 / started.cores


def test_whose_stage_is_being_trained_is_passed_over(store: Store) -> None:
    first, second, other = (store.submit(config).run for config in (strength(1.0), strength(2.0), tiny("packnet")))
    (stage,) = {turn.stage for turn in turns(store)[:2]}
    assert stage is not None
    occupy(store, stage=stage)
    assert [run for run, _ in told(turns(store))] == [other]
    occupy(store)
    held = stage_locks.hold(store, StageKey(stage, ""))
    assert held is not None
    assert [run for run, _ in told(turns(store))] == [other]
    held.let_go()
    assert [run for run, _ in told(turns(store))] == [first, second, other]
    fresh = store.submit(strength(1.0), use_cache=False).run
    occupy(store, stage=stage)
    assert [run for run, _ in told(turns(store))] == [other, fresh]


def test_beside_others_a_run_begins_only_where_there_is_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.submit(tiny())
    occupy(store)
    assert len(turns(store)) == 1
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1_000_000_000))
    assert turns(store) == []
    store.forget_worker("cpu", 1)
    assert len(turns(store)) == 1


def test_a_run_that_cannot_be_read_has_its_turn_and_fails(store: Store) -> None:
    run = store.submit(tiny()).run
    (store.folder(run) / "config.json").write_text("{}")
    found = Slots(store, "cpu").claim()
    assert found is not None and found[0].run == run
    assert worker.run_claim(found[0], "cpu", threads=found[1]).state == "failed"


def test_a_claim_is_told_with_its_threads_and_its_stage(store: Store) -> None:
    run = store.submit(tiny()).run
    own, lock = Slots(store, "cpu", 2), store.lock_device("cpu")  # a worker lives as long as it holds its lock
    found = own.claim()
    assert found is not None and found[0].run == run
    (told,) = store.workers()
    keys = keys_ahead(tiny(), "cpu", 1)
    assert (told.run, told.slot, told.slots, told.threads, told.stage) == (run, 0, 2, 1, keys[0].training)
    assert own.claim() is None
    own.tell(None)
    assert store.at_work() == [] and store.workers()[0].run is None
    os.close(lock)
    assert store.workers() == []


def test_an_experiment_is_queued_at_once_and_an_exploration_for_every_slot(store: Store) -> None:
    arms = tuple(Arm(str(value), strength(value)) for value in (1.0, 2.0))
    experiment = Experiment("both", "both", arms, (0,))
    with store.at_once():
        experiments.queue(store, Reader(store).look(experiment))
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.append(len(list(store.waiting("cpu")))))
        thread.start()
        thread.join()
        assert seen == [0]
    assert len(store.active()) == 2
    experiments.stop(store, Reader(store).look(experiment))
    stories.worker_told(store, "cpu", None, slots=2)
    stories.worker_told(store, "cpu", None, slot=1, slots=2)
    explorations.create(store, explored(STRENGTH))
    advancing.advance(store, Reader(store))
    assert len(store.active()) == 2


def test_a_slot_whose_worker_is_gone_is_no_worker(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def start(command: list[str], **_: Any) -> subprocess.Popen[bytes]:
        started.append(command)
        return real([sys.executable, "-c", ""])

    real = subprocess.Popen
    monkeypatch.setattr("labcore.training.worker.subprocess.Popen", start)
    stories.worker_told(store, "cpu", "a-run", slot=1, slots=2)
    worker.ensure(store, "cpu")
    assert [command[-2:] for command in started] == [["--device", "cpu"]]
    stories.worker_told(store, "cpu", None)
    worker.ensure(store, "cpu")
    assert len(started) == 1


# ---- one stage, one run ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def training(store: Store, run: str) -> Iterator[list[Event]]:
    """For the block, let a thread train the run; the list has what it tells."""
    said: list[Event] = []
    claim = store.claim_run(run)
    thread = threading.Thread(
        target=worker.run_claim, args=(claim, "cpu"), kwargs={"tell": said.append, "maps": "none"}
    )
    thread.start()
    try:
        yield said
    finally:
        thread.join()


def test_who_waits_for_a_stage_takes_it_over(store: Store) -> None:
    config = strength(1.0)
    held = stage_locks.hold(store, keys_ahead(config, "cpu", 1)[0])
    assert held is not None
    run = store.submit(config).run
    with training(store, run) as said:
        until(lambda: any(isinstance(event, Waiting) for event in said))
        assert store.fold(run).waiting is not None and store.record(run).state == "running"
        other = store.submit(strength(2.0), use_cache=False).run  # it reads no stage, so it does not wait for one
        assert worker.run_claim(store.claim_run(other), "cpu", maps="none").state == "complete"
        held.let_go()
    assert store.record(run).state == "complete"
    assert [stage.reused for stage in store.result(run).stages] == [True, False]
    assert store.fold(run).waiting is None


def test_who_waits_for_a_stage_can_be_stopped_and_has_trained_nothing(store: Store) -> None:
    held = stage_locks.hold(store, keys_ahead(tiny(), "cpu", 1)[0])
    run = store.submit(tiny()).run
    with training(store, run) as said:
        until(lambda: any(isinstance(event, Waiting) for event in said))
        store.request_stop(run)
    assert store.record(run).state == "stopped"
    assert store.result(run).stages == () and store.fold(run).train_seconds == 0
    assert held is not None
    held.let_go()


def test_how_long_a_run_waited_says_nothing_of_its_speed() -> None:
    waiting = Waiting(stage=1, time=100.0)
    begun = [stories.opened(time=99.0), waiting, *stories.stage(1, "digits", 0, 0)]
    late = [event.model_copy(update={"time": event.time + 1000}) for event in begun[2:]]
    logged = StepLogged(
        stage=1, phase="train", epoch=1, images_seen=40, loss={}, learning_rate=1.0, train_seconds=1,
        evaluation_seconds=0, step=5, time=1110.0,
    )  # fmt: skip
    at_once = [event.model_copy(update={"time": event.time + 1}) for event in begun[2:]]
    there = logged.model_copy(update={"time": 111.0})
    waited, never = (fold([*begun[:2], *late, logged]), fold([begun[0], *at_once, there]))
    assert forecast(waited, None).seconds_left == pytest.approx(11 / 12 * forecast(never, None).seconds_left)


def test_a_stage_whose_trainer_was_killed_is_free(store: Store) -> None:
    code = """
import sys
from labcore.runs.stage_keys import StageKey
from labcore.runs.stage_locks import hold
from labcore.runs.store import Store
held = hold(Store(), StageKey("ab" * 32, ""))
print("held", flush=True)
sys.stdin.read()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        assert stage_locks.is_held(store, "ab" * 32)
        assert stage_locks.hold(store, StageKey("ab" * 32, "")) is None
        other.kill()
    assert not stage_locks.is_held(store, "ab" * 32)
    held = stage_locks.hold(store, StageKey("ab" * 32, ""))
    assert held is not None
    held.let_go()
    held.let_go()
    assert list((store.cache / "training").iterdir()) == []


# ---- standing still -------------------------------------------------------------------------------------------------


def test_the_others_stand_still_with_their_clocks_while_one_measures(tmp_path: Path) -> None:
    said: list[Event] = []

    def train() -> None:
        for event in loop.train(tiny(training__epochs=8), quiet=Quiet(tmp_path)):
            said.append(event)

    told = threading.Event()
    quiet, thread = Quiet(tmp_path), threading.Thread(target=train)
    begun = time.perf_counter()
    with quiet.training():
        real = Clock.start

        def start(clock: Clock) -> None:
            told.set()
            real(clock)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Clock, "start", start)
            thread.start()
            until(told.is_set)
            with quiet.alone():
                assert somebody_measures(tmp_path)
                still, since = len(said), time.perf_counter()
                time.sleep(1.0)
                assert len(said) == still
                paused = time.perf_counter() - since
    thread.join()
    whole = time.perf_counter() - begun
    clocks = [event for event in said if isinstance(event, StepLogged)][-1]
    assert clocks.train_seconds + clocks.evaluation_seconds < whole - paused
    assert said[-1].event == "run_ended" and not somebody_measures(tmp_path)


def test_two_measure_one_after_the_other_and_a_killed_one_keeps_nobody(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from labcore.runs.quiet import Quiet
quiet = Quiet(Path(sys.argv[1]))
with quiet.training(), quiet.alone():
    print("alone", flush=True)
    sys.stdin.read()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "alone\n"
        quiet, entered = Quiet(tmp_path), threading.Event()

        def measure() -> None:
            with quiet.training(lambda: True), quiet.alone():
                entered.set()

        thread = threading.Thread(target=measure)
        thread.start()
        assert not entered.wait(0.1)
        with Quiet(tmp_path).training(lambda: True):
            pass  # who is to stop does not stand still
        other.kill()
        thread.join()
    assert entered.is_set() and not somebody_measures(tmp_path)


def test_who_does_not_move_keeps_nobody_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labcore.runs.quiet.MOST_STILL", 0.1)
    monkeypatch.setattr("labcore.runs.quiet.MOST_PATIENCE", 0.1)
    busy, measuring = Quiet(tmp_path), Quiet(tmp_path)
    with busy.training(), measuring.training(), measuring.alone():
        assert busy.stand_still() > 0.1
        assert busy.stand_still() == 0.0  # it has waited long enough for this one
    with busy.training(), measuring.training():
        assert busy.stand_still() == 0.0


def test_without_others_nothing_is_looked_at() -> None:
    quiet = Quiet()
    with quiet.training(), quiet.alone():
        assert quiet.stand_still() == 0.0


# ---- energy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("knows", "counted"), [(True, 4000 + 1000), (False, 2000 + 1000)])
def test_runs_at_once_share_what_only_the_machine_knows(knows: bool, counted: float) -> None:
    meter = energy._CodeCarbon.__new__(energy._CodeCarbon)
    reading = SimpleNamespace(data=None)

    def flush() -> None:
        reading.data = SimpleNamespace(cpu_energy=4.0, ram_energy=2.0, gpu_energy=9.0)

    meter._reading, meter._tracker = reading, SimpleNamespace(flush=flush)
    meter._with_gpu, meter._knows_process, meter._device = False, knows, "cpu"
    meter._spent, meter._told, meter._runs = 0.0, (0.0, 0.0, 0.0), lambda device: 2
    assert meter.read() == pytest.approx(counted)
    assert meter.read() == pytest.approx(counted)
    meter._with_gpu = True
    meter._runs = lambda device: 1 if device else 2  # the card is this run's alone
    assert meter.read() == pytest.approx(counted + 9000)


# ---- processes ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def held_at_stage_2(store: Store, *configs: RunConfig, threads: int) -> Iterator[list[stage_locks.Held]]:
    """For the block, no run may train the second stage of these before its lock is let go."""
    held = [stage_locks.hold(store, keys_ahead(config, "cpu", threads)[1]) for config in configs]
    assert None not in held
    try:
        yield [one for one in held if one]
    finally:
        for one in held:
            if one:
                one.let_go()


def waits(store: Store, run: str) -> bool:
    return store.fold(run).waiting is not None


def slot_of(store: Store, run: str) -> WorkerRecord:
    return next(found for found in store.workers() if found.run == run)


def steps_of(store: Store, run: str, stage: int) -> int:
    """How many steps of a stage the run has told of."""
    found = store.fold(run)
    return found.step - found.stages[stage - 1].step if len(found.stages) >= stage else 0


def same(store: Store, run: str, threads: int) -> bool:
    """Whether the run's arrays and figures are those of one that is trained alone, with so many threads."""
    alone = store.submit(store.config(run), use_cache=False).run
    assert worker.run_claim(store.claim_run(alone), "cpu", maps="none", threads=threads).state == "complete"
    for stage in (1, 2):
        one, other = (stage_arrays(store, name, stage) for name in (run, alone))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in other)
    folds = store.fold(run), store.fold(alone)
    return folds[0].accuracy == folds[1].accuracy and folds[0].losses == folds[1].losses


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> int:
    """What each of two runs gets of this machine's cores, where nobody asks for a number of threads."""
    monkeypatch.delenv("REUSE_LAB_THREADS")
    return max(1, hardware.cores() // 2)


def test_two_runs_train_at_once_and_come_out_as_alone(store: Store, part: int) -> None:
    configs = tiny(), tiny("packnet")
    runs = [store.submit(config).run for config in configs]
    with held_at_stage_2(store, *configs, threads=part):
        process = start_worker("--slots", "2", "--until-idle", "--maps", "none")
        until(lambda: all(waits(store, run) for run in runs), growth(store.root))
        assert [(found.slot, found.threads) for found in store.at_work("cpu")] == [(0, part), (1, part)]
        assert {record.state for record in store.active()} == {"running"}
    assert ended(process) == 0
    assert [store.record(run).state for run in runs] == ["complete", "complete"]
    assert store.workers() == []
    assert all(same(store, run, part) for run in runs)
    assert all(store.result(run).energy_wh for run in runs)


def test_one_run_has_all_cores(store: Store, part: int) -> None:
    run = store.submit(tiny()).run
    worker.work(store, "cpu", slots=2, until_idle=True, maps="none")
    started = store.fold(run).started
    assert started is not None and started.threads == started.cores == hardware.cores()


def test_one_slot_is_killed_and_one_run_stopped_and_the_other_goes_on_as_it_began(store: Store, part: int) -> None:
    configs = tiny(), tiny("packnet", training__epochs=30)
    stopped, killed = (store.submit(config).run for config in configs)
    with held_at_stage_2(store, *configs, threads=part) as locks:
        options = ["--slots", "2", "--until-idle", "--maps", "none", "--checkpoint-seconds", "0"]
        process = start_worker(*options)
        until(lambda: waits(store, stopped) and waits(store, killed), growth(store.root))
        assert [slot_of(store, run).slot for run in (stopped, killed)] == [0, 1]
        locks[1].let_go()
        until(lambda: steps_of(store, killed, 2) > 4, growth(store.root))
        os.kill(slot_of(store, killed).process.pid, signal.SIGKILL)
        store.request_stop(stopped)
        until(lambda: store.record(stopped).state == "stopped")
        assert ended(process) == 0
    assert store.record(killed).state == "complete"
    starts = [event for event in store.tail(killed)[0] if isinstance(event, RunStarted)]
    assert [start.threads for start in starts] == [part, part]  # alone it could have had all cores
    assert starts[1].resumed_from_step is not None and starts[1].resumed_from_step > 0
    assert same(store, killed, part)


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.heavy)])
def test_where_the_worker_ends_its_slots_put_their_runs_back(store: Store, part: int, how: signal.Signals) -> None:
    configs = tiny(), tiny("packnet")
    first, second = (store.submit(config).run for config in configs)
    with held_at_stage_2(store, *configs, threads=part):
        process = start_worker("--slots", "2", "--maps", "none")
        until(lambda: waits(store, first) and waits(store, second), growth(store.root))
        process.send_signal(how)
        ended(process)
        until(lambda: store.record(second).state == "queued" and not store.workers())
    assert store.record(first).lost if how == signal.SIGKILL else store.record(first).state == "queued"
    assert [turn.record.run for turn in turns(store)] == [first, second]
