"""Pictures on the device: a task's splits, batches in a fixed order, and the feature cache."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from labcore.configs.run import TaskConfig
from labcore.networks.network import Network, Overlay
from labcore.networks.streams import stream
from labcore.tasks import catalogue, pictures

# Measuring and caching go through a data set in batches of this many images, in its order. Batches of 32 to 128 take
# about as long, and small ones need less memory. The last bits of a result depend on this number.
CHUNK = 50
# A phase whose cached activations would be larger than this many bytes keeps none. The limit is the same on every
# machine, so that the configuration alone decides.
LARGEST_FEATURE_CACHE = 1 << 30


class Stopped(Exception):
    """Raised where a run ends early because a person asked it to stop."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures on the device: images uint8 [N, H, W, C] and labels int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> "Pictures":
        """The first `count` pictures; they are balanced, because classes alternate in a data set."""
        return Pictures(self.images[:count], self.labels[:count])


@dataclass(frozen=True, slots=True)
class LoadedTask:
    """A task's splits on the device; `position` counts from 1."""

    position: int
    info: catalogue.TaskInfo
    train: Pictures
    validation: Pictures
    test: Pictures


def load_task(
    position: int,
    config: TaskConfig,
    image_size: int,
    cache: Path | None,
    device: torch.device,
    downloads: Path | None = None,
) -> LoadedTask:
    """Read a task at the run's size, and put it on the device. Raises TaskError where its pictures are not there."""
    data = pictures.load(config.name, image_size, config.images_per_class, cache, downloads)

    def on_device(split: pictures.Split) -> Pictures:
        images = torch.from_numpy(np.ascontiguousarray(split.images))
        return Pictures(images.to(device), torch.from_numpy(split.labels).to(device))

    return LoadedTask(position, data.info, on_device(data.train), on_device(data.validation), on_device(data.test))


@dataclass(frozen=True, slots=True)
class Batch:
    """The images of one step.

    `inputs` are normalised images, or their activations before block `first`. `task` is the stage's own task, and
    `tasks`, int64 [N], is that of each image; `index` is each image's place among the stage's images. Where
    `head_only` is true, the trunk stands still in this phase.
    """

    inputs: Tensor
    labels: Tensor
    first: int
    task: int
    tasks: Tensor
    index: Tensor
    head_only: bool


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a phase trains on: pictures of one or more tasks, or their cached activations before block `first`."""

    task: int
    pictures: Sequence[Tensor]  # uint8 [N, H, W, C], one for each task, because grey and colour do not stack
    features: Tensor | None
    labels: Tensor
    tasks: Tensor
    first: int
    head_only: bool

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, network: Network, index: Tensor) -> Batch:
        """The images at `index` (int64 [B], on the device), in that order."""
        if self.features is not None:
            inputs = self.features[index]
        elif len(self.pictures) == 1:
            inputs = network.trunk.normalise(self.pictures[0][index])
        else:
            inputs = network.trunk.normalise(self._gather(index))
        return Batch(inputs, self.labels[index], self.first, self.task, self.tasks[index], index, self.head_only)

    def _gather(self, index: Tensor) -> Tensor:
        size = self.pictures[0].shape[1]
        images = torch.empty((len(index), size, size, 3), dtype=torch.uint8, device=index.device)
        start = 0
        for shown in self.pictures:
            mine = (index >= start) & (index < start + len(shown))
            images[mine] = shown[index[mine] - start].expand(-1, -1, -1, 3)
            start += len(shown)
        return images


def steps_in_epoch(images: int, batch_size: int) -> int:
    """How many batches a pass has.

    A last batch of a single image joins the batch before, because one image has no batch statistics.
    """
    steps = -(-images // batch_size)
    return steps - 1 if steps > 1 and images % batch_size == 1 and batch_size > 1 else steps


def epoch_order(seed: int, stage: int, phase: str, epoch: int, images: int) -> Tensor:
    """The order of an epoch's images, int64 [images], drawn from a stream of its own."""
    return torch.randperm(images, generator=stream(seed, "shuffle", stage, phase, epoch))


def batch_slice(order: Tensor, step: int, batch_size: int) -> Tensor:
    """The part of an epoch's order that makes up batch `step`, counted from 0."""
    last = step == steps_in_epoch(len(order), batch_size) - 1
    return order[step * batch_size :] if last else order[step * batch_size : (step + 1) * batch_size]


def chunks(pictures: Pictures, should_stop: Callable[[], bool]) -> Iterator[tuple[Tensor, Tensor]]:
    """Give images and labels in data-set order, CHUNK at a time. Raises Stopped between chunks once it should stop."""
    for start in range(0, len(pictures), CHUNK):
        if should_stop():
            raise Stopped
        yield pictures.images[start : start + CHUNK], pictures.labels[start : start + CHUNK]


@torch.no_grad()
def run_first_blocks(
    network: Network, overlay: Overlay, pictures: Pictures, last: int, should_stop: Callable[[], bool]
) -> Tensor:
    """What blocks 0…last−1 make of the pictures, [N, …], in data-set order. Raises Stopped once it should stop."""
    parts = [
        network.run_blocks(network.trunk.normalise(images), overlay, 0, last)
        for images, _ in chunks(pictures, should_stop)
    ]
    return torch.cat(parts)
