"""Handwritten digits of 8 × 8 px: scikit-learn's copy of the UCI set (Alpaydin & Kaynak 1998)."""

import hashlib
import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np

from labcore.tasks.source import Source

TEST_IMAGES = 50
TRAINING_IMAGES = 124  # the rarest digit has 174 pictures; every class gets as many


def _file() -> Path:
    # The file itself: importing scikit-learn takes a second that a page need not wait for.
    package = importlib.util.find_spec("sklearn")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"


@lru_cache(maxsize=1)
def _load() -> tuple[np.ndarray, np.ndarray]:
    table = np.loadtxt(_file(), delimiter=",", dtype=np.uint8)
    images, target = np.round(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1), table[:, -1]
    count = TEST_IMAGES + TRAINING_IMAGES
    by_class = np.stack([images[target == digit][:count] for digit in range(10)])
    # Neighbours in the file are by one writer: the test pictures are the last ones, by other writers.
    return by_class[:, :TRAINING_IMAGES], by_class[:, TRAINING_IMAGES:]


@lru_cache(maxsize=1)
def _fingerprint() -> str:
    return hashlib.sha256(_file().read_bytes()).hexdigest()


SOURCE = Source(
    name="digits",
    title="Digits",
    description="Which digit did somebody write?",
    classes=tuple(str(digit) for digit in range(10)),
    load=_load,
    picture=lambda label, index: _load()[0][label, index],
    fingerprint=_fingerprint,
    images=(TRAINING_IMAGES, TEST_IMAGES),
)
