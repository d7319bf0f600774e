"""The criteria that there are: the article's, and those that other packages announce as `reuse_lab.criteria`.

Each is a `labcore.studies.criterion.Criterion`. The columns of the table on Compare, the words in it, the rules below
it and the marks on the methods' cards are made from these records, in their order. No torch here: pages read this
module.
"""

import functools
from typing import Any

from labcore import plugins
from labcore.configs.registry import ABOUT
from labcore.studies.criterion import Criterion, Word
from labcore.studies.experiments import Findings
from labcore.studies.measures import percents, with_sd

_ANY = float("inf")


def _old_jobs(findings: Findings, label: str) -> str:
    was = findings.spread(label, "old_learnt").mean
    return f"{percents(findings.spread(label, 'old'))}, was {100 * (was or 0):.0f}"


def _answer_range(findings: Findings, label: str) -> tuple[float, float] | None:
    """The means over seeds of the quartiles of an arm's rounds; None until all runs were timed in turn."""
    if not findings.timed_in_turn:
        return None
    found = [cell.finished.in_turn.middle for cell in findings.of(label) if cell.finished and cell.finished.in_turn]
    known = [middle for middle in found if middle is not None]
    if not known:
        return None
    low, high = (sum(ends) / len(known) for ends in zip(*known, strict=True))
    return low, high


def _answer_time(findings: Findings, label: str) -> str:
    written = with_sd(findings.spread(label, "test_ms"), "ms")
    middle = _answer_range(findings, label)
    return written if middle is None else f"{written} ({middle[0]:.1f} to {middle[1]:.1f})"


ARTICLES = (
    Criterion(
        name="new",
        title="new job",
        asks="the new job",
        measure="new",
        rule="best: within 1 point of the highest in this table; good: within 5; medium: within 15; bad: further below",
        words=(
            Word("best", "good", 0.01),
            Word("good", "good", 0.05),
            Word("medium", "medium", 0.15),
            Word("bad", "poor", _ANY),
        ),
        against="best",
        waits="known once all are measured",
        figure=lambda findings, label: percents(findings.spread(label, "new")),
        computed="*New job* is the mean of `R[k, k]` over the jobs after the first.",
        width=12,
    ),
    Criterion(
        name="old",
        title="old jobs",
        asks="the old jobs",
        measure="forgetting",
        rule="good: it lost at most 2 points of what it once knew of the earlier jobs; medium: at most 10; bad: more",
        words=(Word("good", "good", 0.02), Word("medium", "medium", 0.10), Word("bad", "poor", _ANY)),
        against="own",
        figure=_old_jobs,
        computed="*Old jobs* is the mean of the last row over the earlier jobs, and what it was is the mean of their "
        "`R[k, k]`.",
        width=18,
    ),
    Criterion(
        name="train",
        title="time to learn",
        asks="time to train",
        measure="train_seconds",
        rule="fast: at most 1.25 times as long as fine-tuning; medium: at most twice as long; slow: longer",
        words=(Word("fast", "good", 1.25), Word("medium", "medium", 2.0), Word("slow", "poor", _ANY)),
        against="fine_tuning",
        computed="Times of stages that several runs share are those measured when they were trained.",
        width=12,
    ),
    Criterion(
        name="test",
        title="time to answer",
        asks="time to answer",
        measure="test_ms",
        rule="for one job that is named, as the lab always asks. fast: at most 1.25 times as long as fine-tuning; "
        "medium: at most twice as long; slow: longer. Only figures that were timed in turn are compared, and methods "
        "whose ranges meet get the same word. The article asks for all jobs at once, so that every copy has to answer",
        words=(Word("fast", "good", 1.25), Word("medium", "medium", 2.0), Word("slow", "poor", _ANY)),
        against="fine_tuning",
        figure=_answer_time,
        computed="*Time to answer* is the median of the rounds in which all runs answered in turn, and its range "
        "reaches from the rounds' lower to their upper quartile; over several seeds these are means.",
        chance=_answer_range,
        waits="not compared yet",
    ),
    Criterion(
        name="memory",
        title="memory",
        asks="memory",
        measure="bytes",
        rule="what is kept to answer all jobs and learn another. medium: up to 1.5 times fine-tuning's, which keeps "
        "one network and a head for each job; large: more. As in the article nothing is small, as every method keeps a "
        "network",
        words=(Word("medium", "medium", 1.5), Word("large", "poor", _ANY)),
        against="fine_tuning",
        width=14,
    ),
    Criterion(
        name="old data",
        title="old pictures",
        asks="whether old pictures are needed",
        measure="old_data",
        rule="whether any later stage read pictures of earlier jobs",
        words=(Word("not needed", "good", 0.0), Word("needed", "poor", _ANY)),
        against="own",
        figure=lambda findings, label: "read again" if findings.spread(label, "old_data").mean else "never read again",
        width=14,
    ),
)


@functools.cache
def criteria() -> dict[str, Criterion]:
    """All criteria by name, in the order of the columns.

    What another package announces and cannot be used, and what a method says by a criterion that is not there, is told
    in a sentence (`labcore.plugins.problems`), and the lab goes on without it.
    """
    found = {criterion.name: criterion for criterion in ARTICLES}
    found |= plugins.load("reuse_lab.criteria", _accepted, taken=tuple(found))
    for about in ABOUT.values():
        for name in about.verdict.ratings.keys() - found.keys():
            why = ValueError(f"no criterion has this name; there are {', '.join(found)}")
            plugins.leave_out(f"What the method {about.name!r} says by {name!r} is", why)
    return found


def _accepted(name: str, announced: Any) -> Criterion:
    """Take what another package announces as a criterion. Raises TypeError or ValueError where it is none."""
    if not isinstance(announced, Criterion):
        raise TypeError(f"it is no labcore.studies.criterion.Criterion but of type {type(announced).__name__}")
    if announced.name != name:
        raise ValueError(f"the criterion calls itself {announced.name!r}")
    return announced
