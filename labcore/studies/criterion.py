"""A criterion by which methods are compared: what it measures, which words it has for that, and how it is shown.

One record is a column of the table on Compare, with its rule and its heading, and a mark on each method's card. Which
criteria there are stands in labcore/studies/criteria.py; what the literature says of a method by each of them stands in
the method's `about` file. No torch here: pages read this module.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from labcore.configs.registry import ABOUT
from labcore.configs.verdicts import Mark
from labcore.studies.experiments import Findings
from labcore.studies.measures import MEASURES, with_sd

Against = Literal["best", "fine_tuning", "own"]


class Word(NamedTuple):
    """A word for a figure, what it means on the scale that all criteria share, and the highest figure that gets it."""

    word: str
    mark: Mark
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One column of the table, and one mark on a card.

    Methods are rated under its `name`, which also stands beside the mark. `title` heads the column, and `asks` says
    what it is about in a list of all criteria.

    The word comes from the mean over seeds of `measure`, which is a name in `MEASURES`. `words` stand from the best on,
    and `against` says what their limits are limits of: "best" of how far the mean is from the best in the table,
    "fine_tuning" of how many times fine-tuning's it is, "own" of the mean itself. `rule` says the same to a person. The
    literature's word agrees where both have the same mark.

    `figure` writes what was measured of an arm by its label; without it the measure's mean is written, with its unit.
    `computed` are sentences for those who want to know how. `width` is the column's share, by that of others.

    Nobody gets a lesser word for what may be chance: a mean is beyond a limit only where it is so by more than its own
    standard deviation over seeds. Before all are measured there is no word for the distance from the best.

    `chance` tells instead within which two figures an arm lies by chance alone. Arms whose ranges meet, be it by way of
    others, get one word: fine-tuning's where that is among them, or else that of the least. While there is no word,
    `waits` stands in its place.

    Raises ValueError with a sentence where these do not fit each other.
    """

    name: str
    title: str
    asks: str
    measure: str
    rule: str
    words: tuple[Word, ...]
    against: Against
    figure: Callable[[Findings, str], str] | None = None
    computed: str = ""
    chance: Callable[[Findings, str], tuple[float, float] | None] | None = None
    waits: str = ""
    width: int = 13

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise ValueError(f"the criterion's measure is {self.measure!r}; allowed: {', '.join(MEASURES)}")
        if self.against not in get_args(Against):
            raise ValueError(f"the criterion is against {self.against!r}; allowed: {', '.join(get_args(Against))}")
        limits = [word.limit for word in self.words]
        if not limits or limits != sorted(limits) or limits[-1] < float("inf"):
            raise ValueError("the limits of the criterion's words must rise, and the last must be float('inf')")

    def word(self, findings: Findings, label: str) -> Word | None:
        """The word for an arm by its label, from means over seeds; None while a figure that it needs is missing."""
        value = self._compared(findings, label)
        return None if value is None else next(word for word in self.words if value <= word.limit + 1e-9)

    def _compared(self, findings: Findings, label: str) -> float | None:
        """What is compared with the limits: the figure, in the arm's favour by as much as may be chance."""
        figure = self._figure(findings, label)
        if figure is None:
            return None
        if self.chance is None:
            doubt = findings.spread(label, self.measure).sd or 0.0
            figure += doubt if MEASURES[self.measure].more else -doubt
        if self.against == "own":
            return figure
        if self.against == "fine_tuning":
            base = self._figure(findings, ABOUT["fine_tuning"].title)
            return figure / base if base else None
        figures = [self._figure(findings, arm.label) for arm in findings.experiment.arms]
        known = [other for other in figures if other is not None]
        if len(known) < len(figures):  # one of the others may be the best
            return None
        return max(known) - figure if MEASURES[self.measure].more else figure - min(known)

    def _figure(self, findings: Findings, label: str) -> float | None:
        """An arm's mean, or that of the one arm that stands for all from which it differs by chance alone."""
        if self.chance is None:
            return findings.spread(label, self.measure).mean
        alike, base = self._alike(findings, label), ABOUT["fine_tuning"].title
        if base in alike:
            return findings.spread(base, self.measure).mean
        means = (findings.spread(other, self.measure).mean for other in alike)
        return min((mean for mean in means if mean is not None), default=None)

    def _alike(self, findings: Findings, label: str) -> set[str]:
        """The arms whose ranges meet this one's, be it by way of others, and itself; none where it has no range."""
        ranges: list[tuple[float, float, str]] = []
        for arm in findings.experiment.arms:
            found = self.chance(findings, arm.label) if self.chance else None
            if found is not None:
                ranges.append((*found, arm.label))
        alike: set[str] = set()
        highest = float("-inf")
        for low, high, name in sorted(ranges):
            if low > highest:
                if label in alike:
                    break
                alike = set()
            alike.add(name)
            highest = max(highest, high)
        return alike if label in alike else set()

    def written(self, findings: Findings, label: str) -> str:
        """What was measured of an arm by its label, over its seeds; nothing while nothing was."""
        spread = findings.spread(label, self.measure)
        if spread.mean is None:
            return ""
        return self.figure(findings, label) if self.figure else with_sd(spread, MEASURES[self.measure].unit)
