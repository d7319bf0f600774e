"""Where pictures come from: embedded tasks and full sets, their classes, splits and fingerprints.

Within every split the images are interleaved by class (0, 1, 2, …, 0, 1, 2, …), so that any first part of it is
balanced. Test images are fixed; validation is a fixed 15 % of the training images of each class (rounded); neither
depends on a seed. No torch here: pages read this package.
"""

import hashlib
import io
import os
import re
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from labcore.tasks import digits, drawn, fashion, full_sets
from labcore.tasks.downloads import File
from labcore.tasks.source import Source, TaskError

__all__ = [
    "ALL",
    "EMBEDDED",
    "Split",
    "TaskData",
    "TaskError",
    "TaskInfo",
    "counts",
    "describe",
    "files",
    "fingerprint",
    "load",
    "samples",
]

VALIDATION_SHARE = 0.15
_SUBSET = re.compile(r"(?P<name>[a-z0-9_]+)(:(?P<first>[0-9]{1,4})-(?P<last>[0-9]{1,4}))?")

# What a page shows of a full set, kept when it is decoded: this many training pictures a class, of at most this side.
_SAMPLES, _SAMPLE_SIZE = 5, 96

_EMBEDDED = (digits.SOURCE, fashion.SOURCE, *drawn.SOURCES)
_SOURCES: dict[str, Source] = {source.name: source for source in (*_EMBEDDED, *full_sets.SOURCES)}
# Those that come with the lab, and those with the ones that are downloaded on first use.
EMBEDDED: tuple[str, ...] = tuple(source.name for source in _EMBEDDED)
ALL: tuple[str, ...] = tuple(_SOURCES)


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task as pages show it: `classes` are those taken, in order; `description` is a sentence for a non-coder.

    `download` is how many MB are downloaded on first use; 0 for what comes with the lab.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    description: str
    download: int = 0


@dataclass(frozen=True, slots=True)
class Split:
    """Images uint8 [N, H, W, C], C 1 (grey) or 3, and labels int64 [N] from 0 to classes − 1."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, slots=True)
class TaskData:
    """The pictures of a task at one size."""

    info: TaskInfo
    train: Split
    validation: Split
    test: Split


def describe(name: str) -> TaskInfo:
    """A task by name, or some of its classes as in `fashion:0-4`. Reads no pictures. Raises TaskError."""
    source, first, last = _parse(name)
    info = TaskInfo(name, source.title, source.classes[first : last + 1], source.description, _download(source))
    whole = len(info.classes) == len(source.classes)
    return info if whole else replace(info, title=f"{source.title} {first} to {last}")


def _download(source: Source) -> int:
    return 0 if all(file.is_installed for file in source.files) else source.download


def _parse(name: str) -> tuple[Source, int, int]:
    match = _SUBSET.fullmatch(name)
    source = _SOURCES.get(match["name"]) if match else None
    if match is None or source is None:
        raise TaskError(f"{name[:60]!r} is not a task; allowed: {', '.join(ALL)}, or some classes as in fashion:0-4")
    highest = len(source.classes) - 1
    if match["first"] is None:
        return source, 0, highest
    first, last = int(match["first"]), int(match["last"])
    if last > highest or first > last:
        raise TaskError(f"{name!r} asks for classes {first} to {last}; {source.name} has classes 0 to {highest}")
    if first == last:
        raise TaskError(f"{name!r} has one class only; a task needs at least two")
    return source, first, last


@lru_cache(maxsize=256)
def fingerprint(name: str) -> str:
    """SHA-256 (64 hex digits) that changes when the task's pictures would. Raises TaskError."""
    source, first, last = _parse(name)
    return hashlib.sha256(f"{source.name}/{source.fingerprint()}/{first}-{last}".encode()).hexdigest()


def files(name: str) -> tuple[File, ...]:
    """What must be there before the task can be loaded; nothing for what comes with the lab. Raises TaskError."""
    return _parse(name)[0].files


def load(
    name: str,
    image_size: int,
    images_per_class: int | None = None,
    cache: Path | None = None,
    downloads: Path | None = None,
) -> TaskData:
    """All pictures of a task, `image_size` px square; decoded once and kept below `cache`. Raises TaskError.

    `images_per_class` limits the training images left once validation is taken away. The task's `files` are read below
    `downloads`; they are not fetched here.
    """
    source, first, last = _parse(name)
    arrays = _cached(source, image_size, cache, downloads)
    keep = slice(first, last + 1)
    train, test = arrays["train"][keep], arrays["test"][keep]  # [classes, N, H, W, C]
    held_out = round(train.shape[1] * VALIDATION_SHARE)
    validation, train = train[:, :held_out], train[:, held_out:][:, :images_per_class]
    return TaskData(describe(name), _interleave(train), _interleave(validation), _interleave(test))


def counts(name: str, images_per_class: int | None = None) -> tuple[int, int, int]:
    """Training, validation and test images that `load` would give. Reads no pictures. Raises TaskError."""
    source, first, last = _parse(name)
    classes, (whole, test) = last - first + 1, source.images
    held_out = round(whole * VALIDATION_SHARE)
    return classes * min(whole - held_out, images_per_class or whole), classes * held_out, classes * test


def samples(name: str, count: int = 8, cache: Path | None = None) -> list[tuple[np.ndarray, str]]:
    """The first `count` training pictures at their own size, uint8 [H, W, C], a class at a time, with class names.

    Of a full set there are some below `cache` once it was loaded, and nothing is downloaded here. Raises TaskError.
    """
    source, first, last = _parse(name)
    classes = range(first, last + 1)
    picture = source.picture or _kept_picture(source, cache)
    wanted = [(classes[i % len(classes)], i // len(classes)) for i in range(count)]
    return [(picture(label, index), source.classes[label]) for label, index in wanted]


def _kept_picture(source: Source, cache: Path | None) -> Callable[[int, int], np.ndarray]:
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        with np.load(_pictures(source, "samples", cache or Path())) as file:
            kept: np.ndarray = file["train"]
        if kept.dtype == np.uint8 and kept.ndim == 5 and kept.shape[0] == len(source.classes):
            return lambda label, index: kept[label, index % kept.shape[1]]
    raise TaskError("pictures appear after the first run, which downloads them")


def _interleave(by_class: np.ndarray) -> Split:
    classes, count = by_class.shape[:2]
    images = np.ascontiguousarray(by_class.swapaxes(0, 1)).reshape(classes * count, *by_class.shape[2:])
    return Split(images, np.tile(np.arange(classes, dtype=np.int64), count))


def _pictures(source: Source, what: str, cache: Path) -> Path:
    return cache / "pictures" / f"{source.name}-{source.fingerprint()[:16]}-{what}.npz"


def _cached(source: Source, image_size: int, cache: Path | None, downloads: Path | None) -> dict[str, np.ndarray]:
    path = _pictures(source, str(image_size), cache) if cache else None
    if path is not None:
        # A torn or foreign file is no cache: the pictures are made again.
        with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), np.load(path) as file:
            return {part: _checked(file[part], source, image_size) for part in ("train", "test")}
    train, test = _loaded(source, image_size, downloads)
    arrays = {"train": _resize(train, image_size), "test": _resize(test, image_size)}
    if path is not None:
        with suppress(OSError):  # nothing is lost but time
            _write(path, lambda file: np.savez(file, allow_pickle=False, **arrays))
            if cache is not None and source.picture is None:
                few = train[:, :_SAMPLES]
                few = _resize(few, min(few.shape[2], _SAMPLE_SIZE))
                _write(_pictures(source, "samples", cache), lambda file: np.savez(file, allow_pickle=False, train=few))
    return arrays


def _loaded(source: Source, image_size: int, downloads: Path | None) -> tuple[np.ndarray, np.ndarray]:
    if not source.files:
        return source.load()
    paths = [file.path(downloads or Path()) for file in source.files]
    for path in paths:
        if not path.is_file():
            raise TaskError(f"{source.name} is not downloaded: {path} is not there")
    return source.load(*paths, size=image_size)


def _checked(array: np.ndarray, source: Source, image_size: int) -> np.ndarray:
    if (
        array.dtype != np.uint8
        or array.ndim != 5
        or array.shape[0] != len(source.classes)
        or array.shape[2] != image_size
    ):
        raise ValueError("not this task's pictures")
    return array


def _write(path: Path, fill: Callable[[io.BufferedWriter], None]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            fill(file)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _resize(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 [classes, N, H, W, C] to size × size: averaged when smaller, cubic when larger."""
    classes, count, height, _, channels = images.shape
    if height == size:
        return images
    method = Image.Resampling.BICUBIC if size > height else Image.Resampling.LANCZOS
    small = np.empty((classes * count, size, size, channels), np.uint8)
    for number, image in enumerate(images.reshape(classes * count, *images.shape[2:])):
        picture = Image.fromarray(image if channels == 3 else image[..., 0])
        small[number] = np.asarray(picture.resize((size, size), method)).reshape(size, size, channels)
    return small.reshape(classes, count, size, size, channels)
