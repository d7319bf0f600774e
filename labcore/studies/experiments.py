"""Experiments: a named, reproducible set of configurations, and what their results show together. No torch here.

An experiment is a few settings ("arms"), each run with the same seeds. Its runs are ordinary runs, found by their key:
those that exist are used whoever made them, missing ones are queued, so an experiment can be left, stopped and gone on
with, and a run that is deleted is merely missing again. Two kinds of runs are never mixed into a mean: imported ones,
which another machine computed, and those of another version of the engine, which `Findings` names apart.

`Reader.look`, in labcore/studies/reader.py, reads what there is. `Findings` folds it: mean ± sd over seeds, and the
differences between two arms seed by seed.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labcore.configs.base import ConfigError
from labcore.configs.reading import parse, with_settings
from labcore.configs.run import RunConfig
from labcore.configs.units import plain, setting_name
from labcore.runs.errors import StoreError, UnknownRun
from labcore.runs.records import RunRecord
from labcore.runs.results import StageResult
from labcore.runs.store import Store
from labcore.studies.measures import MEASURES, Difference, Finished, Spread, amount, crossing, percents

MOST_SEEDS = 5

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
    """Arms and seeds; `tell` makes plain sentences of what they show, `curves` says that it needs whole curves.

    With `in_turn` the answer times of its runs are compared, and so timed in turn once all are finished.
    """

    name: str
    title: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    tell: "Callable[[Findings], list[str]]" = field(default=lambda findings: [], compare=False)
    curves: bool = False
    in_turn: bool = False

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


def arm_of(base: Mapping[str, Any], values: Mapping[str, Any], label: str | None = None) -> Arm:
    """A configuration (plain data) with some dotted settings changed. Raises ConfigError."""
    named = ", ".join(f"{setting_name(path)} {plain(value)}" for path, value in values.items())
    return Arm(label or named, parse({**with_settings(base, values), "seed": 0}), tuple(values.items()))


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
# What its runs show together
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    """One run that an experiment wants: its record (None: there is none), and what it showed once complete.

    `older` are runs of the same configuration by another version of the engine: to be shown, never to be counted.
    `wasted` are the seconds of training and measuring of one that was stopped or failed.
    """

    arm: Arm
    seed: int
    config: RunConfig
    record: RunRecord | None
    finished: Finished | None
    older: tuple[str, ...] = ()
    wasted: float = 0.0

    @property
    def state(self) -> str:
        """`missing`, or the record's state; `lost` where its worker is gone."""
        if self.record is None:
            return "missing"
        return "lost" if self.record.lost else self.record.state

    @property
    def reused_stages(self) -> list[int]:
        """The stages, from 1, that a finished run took from earlier runs."""
        stages = self.finished.result.stages if self.finished else ()
        return [number for number, stage in enumerate(stages, 1) if stage.reused]


@dataclass(frozen=True, slots=True)
class Work:
    """What some runs cost and shared.

    They `spent` so many seconds on training and measuring. Of their `stages`, `reused` came from earlier runs, which
    had spent the seconds that were `saved`.
    """

    spent: float
    reused: int
    stages: int
    saved: float

    @property
    def shared(self) -> str:
        """How much was shared, in a few words."""
        saved = f": {amount('s', self.saved)} of training saved" if self.reused else ""
        return f"{self.reused} of {self.stages} stages taken from earlier runs{saved}"


def work_of(cells: Iterable[Cell]) -> Work:
    """What the finished ones among some runs cost, and what they shared."""
    stages = [stage for cell in cells if cell.finished for stage in cell.finished.result.stages]
    reused = [stage for stage in stages if stage.reused]
    return Work(seconds_of(stages) - seconds_of(reused), len(reused), len(stages), seconds_of(reused))


def seconds_of(stages: Iterable[StageResult]) -> float:
    """Seconds of training and measuring that some stages took, whoever trained them."""
    return sum(stage.train_seconds + stage.evaluation_seconds for stage in stages)


@dataclass(frozen=True, slots=True)
class Findings:
    """All cells of an experiment as they stand; `version` changes when any of them does."""

    experiment: Experiment
    cells: tuple[Cell, ...]
    version: int
    _by_label: dict[str, list[Cell]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for cell in self.cells:
            self._by_label.setdefault(cell.arm.label, []).append(cell)

    def having(self, *states: str) -> list[Cell]:
        """The cells in one of these states."""
        return [cell for cell in self.cells if cell.state in states]

    @property
    def missing(self) -> list[Cell]:
        """What has to be queued: not there, stopped, or failed."""
        return self.having("missing", "stopped", "failed")

    @property
    def unfinished(self) -> list[RunConfig]:
        """The configurations whose run is not complete."""
        return [cell.config for cell in self.cells if not cell.finished]

    @property
    def complete(self) -> bool:
        """Whether every run is there."""
        return all(cell.finished for cell in self.cells)

    @property
    def timed_in_turn(self) -> bool:
        """Whether the answers of its runs were timed in turn; until then each run has its own time, of its own hour."""
        return self.complete and all(cell.finished and cell.finished.in_turn for cell in self.cells)

    @property
    def awaits_turn(self) -> bool:
        """Whether all runs are there, and their answers are still to be timed in turn."""
        return self.experiment.in_turn and self.complete and not self.timed_in_turn

    @property
    def live(self) -> bool:
        """Whether some run waits or trains."""
        return any(cell.record is not None and cell.record.active for cell in self.cells)

    @property
    def own(self) -> list[RunRecord]:
        """The runs that wait or train because this experiment was asked for; others are somebody's own."""
        active = [cell.record for cell in self.cells if cell.record is not None and cell.record.active]
        return [record for record in active if record.asked_by == self.experiment.name]

    def of(self, label: str) -> list[Cell]:
        """An arm's cells, by seed."""
        return self._by_label.get(label, [])

    def by_seed(self, label: str, measure: str) -> dict[int, float]:
        """A measure of an arm's finished runs."""
        read = MEASURES[measure].read
        found = {cell.seed: read(cell.finished) for cell in self.of(label) if cell.finished}
        return {seed: value for seed, value in found.items() if value is not None}

    def spread(self, label: str, measure: str) -> Spread:
        """The mean and spread of a measure over an arm's finished seeds."""
        return Spread(tuple(self.by_seed(label, measure).values()))

    def difference(self, a: str, b: str, measure: str) -> Difference:
        """Arm a less arm b, over the seeds that both have finished."""
        one, other = self.by_seed(a, measure), self.by_seed(b, measure)
        return Difference(measure, Spread(tuple(one[seed] - other[seed] for seed in one if seed in other)))

    def crossings(self, label: str, level: float) -> list[tuple[float, float] | None]:
        """Steps and seconds to a level, for each finished run of an arm."""
        return [crossing(cell.finished.curve, level) for cell in self.of(label) if cell.finished]

    def best(self, measure: str = "validation_accuracy") -> Arm | None:
        """The arm with the best mean. By default validation images decide, as test images never choose.

        Only the arms that have the most finished seeds are compared.
        """
        sign = 1 if MEASURES[measure].more else -1
        spreads = [(arm, self.spread(arm.label, measure)) for arm in self.experiment.arms]
        most = max((spread.n for _, spread in spreads), default=0)
        found = [(sign * spread.mean, arm) for arm, spread in spreads if spread.n == most and spread.mean is not None]
        return max(found, key=lambda pair: pair[0])[1] if found else None

    @property
    def work(self) -> "Work":
        """What its finished runs cost, and what they shared."""
        return work_of(self.cells)

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
            "work": dataclasses.asdict(self.work),
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
                            "reused_stages": cell.reused_stages,
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


def queue(store: Store, findings: Findings, device: str = "auto") -> list[str]:
    """Submit what is missing, stopped and failed runs included; the runs' IDs. Raises StoreError.

    A worker finds all of them at once: it would train the first with all cores, were that there alone for a moment.
    """
    queued: list[str] = []
    problem: StoreError | ConfigError | None = None
    with store.at_once():
        try:
            for cell in findings.missing:
                asked_by = findings.experiment.name
                queued.append(store.submit(cell.config, device=device, asked_by=asked_by).run)
        except (StoreError, ConfigError) as error:  # it is raised after the block, so that what is queued stays queued
            problem = error
    if problem is not None:
        raise problem
    return queued


def stop(store: Store, findings: Findings) -> None:
    """Ask its own runs that wait or train to stop; what is finished stays, and what somebody started by itself."""
    for record in reversed(findings.own):  # those that wait first, so that none is claimed in between
        with contextlib.suppress(UnknownRun):
            store.request_stop(record.run)
