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

HEIGHT = 240  # the height of a chart, in px
ABOVE = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}  # where a chart's legend stands


@dataclass(frozen=True, slots=True)
class RunSeen:
    """A run at a moment, with its ID and what it is called on a page."""

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
    """A chart under a title; `missing` is said in its place where there is none, and `note` below it to those who ask.

    A page keeps one chart for each `key`: the next map that uses the key changes the chart rather than drawing a new
    one.
    """

    key: str
    title: str
    make: Callable[[], Chart | None]
    missing: str = "Not known yet."
    note: str = ""
    height: int = HEIGHT


@dataclass(frozen=True, slots=True)
class Pictures:
    """A weight map of every run under one title; `make` gives that of a run, or a sentence why there is none."""

    title: str
    make: Callable[[View], Picture | str]


@dataclass(frozen=True, slots=True)
class Figures:
    """A few figures under a title, each with what it is and how much, or a sentence in their place."""

    title: str
    cells: Mapping[str, str] = field(default_factory=dict)
    sentence: str = ""


Piece = ChartPiece | Pictures | Figures
Panel = Sequence[Piece]  # pieces below each other, in one place of the row


def titled(text: str) -> dict[str, Any]:
    """The title of an axis, as Plotly has it."""
    return {"title": {"text": text, "font": {"size": 12}}}
