"""`train(config, …)` yields the events of a run: one loop to read, whatever the method.

A run is a row of stages, a stage a row of phases, a phase a row of steps. Every step of the loop asks whether to stop,
and at any step the whole state can be written down and taken up again, bit for bit.

What the loop uses lies beside it: `learner` (network, method, tasks), `lessons` (what a phase trains on), `phase_plan`
(when to look), `optimizers`, `measuring`, `telling` (events), `saving` (arrays and checkpoints), `stored_stages`.
"""

import functools
import operator
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from labcore.configs.looking import STILL_LOOKS, live_looks
from labcore.configs.run import RunConfig
from labcore.methods.base import Mask, Phase
from labcore.networks.batches import LoadedTask, Stopped
from labcore.networks.proportion import OutOfProportion
from labcore.runs import checkpoints
from labcore.runs.checkpoints import Checkpoint, Position
from labcore.runs.energy import Meter
from labcore.runs.events import Event, FootprintMeasured, MapSaved, RunEnded, Waiting
from labcore.runs.files import home
from labcore.runs.quiet import Quiet
from labcore.runs.stage_cache import StageCache
from labcore.tasks.downloads import DownloadError
from labcore.training import saving
from labcore.training.fetching import fetch_files
from labcore.training.hardware import pick_device, prepare
from labcore.training.learner import Learner
from labcore.training.lessons import FeatureCache, PhaseBatches
from labcore.training.map_maker import MapMaker
from labcore.training.measuring import Answers, Measurer, Probe, Split
from labcore.training.optimizers import Updates, rate_at
from labcore.training.phase_plan import PhasePlan
from labcore.training.saving import Checkpoints, Entry
from labcore.training.spending import Progress
from labcore.training.stored_stages import StoredStages
from labcore.training.telling import Telling

# A run that waits for a stage looks so often whether it is there.
WAIT_SECONDS = 0.05


def train(
    config: RunConfig,
    *,
    device: str = "cpu",
    cache: Path | None = None,
    downloads: Path | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 20.0,
    stages: Callable[[int], Path] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    maps: Path | None = None,
    live_maps: bool = True,
    stage_cache: StageCache | None = None,
    fresh: bool = False,
    meter: Meter | None = None,
    threads: int | None = None,
    quiet: Quiet | None = None,
) -> Iterator[Event]:
    """Train a configuration and tell what happens.

    Decoded pictures are kept in `cache`. Weights and data sets that do not come with the lab are looked for below
    `downloads` (the store's folder, if it is not said), and fetched into it. Where `checkpoint` is a file, the run goes
    on from it; it is written at the end of every stage, every `checkpoint_seconds`, and when the run is stopped.
    `stages(k)` is the folder that takes the arrays of stage k before its `StageEnded`. `should_stop` is asked before
    every step, every chunk of measuring and every piece of a download. `meter` tells the energy that was spent since
    this attempt began; without one it is not told. `threads` are torch's, all cores if it is not said; the environment
    may say otherwise (`hardware.prepare`). Runs that have a `quiet` in common stand still while one of them measures
    how long its answers take.

    Maps of the network's inside are saved below the folder `maps`, at the ends of stages and, with `live_maps`, at live
    points between them. No result depends on them, and the time that they take counts as evaluation.

    With a `stage_cache` (and `stages`) every stage is kept there. A run without a checkpoint takes its first stages
    from there for as long as the next one is found, unless it is to be `fresh`. A stage that another run trains just
    now is waited for.

    The last event is a `RunEnded`: complete, stopped, or failed where numbers left all proportion or a file that must
    be downloaded cannot be. Raises ConfigError, TaskError, and OSError where something cannot be written.
    """
    where, threads, quiet = torch.device(pick_device(device)), prepare(threads), quiet or Quiet()
    saved, unread = checkpoints.find(checkpoint, config.key()) if checkpoint else (None, None)
    downloads = downloads or home()
    step = saved[0].step if saved else 0
    try:
        yield from fetch_files(config, downloads, step, should_stop)
    except (Stopped, DownloadError) as error:
        yield _broken_off(error, step)
        return
    progress = Progress.begin(where, meter)

    def stop_or_stand_still() -> bool:
        progress.clock.stand_still(quiet.stand_still(should_stop))
        return should_stop()

    with quiet.training(should_stop):
        learner = Learner(config, where, cache, downloads, stop_or_stand_still)
        looks, stored = None, None
        if maps is not None:
            looks = MapMaker(learner.network, learner.method, config, learner.tasks, maps, stages, stop_or_stand_still)
        if stage_cache is not None and stages is not None:
            stored = StoredStages(learner, progress, stage_cache, threads, stages, takes=not fresh)
        loop = Loop(learner, progress, stages, checkpoint, checkpoint_seconds, looks, live_maps, stored, quiet)
        try:
            yield from loop.events(threads, saved, unread)
        except Stopped as error:
            yield _broken_off(error, progress.step, progress.energy.read())
        except OutOfProportion as error:
            why = f"{error} {loop.telling.what_to_try()}"
            yield RunEnded(
                state="failed", step=progress.step, error=why, diverged=True, energy_wh=progress.energy.read()
            )
        finally:
            if stored is not None:
                stored.let_go()


def _broken_off(error: Stopped | DownloadError, step: int, energy_wh: float | None = None) -> RunEnded:
    """The last event of a run that did not come to its end."""
    if isinstance(error, Stopped):
        return RunEnded(state="stopped", step=step, energy_wh=energy_wh)
    return RunEnded(state="failed", step=step, error=str(error), energy_wh=energy_wh)


@dataclass(frozen=True, slots=True)
class _Course:
    """A phase that is set up, as its steps need it. `told_rate` is the trunk's step size before the schedule."""

    stage: int
    number: int
    phase: Phase
    plan: PhasePlan
    batches: PhaseBatches
    statistics: Sequence[int]
    probes: Sequence[Probe]
    updates: Updates
    told_rate: float


class Loop:
    """The stages, phases and steps of one run.

    `stages(k)` is the folder that takes the arrays of stage k. Maps are made by `maps`, between the ends of stages only
    with `live_maps`. Stages that were trained before come from `stored`, and those that are trained go there. Answers
    are timed when the other runs of `quiet` stand still.
    """

    def __init__(
        self,
        learner: Learner,
        progress: Progress,
        stages: Callable[[int], Path] | None = None,
        checkpoint: Path | None = None,
        checkpoint_seconds: float = 20.0,
        maps: MapMaker | None = None,
        live_maps: bool = True,
        stored: StoredStages | None = None,
        quiet: Quiet | None = None,
    ) -> None:
        self.learner, self.progress, self.stages = learner, progress, stages
        self.maps, self.live_maps, self.stored = maps, live_maps, stored
        self.quiet = quiet or Quiet()
        self.measurer = Measurer(learner.network, learner.method, learner.should_stop)
        self.features = FeatureCache(learner)
        self.telling = Telling(learner, progress)
        self.checkpoints = Checkpoints(learner, progress, self.telling, checkpoint, checkpoint_seconds)

    # ---- the run ----------------------------------------------------------------------------------------------------

    def events(self, threads: int = 1, saved: Checkpoint | None = None, unread: str | None = None) -> Iterator[Event]:
        """All stages, from the beginning or from where the checkpoint `saved` stands.

        `unread` is a sentence for the person where a newer checkpoint could not be read.
        """
        learner, progress = self.learner, self.progress
        position = saved[0] if saved else Position(key=learner.config.key())
        entry = self.checkpoints.restore(*saved) if saved else Entry()
        yield self.telling.run_started(threads, resumed=saved is not None)
        if unread:
            yield self.telling.warned(position.stage, unread)
        progress.energy.go_on(position.stage_energy_wh)
        first = position.stage
        shares = self.stored if self.stored is not None and self.stored.takes else None
        if shares is not None and not saved:
            yield from self._stored_stages(shares)
            first = len(learner.tasks) + 1
        for stage in range(first, len(learner.all_tasks) + 1):
            if shares is not None:
                yield from self._turn(shares, stage)
            for event in self._stage(stage, entry if stage == first else Entry()):
                self.telling.note(event)
                yield event
        if shares is not None:
            shares.let_go()
        with self.quiet.alone(learner.should_stop):
            milliseconds = self.measurer.ms_per_image(learner.tasks[0])
        yield RunEnded(
            state="complete",
            step=progress.step,
            test_ms_per_image=milliseconds,
            peak_memory_bytes=progress.memory.peak_of_all_stages,
            energy_wh=progress.energy.read(),
        )

    def _stored_stages(self, stored: StoredStages) -> Iterator[Event]:
        """Take over the first stages for as long as the next one is stored, and tell again what was said in each.

        The first stage that is not stored is then this run's to train.
        """
        for task in self.learner.all_tasks:
            if self.learner.should_stop():
                raise Stopped
            told = stored.take(task.position)
            if told is None:
                yield from self._turn(stored, task.position)
                told = stored.take(task.position)  # another run may just have trained it
            if told is None:
                return
            stored.let_go()
            yield from told
            if self.maps:  # what was drawn before a stage's end is gone, but its end can be looked at again
                yield self._map_saved("stage", task.position, self.maps.end).model_copy(update={"reused": True})

    def _turn(self, stored: StoredStages, stage: int) -> Iterator[Event]:
        """Wait until no other run trains this stage; from then on it is this run's to train."""
        if stored.hold(stage):
            return
        yield Waiting(stage=stage, step=self.progress.step)
        while not stored.hold(stage):
            if self.learner.should_stop():
                raise Stopped
            time.sleep(WAIT_SECONDS)

    # ---- a stage ----------------------------------------------------------------------------------------------------

    def _stage(self, stage: int, entry: Entry) -> Iterator[Event]:
        """Learn the task of a stage, from its beginning or from where a checkpoint enters it."""
        phases = self.learner.method.phases(stage)
        if not entry.is_within:
            yield from self._begin_stage(stage)
        for number, phase in enumerate(phases):
            if number >= entry.phase:
                yield from self._phase(stage, number, phase, entry if number == entry.phase else Entry())
        yield from self.telling.warnings(stage)
        yield from self._end_stage(stage)

    def _begin_stage(self, stage: int) -> Iterator[Event]:
        """Give the network a head for the new task, and let the method prepare itself."""
        progress, method = self.progress, self.learner.method
        progress.begin_stage()
        progress.clock.start()
        self.learner.see(stage)
        with self.measurer.watching():
            method.start_stage(stage)
        progress.clock.trained()
        if self.maps:
            self.maps.begin(stage)
            progress.clock.evaluated()
        yield self.telling.stage_started(stage)
        yield from self.telling.pictures_chosen(stage)
        yield from self.telling.warnings(stage)

    def _end_stage(self, stage: int) -> Iterator[Event]:
        """Let the method add what it adds at the end, measure everything, and write it down."""
        method, progress = self.learner.method, self.progress
        self.telling.check_stage()
        working = method.working_footprint()
        if self.maps:
            self.maps.before_end(stage)
        added = self.learner.end_stage(stage, progress)
        self.telling.check_kept()
        if self.maps:
            yield self._map_saved("stage", stage, self.maps.end)
        for text in added.warnings:
            yield self.telling.warned(stage, text)
        fallen = yield from self._measure(stage)
        yield FootprintMeasured(stage=stage, kept=method.footprint(), working=working, step=progress.step)
        ended = self.telling.stage_ended(stage)
        if self.stages is not None:
            saving.save_stage(self.learner, self.stages(stage))
        if self.stored is not None:
            self.stored.keep(self.telling.told, ended, added)
        yield ended
        yield from fallen
        self.checkpoints.save(stage + 1)

    # ---- a phase ----------------------------------------------------------------------------------------------------

    def _phase(self, stage: int, number: int, phase: Phase, entry: Entry) -> Iterator[Event]:
        """Learn for some epochs what the method lets learn, with optimizers of the phase's own."""
        learner, method, clock = self.learner, self.learner.method, self.progress.clock
        masks, statistics = method.trainable(stage, phase), method.moving_statistics(stage, phase)
        learns = learner.let_learn(masks)
        clock.start()
        cached = self.features.blocks(masks, statistics, learner.phase_images(stage, phase))
        clock.trained()
        batches = PhaseBatches(learner, stage, phase, cached)
        trunk_moves = cached < len(learner.network.trunk.block_names)
        stands = {task.position for task in learner.tasks if self._stands(task.position, masks, statistics)}
        trained_images = batches.images * phase.epochs
        looks = live_looks(trained_images, max(1, stage - len(stands))) if trunk_moves else STILL_LOOKS
        plan = PhasePlan.of(
            phase, method.phases(stage), batches.steps_in_epoch, trained_images, looks, trunk_moves=trunk_moves
        )
        self.measurer.forget(task.position for task in learner.tasks if task.position not in stands)
        probes = [
            self.measurer.probe(task, looks.pictures, cached, stands=task.position in stands) for task in learner.tasks
        ]
        clock.evaluated()
        yield self.telling.phase_started(stage, phase, plan, learns, masks, cached)
        if entry.step == 0:  # before any step, and before an optimizer: a process's first takes torch two seconds
            yield from self._look(stage, probes)
            yield from self._draw(stage, plan)
        updates = Updates(learner.config.training, learns, masks, method)
        updates.restore(entry.tensors)
        trunk = next((name for name in learns if not name.startswith("heads/")), "heads/")
        rate = method.learning_rate(trunk)
        course = _Course(stage, number, phase, plan, batches, statistics, probes, updates, rate)
        yield from self._steps(course, entry.step)
        clock.start()
        method.end_phase(stage, phase)
        clock.trained()

    def _stands(self, task: int, masks: Mapping[str, Mask], statistics: Sequence[int]) -> bool:
        """Whether no step of a phase in which these learn can change what the network answers to a task."""
        if task < len(self.learner.tasks) and self.learner.method.isolates():
            return True
        return not statistics and all(name.startswith("heads/") and name.split("/")[1] != str(task) for name in masks)

    def _steps(self, course: _Course, first: int) -> Iterator[Event]:
        """The steps of a phase from step `first` on, counted from 0; between them it looks, tells and writes down."""
        training, plan = self.learner.config.training, course.plan
        for step in range(first, plan.steps):
            if self.learner.should_stop():
                self.checkpoints.save(course.stage, course.number, step, course.updates)
                raise Stopped
            if step in plan.measure_at and step > 0:
                yield from self._look(course.stage, course.probes)
            if step in plan.map_at and step > 0:
                yield from self._draw(course.stage, plan)
            scale = rate_at(step, plan.steps, training.warmup_fraction, training.schedule)
            self._step(course, step, scale)
            self.telling.check_finite(course.phase)
            if plan.tells_after(step):
                yield self.telling.step_logged(course.stage, course.phase, plan.epoch(step), course.told_rate * scale)
            if self.checkpoints.is_due() and step + 1 < plan.steps:
                self.checkpoints.save(course.stage, course.number, step + 1, course.updates)

    def _step(self, course: _Course, step: int, scale: float) -> None:
        """One step: read a batch, ask for its loss, go back through it, and move what learns."""
        network, method, updates = self.learner.network, self.learner.method, course.updates
        self.progress.clock.start()
        batch = course.batches.at(step)
        network.let_statistics_move(course.statistics)
        updates.prepare(scale)
        with self._precision():
            terms = method.loss(batch)
        functools.reduce(operator.add, terms.values()).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            further = method.further_terms(batch) if course.plan.tells_after(step) else {}
            method.before_step(batch)
            updates.step()
            method.after_step(batch)
        self.progress.stepped(len(batch.labels))
        self.telling.add_terms(terms | further)
        self.progress.clock.trained()

    def _precision(self) -> AbstractContextManager[object]:
        """In which numbers the loss is computed."""
        if self.learner.config.training.precision == "bfloat16":
            return torch.autocast(self.learner.device.type, torch.bfloat16)
        return nullcontext()

    # ---- measuring --------------------------------------------------------------------------------------------------

    def _look(self, stage: int, probes: Sequence[Probe]) -> Iterator[Event]:
        """Ask for the answers to each task's probe as they are now; those that stand are not told again."""
        self.progress.clock.start()
        found = {probe.task: self.measurer.answers_now(probe) for probe in probes}
        evaluated = self.telling.evaluated("live", stage, [found[p.task].classes == p.labels for p in probes])
        answered = self.telling.answered(stage, {p.task: found[p.task] for p in probes if p.standing is None})
        self.progress.clock.evaluated()
        yield evaluated
        yield from answered

    def _draw(self, stage: int, plan: PhasePlan) -> Iterator[Event]:
        """Draw the network's inside as it is now, where live maps are wanted."""
        if self.maps and self.live_maps:
            yield self._map_saved("live", stage, functools.partial(self.maps.live, images=plan.map_pictures))

    def _map_saved(self, kind: Literal["live", "stage"], stage: int, make: Callable[[int, int], str]) -> MapSaved:
        """Make and save maps; training finds everything as it was."""
        self.progress.clock.start()
        path = make(stage, self.progress.step)
        self.progress.clock.evaluated()
        return MapSaved(stage=stage, kind=kind, path=path, step=self.progress.step)

    def _measure(self, stage: int) -> Generator[Event, None, list[Event]]:
        """Measure all tasks seen on all their validation and test images.

        The live curve ends with the answers to the first validation images, on which it was measured before. Answers
        that a method isolates stand, and are not asked for again before the run's last stage, in which they are proved.
        Returns what is to be said of those that did not stand.
        """
        tasks, measurer = self.learner.tasks, self.measurer
        clock, evaluated = self.progress.clock, self.telling.evaluated
        positions = [task.position for task in tasks]
        asked = positions if not self.learner.method.isolates() else positions[-1:]
        clock.start()
        measurer.forget(asked)
        answers = [self._answers(task, "validation") for task in tasks]
        right = [found.classes == task.validation.labels for found, task in zip(answers, tasks, strict=True)]
        live = evaluated("live", stage, [found[: STILL_LOOKS.pictures] for found in right])
        answered = self.telling.answered(stage, {position: answers[position - 1] for position in asked})
        validation = evaluated("validation", stage, right)
        clock.evaluated()
        yield live
        yield from answered
        yield validation
        clock.start()
        stood = [measurer.known(position, "test") for position in positions]
        if stage == len(self.learner.all_tasks):
            measurer.forget(positions)
        answers = [self._answers(task, "test") for task in tasks]
        right = [found.classes == task.test.labels for found, task in zip(answers, tasks, strict=True)]
        test, predicted = evaluated("test", stage, right), self.telling.predicted(stage, answers)
        clock.evaluated()
        yield test
        yield from predicted
        return [
            self.telling.did_not_stand(stage, task, int((before.classes != now.classes).sum()))
            for task, before, now in zip(tasks, stood, answers, strict=True)
            if before is not None and not torch.equal(before.classes, now.classes)
        ]

    def _answers(self, task: LoadedTask, split: Split) -> Answers:
        """What all pictures of a split are taken for; memory is looked at on this occasion."""
        found = self.measurer.answers(task, split)
        self.progress.memory.sample()
        return found
