"""What a run says: one small record a happening, one JSON line each.

A run's story is the sequence of its events, whether live, replayed, imported or computed on another machine. Numbers
are in events; arrays lie in files beside them. `step` counts optimizer steps from the start of the run (cached-feature
steps too), `images_seen` the training images of those steps; `stage` and task positions count from 1.

When a run goes on after its worker died, a new attempt opens with `RunStarted.resumed_from_step`: whatever the earlier
attempt said past that step did not happen.
"""

import time
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from labcore.configs.run import Frozen, RunConfig


class EventBase(Frozen):
    """Every event: run, attempt and place in the run (`seq` from 0), stamped by the store, and Unix seconds.

    `reused`: it happened when another run trained this stage, and is told again; seconds are those measured then.
    """

    run: str = ""
    attempt: int = 0
    seq: int = 0
    time: float = Field(default_factory=time.time)
    step: int = 0
    reused: bool = False


class Downloading(EventBase):
    """A file that the run needs is on its way: bytes so far and in all (None: not known). At most one a second."""

    event: Literal["downloading"] = "downloading"
    file: str
    done: int
    total: int | None = None

    @property
    def text(self) -> str:
        """`downloading resnet18-f37072fd.pth, 40 %`."""
        much = f"{self.done / 1e6:.0f} MB" if not self.total else f"{100 * self.done / self.total:.0f} %"
        return f"downloading {self.file}, {much}"


class TaskFacts(Frozen):
    """What the charts need to know of a task: `chance` is the accuracy of guessing, a fraction of 1."""

    name: str
    title: str
    classes: tuple[str, ...]
    train_images: int
    validation_images: int
    test_images: int

    @property
    def chance(self) -> float:
        """Accuracy of guessing among the classes."""
        return 1 / len(self.classes)


class RunStarted(EventBase):
    """Opens an attempt, at 0 or at the step it resumes from, with what the run had spent by then.

    `total_images` is what all stages together will train on, counted with repetition. `energy_method` says in words how
    energy is measured, None where it is not.
    """

    event: Literal["run_started"] = "run_started"
    config: RunConfig
    device: str
    device_name: str
    threads: int
    tasks: tuple[TaskFacts, ...]
    total_images: int
    resumed_from_step: int | None = None
    images_seen: int = 0
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    energy_wh: float | None = None
    energy_method: str | None = None
    versions: dict[str, str] = {}


class StageStarted(EventBase):
    """A task begins to be learnt; `images` is what its phases will train on, counted with repetition.

    `old_images` is how many different images of earlier tasks the stage reads.
    """

    event: Literal["stage_started"] = "stage_started"
    stage: int
    task: str
    images: int
    images_seen: int
    old_images: int = 0


class PhaseStarted(EventBase):
    """A part of a stage: `train` in most methods; others prune, retrain, or warm up a head."""

    event: Literal["phase_started"] = "phase_started"
    stage: int
    phase: str
    epochs: int
    steps: int
    trained_weights: int
    cached_blocks: int


class StepLogged(EventBase):
    """Mean loss terms since the last such event; seconds are the run's so far, training and evaluation apart.

    `energy_wh` too is the run's so far, all that it did counted, as of at most a second ago; None: not measured.
    """

    event: Literal["step_logged"] = "step_logged"
    stage: int
    phase: str
    epoch: int
    images_seen: int
    loss: dict[str, float]
    learning_rate: float
    train_seconds: float
    evaluation_seconds: float
    energy_wh: float | None = None


class Evaluated(EventBase):
    """Accuracy (fractions of 1) of tasks 1…stage on `images` pictures of each; full ones come at a stage's end.

    `live` ones are measured on a fixed number of validation images at set points of the stage.
    """

    event: Literal["evaluated"] = "evaluated"
    stage: int
    kind: Literal["live", "validation", "test"]
    images_seen: int
    accuracy: tuple[float, ...]
    images: tuple[int, ...]


class Warned(EventBase):
    """Training goes on, but not as one would wish: a sentence that says what was seen and what to try."""

    event: Literal["warned"] = "warned"
    stage: int
    text: str


class MapSaved(EventBase):
    """An array to draw was saved beside the events, at `path` in the run's folder."""

    event: Literal["map_saved"] = "map_saved"
    stage: int
    kind: str
    path: str


class FootprintMeasured(EventBase):
    """Bytes by purpose: `kept` answers all tasks and learns another, `working` exists during a stage only."""

    event: Literal["footprint_measured"] = "footprint_measured"
    stage: int
    kept: dict[str, int]
    working: dict[str, int]


class StageEnded(EventBase):
    """A task is learnt. Seconds, steps, images and watt-hours (measuring included) are those of this stage alone."""

    event: Literal["stage_ended"] = "stage_ended"
    stage: int
    task: str
    train_seconds: float
    evaluation_seconds: float
    images_seen: int
    steps: int
    energy_wh: float | None = None


class RunEnded(EventBase):
    """Closes an attempt. `error` says why it failed and what to try; the measures are of a complete run.

    `diverged`: the loss was no longer a number, and with the same settings will not be again. `energy_wh` is the run's
    at this point, of an attempt that ended in any way that it could tell.
    """

    event: Literal["run_ended"] = "run_ended"
    state: Literal["complete", "stopped", "failed"]
    error: str | None = None
    diverged: bool = False
    test_ms_per_image: float | None = None
    peak_memory_bytes: int | None = None
    energy_wh: float | None = None


Event = (
    Downloading
    | RunStarted
    | StageStarted
    | PhaseStarted
    | StepLogged
    | Evaluated
    | Warned
    | MapSaved
    | FootprintMeasured
    | StageEnded
    | RunEnded
)
_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def to_line(event: Event) -> bytes:
    """One JSON line, newline included."""
    return event.model_dump_json().encode() + b"\n"


def from_line(line: bytes | str) -> Event:
    """The event of a line. Raises ValueError where the line is not an event of ours."""
    try:
        return _ADAPTER.validate_json(line)
    except ValidationError as error:
        raise ValueError(f"Not an event: {error.errors(include_url=False)[0]['msg']}") from None
