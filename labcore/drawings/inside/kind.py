"""A kind of map: what it is read from, how it is drawn, and which words go with it. One record tells all of this.

A new kind needs only a record, in this folder or in the `maps.py` of the method that brings it along.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from labcore.drawings.charts import Chart
from labcore.drawings.inside.layer import Panel, Shown
from labcore.drawings.inside.overview import Drawing, Overview, Scale, overview
from labcore.runs.moments import View


@dataclass(frozen=True, slots=True)
class Words:
    """A kind of map: its `name` on the switch, the `question` it answers, the field's `term`, what to `look` for.

    A term that is explained has its explanation behind `=`. `formula` says how it is computed, and `explained` says in
    two phrases what is seen in the drawing of the whole network.
    """

    name: str
    question: str
    term: str
    look: str
    formula: str
    explained: tuple[str, str]

    @property
    def caption(self) -> str:
        """What is seen in the drawing of the whole network, as two sentences."""
        return " ".join(f"{phrase[:1].upper()}{phrase[1:]}." for phrase in self.explained)

    @property
    def quantity(self) -> str:
        """What is measured, in the field's words: the term without its explanation."""
        return self.term.partition(" = ")[0]


@dataclass(frozen=True, slots=True)
class MapKind:
    """How a kind of map is made, drawn and worded.

    name       of the kind in an address
    place      on the switch: the smaller, the farther to the left; the common kinds have 10, 20, … 60
    needs      arrays: a run has this kind where at some moment it has one of them
    read       the whole network's numbers out of a run at a moment
    drawing    how they become a chart
    layer      the two panels that one layer has beside the words
    below      a row of further panels, where there are any
    jobs       which tasks a layer can be asked about: all so far, beginning with the latest; those before the one that
               is being learnt, beginning with the first; or none, as the map speaks of all at once
    gauge      HTML beside the choice of a layer
    remark     a sentence on what of a run is missing, or nothing
    leads      whether it is the one shown first where a run has it
    """

    name: str
    place: int
    words: Words
    needs: Sequence[str]
    read: Callable[[View], Overview]
    drawing: Drawing
    layer: Callable[[Shown], tuple[Panel, Panel]]
    below: Callable[[Shown], Sequence[Panel]] | None = None
    jobs: Literal["so far", "earlier", "none"] = "none"
    gauge: Callable[[View], str] | None = None
    remark: Callable[[View], str] | None = None
    leads: bool = False

    def overview(self, info: Overview, scale: Scale, *, chosen: int | None = None, named: bool = True) -> Chart:
        """Draw the whole network as a chart; see `overview.overview`."""
        return overview(self.drawing, info, scale, chosen=chosen, named=named)

    def tasks(self, seen: View) -> range:
        """The tasks that a layer can be asked about at a moment: at least the first."""
        return range(1, 1 + (seen.moment.stage if self.jobs == "so far" else max(1, seen.moment.stage - 1)))

    def task(self, seen: View) -> int:
        """The one of them that is shown where nobody has chosen."""
        return self.tasks(seen)[0 if self.jobs == "earlier" else -1]
