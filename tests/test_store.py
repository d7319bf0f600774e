import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import diskcache
import pytest

from labcore.configs.base import ConfigError
from labcore.runs import losses
from labcore.runs.errors import Busy, StoreError, UnknownRun
from labcore.runs.events import RunEnded, StageStarted
from labcore.runs.files import is_held, take_lock
from labcore.runs.records import Process
from labcore.runs.store import Store
from tests.conftest import tiny
from tests.waiting import until


def test_a_queued_run_is_claimed_once_and_finished(store: Store) -> None:
    run = store.submit(tiny()).run
    claim = store.claim("cpu")
    assert claim is not None
    assert claim.run == run
    assert store.record(run).state == "running"
    assert store.claim("cpu") is None
    with pytest.raises(Busy):
        store.claim_run(run)
    claim.append(RunEnded(state="complete"))
    assert claim.finish("complete").state == "complete"
    assert store.submit(tiny()).cached
    assert store.check() == []


def test_the_oldest_waits_least_and_devices_are_kept_apart(store: Store) -> None:
    first = store.submit(tiny(), device="cuda:0").run
    second = store.submit(tiny(seed=1)).run
    third = store.submit(tiny(seed=2)).run
    claimed = [store.claim("cpu"), store.claim("cpu"), store.claim("cpu")]
    assert [claim.run if claim else None for claim in claimed] == [second, third, None]
    assert store.record(first).state == "queued"


def test_the_queue_keeps_its_order(store: Store) -> None:
    runs = [store.submit(tiny(seed=seed)).run for seed in range(3)]
    first = store.claim("cpu")
    assert first is not None
    assert [record.run for record in store.active()] == runs
    first.finish("stopped")
    store.resume(runs[0])
    assert [record.run for record in store.active()] == [*runs[1:], runs[0]]


def test_a_changed_field_or_changed_pictures_is_a_new_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = store.submit(tiny()).run
    assert store.submit(tiny()).run == run
    assert store.submit(tiny(seed=1)).run != run
    assert store.submit(tiny(), use_cache=False).run != run
    monkeypatch.setattr("labcore.tasks.catalogue.fingerprint", lambda name: "other")
    assert store.submit(tiny()).run != run


def test_two_tabs_that_submit_at_once_get_one_run(home: Path) -> None:
    Store().close()
    found: list[str] = []
    barrier = threading.Barrier(8)

    def submit() -> None:
        mine = Store()
        barrier.wait()
        found.append(mine.submit(tiny()).run)

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert len(Store().records()) == 1


def test_stopped_and_failed_runs_go_on_when_submitted_or_resumed(store: Store) -> None:
    run = store.submit(tiny()).run
    store.request_stop(run)
    assert store.record(run).state == "stopped"
    assert store.submit(tiny()).run == run
    assert store.record(run).state == "queued"
    claim = store.claim_run(run)
    claim.fail("It broke.")
    assert (store.record(run).state, store.record(run).error) == ("failed", "It broke.")
    assert store.resume(run).state == "queued"
    assert store.record(run).error is None


def test_a_stop_is_seen_by_its_writer_and_gone_after_it(store: Store) -> None:
    run = store.submit(tiny()).run
    claim = store.claim_run(run)
    assert not claim.stop_requested()
    store.request_stop(run)
    assert claim.stop_requested()
    claim.finish("stopped")
    store.resume(run)
    assert not store.claim_run(run).stop_requested()


def test_a_torn_last_line_is_no_event_and_the_next_writer_cuts_it_off(store: Store) -> None:
    run = store.submit(tiny()).run
    claim = store.claim_run(run)
    claim.append(StageStarted(stage=1, task="digits", images=4, images_seen=0))
    path = store.folder(run) / "events.jsonl"
    with path.open("ab") as file:
        file.write(b'{"event":"run_en')
    events, offset = store.tail(run)
    assert [event.event for event in events] == ["stage_started"]
    claim.put_back()
    again = store.claim_run(run)
    again.append(RunEnded(state="stopped"))
    more, _ = store.tail(run, offset)
    assert [(event.event, event.seq, event.attempt) for event in more] == [("run_ended", 1, 2)]


def test_tail_reads_on_from_where_it_was(store: Store) -> None:
    claim = store.claim_run(store.submit(tiny()).run)
    offset, seen = 0, []
    for stage in range(1, 6):
        claim.append(StageStarted(stage=stage, task="digits", images=4, images_seen=0))
        events, offset = store.tail(claim.run, offset)
        seen += [event.seq for event in events]
    assert seen == [0, 1, 2, 3, 4]
    assert store.tail(claim.run, offset) == ([], offset)


def test_a_full_disk_leaves_no_torn_line_and_the_failure_is_written_down(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = store.submit(tiny()).run
    claim = store.claim_run(run)
    claim.append(StageStarted(stage=1, task="digits", images=4, images_seen=0))
    real = os.write
    monkeypatch.setattr("labcore.runs.claims.os.write", lambda file, data: real(file, data[:10]))
    with pytest.raises(OSError, match="No space") as error:
        claim.append(RunEnded(state="complete"))
    assert error.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert (store.root / "reserve").exists()
    claim.fail("The disk is full.")
    assert not (store.root / "reserve").exists()
    assert store.record(run).state == "failed"
    assert [event.event for event in store.tail(run)[0]] == ["stage_started", "run_ended"]


@pytest.mark.parametrize("run", ["../../etc", "..", "", "nope", "a/b", "A", "a" * 300, "x\x00"])
def test_what_is_no_run_is_unknown(store: Store, run: str) -> None:
    for call in (
        store.record,
        store.folder,
        store.tail,
        store.result,
        store.request_stop,
        store.resume,
        store.delete,
        store.claim_run,
    ):
        with pytest.raises(UnknownRun):
            call(run)


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="REUSE_LAB_HOME"):
        Store(tmp_path / "file" / "home")


def test_the_folder_is_its_owners_alone(store: Store) -> None:
    run = store.submit(tiny()).run
    for folder in (store.root, store.root / "runs", store.folder(run)):
        assert folder.stat().st_mode & 0o777 == 0o700


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


def test_a_pickle_somebody_left_is_not_opened(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = store.submit(tiny()).run
    diskcache.Cache(str(store.root / "records")).set(f"run/{run}", Bomb())
    assert store.record(run).state == "queued"
    assert "made anew from the run's folder" in store.notes[0]
    assert not (tmp_path / "exploded").exists()


def test_deleting_takes_everything_but_not_under_a_writer(store: Store) -> None:
    run = store.submit(tiny()).run
    claim = store.claim_run(run)
    with pytest.raises(Busy, match="stop it first"):
        store.delete(run)
    claim.finish("stopped")
    store.delete(run)
    assert store.records() == []
    assert not list((store.root / "runs").iterdir())
    assert not store.submit(tiny()).cached


def test_a_run_whose_folder_is_gone_breaks_nothing(store: Store) -> None:
    import shutil

    run, other = store.submit(tiny()).run, store.submit(tiny(seed=1)).run
    shutil.rmtree(store.root / "runs" / run)
    assert len(store.records()) == 2
    claim = store.claim("cpu")
    assert claim is not None
    assert claim.run == other
    assert run in store.check()[0]
    assert store.submit(tiny()).run != run


def test_a_dead_writer_is_noticed_and_its_run_taken_over(store: Store, home: Path) -> None:
    run = store.submit(tiny()).run
    code = f"""
import sys
from labcore.runs.store import Store
Store().claim_run({run!r})
print("claimed", flush=True)
sys.stdin.read()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "claimed\n"
        assert not store.record(run).lost
        with pytest.raises(Busy):
            store.claim_run(run)
        writer.kill()
        until(lambda: store.record(run).lost)  # a zombie until it is waited for: lost all the same
        # Its other threads may hold the lock a moment longer than its first one lives; a worker asks again.
        claim = until(lambda: store.claim("cpu"))
        assert (claim.run, claim.record.attempt) == (run, 2)


def test_a_run_that_ends_its_workers_fails_at_last_and_the_next_is_taken(store: Store) -> None:
    run, other = store.submit(tiny()).run, store.submit(tiny(seed=1)).run
    for attempt in (1, 2, 3):
        claim = store.claim("cpu")
        assert claim is not None and (claim.run, claim.record.attempt) == (run, attempt)
        claim.release()  # as if its worker had been killed
    claim = store.claim("cpu")
    assert claim is not None and claim.run == other
    record = store.record(run)
    assert record.state == "failed" and record.times_lost == 3
    assert record.error == (
        "Its worker was lost 3 times in a row, each time before a new checkpoint was there. Resume it once whatever "
        "ends its workers is over; workers/worker.log may say what that is."
    )
    assert store.tail(run)[0][-1].event == "run_ended"
    store.resume(run)  # a person may try again, as often as before
    for _ in (1, 2, 3):
        claim = store.claim("cpu")
        assert claim is not None and claim.run == run
        claim.release()  # as if its worker had been killed


def test_a_run_that_gets_further_may_lose_any_number_of_workers(store: Store) -> None:
    store.submit(tiny())
    for attempt in range(1, 8):
        claim = store.claim("cpu")
        assert claim is not None and claim.record.attempt == attempt
        (claim.folder / "checkpoint.safetensors").write_bytes(b"")
        os.utime(claim.folder / "checkpoint.safetensors", (attempt, attempt))
        claim.release()  # as if its worker had been killed


def test_three_in_a_row_without_a_new_checkpoint_are_counted_from_the_last_new_one(store: Store) -> None:
    run = store.submit(tiny()).run
    for lost_attempts in (0, 0, 1, 2):
        claim = store.claim("cpu")
        assert claim is not None and claim.record.lost_attempts == lost_attempts
        if claim.record.attempt == 1:
            (claim.folder / "checkpoint.safetensors").touch()
        claim.release()  # as if its worker had been killed
    assert store.claim("cpu") is None
    record = store.record(run)
    assert (record.state, record.times_lost) == ("failed", 4)


def test_memory_is_named_where_the_system_has_counted_that_it_ran_out(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = store.submit(tiny()).run
    for counted in ((7, 2), (7, 2), (7, 3)):
        monkeypatch.setattr("labcore.runs.losses.memory_kills", lambda counted=counted: counted)
        store.claim_run(run).release()
        loss = store.record(run).loss
        assert loss is None or not loss.memory or counted == (7, 3)
    store.tell_loss(os.getpid(), "signal 9 (SIGKILL)", memory=False)
    monkeypatch.setattr("labcore.runs.losses.memory_kills", lambda: (7, 4))
    assert store.claim("cpu") is None
    error = store.record(run).error or ""
    assert "the last one by signal 9 (SIGKILL). The system had run out of memory." in error
    assert "training.batch_size" in error

    # Another process in another control group: nothing is known.
    monkeypatch.setattr("labcore.runs.losses.memory_kills", lambda: (8, 9))
    monkeypatch.setattr(Process, "me", lambda: Process(pid=2**22 + 1, created=1.0))
    store.resume(run)
    for _ in range(3):
        store.claim_run(run).release()
    assert store.claim("cpu") is None
    assert "memory" not in (store.record(run).error or "")


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"memory.events": "low 0\noom 2\noom_kill 1\n"}, 1),
        ({"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"}, 4),
        ({"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"}, None),
        ({}, None),
    ],
)
def test_what_the_system_counts_of_memory_is_read_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], found: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr("labcore.runs.losses._control_groups", lambda: [tmp_path / "elsewhere", tmp_path])
    kills = losses.memory_kills()
    assert (kills and kills[1]) == found
    (tmp_path / "memory.max").write_text("1000\n")
    assert losses.memory_there_is() == 1000


@pytest.mark.parametrize("claimed_again", [False, True])
def test_whoever_started_a_worker_tells_how_it_was_lost(store: Store, claimed_again: bool) -> None:
    run = store.submit(tiny()).run
    code = f"from labcore.runs.store import Store; Store().claim_run({run!r}); print(1, flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"1\n"
        told: list[tuple[str, bool]] = []
        end = losses.watch(writer, lambda how, memory: told.append((how, memory)))
        writer.kill()
        end.join()
        assert told == [("signal 9 (SIGKILL)", False)] and writer.returncode == -9
    if claimed_again:
        claim = until(lambda: store.claim("cpu"))
        assert claim.record.loss.how == ""
    until(lambda: claimed_again or store.record(run).lost)
    store.tell_loss(writer.pid, *told[0])
    assert (store.record(run).loss or pytest.fail("not told")).how == "signal 9 (SIGKILL)"


def test_a_process_is_told_from_a_later_one_of_its_number() -> None:
    me = Process.me()
    assert me.memory() > 1_000_000
    assert Process(pid=me.pid, created=me.created - 100).memory() == 0
    assert Process(pid=2**22 + 1, created=0).memory() == 0


# Asks whether a lock is held, until its standard input is closed, and says how often; or dies at the first refusal.
ASKS = """
import sys, threading
from pathlib import Path
from labcore.runs.files import is_held

over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
asked = 0
while not over.is_set() or asked < 1000:
    is_held(Path(sys.argv[1]))
    asked += 1
print(asked)
"""


def test_a_thousand_questions_refuse_none_of_a_thousand_claims(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    asks = [
        subprocess.Popen(
            [sys.executable, "-c", ASKS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in (1, 2)
    ]
    try:
        for _ in range(1000):
            lock = take_lock(path)  # raises Busy where a question is in its way
            assert is_held(path)
            os.close(lock)
        assert not is_held(path)
        assert all(int(process.communicate()[0]) >= 1000 for process in asks)
    finally:
        for process in asks:
            process.kill()
            process.wait()


def test_a_question_in_the_way_of_a_claim_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    path.touch()
    question = os.open(path, os.O_RDONLY)
    fcntl.flock(question, fcntl.LOCK_SH)
    monkeypatch.setattr("labcore.runs.files.time.sleep", lambda seconds: fcntl.flock(question, fcntl.LOCK_UN))
    os.close(take_lock(path))
    assert not is_held(path)
    os.close(question)


def test_neither_a_clock_that_is_set_nor_another_container_makes_the_living_dead(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a process has another start, or is not to be seen at all."""
    run = store.submit(tiny()).run
    claim = store.claim_run(run)
    lock = store.lock_device("cpu")
    store.tell_worker("cpu", run)
    monkeypatch.setattr("psutil.Process", lambda *pid: pytest.fail("a process is asked for by its number"))
    assert not store.record(run).lost and not store.records()[0].lost
    assert list(store.waiting("cpu")) == [] and store.claim("cpu") is None
    assert [worker.run for worker in store.workers()] == [worker.run for worker in store.at_work()] == [run]
    assert store.resume(run).state == "running"
    store.request_stop(run)
    assert claim.stop_requested()
    claim.finish("stopped")
    os.close(lock)
    assert store.workers() == store.at_work() == []


def test_a_stop_reaches_whoever_holds_the_run_next(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was asked for while the run trained, or by a person who saw a claim begin, and its worker died first."""
    run = store.submit(tiny()).run
    claim = store.claim_run(run)
    store.request_stop(run)
    for descriptor in (claim._events, claim._lock):
        os.close(descriptor)  # killed: nothing is tidied up
    assert store.record(run).lost
    assert store.claim("cpu") is None
    assert store.record(run).state == "stopped"

    assert store.resume(run).state == "queued"
    claim = store.claim_run(run)
    assert not claim.stop_requested()
    store.request_stop(run)
    assert claim.put_back().state == "stopped"


def test_a_worker_that_comes_up_says_nothing_of_what_the_dead_one_trained(store: Store) -> None:
    lock = store.lock_device("cpu")
    store.tell_worker("cpu", "a-run")
    os.close(lock)
    assert store.workers() == []
    lock = store.lock_device("cpu")
    assert store.at_work() == []
    os.close(lock)


def test_only_numbers_are_stages(store: Store) -> None:
    run = store.submit(tiny()).run
    for name in ("1", "12", "²", "x"):
        store.stage_folder(run, 1).with_name(name).mkdir(parents=True)
        (store.stage_folder(run, 1).with_name(name) / "network.safetensors").touch()
    assert store.stages_stored(run) == [1, 12]


def test_a_configuration_that_cannot_be_read_is_said(store: Store) -> None:
    run = store.submit(tiny()).run
    (store.folder(run) / "config.json").write_text("{}")
    with pytest.raises(ConfigError):
        store.config(run)


def test_all_that_a_store_has_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Also in a folder that somebody made for it, open to all, and with what was there before."""
    old = os.umask(0)
    try:
        root = tmp_path / "open"
        for folder in (root, root / "records", root / "weights"):
            folder.mkdir(mode=0o755)
        (root / "settings.json").write_text("{}")
        Store(root).change_settings(country="FRA")
        Store(root).submit(tiny())
        store = Store(root)
        store.change_settings(country="DEU")
    finally:
        os.umask(old)
    modes = {path.relative_to(root).as_posix(): path.stat().st_mode & 0o777 for path in root.iterdir()}
    assert {mode for name, mode in modes.items() if (root / name).is_dir()} == {0o700}
    assert {mode for name, mode in modes.items() if (root / name).is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (root / "records").glob("cache.db*")} == {0o600}
    assert root.stat().st_mode & 0o777 == 0o755
