"""Explorations: a few settings that vary over a configuration, tried one after another on a budget. No torch here.

An exploration says what varies, how the next values are chosen, and when to stop. What it tries are ordinary runs,
found by their configuration, so that the store stays the only record: all that is kept here is which values were asked
for, and in what order. Values are chosen by accuracy on validation images, never on test ones.

Laws: one file an exploration, replaced whole and only under the lock; a marker beside it says that it goes on. What is
tried next stands in labcore/studies/proposals.py, and how explorations go on in labcore/studies/advancing.py.
"""

import contextlib
import fcntl
import itertools
import math
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from labcore.configs.base import ConfigError, Frozen, Number, Whole
from labcore.configs.fields import FieldSpec
from labcore.configs.reading import explain
from labcore.configs.run import RunConfig
from labcore.configs.units import count_of, plain, seconds
from labcore.runs.errors import StoreError
from labcore.runs.files import write_atomically
from labcore.runs.store import Store
from labcore.studies.experiments import MOST_SEEDS, Arm, Experiment, Findings, arm_of, best_on_validation, work_of
from labcore.studies.varied import Varied, spec_of

MOST_SETTINGS = 3
# No exploration has more runs than this, whatever its budget; and no budget is longer than these minutes.
MOST_RUNS, MOST_MINUTES = 1000, 100_000
BROKE_OFF = "It broke off: "

# ---------------------------------------------------------------------------------------------------------------------
# What an exploration is
# ---------------------------------------------------------------------------------------------------------------------


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
# What is known of one
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """A combination that was asked for: its mean accuracy on validation images, a fraction of 1, once all seeds are
    finished; None while it waits or trains (`open`), or where it failed.
    """

    values: Mapping[str, Any]
    score: float | None
    open: bool = False


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
        return f"{self.exploration.base.method.title}: {names}"

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
        return (self.ended or "").startswith(BROKE_OFF)

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
    with locked(store):
        write(store, ExplorationRecord(exploration=exploration, created=time.time(), name=name))
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
    with locked(store):
        record = read(store, name)
        budget = {"runs": runs or record.exploration.runs, "minutes": minutes or record.exploration.minutes}
        exploration = parse_exploration({**record.exploration.model_dump(mode="json"), **budget})
        write(store, record.model_copy(update={"exploration": exploration, "ended": None}))
        _marker(store, name).touch(mode=0o600)


def stop(store: Store, name: str) -> None:
    """Ask for nothing more; its runs that wait or train are the caller's to stop."""
    with locked(store):
        unmark(store, name)


def delete(store: Store, name: str) -> None:
    """Forget what was asked; the runs stay. Raises ConfigError for an unknown one."""
    with locked(store):
        read(store, name)
        unmark(store, name)
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


def marked(store: Store) -> list[str]:
    """The names of those that go on; costs a look into a folder where there are none."""
    try:
        files = [entry.name for entry in os.scandir(_folder(store))]
    except FileNotFoundError:
        return []
    return sorted(name.removesuffix(".going") for name in files if name.endswith(".going"))


def unmark(store: Store, name: str) -> None:
    """From now on it does not go on. To be called under the lock."""
    _marker(store, name).unlink(missing_ok=True)


def write(store: Store, record: ExplorationRecord) -> None:
    """Replace what is kept of it. To be called under the lock."""
    write_atomically(_path(store, record.name), record.model_dump_json(indent=1).encode())


@contextlib.contextmanager
def locked(store: Store) -> Iterator[None]:
    """One at a time changes what is kept; the lock is the system's, and gone with its holder. Raises StoreError."""
    try:
        _folder(store).mkdir(mode=0o700, exist_ok=True)
        with (_folder(store) / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise StoreError(f"The exploration cannot be written: {error.strerror or error}. Free some space.") from None
