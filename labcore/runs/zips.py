"""Zips from outside: one is opened only where it is no more than it may be. No torch here.

What a zip says of itself is in its directory, at its end. That is read first, and alone: whatever lies in the zip, how
many files it says it has and how large it says they are, a zip that may not be costs no more than its directory, and
no longer directory is read than the largest zip of this lab has.
"""

import io
import re
import struct
import zipfile
from pathlib import Path
from typing import IO, Literal

_ENTRY = 256  # bytes of a directory for a file, at most: 46, and the name and what stands beside it
_HIDDEN = 0x1
# What reading a directory, or the beginning of a member, raises where it is none.
_BROKEN = (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, struct.error)
_WAYS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class ZipError(ValueError):
    """A zip is not one of ours; the end of a sentence that begins with its name."""


class Zip(zipfile.ZipFile):
    """A zip for reading, which closes its file with itself, as one that is given a path does."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        super().__init__(file)

    def open(
        self,
        name: str | zipfile.ZipInfo,
        mode: Literal["r", "w"] = "r",
        pwd: bytes | None = None,
        *,
        force_zip64: bool = False,
    ) -> IO[bytes]:
        """A member, to read. Raises ZipError where it does not begin as the directory says."""
        try:
            return super().open(name, mode, pwd, force_zip64=force_zip64)
        except _BROKEN as error:
            raise _broken(error) from None

    def close(self) -> None:
        """Let go of the file."""
        super().close()
        self._file.close()


class _Brief(io.FileIO):
    """A file of which no more than `longest` bytes are read at once, as long as there is such a number."""

    longest: int | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        if self.longest is not None and size is not None and size > self.longest:
            raise ZipError("holds more files than any of this lab")
        try:
            return super().read(-1 if size is None else size) or b""
        except OSError as error:
            raise ZipError(f"cannot be read ({error.strerror})") from None


def opened(path: Path, names: re.Pattern[str], most: int, largest: int) -> Zip:
    """Open a zip that holds at most `most` files, each named as `names` says and once, of at most `largest` bytes.

    Raises:
        OSError: It cannot be opened.
        ZipError: It is not such a zip, is locked with a password, or cannot be read.
    """
    file = _Brief(path)
    file.longest = most * _ENTRY
    try:
        found = Zip(file)
        _check(found.infolist(), names, most, largest)
    except BaseException as error:
        file.close()
        if isinstance(error, (*_BROKEN, OSError)):
            raise _broken(error) from None
        raise
    file.longest = None
    return found


def _broken(error: BaseException) -> ZipError:
    return ZipError(f"is not a zip, or is cut short ({error})")


def _check(members: list[zipfile.ZipInfo], names: re.Pattern[str], most: int, largest: int) -> None:
    if len(members) > most:
        raise ZipError(f"holds {len(members):,} files, and none of this lab more than {most:,}")
    if len({member.filename for member in members}) < len(members):
        raise ZipError("holds a file twice")
    for member in members:
        if not names.fullmatch(member.filename):
            raise ZipError(f"holds {member.filename[:80]!r}, which none of this lab does")
        if member.flag_bits & _HIDDEN:
            raise ZipError("is locked with a password; pack it again without one")
        if member.compress_type not in _WAYS:
            raise ZipError(f"holds {member.filename[:80]!r} packed in a way that this lab does not read")
    if (size := sum(member.file_size for member in members)) > largest:
        raise ZipError(f"unpacks to {size:,} bytes, and none of this lab to more than {largest:,}")
