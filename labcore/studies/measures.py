"""Measures: figures of a finished run, their mean and spread over seeds, how sure a difference is. No torch here.

Sources: intransigence, Chaudhry et al. 2018 (arXiv 1801.10112); the others are named in labcore/runs/results.py.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from labcore.configs.units import size
from labcore.runs.results import Fold, Matrix, RunResult
from labcore.studies.answer_times import InTurn

# ---------------------------------------------------------------------------------------------------------------------
# What a finished run shows
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """In the last stage: accuracy on its task, after so many of its steps and of its seconds of training."""

    steps: float
    seconds: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Finished:
    """A complete run: its result, and where asked for the learning curve of its last stage.

    `in_turn` is how its answers were timed in turn with those of other runs, where they were.
    """

    run: str
    result: RunResult
    curve: tuple[CurvePoint, ...] = ()
    in_turn: InTurn | None = None

    @property
    def answer_ms(self) -> float | None:
        """Milliseconds an answer: as timed in turn with the other runs, or else as the run timed itself."""
        return self.result.test_ms_per_image if self.in_turn is None else self.in_turn.median


def wilson(share: float, count: int) -> tuple[float, float]:
    """Between which shares the truth lies, with 95 % confidence, where `share` (0 to 1) of `count` pictures were right.

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference, JASA 22, eq. for the
    interval of a proportion, with z = 1.96.
    """
    z = 1.96
    spread = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    return max(0.0, middle - spread), min(1.0, middle + spread)


Unit = Literal["%", "s", "ms", "bytes", "Wh", "g", "steps"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a finished run; `%` are fractions of 1. `more` says whether more is better."""

    title: str
    unit: Unit
    more: bool
    formula: str
    read: Callable[[Finished], float | None]


def _mean(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return sum(v for v in known if v is not None) / len(known) if known and None not in known else None


def diagonal(matrix: Matrix) -> tuple[float | None, ...]:
    """R[k, k]: each task right after it was learnt."""
    return tuple(row[k] for k, row in enumerate(matrix))


def new_accuracy(matrix: Matrix) -> float | None:
    """Mean of R[k, k] over the tasks after the first, or of the only one."""
    values = diagonal(matrix)
    return _mean(values[1:] or values)


def old_accuracy(matrix: Matrix) -> float | None:
    """Mean of R[K, k] over the earlier tasks; None where there are none."""
    return _mean(matrix[-1][:-1]) if len(matrix) > 1 else None


def old_learnt(matrix: Matrix) -> float | None:
    """Mean of R[k, k] over the earlier tasks: what `old_accuracy` once was."""
    return _mean(diagonal(matrix)[:-1]) if len(matrix) > 1 else None


ByTask = tuple[float | None, ...]  # a figure for each task in order; None where it cannot be told


def intransigence(result: RunResult, joint: RunResult) -> ByTask:
    """I_k = a*_k − R[k, k] with a*_k the accuracy of joint training on tasks 1…k: Chaudhry et al. 2018, eq. 4."""
    return _gap(joint, result)


def gap_to_copies(result: RunResult, copies: RunResult) -> ByTask:
    """What a separate network for task k reaches, less R[k, k]. Not intransigence: its reference saw one task only."""
    return _gap(copies, result)


def _gap(reference: RunResult, result: RunResult) -> ByTask:
    pairs = zip(diagonal(reference.accuracy_matrix), diagonal(result.accuracy_matrix), strict=False)
    return tuple(None if a is None or b is None else a - b for a, b in pairs)


@dataclass(frozen=True, slots=True)
class Reference:
    """A measure that is taken against another method's run on the same jobs and seed, as its definition says.

    `gap` takes the result that is measured first, and the reference's second.
    """

    title: str
    method: str
    gap: Callable[[RunResult, RunResult], ByTask]


REFERENCES = (
    Reference("intransigence (against joint training)", "joint", intransigence),
    Reference("gap to separate copies", "separate_copies", gap_to_copies),
)


def crossing(curve: Sequence[CurvePoint], level: float) -> tuple[float, float] | None:
    """Steps and seconds at which the curve, straight between its points, first reaches a level; None: it never did."""
    for before, point in zip([None, *curve], curve, strict=False):
        if point.accuracy >= level:
            if before is None or point.accuracy == before.accuracy:
                return point.steps, point.seconds
            share = (level - before.accuracy) / (point.accuracy - before.accuracy)
            return (
                before.steps + share * (point.steps - before.steps),
                before.seconds + share * (point.seconds - before.seconds),
            )
    return None


def last_stage_curve(fold: Fold) -> tuple[CurvePoint, ...]:
    """The live accuracy on the last task while it was learnt (validation images), from the start of its stage."""
    if not fold.stages or fold.stages[-1].ended is None:
        return ()
    stage, number, ended = fold.stages[-1], len(fold.stages), fold.stages[-1].ended
    return tuple(
        CurvePoint(
            point.step - stage.step,
            ended.train_seconds * (point.images_seen - stage.first_image) / max(1, stage.images),
            point.accuracy[-1],
        )
        for point in fold.accuracy
        if point.stage == number and len(point.accuracy) == number
    )


MEASURES: dict[str, Measure] = {
    "accuracy": Measure(
        "average accuracy", "%", True, "ACC: mean of the last row", lambda run: run.result.average_accuracy
    ),
    "validation_accuracy": Measure(
        "average accuracy, validation images", "%", True, "ACC on validation images",
        lambda run: run.result.validation_average_accuracy,
    ),
    "new": Measure(
        "new job", "%", True, "mean of R[k, k] over the jobs after the first",
        lambda run: new_accuracy(run.result.accuracy_matrix),
    ),
    "validation_new": Measure(
        "new job, validation images", "%", True, "mean of R[k, k] over the jobs after the first",
        lambda run: new_accuracy(run.result.validation_matrix),
    ),
    "old": Measure(
        "old jobs", "%", True, "mean of R[K, k] over the earlier jobs",
        lambda run: old_accuracy(run.result.accuracy_matrix),
    ),
    "validation_old": Measure(
        "old jobs, validation images", "%", True, "mean of R[K, k] over the earlier jobs",
        lambda run: old_accuracy(run.result.validation_matrix),
    ),
    "old_learnt": Measure(
        "old jobs, when learnt", "%", True, "mean of R[k, k] over the earlier jobs",
        lambda run: old_learnt(run.result.accuracy_matrix),
    ),
    "forgetting": Measure(
        "forgetting", "%", False, "mean over earlier jobs of the best accuracy so far less the last",
        lambda run: run.result.mean_forgetting,
    ),
    "train_seconds": Measure(
        "training time", "s", False, "seconds of training in all stages, as measured when they were trained",
        lambda run: run.result.train_seconds or None,
    ),
    "test_ms": Measure(
        "time to answer", "ms", False, "median of single pictures, job known", lambda run: run.answer_ms
    ),
    "bytes": Measure(
        "memory", "bytes", False, "bytes kept to answer all jobs and learn another",
        lambda run: run.result.footprint_bytes.get("total") or None,
    ),
    "energy_wh": Measure(
        "energy", "Wh", False, "estimated", lambda run: run.result.energy_wh
    ),
    "carbon_g": Measure(
        "carbon", "g", False, "g CO₂e, estimated", lambda run: run.result.carbon_g
    ),
    "old_data": Measure(
        "needs old pictures", "%", False, "1 where some stage read earlier jobs' pictures",
        lambda run: float(run.result.needs_old_data),
    ),
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Means, spreads, differences
# ---------------------------------------------------------------------------------------------------------------------

# Student's t, two-sided 95 %, for 1, 2, … degrees of freedom.
_T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and sample standard deviation over seeds; sd is None for fewer than two, mean for none."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """How many seeds."""
        return len(self.values)

    @property
    def mean(self) -> float | None:
        """The mean over seeds."""
        return sum(self.values) / len(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """The sample standard deviation (n − 1)."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def meets(self, other: "Spread") -> bool:
        """Whether the two means are no further apart than both standard deviations together; False without a mean."""
        if self.mean is None or other.mean is None:
            return False
        return abs(self.mean - other.mean) <= (self.sd or 0.0) + (other.sd or 0.0)


Sure = Literal["clear", "likely", "none seen", "one seed", "nothing"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One arm less another, seed by seed (`spread`), for a measure."""

    measure: str
    spread: Spread

    @property
    def error(self) -> float | None:
        """The standard error of the mean difference."""
        sd = self.spread.sd
        return None if sd is None else sd / math.sqrt(self.spread.n)

    @property
    def sure(self) -> Sure:
        """`clear`: beyond Student's 95 % interval; `likely`: beyond twice the standard error; else `none seen`."""
        mean, error = self.spread.mean, self.error
        if mean is None:
            return "nothing"
        if error is None:
            return "one seed"
        if mean != 0 and abs(mean) > _T95[min(self.spread.n - 1, len(_T95)) - 1] * error:
            return "clear"
        return "likely" if abs(mean) > 2 * error else "none seen"

    def sentence(self, a: str, b: str) -> str:
        """What the difference is and how sure, in a line."""
        measure, mean = MEASURES[self.measure], self.spread.mean
        title = measure.title[0].upper() + measure.title[1:]
        if mean is None:
            return f"{title}: {a} and {b} have no seed in common yet."
        seeds = f"{self.spread.n} seed{'s' * (self.spread.n > 1)}"
        if self.sure == "none seen":
            sign = "+" if mean > 0 else "−" if mean < 0 else ""
            size = with_sd(self.spread, measure.unit, points=True, positive=True)
            return f"{title}: no difference seen between {a} and {b} ({sign}{size} over {seeds})."
        size = with_sd(self.spread, measure.unit, points=True, positive=True)
        how = "it may be chance" if self.sure == "one seed" else self.sure
        return f"{title}: {a} is {size} {'above' if mean > 0 else 'below'} {b} over {seeds} ({how})."


def amount(unit: Unit, value: float, *, points: bool = False) -> str:
    """A figure with its unit; `points` for differences of per cent."""
    match unit:
        case "%":
            return f"{100 * value:.1f} points" if points else f"{100 * value:.1f} %"
        case "bytes":
            return size(value)
        case "steps":
            return f"{value:.0f} steps"
        case _:
            return f"{value:.1f} {unit}" if abs(value) < 9.95 else f"{value:.0f} {unit}"


def with_sd(spread: Spread, unit: Unit, *, points: bool = False, positive: bool = False) -> str:
    """`42 ± 1.2 s`; `positive` leaves out the mean's sign."""
    if spread.mean is None:
        return "–"
    mean = amount(unit, abs(spread.mean) if positive else spread.mean, points=points)
    if not spread.sd:
        return mean
    number, _, name = mean.rpartition(" ")
    spare, _, other = amount(unit, spread.sd, points=points).rpartition(" ")
    return f"{number} ± {spare} {name}" if name == other else f"{mean} ± {spare} {other}"


def percents(spread: Spread) -> str:
    """`87.3 ± 1.2 %` of fractions; `–` for nothing."""
    if spread.mean is None:
        return "–"
    return f"{100 * spread.mean:.1f}" + ("" if spread.sd is None else f" ± {100 * spread.sd:.1f}") + " %"
