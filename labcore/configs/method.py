"""What the lab knows of a method without loading torch: its settings, its name, what it costs, what is said of it.

A method is a folder `labcore/methods/NAME/` of two files: `about.py` fills in an `About`, and `learn.py` holds the
class that learns (`labcore/methods/base.py` says what a learner is). A third, `maps.py`, is there where the method has
something of its own to show on the page Inside. docs/extending.md builds one from nothing. No torch here: pages read
this module.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import ConfigDict

from labcore.configs.base import ConfigError, Frozen, plain
from labcore.configs.verdicts import UNRATED, Verdict

if TYPE_CHECKING:
    from labcore.configs.run import BackboneConfig, RunConfig

# The answer of `stage_config` for a stage in which the method does only what plain sequential fine-tuning does.
BASE: dict[str, Any] = {"name": "base"}


class MethodError(ConfigError):
    """A method lacks a part that the lab cannot do without. The message is a sentence that names both."""


class MethodConfig(Frozen):
    """The settings of a method. Every field carries its bounds, its unit and a sentence of help."""

    name: str

    @property
    def title(self) -> str:
        """What a page calls the method."""
        from labcore.configs.registry import ABOUT  # not above: discovery imports this module

        return ABOUT[self.name].title

    def check(self, run: "RunConfig") -> None:
        """Refuse a run whose parts are each allowed but do not fit this method.

        Raises ValueError with one sentence that names the field, the value and what is allowed.
        """

    def room(self, backbone: "BackboneConfig") -> int | None:
        """How many tasks fit into the backbone in all; None where there is no such limit."""
        return None

    def stage_config(self, stage: int, stages: int) -> dict[str, Any]:
        """The settings of the method that the training of this stage depends on, of so many stages, counted from 1.

        It is `BASE` only where phases, data, loss, trainable, overlay and the hooks around the step are those of the
        base class.
        """
        return self.model_dump(mode="json")

    def addition_config(self, stage: int, stages: int) -> dict[str, Any] | None:
        """The settings that `end_stage` depends on beside training, where it needs only the trained network.

        Nothing that is measured may depend on them. None says that what `end_stage` adds comes with the training and
        only with it.
        """
        return {} if self.stage_config(stage, stages) == BASE else None


class NotInstalled(MethodConfig):
    """The settings of a stored run whose method is not installed here. They are kept as they are, only to be read."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @property
    def title(self) -> str:
        """The method's name, and that it is not here."""
        return f"{plain(self.name)} (not installed)"


class Cost:
    """What a stage by this method takes, so that a run's time and memory are known before it starts.

    These answers are fine-tuning's; a method overrides those that differ. `stage` counts from 1, as tasks do.
    """

    # Whether the method measures the Fisher diagonal itself when a stage ends, so that the maps need not.
    measures_importance: ClassVar[bool] = False
    # Whether nothing that is learnt later changes an answer to a task that is learnt, to the bit, unless tasks share a
    # normalisation. Such answers are not asked for again before the run's end, where they are compared.
    keeps_answers: ClassVar[bool] = False

    def isolates(self, run: "RunConfig") -> bool:
        """Whether the answers to a task that is learnt stand, to the bit."""
        return self.keeps_answers and run.backbone.norm != "shared"

    def is_fresh(self, run: "RunConfig", stage: int) -> bool:
        """Whether the stage begins on a trunk that knows nothing, so that no head warms up."""
        return stage == 1 and run.backbone.start != "pretrained"

    def still_share(self, run: "RunConfig", stage: int) -> float:
        """The share of the trunk, 0 to 1, that cannot change in the stage and so is run only once over the pictures."""
        return 0.0

    def tasks_read(self, stage: int) -> range:
        """The tasks whose training pictures the stage reads."""
        return range(stage, stage + 1)

    def epochs(self, run: "RunConfig", stage: int) -> tuple[int, ...]:
        """The passes over these pictures, phase by phase, in the phases in which the trunk may move."""
        return (run.training.epochs,)

    def passes(self, run: "RunConfig", stage: int) -> int:
        """How often one step takes its pictures through the trunk."""
        return 1

    def looked_at(self, run: "RunConfig", stage: int) -> int:
        """How often the stage's pictures are taken through the trunk once, without learning, beside the steps."""
        return 0

    def measured_images(self, run: "RunConfig", stage: int) -> int:
        """The most pictures whose own gradients are taken when the stage ends; the stage may have fewer."""
        return 0

    def measured_alone(self, run: "RunConfig", stage: int) -> int:
        """The same of pictures that are taken one by one, each as long as a step on one picture."""
        return 0

    def bytes_a_weight(self, run: "RunConfig") -> float:
        """How many bytes the method adds to the run's peak memory for each weight of the trunk."""
        return 0.0


@dataclass(frozen=True, slots=True)
class Suggestion:
    """An exploration that the page Explore offers to begin with.

    `question` holds the words of its button. `vary` holds settings and their ranges as they stand in the page's
    address: `method.strength~1~1000000~7~log`. Suggestions are shown in the order of `place`.
    """

    question: str
    vary: tuple[str, ...]
    place: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """All that is said of a method without its learner. Name, title, idea, settings and learner are required.

    `idea` is the sentence that a page shows for it, and `facts` are two or three words each of what to expect of it by
    its definition ("forgets nothing"), for its card. `settings` is the model of its settings, and `learner` the name of
    the class in the file `learn.py` beside this. `group` is either the article's methods or those of today; in a group,
    methods are shown in the order of `place`. `version` is part of every key: raise it when the same configuration
    would train to different numbers.

    `presets` holds, for each preset by name, what differs for this method, as dotted settings; for a preset that it
    does not name, training is that of fine-tuning. `verdict` is what the literature expects, and `cost` estimates
    what a stage takes.
    `explore_first` is the setting that the page Explore offers to vary first; None: the first of its own.
    `suggestion` is a whole exploration that is offered where there is none yet.
    `kept_a_job` names the purposes in the method's footprint that grow with every job, beside heads and normalisation.

    Raises MethodError where a required part is missing.
    """

    name: str = ""
    title: str = ""
    idea: str = ""
    facts: tuple[str, ...] = ()
    settings: type[MethodConfig] | None = None
    learner: str = ""
    group: Literal["article", "today"] = "today"
    place: int = 100
    version: int = 1
    verdict: Verdict = UNRATED
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    explore_first: str | None = None
    suggestion: Suggestion | None = None
    kept_a_job: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part in ("name", "title", "idea", "settings", "learner"):
            if not getattr(self, part):
                called = repr(self.name) if self.name else "without a name"
                raise MethodError(f"The method {called} has no {part}; its about.py must say it.")
        assert self.settings is not None
        named = self.settings.model_fields["name"].default
        if named != self.name:
            raise MethodError(
                f"The method {self.name!r} has no settings of its name: those in its about.py are named {named!r}."
            )
        if find_spec(f"{self.package}.learn") is None:
            raise MethodError(f"The method {self.name!r} has no learner: no file learn.py lies beside its about.py.")

    @property
    def short(self) -> str:
        """The name that people use where there is little room: what stands in brackets in the title, or the title."""
        _, _, bracketed = self.title.partition("(")
        return bracketed.rstrip(")") or self.title

    @property
    def package(self) -> str:
        """The package of the method's files: the one in which its settings are declared."""
        assert self.settings is not None
        return self.settings.__module__.rpartition(".")[0]
