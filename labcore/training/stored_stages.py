"""Stages that were trained before: a run takes them from the cache instead of training them, and adds its own to it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from labcore.configs.run import RunConfig
from labcore.runs import stage_locks
from labcore.runs.events import Event, StageEnded, StageStarted, StepLogged, Warned
from labcore.runs.results import difference
from labcore.runs.stage_cache import Addition, StageCache, StoredStage, before_measured
from labcore.runs.stage_keys import StageKey, stage_keys
from labcore.training import saving
from labcore.training.hardware import device_name
from labcore.training.learner import Learner
from labcore.training.spending import Progress
from labcore.version import ENGINE_VERSION


def keys_of(learner: Learner, threads: int) -> list[StageKey]:
    """The keys of all stages of a run, as they come out on this machine with so many threads."""
    stages = [task.position for task in learner.all_tasks]
    trained = [learner.method.stage_config(stage) for stage in stages]
    added = [learner.method.addition_config(stage) for stage in stages]
    return stage_keys(learner.config, _machine(learner.device, threads), trained, added)


def keys_ahead(config: RunConfig, device: str, threads: int) -> list[StageKey]:
    """The same keys before there is a learner."""
    stages = range(1, len(config.tasks) + 1)
    trained = [config.stage_config(stage) for stage in stages]
    added = [config.addition_config(stage) for stage in stages]
    return stage_keys(config, _machine(torch.device(device), threads), trained, added)


def _machine(device: torch.device, threads: int) -> dict[str, str | int]:
    """What of this machine the bits of a stage depend on."""
    return {
        "engine": ENGINE_VERSION,
        "torch": str(torch.__version__),
        "device": device.type,
        "card": device_name(device) if device.type == "cuda" else "",
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
    }


class StoredStages:
    """The stages of one run in the cache: those that it `takes` from there, if it may, and those that it adds.

    `folder_of(k)` is the run's own folder for the arrays of stage k.
    """

    def __init__(
        self,
        learner: Learner,
        progress: Progress,
        cache: StageCache,
        threads: int,
        folder_of: Callable[[int], Path],
        *,
        takes: bool,
    ) -> None:
        self.learner, self.progress, self.cache, self.folder_of = learner, progress, cache, folder_of
        self.takes = takes
        self.keys = keys_of(learner, threads)
        self._held: tuple[int, stage_locks.Held] | None = None

    # ---- taking turns -----------------------------------------------------------------------------------------------

    def hold(self, stage: int) -> bool:
        """Become the one run that trains a stage, if no other does. What was held before is let go either way.

        The next stage's lock is taken before the last one's goes: so the run that trained a stage which others wait
        for is the one that goes on, and the others, which have trained nothing yet, take the next one from it, too.
        """
        if self._held is not None and self._held[0] == stage:
            return True
        held = stage_locks.hold(self.cache.store, self.keys[stage - 1])
        self.let_go()
        self._held = None if held is None else (stage, held)
        return held is not None

    def let_go(self) -> None:
        """Train no stage any more."""
        if self._held is not None:
            self._held[1].let_go()
            self._held = None

    # ---- taking -----------------------------------------------------------------------------------------------------

    def take(self, stage: int) -> Iterator[Event] | None:
        """Put the run where a stored stage left it; None where it is not stored. Returns the stage's events.

        The events are those of the time when it was trained, marked as reused; they are to be taken to the last.
        """
        learner, key, folder = self.learner, self.keys[stage - 1], self.folder_of(stage)
        comes_with_training = learner.method.addition_config(stage) is None
        stored = self.cache.take(key, folder, needs_addition=comes_with_training)
        if stored is None:
            return None
        learner.see(stage)
        added = self._take_arrays(stage, stored, folder)
        if stored.addition is None:
            self.cache.put_addition(key, folder, added)
        return self._told_again(stored, added)

    def _take_arrays(self, stage: int, stored: StoredStage, folder: Path) -> Addition:
        """Put network and method where the stage left them.

        What the method added at the stage's end is computed where it is not stored: another method, or this one with
        other settings, trained the stage.
        """
        learner, progress = self.learner, self.progress
        from_network = saving.load_network(learner, folder)
        progress.step, progress.images_seen = stored.ended.step, stored.images_seen
        if stored.addition is None:
            learner.let_learn(learner.method.trainable(stage, learner.method.phases(stage)[-1]))
            added = learner.end_stage(stage, progress)
            saving.save_method(learner, folder)
            return added
        saving.load_method(learner, folder, from_network, has_file=stored.addition.file is not None)
        progress.clock.train += stored.addition.seconds
        return stored.addition

    def _told_again(self, stored: StoredStage, added: Addition) -> Iterator[Event]:
        """A stored stage's events as if it were trained now, but marked; seconds go on from what the run has spent."""
        progress = self.progress
        begun = progress.clock.train - added.seconds, progress.clock.evaluation
        warned = [Warned(stage=stored.ended.stage, text=text, step=progress.step) for text in added.warnings]
        footprint = stored.footprint.model_copy(update={"kept": self.learner.method.footprint()})
        seconds, energy = stored.ended.train_seconds + added.seconds, stored.ended.energy_wh
        energy = None if energy is None or added.energy_wh is None else energy + added.energy_wh
        ended = stored.ended.model_copy(update={"train_seconds": seconds, "energy_wh": energy})
        for event in [*stored.told, *warned, *stored.measured, footprint, ended]:
            now: dict[str, object] = {"time": time.time(), "reused": True}
            if isinstance(event, StepLogged):
                now["energy_wh"] = progress.energy.run  # the run's own: what the stage cost is not spent again
            yield _moved(event, *begun).model_copy(update=now)
        progress.clock.train += stored.ended.train_seconds
        progress.clock.evaluation += stored.ended.evaluation_seconds
        progress.memory.reused = max(progress.memory.reused, stored.peak_memory)

    # ---- keeping ----------------------------------------------------------------------------------------------------

    def keep(self, told: list[Event], ended: StageEnded, added: Addition) -> None:
        """Put a stage that was trained, and whose arrays are saved, into the cache.

        `told` are its events before `ended`. What its end said and took belongs to `added`, not to the training: the
        same training may end otherwise for another method.
        """
        if not isinstance(told[0], StageStarted):
            return  # it went on from a checkpoint that does not know how the stage began
        begun = before_measured(told)
        trained, measured = told[: begun - len(added.warnings)], told[begun:]
        seconds, energy = ended.train_seconds - added.seconds, difference(ended.energy_wh, added.energy_wh)
        ended = ended.model_copy(update={"train_seconds": seconds, "energy_wh": energy})
        clock = self.progress.clock
        spent = clock.train - clock.stage_train, clock.evaluation - clock.stage_evaluation
        events = [_moved(event, -spent[0], -spent[1]) for event in [*trained, *measured, ended]]
        key, folder = self.keys[ended.stage - 1], self.folder_of(ended.stage)
        self.cache.put(key, folder, events, added, peak_memory=self.progress.memory.peak_of_all_stages)


def _moved(event: Event, train: float, evaluation: float) -> Event:
    """The event, with the seconds that the run has spent counted from elsewhere."""
    if not isinstance(event, StepLogged):
        return event
    seconds = event.train_seconds + train, event.evaluation_seconds + evaluation
    return event.model_copy(update={"train_seconds": seconds[0], "evaluation_seconds": seconds[1]})
