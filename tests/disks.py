"""Small disks of their own, that are full or for reading alone; where one may not mount them, the test is skipped."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted(place: Path, megabytes: int) -> Iterator[Path]:
    """For the block, a disk of this size at `place`."""
    place.mkdir()
    how = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(how, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)


def fill(disk: Path) -> None:
    """Leave no byte of a disk free."""
    rest = os.open(disk / "rest", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with contextlib.suppress(OSError):
        while True:
            os.write(rest, bytes(4096))
    os.close(rest)


def for_reading_alone(disk: Path) -> None:
    """Let nobody write a disk any more."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
