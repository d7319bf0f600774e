"""Folds that are kept beside the events that they were folded from, so that a long run is folded once.

Laws:

- A kept fold is what its events add up to: it is given out only where the run's events begin with the very bytes that
  it was folded from (so many, and of this SHA-256), and where this very code wrote it. All else is passed over, also
  what is torn, damaged, or of another version.
- It is JSON, and is kept only where it is read back as the same fold.
"""

import functools
import hashlib
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from labcore.configs.base import Frozen
from labcore.runs import events, packed_answers, results
from labcore.runs.files import write_atomically
from labcore.runs.results import Fold


class _Head(Frozen):
    """The first line of a file: which code wrote it, from how many bytes of events, and the digests of both."""

    code: str
    size: int
    events: str
    fold: str


def read(kept: Path, told: Path) -> tuple[Fold, int]:
    """The fold that is kept in a file, of the events in `told`, and of how many of their bytes it is.

    Nothing, folded from 0 bytes, where none is kept that fits.
    """
    try:
        head, _, text = kept.read_bytes().partition(b"\n")
        found = _Head.model_validate_json(head)
        if found.code == _code() and found.fold == _digest(text) and found.events == _digest_of(told, found.size):
            return _adapter().validate_json(text), found.size
    except (OSError, ValueError):
        pass
    return Fold(), 0


def write(kept: Path, told: Path, size: int, fold: Fold) -> None:
    """Keep the fold of the first `size` bytes of `told` in a file. Raises OSError where the system refuses."""
    text = _adapter().dump_json(fold)
    try:
        if _adapter().validate_json(text) != fold:
            return
    except ValidationError:
        return
    head = _Head(code=_code(), size=size, events=_digest_of(told, size), fold=_digest(text))
    write_atomically(kept, head.model_dump_json().encode() + b"\n" + text)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest_of(told: Path, size: int) -> str:
    """The SHA-256 of the first `size` bytes of a file. Raises OSError, and ValueError where it is shorter."""
    found = told.stat()
    if found.st_size < size:
        raise ValueError("shorter than what was folded")
    return _digest_once(told, found.st_ino, found.st_mtime_ns, found.st_size, size)


@functools.lru_cache(maxsize=64)
def _digest_once(told: Path, inode: int, changed: int, whole: int, size: int) -> str:
    """Once for each time that the file changed, because pages ask again and again."""
    with told.open("rb") as file:
        return _digest(file.read(size))


@functools.cache
def _adapter() -> TypeAdapter[Fold]:
    return TypeAdapter(Fold)


@functools.cache
def _code() -> str:
    """What is another one wherever the same events might add up to something else."""
    modules = (events.__file__, packed_answers.__file__, results.__file__, __file__)
    return _digest(b"".join(Path(str(module)).read_bytes() for module in modules))
