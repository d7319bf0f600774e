"""Experiments: a named, reproducible set of configurations, and what their results show together. No torch here.

An experiment is a few settings ("arms"), each run with the same seeds. Its runs are ordinary runs, found by their key:
those that exist are used whoever made them, missing ones are queued, so an experiment can be left, stopped and gone on
with, and a run that is deleted is merely missing again. Two kinds of runs are never mixed into a mean: imported ones,
which another machine computed, and those of another version of the engine, which `Findings` names apart.

`look` reads what there is, `Findings` folds it: mean ± sd over seeds, and differences between two arms seed by seed.
What is a finished run's is read once (`Reader`), so that looking again costs next to nothing.
"""

import contextlib
import math
import os
import statistics
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal, TypeVar

from labcore import estimates
from labcore.configs import (
    METHODS,
    BackboneConfig,
    ConfigError,
    FieldSpec,
    RunConfig,
    TrainingConfig,
    fields,
    parse,
    with_settings,
)
from labcore.energy import Country
from labcore.results import Fold, Matrix, RunResult
from labcore.store import RunRecord, Store, UnknownRun, write_atomically
from labcore.units import size

MOST_SEEDS = 5
MOST_CHOICES = 3

# ---------------------------------------------------------------------------------------------------------------------
# What an experiment is
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arm:
    """One setting of an experiment: a configuration but for its seed. `values` is what sets it apart, by name."""

    label: str
    config: RunConfig
    values: tuple[tuple[str, Any], ...] = ()

    def seeded(self, seed: int) -> RunConfig:
        """The configuration of one run."""
        return self.config.model_copy(update={"seed": seed})


@dataclass(frozen=True, slots=True)
class Experiment:
    """Arms and seeds; `tell` makes plain sentences of what they show, `curves` says that it needs whole curves."""

    name: str
    title: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    tell: "Callable[[Findings], list[str]]" = field(default=lambda findings: [], compare=False)
    curves: bool = False

    def __hash__(self) -> int:
        """Cheap: a live page looks an experiment up each second, and its arms may be hundreds."""
        return hash((self.name, self.seeds, len(self.arms)))

    def configs(self) -> list[tuple[Arm, int, RunConfig]]:
        """Every run that it wants, seed by seed, so that a whole comparison stands after each."""
        return [(arm, seed, arm.seeded(seed)) for seed in self.seeds for arm in self.arms]

    def arm(self, label: str) -> Arm:
        """The arm of this label. Raises KeyError."""
        return {arm.label: arm for arm in self.arms}[label]


def take_seeds(count: int) -> tuple[int, ...]:
    """The seeds 0, 1, … Raises ConfigError where there are too few or too many."""
    if not 1 <= count <= MOST_SEEDS:
        raise ConfigError(f"seeds is {count}; it must be from 1 to {MOST_SEEDS}.")
    return tuple(range(count))


# ---- sweeps ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """A setting, as a dotted path, and the values that it takes."""

    path: str
    values: tuple[Any, ...]


def spec_of(path: str, method: str) -> FieldSpec:
    """The setting of this dotted path for a method. Raises ConfigError where the method lacks it."""
    specs = [
        *fields("backbone", BackboneConfig),
        *fields("training", TrainingConfig),
        *fields("method", METHODS[method]),
    ]
    known = {spec.path: spec for spec in specs}
    if path not in known:
        raise ConfigError(f"{path} is not a setting of {method}; known: {', '.join(known)}.")
    return known[path]


def spread_values(spec: FieldSpec, low: float, high: float, count: int, *, log: bool) -> tuple[float | int, ...]:
    """`count` values of a number from low to high, evenly or by equal factors. Raises ConfigError with one sentence."""
    if spec.kind not in ("number", "whole"):
        raise ConfigError(f"{spec.path} is not a number; choose among {', '.join(spec.choices) or 'on and off'}.")
    if not (math.isfinite(low) and math.isfinite(high)) or low > high or count < 1 or (low == high and count > 1):
        raise ConfigError(f"{spec.path}: from {low:g} to {high:g} in {count} steps is an empty range.")
    if log and low <= 0:
        raise ConfigError(f"{spec.path}: a range by equal factors cannot pass zero, and it begins at {low:g}.")
    shares = [index / max(1, count - 1) for index in range(count)]
    values = [low * (high / low) ** share if log else low + (high - low) * share for share in shares]
    values = [float(f"{value:.6g}") for value in values]
    if spec.kind == "whole":
        return tuple(dict.fromkeys(round(value) for value in values))
    return tuple(dict.fromkeys(values))


def combinations(choices: Sequence[Choice], seeds: int) -> int:
    """How many runs a grid is."""
    return math.prod(len(choice.values) for choice in choices) * seeds


def sweep(
    base: Mapping[str, Any],
    choices: Sequence[Choice],
    seeds: Sequence[int],
    *,
    most_runs: int | None = None,
    name: str = "sweep",
    tell: "Callable[[Findings], list[str]] | None" = None,
) -> Experiment:
    """Every combination of up to three settings over a configuration (plain data).

    Raises ConfigError, in one sentence, for no choice or too many, an empty one, a setting that the method lacks, a
    value out of bounds, and more than `most_runs` runs.
    """
    if not 1 <= len(choices) <= MOST_CHOICES:
        raise ConfigError(f"{len(choices)} settings are to vary; choose 1 to {MOST_CHOICES}.")
    method = parse(base).method.name
    for choice in choices:
        spec_of(choice.path, method)
        if not choice.values:
            raise ConfigError(f"{choice.path} has no value to take; give at least one.")
    if len({choice.path for choice in choices}) < len(choices):
        raise ConfigError("A setting is to vary twice; name each once.")
    count = combinations(choices, len(seeds))
    if most_runs is not None and count > most_runs:
        raise ConfigError(f"That is {count} runs, and the budget is {most_runs}; take fewer values or seeds, or more.")
    arms = [
        arm_of(base, dict(zip([choice.path for choice in choices], values, strict=True)))
        for values in product(*(choice.values for choice in choices))
    ]
    title = " × ".join(choice.path.split(".")[-1].replace("_", " ") for choice in choices)
    return Experiment(name, title, tuple(arms), tuple(seeds), tell or best_on_validation)


def arm_of(base: Mapping[str, Any], values: Mapping[str, Any], label: str | None = None) -> Arm:
    """A configuration (plain data) with some dotted settings changed. Raises ConfigError."""
    named = ", ".join(f"{path.split('.')[-1].replace('_', ' ')} {_short(value)}" for path, value in values.items())
    return Arm(label or named, parse({**with_settings(base, values), "seed": 0}), tuple(values.items()))


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def best_on_validation(findings: "Findings") -> list[str]:
    """Which arm has the highest validation ACC, what it reaches on test, and how sure that is."""
    best = findings.best()
    if best is None:
        return ["Nothing is finished yet."]
    test = findings.spread(best.label, "accuracy")
    said = f"The best on validation images is {best.label}; on test images it reaches {percents(test)}."
    ranked = sorted(
        (arm for arm in findings.experiment.arms if findings.spread(arm.label, "validation_accuracy").n),
        key=lambda arm: -(findings.spread(arm.label, "validation_accuracy").mean or 0),
    )
    if len(ranked) < 2:
        return [said]
    second = ranked[1]
    return [
        said,
        findings.difference(best.label, second.label, "validation_accuracy").sentence(best.label, second.label),
    ]


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
    """A complete run: its result, and where asked for the learning curve of its last stage."""

    run: str
    result: RunResult
    curve: tuple[CurvePoint, ...] = ()


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


def intransigence(result: RunResult, joint: RunResult) -> tuple[float | None, ...]:
    """I_k = a*_k − R[k, k] with a*_k the accuracy of joint training on tasks 1…k: Chaudhry et al. 2018, eq. 4."""
    return _gap(joint, result)


def gap_to_copies(result: RunResult, copies: RunResult) -> tuple[float | None, ...]:
    """What a separate network for task k reaches, less R[k, k]. Not intransigence: its reference saw one task only."""
    return _gap(copies, result)


def _gap(reference: RunResult, result: RunResult) -> tuple[float | None, ...]:
    pairs = zip(diagonal(reference.accuracy_matrix), diagonal(result.accuracy_matrix), strict=False)
    return tuple(None if a is None or b is None else a - b for a, b in pairs)


def crossing(curve: Sequence[CurvePoint], level: float) -> tuple[float, float] | None:
    """Steps and seconds at which the curve first reaches a level, between its points by a line; None: it never did."""
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
        "time to answer", "ms", False, "median of single pictures, job known", lambda run: run.result.test_ms_per_image
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
        how = "which says nothing of chance" if self.sure == "one seed" else self.sure
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


# ---------------------------------------------------------------------------------------------------------------------
# Looking
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    """One run that an experiment wants: its record (None: there is none), and what it showed once complete.

    `older` are runs of the same configuration by another version of the engine: to be shown, never to be counted.
    """

    arm: Arm
    seed: int
    config: RunConfig
    record: RunRecord | None
    finished: Finished | None
    older: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """`missing`, or the record's state; `lost` where its worker is gone."""
        if self.record is None:
            return "missing"
        return "lost" if self.record.lost else self.record.state


@dataclass(frozen=True, slots=True)
class Findings:
    """All cells of an experiment as they stand; `version` changes when any of them does."""

    experiment: Experiment
    cells: tuple[Cell, ...]
    version: int

    def having(self, *states: str) -> list[Cell]:
        """The cells in one of these states."""
        return [cell for cell in self.cells if cell.state in states]

    @property
    def missing(self) -> list[Cell]:
        """What has to be queued: not there, stopped, or failed."""
        return self.having("missing", "stopped", "failed")

    @property
    def complete(self) -> bool:
        """Whether every run is there."""
        return all(cell.finished for cell in self.cells)

    @property
    def live(self) -> bool:
        """Whether some run waits or trains."""
        return any(cell.record is not None and cell.record.active for cell in self.cells)

    def of(self, label: str) -> list[Cell]:
        """An arm's cells, by seed."""
        return [cell for cell in self.cells if cell.arm.label == label]

    def by_seed(self, label: str, measure: str) -> dict[int, float]:
        """A measure of an arm's finished runs."""
        read = MEASURES[measure].read
        found = {cell.seed: read(cell.finished) for cell in self.of(label) if cell.finished}
        return {seed: value for seed, value in found.items() if value is not None}

    def spread(self, label: str, measure: str) -> Spread:
        """Its mean and spread over the seeds that are finished."""
        return Spread(tuple(self.by_seed(label, measure).values()))

    def difference(self, a: str, b: str, measure: str) -> Difference:
        """Arm a less arm b, over the seeds that both have finished."""
        one, other = self.by_seed(a, measure), self.by_seed(b, measure)
        return Difference(measure, Spread(tuple(one[seed] - other[seed] for seed in one if seed in other)))

    def crossings(self, label: str, level: float) -> list[tuple[float, float] | None]:
        """Steps and seconds to a level, for each finished run of an arm."""
        return [crossing(cell.finished.curve, level) for cell in self.of(label) if cell.finished]

    def best(self, measure: str = "validation_accuracy") -> Arm | None:
        """The arm with the best mean; by default on validation images, as test ones never choose."""
        sign = 1 if MEASURES[measure].more else -1
        found = [
            (sign * mean, arm)
            for arm in self.experiment.arms
            if (mean := self.spread(arm.label, measure).mean) is not None
        ]
        return max(found, key=lambda pair: pair[0])[1] if found else None

    def told(self) -> list[str]:
        """What it shows, in sentences, with what is missing named last."""
        if not any(cell.finished for cell in self.cells):
            said = ["Nothing is finished yet."]
        else:
            said = self.experiment.tell(self)
        failed = self.having("failed")
        if failed:
            names = ", ".join(f"{cell.arm.label} (seed {cell.seed})" for cell in failed)
            said.append(
                f"Failed, and so not counted: {names}. {failed[0].record.error if failed[0].record else ''}".strip()
            )
        return said

    def document(self) -> dict[str, Any]:
        """Everything as plain data, for `experiment NAME --json`."""
        return {
            "experiment": self.experiment.name,
            "title": self.experiment.title,
            "seeds": list(self.experiment.seeds),
            "complete": self.complete,
            "arms": [
                {
                    "label": arm.label,
                    "values": dict(arm.values),
                    "runs": [
                        {
                            "seed": cell.seed,
                            "state": cell.state,
                            "run": cell.record.run if cell.record else None,
                            "error": cell.record.error if cell.record else None,
                            "earlier_versions": list(cell.older),
                        }
                        for cell in self.of(arm.label)
                    ],
                    "measures": {
                        name: {"mean": spread.mean, "sd": spread.sd, "n": spread.n}
                        for name in MEASURES
                        if (spread := self.spread(arm.label, name)).n
                    },
                }
                for arm in self.experiment.arms
            ],
            "findings": self.told(),
        }


MOST_REMEMBERED = 2000  # finished runs, some kilobytes each


class Reader:
    """Reads a store for experiments and comparisons, each finished run once; safe to share between sessions.

    What a finished run showed is also kept on disk, in `cache/results`: it can be made again from its events.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._keys: dict[str, str] = {}
        self._finished: OrderedDict[tuple[str, bool, str | None], Finished] = OrderedDict()
        self._complete: dict[str, RunRecord] = {}
        self._configs: dict[str, RunConfig] = {}
        self._seconds: dict[tuple[str, str], float | None] = {}
        self._wanted: OrderedDict[Experiment, list[tuple[Arm, int, RunConfig, str]]] = OrderedDict()
        self._findings: OrderedDict[Experiment, tuple[Any, Findings]] = OrderedDict()
        self._versions = 0
        self._lock = threading.Lock()

    # ---- one run

    def key(self, config: RunConfig) -> str:
        """The configuration's key, computed once."""
        text = config.canonical_json()
        if text not in self._keys:
            self._keys[text] = config.key()
        return self._keys[text]

    def config(self, run: str) -> RunConfig:
        """A run's configuration, which never changes. Raises UnknownRun, ConfigError."""
        if run not in self._configs:
            self._configs[run] = self.store.config(run)
        return self._configs[run]

    def finished(self, record: RunRecord, *, curve: bool = False) -> Finished:
        """What a complete run showed. Raises UnknownRun."""
        country = self.store.country()
        known = self._finished.get((record.run, curve, country.code))
        if known is None:
            known = self._read(record, curve, country)
            _remember(self._finished, (record.run, curve, country.code), known, MOST_REMEMBERED)
        return known

    def _read(self, record: RunRecord, curve: bool, country: Country) -> Finished:
        path = self.store.cache / "results" / f"{record.run}-{record.attempt}.json"
        result = None
        with contextlib.suppress(OSError, ValueError):  # not there yet, or of another version
            result = RunResult.model_validate_json(path.read_bytes())
        if result is None:
            result = self.store.result(record.run)
            with contextlib.suppress(OSError):
                write_atomically(path, result.model_dump_json().encode())
        grams = {"carbon_g": country.grams(result.energy_wh), "carbon_country": country.code}
        result = result.model_copy(update=grams)
        return Finished(record.run, result, last_stage_curve(self.store.fold(record.run)) if curve else ())

    # ---- an experiment

    def look(self, experiment: Experiment) -> Findings:
        """How it stands. The same object as before where nothing changed."""
        with self._lock:
            return self._look(experiment)

    def _look(self, experiment: Experiment) -> Findings:
        here = set(os.listdir(self.store.root / "runs"))
        wanted = self._wanted.get(experiment)
        if wanted is None:
            wanted = [(arm, seed, config, self.key(config)) for arm, seed, config in experiment.configs()]
            _remember(self._wanted, experiment, wanted)
        records = [self._record(key, here) for *_, key in wanted]
        runs = tuple(None if r is None else (r.run, r.state, r.attempt, r.lost) for r in records)
        state = (self.store.country().code, runs)
        known = self._findings.get(experiment)
        if known is not None and known[0] == state:
            return known[1]
        older = self._older([place for place, record in zip(wanted, records, strict=True) if record is None])
        cells = []
        for (arm, seed, config, _), record in zip(wanted, records, strict=True):
            finished = None
            if record is not None and record.state == "complete":
                try:
                    finished = self.finished(record, curve=experiment.curves)
                except UnknownRun:  # deleted just now
                    record = None
            cells.append(Cell(arm, seed, config, record, finished, older.get((arm.label, seed), ())))
        self._versions += 1
        findings = Findings(experiment, tuple(cells), self._versions)
        _remember(self._findings, experiment, (state, findings))
        return findings

    def _record(self, key: str, here: set[str]) -> RunRecord | None:
        known = self._complete.get(key)
        if known is not None and known.run in here:
            return known
        self._complete.pop(key, None)
        record = self.store.known_by_key(key)
        if record is None or record.run not in here:
            return None
        if record.state == "complete":
            self._complete[key] = record
        return record

    def _older(self, wanted: Sequence[tuple[Arm, int, RunConfig, str]]) -> dict[tuple[str, int], tuple[str, ...]]:
        """Complete runs made here of these configurations whose key is another: another engine, or other pictures."""
        if not wanted:
            return {}
        places = {config.canonical_json(): (arm.label, seed, key) for arm, seed, config, key in wanted}
        found: dict[tuple[str, int], tuple[str, ...]] = {}
        for record in self.store.records():
            if record.state != "complete" or record.imported:
                continue
            with contextlib.suppress(ConfigError, OSError):
                place = places.get(self.config(record.run).canonical_json())
                if place is not None and place[2] != record.key:
                    found[place[:2]] = (*found.get(place[:2], ()), record.run)
        return found

    def is_current(self, record: RunRecord) -> bool:
        """Whether this version of the engine would compute the run's figures again. Raises UnknownRun, ConfigError."""
        return record.key == self.key(self.config(record.run))

    # ---- time

    def seconds(self, config: RunConfig, device: str) -> float | None:
        """What a run will take on this device, estimated; None until the machine's speed is measured, as is wished."""
        place = (self.key(config), device)
        if self._seconds.get(place) is None:
            speed = estimates.known(self.store, device, config)
            if speed is None:
                estimates.wish(self.store, device, config)
                return None
            self._seconds[place] = estimates.estimate(config, speed).seconds
        return self._seconds[place]

    def seconds_left(self, findings: Findings, device: str, progress: Mapping[str, float]) -> float | None:
        """To the end of what is not complete; `progress` by run, 0 to 1. None while a speed is not known.

        An arm that has a finished run is told by it rather than by the estimate.
        """
        total = 0.0
        for cell in findings.cells:
            if cell.finished:
                continue
            took = [
                sum(stage.train_seconds + stage.evaluation_seconds for stage in other.finished.result.stages)
                for other in findings.of(cell.arm.label)
                if other.finished
            ]
            whole = sum(took) / len(took) if took else self.seconds(cell.config, device)
            if whole is None:
                return None
            total += whole * (1 - (progress.get(cell.record.run, 0.0) if cell.record else 0.0))
        return total


Key = TypeVar("Key")
Value = TypeVar("Value")


def _remember(kept: OrderedDict[Key, Value], key: Key, value: Value, most: int = 8) -> None:
    """Keep the newest few."""
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)


def queue(store: Store, findings: Findings, device: str = "auto") -> list[str]:
    """Submit what is missing, stopped and failed runs included; the runs' IDs. Raises StoreError."""
    return [store.submit(cell.config, device=device).run for cell in findings.missing]


def stop(store: Store, findings: Findings) -> None:
    """Ask every run of it that waits or trains to stop; what is finished stays."""
    for cell in reversed(findings.cells):  # those that wait first, so that none is claimed in between
        if cell.record is not None and cell.record.active:
            with contextlib.suppress(UnknownRun):
                store.request_stop(cell.record.run)
