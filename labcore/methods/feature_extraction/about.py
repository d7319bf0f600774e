"""Feature extraction, as far as it can be told without torch."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from labcore.configs.catalogue import BACKBONES
from labcore.configs.method import About, MethodConfig
from labcore.configs.verdicts import Verdict
from labcore.methods.shared.settings import KeptTrunk, KeptTrunkCost, learns_trunk

if TYPE_CHECKING:
    from labcore.configs.run import RunConfig


class FeatureExtractionConfig(MethodConfig):
    """Which trunk it is that describes the pictures."""

    name: Literal["feature_extraction"] = "feature_extraction"
    trunk: KeptTrunk | None = Field(
        None,
        description="Which trunk is kept: the one it starts with, or the one after job 1. Empty: start where the "
        "weights are pretrained, else first_task.",
    )

    def check(self, run: "RunConfig") -> None:
        """Refuse shared normalisation, which would move the trunk that is to be kept. Raises ValueError."""
        if run.backbone.norm == "shared" and BACKBONES[run.backbone.name].has_norm:
            raise ValueError(
                "backbone.norm is shared, which moves the trunk that feature_extraction keeps; "
                "choose frozen, affine_per_task or per_task"
            )


class FeatureExtractionCost(KeptTrunkCost):
    """Once the trunk stands still, it is run once over the pictures."""

    def still_share(self, run: "RunConfig", stage: int) -> float:
        """All of the trunk stands still, except in a stage in which it learns."""
        return 0.0 if learns_trunk(run, stage) else 1.0


ABOUT = About(
    name="feature_extraction",
    title="Feature extraction",
    idea="Keeps the network as it is, and learns only a new last layer for each job.",
    facts=("forgets nothing", "learns new jobs less well"),
    settings=FeatureExtractionConfig,
    learner="FeatureExtraction",
    group="article",
    place=1,
    verdict=Verdict(
        {
            "new": ("medium", "medium"),
            "old": ("good", "good"),
            "train": ("fast", "good"),
            "test": ("fast", "good"),
            "memory": ("medium", "medium"),
            "old data": ("not needed", "good"),
        },
        compared=True,
    ),
    # Heads alone cost next to nothing on cached features, so they get the passes that they need to converge.
    presets={"story": {"training.epochs": 20}, "quick": {"training.epochs": 40}},
    cost=FeatureExtractionCost(),
    explore_first="training.epochs",
)
