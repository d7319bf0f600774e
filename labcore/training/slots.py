"""Several runs at once on one machine: which run a slot may train, and with how many of torch's threads.

A device's worker is its slot 0. While two or more runs wait it starts further processes, the slots 1, 2, … (see
foreman.py), and every slot claims runs for itself. What they keep to:

- Alone a run gets all cores. Where several wait or are at work, they share the cores evenly: `cores // together`
  threads each. `REUSE_LAB_THREADS`, where it is set, decides instead.
- Bits depend on the number of threads, so a run that has a checkpoint goes on with the number that it began with, and a
  run whose first stages are stored takes the number that they were trained with: no stage is trained again because it
  was trained in other company.
- Together the runs at work have no more threads than there are cores. A run that needs more than are free is passed
  over by those that were queued with it, and only by them, so that it comes to its turn.
- A run whose next stage another one trains just now is passed over until that stage is stored.
- Beside others a run begins only where there is memory for all of them, by their estimates.

No torch here until there is a slot: pages read the worker, which reads this module.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import psutil

from labcore.configs.base import ConfigError
from labcore.configs.reading import require_installed
from labcore.configs.run import RunConfig
from labcore.runs.claims import Claim
from labcore.runs.records import RunRecord, WorkerRecord
from labcore.runs.stage_cache import StageCache
from labcore.runs.stage_keys import StageKey
from labcore.runs.stage_locks import is_held
from labcore.runs.store import Store
from labcore.studies import estimates
from labcore.tasks.source import TaskError

MOST_SLOTS = 1024
# Runs that were queued within so many seconds of each other were queued together.
TOGETHER_SECONDS = 60.0
# What a process holds before it trains anything, and what a run is taken to need whose network was never measured here.
_PROCESS_BYTES, _UNKNOWN_BYTES = 300_000_000, 1_500_000_000


@dataclass(frozen=True, slots=True)
class Turn:
    """A run that may be trained now, with how many threads, and the key of the first stage that it has to train."""

    record: RunRecord
    threads: int
    stage: str | None


@dataclass(slots=True)
class _Outlook:
    """What is known of a run that waits.

    `config` is None where it cannot be used here. `fixed` is the number of threads that it began with, if it has begun,
    and `done` how many of its stages were then over. `keys` are those of its stages, by the number of threads.
    """

    config: RunConfig | None
    fixed: int | None = None
    done: int = 0
    keys: dict[int, list[StageKey]] = field(default_factory=dict)


class Slots:
    """The slots of a device, as one of them sees them: number `slot` of at most `most`."""

    def __init__(self, store: Store, device: str, most: int = 1, slot: int = 0) -> None:
        """Raises ConfigError where `REUSE_LAB_THREADS` cannot be used."""
        from labcore.training import hardware, stored_stages  # now, and not while the other slots wait for a decision

        self.store, self.device, self.most, self.slot = store, device, most, slot
        self.asked, self.cores = hardware.asked_threads(), hardware.cores()
        self._keys_ahead = stored_stages.keys_ahead
        self._stages = StageCache(store)
        self._outlooks: dict[tuple[str, int], _Outlook] = {}

    # ---- claiming ---------------------------------------------------------------------------------------------------

    def claim(self) -> tuple[Claim, int] | None:
        """Claim the run whose turn it is, and say so in the slot's record.

        Returns:
            The claim and the number of threads to train it with; None where no run may be trained here now.
        """
        if next(self.store.waiting(self.device), None) is None:  # a look that keeps nobody waiting
            return None
        with self.store.at_once():  # the slots decide one after the other
            turns: dict[str, Turn] = {}

            def choose(waiting: Iterator[RunRecord]) -> Iterator[RunRecord]:
                for turn in self.turns(waiting):
                    turns[turn.record.run] = turn
                    yield turn.record

            claim = self.store.claim(self.device, choose)
            if claim is None:
                return None
            turn = turns[claim.run]
            self.tell(turn)
        return claim, turn.threads

    def tell(self, turn: Turn | None) -> None:
        """Write the slot's record: what it trains now, or that it waits."""
        run, threads, stage = (None, 0, None) if turn is None else (turn.record.run, turn.threads, turn.stage)
        self.store.tell_worker(self.device, run, slot=self.slot, slots=self.most, threads=threads, stage=stage)

    def turns(self, waiting: Iterable[RunRecord]) -> Iterator[Turn]:
        """The waiting runs that may begin now, each as if it were the only one to begin, the first in turn first."""
        at_work = [worker for worker in self.store.at_work(self.device) if worker.slot != self.slot]
        waiting = iter(waiting)
        ahead = list(itertools.islice(waiting, self.most))  # more than can be at work need not be counted
        together = min(self.most, len(at_work) + len(ahead))
        if self.slot and together < 2:
            return  # a further slot is there for company: the worker itself trains what is alone
        share = self.asked or max(1, self.cores // max(1, together))
        free = max(self.cores, self.most * (self.asked or 1)) - sum(worker.threads for worker in at_work)
        begun = {worker.stage for worker in at_work} - {None}
        passed_over: RunRecord | None = None
        for record in itertools.chain(ahead, waiting):
            if passed_over and record.submitted > passed_over.submitted + TOGETHER_SECONDS:
                return
            outlook = self._outlook(record)
            threads = self._threads(record, outlook, share)
            if at_work and threads > free:
                passed_over = passed_over or record
                continue
            stage = self._next_stage(record, outlook, threads)
            if stage is not None and (stage in begun or is_held(self.store, stage)):
                continue
            if at_work and not self._fits(record, at_work):
                return
            yield Turn(record, threads, stage)

    def threads_alone(self, record: RunRecord) -> int:
        """The number of threads for a run that somebody has claimed and trains by itself."""
        return self._threads(record, self._outlook(record), self.asked or self.cores)

    # ---- what a run needs -------------------------------------------------------------------------------------------

    def _outlook(self, record: RunRecord) -> _Outlook:
        """What is known of a waiting run; it does not change before its next attempt, so it is looked at once."""
        place = (record.run, record.attempt)
        if place not in self._outlooks:
            if len(self._outlooks) > 1000:
                self._outlooks.clear()
            self._outlooks[place] = self._look(record)
        return self._outlooks[place]

    def _look(self, record: RunRecord) -> _Outlook:
        try:
            config = self.store.config(record.run)
            require_installed(config)
        except (ConfigError, OSError):
            return _Outlook(None)  # whoever claims it says what is wrong
        outlook = _Outlook(config)
        if (self.store.folder(record.run) / "checkpoint.safetensors").exists():
            fold = self.store.fold(record.run)
            outlook.fixed = fold.started.threads if fold.started else None
            outlook.done = sum(stage.ended is not None for stage in fold.stages)
        return outlook

    def _keys(self, outlook: _Outlook, threads: int) -> list[StageKey]:
        if threads not in outlook.keys:
            try:
                found = self._keys_ahead(outlook.config, self.device, threads) if outlook.config else []
            except Exception:  # a method's or a source's: whoever trains the run meets it, and says so
                found = []
            outlook.keys[threads] = found
        return outlook.keys[threads]

    def _stored(self, outlook: _Outlook, threads: int) -> int:
        """How many of the run's first stages are stored as they come out with so many threads."""
        config, count = outlook.config, 0
        for number, key in enumerate(self._keys(outlook, threads), 1):
            needs = config is not None and config.addition_config(number) is None
            if not self._stages.has(key, needs_addition=needs):
                break
            count = number
        return count

    def _threads(self, record: RunRecord, outlook: _Outlook, share: int) -> int:
        """With how many threads a run is trained, where `share` are its own to have."""
        if self.asked:
            return self.asked
        if outlook.fixed:
            return outlook.fixed
        if record.fresh:
            return share
        counts = [share, *(count for count in range(self.cores, 0, -1) if count != share)]
        return max(counts, key=lambda threads: self._stored(outlook, threads))  # of equals the first

    def _next_stage(self, record: RunRecord, outlook: _Outlook, threads: int) -> str | None:
        """The key of the first stage that the run would train; None where there is none, or it may not be shared."""
        if record.fresh:
            return None
        keys = self._keys(outlook, threads)
        done = outlook.done if outlook.fixed else self._stored(outlook, threads)
        return keys[done].training if done < len(keys) else None

    # ---- memory -----------------------------------------------------------------------------------------------------

    def _fits(self, record: RunRecord, at_work: Sequence[WorkerRecord]) -> bool:
        """Whether there is memory for this run beside those at work, each with all that it is estimated to need."""
        if self.device != "cpu":
            return True  # several at once on a card is what somebody asked for
        held = psutil.virtual_memory().available
        needed = self._needs(record.run)
        for worker in at_work:
            needed += self._needs(worker.run or "")
            held += worker.process.memory()
        return needed <= held

    def _needs(self, run: str) -> float:
        """The bytes that a process needs to train a run."""
        needed = float(_UNKNOWN_BYTES)
        try:
            config = self.store.config(run)
            speed = estimates.known(self.store, self.device, config)
            if speed is not None:
                needed = estimates.estimate(config, speed, self.store.settings().maps).memory
        except (ConfigError, TaskError, OSError, KeyError):
            pass  # whoever trains it says what is wrong
        return _PROCESS_BYTES + needed


def most_slots(device: str, asked: int | None) -> int:
    """How many runs a device's worker may train at once: as many as were asked for.

    If nothing was asked for, these are as many as there are cores for them; on a card it is one.
    """
    from labcore.training import hardware

    if asked is not None:
        return asked
    return max(1, hardware.cores() // (hardware.asked_threads() or 1)) if device == "cpu" else 1
