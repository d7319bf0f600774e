"""What a run spends while it trains: seconds of training and of measuring, and watt-hours."""

import math
import time
from dataclasses import dataclass

from labcore.runs.energy import Meter


@dataclass(slots=True)
class Clock:
    """Seconds of training and of evaluation, apart. What happens while an event is being taken counts for neither."""

    train: float = 0.0
    evaluation: float = 0.0
    stage_train: float = 0.0
    stage_evaluation: float = 0.0
    _since: float = 0.0

    def start(self) -> None:
        """From now on time counts."""
        self._since = time.perf_counter()

    def trained(self) -> None:
        """What passed since was training."""
        passed = self._lap()
        self.train += passed
        self.stage_train += passed

    def evaluated(self) -> None:
        """What passed since was measuring."""
        passed = self._lap()
        self.evaluation += passed
        self.stage_evaluation += passed

    def _lap(self) -> float:
        now = time.perf_counter()
        passed, self._since = now - self._since, now
        return passed


class EnergyMeasured:
    """Watt-hours of the run and of the stage, as a meter tells them; None where a part of them was not measured."""

    def __init__(self, meter: Meter | None) -> None:
        self.meter = meter
        self.run: float | None = None if meter is None else 0.0
        self.stage: float | None = None
        self._reading: float | None = 0.0
        self._read_at = -math.inf

    def read(self, seconds: float = 0.0) -> float | None:
        """The run's so far, as of at most so many seconds ago."""
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
        """From here on the stage spends; it has spent so much. What came before counts for the run alone."""
        self.read()
        self.stage = stage
