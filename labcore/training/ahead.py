"""Coming up ahead of need, in nobody's way: what a worker needs is made ready at low priority. No torch before that.

A process may lower its priority, and not raise it again without privileges. Two things may be raised again: on Linux
the share that a session has beside others, where sessions have one; and the threads that make ready have a priority of
their own and then end, so that the one that trains was never slower. Elsewhere it comes up as any process does.
"""

import importlib
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from labcore.runs.errors import StoreError
from labcore.runs.files import home

# How nice a session is meanwhile, from 0 to 19 (at 10 it gets a tenth of a core beside one that is not), and how much
# nicer a thread is than the process.
_NICE_SESSION, _NICE_THREAD = 10, 5
_LOOK_SECONDS = 0.1
_IMPORTED = ("labcore.cli.main", "labcore.training.loop", "labcore.training.speed")


def come_up() -> None:
    """Import what trains, and return when it is there; make the rest ready meanwhile, and after that.

    Whatever goes wrong is told by whoever needs it next. Once a run is submitted it is as quick as any process.
    """
    try:
        runs = _changed(home() / "runs")
    except StoreError:  # the command says it, which comes next
        return
    _weigh(_NICE_SESSION)
    ready = gently(_make_ready)
    imported = gently(lambda: _import(*_IMPORTED))

    def be_quick_again() -> None:
        while ready.is_alive() and _changed(home() / "runs") == runs:
            ready.join(_LOOK_SECONDS)
        _weigh(0)

    threading.Thread(target=be_quick_again, name="ahead", daemon=True).start()
    imported.join()


def gently(act: Callable[[], None]) -> threading.Thread:
    """Do something in a thread that others go before. The threads that it starts are like it."""

    def be_nice_and_act() -> None:
        if sys.platform == "linux":
            thread = threading.get_native_id()
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICE_THREAD)
        act()

    thread = threading.Thread(target=be_nice_and_act, name="ahead", daemon=True)
    thread.start()
    return thread


def _weigh(nice: int) -> None:
    """How nice this process's session is to others; only one that it leads, as a worker of a page does."""
    if os.getsid(0) == os.getpid():
        with suppress(OSError):  # where sessions have no share of their own
            Path("/proc/self/autogroup").write_text(str(nice))


def _changed(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _make_ready() -> None:
    """What a first run would wait for: the story's pictures, and torch's compiler.

    The pictures take some seconds, once a store; the compiler takes two, and a process's first optimizer imports it.
    """
    with suppress(Exception):
        from labcore.configs.presets import preset
        from labcore.tasks import pictures

        story = preset("story")
        for task in story.tasks:
            pictures.load(task.name, story.backbone.image_size, cache=home() / "cache")
    _import("labcore.training.loop", "torch._dynamo")


def _import(*names: str) -> None:
    with suppress(Exception):
        for name in names:
            importlib.import_module(name)
