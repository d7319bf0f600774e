"""What every source of pictures offers: those of the lab, and those that other packages announce."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from labcore.tasks.downloads import File


class TaskError(ValueError):
    """A task is not there. The message is one plain sentence without a full stop."""


@dataclass(frozen=True, slots=True)
class Source:
    """A task's pictures at their own size.

    `load` gives training and test images, each uint8 [classes, N, H, W, C]. `picture(class, index)` gives one of the
    training images, uint8 [H, W, C], without making the others. `fingerprint` gives, at little cost, hex digits that
    change when the pictures do. `images` holds the numbers of training and of test images of each class.

    A source with `files`, `download` MB of them, is loaded by `load(*paths, size=…)`, which may give pictures of that
    size at once; it has no `picture`.
    """

    name: str
    title: str
    description: str
    classes: tuple[str, ...]
    load: Callable[..., tuple[np.ndarray, np.ndarray]]
    picture: Callable[[int, int], np.ndarray] | None
    fingerprint: Callable[[], str]
    images: tuple[int, int]
    files: tuple[File, ...] = ()
    download: int = 0
