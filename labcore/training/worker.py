"""The worker takes queued runs and trains them: a process for each device, outliving page and server.

It stays warm: torch is loaded once, for all its runs. While several runs wait, further processes train beside it, the
slots of its device (slots.py says which run is whose turn, foreman.py starts the processes). The loop that claims runs
is here, training is elsewhere (`loop.train`), and between them stands `run_claim`, the one place where a run's events
become lines in the store. Torch is not loaded before a worker starts: pages read this module in order to start one.
"""

import contextlib
import errno
import functools
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from labcore.configs.base import ConfigError
from labcore.configs.reading import require_installed
from labcore.runs import energy, losses
from labcore.runs.claims import Claim
from labcore.runs.errors import Busy
from labcore.runs.events import Event, RunEnded, StageEnded
from labcore.runs.files import take_lock
from labcore.runs.quiet import Quiet
from labcore.runs.records import RunRecord
from labcore.runs.settings import Detail
from labcore.runs.stage_cache import StageCache
from labcore.runs.store import Store
from labcore.studies import advancing, answer_times, estimates
from labcore.studies.reader import Reader
from labcore.tasks.source import TaskError
from labcore.training.ahead import gently
from labcore.training.foreman import Foreman, environment, when_deserted
from labcore.training.slots import Slots, most_slots

log = logging.getLogger("labcore.training.worker")

POLL_SECONDS = 0.15
# A worker that was started is given this long to come up before another one is started in its stead.
START_SECONDS = 30.0
# A further slot for which nothing waits ends after so long; the next one has to load torch again, in about two seconds.
SLOT_SECONDS = 10.0
# A worker that came up before anybody needed it ends when it got no run for so long.
AHEAD_SECONDS = 1800.0

Train = Callable[..., Iterator[Event]]


def run_claim(
    claim: Claim,
    device: str,
    *,
    checkpoint_seconds: float = 20.0,
    shut_down: Callable[[], bool] = lambda: False,
    tell: Callable[[Event], None] = lambda event: None,
    train: Train | None = None,
    maps: Detail | None = None,
    threads: int | None = None,
) -> RunRecord:
    """Train a claimed run to its end and write down what happens. Whatever goes wrong ends the run, not the worker.

    When `shut_down` turns true the run is put back in the queue, and goes on from its checkpoint when it is claimed
    again. `tell` is given every event once it is written. `maps` says how much is recorded of the network's inside; if
    it is not said, the lab's settings say it. Without `threads` the run gets what it gets alone (slots.py).
    """
    if train is None:
        from labcore.training import loop

        train = loop.train
    maps = maps or claim.store.settings().maps
    folder = None if maps == "none" else claim.folder
    with energy.metering(device, lambda where: len(claim.store.at_work(where))) as meter:
        train = functools.partial(train, meter=meter, maps=folder, live_maps=maps == "all")
        return _train(claim, device, threads, checkpoint_seconds, shut_down, tell, train)


def _train(
    claim: Claim,
    device: str,
    threads: int | None,
    checkpoint_seconds: float,
    shut_down: Callable[[], bool],
    tell: Callable[[Event], None],
    train: Train,
) -> RunRecord:
    store = claim.store
    stage_cache = StageCache(store)
    ended: RunEnded | None = None
    try:
        config = store.config(claim.run)
        require_installed(config)
        events = train(
            config,
            device=device,
            cache=store.cache,
            downloads=store.root,
            checkpoint=claim.folder / "checkpoint.safetensors",
            checkpoint_seconds=checkpoint_seconds,
            stages=lambda stage: store.stage_folder(claim.run, stage),
            should_stop=lambda: shut_down() or claim.stop_requested(),
            stage_cache=stage_cache,
            fresh=claim.record.fresh,
            threads=threads or Slots(store, device).threads_alone(claim.record),
            quiet=Quiet(store.root / "workers"),
        )
        for event in events:
            if isinstance(event, RunEnded) and event.state == "stopped" and not claim.stop_requested() and shut_down():
                return claim.put_back()
            written = claim.append(event)
            if isinstance(event, StageEnded):
                claim.sync()
            if isinstance(event, RunEnded):
                ended = event
            tell(written)
        if ended is None:
            raise RuntimeError("training ended without saying how")
        record = claim.finish(ended.state, ended.error)
        if ended.state == "complete":
            # What only a run that goes on needs: the newest checkpoint and the one before, and Gram matrices.
            for path in [*claim.folder.glob("checkpoint.safetensors*"), *claim.folder.glob("maps/*/grams.npz")]:
                path.unlink(missing_ok=True)
        stage_cache.keep_to_limit(claim.run)
        return record
    except (ConfigError, TaskError) as error:
        return claim.fail(str(error))
    except OSError as error:
        log.exception("Run %s: the system refused", claim.run)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return claim.fail(
                "The disk is full. Free some space, delete runs you no longer need, then resume this run."
            )
        return claim.fail(f"The system refused: {error.strerror or error}. Put that right, then resume this run.")
    except Exception as error:
        log.exception("Run %s failed", claim.run)
        return claim.fail(_what_to_try(error, store))


def _what_to_try(error: Exception, store: Store) -> str:
    """A text for the person: what broke off the training, and what they can do."""
    reason = " ".join(str(error).split())[:300]
    # These are torch's own words for it, of a GPU and of a processor. Its exceptions are not at hand: this module does
    # not load torch.
    short = any(words in reason for words in ("out of memory", "can't allocate memory", "not enough memory"))
    if short or isinstance(error, MemoryError):
        return (
            "There was not enough memory. Run it again with a smaller training.batch_size or backbone.image_size, or "
            "close other programs and resume it."
        )
    return (
        f"Training broke off: {type(error).__name__}: {reason}. The log says where: "
        f"{store.root / 'workers' / 'worker.log'}, or the terminal in which it was trained."
    )


def work(
    store: Store,
    device: str,
    *,
    slots: int | None = None,
    slot: int = 0,
    until_idle: bool = False,
    ahead: bool = False,
    over: Callable[[], bool] = lambda: False,
    ending: threading.Event | None = None,
    checkpoint_seconds: float = 20.0,
    maps: Detail | None = None,
) -> None:
    """Claim runs and train them until told to end, or with `until_idle` until none waits any more.

    It is told by SIGTERM or SIGINT, or by the event `ending` where that is given; then the run at work is put back. It
    ends after a run, too, or while it waits, as soon as `over()` is true.

    Up to `slots` runs train at once, each but the first in a process that is started for it; if it is not said, as many
    as there are cores. Such a process is a `slot` other than 0, and ends when nothing waits, or when its worker does.

    One that comes up `ahead` of need also ends where nobody starts anything in half an hour. After that it stays.

    When no run waits, explorations queue what they want next, and the machine's speed is measured, or finished runs
    are timed in turn, if a page wished it.

    Raises Busy where the device has a worker already, and ConfigError for a device that is not here.
    """
    from labcore.training import hardware  # torch is loaded here, before anyone waits for it

    device = hardware.pick_device(device)
    hardware.prepare()
    lock = store.lock_device(device, slot)
    # In a worker that stays: one that is refused says why, and no library says anything beside it.
    warm_up = functools.partial(gently, energy.warm_up) if ahead else energy.warm_up
    warm_up()
    ending = ending or _ending()
    own = Slots(store, device, most_slots(device, slots), slot)
    train = functools.partial(
        run_claim, device=device, checkpoint_seconds=checkpoint_seconds, shut_down=ending.is_set, maps=maps
    )
    options = ["--checkpoint-seconds", str(checkpoint_seconds), *(["--maps", maps] if maps else [])]
    log.info("Worker for %s, slot %d, process %d", device, slot, os.getpid())
    own.tell(None)
    try:
        with contextlib.ExitStack() as stack:
            if slot:
                when_deserted(ending.set)
            else:
                store.tell_devices(hardware.devices())
                stack.enter_context(Foreman(own, options))
            patience = SLOT_SECONDS if slot else AHEAD_SECONDS if ahead else math.inf
            _serve(own, ending, over, until_idle, patience, train)
    finally:
        store.forget_worker(device, slot)
        os.close(lock)


def _ending() -> threading.Event:
    """An event that is set once this process is told to end."""
    ending = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ending.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    return ending


def _serve(
    own: Slots,
    ending: threading.Event,
    over: Callable[[], bool],
    until_idle: bool,
    patience: float,
    train: Callable[..., RunRecord],
) -> None:
    """Let `train` have the runs whose turn it is in this slot, one by one, until there is no reason to stay.

    It waits for `patience` seconds; where somebody has needed it once, slot 0 stays.
    """
    reader, needed_at, tidied = Reader(own.store), time.monotonic(), own.slot > 0
    while not ending.is_set() and not over():
        found = own.claim()
        if found is not None:
            claim, threads = found
            log.info("Run %s begins, attempt %d, threads: %d", claim.run, claim.record.attempt, threads)
            record = train(claim, threads=threads)
            log.info("Run %s is %s%s", record.run, record.state, f": {record.error}" if record.error else "")
            own.tell(None)
            needed_at, patience = time.monotonic(), patience if own.slot else math.inf
        elif advancing.advance(own.store, reader):
            needed_at = time.monotonic()
        elif next(own.store.waiting(own.device), None) is not None:  # it waits for a stage, for cores or for memory
            needed_at = time.monotonic()
            ending.wait(POLL_SECONDS)
        elif not tidied:
            own.store.tidy()
            tidied = True
        elif (until_idle and not own.store.at_work(own.device)) or time.monotonic() - needed_at > patience:
            return
        elif own.slot or not _measures_a_wish(own, ending):
            ending.wait(POLL_SECONDS)


def _measures_a_wish(own: Slots, ending: threading.Event) -> bool:
    """Measure a speed, or time answers in turn, as somebody wished, when nothing else shares the machine.

    That is neither a run nor another worker's measuring.

    Returns whether anything was done.
    """
    store = own.store
    wish = estimates.next_wish(store, own.device)
    turn = answer_times.next_wish(store, own.device) if wish is None else None
    if (wish is None and turn is None) or store.active():
        return False
    try:
        lock = take_lock(store.root / "workers" / "speed.lock")
    except Busy:
        return False
    try:
        if wish is not None:
            _measure_speed(store, own.device, wish, lambda: ending.is_set() or bool(store.active()))
        elif turn is not None:
            _time_answers(store, turn, lambda: ending.is_set() or bool(store.active()))
    finally:
        os.close(lock)
    return True


def _measure_speed(store: Store, device: str, wish: estimates.Wish, should_stop: Callable[[], bool]) -> None:
    """Measure how fast a backbone is at a picture size, as somebody wished.

    Whatever goes wrong, such as too little memory, is logged and does not end the worker.
    """
    from labcore.training import hardware, speed

    try:
        hardware.prepare()  # with all cores: the run before may have shared them
        found = speed.measure(wish.backbone, wish.image_size, device, should_stop, bfloat16=wish.bfloat16)
        if found is not None:
            estimates.keep(store, found)
    except Exception:
        log.exception("The speed of %s at %d px cannot be measured", wish.backbone, wish.image_size)
        estimates.forget_wish(store, device, wish.backbone, wish.image_size)


def _time_answers(store: Store, turn: answer_times.Turn, should_stop: Callable[[], bool]) -> None:
    """Time the answers of finished runs in turn, as somebody wished.

    Whatever goes wrong is logged and does not end the worker. What is found then says so, and is not tried again.
    """
    from labcore.training import answer_times as timing

    try:
        found = timing.measure(store, turn, should_stop)
    except Exception as error:
        log.exception("The answers of %d runs cannot be timed", len(turn.runs))
        why = f"Timing broke off ({type(error).__name__}); the log says where."
        timed = tuple(answer_times.InTurn(run=run, threads=1, why=why) for run, _ in turn.runs)
        found = answer_times.AnswerTimes(turn=turn, timed=timed)
    if found is not None:
        answer_times.keep(store, found)


def ensure(store: Store, device: str = "auto", *, ahead: bool = False) -> None:
    """Start a worker for a device, detached from this process, unless one lives or was just started.

    Where nothing can be written there is nothing that one could do.

    With `auto` the worker may be one for any device. One that comes up `ahead` of need does so at low priority, and
    ends again if nobody starts anything.
    """
    if store.read_only or any(worker.slot == 0 and device in ("auto", worker.device) for worker in store.workers()):
        return
    if not store.may_start_worker(device, START_SECONDS):
        return
    with (store.root / "workers" / "worker.log").open("ab") as output:
        started = subprocess.Popen(
            [sys.executable, "-m", "labcore", "worker", "--device", device, *(["--ahead"] if ahead else [])],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=environment(store),
        )
    losses.watch(started, functools.partial(store.tell_loss, started.pid))


def draw_again(store: Store, run: str) -> str:
    """Draw the maps of stages' ends again from stored weights, in a process that loads torch, and wait for it.

    Returns:
        Why that could not be done, in a sentence; empty where it was.
    """
    command = [sys.executable, "-m", "labcore", "draw", run]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment(store))
    return "" if ended.returncode == 0 else (ended.stderr.strip().splitlines() or ["It was broken off."])[-1]


def wait_for(
    store: Store, run: str, tell: Callable[[Event], None], until: Callable[[], bool] = lambda: False
) -> RunRecord:
    """Follow a run that another process trains, until it is over, is back in the queue, or `until` turns true.

    `tell` is given every event. Raises UnknownRun where the run is deleted meanwhile.
    """
    offset = 0
    while True:
        record = store.record(run)
        events, offset = store.tail(run, offset)
        for event in events:
            tell(event)
        if record.state != "running" or record.lost or until():
            return record
        time.sleep(POLL_SECONDS)
