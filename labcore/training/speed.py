"""Measure how fast this machine is with a backbone. It is done once, takes some seconds, and pages estimate from it."""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional

from labcore.networks import backbones
from labcore.networks.streams import stream
from labcore.networks.trunk import Trunk
from labcore.studies.estimates import Speed
from labcore.version import ENGINE_VERSION

_CLASSES = 10
_SMALL, _LARGE, _LOOK = 8, 32, 100  # images in a small, a large and a merely looked at batch
_SECONDS = 3.0  # all timings together go on for so long, once they are warm
_STEPS_IN_BFLOAT16 = 2  # so many steps in bfloat16 are timed, and as many in float32, once they are warm
# What is timed, each with its count of images.
Acts = Sequence[tuple[Callable[[int], None], int]]


def measure(
    backbone: str, image_size: int, device: str, should_stop: Callable[[], bool], *, bfloat16: bool = False
) -> Speed | None:
    """Time steps of training and answers, on random pictures and weights. Returns None where it was told to stop.

    `should_stop` is asked before each of them, so that a run that is started meanwhile waits for less than a second.
    The acts take turns, and the median of each counts: what disturbs the machine for a moment disturbs all of them
    alike, and falls out of every median. With `bfloat16` steps in these numbers are timed, too.
    """
    learner = _Learner(backbone, image_size, device)
    step, look, head_step = learner.step, learner.look, learner.head_step
    acts = ((step, _SMALL), (step, _LARGE), (look, _LOOK), (look, 1), (head_step, _LARGE))
    others, found = _Others(), _take_turns(acts, should_stop)
    times = _times_in_bfloat16(learner, should_stop) if bfloat16 and found else None
    if found is None or (bfloat16 and times is None):
        return None
    small, large, look_ms, single_ms, head_step_ms = found
    image_ms = max(0.0, (large - small) / (_LARGE - _SMALL))
    return Speed(
        device=device,
        backbone=backbone,
        image_size=image_size,
        step_ms=max(0.0, large - _LARGE * image_ms),
        image_ms=image_ms,
        head_step_ms=head_step_ms,
        forward_ms=look_ms / _LOOK,
        single_ms=single_ms,
        activation_bytes=_activation_bytes(learner.trunk, learner.images[:_SMALL]) // _SMALL,
        features=learner.trunk.width,
        weights=sum(weight.numel() for weight in learner.trunk.parameters()),
        others=others.share(),
        engine=ENGINE_VERSION,
        bfloat16=times,
    )


def times_in_bfloat16(backbone: str, image_size: int, device: str) -> float:
    """How many times as long a step takes in bfloat16 as in float32; measured in a second or two."""
    times = _times_in_bfloat16(_Learner(backbone, image_size, device), lambda: False)
    assert times is not None  # nobody told it to stop
    return times


class _Learner:
    """A network with a head, which learns random pictures by steps so small that it stays as it is.

    Its acts take so many of the pictures, and are over when they return, on a GPU too.
    """

    def __init__(self, backbone: str, image_size: int, device: str) -> None:
        generator, place = stream(0, "speed"), torch.device(device)
        self.trunk = backbones.build(backbone, "kaiming", image_size, generator)
        self.trunk.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._head = nn.Linear(self.trunk.width, _CLASSES, device=place)
        shape = (_LOOK, image_size, image_size, 3)
        self.images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(place)
        self._labels = torch.arange(_LOOK, device=place) % _CLASSES
        with torch.no_grad():
            self._kept = torch.cat([self.trunk(self.trunk.normalise(self.images[:1]))] * _LOOK)
        weights, own = list(self.trunk.parameters()), list(self._head.parameters())
        self._learns = torch.optim.Adam([*weights, *own], lr=1e-6, fused=True)
        self._head_learns = torch.optim.Adam(own, lr=1e-6, fused=True)

    def look(self, count: int) -> None:
        """Answer."""
        with torch.no_grad():
            self._head(self.trunk(self.trunk.normalise(self.images[:count]))).argmax(1).cpu()

    def step(self, count: int) -> None:
        """One step of the whole network, in float32."""
        self._step(count, nullcontext())

    def step_in_bfloat16(self, count: int) -> None:
        """One step of the whole network, its forward pass in bfloat16 as the loop has it."""
        self._step(count, torch.autocast(self.images.device.type, torch.bfloat16))

    def _step(self, count: int, precision: AbstractContextManager[object]) -> None:
        self._learns.zero_grad()
        images = self.trunk.normalise(self.images[:count])
        with precision:
            loss = functional.cross_entropy(self._head(self.trunk(images)), self._labels[:count])
        loss.backward()  # type: ignore[no-untyped-call]
        self._learns.step()
        float(loss.detach())

    def head_step(self, count: int) -> None:
        """One step of the head alone, on kept features."""
        self._head_learns.zero_grad()
        loss = functional.cross_entropy(self._head(self._kept[torch.arange(count)]), self._labels[:count])
        loss.backward()  # type: ignore[no-untyped-call]
        self._head_learns.step()
        float(loss.detach())


def _times_in_bfloat16(learner: _Learner, should_stop: Callable[[], bool]) -> float | None:
    """How many times as long a step takes in bfloat16 as in float32, or None where it was told to stop.

    Where a processor lacks the instructions a step may take ten times as long, so there are few, of few pictures, and
    of each kind the quickest counts. A GPU takes more pictures at once, or it would have nothing to do.
    """
    count = _SMALL if learner.images.device.type == "cpu" else _LARGE
    rounds: list[list[float]] = []
    for _ in range(1 + _STEPS_IN_BFLOAT16):
        found = _round(((learner.step, count), (learner.step_in_bfloat16, count)), should_stop)
        if found is None:
            return None
        rounds.append(found)
    whole, short = (min(found[act] for found in rounds[1:]) for act in (0, 1))
    return short / whole


class _Others:
    """Tells how much of the machine's processors other programs have used since it was made."""

    def __init__(self) -> None:
        self._begun = self._spent()

    def share(self) -> float:
        """From 0 to 1, of all processors together; what a hypervisor takes away for other machines counts, too."""
        passed, busy, own = (now - then for now, then in zip(self._spent(), self._begun, strict=True))
        return min(1.0, max(0.0, (busy - own) / passed)) if passed else 0.0

    @staticmethod
    def _spent() -> tuple[float, float, float]:
        machine, process = psutil.cpu_times(), psutil.Process().cpu_times()
        whole = sum(machine) - getattr(machine, "guest", 0.0) - getattr(machine, "guest_nice", 0.0)
        return whole, whole - machine.idle - getattr(machine, "iowait", 0.0), process.user + process.system


def _take_turns(acts: Acts, should_stop: Callable[[], bool]) -> list[float] | None:
    """The median milliseconds of each act with its count of images, or None where it was told to stop.

    The first round, in which all get warm, is left out.
    """
    rounds: list[list[float]] = []
    begun = time.perf_counter()
    while len(rounds) < 2 or time.perf_counter() - begun < _SECONDS:
        found = _round(acts, should_stop)
        if found is None:
            return None
        rounds.append(found)
        if len(rounds) == 1:
            begun = time.perf_counter()
    return [statistics.median(column) for column in zip(*rounds[1:], strict=True)]


def _round(acts: Acts, should_stop: Callable[[], bool]) -> list[float] | None:
    """The milliseconds of each act, done once, or None where it was told to stop."""
    found = []
    for act, count in acts:
        if should_stop():
            return None
        since = time.perf_counter()
        act(count)
        found.append(1000 * (time.perf_counter() - since))
    return found


def _activation_bytes(trunk: Trunk, images: Tensor) -> int:
    """Bytes that autograd keeps of these images for the backward pass: each tensor counts once, and weights do not."""
    sizes: dict[int, int] = {}
    weights = {weight.data_ptr() for weight in trunk.parameters()}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        kept = trunk(trunk.normalise(images))
    del kept
    return sum(sizes.values())
