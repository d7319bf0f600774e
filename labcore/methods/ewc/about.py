"""Elastic weight consolidation, as far as it can be told without torch."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from labcore.configs.base import Number, Whole, unit
from labcore.configs.method import BASE, About, Cost, MethodConfig, Suggestion
from labcore.configs.verdicts import Verdict

if TYPE_CHECKING:
    from labcore.configs.run import RunConfig


class EWCConfig(MethodConfig):
    """How stiff the springs are, and how the importance of the weights that they hold is measured."""

    name: Literal["ewc"] = "ewc"
    strength: Number = Field(
        1000.0,
        ge=0,
        le=1e12,
        description="Stiffness of all springs together (λ). 0 is fine-tuning.",
        json_schema_extra={"log": True},
    )
    variant: Literal["separate", "online"] = Field(
        "separate", description="One spring for each job, or a single one that is tied anew after each job."
    )
    decay: Number = Field(
        0.95, gt=0, le=1, description="How much of the earlier importance stays after each job (γ); online only."
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
        description="Images of each job on which importance is measured.",
        json_schema_extra=unit("images"),
    )

    def stage_config(self, stage: int, stages: int) -> dict[str, Any]:
        """The settings that the training of a stage depends on; there is no spring in stage 1, so it needs none."""
        return BASE if stage == 1 else super().stage_config(stage, stages)

    def addition_config(self, stage: int, stages: int) -> dict[str, Any] | None:
        """The settings by which importance is measured when a stage ends; how strongly it holds is not among them."""
        return {"name": self.name, "labels": self.labels, "fisher_images": self.fisher_images}


class EWCCost(Cost):
    """Importance is measured picture by picture at the end of a stage, and kept for every task."""

    measures_importance: ClassVar[bool] = True

    def measured_images(self, run: "RunConfig", stage: int) -> int:
        """As many pictures as the settings say."""
        assert isinstance(run.method, EWCConfig)
        return run.method.fisher_images

    def bytes_a_weight(self, run: "RunConfig") -> float:
        """Each task's importance and anchor, the sum of all springs, and its float64 numbers while it is made."""
        return 8 * (len(run.tasks) + 1) + 16


ABOUT = About(
    name="ewc",
    title="Elastic weights (EWC)",
    idea="Ties down the weights that old jobs depend on, each by a spring: the more important, the stiffer.",
    facts=("forgets less", "keeps weights' importance"),
    settings=EWCConfig,
    learner="EWC",
    group="article",
    place=6,
    verdict=Verdict(
        {
            "new": ("good", "good"),
            "old": ("medium", "medium"),
            "train": ("fast", "good"),
            "test": ("fast", "good"),
            "memory": ("three times", "poor"),
            "old data": ("not needed", "good"),
        }
    ),
    presets={"story": {"method.strength": 3e5}, "quick": {"method.strength": 300.0}},
    cost=EWCCost(),
    suggestion=Suggestion("How stiff should the springs be?", ("method.strength~1~1000000~7~log",), place=1),
)
