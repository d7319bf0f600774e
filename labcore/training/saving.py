"""What a run writes down: the arrays of its stages, and checkpoints from which it goes on bit for bit."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from labcore.runs import checkpoints
from labcore.runs.checkpoints import Position
from labcore.runs.files import atomic_path
from labcore.training.learner import Learner
from labcore.training.optimizers import Updates
from labcore.training.spending import Progress
from labcore.training.telling import Telling


@dataclass(frozen=True, slots=True)
class Entry:
    """Where training enters a stage: at its beginning, or within it with the tensors of a checkpoint."""

    phase: int = 0
    step: int = 0  # within the phase
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def is_within(self) -> bool:
        """Whether the stage was begun before."""
        return (self.phase, self.step) != (0, 0)


# ---- the arrays of a stage ------------------------------------------------------------------------------------------


def save_stage(learner: Learner, folder: Path) -> None:
    """Write `network.safetensors`, and `method.safetensors` where the method keeps something of its own."""
    save_method(learner, folder)
    with atomic_path(folder / "network.safetensors") as temporary:
        checkpoints.write_tensors(temporary, learner.network.tensors() | learner.method.network_tensors())


def save_method(learner: Learner, folder: Path) -> None:
    """Write `method.safetensors`: what the method keeps, but for what the network's file holds of it."""
    elsewhere = learner.method.network_tensors()
    own = {name: value for name, value in learner.method.state_dict().items() if name not in elsewhere}
    if own:
        with atomic_path(folder / "method.safetensors") as temporary:
            checkpoints.write_tensors(temporary, own)


def load_stage(learner: Learner, folder: Path) -> None:
    """Put network and method where a stage left them, by what lies in its folder.

    Raises OSError, and what reading damaged arrays raises.
    """
    from_network = load_network(learner, folder)
    load_method(learner, folder, from_network, has_file=(folder / "method.safetensors").exists())


def load_network(learner: Learner, folder: Path) -> dict[str, Tensor]:
    """Put the network where a stage left it, and return what else its file holds: that is the method's."""
    saved = load_file(folder / "network.safetensors")
    learner.network.load_tensors(saved)
    of_network = learner.network.tensors().keys()
    return {name: value for name, value in saved.items() if name not in of_network}


def load_method(learner: Learner, folder: Path, from_network: Mapping[str, Tensor], *, has_file: bool) -> None:
    """Put the method where a stage left it, with what `load_network` returned; not every method has a file."""
    own = load_file(folder / "method.safetensors") if has_file else {}
    learner.method.load_state_dict({**from_network, **own})


# ---- checkpoints ----------------------------------------------------------------------------------------------------


# The second checkpoint of an attempt comes so many seconds after the first, if writing takes no more than a hundredth
# of that; each further one after twice the time of the one before.
FIRST_SECONDS, LARGEST_SHARE = 1.0, 0.01


class Checkpoints:
    """Writes the whole state of a run to `path`, and takes it up again; None: writes none.

    An attempt's first checkpoint is due as soon as a step is done, so that each attempt gets further than the one
    before, however soon it ends. The next ones come at rising intervals, at last every so many `seconds`.
    """

    def __init__(
        self, learner: Learner, progress: Progress, telling: Telling, path: Path | None = None, seconds: float = 20.0
    ) -> None:
        self.learner, self.progress, self.telling = learner, progress, telling
        self.path, self.seconds = path, seconds
        self._saved_at, self._interval = time.monotonic(), 0.0

    def is_due(self) -> bool:
        """Whether the last one is old enough for the next, once a step is done."""
        return time.monotonic() - self._saved_at >= self._interval

    def save(self, stage: int, phase: int = 0, phase_step: int = 0, updates: Updates | None = None) -> None:
        """Write down everything that the rest of the run depends on; `updates` has the optimizers of a phase."""
        if self.path is None:
            self._interval = math.inf
            return
        begun = time.monotonic()
        self.progress.energy.read()
        tensors = dict(self.learner.network.tensors())
        own = self.learner.method.checkpoint_tensors()
        tensors |= {f"method/{name}": value for name, value in own.items()}
        if updates is not None:
            tensors |= updates.tensors()
        checkpoints.save(self.path, self._position(stage, phase, phase_step), tensors)
        self._saved_at = time.monotonic()
        rising = max(2 * self._interval, FIRST_SECONDS, (self._saved_at - begun) / LARGEST_SHARE)
        self._interval = min(rising, self.seconds)

    def _position(self, stage: int, phase: int, phase_step: int) -> Position:
        """Where the run stands, and what it has spent and said by then."""
        progress, clock = self.progress, self.progress.clock
        return Position(
            key=self.learner.config.key(),
            stage=stage,
            phase=phase,
            phase_step=phase_step,
            step=progress.step,
            images_seen=progress.images_seen,
            train_seconds=clock.train,
            evaluation_seconds=clock.evaluation,
            stage_step=progress.stage_step,
            stage_images=progress.stage_images,
            stage_train_seconds=clock.stage_train,
            stage_evaluation_seconds=clock.stage_evaluation,
            energy_wh=progress.energy.run,
            stage_energy_wh=progress.energy.stage,
            peak_memory=progress.memory.peak,
            reused_peak_memory=progress.memory.reused,
            pending=tuple(self.telling.pending),
            told=tuple(self.telling.told) if (phase, phase_step) != (0, 0) else (),
        )

    def restore(self, position: Position, tensors: Mapping[str, Tensor]) -> Entry:
        """Take up a checkpoint: the tasks seen, their heads, every tensor, what was spent and said.

        Returns where it enters the stage of the position; the optimizers are for the phase to restore from it.
        """
        entry, learner = Entry(position.phase, position.phase_step, tensors), self.learner
        seen = position.stage if entry.is_within else position.stage - 1
        for stage in range(1, seen + 1):
            learner.see(stage)
        learner.network.load_tensors(tensors)
        prefix = "method/"
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        learner.method.load_checkpoint_tensors(own)
        self.telling.pending, self.telling.told = list(position.pending), list(position.told)
        self._restore_progress(position)
        return entry

    def _restore_progress(self, position: Position) -> None:
        progress, clock = self.progress, self.progress.clock
        progress.step, progress.images_seen = position.step, position.images_seen
        progress.stage_step, progress.stage_images = position.stage_step, position.stage_images
        clock.train, clock.evaluation = position.train_seconds, position.evaluation_seconds
        clock.stage_train = position.stage_train_seconds
        clock.stage_evaluation = position.stage_evaluation_seconds
        progress.memory.known, progress.memory.reused = position.peak_memory, position.reused_peak_memory
        if progress.energy.meter is not None:
            progress.energy.run = position.energy_wh
