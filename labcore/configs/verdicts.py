"""What the literature says of each method before anything is measured: six marks, by the article's six criteria.

For the methods that Li & Hoiem compare (arXiv 1606.09282, table 1, which the article takes up) the words are theirs;
for the others they follow from the method's definition and its paper, and say so; their marks are on the scale of the
table, on which one network for all jobs is medium. The lab's own figures stand beside them on Compare, and may differ.
No torch here.
"""

from dataclasses import dataclass
from typing import Literal

CRITERIA = ("new", "old", "train", "test", "memory", "old data")
Mark = Literal["good", "medium", "poor"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A word and a mark for each of `CRITERIA`, in their order; `compared`: by Li & Hoiem's table."""

    words: tuple[str, str, str, str, str, str]
    marks: tuple[Mark, Mark, Mark, Mark, Mark, Mark]
    compared: bool

    @property
    def source(self) -> str:
        """Where the words come from, as a page says it."""
        return "as the LwF paper's table has it" if self.compared else "from its paper and definition"


VERDICTS: dict[str, Verdict] = {
    "feature_extraction": Verdict(
        ("medium", "good", "fast", "fast", "medium", "not needed"),
        ("medium", "good", "good", "good", "medium", "good"),
        compared=True,
    ),
    "fine_tuning": Verdict(
        ("good", "bad", "fast", "fast", "medium", "not needed"),
        ("good", "poor", "good", "good", "medium", "good"),
        compared=True,
    ),
    "separate_copies": Verdict(
        ("good", "good", "fast", "slow", "large", "not needed"),
        ("good", "good", "good", "poor", "poor", "good"),
        compared=True,
    ),
    "joint": Verdict(
        ("best", "good", "slow", "fast", "large", "needed"),
        ("good", "good", "poor", "good", "poor", "poor"),
        compared=True,
    ),
    "lwf": Verdict(
        ("best", "good", "fast", "fast", "medium", "not needed"),
        ("good", "good", "good", "good", "medium", "good"),
        compared=True,
    ),
    "ewc": Verdict(
        ("good", "medium", "fast", "fast", "three times", "not needed"),
        ("good", "medium", "good", "good", "poor", "good"),
        compared=False,
    ),
    "packnet": Verdict(
        ("good until it is full", "unchanged", "twice as long", "fast", "a byte a weight", "not needed"),
        ("medium", "good", "medium", "good", "medium", "good"),
        compared=False,
    ),
    "piggyback": Verdict(
        ("good", "unchanged", "many steps", "fast", "a bit a weight a job", "not needed"),
        ("good", "good", "medium", "good", "medium", "good"),
        compared=False,
    ),
}
