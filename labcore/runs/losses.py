"""How workers are lost: what whoever started one sees of its end, and what the system counts where memory runs out.

A worker that is killed cannot say why. Its parent is told by the system how it ended; and the system counts, for each
control group of processes, how many it has ended for want of memory. What neither tells is not known, and not said.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil

from labcore.configs.units import size
from labcore.runs.errors import StoreError

_GROUPS = Path("/sys/fs/cgroup")
# A process that held so much of the memory there is was most likely ended for that.
_NEARLY_ALL = 0.9


def watch(process: "subprocess.Popen[bytes]", then: Callable[[str, bool], None]) -> threading.Thread:
    """Wait in a thread until a process that this one has started ends; nobody else may wait for it.

    Its `returncode` is set then. Where it did not end by itself, `then` is called: with how it ended, and whether that
    was for want of memory, as far as its peak shows it.
    """

    def wait() -> None:
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except ChildProcessError:  # somebody else was told
            process.returncode = 0
            return
        code = os.waitstatus_to_exitcode(status)
        if code:
            peak, there_is = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), memory_there_is()
            short = code == -signal.SIGKILL and peak > _NEARLY_ALL * there_is
            how = ending(code) + (f" when it held {size(peak)} of {size(there_is)}" if short else "")
            with contextlib.suppress(OSError, StoreError):
                then(how, short)
        process.returncode = code

    thread = threading.Thread(target=wait, name=f"end of {process.pid}", daemon=True)
    thread.start()
    return thread


def ending(code: int) -> str:
    """How a process ended, by its exit status, negative for a signal: `signal 9 (SIGKILL)`, `exit status 3`."""
    if code >= 0:
        return f"exit status {code}"
    name = ""
    with contextlib.suppress(ValueError):
        name = f" ({signal.Signals(-code).name})"
    return f"signal {-code}{name}"


def memory_there_is() -> int:
    """The bytes of memory that a process can have here: the machine's, or its control group's where that is less."""
    limits = [psutil.virtual_memory().total]
    for name in ("memory.max", "memory.limit_in_bytes"):
        for folder in _control_groups():
            with contextlib.suppress(OSError, ValueError):
                limits.append(int((folder / name).read_text()))  # "max" is no number, and no limit
    return min(limits)


def memory_kills() -> tuple[int, int] | None:
    """Which control group this process is in, and how many of its processes were ended as memory ran out.

    None where the system does not count that.
    """
    for folder in _control_groups():
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError, ValueError):
                counts = dict(line.split() for line in (folder / name).read_text().splitlines())
                if "oom_kill" in counts:
                    return folder.stat().st_ino, int(counts["oom_kill"])
    return None


def _control_groups() -> list[Path]:
    """The folders that may tell of this process's control group: by its path, or as a container sees its own."""
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds == "" or "memory" in kinds.split(","):
                root = _GROUPS / "memory" if kinds else _GROUPS
                found += [root / path.lstrip("/"), root]
    return found
