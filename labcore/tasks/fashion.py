"""Clothes, 28 × 28 px, grey: a fixed sample of Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747; MIT licence).

The sample, 300 training and 100 test images a class, is made by `scripts/make_fashion_sample.py`.
"""

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np

from labcore.tasks.source import Source

FILE = Path(__file__).with_name("fashion.npz")


@lru_cache(maxsize=1)
def _load() -> tuple[np.ndarray, np.ndarray]:
    with np.load(FILE) as file:
        return file["train"][..., None], file["test"][..., None]


@lru_cache(maxsize=1)
def _fingerprint() -> str:
    return hashlib.sha256(FILE.read_bytes()).hexdigest()


SOURCE = Source(
    name="fashion",
    title="Clothes",
    description="Which piece of clothing is it?",
    classes=("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    load=_load,
    picture=lambda label, index: _load()[0][label, index],
    fingerprint=_fingerprint,
    images=(300, 100),
)
