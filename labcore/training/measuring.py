"""How well a network answers: on the first pictures of its tasks while it learns, on all of them, and how fast."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from labcore.methods.base import Method
from labcore.networks.batches import LoadedTask, Pictures, Stopped, chunks, run_first_blocks
from labcore.networks.network import Network


@dataclass(frozen=True, slots=True)
class Probe:
    """The first validation pictures of a task, as block `first` receives them ([N, …]), and their labels."""

    task: int
    inputs: Tensor
    labels: Tensor
    first: int


class Measurer:
    """Asks the network for answers, as the method lets each task see it, and changes nothing in it.

    Statistics of normalisation stand still. Every method raises Stopped where the run was told to stop.
    """

    def __init__(self, network: Network, method: Method, should_stop: Callable[[], bool]) -> None:
        self.network, self.method, self.should_stop = network, method, should_stop

    def probe(self, task: LoadedTask, count: int, first: int) -> Probe:
        """A task's first `count` validation pictures, run once through the blocks before `first`."""
        self.network.let_statistics_move([])
        pictures = task.validation.first(count)
        inputs = run_first_blocks(
            self.network, self.method.fixed_overlay(task.position), pictures, first, self.should_stop
        )
        return Probe(task.position, inputs, pictures.labels, first)

    @torch.no_grad()
    def right_now(self, probe: Probe) -> Tensor:
        """Which pictures of a probe the network gets right, bool [N]."""
        if self.should_stop():
            raise Stopped
        self.network.let_statistics_move([])
        logits = self.network.logits(probe.inputs, probe.task, self.method.fixed_overlay(probe.task), probe.first)
        return logits.argmax(1) == probe.labels

    @torch.no_grad()
    def right(self, task: LoadedTask, pictures: Pictures) -> Tensor:
        """Which of the pictures the network gets right, bool [N].

        It is asked without autocast, with CHUNK pictures at a time, and the overlay is made once for all of them.
        """
        self.network.let_statistics_move([])
        overlay = self.method.fixed_overlay(task.position)
        answers = []
        for images, labels in chunks(pictures, self.should_stop):
            logits = self.network.logits(self.network.trunk.normalise(images), task.position, overlay)
            answers.append(logits.argmax(1) == labels)
        return torch.cat(answers)

    @torch.no_grad()
    def ms_per_image(self, task: LoadedTask, most: int) -> float:
        """How many milliseconds an answer takes: the median of five warm passes over up to `most` test images.

        Images are given one at a time, and the overlay is made beforehand.
        """
        overlay, images = self.method.fixed_overlay(task.position), task.test.images[:most]
        self.network.let_statistics_move([])

        def one_pass(count: int) -> float:
            begun = time.perf_counter()
            for number in range(count):
                if self.should_stop():
                    raise Stopped
                image = self.network.trunk.normalise(images[number : number + 1])
                self.network.logits(image, task.position, overlay).argmax(1).cpu()
            return (time.perf_counter() - begun) / count * 1000

        one_pass(min(10, len(images)))
        return statistics.median(one_pass(len(images)) for _ in range(5))
