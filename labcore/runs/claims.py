"""A claim: the right of one process to write a run, from when it takes the run out of the queue until the run is over.

`Store.claim` and `Store.claim_run` give claims out; nothing else writes a run's events.
"""

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING, Any, Literal

from labcore.configs.base import ConfigError
from labcore.runs import files
from labcore.runs.events import Event, RunEnded, to_line
from labcore.runs.records import RunRecord, summary

if TYPE_CHECKING:  # the store makes the claims, and a claim knows its store
    from labcore.runs.store import Store


class Claim:
    """The right to write a run. One process holds it, by the lock of the run's folder.

    Laws:

    - Every event is stamped with the run, the attempt and its place in the story (`seq`), which counts every line that
      was ever written for this run.
    - A line is written whole or not at all. What an earlier writer tore is cut off before the first line is written.
    - The claim ends with `finish`, `fail`, `put_back` or `release`, or with the process. After that nothing of it may
      be called.

    Attributes:
        store: The store that the run lives in.
        record: The record as it was when the run was claimed.
        run: The ID of the run.
        folder: The folder of the run.
    """

    def __init__(self, store: "Store", record: RunRecord, lock: int) -> None:
        """Take over `lock`, the held lock of the run's folder, and open the events for writing."""
        self.store, self.record, self._lock = store, record, lock
        self.run = record.run
        self.folder = store.folder(record.run)
        for path in self.folder.rglob(".*"):  # what a writer before us was writing when it was killed
            if files.is_left_over(path.name) and not path.name.startswith(".record.jsonl."):
                path.unlink(missing_ok=True)
        path = self.folder / "events.jsonl"
        self._events = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._seq = self._cut_torn_line()

    def _cut_torn_line(self) -> int:
        """Cut off a last line that is not whole, and count the others."""
        with open(self._events, "rb", closefd=False) as file:
            data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self._events, whole)
        return data.count(b"\n")

    def append(self, event: Event) -> Event:
        """Write an event.

        Returns:
            The event as it was written, with its stamps.

        Raises:
            OSError: It cannot be written, as when the disk is full; no torn line is left.
        """
        event = event.model_copy(update={"run": self.run, "attempt": self.record.attempt, "seq": self._seq})
        line, size = to_line(event), os.fstat(self._events).st_size
        try:
            files.about_to_write(self.folder / "events.jsonl")
            written = os.write(self._events, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._events, size)
            raise
        self._seq += 1
        return event

    def sync(self) -> None:
        """Make sure that what was appended survives a power cut. Raises OSError."""
        os.fsync(self._events)

    def stop_requested(self) -> bool:
        """Whether somebody asked this run to stop."""
        return self.store.stop_requested(self.run)

    def finish(self, state: Literal["complete", "stopped", "failed"], error: str | None = None) -> RunRecord:
        """Write into the record how the run ended and its figures in short, and give up the claim.

        Returns:
            The record as it is now.
        """
        try:
            figures: dict[str, float | None] = {}
            # A run whose configuration cannot be read must not end the worker that says so.
            with contextlib.suppress(ConfigError):
                figures = summary(self.store.result(self.run))
            with contextlib.suppress(OSError):
                self.sync()
            over: dict[str, Any] = {"state": state, "owner": None, "ended": time.time(), "error": error, **figures}
            with contextlib.suppress(OSError):
                over["digest"] = files.digest_of(self.folder / "events.jsonl")
            return self.store.reserve.give_for(lambda: self._put_end(over))
        finally:
            self.release()

    def _put_end(self, over: dict[str, Any]) -> RunRecord:
        """Record how the run ended. What was imported counts as this lab's own once it was trained here to its end."""
        if not (self.record.imported and over["state"] == "complete"):
            return self.store.change(self.run, **over)
        with self.store.at_once():
            record = self.store.change(self.run, imported=False, **over)
            self.store.answer_with(record)
        return record

    def fail(self, error: str) -> RunRecord:
        """Say the last words of a run that cannot go on, even on a full disk, and finish it.

        Args:
            error: What went wrong and what to do, in plain sentences for the person.

        Returns:
            The record as it is now.
        """
        self.store.reserve.spend()
        with contextlib.suppress(OSError):
            self.append(RunEnded(state="failed", error=error))
        return self.finish("failed", error)

    def put_back(self) -> RunRecord:
        """Give the run back to the queue: this process ends, and another may go on from the checkpoint.

        Where somebody has asked it to stop meanwhile, it is stopped instead.
        """
        try:
            with self.store.at_once():
                if self.stop_requested():
                    return self.store.change(self.run, state="stopped", owner=None, ended=time.time())
                return self.store.change(self.run, state="queued", owner=None)
        finally:
            self.release()

    def release(self) -> None:
        """Give up the claim and leave the record as it is."""
        (self.folder / "stop").unlink(missing_ok=True)
        for descriptor in (self._events, self._lock):
            with contextlib.suppress(OSError):
                os.close(descriptor)
