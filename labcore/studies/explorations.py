"""Explorations: a few settings that vary over a configuration, tried one after another on a budget. No torch here.

An exploration says what varies, how the next values are chosen (every combination, by chance, or by what was learnt
from those before: Optuna's samplers, asked and told), and when to stop. What it tries are ordinary runs, found by their
configuration, so that the store stays the only record: here is kept only which values were asked for, and in what
order. Values are chosen by accuracy on validation images, never on test ones.

Laws: one file an exploration, replaced whole and only under the lock; a marker beside it says that it goes on. A worker
that has nothing to train calls `advance`, which queues the next runs, so that closing a page stops nothing.
"""

import contextlib
import fcntl
import itertools
import logging
import math
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from labcore.configs.catalogue import BACKBONES
from labcore.configs.fields import FieldSpec, fields
from labcore.configs.run import (
    METHOD_TITLES,
    METHODS,
    BackboneConfig,
    ConfigError,
    Frozen,
    Number,
    RunConfig,
    TrainingConfig,
    Whole,
    explain,
)
from labcore.configs.units import count_of, plain, seconds, setting_name
from labcore.runs.store import Store, StoreError, write_atomically
from labcore.studies.experiments import (
    MOST_SEEDS,
    Arm,
    Experiment,
    Findings,
    Reader,
    arm_of,
    best_on_validation,
    work_of,
)

if TYPE_CHECKING:
    import optuna

log = logging.getLogger("labcore.studies.explorations")

MOST_SETTINGS, MOST_STEPS = 3, 50
# No exploration has more runs than this, whatever its budget; and no budget is longer than these minutes.
MOST_RUNS, MOST_MINUTES = 1000, 100_000
# The first combinations by chance, before what was learnt from them says where to look.
FIRST_BY_CHANCE = 5
# Random draws from a small space repeat themselves; so many new draws are tried before it counts as tried out.
_DRAWS = 20
_MOST_REFUSED = 50
# Where the first so many fail, as for want of a download, all would, in no time: no budget of minutes would end it.
_MOST_FAILED = 20
_BROKE_OFF = "It broke off: "

# ---------------------------------------------------------------------------------------------------------------------
# What varies
# ---------------------------------------------------------------------------------------------------------------------


@cache
def settings_of(method: str) -> dict[str, FieldSpec]:
    """The settings that can vary for a method, by dotted path, its own first; a text or a network's name is none."""
    specs = (
        *fields("method", METHODS[method]),
        *fields("training", TrainingConfig),
        *fields("backbone", BackboneConfig),
    )
    return {spec.path: spec for spec in specs if spec.kind != "text" and spec.path != "backbone.name"}


def spec_of(path: str, method: str) -> FieldSpec:
    """The setting of this dotted path for a method. Raises ConfigError where the method lacks it."""
    known = settings_of(method)
    if path not in known:
        raise ConfigError(f"{path} is not a setting of {method} that can vary; known: {', '.join(known)}.")
    return known[path]


class Varied(Frozen):
    """A setting and what it takes: a number from `low` to `high`, by `steps` on a grid; else some of its `values`."""

    path: str = Field(description="The setting, as in method.strength.")
    low: Number | None = Field(None, description="The smallest value, for a number.")
    high: Number | None = Field(None, description="The largest value, for a number.")
    steps: Whole = Field(5, ge=1, le=MOST_STEPS, description="How many values a grid takes.")
    log: bool = Field(False, description="By equal factors rather than equal distances.")
    values: tuple[bool | str, ...] = Field((), description="What is tried, for a setting that is no number.")

    @property
    def name(self) -> str:
        """Its name in words."""
        return setting_name(self.path)

    @property
    def numeric(self) -> bool:
        """Whether it is a number with a range."""
        return self.low is not None

    def check(self, spec: FieldSpec) -> None:
        """Raises ConfigError, in one sentence, for what the setting cannot take."""
        if spec.kind not in ("number", "whole"):
            allowed: tuple[bool | str, ...] = (False, True) if spec.kind == "switch" else spec.choices
            wrong = [value for value in self.values if value not in allowed]
            if wrong or not self.values or self.low is not None or self.high is not None:
                given = wrong[0] if wrong else "empty"
                raise ConfigError(
                    f"{self.path}: what is tried is {given}; choose among {', '.join(map(str, allowed))}."
                )
            return
        if self.values or self.low is None or self.high is None:
            raise ConfigError(f"{self.path} is a number; give the smallest and the largest value to try.")
        if self.low > self.high or (self.low == self.high and self.steps > 1):
            raise ConfigError(
                f"{self.path}: from {self.low:g} to {self.high:g} is an empty range; the largest must be above."
            )
        if self.log and self.low <= 0:
            raise ConfigError(
                f"{self.path}: a range by equal factors cannot pass zero, and it begins at {self.low:g}; "
                "begin above zero, or take equal distances."
            )
        for end in (self.low, self.high):
            if not spec.allows(end):
                raise ConfigError(f"{self.path}: {end:g} cannot be; allowed: {spec.bounds}.")
            if spec.kind == "whole" and end != round(end):
                raise ConfigError(f"{self.path}: {end:g} cannot be; it counts {spec.unit or 'in whole numbers'}.")

    def grid(self, spec: FieldSpec) -> tuple[Any, ...]:
        """The values on a grid, in order; a whole number's are rounded, and each is there once."""
        if self.low is None or self.high is None:
            return tuple(dict.fromkeys(self.values))
        shares = [index / max(1, self.steps - 1) for index in range(self.steps)]
        low, high = self.low, self.high
        values = [low * (high / low) ** share if self.log else low + (high - low) * share for share in shares]
        return tuple(dict.fromkeys(self.rounded(value, spec) for value in values))

    def rounded(self, value: float, spec: FieldSpec) -> float | int:
        """A number of three figures, as a person would choose it, within the range; of six where that is narrow."""
        assert self.low is not None and self.high is not None
        if spec.kind == "whole":
            return round(value)
        figures = 3 if self.high - self.low > 0.1 * abs(self.high) else 6
        return min(self.high, max(self.low, float(f"{value:.{figures}g}")))


def suggested(spec: FieldSpec, base: RunConfig) -> Varied:
    """A range around what a configuration has, within what is allowed."""
    part, name = spec.path.split(".")
    now = getattr(getattr(base, part), name)
    if spec.kind == "switch":
        return Varied(path=spec.path, values=(False, True))
    if spec.kind == "choice":
        choices = [
            choice for choice in spec.choices if choice != "pretrained" or BACKBONES[base.backbone.name].pretrained
        ]
        return Varied(path=spec.path, values=tuple(choices))
    now = float(now or 0)
    if spec.log:
        factor = 100 if (spec.high or 0) >= 1000 else 10
        now = now or 1.0
        low, high = now / factor, now * factor
    elif spec.high == 1:
        low, high = now / 2, (now + 1) / 2
    elif spec.path.endswith("frozen_blocks"):
        low, high = 0, len(BACKBONES[base.backbone.name].blocks)
    else:
        low, high = (now // 2 if spec.kind == "whole" else now / 2), 2 * now or 10
    low, high = max(low, spec.low or 0), min(high, math.inf if spec.high is None else spec.high)
    steps = 5 if spec.kind == "number" else int(min(5, high - low + 1))
    return Varied(path=spec.path, low=low, high=high, steps=steps, log=spec.log)


class Exploration(Frozen):
    """A configuration, what varies over it, how the next values are chosen, and the budget."""

    base: RunConfig = Field(description="All that does not vary; its seed does not count.")
    varied: tuple[Varied, ...] = Field(description="One to three settings.")
    sampler: Literal["grid", "random", "tpe"] = Field(
        "grid", description="Every combination, by chance, or where the best so far promise more (TPE)."
    )
    seeds: Whole = Field(1, ge=1, le=MOST_SEEDS, description="Each combination again with other random numbers.")
    runs: Whole | None = Field(None, ge=1, le=MOST_RUNS, description="The budget: at most so many runs.")
    minutes: Number | None = Field(
        None, gt=0, le=MOST_MINUTES, description="The budget: no run begins after so many minutes of training."
    )
    device: str = Field("auto", description="Where its runs are trained.")

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        if not 1 <= len(self.varied) <= MOST_SETTINGS:
            raise ConfigError(f"{len(self.varied)} settings are to vary; choose 1 to {MOST_SETTINGS}.")
        if len(self.paths) < len(self.varied):
            raise ConfigError("A setting is to vary twice; name each once.")
        for varied in self.varied:
            varied.check(self.spec(varied))
        if self.runs is None and self.minutes is None:
            raise ConfigError("There is no budget; give runs, minutes or both.")
        if self.runs is not None and self.runs < self.seeds:
            raise ConfigError(f"runs is {self.runs}, but each combination takes {self.seeds}, one a seed; allow more")
        wanted = self.combinations * self.seeds
        if self.sampler == "grid" and self.runs is not None and wanted > self.runs:
            raise ConfigError(
                f"These are {wanted} runs, and the budget is {self.runs}; "
                "take fewer values or seeds, or a larger budget."
            )
        if self.sampler == "grid" and wanted > MOST_RUNS:
            raise ConfigError(f"These are {wanted} runs; at most {MOST_RUNS} can be: take fewer values or seeds.")
        return self

    @property
    def paths(self) -> dict[str, Varied]:
        """What varies, by its path."""
        return {varied.path: varied for varied in self.varied}

    def spec(self, varied: Varied) -> FieldSpec:
        """What the configuration says of a setting. Raises ConfigError."""
        return spec_of(varied.path, self.base.method.name)

    @property
    def axes(self) -> tuple[tuple[Any, ...], ...]:
        """Each setting's values on a grid."""
        return tuple(varied.grid(self.spec(varied)) for varied in self.varied)

    def grid(self) -> Iterator[dict[str, Any]]:
        """Every combination, the last setting changing quickest."""
        paths = list(self.paths)
        return (dict(zip(paths, values, strict=True)) for values in itertools.product(*self.axes))

    @property
    def combinations(self) -> int:
        """How many combinations a grid has."""
        return math.prod(map(len, self.axes))

    @property
    def most_points(self) -> int:
        """How many combinations there can be, however long they take."""
        allowed = (self.runs or MOST_RUNS) // self.seeds
        return min(allowed, self.combinations) if self.sampler == "grid" else allowed

    @property
    def most_runs(self) -> int | None:
        """How many runs there will be where no minutes end it earlier; None where nothing but minutes ends it."""
        return None if self.runs is None and self.sampler != "grid" else self.most_points * self.seeds

    @property
    def budget(self) -> str:
        """In words: `20 runs`, `10 minutes`, or `20 runs or 10 minutes`."""
        runs = "" if self.runs is None else count_of(self.runs, "run")
        minutes = "" if self.minutes is None else count_of(self.minutes, "minute")
        return " or ".join(part for part in (runs, minutes) if part)

    def arm(self, values: Mapping[str, Any]) -> Arm:
        """One combination. Raises ConfigError where its settings do not go together."""
        return arm_of(self.base.model_dump(mode="json"), values)


def parse_exploration(data: Mapping[str, Any]) -> Exploration:
    """Validate plain data. Raises ConfigError with one sentence."""
    try:
        return Exploration.model_validate(dict(data))
    except ValidationError as error:
        raise ConfigError(explain(error, Exploration)) from None


# ---------------------------------------------------------------------------------------------------------------------
# The next values
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """A combination that was asked for: its mean accuracy on validation images, a fraction of 1, once all seeds are
    finished; None while it waits or trains (`open`), or where it failed.
    """

    values: Mapping[str, Any]
    score: float | None
    open: bool = False


def ask(exploration: Exploration, told: Sequence[Told]) -> dict[str, Any] | None:
    """The next combination to try, the same for the same history; None where there is no other.

    Source of `tpe`: Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization, section 4, as in Optuna.
    """
    tried = {_place(one.values) for one in told}
    if exploration.sampler == "grid":
        return next((values for values in exploration.grid() if _place(values) not in tried), None)
    study = _study(exploration, told, seed=len(told))
    for _ in range(_DRAWS):
        values = _cleaned(exploration, study.ask(_distributions(exploration)).params)
        if _place(values) not in tried:
            return values
    return None


def importance(exploration: Exploration, told: Sequence[Told]) -> dict[str, float] | None:
    """Which share of the differences in accuracy each setting explains, by path; None where too little is known.

    Source: functional ANOVA over a random forest, Hutter, Hoos & Leyton-Brown 2014, as in Optuna.
    """
    scores = [one.score for one in told if one.score is not None]
    if len(exploration.varied) < 2 or len(scores) < 4 or len(set(scores)) < 2:
        return None
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    found = get_param_importances(_study(exploration, told, 0), evaluator=FanovaImportanceEvaluator(seed=0))
    return {path: float(found.get(path, 0.0)) for path in exploration.paths}


def _place(values: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(values.items()))


def _study(exploration: Exploration, told: Sequence[Told], seed: int) -> "optuna.Study":
    """Optuna's study, made anew from what is known: it keeps nothing that the store does not."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    by_chance = exploration.sampler != "tpe"
    sampler = (
        optuna.samplers.RandomSampler(seed=seed)
        if by_chance
        else optuna.samplers.TPESampler(seed=seed, n_startup_trials=FIRST_BY_CHANCE)
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    states, distributions = optuna.trial.TrialState, _distributions(exploration)
    for one in told:
        state = states.RUNNING if one.open else states.FAIL if one.score is None else states.COMPLETE
        value = one.score if state == states.COMPLETE else None
        study.add_trial(
            optuna.create_trial(params=dict(one.values), distributions=distributions, value=value, state=state)
        )
    return study


def _distributions(exploration: Exploration) -> "dict[str, optuna.distributions.BaseDistribution]":
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for varied in exploration.varied:
        if varied.low is None or varied.high is None:
            found[varied.path] = CategoricalDistribution(varied.values)
        elif exploration.spec(varied).kind == "whole":
            found[varied.path] = IntDistribution(round(varied.low), round(varied.high), log=varied.log)
        else:
            found[varied.path] = FloatDistribution(varied.low, varied.high, log=varied.log)
    return found


def _cleaned(exploration: Exploration, params: Mapping[str, Any]) -> dict[str, Any]:
    paths = exploration.paths
    return {
        path: varied.rounded(params[path], exploration.spec(varied)) if varied.numeric else params[path]
        for path, varied in paths.items()
    }


# ---------------------------------------------------------------------------------------------------------------------
# What is kept
# ---------------------------------------------------------------------------------------------------------------------


class Asked(Frozen):
    """A combination that was asked for; `refused` says why no run can have it."""

    values: dict[str, Any]
    refused: str | None = None


class ExplorationRecord(Frozen):
    """What is known of an exploration. `ended` says why it is over; `going` is read from its marker."""

    exploration: Exploration
    created: float
    asked: tuple[Asked, ...] = ()
    importance: dict[str, float] | None = None
    ended: str | None = None
    name: str = Field("", exclude=True)
    going: bool = Field(False, exclude=True)

    @property
    def state(self) -> Literal["running", "stopped", "complete"]:
        """Running where it goes on, complete where its budget or its combinations are used up."""
        return "running" if self.going else "complete" if self.ended else "stopped"

    @property
    def title(self) -> str:
        """`Elastic weights (EWC): strength × epochs`."""
        names = " × ".join(varied.name for varied in self.exploration.varied)
        return f"{METHOD_TITLES[self.exploration.base.method.name]}: {names}"

    def experiment(self) -> Experiment:
        """What was asked for so far, as an experiment."""
        arms = tuple(self.exploration.arm(one.values) for one in self.asked if one.refused is None)
        seeds = tuple(range(self.exploration.seeds))
        return Experiment(self.name, self.title, arms, seeds, best_on_validation)

    def told(self, findings: Findings) -> list[Told]:
        """Everything asked for, with what is known of it; `findings` are of its experiment."""
        arms = iter(findings.experiment.arms)
        return [
            Told(one.values, None) if one.refused else _told(one.values, findings, next(arms).label)
            for one in self.asked
        ]

    def spent(self, findings: Findings) -> float:
        """Seconds of training and measuring that it caused, in runs that were stopped or failed too.

        Runs that were over before it began cost nothing; those that train now are counted when they are over.
        """
        cells = [
            cell for cell in findings.cells if cell.record is not None and (cell.record.ended or 0) >= self.created
        ]
        return work_of(cells).spent + sum(cell.wasted for cell in cells)

    def so_far(self, findings: Findings) -> str:
        """How far it is: `3 of 5 runs`, and what of a budget of minutes is used; `findings` are of its experiment."""
        exploration = self.exploration
        done = sum(cell.finished is not None for cell in findings.cells)
        runs, minutes = count_of(done, "run"), ""
        if exploration.most_runs is not None:
            most = max(exploration.most_runs, len(findings.cells))
            sure = done == most or (exploration.sampler == "grid" and exploration.minutes is None)
            runs = f"{done} of {'' if sure else 'at most '}{count_of(most, 'run')}"
        if exploration.minutes is not None:
            minutes = f" · {seconds(self.spent(findings))} of {plain(exploration.minutes)} min used"
        return runs + minutes

    def document(self, findings: Findings) -> dict[str, Any]:
        """As any experiment's, with its state: complete where it is over and every run that it asked for is there."""
        complete = self.state == "complete" and not self.broken and findings.complete
        own = {"state": self.state, "ended": self.ended, "refused": self.refused}
        return {**findings.document(), "complete": complete, **own}

    @property
    def broken(self) -> bool:
        """Whether it broke off, rather than used up what it may try."""
        return (self.ended or "").startswith(_BROKE_OFF)

    @property
    def refused(self) -> list[str]:
        """Why some combinations have no run."""
        return [one.refused for one in self.asked if one.refused]


def _told(values: Mapping[str, Any], findings: Findings, label: str) -> Told:
    cells, scores = findings.of(label), findings.spread(label, "validation_accuracy")
    if any(cell.record is not None and cell.record.active for cell in cells):
        return Told(values, None, open=True)
    return Told(values, scores.mean if scores.n == len(cells) else None)


def create(store: Store, exploration: Exploration) -> str:
    """Write it down and let it begin; its name. Raises StoreError."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    with _locked(store):
        _put(store, name, ExplorationRecord(exploration=exploration, created=time.time()))
        _marker(store, name).touch(mode=0o600)
    return name


def read(store: Store, name: str) -> ExplorationRecord:
    """What is known of an exploration. Raises ConfigError where there is none of this name, or it cannot be read."""
    path = _path(store, name)
    try:
        record = ExplorationRecord.model_validate_json(path.read_bytes())
    except OSError:
        raise _unknown(name) from None
    except ValidationError as error:
        raise ConfigError(f"The exploration {name} cannot be read: {explain(error, ExplorationRecord)}") from None
    return record.model_copy(update={"name": name, "going": _marker(store, name).exists()})


def stamp(store: Store, name: str) -> tuple[int, bool]:
    """Changes whenever what is known of an exploration does; cheap. Raises ConfigError where there is none."""
    try:
        return _path(store, name).stat().st_mtime_ns, _marker(store, name).exists()
    except OSError:
        raise _unknown(name) from None


def names(store: Store) -> list[str]:
    """All explorations, the newest first."""
    return sorted((path.stem for path in _folder(store).glob("*.json")), reverse=True)


def go_on(store: Store, name: str, *, runs: int | None = None, minutes: float | None = None) -> None:
    """Let it go on, perhaps with a larger budget; what was stopped or failed is queued again. Raises ConfigError."""
    with _locked(store):
        record = read(store, name)
        budget = {"runs": runs or record.exploration.runs, "minutes": minutes or record.exploration.minutes}
        exploration = parse_exploration({**record.exploration.model_dump(mode="json"), **budget})
        _put(store, name, record.model_copy(update={"exploration": exploration, "ended": None}))
        _marker(store, name).touch(mode=0o600)


def stop(store: Store, name: str) -> None:
    """Ask for nothing more; its runs that wait or train are the caller's to stop."""
    with _locked(store):
        _marker(store, name).unlink(missing_ok=True)


def delete(store: Store, name: str) -> None:
    """Forget what was asked; the runs stay. Raises ConfigError for an unknown one."""
    with _locked(store):
        read(store, name)
        _marker(store, name).unlink(missing_ok=True)
        _path(store, name).unlink(missing_ok=True)


def _unknown(name: str) -> ConfigError:
    return ConfigError(f"There is no exploration {name[:80]!r}; begin a new one.")


def _folder(store: Store) -> Path:
    return store.root / "explorations"


def _path(store: Store, name: str) -> Path:
    if not name or set(name) - set("0123456789abcdef-"):  # no way out of the folder
        raise _unknown(name)
    return _folder(store) / f"{name}.json"


def _marker(store: Store, name: str) -> Path:
    return _path(store, name).with_suffix(".going")


def _put(store: Store, name: str, record: ExplorationRecord) -> None:
    write_atomically(_path(store, name), record.model_dump_json(indent=1).encode())


@contextlib.contextmanager
def _locked(store: Store) -> Iterator[None]:
    """One at a time changes what is kept; the lock is the system's, and gone with its holder. Raises StoreError."""
    try:
        _folder(store).mkdir(mode=0o700, exist_ok=True)
        with (_folder(store) / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise StoreError(f"The exploration cannot be written: {error.strerror or error}. Free some space.") from None


# ---------------------------------------------------------------------------------------------------------------------
# Going on
# ---------------------------------------------------------------------------------------------------------------------


def advance(store: Store, reader: Reader) -> bool:
    """Queue what is next of every exploration that goes on; whether anything was. Called by a worker that is idle.

    Costs a look into a folder where none goes on. One that cannot be written now is passed over.
    """
    queued = False
    with contextlib.suppress(FileNotFoundError):
        going = sorted(entry.name for entry in os.scandir(_folder(store)) if entry.name.endswith(".going"))
        for marker in going:
            with contextlib.suppress(StoreError):
                queued |= advance_one(store, reader, marker.removesuffix(".going"))
    return queued


def advance_one(store: Store, reader: Reader, name: str) -> bool:
    """Queue what is next of one that goes on; whether anything was. One that breaks is ended, with the reason.

    Raises StoreError.
    """
    with _locked(store):
        try:
            record = read(store, name)
            return record.going and _next(store, reader, record)  # else it was stopped just now
        except Exception as error:
            log.exception("Exploration %s broke off", name)
            _break_off(store, name, f"{_BROKE_OFF}{type(error).__name__}: {error}")
            return False


def _next(store: Store, reader: Reader, record: ExplorationRecord) -> bool:
    """Queue combinations until as many are open as there are workers for them, or the exploration is over.

    Whether any was asked for.
    """
    exploration = record.exploration
    workers = sum(exploration.device in ("auto", worker.device) for worker in store.workers())
    before = len(record.asked)
    while True:
        findings = reader.look(record.experiment())
        told = record.told(findings)
        if sum(one.open for one in told) >= max(1, workers):
            break
        values = ask(exploration, told) if (why := _spent(record, findings)) is None else None
        if values is None:
            if not findings.live:
                record = record.model_copy(update={"ended": why or "Every combination was tried."})
            break
        try:
            arm = exploration.arm(values)
        except ConfigError as error:
            asked = Asked(values=values, refused=str(error))
        else:
            # Queued first: where the worker dies before it is written down, the same values are asked for again.
            for seed in range(exploration.seeds):
                store.submit(arm.seeded(seed), device=exploration.device)
            asked = Asked(values=values)
        record = record.model_copy(update={"asked": (*record.asked, asked)})
        _put(store, record.name, record)
    asked_for_more = len(record.asked) > before
    if record.ended or asked_for_more:
        _put(store, record.name, record.model_copy(update={"importance": importance(exploration, told)}))
    if record.ended:
        _marker(store, record.name).unlink(missing_ok=True)
    return asked_for_more


def _spent(record: ExplorationRecord, findings: Findings) -> str | None:
    """Why no more may be asked for; None while something may."""
    exploration, failed = record.exploration, findings.having("failed")
    if len(record.refused) >= _MOST_REFUSED:
        return f"{len(record.refused)} combinations cannot be, the last because {record.refused[-1]}"
    if len(failed) == len(findings.cells) >= _MOST_FAILED and failed[-1].record is not None:
        return f"All of its first {len(failed)} runs failed: {failed[-1].record.error}"
    if len(record.asked) - len(record.refused) >= exploration.most_points:
        if exploration.sampler == "grid":
            return "Every combination was tried."
        if exploration.runs is None:
            return f"{MOST_RUNS} runs were tried, as many as can be."
        return f"The budget of {count_of(exploration.runs, 'run')} is used."
    if exploration.minutes is not None and record.spent(findings) >= 60 * exploration.minutes:
        return f"The budget of {count_of(exploration.minutes, 'minute')} is used."
    return None


def _break_off(store: Store, name: str, why: str) -> None:
    """End an exploration that cannot go on; one that cannot even be read or written loses its marker alone."""
    with contextlib.suppress(ConfigError, OSError):
        _put(store, name, read(store, name).model_copy(update={"ended": why}))
    _marker(store, name).unlink(missing_ok=True)
