"""A task's pictures: at any size, in their three splits, decoded once and kept.

Within every split the images are interleaved by class (0, 1, 2, …, 0, 1, 2, …), so that any first part of it is
balanced. Test images are fixed; validation is a fixed share of the training images of each class; neither depends on a
seed. No torch here: pages show pictures by this module.
"""

import io
import os
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from labcore.tasks import catalogue
from labcore.tasks.catalogue import TaskInfo
from labcore.tasks.source import Source, TaskError

# Of a full set, a page shows pictures that are kept when it is decoded: this many training pictures of each class, of
# at most this side in px.
_SAMPLES, _SAMPLE_SIZE = 5, 96
_making = threading.Lock()


@dataclass(frozen=True, slots=True)
class Split:
    """Images uint8 [N, H, W, C], where C is 1 (grey) or 3, and labels int64 [N] from 0 to classes − 1."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, slots=True)
class TaskData:
    """The pictures of a task at one size."""

    info: TaskInfo
    train: Split
    validation: Split
    test: Split


def load(
    name: str,
    image_size: int,
    images_per_class: int | None = None,
    cache: Path | None = None,
    downloads: Path | None = None,
) -> TaskData:
    """All pictures of a task, `image_size` px square, which are decoded once and kept below `cache`.

    `images_per_class` limits the training images left once validation is taken away. The task's `files` are read
    below `downloads`; they are not fetched here. Raises TaskError where the task or one of its files is not there.
    """
    source, chosen = catalogue.parse(name)
    with _making:  # who needs what another thread is making waits for it, and finds it
        arrays = _cached(source, image_size, cache, downloads)
    keep = slice(chosen[0], chosen[-1] + 1) if catalogue.is_row(chosen) else list(chosen)  # a slice copies nothing
    train, test = arrays["train"][keep], arrays["test"][keep]  # [classes, N, H, W, C]
    held_out = round(train.shape[1] * catalogue.VALIDATION_SHARE)
    validation, train = train[:, :held_out], train[:, held_out:][:, :images_per_class]
    return TaskData(catalogue.describe(name), _interleave(train), _interleave(validation), _interleave(test))


def samples(name: str, count: int = 8, cache: Path | None = None) -> list[tuple[np.ndarray, str]]:
    """The first `count` training pictures at their own size, uint8 [H, W, C], each class in turn, with their classes.

    Of a full set there are some below `cache` once it was loaded; nothing is downloaded here. Raises TaskError where
    there is no such task, or no such pictures yet.
    """
    source, classes = catalogue.parse(name)
    picture = source.picture or _kept_picture(source, cache)
    wanted = [(classes[i % len(classes)], i // len(classes)) for i in range(count)]
    return [(picture(label, index), source.classes[label]) for label, index in wanted]


def _kept_picture(source: Source, cache: Path | None) -> Callable[[int, int], np.ndarray]:
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        with _arrays(_pictures(source, "samples", cache or Path())) as file:
            kept: np.ndarray = file["train"]
        if kept.dtype == np.uint8 and kept.ndim == 5 and kept.shape[0] == len(source.classes):
            return lambda label, index: kept[label, index % kept.shape[1]]
    raise TaskError("pictures appear after the first run, which downloads them")


@contextmanager
def _arrays(path: Path) -> Iterator[Any]:
    """The arrays of an npz file. `np.load` itself leaves a file open that begins as one and is none."""
    with path.open("rb") as opened, np.load(opened) as arrays:
        yield arrays


def _interleave(by_class: np.ndarray) -> Split:
    classes, count = by_class.shape[:2]
    images = np.ascontiguousarray(by_class.swapaxes(0, 1)).reshape(classes * count, *by_class.shape[2:])
    return Split(images, np.tile(np.arange(classes, dtype=np.int64), count))


def _pictures(source: Source, what: str, cache: Path) -> Path:
    return cache / "pictures" / f"{source.name}-{source.fingerprint()[:16]}-{what}.npz"


def _cached(source: Source, image_size: int, cache: Path | None, downloads: Path | None) -> dict[str, np.ndarray]:
    path = _pictures(source, str(image_size), cache) if cache else None
    if path is not None:
        # A torn or foreign file counts as no cache, and the pictures are made again.
        with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), _arrays(path) as file:
            return {part: _checked(file[part], source, image_size) for part in ("train", "test")}
    train, test = _loaded(source, image_size, downloads)
    arrays = {"train": _resize(train, image_size), "test": _resize(test, image_size)}
    if path is not None:
        with suppress(OSError):  # where the disk refuses, nothing is lost but time
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
    """Bring uint8 [classes, N, H, W, C] to size × size, by averages where that is smaller, cubic where it is larger."""
    classes, count, height, _, channels = images.shape
    if height == size:
        return images
    method = Image.Resampling.BICUBIC if size > height else Image.Resampling.LANCZOS
    small = np.empty((classes * count, size, size, channels), np.uint8)
    for number, image in enumerate(images.reshape(classes * count, *images.shape[2:])):
        picture = Image.fromarray(image if channels == 3 else image[..., 0])
        small[number] = np.asarray(picture.resize((size, size), method)).reshape(size, size, channels)
    return small.reshape(classes, count, size, size, channels)
