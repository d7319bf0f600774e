"""What a run says while it trains: its events, made from where it stands."""

import math
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from labcore.configs.looking import SHOWN_JOBS, SHOWN_PICTURES
from labcore.methods.base import Mask, Phase
from labcore.networks.batches import LoadedTask
from labcore.networks.proportion import LARGEST, OutOfProportion, require_proportion
from labcore.runs import packed_answers
from labcore.runs.events import (
    Answered,
    Evaluated,
    Event,
    MapSaved,
    PhaseStarted,
    PicturesChosen,
    Predicted,
    RunStarted,
    StageEnded,
    StageStarted,
    StepLogged,
    TaskFacts,
    Warned,
)
from labcore.training.hardware import cores, device_name
from labcore.training.learner import Learner
from labcore.training.measuring import Answers
from labcore.training.phase_plan import PhasePlan
from labcore.training.spending import Progress
from labcore.version import ENGINE_VERSION

# Between two ends of stages the meter is read at most this often, in seconds: a reading takes some milliseconds.
METER_SECONDS = 1.0


class Telling:
    """Makes the events of a run, and remembers what a later event or a checkpoint needs of them.

    `pending` are the loss terms of the steps since the last `StepLogged`; `told` are the events of the stage so far.
    """

    def __init__(self, learner: Learner, progress: Progress) -> None:
        self.learner, self.progress = learner, progress
        self.pending: list[dict[str, float]] = []
        self.told: list[Event] = []

    # ---- the run ----------------------------------------------------------------------------------------------------

    def run_started(self, threads: int, *, resumed: bool) -> RunStarted:
        """An attempt begins, from the first step or from where a checkpoint stands."""
        learner, progress = self.learner, self.progress
        meter = progress.energy.meter
        return RunStarted(
            config=learner.config,
            device=str(learner.device),
            device_name=device_name(learner.device),
            threads=threads,
            cores=cores() if learner.device.type == "cpu" else None,
            tasks=tuple(_facts(task) for task in learner.all_tasks),
            total_images=sum(learner.stage_images(task.position) for task in learner.all_tasks),
            resumed_from_step=progress.step if resumed else None,
            step=progress.step,
            images_seen=progress.images_seen,
            train_seconds=progress.clock.train,
            evaluation_seconds=progress.clock.evaluation,
            energy_wh=progress.energy.run,
            energy_method=meter.method if meter else None,
            versions={"engine": ENGINE_VERSION, "torch": torch.__version__},
        )

    def warned(self, stage: int, text: str) -> Warned:
        """A sentence for the person who watches."""
        return Warned(stage=stage, text=text, step=self.progress.step)

    def did_not_stand(self, stage: int, task: LoadedTask, changed: int) -> Warned:
        """The method should keep what the network answers to a task, and so many test images are answered otherwise."""
        method = self.learner.config.method.title
        return self.warned(
            stage,
            f"{changed} of the {len(task.test)} test images of {task.info.title} are answered otherwise than when it "
            f"was learnt, although {method} should keep its answers to the bit. The stages between show the earlier "
            "ones. Please report this as an error of the lab.",
        )

    def warnings(self, stage: int) -> Iterator[Warned]:
        """What the method has to say; each sentence is told once."""
        while self.learner.method.warnings:
            yield self.warned(stage, self.learner.method.warnings.pop(0))

    # ---- a stage ----------------------------------------------------------------------------------------------------

    def note(self, event: Event) -> None:
        """Remember what the stage has said. A phase that goes on from a checkpoint opens again, but is noted once."""
        if isinstance(event, StageStarted):
            self.told = []
        if isinstance(event, MapSaved):
            return  # a stage that is kept for other runs keeps no maps: they are the run's own
        if not (isinstance(event, PhaseStarted) and any(_same_phase(event, known) for known in self.told)):
            self.told.append(event)

    def stage_started(self, stage: int) -> StageStarted:
        """A stage begins, and reads so many images."""
        return StageStarted(
            stage=stage,
            task=self.learner.all_tasks[stage - 1].info.name,
            images=self.learner.stage_images(stage),
            images_seen=self.progress.images_seen,
            old_images=self.learner.old_images(stage),
            step=self.progress.step,
        )

    def stage_ended(self, stage: int) -> StageEnded:
        """A stage is over, with what it took."""
        progress = self.progress
        progress.energy.read()
        return StageEnded(
            stage=stage,
            task=self.learner.all_tasks[stage - 1].info.name,
            step=progress.step,
            train_seconds=progress.clock.stage_train,
            evaluation_seconds=progress.clock.stage_evaluation,
            images_seen=progress.stage_images,
            steps=progress.stage_step,
            energy_wh=progress.energy.stage,
        )

    def pictures_chosen(self, stage: int) -> Iterator[PicturesChosen]:
        """The answers to these pictures of the stage's task are told from now on; none of a job beyond SHOWN_JOBS."""
        if stage <= SHOWN_JOBS:
            labels = self.learner.all_tasks[stage - 1].validation.first(SHOWN_PICTURES).labels.tolist()
            yield PicturesChosen(
                stage=stage, pictures=tuple(range(len(labels))), labels=tuple(labels), step=self.progress.step
            )

    def answered(self, stage: int, answers: Mapping[int, Answers]) -> list[Answered]:
        """What the network says of the chosen pictures of these tasks, by position; none of those beyond SHOWN_JOBS."""
        found = []
        for task, said in answers.items():
            if task <= SHOWN_JOBS:
                shares = torch.nan_to_num(said.logits.softmax(1), nan=0.0).tolist()
                probabilities, classes = packed_answers.pack(shares, said.classes[: len(shares)].tolist())
                found.append(
                    Answered(
                        stage=stage,
                        task=task,
                        images_seen=self.progress.images_seen,
                        probabilities=probabilities,
                        classes=classes,
                        step=self.progress.step,
                    )
                )
        return found

    def predicted(self, stage: int, answers: Sequence[Answers]) -> list[Predicted]:
        """What each test picture of all tasks seen is taken for; none of a job beyond SHOWN_JOBS or with too many."""
        found = []
        for task, said in zip(self.learner.tasks[:SHOWN_JOBS], answers, strict=False):
            classes = len(task.info.classes)
            if packed_answers.can_hold(len(said.classes), classes):
                packed = packed_answers.pack_classes(said.classes.tolist(), classes)
                found.append(Predicted(stage=stage, task=task.position, classes=packed, step=self.progress.step))
        return found

    def evaluated(self, kind: Literal["live", "validation", "test"], stage: int, right: Sequence[Tensor]) -> Evaluated:
        """How often the network is right; `right` says of each task seen which pictures it answers rightly."""
        return Evaluated(
            stage=stage,
            kind=kind,
            images_seen=self.progress.images_seen,
            accuracy=tuple(float(answers.double().mean()) for answers in right),
            images=tuple(len(answers) for answers in right),
            step=self.progress.step,
        )

    # ---- phases and steps -------------------------------------------------------------------------------------------

    def phase_started(
        self,
        stage: int,
        phase: Phase,
        plan: PhasePlan,
        learns: Mapping[str, Tensor],
        masks: Mapping[str, Mask],
        cached: int,
    ) -> PhaseStarted:
        """A phase begins, in which so many weights learn while the first `cached` blocks stand still."""
        weights = sum(p.numel() if (mask := masks[name]) is None else int(mask.sum()) for name, p in learns.items())
        return PhaseStarted(
            stage=stage,
            phase=phase.name,
            epochs=phase.epochs,
            steps=plan.steps,
            trained_weights=weights,
            cached_blocks=cached,
            step=self.progress.step,
        )

    def add_terms(self, terms: Mapping[str, Tensor]) -> None:
        """Take note of a step's loss terms, to be told with those of the steps around it."""
        self.pending.append({name: float(term.detach()) for name, term in terms.items()})

    def check_finite(self, phase: Phase) -> None:
        """Raise OutOfProportion where the last step's loss was not finite, naming step and term."""
        for name, value in self.pending[-1].items():
            if not math.isfinite(value):
                raise OutOfProportion(
                    f"At step {self.progress.step} (phase {phase.name}) the loss term '{name}' became {value}."
                )

    def check_stage(self) -> None:
        """Raise OutOfProportion where the losses that the stage ended with, or the network, have left all proportion.

        Losses may be large for a while, where springs are rigid, and come down again.
        """
        for name, value in self._last_loss().items():
            if not abs(value) <= LARGEST:
                raise OutOfProportion(
                    f"At the end of the stage, step {self.progress.step}, the loss term '{name}' is {value:.3g}."
                )
        require_proportion("the network's weights and statistics", self.learner.network.tensors())

    def check_kept(self) -> None:
        """Raise OutOfProportion where what the method keeps from the stage, such as importance, is not all finite."""
        require_proportion("what the method keeps", self.learner.method.state_dict(), largest=sys.float_info.max)

    def what_to_try(self) -> str:
        """What most likely makes numbers leave all proportion, the likeliest first, as a sentence."""
        training, method = self.learner.config.training, self.learner.config.method
        rates = (
            f"a smaller training.learning_rate (it is {training.learning_rate:g}) or "
            f"training.head_learning_rate (it is {training.head_learning_rate:g}), or a longer warm-up"
        )
        strength, loss = getattr(method, "strength", 0.0), self._last_loss()
        if not strength or len(self.learner.tasks) < 2:  # in the first stage there is nothing old to hold
            return f"Try {rates}."
        by_strength = f"a smaller method.strength (it is {strength:g})"
        if loss.get("old tasks", 0.0) < loss.get("new task", 0.0):
            return f"Try {rates}, or {by_strength}."
        return f"Try {by_strength}, or {rates}."

    def _last_loss(self) -> dict[str, float]:
        """The loss terms that the stage told last."""
        return next((event.loss for event in reversed(self.told) if isinstance(event, StepLogged)), {})

    def step_logged(self, stage: int, phase: Phase, epoch: int, rate: float) -> StepLogged:
        """The mean of each loss term over the steps since the last time; `rate` is the trunk's step size now."""
        progress = self.progress
        progress.memory.sample()
        loss = {name: statistics.fmean(t[name] for t in self.pending if name in t) for name in self.pending[-1]}
        self.pending.clear()
        return StepLogged(
            stage=stage,
            phase=phase.name,
            epoch=epoch,
            images_seen=progress.images_seen,
            loss=loss,
            learning_rate=rate,
            train_seconds=progress.clock.train,
            evaluation_seconds=progress.clock.evaluation,
            energy_wh=progress.energy.read(METER_SECONDS),
            step=progress.step,
        )


def _same_phase(event: PhaseStarted, other: Event) -> bool:
    return isinstance(other, PhaseStarted) and other.phase == event.phase


def _facts(task: LoadedTask) -> TaskFacts:
    return TaskFacts(
        name=task.info.name,
        title=task.info.title,
        classes=task.info.classes,
        train_images=len(task.train),
        validation_images=len(task.validation),
        test_images=len(task.test),
    )
