"""A run's maps, moment by moment: which there are, what a person calls them, and their arrays as they are asked for.

A `Book` opens the files of a run as they are needed; a `View` is a run at one moment. No torch, no Streamlit.
"""

from bisect import bisect_right
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labcore.runs import map_files
from labcore.runs.events import MapSaved
from labcore.runs.map_files import Layer, MapError, MapFile
from labcore.runs.results import AccuracyPoint, Fold

MOST_FILES = 64  # whose directories a book knows
MOST_SHOWN = 60  # moments that a page goes through, and over which it has one scale
MOST_SPANS = 4096  # of which a book knows the smallest and the largest number
Span = tuple[float, float]


def name_of(moment: MapSaved) -> str:
    """A moment in an address: `2.550`."""
    return f"{moment.stage}.{moment.step}"


def share_done(fold: Fold, moment: MapSaved) -> float:
    """How much of its stage was done, 0 to 1."""
    stage = fold.stages[moment.stage - 1]
    if moment.kind == "stage":
        return 1.0
    place = bisect_right(fold.accuracy, (moment.stage, moment.step), key=_when)  # a page asks of all moments
    around = [point for point in fold.accuracy[max(0, place - 2) : place + 1] if point.stage == moment.stage]
    if not around:
        return 0.0
    # Maps may be drawn between two looks or after the last, and steps are alike: so many images lie in between.
    one, other = (around * 2)[:2] if len(around) < 2 else around[-2:]
    steps = other.step - one.step
    pace = (other.images_seen - one.images_seen) / steps if steps else 0.0
    seen = one.images_seen + pace * (moment.step - one.step)
    return float(np.clip((seen - stage.first_image) / max(1, stage.images), 0, 1))


def _when(point: AccuracyPoint) -> tuple[int, int]:
    return point.stage, point.step


def words_of(fold: Fold, moment: MapSaved) -> str:
    """`after Clothes`, or `learning Clothes, 40 %`."""
    title = fold.tasks[moment.stage - 1].title
    return f"after {title}" if moment.kind == "stage" else f"learning {title}, {100 * share_done(fold, moment):.0f} %"


def tied(fold: Fold, other: Fold, moment: MapSaved) -> MapSaved | None:
    """The other run's moment that is as far: in the same stage, or its last; None where it has none."""
    if not other.maps:
        return None
    share = share_done(fold, moment)
    reached = [m for m in other.maps if m.stage <= moment.stage] or [other.maps[0]]
    same = [m for m in reached if m.stage == moment.stage]
    return min(same, key=lambda m: abs(share_done(other, m) - share)) if same else reached[-1]


class Book:
    """A run's maps, read as they are asked for; one file at a time stays open. Missing files hold nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, MapFile | None] = {}
        self._open: MapFile | None = None
        self._read: dict[tuple[str, str], np.ndarray] = {}
        self._layers: list[Layer] = []  # they are the same in all of a run's maps
        self._worked_out: dict[Hashable, Span | None] = {}
        self.trouble = ""

    def _file(self, moment: MapSaved) -> MapFile | None:
        path = moment.path
        if path not in self._files:
            try:
                if not map_files.PATH.fullmatch(path):
                    raise MapError("An event of this run names a map that is none of its own.")
                self._files[path] = MapFile(self.folder / path)
            except MapError as error:
                self._files[path], self.trouble = None, str(error)
            self._leave_open(self._files[path])
        while len(self._files) > MOST_FILES:
            self._files.pop(next(iter(self._files)))
        return self._files.get(path)

    def _leave_open(self, opened: MapFile | None) -> None:
        """This one alone: what is read next most likely is of the same moment."""
        if self._open is not None and self._open is not opened:
            self._open.close()
        self._open = opened

    def read(self, moment: MapSaved, name: str) -> np.ndarray | None:
        """An array of this moment; None where it has none of the name, or cannot be read."""
        key = moment.path, name
        if key in self._read:
            return self._read[key]
        opened = self._file(moment)
        if opened is None or name not in opened:
            return None
        self._leave_open(opened)
        try:
            self._read[key] = opened.read(name)
        except MapError as error:
            self.trouble = str(error)
            return None
        while len(self._read) > 8 * MOST_FILES:
            self._read.pop(next(iter(self._read)))
        return self._read[key]

    def span(self, what: Hashable, make: Callable[[], np.ndarray | None]) -> Span | None:
        """The smallest and the largest of what `make` gives, which is asked only once; None where there is nothing."""
        if what not in self._worked_out:
            values = make()
            known = np.zeros(0) if values is None else values[np.isfinite(values)]
            self._worked_out[what] = (float(known.min()), float(known.max())) if known.size else None
            while len(self._worked_out) > MOST_SPANS:
                self._worked_out.pop(next(iter(self._worked_out)))
        return self._worked_out[what]

    def layers(self, moment: MapSaved) -> list[Layer]:
        """The network's layers; none where the file cannot be read."""
        opened = self._file(moment)
        if opened is None:
            return []
        self._leave_open(opened)
        try:
            self._layers = self._layers or map_files.layers(opened)
        except MapError as error:
            self.trouble = str(error)
        return self._layers

    def last(self, moments: Sequence[MapSaved], name: str, stage: int | None = None) -> MapSaved | None:
        """The last of these moments (of a stage) that holds the array."""
        for moment in reversed(moments):
            if stage is None or moment.stage == stage:
                opened = self._file(moment)
                if opened is not None and name in opened:
                    return moment
            elif moment.stage < stage:
                break
        return None


@dataclass(frozen=True, slots=True)
class View:
    """A run at a moment: all that figures need. `until` are its moments up to this one, which is the last."""

    book: Book
    fold: Fold
    until: list[MapSaved]
    layers: list[Layer]

    @property
    def moment(self) -> MapSaved:
        """The moment looked at."""
        return self.until[-1]

    @property
    def titles(self) -> list[str]:
        """All tasks' names on a page."""
        return [task.title for task in self.fold.tasks]

    def span(self, what: Hashable, read: "Callable[[View], np.ndarray | None]") -> Span | None:
        """The smallest and the largest number that `read` finds at any moment of the whole run; None where none.

        `what` names what is read. A long run is looked at here and there: see `album`.
        """
        found = []
        for moment in album(self.fold.maps):
            one = View(self.book, self.fold, _until(self.fold, moment), self.layers)
            found.append(self.book.span((what, moment.path), lambda one=one: read(one)))  # type: ignore[misc]
        known = [span for span in found if span is not None]
        return (min(low for low, _ in known), max(high for _, high in known)) if known else None

    def role(self, place: int) -> str:
        """What a person calls a layer, by its place in the network and how much of the picture it sees."""
        sees, started = self.layers[place].sees, self.fold.started
        what = ""
        if sees and started is not None:
            whole = sees >= started.config.backbone.image_size
            what = ": sees up to the whole picture" if whole else f": sees patches of {sees} × {sees} pixels"
        return f"layer {place + 1} of {len(self.layers)}{what}"

    def read(self, name: str) -> np.ndarray | None:
        """An array of the moment itself."""
        return self.book.read(self.moment, name)

    def recent(self, name: str, stage: int | None = None) -> np.ndarray | None:
        """An array as it was last said."""
        moment = self.book.last(self.until, name, stage)
        return None if moment is None else self.book.read(moment, name)


def album(maps: Sequence[MapSaved], keep: str = "", most: int = MOST_SHOWN) -> list[MapSaved]:
    """At most so many of a run's moments, spread over the whole of it: the first, the last, and that named `keep`."""
    found = list(maps)
    while len(found) > most:
        found = [moment for place, moment in enumerate(found) if not place % 2 or moment is maps[-1]]
    if not keep or len(found) == len(maps):
        return found
    there = [moment for moment in maps if name_of(moment) == keep and moment not in found]
    return sorted([*found, *there], key=_place)


def _place(moment: MapSaved) -> tuple[int, int, bool]:
    """A moment's place in time; a stage's end comes after what is live at the same step."""
    return moment.stage, moment.step, moment.kind == "stage"


def view(book: Book, fold: Fold, moment: MapSaved) -> View | None:
    """The run at this moment; None where its files are not readable."""
    until, layers = _until(fold, moment), book.layers(moment)
    return View(book, fold, until, layers) if layers and until else None


def _until(fold: Fold, moment: MapSaved) -> list[MapSaved]:
    """The run's moments up to this one."""
    return fold.maps[: bisect_right(fold.maps, (moment.stage, moment.step), key=lambda m: (m.stage, m.step))]
