"""What a run says: one small record for each thing that happens, one JSON line each.

A run's story is the sequence of its events, whether live, replayed, imported or computed on another machine. Numbers
are in events; arrays lie in files beside them. `step` counts optimizer steps from the start of the run (cached-feature
steps too), `images_seen` the training images of those steps; `stage` and task positions count from 1.

When a run goes on after its worker died, a new attempt opens with `RunStarted.resumed_from_step`: whatever the earlier
attempt said past that step did not happen.
"""

import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, TypeAdapter, ValidationError

from labcore.configs.base import Frozen, Name
from labcore.configs.looking import SHOWN_JOBS, SHOWN_PICTURES
from labcore.configs.reading import parse_stored
from labcore.configs.run import MOST_TASKS, RunConfig

# An event may be a stranger's word, so each number has the bounds within which all that is done with it works.
Count = Annotated[int, Field(ge=0, le=2**53)]
Place = Annotated[int, Field(ge=1, le=MOST_TASKS)]  # of a stage
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=-1, le=1e12)]  # of seconds, of watt-hours: never below 0 but by rounding
Device = Annotated[str, Field(pattern=r"^[a-z]{1,20}(:[0-9]{1,4})?$")]  # `cpu`, `cuda:0`; it is part of files' names
Moment = Annotated[float, Field(ge=0, le=1e11)]  # in Unix seconds
ShownJob = Annotated[int, Field(ge=1, le=SHOWN_JOBS)]  # by its place in the sequence
# What packed_answers.py packs: a line of events has room for it beside all else that it says.
LONGEST_PACKED = 64_000
Packed = Annotated[str, Field(max_length=LONGEST_PACKED)]


def _stored(config: Any) -> Any:
    """Read a configuration as that of a run that exists, of which not all may be installed here (any more)."""
    return parse_stored(config) if isinstance(config, Mapping) else config


class EventBase(Frozen):
    """What every event says.

    `run`, `attempt` and `seq` (the place in the run's story, counted from 0) are stamped by the claim that writes the
    event; `time` is in Unix seconds. A `reused` event happened when another run trained this stage and is told again:
    its seconds are those that were measured then.
    """

    run: str = ""
    attempt: Count = 0
    seq: Count = 0
    time: Moment = Field(default_factory=time.time)
    step: Count = 0
    reused: bool = False


class Downloading(EventBase):
    """A file that the run needs is on its way; there is at most one such event a second.

    `done` bytes are here, of `total`, which is None where it is not known.
    """

    event: Literal["downloading"] = "downloading"
    file: Name
    done: Count
    total: Count | None = None

    @property
    def text(self) -> str:
        """In words: `downloading resnet18-f37072fd.pth, 40 %`."""
        much = f"{self.done / 1e6:.0f} MB" if not self.total else f"{100 * self.done / self.total:.0f} %"
        return f"downloading {self.file}, {much}"


class TaskFacts(Frozen):
    """What the charts need to know of a task."""

    name: str
    title: Name
    classes: tuple[Name, ...] = Field(min_length=1)
    train_images: Count
    validation_images: Count
    test_images: Count

    @property
    def chance(self) -> float:
        """The accuracy of guessing among the classes, a fraction of 1."""
        return 1 / len(self.classes)


class RunStarted(EventBase):
    """An attempt begins, at the beginning or at the step that it resumes from, with what the run had spent by then.

    The run has `threads` of the device's `cores`; on a graphics card, `cores` is None: the run has all of it.
    `total_images` is how many images all stages together will train on, counted with repetition. `energy_method` says
    in words how energy is measured, and is None where it is not.
    """

    event: Literal["run_started"] = "run_started"
    config: Annotated[SerializeAsAny[RunConfig], BeforeValidator(_stored)]
    device: Device
    device_name: Name
    threads: Annotated[int, Field(ge=1, le=2**20)]
    cores: Count | None = None
    tasks: tuple[TaskFacts, ...]
    total_images: Count
    resumed_from_step: Count | None = None
    images_seen: Count = 0
    train_seconds: Amount = 0.0
    evaluation_seconds: Amount = 0.0
    energy_wh: Amount | None = None
    energy_method: Name | None = None
    versions: dict[str, str] = {}


class Waiting(EventBase):
    """Another run trains this stage just now; this run waits, in order to take it over instead of training it, too."""

    event: Literal["waiting"] = "waiting"
    stage: Place

    @property
    def text(self) -> str:
        """In words: `waiting for stage 2, which another run is learning`."""
        return f"waiting for stage {self.stage}, which another run is learning"


class StageStarted(EventBase):
    """A task begins to be learnt.

    `images` is how many images its phases will train on, counted with repetition; `old_images` is how many different
    images of earlier tasks the stage reads.
    """

    event: Literal["stage_started"] = "stage_started"
    stage: Place
    task: str
    images: Count
    images_seen: Count
    old_images: Count = 0


class PhaseStarted(EventBase):
    """A part of a stage begins. Most methods have `train` alone; others also prune, retrain, or warm up a head."""

    event: Literal["phase_started"] = "phase_started"
    stage: Place
    phase: Name
    epochs: Count
    steps: Count
    trained_weights: Count
    cached_blocks: Count


class StepLogged(EventBase):
    """The loss terms, as means since the last such event; a penalty whose gradient is known is that of the last step.

    Seconds are those of the run so far, training and evaluation apart. `energy_wh` counts all that the run did, up to
    at most a second ago, and is None where it is not measured.
    """

    event: Literal["step_logged"] = "step_logged"
    stage: Place
    phase: Name
    epoch: Count
    images_seen: Count
    loss: dict[Name, float]
    learning_rate: float
    train_seconds: Amount
    evaluation_seconds: Amount
    energy_wh: Amount | None = None


class Evaluated(EventBase):
    """The accuracy (fractions of 1) of the tasks from the first to this stage's, each measured on `images` pictures.

    At the end of a stage it is measured on all validation images and on all test images. A `live` one is measured on a
    fixed number of validation images, at set points of the stage.
    """

    event: Literal["evaluated"] = "evaluated"
    stage: Place
    kind: Literal["live", "validation", "test"]
    images_seen: Count
    accuracy: tuple[Share, ...]
    images: tuple[Annotated[Count, Field(ge=1)], ...]


class PicturesChosen(EventBase):
    """The answers to these pictures, of the job that this stage learns, are told at the live looks of the run.

    `pictures` are places among the job's validation pictures, rising from 0, and `labels` the classes that they show.
    They are the first ones that every live look looks at, so it costs nothing to ask.
    """

    event: Literal["pictures_chosen"] = "pictures_chosen"
    stage: Place
    pictures: tuple[Count, ...] = Field(min_length=1, max_length=SHOWN_PICTURES)
    labels: tuple[Count, ...]


class Answered(EventBase):
    """What the network says, at a live look, of the pictures that were chosen of a job, packed by packed_answers.py.

    A look that is at fewer pictures tells of the first ones alone. Where answers stand, as those of earlier jobs do
    where the method keeps them, they are not told again.
    """

    event: Literal["answered"] = "answered"
    stage: Place
    task: ShownJob
    images_seen: Count
    probabilities: Packed
    classes: Packed = ""


class Predicted(EventBase):
    """The class that each test picture of a job is taken for at the end of a stage, packed by packed_answers.py."""

    event: Literal["predicted"] = "predicted"
    stage: Place
    task: ShownJob
    classes: Packed


class Warned(EventBase):
    """Training goes on, but not as one would wish. The text says what was seen and what to try."""

    event: Literal["warned"] = "warned"
    stage: Place
    text: str


class MapSaved(EventBase):
    """An array to draw was saved beside the events, at `path` in the run's folder."""

    event: Literal["map_saved"] = "map_saved"
    stage: Place
    kind: Literal["live", "stage"]
    path: str


class FootprintMeasured(EventBase):
    """How many bytes the run keeps, by purpose.

    `kept` is what is needed to answer all tasks and to learn another one; `working` exists during a stage only.
    """

    event: Literal["footprint_measured"] = "footprint_measured"
    stage: Place
    kept: dict[Name, Count]
    working: dict[Name, Count]


class StageEnded(EventBase):
    """A task is learnt. Seconds, steps, images and watt-hours are those of this stage alone.

    The watt-hours include those of measuring.
    """

    event: Literal["stage_ended"] = "stage_ended"
    stage: Place
    task: str
    train_seconds: Amount
    evaluation_seconds: Amount
    images_seen: Count
    steps: Count
    energy_wh: Amount | None = None


class RunEnded(EventBase):
    """An attempt ends.

    `error` says why it failed and what to try. `diverged` says that the loss was no longer a number, as it would be
    again with the same settings. A complete run tells `test_ms_per_image` and `peak_memory_bytes`; `energy_wh` is what
    the run has spent up to here, however it ended.
    """

    event: Literal["run_ended"] = "run_ended"
    state: Literal["complete", "stopped", "failed"]
    error: str | None = None
    diverged: bool = False
    test_ms_per_image: Amount | None = None
    peak_memory_bytes: Count | None = None
    energy_wh: Amount | None = None


class Unreadable(EventBase):
    """A line that holds no event, at so many bytes from the beginning. Whoever reads makes it; it is never written."""

    event: Literal["unreadable"] = "unreadable"
    offset: int


Written = (
    Downloading
    | RunStarted
    | Waiting
    | StageStarted
    | PhaseStarted
    | StepLogged
    | Evaluated
    | PicturesChosen
    | Answered
    | Predicted
    | Warned
    | MapSaved
    | FootprintMeasured
    | StageEnded
    | RunEnded
)
Event = Written | Unreadable
_ADAPTER: TypeAdapter[Written] = TypeAdapter(Annotated[Written, Field(discriminator="event")])


def to_line(event: Event) -> bytes:
    """The event as one line of JSON, with its newline."""
    return event.model_dump_json().encode() + b"\n"


class OtherVersion(ValueError):
    """The line is whole, and an event that only another version of the lab knows."""


def from_line(line: bytes | str) -> Written:
    """The event that a line holds. Raises ValueError where the line is no event of this lab, perhaps OtherVersion."""
    try:
        return _ADAPTER.validate_json(line)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        of_another = found["type"] == "union_tag_invalid"
        raise (OtherVersion if of_another else ValueError)(f"Not an event: {found['msg']}") from None
