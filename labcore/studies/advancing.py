"""How explorations go on: the next runs are queued as soon as a worker has nothing to train. No torch here.

A worker that is idle calls `advance`, so that closing a page stops nothing. What it queues are ordinary runs.
"""

import contextlib
import logging

from labcore.configs.base import ConfigError
from labcore.configs.units import count_of
from labcore.runs.errors import StoreError
from labcore.runs.store import Store
from labcore.studies import explorations, proposals
from labcore.studies.experiments import Findings
from labcore.studies.explorations import Asked, ExplorationRecord
from labcore.studies.reader import Reader

log = logging.getLogger("labcore.studies.advancing")

_MOST_REFUSED = 50
# Where the first so many fail, as for want of a download, all would, in no time: no budget of minutes would end it.
_MOST_FAILED = 20


def advance(store: Store, reader: Reader) -> bool:
    """Queue what is next of every exploration that goes on. Returns whether anything was queued.

    Called by a worker that is idle. Where none goes on it costs a look into a folder; an exploration that cannot be
    written now is passed over.
    """
    queued = False
    for name in explorations.marked(store):
        with contextlib.suppress(StoreError):
            queued |= advance_one(store, reader, name)
    return queued


def advance_one(store: Store, reader: Reader, name: str) -> bool:
    """Queue what is next of one that goes on. Returns whether anything was queued.

    An exploration that breaks is ended, and the reason is written down. Raises StoreError.
    """
    with explorations.locked(store):
        try:
            record = explorations.read(store, name)
            return record.going and _next(store, reader, record)  # else it was stopped just now
        except Exception as error:
            log.exception("Exploration %s broke off", name)
            _break_off(store, name, f"{explorations.BROKE_OFF}{type(error).__name__}: {error}")
            return False


def _next(store: Store, reader: Reader, record: ExplorationRecord) -> bool:
    """Queue combinations until as many runs are open as can be trained at once, or the exploration is over.

    Returns whether any was asked for.
    """
    exploration = record.exploration
    workers = [worker for worker in store.workers() if worker.slot == 0]
    at_once = sum(worker.slots for worker in workers if exploration.device in ("auto", worker.device))
    before = len(record.asked)
    while True:
        findings = reader.look(record.experiment())
        told = record.told(findings)
        if exploration.seeds * sum(one.open for one in told) >= max(1, at_once):
            break
        values = proposals.ask(exploration, told) if (why := _spent(record, findings)) is None else None
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
                store.submit(arm.seeded(seed), device=exploration.device, asked_by=record.name)
            asked = Asked(values=values)
        record = record.model_copy(update={"asked": (*record.asked, asked)})
        explorations.write(store, record)
    asked_for_more = len(record.asked) > before
    if record.ended or asked_for_more:
        explorations.write(store, record.model_copy(update={"importance": proposals.importance(exploration, told)}))
    if record.ended:
        explorations.unmark(store, record.name)
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
            return f"{explorations.MOST_RUNS} runs were tried, as many as can be."
        return f"The budget of {count_of(exploration.runs, 'run')} is used."
    if exploration.minutes is not None and record.spent(findings) >= 60 * exploration.minutes:
        return f"The budget of {count_of(exploration.minutes, 'minute')} is used."
    return None


def _break_off(store: Store, name: str, why: str) -> None:
    """End an exploration that cannot go on; one that cannot even be read or written loses its marker alone."""
    with contextlib.suppress(ConfigError, OSError):
        explorations.write(store, explorations.read(store, name).model_copy(update={"ended": why}))
    explorations.unmark(store, name)
