"""Fine-tuning, as far as it can be told without torch."""

from typing import Any, Literal

from labcore.configs.method import BASE, About
from labcore.configs.verdicts import Verdict
from labcore.methods.shared.settings import TrainsTrunkConfig, TrainsTrunkCost


class FineTuningConfig(TrainsTrunkConfig):
    """The trunk may move more slowly than the head, and its first blocks may stay as they are."""

    name: Literal["fine_tuning"] = "fine_tuning"

    def stage_config(self, stage: int, stages: int) -> dict[str, Any]:
        """`BASE` for every stage, as long as the whole trunk moves and does so at full speed."""
        plain = self.trunk_lr_scale == 1 and self.frozen_blocks == 0
        return BASE if plain else super().stage_config(stage, stages)


ABOUT = About(
    name="fine_tuning",
    title="Fine-tuning",
    idea="Goes on training the whole network on the new job.",
    facts=("forgets old jobs", "keeps one network"),
    settings=FineTuningConfig,
    learner="FineTuning",
    group="article",
    place=2,
    verdict=Verdict(
        {
            "new": ("good", "good"),
            "old": ("bad", "poor"),
            "train": ("fast", "good"),
            "test": ("fast", "good"),
            "memory": ("medium", "medium"),
            "old data": ("not needed", "good"),
        },
        compared=True,
    ),
    cost=TrainsTrunkCost(),
    explore_first="training.learning_rate",
)
