"""Who trains which stage just now, so that no two runs train the same stage at once.

    HOME/cache/training/KEY.lock    held by the process that trains the stage of this key

Laws that hold whoever comes and goes, `kill -9` included:

- A lock is one of the system (`flock`), which goes with the process: a stage whose trainer died may be trained by the
  next that asks.
- A run holds at most one of them, and waits for one only while it holds none; so runs never wait for each other in a
  ring.
- It is a convenience, as stored stages are: where the system refuses the file, the stage is trained without it.

No torch here.
"""

import contextlib
import logging
import os
from pathlib import Path

from labcore.runs import files
from labcore.runs.errors import Busy
from labcore.runs.files import take_lock
from labcore.runs.stage_keys import StageKey
from labcore.runs.store import Store

log = logging.getLogger("labcore.runs.stage_locks")


class Held:
    """The lock of a stage that is being trained. It goes with `let_go`, or with the process."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path, self._descriptor = path, descriptor

    def let_go(self) -> None:
        """Let others train the stage, or find it stored. A second call does nothing."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)  # while it is held: nobody else's file can be meant
            os.close(self._descriptor)
            self._descriptor = None


def hold(store: Store, key: StageKey) -> Held | None:
    """Become the one that trains a stage, without waiting; None while another one does, in whatever process."""
    path = _path(store, key.training)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            descriptor = take_lock(path)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return Held(path, descriptor)
            os.close(descriptor)  # whoever had it removed the file after we had opened it: a new one counts now
    except Busy:
        return None
    except OSError as error:
        log.warning("The stage %s is trained without a lock: %s", key.training[:12], error)
        return Held(path, None)


def is_held(store: Store, training: str) -> bool:
    """Whether somebody trains just now the stage whose training has this key."""
    return files.is_held(_path(store, training))


def _path(store: Store, training: str) -> Path:
    return store.cache / "training" / f"{training}.lock"
