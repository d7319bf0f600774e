"""What a run is: one frozen, validated, hashable configuration.

The one source of the command line's options, the form's widgets, the validation errors and the documentation. Every
field carries its bounds, its unit and a sentence of help; labcore/configs/fields.py lists them. No torch here: pages
read this module.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Union

from pydantic import Field, SerializeAsAny, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from labcore.configs.base import Frozen, Number, Whole, unit
from labcore.configs.catalogue import BACKBONES, BackboneInfo, BackboneName, Start
from labcore.configs.method import BASE, MethodConfig, NotInstalled
from labcore.configs.registry import ABOUT, METHODS, version_of
from labcore.tasks import catalogue
from labcore.tasks.source import TaskError
from labcore.version import ENGINE_VERSION

# A method may write down in a byte for every weight which task it belongs to; 0 is nobody, and 255 is spare.
MOST_TASKS = 254

Norm = Literal["frozen", "affine_per_task", "per_task", "shared"]


class BackboneConfig(Frozen):
    """The network that is reused, and where its weights start."""

    name: BackboneName = Field("efficientnet_lite0", description="The network that every job shares.")
    start: Start = Field(
        "pretrained",
        description="Where the weights start: already trained, two random starts that work, or far off, N(0, 1).",
    )
    image_size: Whole = Field(
        64, ge=16, le=256, description="Side of the square pictures it sees.", json_schema_extra=unit("px")
    )
    norm: Norm = Field(
        "frozen",
        description="Batch normalisation: fixed, a scale and shift for each job, all of it for each job, or shared.",
    )

    @property
    def title(self) -> str:
        """What a page calls the backbone."""
        return BACKBONES[self.name].title

    @property
    def norm_by_task(self) -> bool:
        """Whether each task has its own scale and shift; a network without normalisation ignores the setting."""
        return BACKBONES[self.name].has_norm and self.norm in ("affine_per_task", "per_task")


class BackboneNotInstalled(BackboneConfig):
    """The backbone of a stored run that is not installed here, only to be read. Nothing is known but its name."""

    name: str = Field(pattern="^[a-z0-9_]+$")

    @property
    def title(self) -> str:
        """The backbone's name, and that it is not here."""
        return f"{self.name} (not installed)"

    @property
    def norm_by_task(self) -> bool:
        """Whether each task would have its own scale and shift, if the network has normalisation."""
        return self.norm in ("affine_per_task", "per_task")


class TaskConfig(Frozen):
    """One job in the sequence."""

    name: str = Field(description="A job, or some of its classes as in fashion:0-4 or fashion:0-2+5.")
    images_per_class: Whole | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Limit on training images; empty takes all.",
        json_schema_extra=unit("images"),
    )

    @property
    def is_installed(self) -> bool:
        """Whether its pictures are known here. Only a stored run may have a task whose are not."""
        return catalogue.is_installed(self.name)

    @property
    def title(self) -> str:
        """What a page calls the task; its name, and that it is not here, where it is not installed."""
        return catalogue.describe(self.name).title if self.is_installed else f"{self.name} (not installed)"

    @property
    def fingerprint(self) -> str:
        """What changes when its pictures would; the same for all pictures of a task that is not installed."""
        return catalogue.fingerprint(self.name) if self.is_installed else "not installed"


class TrainingConfig(Frozen):
    """How each stage is trained."""

    optimizer: Literal["sgd", "adam", "adamw"] = Field("adam", description="The rule that turns gradients into steps.")
    learning_rate: Number = Field(
        5e-4, gt=0, le=10, description="Step size of the trunk.", json_schema_extra={"log": True}
    )
    head_learning_rate: Number = Field(
        3e-3, gt=0, le=10, description="Step size of the new head.", json_schema_extra={"log": True}
    )
    momentum: Number = Field(0.9, ge=0, lt=1, description="SGD's memory of earlier steps; Adam has its own.")
    weight_decay: Number = Field(0.0, ge=0, le=1, description="Pull of every trained weight towards zero.")
    schedule: Literal["constant", "cosine"] = Field("cosine", description="How the step size changes in a phase.")
    warmup_fraction: Number = Field(
        0.1, ge=0, lt=1, description="Share of a phase in which the step size grows from 0."
    )
    epochs: Whole = Field(3, ge=1, le=1000, description="Passes over a job's images.", json_schema_extra=unit("passes"))
    batch_size: Whole = Field(32, ge=1, le=4096, description="Images in one step.", json_schema_extra=unit("images"))
    head_warmup_epochs: Whole = Field(
        0,
        ge=0,
        le=1000,
        description="Passes in which the new head learns alone before the trunk moves.",
        json_schema_extra=unit("passes"),
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Numbers in training's forward pass. bfloat16 is shorter: faster on most GPUs, many times slower "
        "on a processor without instructions for it. Launch and the command line measure how much.",
    )


# The name of a run's method decides which settings it has. The members of the union are found, not listed.
if TYPE_CHECKING:
    AnyMethodConfig = MethodConfig
else:
    AnyMethodConfig = Annotated[Union[tuple(METHODS.values())], Field(discriminator="name")]  # noqa: UP007


class RunConfig(Frozen):
    """A backbone, a task sequence, how to train, by which method, and the seed of everything random."""

    backbone: BackboneConfig = Field(
        default_factory=lambda: BackboneConfig(), description="The network that is reused."
    )
    tasks: tuple[TaskConfig, ...] = Field(
        min_length=1, max_length=MOST_TASKS, description="The jobs, in the order they are learnt."
    )
    training: TrainingConfig = Field(default_factory=lambda: TrainingConfig(), description="How each stage is trained.")
    method: AnyMethodConfig = Field(description="How old jobs are kept.")
    seed: Whole = Field(0, ge=0, le=2**31 - 1, description="Same seed, same numbers.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        here = not isinstance(self.backbone, BackboneNotInstalled)  # else nobody can say what fits it
        if here:
            self._check_backbone(BACKBONES[self.backbone.name])
        for position, task in enumerate(self.tasks, 1):
            try:
                self._check_task(task)
            except TaskError as error:
                raise ValueError(f"tasks.{position}.name: {error}") from None
        if here:
            self.method.check(self)
            self._check_statistics(BACKBONES[self.backbone.name])
        return self

    def _check_backbone(self, info: BackboneInfo) -> None:
        """Raise ValueError where the backbone cannot start so, or see so small pictures."""
        if self.backbone.start == "pretrained" and not info.pretrained:
            raise ValueError(
                f"backbone.start is pretrained, but {self.backbone.name} has no trained weights; "
                "choose kaiming, xavier or far"
            )
        if self.backbone.image_size < info.smallest_image:
            raise ValueError(
                f"backbone.image_size is {self.backbone.image_size}, but {self.backbone.name} needs at least "
                f"{info.smallest_image} px; choose {info.smallest_image} to 256"
            )

    def _check_statistics(self, info: BackboneInfo) -> None:
        """Raise ValueError where normalisation would have to learn from one value a channel."""
        if self.training.batch_size == 1 and self.backbone.image_size <= info.one_place and self._statistics_move():
            raise ValueError(
                f"training.batch_size is 1, but at a backbone.image_size of {self.backbone.image_size} the last map of "
                f"{self.backbone.name} is 1 × 1, and normalisation cannot learn from one value; choose a batch_size of "
                f"at least 2, or an image_size above {info.one_place}"
            )

    def _statistics_move(self) -> bool:
        """Whether statistics of normalisation follow the batches of some stage; the learners' own rule, told here."""
        if self.backbone.norm == "per_task":
            return True
        cost = ABOUT[self.method.name].cost
        return any(
            cost.still_share(self, stage) < 1 and (self.backbone.norm == "shared" or cost.is_fresh(self, stage))
            for stage in range(1, len(self.tasks) + 1)
        )

    def _check_task(self, task: TaskConfig) -> None:
        """Raise TaskError where there is no such task."""
        catalogue.describe(task.name)

    @property
    def task_names(self) -> list[str]:
        """The names of the tasks, in order; a task that appears twice is there twice."""
        return [task.name for task in self.tasks]

    def canonical_json(self) -> str:
        """The configuration as JSON text, the same for equal ones in whatever order and spelling they were written."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def key(self) -> str:
        """SHA-256 (64 hex digits) of the canonical JSON, the versions of engine and method, and each task's pictures.

        A method of version 1 adds nothing to it.
        """
        parts = [self.canonical_json(), ENGINE_VERSION, *(task.fingerprint for task in self.tasks)]
        version = version_of(self.method.name)
        if version > 1:
            parts.append(f"method {version}")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def stage_config(self, stage: int) -> dict[str, Any]:
        """What the stage's training depends on: `MethodConfig.stage_config`, and the method's version."""
        how = self.method.stage_config(stage, len(self.tasks))
        return how if how == BASE else self._versioned(how)

    def addition_config(self, stage: int) -> dict[str, Any] | None:
        """What the stage's end depends on: `MethodConfig.addition_config`, and the method's version."""
        more = self.method.addition_config(stage, len(self.tasks))
        return None if more is None else self._versioned(more)

    def _versioned(self, how: dict[str, Any]) -> dict[str, Any]:
        """Add the method's version, if it is above 1, so that stages from before there were versions are found."""
        version = version_of(self.method.name)
        return how if version == 1 else {**how, "version": version}

    def warnings(self) -> list[str]:
        """Plain sentences about what is allowed but perhaps not meant."""
        found = []
        twice = sorted({name for name in self.task_names if self.task_names.count(name) > 1})
        if twice:
            found.append(
                f"{', '.join(twice)} is in the sequence more than once; each time it gets a head and a column."
            )
        if self.backbone.norm == "shared" and BACKBONES[self.backbone.name].has_norm:
            found.append("backbone.norm is shared: old tasks are not isolated, whatever the method.")
        return found


def _stored_backbone(data: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    unknown = (name := _name(data)) is not None and name not in BACKBONES
    return BackboneNotInstalled.model_validate(data) if unknown else handler(data)


def _stored_method(data: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    unknown = (name := _name(data)) is not None and name not in METHODS
    return NotInstalled.model_validate(data) if unknown else handler(data)


def _name(data: Any) -> str | None:
    """The name in a part of a configuration, as plain data or read already; None where it has none."""
    name = data.get("name") if isinstance(data, Mapping) else getattr(data, "name", None)
    return name if isinstance(name, str) else None


class RunOfUninstalled(RunConfig):
    """A stored run of which something is not installed here: it can be read, shown and exported, and not be trained.

    What lacks stands in place of what it would be, by its name and with its settings; all else is as in any run.
    """

    backbone: SerializeAsAny[Annotated[BackboneConfig, WrapValidator(_stored_backbone)]]
    method: SerializeAsAny[Annotated[AnyMethodConfig, WrapValidator(_stored_method)]]

    def _check_task(self, task: TaskConfig) -> None:
        """Raise TaskError where the task is installed and has no such classes, or cannot be a task anywhere."""
        if task.is_installed:
            super()._check_task(task)

    def _check_statistics(self, info: BackboneInfo) -> None:
        """Nothing: what was stored can be read, also where it could not be trained."""

    @property
    def lacking(self) -> list[str]:
        """What is not installed, such as `the method 'leash'`."""
        found = [f"the method {self.method.name!r}"] if isinstance(self.method, NotInstalled) else []
        if isinstance(self.backbone, BackboneNotInstalled):
            found.append(f"the backbone {self.backbone.name!r}")
        return [*found, *dict.fromkeys(f"the task {task.name!r}" for task in self.tasks if not task.is_installed)]
