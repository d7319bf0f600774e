"""Experiments: a named, reproducible set of configurations, and what their results show together. No torch here.

An experiment is a few settings ("arms"), each run with the same seeds. Its runs are ordinary runs, found by their key:
those that exist are used whoever made them, missing ones are queued, so an experiment can be left, stopped and gone on
with, and a run that is deleted is merely missing again. Two kinds of runs are never mixed into a mean: imported ones,
which another machine computed, and those of another version of the engine, which `Findings` names apart.

`look` reads what there is, `Findings` folds it: mean ± sd over seeds, and differences between two arms seed by seed.
What is a finished run's is read once (`Reader`), so that looking again costs next to nothing.
"""

import contextlib
import dataclasses
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from labcore.configs.run import ConfigError, RunConfig, parse, with_settings
from labcore.configs.units import plain, setting_name
from labcore.runs.energy import Country
from labcore.runs.results import RunResult, StageResult
from labcore.runs.settings import Detail
from labcore.runs.store import RunRecord, Store, UnknownRun, write_atomically
from labcore.studies import estimates
from labcore.studies.measures import (
    MEASURES,
    Difference,
    Finished,
    Spread,
    amount,
    crossing,
    last_stage_curve,
    percents,
)

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
# Looking
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
    """Seconds of training and measuring that runs `spent`; `reused` of so many `stages` came from earlier runs, and
    once took so many seconds (`saved`).
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
    return Work(_seconds(stages) - _seconds(reused), len(reused), len(stages), _seconds(reused))


def _seconds(stages: Iterable[StageResult]) -> float:
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
    def live(self) -> bool:
        """Whether some run waits or trains."""
        return any(cell.record is not None and cell.record.active for cell in self.cells)

    def of(self, label: str) -> list[Cell]:
        """An arm's cells, by seed."""
        return self._by_label.get(label, [])

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
        """The arm with the best mean, by default on validation images, as test ones never choose; of those of which as
        many seeds are finished as of any.
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
        self._engines: dict[tuple[str, int], str] = {}
        self._spent: dict[tuple[str, int], float] = {}
        self._seconds: dict[tuple[str, estimates.Speed, Detail], float] = {}
        self._wanted: OrderedDict[Experiment, list[tuple[Arm, int, RunConfig, str]]] = OrderedDict()
        self._findings: OrderedDict[Experiment, tuple[Any, Findings]] = OrderedDict()
        self._paces: OrderedDict[tuple[int, str, tuple[str, int]], float] = OrderedDict()
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

    def _wasted(self, record: RunRecord) -> float:
        """Seconds of training and measuring that a stopped or failed run spent itself, as far as it told."""
        place = (record.run, record.attempt)
        if place in self._spent:
            return self._spent[place]
        try:
            fold = self.store.fold(record.run)
        except UnknownRun:  # deleted just now
            return 0.0
        reused = sum(
            s.ended.train_seconds + s.ended.evaluation_seconds for s in fold.stages if s.ended and s.ended.reused
        )
        self._spent[place] = max(0.0, fold.train_seconds + fold.evaluation_seconds - reused)
        return self._spent[place]

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
            wasted = self._wasted(record) if record is not None and record.state in ("stopped", "failed") else 0.0
            cells.append(Cell(arm, seed, config, record, finished, older.get((arm.label, seed), ()), wasted))
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

    def note(self, record: RunRecord) -> str:
        """What sets a run apart from those that this version computes here; runs of two notes share no mean.

        An imported run's key is its configuration's, whatever engine computed it: only its events tell. Raises
        UnknownRun, ConfigError.
        """
        if self.is_current(record) and not record.imported:
            return ""
        place = (record.run, record.attempt)
        if place not in self._engines:
            self._engines[place] = self.store.engine(record.run)
        engine = self._engines[place]
        words = ("imported" if record.imported else "earlier version", f"engine {engine}" if engine else "")
        return ", ".join(word for word in words if word)

    # ---- time

    def seconds(self, config: RunConfig, device: str) -> float | None:
        """What a run will take on this device, estimated; None until the machine's speed is measured, as is wished."""
        speed = estimates.known(self.store, device, config)
        if speed is None:
            return None
        maps = self.store.settings().maps
        place = (self.key(config), speed, maps)
        if place not in self._seconds:
            self._seconds[place] = estimates.estimate(config, speed, maps).seconds
        return self._seconds[place]

    def speeds(self, configs: Iterable[RunConfig], device: str) -> set[estimates.Speed | None]:
        """What the time of these runs is estimated from; None among them: not measured yet, but wished for."""
        apart = {(config.backbone.name, config.backbone.image_size): config for config in configs}
        return {estimates.known(self.store, device, config) for config in apart.values()}

    def seconds_left(self, findings: Findings, device: str, progress: Mapping[str, float]) -> float | None:
        """To the end of what is not complete; `progress` by run, 0 to 1. None while a speed is not known.

        An arm that has a finished run is told by it, any other by its estimate at the pace of the finished runs.
        """
        total = 0.0
        for cell in findings.cells:
            if cell.finished:
                continue
            whole: float | None
            if took := [_seconds(o.finished.result.stages) for o in findings.of(cell.arm.label) if o.finished]:
                whole = sum(took) / len(took)
            elif (whole := self.seconds(cell.config, device)) is not None:
                whole *= self._pace(findings, device, (cell.config.backbone.name, cell.config.backbone.image_size))
            if whole is None:
                return None
            total += whole * (1 - (progress.get(cell.record.run, 0.0) if cell.record else 0.0))
        return total

    def _pace(self, findings: Findings, device: str, network: tuple[str, int]) -> float:
        """What this device's finished runs of a network (backbone, picture size) took by their estimates; else 1."""
        place = (findings.version, device, network)
        if place in self._paces:
            return self._paces[place]
        took = estimated = 0.0
        for cell in findings.cells:
            if cell.finished is None or cell.record is None or cell.record.imported:
                continue
            of = cell.config.backbone.name, cell.config.backbone.image_size
            if of == network and cell.finished.result.device == device:
                took += _seconds(cell.finished.result.stages)
                estimated += self.seconds(cell.config, device) or 0.0
        pace = took / estimated if estimated else 1.0
        _remember(self._paces, place, pace)
        return pace


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
