import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from labcore.cli import main as cli
from labcore.configs.run import RunConfig
from labcore.runs import checkpoints
from labcore.runs.claims import Claim
from labcore.runs.events import Event, PhaseStarted, RunStarted, StageStarted, StepLogged
from labcore.runs.store import Store
from labcore.studies import estimates
from labcore.training import ahead, worker
from tests import stories
from tests.conftest import Killed, tiny
from tests.waiting import ended, growth, until, work

ROOT = Path(__file__).parent.parent


# A worker that trains up to a step, and on once a file is there.
HELD = """
import os, sys, time
from labcore.cli.main import main
from labcore.runs.claims import Claim

step, gate, *arguments = sys.argv[1:]
append = Claim.append

def held(self, event):
    event = append(self, event)
    while event.step >= int(step) and not os.path.exists(gate):
        time.sleep(0.01)
    return event

Claim.append = held
sys.exit(main(["worker", "--device", "cpu", *arguments]))
"""


def start_worker(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "labcore", "worker", "--device", "cpu", *arguments], cwd=ROOT)


def held_worker(gate: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A worker that cannot be done before the test has looked at it, however fast it is: `gate` lets it go on."""
    return subprocess.Popen([sys.executable, "-c", HELD, str(LAST_STEPS), str(gate), *arguments], cwd=ROOT)


# Where a held worker waits: shortly before the end of a longer run.
LAST_STEPS = 100


def longer(method: str = "separate_copies") -> RunConfig:
    """A run of a good hundred steps, so that there is a middle to be killed in."""
    return tiny(method, training__epochs=12)


def stage_arrays(store: Store, run: str, stage: int) -> dict[str, torch.Tensor]:
    return {
        name: value
        for path in store.stage_folder(run, stage).glob("*.safetensors")
        for name, value in load_file(path).items()
    }


@pytest.mark.parametrize(
    "method",
    ["ewc", pytest.param("packnet", marks=pytest.mark.heavy), pytest.param("separate_copies", marks=pytest.mark.heavy)],
)
def test_killed_in_the_middle_it_goes_on_by_itself_and_ends_bit_for_bit_the_same(store: Store, method: str) -> None:
    run = store.submit(longer(method)).run
    victim = held_worker(store.root / "gate", "--checkpoint-seconds", "0.1")
    try:
        told = growth(store.root)
        until(lambda: (store.folder(run) / "checkpoint.safetensors").exists(), told)
        step = until(lambda: max((e.step for e in store.tail(run)[0] if isinstance(e, StepLogged)), default=0), told)
        until(lambda: max((e.step for e in store.tail(run)[0]), default=0) > step + 20, told)
        victim.send_signal(signal.SIGKILL)
        until(lambda: store.record(run).lost)
    finally:
        victim.kill()
        victim.wait()
    assert ended(start_worker("--until-idle")) == 0
    assert store.record(run).state == "complete"
    starts = [event for event in store.tail(run)[0] if isinstance(event, RunStarted)]
    assert [start.attempt for start in starts] == [1, 2]
    assert starts[0].resumed_from_step is None
    assert starts[1].resumed_from_step is not None
    assert starts[1].resumed_from_step > 0

    whole = store.submit(longer(method), use_cache=False).run
    worker.run_claim(store.claim_run(whole), "cpu", maps="none")
    for stage in (1, 2):
        killed, never = (stage_arrays(store, r, stage) for r in (run, whole))
        assert killed.keys() == never.keys()
        assert all(torch.equal(killed[name], never[name]) for name in never)
    assert store.result(run).accuracy_matrix == store.result(whole).accuracy_matrix
    assert store.fold(run).accuracy == store.fold(whole).accuracy
    assert store.fold(run).losses == store.fold(whole).losses


@pytest.mark.parametrize("method", ["ewc", pytest.param("packnet", marks=pytest.mark.heavy)])
def test_killed_after_its_first_checkpoint_each_attempt_gets_a_step_further_and_ends_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    run = store.submit(tiny(method)).run
    saved: list[tuple[int, int]] = []

    def save_and_be_killed(path: Path, position: checkpoints.Position, tensors: dict[str, torch.Tensor]) -> None:
        save(path, position, tensors)
        saved.append((position.stage, position.step))
        raise Killed

    save = checkpoints.save
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_and_be_killed)
        while store.record(run).active:
            claim = store.claim("cpu") or pytest.fail("it failed")
            with contextlib.suppress(Killed):
                worker.run_claim(claim, "cpu", maps="none")
                break
            claim.release()
    record = store.record(run)
    assert (record.state, record.times_lost) == ("complete", len(saved)) and len(saved) > 10
    steps = [step for _, step in saved]
    assert steps == sorted(steps) and len(set(saved)) == len(saved)
    assert set(range(steps[-1])) - set(steps) <= {0, *last_steps(store, run)}  # every step but where a phase ends

    whole = store.submit(tiny(method), use_cache=False).run
    worker.run_claim(store.claim_run(whole), "cpu", maps="none")
    for stage in (1, 2):
        killed, never = (stage_arrays(store, r, stage) for r in (run, whole))
        assert all(torch.equal(killed[name], never[name]) for name in never)
    assert store.result(run).accuracy_matrix == store.result(whole).accuracy_matrix
    assert store.fold(run).losses == store.fold(whole).losses


def last_steps(store: Store, run: str) -> set[int]:
    """The steps with which phases end."""
    began = {(event.stage, event.phase): event for event in store.tail(run)[0] if isinstance(event, PhaseStarted)}
    first = {}
    for event in store.tail(run)[0]:
        if isinstance(event, PhaseStarted):
            first.setdefault((event.stage, event.phase), event.step)
    return {first[phase] + event.steps for phase, event in began.items()}


def test_one_worker_a_device(store: Store) -> None:
    first = start_worker()
    try:
        until(store.workers, work(first))
        command = [sys.executable, "-m", "labcore", "worker", "--device", "cpu"]
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert second.returncode == 2
        assert "There is a worker for cpu already; one a device is enough." in second.stderr.splitlines()
    finally:
        first.terminate()
        assert ended(first) == 0
    assert store.workers() == []


def test_a_worker_that_is_refused_has_begun_nothing_that_could_speak(
    store: Store, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def warm_up() -> None:
        raise AssertionError("a library looks at the machine for a worker that does not stay")

    monkeypatch.setattr("labcore.runs.energy.warm_up", warm_up)
    threads = threading.active_count()
    lock = store.lock_device("cpu")
    try:
        assert cli.main(["worker", "--device", "cpu"]) == 2
    finally:
        os.close(lock)
    assert threading.active_count() == threads
    out, err = capfd.readouterr()
    assert (out, err) == ("", "There is a worker for cpu already; one a device is enough.\n")


def test_as_a_program_it_says_nothing_that_libraries_say_to_programmers() -> None:
    code = """
import runpy, sys, warnings
from labcore.cli import main as cli
cli.main = lambda: warnings.warn("this will be gone in the next version", FutureWarning)
runpy.run_module("labcore", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_told_to_end_a_worker_puts_its_run_back(store: Store) -> None:
    run = store.submit(longer()).run
    process = held_worker(store.root / "gate")
    until(lambda: any(isinstance(event, StepLogged) for event in store.tail(run)[0]), work(process))
    process.terminate()
    (store.root / "gate").touch()
    assert ended(process) == 0
    assert store.record(run).state == "queued"
    assert (store.folder(run) / "checkpoint.safetensors").exists()


def test_stop_is_read_at_once_and_resume_goes_on(store: Store) -> None:
    run = store.submit(tiny()).run
    told: list[Event] = []

    def stop_in_the_middle(event: Event) -> None:
        told.append(event)
        if isinstance(event, StepLogged) and len(told) == 12:
            store.request_stop(run)

    record = worker.run_claim(store.claim_run(run), "cpu", tell=stop_in_the_middle, maps="none")
    assert record.state == "stopped"
    assert told[-1].step - told[11].step <= 1
    store.resume(run)
    assert worker.run_claim(store.claim_run(run), "cpu", maps="none").state == "complete"
    assert not (store.folder(run) / "checkpoint.safetensors").exists()


def breaking(error: Exception) -> worker.Train:
    def train(config: RunConfig, **options: Any) -> Iterator[Event]:
        yield StageStarted(stage=1, task="digits", images=1, images_seen=0)
        raise error

    return train


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (ValueError("odd\nthing"), "ValueError: odd thing"),
        (ValueError("odd"), "workers/worker.log"),
        (MemoryError(), "smaller training.batch_size or backbone.image_size"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), "not enough memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            "not enough memory",
        ),
    ],
)
def test_whatever_goes_wrong_is_the_runs_and_not_the_workers(store: Store, error: Exception, said: str) -> None:
    before = stories.told(store, tiny(seed=5), [[0.9], [0.4, 0.8]])
    run = store.submit(tiny()).run
    record = worker.run_claim(store.claim_run(run), "cpu", train=breaking(error))
    assert record.state == "failed"
    assert record.error is not None
    assert said in record.error
    assert "\n" not in record.error
    assert store.result(before).state == "complete"
    assert store.result(run).error == record.error


def test_a_configuration_that_cannot_be_read_ends_no_worker(store: Store) -> None:
    run = store.submit(tiny()).run
    (store.folder(run) / "config.json").write_text("{}")
    assert worker.run_claim(store.claim_run(run), "cpu").state == "failed"


def test_a_disk_that_is_full_while_appending_fails_the_run_cleanly(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stories.told(store, tiny(seed=5), [[0.9], [0.4, 0.8]])
    run = store.submit(tiny()).run
    claim, real, written = store.claim_run(run), os.write, 0

    def fills_up(file: int, data: bytes) -> int:
        nonlocal written
        written += len(data)
        if written > 3000 and (store.root / "reserve").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data)

    monkeypatch.setattr("labcore.runs.claims.os.write", fills_up)
    record = worker.run_claim(claim, "cpu")
    assert record.state == "failed"
    assert "disk is full" in (record.error or "")
    assert store.tail(run)[0][-1].event == "run_ended"
    assert store.result(before).state == "complete"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        store = Store(disk / "home")
        before = stories.told(store, tiny(seed=5), [[0.9], [0.4, 0.8]])
        run = store.submit(tiny()).run
        claim = store.claim_run(run)
        rest = os.open(disk / "rest", os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while True:
                os.write(rest, b"\0" * 4096)
        os.close(rest)
        record = worker.run_claim(claim, "cpu")
        assert record.state == "failed"
        assert "disk is full" in (record.error or "")
        assert store.record(run).state == "failed"
        assert store.result(before).state == "complete"
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=False)


def test_a_speed_that_cannot_be_measured_ends_no_worker(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("labcore.training.speed.measure", breaks)
    assert estimates.known(store, "cpu", tiny()) is None
    wish = estimates.next_wish(store, "cpu")
    assert wish is not None
    worker._measure_speed(store, "cpu", wish, lambda: False)
    assert estimates.next_wish(store, "cpu") is None


def test_a_worker_is_started_once_and_outlives_its_starter(store: Store) -> None:
    worker.ensure(store, ahead=True)
    worker.ensure(store)
    (found,) = until(store.workers)
    try:
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, found.process.pid) == own, "what trains is no slower than others"
        assert found.device == "cpu" or found.device.startswith("cuda")
        assert os.getsid(found.process.pid) != os.getsid(0)
        worker.ensure(store)
    finally:
        os.kill(found.process.pid, signal.SIGTERM)
        until(lambda: not store.workers())


IMPATIENT = """
import sys
from labcore.cli.main import main
from labcore.training import worker

worker.AHEAD_SECONDS = 0.0
sys.exit(main(["worker", "--device", "cpu", "--ahead"]))
"""


def test_a_worker_that_came_up_ahead_ends_where_nobody_starts_anything_and_else_stays(store: Store) -> None:
    command = [sys.executable, "-c", IMPATIENT]
    assert ended(subprocess.Popen(command, cwd=ROOT)) == 0
    run = store.submit(tiny()).run
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        until(lambda: store.record(run).state == "complete", work(process))
        until(lambda: [found.run for found in store.workers()] == [None])
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(5 * worker.POLL_SECONDS)
    finally:
        process.terminate()
        assert ended(process) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only there a thread has a priority of its own")
def test_what_is_done_gently_is_done_at_a_lower_priority_and_by_itself_alone() -> None:
    found: list[int] = []
    own = os.getpriority(os.PRIO_PROCESS, 0)
    ahead.gently(lambda: found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))).join()
    assert found[0] == min(own + 5, 19)  # whatever this process itself was started with
    assert os.getpriority(os.PRIO_PROCESS, 0) == os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own


def test_a_claim_without_an_end_is_a_failure(store: Store) -> None:
    def silent(config: RunConfig, **options: Any) -> Iterator[Event]:
        yield from ()

    claim: Claim = store.claim_run(store.submit(tiny()).run)
    assert worker.run_claim(claim, "cpu", train=silent).state == "failed"
