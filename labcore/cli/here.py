"""Training in the process of the command: what `run` and `sweep` do with each of their runs.

A run that another process trains meanwhile is followed and not trained twice, so a command works beside a worker.
Ctrl-C stops the run that is under way, which is saved, and what would come after it.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from labcore.configs.run import RunConfig
from labcore.configs.units import count_of
from labcore.runs.errors import Busy
from labcore.runs.events import Downloading, Evaluated, Event, RunEnded, RunStarted, StageEnded, StageStarted, Waiting
from labcore.runs.settings import Detail
from labcore.runs.store import Store
from labcore.studies import estimates
from labcore.training import worker


def ready(device: str) -> str:
    """Make this process one that trains, which loads torch.

    Returns:
        The device that is meant by `device`.

    Raises:
        ConfigError: This machine has no such device.
    """
    from labcore.training.hardware import pick_device, prepare

    picked = pick_device(device)
    prepare()
    return picked


def tell_precision(store: Store, device: str, configs: Iterable[RunConfig]) -> None:
    """Tell on stderr how fast bfloat16 is on this device, once for each network and size that is to be trained in it.

    Where the store does not know, it is measured here and now, which takes a second or two. To be called when `ready`
    has made this process one that trains.
    """
    asked = [config for config in configs if config.training.precision == "bfloat16"]
    for config in {(config.backbone.name, config.backbone.image_size): config for config in asked}.values():
        speed = estimates.kept(store, device, config)
        times = _times_in_bfloat16(config, device) if speed is None else speed.bfloat16
        if times is not None:
            change = " Change it by --set training.precision=float32." if times > estimates.SLOWER else ""
            print(f"Note: {estimates.told_of_bfloat16(device, times)}{change}", file=sys.stderr, flush=True)


def _times_in_bfloat16(config: RunConfig, device: str) -> float | None:
    """What is measured; None where it cannot be, as for want of memory, which the run itself will tell."""
    from labcore.training import speed

    with contextlib.suppress(RuntimeError, MemoryError):
        return speed.times_in_bfloat16(config.backbone.name, config.backbone.image_size, device)
    return None


def train_or_follow(
    store: Store, run: str, device: str, seconds: float, stop: threading.Event, maps: Detail | None
) -> None:
    """See a queued run to its end: train it here, or follow whoever has it.

    Args:
        store: The store of the run.
        run: The ID of the run.
        device: Where to train it, as `ready` returned it.
        seconds: The time between checkpoints.
        stop: When it is set, a run that is trained here stops, and one that is followed is left to go on.
        maps: How much is recorded of the network's inside; None for as much as the person has set.

    Raises:
        UnknownRun: The run was deleted meanwhile.
    """
    while store.record(run).active:
        try:
            claim = store.claim_run(run)
        except Busy:  # A worker, or another command, has it.
            worker.wait_for(store, run, _tell, until=stop.is_set)
            if stop.is_set():
                break
            continue
        with _passing_on(stop, store, run):
            worker.run_claim(claim, device, checkpoint_seconds=seconds, tell=_tell, maps=maps)


@contextlib.contextmanager
def interrupts() -> Iterator[threading.Event]:
    """For the block, let Ctrl-C set the event, which asks the run to stop. A second Ctrl-C ends the process."""
    stop = threading.Event()

    def ask(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        print("Stopping…", file=sys.stderr)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _passing_on(stop: threading.Event, store: Store, run: str) -> Iterator[None]:
    """For the block, pass a stop on to the run. A thread asks for it, because no signal may interrupt the store."""

    def ask() -> bool:
        if stop.is_set():
            store.request_stop(run)
        return stop.is_set()

    with meanwhile(ask, 0.05):
        yield


@contextlib.contextmanager
def meanwhile(act: Callable[[], bool], seconds: float) -> Iterator[None]:
    """For the block, let a thread do something every so many seconds, until it returns True."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(seconds) and not act():
            pass

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _tell(event: Event) -> None:
    """Tell progress to people, on stderr."""
    match event:
        case Downloading() | Waiting():
            line = event.text
        case RunStarted():
            again = "" if event.resumed_from_step is None else f", going on from step {event.resumed_from_step}"
            line = f"{event.run} on {event.device} ({event.device_name}, {count_of(event.threads, 'thread')}){again}"
        case StageEnded(reused=True):
            line = f"stage {event.stage}: {event.task}, reused: learnt in {event.train_seconds:.1f} s before"
        case StageStarted(reused=False):
            line = f"stage {event.stage}: {event.task}"
        case Evaluated(kind="live", reused=False):
            line = f"  {event.images_seen:7} images  " + "  ".join(f"{value:4.0%}" for value in event.accuracy)
        case StageEnded():
            line = f"  learnt in {event.train_seconds:.1f} s, measured in {event.evaluation_seconds:.1f} s"
        case RunEnded():
            line = event.state + (f": {event.error}" if event.error else "")
        case _:
            return
    print(line, file=sys.stderr, flush=True)
