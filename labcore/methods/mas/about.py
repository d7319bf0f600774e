"""Memory aware synapses, as far as it can be told without torch."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from labcore.configs.base import Number, Whole, unit
from labcore.configs.method import BASE, About, Cost, MethodConfig
from labcore.configs.verdicts import Verdict

if TYPE_CHECKING:
    from labcore.configs.run import RunConfig


class MASConfig(MethodConfig):
    """How stiff the springs are, and on how many pictures it is measured what they hold on to."""

    name: Literal["mas"] = "mas"
    strength: Number = Field(
        1.0,
        ge=0,
        le=1e12,
        description="Stiffness of all springs together (λ). 0 is fine-tuning.",
        json_schema_extra={"log": True},
    )
    importance_images: Whole = Field(
        100,
        ge=1,
        le=100_000,
        description="Images of each job on which importance is measured; their labels are not looked at.",
        json_schema_extra=unit("images"),
    )

    def stage_config(self, stage: int, stages: int) -> dict[str, Any]:
        """There is no spring in stage 1."""
        return BASE if stage == 1 else super().stage_config(stage, stages)

    def addition_config(self, stage: int, stages: int) -> dict[str, Any] | None:
        """Importance depends on how it is measured, not on how strongly it holds."""
        return {"name": self.name, "importance_images": self.importance_images}


class MASCost(Cost):
    """Importance is measured picture by picture at the end of a stage, and kept for every task."""

    def measured_alone(self, run: "RunConfig", stage: int) -> int:
        """As many as are set."""
        assert isinstance(run.method, MASConfig)
        return run.method.importance_images

    def bytes_a_weight(self, run: "RunConfig") -> float:
        """Each task's importance and anchor, their sum, and float64 while that is made."""
        return 8 * (len(run.tasks) + 1) + 16


ABOUT = About(
    name="mas",
    title="Aware synapses (MAS)",
    idea="Ties down the weights on which the answers to an old job depend, whether they are right or wrong.",
    facts=("forgets less", "keeps weights' importance"),
    settings=MASConfig,
    learner="MAS",
    group="today",
    place=2,
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
    presets={"story": {"method.strength": 1.0}, "quick": {"method.strength": 0.01}},
    cost=MASCost(),
)
