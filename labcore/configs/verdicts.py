"""What the literature says of a method before anything is measured: a word and a mark by each criterion that it rates.

Each method tells its own verdict in its `about` file. For the methods that Li & Hoiem compare (arXiv 1606.09282, table
1, which the article takes up) the words are theirs; for the others they follow from the method's definition and its
paper, and say so; their marks are on the scale of the table, on which one network for all jobs is medium. The lab's own
figures stand beside them on Compare, and may differ. Which criteria there are stands in labcore/studies/criteria.py. No
torch here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Mark = Literal["good", "medium", "poor"]

# The article that the lab measures after. It was written for Viblo; this is its English version.
ARTICLE = "How to use a model for a variety of tasks"
ARTICLE_AT = "https://itzone.com.vn/en/article/how-to-use-a-model-for-a-variety-of-tasks/"


class Rating(NamedTuple):
    """The literature's word for a method by one criterion, and its mark; the mark is None where nobody rated it."""

    word: str
    mark: Mark | None


NOT_RATED = Rating("not rated", None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The ratings of a method, by the names of the criteria; it may leave out any, which then is not rated.

    Where `compared` is true, the words are those of Li & Hoiem's table.
    """

    ratings: Mapping[str, tuple[str, Mark]] = field(default_factory=dict)
    compared: bool = False

    def of(self, criterion: str) -> Rating:
        """What the literature says by this criterion, or `NOT_RATED`."""
        return Rating(*self.ratings.get(criterion, NOT_RATED))

    @property
    def source(self) -> str:
        """Where the words come from, as a page says it."""
        if not self.ratings:
            return "nobody has said what to expect"
        return "as the LwF paper's table has it" if self.compared else "from its paper and definition"


UNRATED = Verdict()
