"""What a run is: one frozen, validated, hashable configuration.

The one source of the command line's options, the form's widgets, the validation errors and the documentation. Every
field carries its bounds, its unit and a sentence of help; labcore/configs/fields.py lists them. No torch here: pages
read this module.
"""

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from labcore import ENGINE_VERSION
from labcore.configs import capacity
from labcore.configs.catalogue import BACKBONES, BackboneInfo, BackboneName, Start
from labcore.configs.fields import field
from labcore.tasks import catalogue
from labcore.tasks.source import TaskError


class ConfigError(ValueError):
    """Bad input, told in one plain sentence that names the field, the value and what is allowed."""


# ---------------------------------------------------------------------------------------------------------------------
# The parts of a configuration
# ---------------------------------------------------------------------------------------------------------------------

# Strict, so that "3" is text and true is no number; NaN and infinity are refused everywhere.
Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Switch = Annotated[bool, Field(strict=True)]


def _unit(unit: str) -> dict[str, Any]:
    return {"unit": unit}


class Frozen(BaseModel):
    """Immutable, hashable, and closed: a field that is not declared is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Norm = Literal["frozen", "affine_per_task", "per_task", "shared"]


class BackboneConfig(Frozen):
    """The network that is reused, and where its weights start."""

    name: BackboneName = Field("efficientnet_lite0", description="The network that every task shares.")
    start: Start = Field(
        "pretrained",
        description="Where the weights start: already trained, two random starts that work, or far off, N(0, 1).",
    )
    image_size: Whole = Field(
        64, ge=16, le=256, description="Side of the square pictures it sees.", json_schema_extra=_unit("px")
    )
    norm: Norm = Field(
        "frozen",
        description="Batch normalisation: fixed, a scale and shift a task, all of it a task, or everything shared.",
    )

    @property
    def norm_by_task(self) -> bool:
        """Whether each task has its own scale and shift; a network without normalisation ignores the setting."""
        return BACKBONES[self.name].has_norm and self.norm in ("affine_per_task", "per_task")


class TaskConfig(Frozen):
    """One job in the sequence."""

    name: str = Field(description="A task, or some of its classes as in fashion:0-4.")
    images_per_class: Whole | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Limit on training images; empty takes all.",
        json_schema_extra=_unit("images"),
    )


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
    epochs: Whole = Field(
        3, ge=1, le=1000, description="Passes over a task's images.", json_schema_extra=_unit("passes")
    )
    batch_size: Whole = Field(32, ge=1, le=4096, description="Images in one step.", json_schema_extra=_unit("images"))
    head_warmup_epochs: Whole = Field(
        0,
        ge=0,
        le=1000,
        description="Passes in which the new head learns alone before the trunk moves.",
        json_schema_extra=_unit("passes"),
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Numbers used in training's forward pass; bfloat16 is shorter and faster on a GPU."
    )


# What a stage's outcome depends on where its method does nothing there that plain sequential fine-tuning would not.
BASE: dict[str, Any] = {"name": "base"}


class MethodConfig(Frozen):
    """What all methods have: a name. The docstring of each is the line that a page shows for it."""

    def stage_config(self, stage: int, stages: int) -> dict[str, Any]:
        """What of the method the training of this stage, of so many, depends on; stages count from 1.

        `BASE` only where phases, data, loss, trainable and overlay are the base class's.
        """
        return self.model_dump(mode="json")

    def addition_config(self, stage: int, stages: int) -> dict[str, Any] | None:
        """What the method's `end_stage` depends on beside training, where it can be computed from the trained network.

        Nothing that is measured may depend on it. None: what it adds comes with the training and only with it.
        """
        return {} if self.stage_config(stage, stages) == BASE else None


class _TrainsTrunkConfig(MethodConfig):
    """What is common to methods that train the trunk as it is."""

    name: str
    trunk_lr_scale: Number = Field(1.0, ge=0, le=10, description="Trunk's step size, times this. 0 trains heads alone.")
    frozen_blocks: Whole = Field(
        0, ge=0, le=64, description="First blocks that stay as they are.", json_schema_extra=_unit("blocks")
    )


class FineTuningConfig(_TrainsTrunkConfig):
    """Goes on training the whole network on the new job. Simple and quick, and it forgets."""

    name: Literal["fine_tuning"] = "fine_tuning"

    def stage_config(self, stage: int, stages: int) -> dict[str, Any]:
        """The base class's for every stage, as long as the trunk moves whole and at full speed."""
        plain = self.trunk_lr_scale == 1 and self.frozen_blocks == 0
        return BASE if plain else super().stage_config(stage, stages)


class FeatureExtractionConfig(MethodConfig):
    """Keeps the network as it is and learns a new last layer for each job. Forgets nothing, learns less."""

    name: Literal["feature_extraction"] = "feature_extraction"
    trunk: Literal["start", "first_task"] | None = Field(
        None,
        description="Which trunk is kept: the one it starts with, or the one after task 1. Empty: start where the "
        "weights are pretrained, else first_task.",
    )


class SeparateCopiesConfig(_TrainsTrunkConfig):
    """Copies the starting network for every job. Forgets nothing; memory grows with every job."""

    name: Literal["separate_copies"] = "separate_copies"


class JointConfig(MethodConfig):
    """Trains on all jobs' pictures together. The best there is, if every old picture may be kept."""

    name: Literal["joint"] = "joint"


class LwFConfig(MethodConfig):
    """Learns the new job while repeating what it used to say about the new pictures."""

    name: Literal["lwf"] = "lwf"
    strength: Number = Field(
        1.0,
        ge=0,
        le=1000,
        description="How much the old answers count beside the new task (λ₀).",
        json_schema_extra={"log": True},
    )
    temperature: Number = Field(
        2.0, gt=0, le=100, description="Above 1, unlikely answers count more in what is repeated (T)."
    )
    train_old_heads: Switch = Field(
        False, description="Whether the old jobs' last layers learn on, too, as in the paper."
    )

    def stage_config(self, stage: int, stages: int) -> dict[str, Any]:
        """There is nothing to remember in stage 1."""
        return BASE if stage == 1 else super().stage_config(stage, stages)


class EWCConfig(MethodConfig):
    """Ties down the weights that old jobs depend on, each by a spring as stiff as it is important."""

    name: Literal["ewc"] = "ewc"
    strength: Number = Field(
        1000.0,
        ge=0,
        le=1e12,
        description="Stiffness of all springs together (λ). 0 is fine-tuning.",
        json_schema_extra={"log": True},
    )
    variant: Literal["separate", "online"] = Field(
        "separate", description="A spring a task, or one that is tied anew after each task."
    )
    decay: Number = Field(
        0.95, gt=0, le=1, description="How much of the earlier importance stays after each task (γ); online only."
    )
    labels: Literal["sampled", "empirical", "exact"] = Field(
        "sampled",
        description="Whose answers importance is measured by: drawn from the network's own, the right ones (not the "
        "true Fisher), or all of them by their probability.",
    )
    fisher_images: Whole = Field(
        100,
        ge=1,
        le=100_000,
        description="Images of each task on which importance is measured.",
        json_schema_extra=_unit("images"),
    )

    def stage_config(self, stage: int, stages: int) -> dict[str, Any]:
        """There is no spring in stage 1."""
        return BASE if stage == 1 else super().stage_config(stage, stages)

    def addition_config(self, stage: int, stages: int) -> dict[str, Any] | None:
        """Importance depends on how it is measured, not on how strongly it holds."""
        return {"name": self.name, "labels": self.labels, "fisher_images": self.fisher_images}


class PackNetConfig(MethodConfig):
    """Gives each job a share of the weights and freezes it; what it does not need is left to the next."""

    name: Literal["packnet"] = "packnet"
    prune_ratio: Number = Field(
        0.5, gt=0, lt=1, description="Share of a task's weights in each layer that is set free for later tasks."
    )
    retrain_epochs: Whole = Field(
        3,
        ge=0,
        le=1000,
        description="Passes after pruning, with the weights that were kept.",
        json_schema_extra=_unit("passes"),
    )
    freed_weights: Literal["zero", "keep"] = Field(
        "zero", description="What the next task finds in freed weights: zero, or what they had learnt."
    )
    reuse: Literal["all", "none", "learned"] = Field(
        "all", description="Which earlier tasks' weights a task uses: all, none, or a choice that it learns."
    )
    prune_last: Switch = Field(True, description="Whether the last task leaves room for another one.")
    depthwise: Switch = Field(
        False, description="Whether layers with a handful of weights a channel are pruned too; many channels then die."
    )

    def prunes(self, stage: int, stages: int) -> bool:
        """Whether the stage leaves something to later ones; the last need not."""
        return self.prune_last or stage < stages

    def stage_config(self, stage: int, stages: int) -> dict[str, Any]:
        """Whether a stage prunes may hang on its being the last."""
        return self.model_dump(mode="json", exclude={"prune_last"}) | {"prunes": self.prunes(stage, stages)}


class PiggybackConfig(MethodConfig):
    """Leaves the network as it is and learns for each job which of its weights to switch off."""

    name: Literal["piggyback"] = "piggyback"
    initial_score: Number = Field(
        1e-2, gt=0, le=1, description="Score that every weight starts with.", json_schema_extra={"log": True}
    )
    threshold: Number = Field(
        5e-3,
        ge=0,
        le=1,
        description="A weight is used while its score is above this.",
        json_schema_extra={"log": True},
    )
    score_learning_rate: Number = Field(
        3e-4, gt=0, le=1, description="Step size of the scores, by Adam.", json_schema_extra={"log": True}
    )
    depthwise: Switch = Field(
        False, description="Whether layers with a handful of weights a channel are masked too; many channels then die."
    )
    trunk: Literal["start", "first_task"] | None = Field(
        None,
        description="Which trunk is masked: the one it starts with, or the one after task 1. Empty: start where the "
        "weights are pretrained, else first_task.",
    )


AnyMethodConfig = (
    FineTuningConfig
    | FeatureExtractionConfig
    | SeparateCopiesConfig
    | JointConfig
    | LwFConfig
    | EWCConfig
    | PackNetConfig
    | PiggybackConfig
)

# The order in which pages and tables show the methods.
METHODS: dict[str, type[MethodConfig]] = {
    "feature_extraction": FeatureExtractionConfig,
    "fine_tuning": FineTuningConfig,
    "separate_copies": SeparateCopiesConfig,
    "joint": JointConfig,
    "lwf": LwFConfig,
    "ewc": EWCConfig,
    "packnet": PackNetConfig,
    "piggyback": PiggybackConfig,
}
METHOD_TITLES: dict[str, str] = {
    "feature_extraction": "Feature extraction",
    "fine_tuning": "Fine-tuning",
    "separate_copies": "Separate copies",
    "joint": "Joint training",
    "lwf": "Distillation (LwF)",
    "ewc": "Elastic weights (EWC)",
    "packnet": "PackNet",
    "piggyback": "Piggyback",
}


class RunConfig(Frozen):
    """A backbone, a task sequence, how to train, by which method, and the seed of everything random."""

    backbone: BackboneConfig = Field(
        default_factory=lambda: BackboneConfig(), description="The network that is reused."
    )
    tasks: tuple[TaskConfig, ...] = Field(
        min_length=1, max_length=capacity.MOST_OWNERS, description="The jobs, in the order they are learnt."
    )
    training: TrainingConfig = Field(default_factory=lambda: TrainingConfig(), description="How each stage is trained.")
    method: AnyMethodConfig = Field(discriminator="name", description="How old jobs are kept.")
    seed: Whole = Field(0, ge=0, le=2**31 - 1, description="Same seed, same numbers.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        info = BACKBONES[self.backbone.name]
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
        for position, task in enumerate(self.tasks, 1):
            try:
                catalogue.describe(task.name)
            except TaskError as error:
                raise ValueError(f"tasks.{position}.name: {error}") from None
        frozen = getattr(self.method, "frozen_blocks", 0)
        if frozen > len(info.blocks):
            raise ValueError(
                f"method.frozen_blocks is {frozen}, but {self.backbone.name} has {len(info.blocks)} blocks; "
                f"choose 0 to {len(info.blocks)}"
            )
        if self.method.name == "feature_extraction" and self.backbone.norm == "shared" and info.has_norm:
            raise ValueError(
                "backbone.norm is shared, which moves the trunk that feature_extraction keeps; "
                "choose frozen, affine_per_task or per_task"
            )
        if isinstance(self.method, PackNetConfig):
            self._refuse_a_full_network(self.method, info)
        if isinstance(self.method, PiggybackConfig) and self.method.initial_score <= self.method.threshold:
            raise ValueError(
                f"method.initial_score is {self.method.initial_score:g}, which is not above method.threshold "
                f"({self.method.threshold:g}): every weight would start switched off; choose a larger score"
            )
        return self

    def _refuse_a_full_network(self, method: PackNetConfig, info: BackboneInfo) -> None:
        """PackNet's every task must find a free weight in every layer; the smallest one is full first."""
        weights = info.smallest_prunable(method.depthwise)
        fits, count = capacity.tasks_that_fit(weights, method.prune_ratio), len(self.tasks)
        if fits >= count:
            return
        ratio = capacity.smallest_ratio(weights, count)
        raise ValueError(
            f"method.prune_ratio is {method.prune_ratio:g}, at which the smallest layer of {self.backbone.name} "
            f"({weights} weights) is full after {fits} task{'s' * (fits > 1)}, and there are {count}; "
            + (f"choose {ratio:g} or more" if ratio else "no ratio has room for so many: take fewer tasks")
        )

    @property
    def task_names(self) -> list[str]:
        """Names by position; a task that appears twice is there twice."""
        return [task.name for task in self.tasks]

    @property
    def kept_trunk(self) -> Literal["start", "first_task"]:
        """Which trunk a method that keeps one keeps; not said: the start where it is pretrained, else task 1's."""
        chosen: Literal["start", "first_task"] | None = getattr(self.method, "trunk", None)
        return chosen or ("start" if self.backbone.start == "pretrained" else "first_task")

    def canonical_json(self) -> str:
        """The same text for equal configurations, whatever order or spelling they were written in."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def key(self) -> str:
        """SHA-256 (64 hex digits) of the canonical JSON, the engine's version and each task's pictures."""
        parts = [self.canonical_json(), ENGINE_VERSION, *(catalogue.fingerprint(name) for name in self.task_names)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

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


# ---------------------------------------------------------------------------------------------------------------------
# Reading, changing and explaining configurations
# ---------------------------------------------------------------------------------------------------------------------


def parse(data: Mapping[str, Any]) -> RunConfig:
    """Validate plain data (as read from JSON). Raises ConfigError with one sentence."""
    try:
        return RunConfig.model_validate(dict(data))
    except ValidationError as error:
        raise ConfigError(explain(error)) from None


def parse_json(text: str | bytes) -> RunConfig:
    """Validate a JSON document. Raises ConfigError where it is not JSON, not an object, or not a configuration."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:  # also UnicodeDecodeError
        raise ConfigError(f"The configuration is not valid JSON ({str(error).splitlines()[0]}).") from None
    if not isinstance(data, dict):
        raise ConfigError("The configuration must be a JSON object with backbone, tasks, training, method and seed.")
    return parse(data)


def with_settings(data: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of plain data with some dotted settings changed. Raises ConfigError for an unknown path."""
    changed = copy.deepcopy(dict(data))
    for path, value in settings.items():
        apply_setting(changed, path, value)
    return changed


def apply_setting(data: dict[str, Any], path: str, value: Any) -> None:
    """Set `a.b.0.c` in plain data, in place; list positions count from 0. Raises ConfigError for an unknown path."""
    node: Any = data
    *parents, last = path.split(".")
    for part in parents:
        node = _child(node, part, path)
    if isinstance(node, list):
        node[_position(node, last, path)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise ConfigError(f"{path}: there is nothing below {'.'.join(parents)} to set.")


def _child(node: Any, part: str, path: str) -> Any:
    if isinstance(node, list):
        return node[_position(node, part, path)]
    if isinstance(node, dict) and part in node:
        return node[part]
    known = ", ".join(node) if isinstance(node, dict) else "nothing"
    raise ConfigError(f"{path}: there is no {part!r} here; known: {known}.")


def _position(node: list[Any], part: str, path: str) -> int:
    if part.isascii() and part.isdigit() and int(part) < len(node):
        return int(part)
    raise ConfigError(f"{path}: {part!r} is not a position from 0 to {len(node) - 1}.")


def explain(error: ValidationError, whole: type[BaseModel] | None = None) -> str:
    """One plain sentence for the first thing that is wrong in `whole` (None: a run), and how many more there are."""
    first, *rest = error.errors(include_url=False)
    location = [str(part) for part in first["loc"]]
    if location[:1] == ["method"] and len(location) > 1 and location[1] in METHODS:
        model: type[BaseModel] | None = METHODS[location[1]]
        del location[1]  # pydantic names the member of the union that it tried
    else:
        model = _model_at(location, whole or RunConfig)
    if location[:1] == ["tasks"] and len(location) > 1 and location[1].isdigit():
        location[1] = str(int(location[1]) + 1)  # people count from 1
    field = ".".join(location)
    context = first.get("ctx", {})
    value = _short(first["input"])
    match first["type"]:
        case "value_error":
            sentence = str(context["error"]).removesuffix(".")
        case "missing":
            sentence = f"{field} is missing"
        case "extra_forbidden":
            sentence = f"{field} is not a known field{_siblings(model)}"
        case "literal_error":
            sentence = f"{field} is {value}; allowed: {context['expected'].replace(chr(39), '')}"
        case "union_tag_invalid":
            sentence = f"method.name is {_short(context['tag'])}; allowed: {', '.join(METHODS)}"
        case "union_tag_not_found":
            sentence = f"method needs a name; allowed: {', '.join(METHODS)}"
        case "too_long":
            sentence = f"{field} has {context['actual_length']} entries; at most {context['max_length']} are allowed"
        case "too_short":
            sentence = f"{field} is empty; at least {context['min_length']} is needed"
        case "finite_number":
            sentence = f"{field} is {value}; it must be a finite number"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            sentence = f"{field} is {value}; it must be {_bounds(model, location[-1])}"
        case _:
            sentence = f"{field or 'The configuration'} is {value}; {_plain(first['msg'])}"
    more = f" (and {len(rest)} more)" if rest else ""
    return " ".join(f"{sentence}{more}.".split())


def _plain(message: str) -> str:
    return message[0].lower() + message[1:].replace("Input should be", "it must be").replace(
        "input should be", "it must be"
    )


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def _model_at(location: list[str], whole: type[BaseModel]) -> type[BaseModel] | None:
    match location:
        case [_]:
            return whole
        case ["backbone", _]:
            return BackboneConfig
        case ["training", _]:
            return TrainingConfig
        case ["tasks", _, _]:
            return TaskConfig
    return None


def _siblings(model: type[BaseModel] | None) -> str:
    return f"; known: {', '.join(model.model_fields)}" if model else ""


def _bounds(model: type[BaseModel] | None, name: str) -> str:
    known = model is not None and name in model.model_fields
    return field("", model, name).bounds if model is not None and known else "within its bounds"
