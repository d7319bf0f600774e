"""Files as the store writes them: whole or not at all, locked by one process, and with some room left on the disk.

Laws that hold whoever comes and goes, `kill -9` included:

- A file that is written with `atomic_path` or `write_atomically` holds at every moment either what it held before or
  all that it shall hold; once the call has returned, a power cut does not undo it.
- A lock that is taken with `take_lock` belongs to one process, and the system releases it with the process. Whether
  somebody has it is asked with `is_held`, which keeps nobody from taking it.
- A megabyte is set aside (`Reserve`), so that on a full disk the store can still be opened, a run can say that it
  ends, and runs can be deleted.
- Whatever a store writes for good passes `about_to_write` first, and by that name alone a test can make it fail.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from labcore.runs.errors import Busy, StoreError

Done = TypeVar("Done")
_RESERVE_BYTES = 1 << 20
_TEMPORARY = re.compile(r"\..+\.[0-9]+")  # of before, too, when the number was the process's
NO_ROOM = {errno.ENOSPC, errno.EDQUOT}  # what the system says of a full disk
# Somebody who asks about a lock is in the way of who takes it for some microseconds; so often it is tried again, so
# many seconds apart.
_TRIES, _MOMENT = 1000, 0.0005


def home() -> Path:
    """The folder of the store where none is named: `REUSE_LAB_HOME`, or `~/.local/share/reuse-lab`.

    Raises StoreError where the system knows no home of this person.
    """
    named = os.environ.get("REUSE_LAB_HOME") or "~/.local/share/reuse-lab"
    try:
        return Path(named).expanduser()
    except RuntimeError:
        raise StoreError(
            f"There is no home folder for {named}; set REUSE_LAB_HOME to the whole path of a folder for the lab."
        ) from None


def about_to_write(path: Path) -> None:
    """Every durable write passes here: before its first byte, and once more before it becomes visible.

    It does nothing. A test puts in its place what raises OSError, as a full disk would, or what ends the process.

    Args:
        path: The file that is to be written, or to be put in place.
    """


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give the block a path to write to, and put what it wrote in the place of `path` when it ends well.

    The temporary file lies beside `path`, on the same disk, and vanishes where the block raises.

    Raises:
        OSError: The system refuses; `path` is then as it was before.
    """
    about_to_write(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        about_to_write(path)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """A path that nobody else has, for what is to be `path` or is about it; no file is made.

    Process numbers would not do: two containers that share the folder may both have the same.
    """
    return path.with_name(f".{path.name}.{secrets.randbits(64)}")


def is_left_over(name: str) -> bool:
    """Whether a file has a name that `temporary_beside` gives, so that nobody reads it when its writer is dead."""
    return name.startswith(".") and _TEMPORARY.fullmatch(name) is not None


def write_atomically(path: Path, data: bytes) -> None:
    """Overwrite a file with `data`, whole or not at all. Raises OSError where the system refuses."""
    with atomic_path(path) as temporary:
        temporary.touch(mode=0o600)  # for its owner alone
        temporary.write_bytes(data)


def digest_of(path: Path) -> str:
    """The BLAKE2b of a file (hexadecimal). Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def digest_of_bytes(data: bytes) -> str:
    """What `digest_of` says of a file that holds this."""
    return hashlib.blake2b(data).hexdigest()


def seal_of(text: str) -> str:
    """A short BLAKE2b (hexadecimal) that stands beside a text, so that another one in its place is seen."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def take_lock(path: Path) -> int:
    """Lock a file, which is made where it is missing, without waiting for whoever has it.

    Returns:
        The open descriptor. The lock is held until it is closed, or until the process ends.

    Raises:
        Busy: Another process, or another descriptor of this one, holds the lock.
        OSError: The file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(_TRIES):
        if locks(descriptor, fcntl.LOCK_EX):
            return descriptor
        if not locks(descriptor, fcntl.LOCK_SH):
            break  # held by one that took it
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # those who were in the way only asked
        time.sleep(_MOMENT)
    os.close(descriptor)
    raise Busy(f"{path.parent.name} is in use by another process.")


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock of a file: a process of whatever number and clock, in whatever container.

    Those who ask share the lock for that moment, which refuses neither one who asks nor one who takes it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # nobody ever took it, or it went with its folder
    try:
        return not locks(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def locks(descriptor: int, how: int) -> bool:
    """Lock an open file in this way, if nobody is in the way of it."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class Reserve:
    """A megabyte of the disk that is given up when nothing else is free."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self) -> None:
        """Set the megabyte aside where it is not, unless the disk is nearly full already."""
        with contextlib.suppress(OSError):
            if not self._path.exists() and shutil.disk_usage(self._path.parent).free > 16 * _RESERVE_BYTES:
                self._path.write_bytes(os.urandom(_RESERVE_BYTES))

    def give_for(self, act: Callable[[], Done]) -> Done:
        """Do it, and where the disk is full do it again with the megabyte given up. Raises what `act` does."""
        try:
            return act()
        except OSError as error:
            if error.errno not in NO_ROOM or not self.spend():
                raise
            return act()

    def spend(self) -> bool:
        """Give the megabyte back to the disk. The next process that opens the store sets it aside again.

        Returns:
            Whether there was one.
        """
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
