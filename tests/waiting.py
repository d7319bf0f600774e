"""Waiting for a state, however slow the machine is.

A test says what it waits for and, where it can, what grows meanwhile: a run's events, a log, the time that a process
has worked. It gives up once neither has happened for long. No test has a deadline for the whole of what it watches.
"""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

# Nothing at all moves for so long only where something hangs: a busy machine starts a process in less.
PATIENCE = 180.0


def until(
    condition: Callable[[], Any],
    progress: Callable[[], Any] = lambda: None,
    patience: float = PATIENCE,
    pause: Callable[[], Any] = lambda: time.sleep(0.01),
) -> Any:
    """What the condition gives, as soon as that is true.

    Fails after `patience` seconds in which `progress` gave the same each time; whatever else it gives renews them.
    """
    seen, deadline = progress(), time.monotonic() + patience
    while not (found := condition()):
        if (now := progress()) != seen:
            seen, deadline = now, time.monotonic() + patience
        assert time.monotonic() < deadline, f"nothing has moved for {patience:g} seconds"
        pause()
    return found


def growth(*roots: Path) -> Callable[[], Any]:
    """How many bytes the logs and the events below these folders have."""

    def size() -> int:
        total = 0
        for root in roots:
            for pattern in ("workers/*.log", "runs/*/events.jsonl"):
                for path in root.glob(pattern):
                    try:
                        total += path.stat().st_size
                    except FileNotFoundError:  # deleted since
                        continue
        return total

    return size


def work(process: "subprocess.Popen[Any]") -> Callable[[], Any]:
    """For how many times five seconds a process has worked: one that only looks around now and then does not count."""

    def worked() -> int:
        try:
            times = psutil.Process(process.pid).cpu_times()
        except psutil.Error:
            return -1
        return int((times.user + times.system) / 5)

    return worked


def ended(process: "subprocess.Popen[Any]", progress: Callable[[], Any] | None = None) -> int:
    """The exit status of a process, which may take as long as it works."""
    until(lambda: process.poll() is not None, progress or work(process))
    status: int = process.returncode
    return status
