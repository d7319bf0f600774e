"""How far a run is, and what it spends on the way: steps and pictures, seconds, watt-hours, memory."""

import math
import time
from dataclasses import dataclass

import torch

from labcore.runs.energy import Meter
from labcore.training.hardware import PeakMemory


@dataclass(slots=True)
class Clock:
    """Counts seconds of training and seconds of evaluation, apart from each other.

    What happens while an event is being taken by whoever reads the events counts for neither.
    """

    train: float = 0.0
    evaluation: float = 0.0
    stage_train: float = 0.0
    stage_evaluation: float = 0.0
    _since: float = 0.0

    def start(self) -> None:
        """From now on time counts."""
        self._since = time.perf_counter()

    def trained(self) -> None:
        """Count the time since the last call as training."""
        passed = self._lap()
        self.train += passed
        self.stage_train += passed

    def evaluated(self) -> None:
        """Count the time since the last call as evaluation."""
        passed = self._lap()
        self.evaluation += passed
        self.stage_evaluation += passed

    def stand_still(self, seconds: float) -> None:
        """Count so many of the last seconds neither as the one nor as the other."""
        self._since += seconds

    def _lap(self) -> float:
        now = time.perf_counter()
        passed, self._since = now - self._since, now
        return passed


class EnergyMeasured:
    """The watt-hours that the run and the stage have spent, as a meter tells them.

    Each is None where some part of it was not measured.
    """

    def __init__(self, meter: Meter | None) -> None:
        self.meter = meter
        self.run: float | None = None if meter is None else 0.0
        self.stage: float | None = None
        self._reading: float | None = 0.0
        self._read_at = -math.inf

    def read(self, seconds: float = 0.0) -> float | None:
        """What the run has spent so far. The meter is not read again where that was done in the last `seconds`."""
        now = time.monotonic()
        if now - self._read_at < seconds:
            return self.run
        self._read_at = now
        reading = self.meter.read() if self.meter else None
        passed = None if reading is None or self._reading is None else reading - self._reading
        self._reading = reading
        self.run = None if self.run is None or passed is None else self.run + passed
        self.stage = None if self.stage is None or passed is None else self.stage + passed
        return self.run

    def go_on(self, stage: float | None) -> None:
        """Let the stage count from here on, on top of what it has spent already; the time before is the run's alone."""
        self.read()
        self.stage = stage


@dataclass(slots=True)
class Progress:
    """How far a run is and what it has spent by then: the one place where the parts of the loop count together.

    `step` counts optimizer steps and `images_seen` the training images in them over the whole run; `stage_step` and
    `stage_images` count the same for the stage that is being learnt.
    """

    clock: Clock
    energy: EnergyMeasured
    memory: PeakMemory
    step: int = 0
    images_seen: int = 0
    stage_step: int = 0
    stage_images: int = 0

    @classmethod
    def begin(cls, device: torch.device, meter: Meter | None = None) -> "Progress":
        """Nothing is done and nothing spent. Memory counts from here, so this comes before anything is loaded."""
        return cls(Clock(), EnergyMeasured(meter), PeakMemory(device))

    def begin_stage(self) -> None:
        """Count the stage anew."""
        self.clock.stage_train = self.clock.stage_evaluation = 0.0
        self.energy.go_on(0.0)
        self.stage_step = self.stage_images = 0

    def stepped(self, images: int) -> None:
        """Count one step on so many images."""
        self.step += 1
        self.stage_step += 1
        self.images_seen += images
        self.stage_images += images
