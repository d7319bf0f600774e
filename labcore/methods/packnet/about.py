"""PackNet, as far as it can be told without torch."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from labcore.configs.base import Number, Switch, Whole, unit
from labcore.configs.catalogue import BACKBONES
from labcore.configs.method import About, Cost, MethodConfig, Suggestion
from labcore.configs.verdicts import Verdict
from labcore.methods.packnet import capacity

if TYPE_CHECKING:
    from labcore.configs.run import BackboneConfig, RunConfig


class PackNetConfig(MethodConfig):
    """How much a task gives back, how it retrains on what is left, and what a later task finds and uses."""

    name: Literal["packnet"] = "packnet"
    prune_ratio: Number = Field(
        0.5, gt=0, lt=1, description="Share of a job's weights in each layer that is set free for later jobs."
    )
    retrain_epochs: Whole = Field(
        3,
        ge=0,
        le=1000,
        description="Passes after pruning, with the weights that were kept.",
        json_schema_extra=unit("passes"),
    )
    freed_weights: Literal["zero", "keep"] = Field(
        "zero", description="What the next job finds in freed weights: zero, or what they had learnt."
    )
    reuse: Literal["all", "none", "learned"] = Field(
        "all", description="Which earlier jobs' weights a job uses: all, none, or a choice that it learns."
    )
    prune_last: Switch = Field(True, description="Whether the last job leaves room for another one.")
    depthwise: Switch = Field(
        False, description="Whether layers with a handful of weights a channel are pruned too; many channels then die."
    )

    def prunes(self, stage: int, stages: int) -> bool:
        """Whether the stage leaves weights to later ones; the last stage need not."""
        return self.prune_last or stage < stages

    def room(self, backbone: "BackboneConfig") -> int:
        """How many tasks find a free weight in the smallest layer, which is full before any other."""
        weights = BACKBONES[backbone.name].smallest_prunable(self.depthwise)
        return capacity.tasks_that_fit(weights, self.prune_ratio)

    def check(self, run: "RunConfig") -> None:
        """Refuse a sequence in which some task finds no free weight in some layer. Raises ValueError."""
        fits, count = self.room(run.backbone), len(run.tasks)
        if fits >= count:
            return
        weights = BACKBONES[run.backbone.name].smallest_prunable(self.depthwise)
        ratio = capacity.smallest_ratio(weights, count)
        raise ValueError(
            f"method.prune_ratio is {self.prune_ratio:g}, at which the smallest layer of {run.backbone.name} "
            f"({weights} weights) is full after {fits} job{'s' * (fits > 1)}, and there are {count}; "
            + (f"choose {ratio:g} or more" if ratio else "no ratio has room for so many: take fewer jobs")
        )

    def stage_config(self, stage: int, stages: int) -> dict[str, Any]:
        """All settings but `prune_last`, in whose place it says whether this stage prunes."""
        return self.model_dump(mode="json", exclude={"prune_last"}) | {"prunes": self.prunes(stage, stages)}


class PackNetCost(Cost):
    """A stage that prunes learns twice; owners, what a task sees and the masked weights are in memory."""

    keeps_answers: ClassVar[bool] = True

    def epochs(self, run: "RunConfig", stage: int) -> tuple[int, ...]:
        """The passes of training, and where something is pruned, those of retraining."""
        method = run.method
        assert isinstance(method, PackNetConfig)
        retrains = method.prunes(stage, len(run.tasks)) and method.retrain_epochs
        return (run.training.epochs, method.retrain_epochs) if retrains else (run.training.epochs,)

    def bytes_a_weight(self, run: "RunConfig") -> float:
        """The owners, what a task sees, and the masked weights."""
        return 10


ABOUT = About(
    name="packnet",
    title="PackNet",
    idea="Gives each job a share of the weights and freezes it; weights that it does not need are left to the next.",
    facts=("forgets nothing", "is full after some jobs"),
    settings=PackNetConfig,
    learner="PackNet",
    group="article",
    place=7,
    verdict=Verdict(
        {
            "new": ("good until it is full", "medium"),
            "old": ("unchanged", "good"),
            "train": ("twice as long", "medium"),
            "test": ("fast", "good"),
            "memory": ("a byte a weight", "medium"),
            "old data": ("not needed", "good"),
        }
    ),
    presets={
        "story": {"backbone.norm": "affine_per_task"},
        "quick": {"method.prune_ratio": 0.7, "method.retrain_epochs": 6, "backbone.norm": "per_task"},
    },
    cost=PackNetCost(),
    suggestion=Suggestion("How much should a job give back?", ("method.prune_ratio~0.3~0.9~4",), place=2),
    kept_a_job=("choices",),
)
