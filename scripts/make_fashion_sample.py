"""Make labcore/tasks/fashion.npz from the Debian package dataset-fashion-mnist: the first images of each class."""

import gzip
from pathlib import Path

import numpy as np

SOURCE = Path("/usr/share/datasets/fashion-mnist")
TARGET = Path(__file__).parent.parent / "labcore" / "tasks" / "fashion.npz"
TRAINING_IMAGES, TEST_IMAGES = 300, 100


def first_of_each_class(name: str, count: int) -> np.ndarray:
    """uint8 [10, count, 28, 28], in the order of the original files."""
    labels = np.frombuffer(gzip.decompress((SOURCE / f"{name}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    pixels = np.frombuffer(gzip.decompress((SOURCE / f"{name}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    images = pixels.reshape(-1, 28, 28)
    return np.stack([images[labels == label][:count] for label in range(10)])


if __name__ == "__main__":
    np.savez_compressed(
        TARGET,
        train=first_of_each_class("train", TRAINING_IMAGES),
        test=first_of_each_class("t10k", TEST_IMAGES),
    )
    print(f"{TARGET.name}: {TARGET.stat().st_size:,} bytes")
