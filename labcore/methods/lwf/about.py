"""Learning without forgetting, as far as it can be told without torch."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from labcore.configs.base import Number, Switch
from labcore.configs.method import BASE, About, Cost, MethodConfig, Suggestion
from labcore.configs.verdicts import Verdict

if TYPE_CHECKING:
    from labcore.configs.run import RunConfig


class LwFConfig(MethodConfig):
    """How much the old answers count, and at which temperature they are compared."""

    name: Literal["lwf"] = "lwf"
    strength: Number = Field(
        1.0,
        ge=0,
        le=1000,
        description="How much the old answers count beside the new job (λ₀).",
        json_schema_extra={"log": True},
    )
    temperature: Number = Field(
        2.0, gt=0, le=100, description="Above 1, unlikely answers count more in what is repeated (T)."
    )
    train_old_heads: Switch = Field(
        False, description="Whether the old jobs' last layers learn on, too, as in the paper."
    )

    def stage_config(self, stage: int, stages: int) -> dict[str, Any]:
        """The settings that the training of a stage depends on; in stage 1 there is nothing to remember yet."""
        return BASE if stage == 1 else super().stage_config(stage, stages)


class LwFCost(Cost):
    """The old heads' answers are recorded before a stage; with normalisation by task each old head is one more pass."""

    def passes(self, run: "RunConfig", stage: int) -> int:
        """Once for all heads that share normalisation, else once for each head."""
        return stage if run.backbone.norm_by_task else 1

    def looked_at(self, run: "RunConfig", stage: int) -> int:
        """Once, or once for each old head, to record what the old heads say."""
        return min(stage - 1, self.passes(run, stage))


ABOUT = About(
    name="lwf",
    title="Distillation (LwF)",
    idea="Learns the new job while repeating what it used to say about the new pictures.",
    facts=("forgets less", "needs no old pictures"),
    settings=LwFConfig,
    learner="LwF",
    group="article",
    place=5,
    verdict=Verdict(
        {
            "new": ("best", "good"),
            "old": ("good", "good"),
            "train": ("fast", "good"),
            "test": ("fast", "good"),
            "memory": ("medium", "medium"),
            "old data": ("not needed", "good"),
        },
        compared=True,
    ),
    presets={
        "story": {"method.temperature": 8.0},
        "quick": {"method.temperature": 8.0},
    },
    cost=LwFCost(),
    suggestion=Suggestion(
        "Repeat the old answers: how loudly, how softly?",
        ("method.strength~0.1~10~3~log", "method.temperature~1~4~3"),
        place=3,
    ),
)
