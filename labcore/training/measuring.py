"""How well a network answers: on the first pictures of its tasks while it learns, on all of them, and how fast."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from labcore.configs.looking import SHOWN_PICTURES, TIMED_PASSES, TIMED_PICTURES
from labcore.methods.base import Method
from labcore.networks.batches import LoadedTask, Stopped, chunks, run_first_blocks
from labcore.networks.network import Network

Split = Literal["validation", "test"]


@dataclass(frozen=True, slots=True)
class Answers:
    """What the network answers to a task's first pictures, or to all of a split.

    `classes` is what each picture is taken for, int64 [N], and `logits` is all that was said of the first
    SHOWN_PICTURES, [n, classes].
    """

    classes: Tensor
    logits: Tensor

    @classmethod
    def of(cls, parts: Iterable[Tensor]) -> "Answers":
        """Those that these logits are, part by part, each [N, classes]."""
        classes: list[Tensor] = []
        shown: list[Tensor] = []
        for part in parts:
            classes.append(part.argmax(1))
            if sum(map(len, shown)) < SHOWN_PICTURES:
                shown.append(part)
        return cls(torch.cat(classes), torch.cat(shown)[:SHOWN_PICTURES].clone())

    def first(self, count: int) -> "Answers":
        """The answers to the first `count` pictures."""
        return Answers(self.classes[:count], self.logits[:count])


@dataclass(frozen=True, slots=True)
class Probe:
    """The first validation pictures of a task, as block `first` receives them ([N, …]), and their labels.

    Where the answers to them stand for the whole phase, `standing` has them, and there are no inputs.
    """

    task: int
    inputs: Tensor | None
    labels: Tensor
    first: int
    standing: Answers | None = None


class Measurer:
    """Asks the network for answers, as the method lets each task see it, and changes nothing in it.

    Nothing is asked twice that cannot have changed: answers are remembered until somebody says by `forget` that they
    may be other ones by now. Statistics of normalisation stand still. Every method that asks raises Stopped where the
    run was told to stop.
    """

    def __init__(self, network: Network, method: Method, should_stop: Callable[[], bool]) -> None:
        self.network, self.method, self.should_stop = network, method, should_stop
        self._known: dict[tuple[int, Split], Answers] = {}

    def forget(self, tasks: Iterable[int]) -> None:
        """What the network answers to these tasks may change from now on, or has changed."""
        for task in tasks:
            for split in get_args(Split):
                self._known.pop((task, split), None)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Forget all that is known if the network is written to within the block, unless the method isolates it."""
        before = self._versions()
        yield
        if self._versions() != before and not self.method.isolates():
            self._known.clear()

    def _versions(self) -> list[int]:
        """torch's count of how often each of the trunk's tensors was written to."""
        return [tensor._version for tensor in self.network.trunk.state_dict(keep_vars=True).values()]

    def known(self, task: int, split: Split) -> Answers | None:
        """The answers to a task's pictures, if they were asked for and still stand."""
        return self._known.get((task, split))

    def probe(self, task: LoadedTask, count: int, first: int, *, stands: bool) -> Probe:
        """A task's first `count` validation pictures, run once through the blocks before `first`.

        Where the answers stand they are taken from those that are known, or else asked for once.
        """
        pictures = task.validation.first(count)
        if stands:
            return Probe(task.position, None, pictures.labels, first, self.answers(task, "validation").first(count))
        self.network.let_statistics_move([])
        inputs = run_first_blocks(
            self.network, self.method.fixed_overlay(task.position), pictures, first, self.should_stop
        )
        return Probe(task.position, inputs, pictures.labels, first)

    @torch.no_grad()
    def answers_now(self, probe: Probe) -> Answers:
        """What the network answers to the pictures of a probe."""
        if self.should_stop():
            raise Stopped
        if probe.standing is not None:
            return probe.standing
        assert probe.inputs is not None
        self.network.let_statistics_move([])
        overlay = self.method.fixed_overlay(probe.task)
        return Answers.of([self.network.logits(probe.inputs, probe.task, overlay, probe.first)])

    @torch.no_grad()
    def answers(self, task: LoadedTask, split: Split) -> Answers:
        """What the network answers to all of a task's validation or test pictures.

        It is asked without autocast, with CHUNK pictures at a time, and the overlay is made once for all of them.
        """
        known = self.known(task.position, split)
        if known is not None:
            return known
        self.network.let_statistics_move([])
        overlay = self.method.fixed_overlay(task.position)
        pictures = task.validation if split == "validation" else task.test
        self._known[task.position, split] = found = Answers.of(
            self.network.logits(self.network.trunk.normalise(images), task.position, overlay)
            for images, _ in chunks(pictures, self.should_stop)
        )
        return found

    def ms_per_image(self, task: LoadedTask) -> float:
        """How many milliseconds an answer takes: the median of some passes, after a warm one that does not count."""
        one_pass = self.passes(task)
        one_pass()
        return statistics.median(one_pass() for _ in range(TIMED_PASSES))

    def passes(self, task: LoadedTask) -> Callable[[], float]:
        """A pass over a task's first test images, which returns how many milliseconds an answer took.

        Images are given one at a time, the overlay is made beforehand, and asking whether to stop takes none of the
        time. The pass raises Stopped where it was told to stop.
        """
        overlay, images = self.method.fixed_overlay(task.position), task.test.images[:TIMED_PICTURES]

        @torch.no_grad()
        def one_pass() -> float:
            self.network.let_statistics_move([])
            spent = 0.0
            for number in range(len(images)):
                if self.should_stop():
                    raise Stopped
                begun = time.perf_counter()
                image = self.network.trunk.normalise(images[number : number + 1])
                self.network.logits(image, task.position, overlay).argmax(1).cpu()
                spent += time.perf_counter() - begun
            return spent / len(images) * 1000

        return one_pass
