"""The foreman: a thread of a device's worker that starts further slots while runs wait for them. No torch here.

A slot is a process like the worker itself, with the worker's options and a number. It claims its own runs, and ends by
itself when nothing waits any more. The worker holds one end of a pipe that is the slot's standard input: when the
worker ends, however it does, the system closes it, and the slot puts its run back and ends, too.
"""

import contextlib
import itertools
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from labcore.runs import losses
from labcore.runs.quiet import somebody_measures
from labcore.runs.store import Store
from labcore.training.slots import Slots

log = logging.getLogger("labcore.training.worker")

LOOK_SECONDS = 0.5
# After a slot that did not end well no other one is started for so long.
AFTER_A_LOSS = 5.0
# So long a slot may take to write down where its run stands, when the worker ends.
END_SECONDS = 60.0


class Foreman:
    """Starts slots while more runs could be trained than there are processes for."""

    def __init__(self, slots: Slots, options: Sequence[str]) -> None:
        """`options` are what the worker was told that its slots have to know, as on the command line."""
        self._slots, self._options = slots, options
        self._ahead = Slots(slots.store, slots.device, slots.most, slot=-1)  # as one that is not there yet sees them
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._ends: dict[int, threading.Thread] = {}
        self._over, self._not_before = threading.Event(), 0.0
        self._thread = threading.Thread(target=self._watch, name="foreman", daemon=True)

    def __enter__(self) -> "Foreman":
        if self._slots.most > 1:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let the slots end, and wait until their runs are put back."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        for process in self._processes.values():
            _close(process)
        for slot in self._processes:
            self._ends[slot].join(END_SECONDS)
            if self._ends[slot].is_alive():
                log.warning("Slot %d has not ended yet; it will when it can", slot)

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                self._reap()
                if self._is_one_more_wanted():
                    self._start()
            except Exception:  # a disk that is full, say: the worker goes on by itself
                log.exception("No further slot can be started")
                self._not_before = time.monotonic() + AFTER_A_LOSS

    def _reap(self) -> None:
        for slot, process in list(self._processes.items()):
            if not self._ends[slot].is_alive():
                _close(process)
                del self._processes[slot], self._ends[slot]
                if process.returncode:
                    log.warning("Slot %d ended with status %d", slot, process.returncode)
                    self._not_before = time.monotonic() + AFTER_A_LOSS

    def _is_one_more_wanted(self) -> bool:
        """Whether more runs could begin now than processes wait for one."""
        slots, processes = self._slots, 1 + len(self._processes)
        if processes >= slots.most or time.monotonic() < self._not_before:
            return False
        idle = processes - len(slots.store.at_work(slots.device))
        turns = itertools.islice(self._ahead.turns(slots.store.waiting(slots.device)), slots.most)
        apart = {turn.stage or turn.record.run for turn in turns}  # those of one stage begin one after the other
        return len(apart) > max(0, idle) and not somebody_measures(slots.store.root / "workers")

    def _start(self) -> None:
        slot = next(number for number in itertools.count(1) if number not in self._processes)
        command = [*self._options, "--device", self._slots.device, "--slots", str(self._slots.most)]
        process = self._processes[slot] = subprocess.Popen(
            [sys.executable, "-m", "labcore", "worker", *command, "--slot", str(slot)],
            stdin=subprocess.PIPE,
            env=environment(self._slots.store),
        )
        self._ends[slot] = losses.watch(process, partial(self._slots.store.tell_loss, process.pid))
        log.info("Slot %d begins, process %d", slot, process.pid)


def _close(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def environment(store: Store) -> dict[str, str]:
    """The environment in which a process of this lab serves this store, wherever it is started."""
    root = str(Path(__file__).resolve().parents[2])
    path = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "REUSE_LAB_HOME": str(store.root), "PYTHONPATH": os.pathsep.join(path)}


def when_deserted(then: Callable[[], None]) -> None:
    """Call `then` when the process that started this slot is gone, or lets it go; a thread waits for that."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        then()

    threading.Thread(target=wait, name="deserted", daemon=True).start()
