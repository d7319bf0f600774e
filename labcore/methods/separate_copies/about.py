"""Separate copies, as far as they can be told without torch."""

from typing import TYPE_CHECKING, ClassVar, Literal

from labcore.configs.method import About
from labcore.configs.verdicts import Verdict
from labcore.methods.shared.settings import TrainsTrunkConfig, TrainsTrunkCost

if TYPE_CHECKING:
    from labcore.configs.run import RunConfig


class SeparateCopiesConfig(TrainsTrunkConfig):
    """The trunk of a copy may move more slowly than its head, and its first blocks may stay as they are."""

    name: Literal["separate_copies"] = "separate_copies"


class SeparateCopiesCost(TrainsTrunkCost):
    """Every stage begins where the run began, and a whole trunk is put aside for every task."""

    keeps_answers: ClassVar[bool] = True

    def is_fresh(self, run: "RunConfig", stage: int) -> bool:
        """Always, because every stage is a first stage."""
        return run.backbone.start != "pretrained"

    def bytes_a_weight(self, run: "RunConfig") -> float:
        """A float32 number for each task."""
        return 4 * len(run.tasks)


ABOUT = About(
    name="separate_copies",
    title="Separate copies",
    idea="Trains a copy of the starting network for every job.",
    facts=("forgets nothing", "keeps a whole network a job"),
    settings=SeparateCopiesConfig,
    learner="SeparateCopies",
    group="article",
    place=3,
    verdict=Verdict(
        {
            "new": ("good", "good"),
            "old": ("good", "good"),
            "train": ("fast", "good"),
            "test": ("slow", "poor"),
            "memory": ("large", "poor"),
            "old data": ("not needed", "good"),
        },
        compared=True,
    ),
    cost=SeparateCopiesCost(),
    kept_a_job=("copies",),
)
