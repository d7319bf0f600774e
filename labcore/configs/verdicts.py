"""What the literature says of a method before anything is measured: six marks, by the article's six criteria.

Each method tells its own verdict in its `about` file. For the methods that Li & Hoiem compare (arXiv 1606.09282, table
1, which the article takes up) the words are theirs; for the others they follow from the method's definition and its
paper, and say so; their marks are on the scale of the table, on which one network for all jobs is medium. The lab's own
figures stand beside them on Compare, and may differ. No torch here.
"""

from dataclasses import dataclass
from typing import Literal

CRITERIA = ("new", "old", "train", "test", "memory", "old data")
Mark = Literal["good", "medium", "poor"]
_Six = tuple[str, str, str, str, str, str]
_SixMarks = tuple[Mark | None, Mark | None, Mark | None, Mark | None, Mark | None, Mark | None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A word and a mark for each of `CRITERIA`, in their order; a mark is None where nobody has rated the method.

    Where `compared` is true, the words are those of Li & Hoiem's table.
    """

    words: _Six
    marks: _SixMarks
    compared: bool = False

    @property
    def source(self) -> str:
        """Where the words come from, as a page says it."""
        if self == UNRATED:
            return "nobody has said what to expect"
        return "as the LwF paper's table has it" if self.compared else "from its paper and definition"


UNRATED = Verdict(
    ("not rated", "not rated", "not rated", "not rated", "not rated", "not rated"),
    (None, None, None, None, None, None),
)
