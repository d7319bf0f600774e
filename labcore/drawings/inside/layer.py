"""What is shown of one layer: pieces in a row, each a chart, a weight map of every run, or a few figures.

A kind of map says which pieces they are; a page lays them out without knowing any of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labcore.drawings.charts import Chart
from labcore.drawings.inside.pictures import Picture
from labcore.runs.map_files import Layer
from labcore.runs.moments import View

HEIGHT = 300  # px of a chart
ABOVE = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}  # where a chart's legend stands


@dataclass(frozen=True, slots=True)
class RunSeen:
    """A run at a moment: its ID, and what it is called on a page."""

    run: str
    name: str
    seen: View


@dataclass(frozen=True, slots=True)
class Shown:
    """One layer, by its number, in one run or in several beside each other, and the task that is asked about."""

    runs: Sequence[RunSeen]
    place: int
    task: int

    @property
    def first(self) -> View:
        """The run that the page is about."""
        return self.runs[0].seen

    @property
    def layer(self) -> Layer:
        """The layer, which all of these runs have."""
        return self.first.layers[self.place]


@dataclass(frozen=True, slots=True)
class ChartPiece:
    """A chart under a title; `missing` is said in its place where there is none, `note` below it to who asks.

    A page keeps one chart a `key`: the next map that uses it changes the chart rather than drawing a new one.
    """

    key: str
    title: str
    make: Callable[[], Chart | None]
    missing: str = "Not known yet."
    note: str = ""
    height: int = HEIGHT


@dataclass(frozen=True, slots=True)
class Pictures:
    """A weight map of every run under one title; `make` gives a run's, or the sentence why it has none."""

    title: str
    make: Callable[[View], Picture | str]


@dataclass(frozen=True, slots=True)
class Figures:
    """A few figures under a title, what it is and how much, or in their place a sentence."""

    title: str
    cells: Mapping[str, str] = field(default_factory=dict)
    sentence: str = ""


Piece = ChartPiece | Pictures | Figures
Panel = Sequence[Piece]  # below each other, in one place of the row


def titled(text: str) -> dict[str, Any]:
    """The title of an axis."""
    return {"title": {"text": text, "font": {"size": 12}}}
