"""Measure how fast this machine is with a backbone. It is done once, takes some seconds, and pages estimate from it."""

import statistics
import time
from collections.abc import Callable, Sequence

import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional

from labcore.networks import backbones
from labcore.networks.streams import stream
from labcore.networks.trunk import Trunk
from labcore.studies.estimates import Speed

_CLASSES = 10
_SMALL, _LARGE, _LOOK = 8, 32, 100  # images in a small, a large and a merely looked at batch
_SECONDS = 3.0  # all timings together go on for so long, once they are warm


def measure(backbone: str, image_size: int, device: str, should_stop: Callable[[], bool]) -> Speed | None:
    """Time steps of training and answers, on random pictures and weights. Returns None where it was told to stop.

    `should_stop` is asked before each of them, so that a run that is started meanwhile waits for less than a second.
    The acts take turns, and the median of each counts: what disturbs the machine for a moment disturbs all of them
    alike, and falls out of every median.
    """
    generator = stream(0, "speed")
    trunk = backbones.build(backbone, "kaiming", image_size, generator)
    place = torch.device(device)
    trunk.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    head = nn.Linear(trunk.width, _CLASSES, device=place)
    shape = (_LOOK, image_size, image_size, 3)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(place)
    labels = torch.arange(_LOOK, device=place) % _CLASSES
    with torch.no_grad():
        kept = torch.cat([trunk(trunk.normalise(images[:1]))] * _LOOK)

    def look(count: int) -> None:
        with torch.no_grad():
            head(trunk(trunk.normalise(images[:count]))).argmax(1).cpu()

    learns = torch.optim.Adam([*trunk.parameters(), *head.parameters()], lr=1e-6, fused=True)
    head_learns = torch.optim.Adam(head.parameters(), lr=1e-6, fused=True)

    def step(count: int) -> None:
        learns.zero_grad()
        loss = functional.cross_entropy(head(trunk(trunk.normalise(images[:count]))), labels[:count])
        loss.backward()  # type: ignore[no-untyped-call]
        learns.step()
        float(loss.detach())

    def head_step(count: int) -> None:
        head_learns.zero_grad()
        loss = functional.cross_entropy(head(kept[torch.arange(count)]), labels[:count])
        loss.backward()  # type: ignore[no-untyped-call]
        head_learns.step()
        float(loss.detach())

    acts = ((step, _SMALL), (step, _LARGE), (look, _LOOK), (look, 1), (head_step, _LARGE))
    others, found = _Others(), _take_turns(acts, should_stop)
    if found is None:
        return None
    timings = {(act.__name__, count): milliseconds for (act, count), milliseconds in zip(acts, found, strict=True)}
    image_ms = max(0.0, (timings["step", _LARGE] - timings["step", _SMALL]) / (_LARGE - _SMALL))
    return Speed(
        device=device,
        backbone=backbone,
        image_size=image_size,
        step_ms=max(0.0, timings["step", _LARGE] - _LARGE * image_ms),
        image_ms=image_ms,
        head_step_ms=timings["head_step", _LARGE],
        forward_ms=timings["look", _LOOK] / _LOOK,
        single_ms=timings["look", 1],
        activation_bytes=_activation_bytes(trunk, images[:_SMALL]) // _SMALL,
        features=trunk.width,
        weights=sum(weight.numel() for weight in trunk.parameters()),
        others=others.share(),
    )


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


def _take_turns(
    acts: Sequence[tuple[Callable[[int], None], int]], should_stop: Callable[[], bool]
) -> list[float] | None:
    """The median milliseconds of each act with its count of images, or None where it was told to stop.

    The first round, in which all get warm, is left out.
    """
    rounds: list[list[float]] = []
    begun = time.perf_counter()
    while len(rounds) < 2 or time.perf_counter() - begun < _SECONDS:
        rounds.append([])
        for act, count in acts:
            if should_stop():
                return None
            since = time.perf_counter()
            act(count)
            rounds[-1].append(1000 * (time.perf_counter() - since))
        if len(rounds) == 1:
            begun = time.perf_counter()
    return [statistics.median(column) for column in zip(*rounds[1:], strict=True)]


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
