"""The Fisher diagonal against one ordinary batched pass over the same images, and against a loop over single images.

    python -m benchmarks.fisher

Prints, for each network, the seconds of all three (the best of several alternating rounds, empirical labels, all
weights) and what both cost in batched forward and backward passes, weight gradients included.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from labcore.networks import backbones
from labcore.networks.fisher import fisher_diagonal, fisher_diagonal_by_image
from labcore.networks.streams import stream
from labcore.training import hardware


@dataclass(frozen=True)
class Case:
    name: str
    backbone: str
    start: str
    size: int
    images: int
    rounds: int
    aim: float


CASES = [
    Case("Small CNN, 28 px", "small_cnn", "kaiming", 28, 128, 15, 1.3),
    Case("EfficientNet-Lite0, 64 px", "efficientnet_lite0", "pretrained", 64, 128, 7, 1.3),
]
CLASSES = 10


def batched(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    model.zero_grad()
    functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure(case: Case) -> tuple[float, float, float]:
    """The seconds that the Fisher diagonal, the loop, and one batched pass take."""
    trunk = backbones.build(case.backbone, case.start, case.size, stream(0, "trunk"))
    model = nn.Sequential(trunk, nn.Linear(trunk.width, CLASSES)).eval()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels = torch.randint(0, 256, (case.images, case.size, case.size, 3), generator=stream(0, "images"))
    images = trunk.normalise(pixels.to(torch.uint8))
    labels = torch.arange(case.images) % CLASSES
    works: tuple[Callable[[], object], ...] = (
        lambda: fisher_diagonal(model, images, labels, "empirical"),
        lambda: fisher_diagonal_by_image(model, images, labels, "empirical"),
        lambda: batched(model, images, labels),
    )
    rounds = [[seconds(work) for work in works] for _ in range(case.rounds)]
    ours, loop, batch = (min(column) for column in zip(*rounds, strict=True))
    return ours, loop, batch


if __name__ == "__main__":
    print(f"{hardware.prepare()} threads\n")
    print("| case | Fisher (s) | loop (s) | batched (s) | Fisher / batched | aim | loop / batched |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        ours, loop, batch = measure(case)
        name, ratio = f"{case.name}, {case.images} images", ours / batch
        row = f"| {name} | {ours:.3f} | {loop:.3f} | {batch:.3f} | {ratio:.2f} | ≤ {case.aim} | {loop / batch:.1f} |"
        print(row, flush=True)
