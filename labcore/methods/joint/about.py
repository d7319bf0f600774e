"""Joint training, as far as it can be told without torch."""

from typing import Literal

from labcore.configs.method import About, Cost, MethodConfig
from labcore.configs.verdicts import Verdict


class JointConfig(MethodConfig):
    """There is nothing to set: all pictures count alike."""

    name: Literal["joint"] = "joint"


class JointCost(Cost):
    """Every stage reads the pictures of all tasks so far."""

    def tasks_read(self, stage: int) -> range:
        """All tasks from the first to the stage's own."""
        return range(1, stage + 1)


ABOUT = About(
    name="joint",
    title="Joint training",
    idea="Trains on the pictures of all jobs together, the old ones and the new.",
    facts=("forgets little", "needs all old pictures"),
    settings=JointConfig,
    learner="Joint",
    group="article",
    place=4,
    verdict=Verdict(
        {
            "new": ("best", "good"),
            "old": ("good", "good"),
            "train": ("slow", "poor"),
            "test": ("fast", "good"),
            "memory": ("large", "poor"),
            "old data": ("needed", "poor"),
        },
        compared=True,
    ),
    cost=JointCost(),
    kept_a_job=("old images",),
    explore_first="training.epochs",
)
