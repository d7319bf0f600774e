"""The reader: what a store holds of experiments and finished runs, each finished run read once. No torch here.

Looking again at an experiment costs next to nothing while nothing changes, so that a live page may look each second.
"""

import contextlib
import dataclasses
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from labcore.configs.base import ConfigError
from labcore.configs.run import RunConfig, RunOfUninstalled
from labcore.runs.energy import Country
from labcore.runs.errors import UnknownRun
from labcore.runs.files import write_atomically
from labcore.runs.records import Names, RunRecord
from labcore.runs.results import RunResult
from labcore.runs.settings import Detail
from labcore.runs.store import Store
from labcore.studies import answer_times, estimates
from labcore.studies.answer_times import AnswerTimes, Turn
from labcore.studies.experiments import Arm, Cell, Experiment, Findings, seconds_of
from labcore.studies.measures import Finished, last_stage_curve

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
        """How an experiment stands; the same object as before where nothing changed."""
        with self._lock:
            return self._look(experiment)

    def _look(self, experiment: Experiment) -> Findings:
        here = set(os.listdir(self.store.root / "runs"))
        wanted = self._wanted.get(experiment)
        if wanted is None:
            wanted = [(arm, seed, config, self.key(config)) for arm, seed, config in experiment.configs()]
            _remember(self._wanted, experiment, wanted)
        records = [self._record(key, here) for *_, key in wanted]
        runs = tuple(None if r is None else (r.run, r.state, r.attempt, r.lost, r.asked_by) for r in records)
        times = self._times(experiment, wanted, records)
        state = (self.store.country().code, runs, times)
        known = self._findings.get(experiment)
        if known is not None and known[0] == state:
            return known[1]
        older = self._older([place for place, record in zip(wanted, records, strict=True) if record is None])
        cells = []
        for (arm, seed, config, _), record in zip(wanted, records, strict=True):
            finished = None
            if record is not None and record.state == "complete":
                try:
                    finished = _with_times(self.finished(record, curve=experiment.curves), times)
                except UnknownRun:  # deleted just now
                    record = None
            wasted = self._wasted(record) if record is not None and record.state in ("stopped", "failed") else 0.0
            cells.append(Cell(arm, seed, config, record, finished, older.get((arm.label, seed), ()), wasted))
        self._versions += 1
        findings = Findings(experiment, tuple(cells), self._versions)
        _remember(self._findings, experiment, (state, findings))
        return findings

    def _times(
        self,
        experiment: Experiment,
        wanted: Sequence[tuple[Arm, int, RunConfig, str]],
        records: Sequence[RunRecord | None],
    ) -> tuple[AnswerTimes, ...]:
        """How its runs were timed in turn; nothing until all of them were."""
        pairs = [
            (seed, record)
            for (_, seed, *_), record in zip(wanted, records, strict=True)
            if record is not None and record.state == "complete"
        ]
        if not experiment.in_turn or len(pairs) < len(wanted):
            return ()
        try:
            found = [answer_times.known(self.store, turn) for turn in self._turns(pairs)]
        except UnknownRun:  # deleted just now
            return ()
        return tuple(times for times in found if times is not None) if None not in found else ()

    def _turns(self, runs: Sequence[tuple[int, RunRecord]]) -> list[Turn]:
        """The runs of each seed, which are timed in turn; on the device on which the first was trained.

        Seed by seed, so that no more networks have to be held at once than there are arms. Raises UnknownRun.
        """
        device = self.finished(runs[0][1]).result.device or "cpu"
        by_seed: dict[int, list[tuple[str, int]]] = {}
        for seed, record in runs:
            by_seed.setdefault(seed, []).append((record.run, record.attempt))
        return [answer_times.turn_of(self.store, device, found) for found in by_seed.values()]

    def wish_answer_times(self, findings: Findings) -> str | None:
        """Wish that the runs of a complete experiment are timed in turn, where they were not.

        Returns the device whose worker will do it; None where there is nothing to wish for.
        """
        if not findings.awaits_turn:
            return None
        device = None
        with contextlib.suppress(UnknownRun):  # deleted just now
            for turn in self._turns([(cell.seed, cell.record) for cell in findings.cells if cell.record]):
                if answer_times.known(self.store, turn) is None:
                    answer_times.wish(self.store, turn)
                    device = turn.device
        return device

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
        names = {Names.of(config) for _, _, config, _ in wanted}  # so that no other run's configuration is read
        found: dict[tuple[str, int], tuple[str, ...]] = {}
        for record in self.store.records():
            if record.state != "complete" or record.imported:
                continue
            with contextlib.suppress(ConfigError, OSError):
                if self.store.names(record) not in names:
                    continue
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
        why = "imported" if record.imported else "earlier version"
        if not record.imported and isinstance(self.config(record.run), RunOfUninstalled):
            why = "not installed"  # whether it would come out the same cannot be told
        words = (why, f"engine {engine}" if engine else "")
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
        """The speeds by which these runs are estimated. A None among them is wished for, and not measured yet."""
        apart = {
            (config.backbone.name, config.backbone.image_size, config.training.precision): config for config in configs
        }
        return {estimates.known(self.store, device, config) for config in apart.values()}

    def seconds_left(self, findings: Findings, device: str, progress: Mapping[str, float]) -> float | None:
        """Seconds until everything is complete; None while a speed is not known. `progress` is by run, from 0 to 1.

        An arm that has a finished run will take as long as that one did. Any other will take what is estimated for it,
        at the pace of the finished runs. Runs that train at once share the device, and so a run counts by the part of
        it that it has; but it is never over sooner than it is by itself.
        """
        total = longest = 0.0
        shares = [cell.finished.result.device_share for cell in findings.cells if cell.finished]
        share = sum(shares) / len(shares) if shares else 1.0
        for cell in findings.cells:
            if cell.finished:
                continue
            whole: float | None
            if took := [_of_the_device(o.finished) for o in findings.of(cell.arm.label) if o.finished]:
                whole = sum(took) / len(took)
            elif (whole := self.seconds(cell.config, device)) is not None:
                whole *= self._pace(findings, device, (cell.config.backbone.name, cell.config.backbone.image_size))
            if whole is None:
                return None
            done = progress.get(cell.record.run, 0.0) if cell.record else 0.0
            total += whole * (1 - done)
            longest = max(longest, whole * (1 - done) / share)
        return max(total, longest)

    def _pace(self, findings: Findings, device: str, network: tuple[str, int]) -> float:
        """How many times their estimate this device's finished runs of a network took; 1 where there are none."""
        place = (findings.version, device, network)
        if place in self._paces:
            return self._paces[place]
        took = estimated = 0.0
        for cell in findings.cells:
            if cell.finished is None or cell.record is None or cell.record.imported:
                continue
            of = cell.config.backbone.name, cell.config.backbone.image_size
            if of == network and cell.finished.result.device == device:
                took += _of_the_device(cell.finished)
                estimated += self.seconds(cell.config, device) or 0.0
        pace = took / estimated if estimated else 1.0
        _remember(self._paces, place, pace)
        return pace


def _of_the_device(finished: Finished) -> float:
    """Seconds that a finished run took, each counted by the part of the device that the run had."""
    return seconds_of(finished.result.stages) * finished.result.device_share


def _with_times(finished: Finished, times: Sequence[AnswerTimes]) -> Finished:
    """A finished run with what was found of it, where it was timed in turn with others."""
    found = next((timed for one in times if (timed := one.of(finished.run))), None)
    return finished if found is None else dataclasses.replace(finished, in_turn=found)


Key = TypeVar("Key")
Value = TypeVar("Value")


def _remember(kept: OrderedDict[Key, Value], key: Key, value: Value, most: int = 8) -> None:
    """Keep a value, and of all that are kept only the newest few."""
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
