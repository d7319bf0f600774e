"""Files as the store writes them: whole or not at all, locked by one process, and with some room left on the disk.

Laws that hold whoever comes and goes, `kill -9` included:

- A file that is written with `atomic_path` or `write_atomically` holds at every moment either what it held before or
  all that it shall hold; once the call has returned, a power cut does not undo it.
- A lock that is taken with `take_lock` belongs to one process, and the system releases it with the process.
- A megabyte is set aside (`Reserve`), so that a run whose disk is full can still say so.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from labcore.runs.errors import Busy

_RESERVE_BYTES = 1 << 20


def home() -> Path:
    """The folder of the store where none is named: `REUSE_LAB_HOME`, or `~/.local/share/reuse-lab`."""
    return Path(os.environ.get("REUSE_LAB_HOME") or Path.home() / ".local" / "share" / "reuse-lab")


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give the block a path to write to, and put what it wrote in the place of `path` when it ends well.

    The temporary file lies beside `path`, on the same disk, and vanishes where the block raises.

    Raises:
        OSError: The system refuses; `path` is then as it was before.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    # A process of our number that died may have left it, perhaps as a second name of a file that must not change.
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Overwrite a file with `data`, whole or not at all. Raises OSError where the system refuses."""
    with atomic_path(path) as temporary:
        temporary.touch(mode=0o600)  # for its owner alone
        temporary.write_bytes(data)


def take_lock(path: Path, *, create: bool = True) -> int:
    """Lock a file, which is made where it is missing unless `create` is False, without waiting.

    Returns:
        The open descriptor. The lock is held until it is closed, or until the process ends.

    Raises:
        Busy: Another process, or another descriptor of this one, holds the lock.
        OSError: The file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0) | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Busy(f"{path.parent.name} is in use by another process.") from None
    return descriptor


class Reserve:
    """A megabyte of the disk that is given up when nothing else is free, for the last words of a run."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self) -> None:
        """Set the megabyte aside where it is not, unless the disk is nearly full already."""
        with contextlib.suppress(OSError):
            if not self._path.exists() and shutil.disk_usage(self._path.parent).free > 16 * _RESERVE_BYTES:
                self._path.write_bytes(os.urandom(_RESERVE_BYTES))

    def spend(self) -> None:
        """Give the megabyte back to the disk. The next process that opens the store sets it aside again."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
