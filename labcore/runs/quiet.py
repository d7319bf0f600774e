"""How runs stand still while another one measures how long its answers take.

    HOME/workers/timing.lock      held by the one that measures
    HOME/workers/training.lock    shared by all that train; the one that measures waits until it has it alone

Laws that hold whoever comes and goes, `kill -9` included:

- Both are locks of the system (`flock`), which go with the process that holds them. So whoever measures and dies lets
  the others go on, and whoever trains and dies keeps nobody waiting.
- A run looks between two steps whether somebody measures. That takes two calls of the system, a microsecond each.
- Nobody waits without end, should a process be there and not move: after `MOST_STILL` seconds those that stand still go
  on, and after `MOST_PATIENCE` the one that measures begins although somebody else still trains.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from labcore.runs.files import is_held, locks

MOST_STILL, MOST_PATIENCE = 300.0, 30.0
_POLL_SECONDS = 0.005


class Quiet:
    """One run's part in it. Without a folder there are no others: it measures at once, and never stands still."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._timing = self._training = -1
        self._measures = self._gave_up = False

    @contextlib.contextmanager
    def training(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """For the block, count as one that trains, and be ready to `stand_still`; it begins when nobody measures."""
        if self._folder is None:
            yield
            return
        self._timing, self._training = (_open(self._folder / f"{name}.lock") for name in ("timing", "training"))
        try:
            if not self._share():
                self.stand_still(should_stop)
            yield
        finally:
            os.close(self._training)
            os.close(self._timing)
            self._timing = self._training = -1

    def stand_still(self, should_stop: Callable[[], bool] = lambda: False) -> float:
        """Wait while another run measures its answers, or until this one is to stop; returns the seconds it waited."""
        if self._timing < 0 or self._measures:
            return 0.0
        if self._nobody_measures():
            self._gave_up = False
            return 0.0
        if self._gave_up:
            return 0.0
        begun = time.monotonic()
        fcntl.flock(self._training, fcntl.LOCK_UN)
        while not should_stop():
            if self._nobody_measures() and self._share():
                break
            if time.monotonic() - begun > MOST_STILL:
                self._gave_up = True
                break
            time.sleep(_POLL_SECONDS)
        return time.monotonic() - begun

    @contextlib.contextmanager
    def alone(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """For the block, be the only run that computes, as soon as the others stand still."""
        if self._timing < 0:
            yield
            return
        self._measures = True
        try:
            while not should_stop() and not locks(self._timing, fcntl.LOCK_EX):  # another one measures
                fcntl.flock(self._training, fcntl.LOCK_UN)
                time.sleep(_POLL_SECONDS)
            begun = time.monotonic()
            while not should_stop() and not locks(self._training, fcntl.LOCK_EX):
                if time.monotonic() - begun > MOST_PATIENCE:
                    break
                time.sleep(_POLL_SECONDS)
            yield
        finally:
            self._measures = False
            fcntl.flock(self._timing, fcntl.LOCK_UN)
            self._share()

    def _nobody_measures(self) -> bool:
        if not locks(self._timing, fcntl.LOCK_SH):
            return False
        fcntl.flock(self._timing, fcntl.LOCK_UN)
        return True

    def _share(self) -> bool:
        return locks(self._training, fcntl.LOCK_SH)


def somebody_measures(folder: Path) -> bool:
    """Whether a run measures its answers just now: nothing that can wait should begin."""
    return is_held(folder / "timing.lock")


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
