"""Piggyback, as far as it can be told without torch."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from labcore.configs.base import Number, Switch, single
from labcore.configs.method import About, MethodConfig
from labcore.configs.verdicts import Verdict
from labcore.methods.shared.settings import KeptTrunk, KeptTrunkCost

if TYPE_CHECKING:
    from labcore.configs.run import RunConfig


class PiggybackConfig(MethodConfig):
    """Where scores begin, at which score a weight is switched off, how fast scores learn, and on which trunk."""

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
    trunk: KeptTrunk | None = Field(
        None,
        description="Which trunk is masked: the one it starts with, or the one after job 1. Empty: start where the "
        "weights are pretrained, else first_task.",
    )

    def check(self, run: "RunConfig") -> None:
        """Refuse scores that do not begin above the threshold: all weights must be on at first. Raises ValueError."""
        if single(self.initial_score) <= single(self.threshold):
            raise ValueError(
                f"method.initial_score is {self.initial_score}, which is not above method.threshold "
                f"({self.threshold}) in 32 bits: every weight would start switched off; choose a larger score"
            )


class PiggybackCost(KeptTrunkCost):
    """A score for each weight, and the masked weights, are in memory."""

    def bytes_a_weight(self, run: "RunConfig") -> float:
        """Two float32 numbers: the score, and the masked weight."""
        return 8


ABOUT = About(
    name="piggyback",
    title="Piggyback",
    idea="Leaves the network as it is, and learns for each job which of its weights to switch off.",
    facts=("forgets nothing", "keeps a bit a weight for each job"),
    settings=PiggybackConfig,
    learner="Piggyback",
    group="article",
    place=8,
    verdict=Verdict(
        {
            "new": ("good", "good"),
            "old": ("unchanged", "good"),
            "train": ("many steps", "medium"),
            "test": ("fast", "good"),
            "memory": ("a bit a weight a job", "medium"),
            "old data": ("not needed", "good"),
        }
    ),
    # How far scores get depends on the number of steps, and large steps do not replace them.
    presets={
        "story": {"training.epochs": 5, "training.batch_size": 16, "backbone.norm": "affine_per_task"},
        "quick": {
            "method.score_learning_rate": 1e-3,
            "training.epochs": 14,
            "training.batch_size": 16,
            "backbone.norm": "per_task",
        },
    },
    cost=PiggybackCost(),
    kept_a_job=("masks",),
)
