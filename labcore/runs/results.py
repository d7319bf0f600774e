"""What a run showed: events folded into a result, and into the curves that pages draw.

`RunResult` is the contract of `run --json` and `show --json`. `Fold` takes events one by one, so a live page folds only
what is new; its curves stay bounded however long the run.

Sources: average accuracy and backward transfer, Lopez-Paz & Ranzato 2017 (arXiv 1706.08840); forgetting, Chaudhry et
al. 2018 (arXiv 1801.10112).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from labcore.configs.base import Frozen
from labcore.configs.looking import SHOWN_JOBS, SHOWN_PICTURES
from labcore.runs import packed_answers
from labcore.runs.energy import WORLD, Country
from labcore.runs.events import (
    Answered,
    Downloading,
    Evaluated,
    Event,
    FootprintMeasured,
    MapSaved,
    PhaseStarted,
    PicturesChosen,
    Predicted,
    RunEnded,
    RunStarted,
    StageEnded,
    StageStarted,
    StepLogged,
    TaskFacts,
    Unreadable,
    Waiting,
    Warned,
)

State = Literal["queued", "running", "complete", "stopped", "failed"]
Matrix = tuple[tuple[float | None, ...], ...]


class StageResult(Frozen):
    """A stage that has ended, in figures.

    `train_seconds` are of training alone, as measured when the stage was trained. `weights` says whether its arrays are
    still stored. `energy_wh` counts the measuring too, and is null where it was not measured.
    """

    task: str
    train_seconds: float
    evaluation_seconds: float
    reused: bool
    images_seen: int
    steps: int
    weights: bool
    energy_wh: float | None = None


class RunResult(Frozen):
    """A run in figures. Accuracies are fractions of 1; rows are stages, columns tasks by position.

    `average_accuracy` is the mean of the last row of a complete run, and null before. `footprint_bytes` holds by
    purpose what is kept, its `total`, and beside the total `working`, which existed during a stage only.

    `device_share` is which part of the device the run had, where several trained at once: 0.5 is one of two cores.
    `energy_wh` is codecarbon's estimate for all that was done for the run, work that was lost included, and null where
    it was not measured. `carbon_g` is what so much electricity of `carbon_country` costs the climate: an ISO code, or
    null for the world's average, as it was set when the result was read.
    """

    run: str
    state: State
    cached: bool
    config: dict[str, Any]
    device: str | None
    device_share: float = 1.0
    tasks: tuple[str, ...]
    error: str | None
    accuracy_matrix: Matrix
    validation_matrix: Matrix
    average_accuracy: float | None
    validation_average_accuracy: float | None
    backward_transfer: float | None
    forgetting: tuple[float | None, ...]
    stages: tuple[StageResult, ...]
    footprint_bytes: dict[str, int]
    needs_old_data: bool
    test_ms_per_image: float | None
    peak_memory_bytes: int | None
    energy_wh: float | None = None
    carbon_g: float | None = None
    carbon_country: str | None = None

    @property
    def mean_forgetting(self) -> float | None:
        """The mean of `forgetting` over the earlier tasks; None for a single task, and until all tasks are learnt."""
        lost = [value for value in self.forgetting if value is not None]
        return sum(lost) / len(lost) if lost else None

    @property
    def train_seconds(self) -> float:
        """How many seconds all stages were trained for, as measured when they were trained."""
        return sum(stage.train_seconds for stage in self.stages)


def average_accuracy(matrix: Matrix, tasks: int) -> float | None:
    """The mean of the last row: ACC of Lopez-Paz & Ranzato 2017, eq. 2. None until all `tasks` are learnt."""
    if len(matrix) < tasks or not matrix:
        return None
    last = [value for value in matrix[-1] if value is not None]
    return sum(last) / len(last) if len(last) == tasks else None


def backward_transfer(matrix: Matrix, tasks: int) -> float | None:
    """The mean of R[K, k] − R[k, k] over the first K − 1 tasks: BWT of Lopez-Paz & Ranzato 2017, eq. 3.

    It is None for a single task, and until all `tasks` are learnt.
    """
    if tasks < 2 or len(matrix) < tasks:
        return None
    changes = [difference(matrix[-1][k], matrix[k][k]) for k in range(tasks - 1)]
    known = [change for change in changes if change is not None]
    return sum(known) / len(known) if len(known) == tasks - 1 else None


def forgetting(matrix: Matrix, tasks: int) -> tuple[float | None, ...]:
    """For each task the best of the earlier rows less the last row: Chaudhry et al. 2018, eq. 3.

    The last task has no earlier row, so its value is None, and so are all values until all `tasks` are learnt.
    """
    if len(matrix) < tasks:
        return (None,) * tasks
    lost: list[float | None] = []
    for k in range(tasks):
        earlier = [row[k] for row in matrix[:-1]]
        best = max((value for value in earlier if value is not None), default=None)
        lost.append(difference(best, matrix[-1][k]))
    return tuple(lost)


def difference(a: float | None, b: float | None) -> float | None:
    """The difference `a` − `b`; None where one of them is not known."""
    return None if a is None or b is None else a - b


def _sum(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b


# ---------------------------------------------------------------------------------------------------------------------
# Folding
# ---------------------------------------------------------------------------------------------------------------------

Point = TypeVar("Point", "AccuracyPoint", "LossPoint", MapSaved, Answered)

# Beyond this many points a curve drops every second one, so that what a page sends each second does not grow with the
# length of the run.
MOST_POINTS = 1000
MOST_WARNINGS = 100  # of different words; there is a page for them, and a person to read it


@dataclass(frozen=True, slots=True)
class AccuracyPoint:
    """The accuracy of all tasks up to this stage's on validation images, after `images_seen` images of the run."""

    stage: int
    step: int
    images_seen: int
    accuracy: tuple[float, ...]
    images: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LossPoint:
    """The loss terms, as means since the point before, after `images_seen` training images of the run."""

    stage: int
    step: int
    images_seen: int
    phase: str
    loss: dict[str, float]


@dataclass(slots=True)
class Stage:
    """A stage as far as it is known: at which step and image of the run it began, and what was measured at its end.

    `phases` says of each how many images the run had been trained on when it began.

    `pictures` are those of the job that it learns to which `answers` were told ever since, the oldest first; `learnt`
    are the last ones of the stage itself. `predicted` says by job, counted from 1, what each test picture is taken for
    at the end of the stage. What is packed in them, `answers.py` takes out.
    """

    task: str
    step: int
    first_image: int
    images: int
    old_images: int
    phases: dict[str, int] = field(default_factory=dict)
    test: Evaluated | None = None
    validation: Evaluated | None = None
    footprint: FootprintMeasured | None = None
    ended: StageEnded | None = None
    pictures: PicturesChosen | None = None
    answers: list[Answered] = field(default_factory=list)
    learnt: Answered | None = None
    predicted: dict[int, Predicted] = field(default_factory=dict)

    def reopen(self) -> None:
        """Take back what was said at its end."""
        self.ended = self.test = self.validation = self.footprint = self.learnt = None
        self.predicted = {}

    def forget_answers(self) -> None:
        """Take back all that was said of single pictures."""
        self.pictures = self.learnt = None
        self.answers, self.predicted = [], {}


@dataclass
class Fold:
    """What the events of a run add up to, taken one by one. Two that took the same events are equal.

    A fold follows the events alone. Whether a run is queued, or has lost its worker, only the store knows.
    """

    downloading: Downloading | None = None  # Only until the run begins.
    waiting: Waiting | None = None  # Only while the run waits for a stage.
    started: RunStarted | None = None
    first_started_at: float | None = None
    ended: RunEnded | None = None
    stages: list[Stage] = field(default_factory=list)
    accuracy: list[AccuracyPoint] = field(default_factory=list)
    losses: list[LossPoint] = field(default_factory=list)
    warnings: list[Warned] = field(default_factory=list)
    maps: list[MapSaved] = field(default_factory=list)
    images_seen: int = 0
    step: int = 0
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    # What this attempt tells that the run has spent, and beside it what earlier ones spent on work that was lost.
    energy_told: float | None = None
    energy_lost: float | None = 0.0
    events: int = 0
    damaged: int = 0  # events that cannot be read, or do not fit those before them
    last_time: float = 0.0
    attempts: int = 0
    # The images seen, the seconds of training, and the time of day from which this attempt's speed is measured, as
    # what came before it, and what it reused, is not its own work.
    attempt_start: tuple[int, float, float] = (0, 0.0, 0.0)

    @property
    def tasks(self) -> Sequence[TaskFacts]:
        """The task sequence, once the run has begun."""
        return self.started.tasks if self.started else ()

    @property
    def answers_missing(self) -> tuple[int, ...]:
        """The jobs, counted from 1, that were learnt without telling of single pictures, by a version of before."""
        shown = enumerate(self.stages[:SHOWN_JOBS], 1)
        return tuple(number for number, stage in shown if stage.phases and stage.pictures is None)

    @property
    def images_per_second(self) -> float | None:
        """How fast this attempt trains, evaluation apart; None before it has trained anything."""
        images, seconds = self.images_seen - self.attempt_start[0], self.train_seconds - self.attempt_start[1]
        return images / seconds if images > 0 and seconds > 0 else None

    @property
    def reused_seconds(self) -> float:
        """How many seconds those stages were trained for that other runs had trained already, as measured then."""
        return sum(stage.ended.train_seconds for stage in self.stages if stage.ended and stage.ended.reused)

    @property
    def reused_energy_wh(self) -> float | None:
        """What the reused stages had cost, which this run did not spend again. None where a part was not measured."""
        spent = [stage.ended.energy_wh for stage in self.stages if stage.ended and stage.ended.reused]
        known = [wh for wh in spent if wh is not None]
        return sum(known) if len(known) == len(spent) else None

    @property
    def energy_wh(self) -> float | None:
        """What all attempts together have spent so far; None where a part was not measured."""
        return _sum(self.energy_told, self.energy_lost)

    def add(self, event: Event) -> None:
        """Take the next event. An attempt that goes on from a step takes back what was said past that step."""
        self.events += 1
        try:
            self._take(event)
        except (IndexError, AttributeError):  # it speaks of a stage that was never begun
            self.damaged += 1

    def _take(self, event: Event) -> None:
        if isinstance(event, Unreadable):
            self.damaged += 1
            return
        self.last_time = event.time
        self.step = event.step
        self._wait(event)
        match event:
            case Downloading():
                self.downloading, self.ended = (None if event.done == event.total else event), None
            case RunStarted():
                self._open(event)
            case StageStarted():
                self._must_have_begun(event.stage - 1)
                del self.stages[event.stage - 1 :]
                self.stages.append(Stage(event.task, event.step, event.images_seen, event.images, event.old_images))
                self.images_seen = event.images_seen
            case PhaseStarted():
                stage = self.stages[event.stage - 1]
                stage.phases.setdefault(event.phase, self.images_seen)
            case StepLogged():
                self._must_have_begun(event.stage)
                self.images_seen = event.images_seen
                self.train_seconds, self.evaluation_seconds = event.train_seconds, event.evaluation_seconds
                self.energy_told = event.energy_wh
                _append(self.losses, LossPoint(event.stage, event.step, event.images_seen, event.phase, event.loss))
            case Evaluated(kind="live"):
                self._must_have_begun(event.stage)
                _append(
                    self.accuracy,
                    AccuracyPoint(event.stage, event.step, event.images_seen, event.accuracy, event.images),
                )
            case Evaluated(kind="test"):
                self.stages[event.stage - 1].test = event
            case Evaluated(kind="validation"):
                self.stages[event.stage - 1].validation = event
            case PicturesChosen() | Answered() | Predicted() if self.started:  # which says what jobs there are
                self._take_answers(event)
            case Warned():
                if len(self.warnings) < MOST_WARNINGS and event.text not in {known.text for known in self.warnings}:
                    self.warnings.append(event)
            case MapSaved():
                self._must_have_begun(event.stage)
                while self.maps and (self.maps[-1].stage, self.maps[-1].step) >= (event.stage, event.step):
                    self.maps.pop()  # A resumed attempt says again what lay past its checkpoint.
                self.maps.append(event)
            case FootprintMeasured():
                self.stages[event.stage - 1].footprint = event
            case StageEnded():
                stage = self.stages[event.stage - 1]
                stage.ended, stage.learnt = event, stage.answers[-1] if stage.answers else None
                if event.reused:
                    self.train_seconds = sum(stage.ended.train_seconds for stage in self.stages if stage.ended)
                    self.attempt_start = (self.images_seen, self.train_seconds, event.time)
            case RunEnded():
                self.downloading, self.ended = None, event
                if event.energy_wh is not None:
                    self.energy_told = event.energy_wh

    def _must_have_begun(self, stages: int) -> None:
        """Raise IndexError where fewer stages have begun, as where the line is damaged that began one.

        Who draws what was said of a stage looks the stage up.
        """
        if len(self.stages) < stages:
            raise IndexError

    def fits(self, event: PicturesChosen | Answered | Predicted) -> bool:
        """Whether the jobs have the pictures and the classes that an event names.

        Raises IndexError where there is no such job, or it was not begun.
        """
        match event:
            case PicturesChosen():
                return packed_answers.chosen_fit(event, self.tasks[event.stage - 1])
            case Answered():
                chosen = self.stages[event.task - 1].pictures
                most = len(chosen.pictures) if chosen else SHOWN_PICTURES
                return packed_answers.answered_fit(event, self.tasks[event.task - 1], most)
            case Predicted():
                return packed_answers.predicted_fit(event, self.tasks[event.task - 1])

    def _take_answers(self, event: PicturesChosen | Answered | Predicted) -> None:
        stage = self.stages[event.stage - 1]
        if not self.fits(event):
            self.damaged += 1
            return
        match event:
            case PicturesChosen():
                stage.pictures, stage.answers, stage.learnt = event, [], None
            case Answered():
                job = self.stages[event.task - 1]
                if job.pictures:  # else a version before this one learnt the job, and nobody knows of which pictures
                    _append(job.answers, event)
            case Predicted():
                stage.predicted[event.task] = event

    def _wait(self, event: Event) -> None:
        """Notice where the run waits for a stage; how long it waited says nothing of its speed."""
        if self.waiting is not None:
            images, seconds, begun = self.attempt_start
            self.attempt_start = (images, seconds, begun + event.time - self.waiting.time)
        self.waiting = event if isinstance(event, Waiting) else None

    def _open(self, event: RunStarted) -> None:
        """Begin an attempt, and take back what earlier ones said past the step that it goes on from."""
        if self.attempts:
            lost = None if event.energy_wh is None else difference(self.energy_told, event.energy_wh)
            self.energy_lost = _sum(self.energy_lost, None if lost is None else max(0.0, lost))
        self.energy_told = event.energy_wh
        self.attempts += 1
        self.first_started_at = self.first_started_at or event.time
        jobs_before = [_room_for_answers(job) for job in self.tasks]
        self.downloading, self.started, self.ended = None, event, None
        if event.resumed_from_step is None:
            self.stages, self.accuracy, self.losses, self.warnings, self.maps = [], [], [], [], []
        else:
            self.warnings = [warning for warning in self.warnings if warning.step <= event.resumed_from_step]
            _drop_after(self.accuracy, event.resumed_from_step)
            _drop_after(self.losses, event.resumed_from_step)
            _drop_after(self.maps, event.resumed_from_step)
            self.stages = [stage for stage in self.stages if stage.step <= event.resumed_from_step]
            if self.stages and self.stages[-1].ended and self.stages[-1].ended.step > event.resumed_from_step:
                self.stages[-1].reopen()
            others = jobs_before != [_room_for_answers(job) for job in self.tasks]
            for stage in self.stages:
                _drop_after(stage.answers, event.resumed_from_step)
                if others:
                    stage.forget_answers()
        self.images_seen = event.images_seen
        self.train_seconds, self.evaluation_seconds = event.train_seconds, event.evaluation_seconds
        self.attempt_start = (self.images_seen, self.train_seconds, event.time)

    def matrix(self, kind: Literal["test", "validation"]) -> Matrix:
        """The accuracies after each stage: a row a stage, a column a task, None for a task that is not learnt yet."""
        rows = []
        for stage in self.stages:
            measured = stage.test if kind == "test" else stage.validation
            if measured is not None:
                padding = (None,) * (len(self.tasks) - len(measured.accuracy))
                rows.append((*measured.accuracy, *padding))
        return tuple(rows)

    def result(
        self,
        run: str,
        state: State,
        config: dict[str, Any],
        *,
        error: str | None = None,
        cached: bool = False,
        weights: Sequence[int] = (),
        country: Country = WORLD,
    ) -> RunResult:
        """The figures so far.

        Args:
            run: The ID of the run.
            state: How the run stands, as the store knows it.
            config: The run's configuration, as plain data.
            error: What the store says went wrong; without it, what the events say.
            cached: Whether the run was complete before it was asked for.
            weights: The stages, counted from 1, whose arrays are still stored.
            country: Whose electricity carbon is counted by.
        """
        test, validation, tasks = self.matrix("test"), self.matrix("validation"), len(config["tasks"])
        if self.started is None:  # where its first event is damaged, nothing says what the rows are of
            test = validation = ()
        footprint = next((stage.footprint for stage in reversed(self.stages) if stage.footprint), None)
        kept = dict(footprint.kept) if footprint else {}
        return RunResult(
            run=run,
            state=state,
            cached=cached,
            config=config,
            device=self.started.device if self.started else None,
            device_share=min(1.0, self.started.threads / self.started.cores)
            if self.started and self.started.cores
            else 1.0,
            tasks=tuple(task["name"] for task in config["tasks"]),
            error=error or (self.ended.error if self.ended else None),
            accuracy_matrix=test,
            validation_matrix=validation,
            average_accuracy=average_accuracy(test, tasks),
            validation_average_accuracy=average_accuracy(validation, tasks),
            backward_transfer=backward_transfer(test, tasks),
            forgetting=forgetting(test, tasks),
            stages=self._stage_results(weights),
            footprint_bytes={
                **kept,
                "total": sum(kept.values()),
                "working": sum(footprint.working.values()) if footprint else 0,
            },
            needs_old_data=any(stage.old_images > 0 for stage in self.stages[1:]),
            test_ms_per_image=self.ended.test_ms_per_image if self.ended else None,
            peak_memory_bytes=self.ended.peak_memory_bytes if self.ended else None,
            energy_wh=self.energy_wh,
            carbon_g=country.grams(self.energy_wh),
            carbon_country=country.code,
        )

    def _stage_results(self, weights: Sequence[int]) -> tuple[StageResult, ...]:
        """The stages that have ended. `weights` are those, counted from 1, whose arrays are still stored."""
        return tuple(
            StageResult(
                task=stage.task,
                train_seconds=stage.ended.train_seconds,
                evaluation_seconds=stage.ended.evaluation_seconds,
                reused=stage.ended.reused,
                images_seen=stage.ended.images_seen,
                steps=stage.ended.steps,
                weights=number in weights,
                energy_wh=stage.ended.energy_wh,
            )
            for number, stage in enumerate(self.stages, 1)
            if stage.ended
        )


def _room_for_answers(job: TaskFacts) -> tuple[int, int, int]:
    """What answers to a job must fit."""
    return len(job.classes), job.validation_images, job.test_images


def _append(points: list[Point], point: Point) -> None:
    """Add a point, in place of those that it repeats: a resumed attempt says again what lay past its checkpoint."""
    while points and (points[-1].stage, points[-1].step) >= (point.stage, point.step):
        points.pop()
    points.append(point)
    if len(points) > MOST_POINTS:
        del points[1:-1:2]


def _drop_after(points: list[Point], step: int) -> None:
    while points and points[-1].step > step:
        points.pop()


def fold(events: Iterable[Event]) -> Fold:
    """Fold all events of a run, given in their order."""
    folded = Fold()
    for event in events:
        folded.add(event)
    return folded
