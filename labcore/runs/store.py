"""Where runs live: one folder that pages, workers and command lines share.

Laws that hold whoever comes and goes, `kill -9` included:

- A run has one writer at a time: whoever holds the lock of its folder (`flock`, which the system releases with the
  process). Everyone else reads.
- Events are only ever appended. A torn last line is no event: readers leave it, the next writer cuts it off.
- Records change in transactions, so two that submit the same configuration at once get the same run, and two that claim
  at once get different ones.
- Nothing read from the folder is ever unpickled: records are JSON text, arrays are safetensors or npz without objects.
- What is in the folder is for its owner alone (folders 0700, files 0600 or below such a folder), whatever the folder's
  own mode.

    HOME/records/            states and queue (diskcache, JSON text only, never evicted)
    HOME/runs/ID/            config.json  events.jsonl  checkpoint.safetensors, .before  stop  stages/K/*.safetensors
    HOME/cache/pictures/     decoded pictures, by fingerprint
    HOME/cache/stages/       trained stages (stage_cache.py), by what they depend on; the arrays are the runs' own
    HOME/cache/training/     who trains which stage just now (stage_locks.py)
    HOME/weights/, datasets/ what was downloaded, or put there by hand; never evicted
    HOME/workers/            a lock for each slot of a device, a log, and the locks by which runs stand still (quiet.py)
    HOME/settings.json       what a person has set for the lab as a whole

`Store` is made of parts that share the one open folder; each part tells its own laws and has its own file:

    Records      records.py     which runs there are: record, records, active, config, folder, change, delete, take_in
    Queue        queue.py       what people ask for: submit, known, request_stop, resume
    Stories      stories.py     what runs said: tail, fold, engine; which stages' arrays are there: stages_stored, pin
    Workers      workers.py     who trains, and on what: lock_device, tell_worker, workers, at_work, devices
    Preferences  settings.py    what a person has set: settings, change_settings, country
    Claim        claims.py      the right to write one run, which `claim` and `claim_run` give out

A method raises what its docstring names and no other error of the store; where the disk itself refuses, OSError.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from labcore.configs.base import ConfigError
from labcore.runs.claims import Claim
from labcore.runs.errors import Busy, UnknownRun
from labcore.runs.files import Reserve, take_lock
from labcore.runs.queue import Queue
from labcore.runs.records import Process, RunRecord
from labcore.runs.results import RunResult
from labcore.runs.settings import Preferences
from labcore.runs.stories import Stories
from labcore.runs.workers import Workers

Choose = Callable[[Iterator[RunRecord]], Iterator[RunRecord]]

# So many attempts in a row may lose their worker without saving a checkpoint: then it is the run that ends workers.
MOST_LOST = 3
_LOST_TOO_OFTEN = (
    f"Its worker was gone {MOST_LOST} times in a row before anything more was saved; most likely the run needs more "
    "memory than there is. Close other programs and resume it, or run it again with a smaller training.batch_size or "
    "backbone.image_size."
)


class Store(Queue, Stories, Workers, Preferences):
    """The folder of runs, with all its parts; and here what needs several of them at once.

    Attributes:
        reserve: A megabyte of the disk for the last words of a run.
    """

    def __init__(self, root: Path | None = None) -> None:
        """Open the store at `root`, by default at `files.home()`. Raises StoreError where it cannot be written."""
        super().__init__(root)
        self.reserve = Reserve(self.root / "reserve")
        self.reserve.keep()

    def waiting(self, device: str) -> Iterator[RunRecord]:
        """The runs that wait for this device or that lost their worker, in the order of the queue, read one by one."""
        for run in self._active():
            with contextlib.suppress(UnknownRun):
                self.folder(run)
                record = self.record(run)
                if record.device in ("auto", device) and (record.state == "queued" or record.lost):
                    yield record

    def claim(self, device: str, choose: Choose = iter) -> Claim | None:
        """Become the writer of the oldest run that waits for this device or that lost its worker.

        A run that loses its worker again and again without getting further fails here; a person may resume it.

        Args:
            device: The device that the caller trains on.
            choose: Is given the waiting runs, and gives back those that may be claimed, the first to be tried first.

        Returns:
            The claim, or None where nothing waits.
        """
        for record in choose(self.waiting(device)):
            with contextlib.suppress(Busy, UnknownRun):
                claim = self.claim_run(record.run)
                if claim.record.lost_attempts < MOST_LOST:
                    return claim
                claim.fail(_LOST_TOO_OFTEN)
        return None

    def claim_run(self, run: str) -> Claim:
        """Become the writer of this run, which waits or lost its worker.

        Raises:
            Busy: Another process writes it, or it is over.
            UnknownRun: There is no such run.
        """
        lock = take_lock(self.folder(run) / "lock")
        try:
            with self._transaction():
                record = self.record(run)
                if not (record.state == "queued" or record.lost):
                    raise Busy(f"Run {run} is {record.state}, not waiting.")
                checkpoint = self._checkpoint_time(run)
                before = record.lost_attempts if checkpoint == record.checkpoint else 0
                # An old request to stop goes here, where nobody can make a new one yet: a later one is not lost.
                (self.folder(run) / "stop").unlink(missing_ok=True)
                record = self.change(
                    run,
                    state="running",
                    owner=Process.me(),
                    attempt=record.attempt + 1,
                    lost_attempts=before + 1 if record.lost else 0,
                    checkpoint=checkpoint,
                    started=record.started or time.time(),
                    ended=None,
                    error=None,
                )
            return Claim(self, record, lock)
        except BaseException:
            os.close(lock)
            raise

    def _checkpoint_time(self, run: str) -> int:
        try:
            return (self.folder(run) / "checkpoint.safetensors").stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def result(self, run: str, *, cached: bool = False) -> RunResult:
        """The figures of a run, finished or not.

        Args:
            run: The ID of the run.
            cached: What the result shall say of itself: that the run was complete before it was asked for.

        Raises:
            UnknownRun: There is no such run.
            ConfigError: This version of the lab cannot read its configuration.
        """
        record, config = self.record(run), self.config(run)
        return self.fold(run).result(
            run,
            record.state,
            config.model_dump(mode="json"),
            error=record.error,
            cached=cached,
            weights=self.stages_stored(run),
            country=self.country(),
        )

    def usage(self) -> dict[str, int]:
        """How many bytes the store takes, by purpose; a file of two names counts once, where it is met first.

        Returns:
            Bytes of `runs`, `stages` (the arrays of trained stages), `pictures`, `downloads` and `other`.
        """
        places = {"weights": "downloads", "datasets": "downloads", "runs": "runs"}
        found = dict.fromkeys(("runs", "stages", "pictures", "downloads", "other"), 0)
        seen: set[tuple[int, int]] = set()
        for folder, _, names in os.walk(self.root):
            parts = Path(folder).relative_to(self.root).parts
            what = places.get(parts[0] if parts else "", "other")
            if "stages" in parts[1:]:
                what = "stages"
            elif parts[:2] == ("cache", "pictures"):
                what = "pictures"
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    status = os.lstat(os.path.join(folder, name))
                    if (place := (status.st_dev, status.st_ino)) not in seen:
                        seen.add(place)
                        found[what] += status.st_size
        return found

    def check(self) -> list[str]:
        """What is wrong with the store, a sentence each; empty when all is well."""
        problems = [str(warning.message) for warning in self._database.check()]
        for record in self.records():
            try:
                self.config(record.run)
            except (ConfigError, OSError) as error:
                problems.append(f"Run {record.run}: {error}")
        return problems
