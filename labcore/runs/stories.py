"""What runs said, and which of their stages' arrays are there: the files in the folders of runs, for reading."""

import contextlib
import functools
import re
from pathlib import Path

from labcore.configs.units import count_of
from labcore.runs import kept_folds
from labcore.runs.events import Event, OtherVersion, RunStarted, Unreadable, from_line
from labcore.runs.files import digest_of
from labcore.runs.records import Records, RunRecord
from labcore.runs.results import Fold

_WORTH_KEEPING = 1_000_000  # bytes of events, which are folded in a twentieth of a second


class Stories(Records):
    """The events of runs, which only their writers (claims.py) append to.

    Laws:

    - Events are only ever appended, so whoever has read up to an offset need not read again what lies before it.
    - A last line that is still being written, or that a dead writer tore, is no event. A whole line that is an event of
      another version is passed over; one that is damaged is read as Unreadable, and the rest still is.
    - A run of which nothing was said yet has no events, and that is no error.
    """

    def tail(self, run: str, offset: int = 0) -> tuple[list[Event], int]:
        """Read the events of a run that lie past an offset.

        Args:
            run: The ID of the run.
            offset: Where to begin, in bytes: 0, or what an earlier call returned.

        Returns:
            The events, and the offset for the next call.

        Raises:
            UnknownRun: There is no such run.
        """
        try:
            with (self.folder(run) / "events.jsonl").open("rb") as file:
                file.seek(offset)
                data = file.read()
        except FileNotFoundError:
            return [], offset
        whole = data[: data.rfind(b"\n") + 1]
        events: list[Event] = []
        place = offset
        for line in whole.split(b"\n")[:-1]:
            try:
                events.append(from_line(line))
            except OtherVersion:
                pass
            except ValueError:
                events.append(Unreadable(run=run, time=events[-1].time if events else 0.0, offset=place))
            place += len(line) + 1
        return events, offset + len(whole)

    def bytes_said(self, run: str) -> int:
        """How long the events of a run are by now: another number tells that there are more. Raises UnknownRun."""
        try:
            return (self.folder(run) / "events.jsonl").stat().st_size
        except FileNotFoundError:
            return 0

    def fold(self, run: str) -> Fold:
        """All events of a run, folded. Raises UnknownRun."""
        return self.folded(run)[0]

    def folded(self, run: str) -> tuple[Fold, int]:
        """All events of a run, folded, and the offset from which to `tail` what comes after them.

        Of a long run the fold is kept, and goes on from there when it is asked for again.

        Raises:
            UnknownRun: There is no such run.
        """
        fold, begun = Fold(), 0
        told, kept = self.folder(run) / "events.jsonl", self.cache / "folds" / f"{run}.json"
        if self.bytes_said(run) > _WORTH_KEEPING:
            fold, begun = kept_folds.read(kept, told)
        events, offset = self.tail(run, begun)
        for event in events:
            fold.add(event)
        if offset - begun > _WORTH_KEEPING:
            with contextlib.suppress(OSError, ValueError):  # it cannot be written, or the events were cut off just now
                kept_folds.write(kept, told, offset, fold)
        return fold, offset

    def damage(self, run: str, fold: Fold) -> str | None:
        """What of a run's events is damaged, in a sentence; None where nothing is known to be.

        Args:
            run: The ID of the run.
            fold: All of its events, folded.

        Raises:
            UnknownRun: There is no such run.
        """
        record, path = self.record(run), self.folder(run) / "events.jsonl"
        if fold.damaged:
            lines = f"{count_of(fold.damaged, 'line')} of its events cannot be read"
            return f"Run {run} is damaged: {lines}. What is shown comes from the others, and may not be what it was."
        if record.active or record.digest is None:
            return None
        found = path.stat() if path.exists() else None
        if found is not None and _digest(path, found.st_mtime_ns, found.st_size) == record.digest:
            return None
        return (
            f"Run {run} is damaged: its events are not those that were written. The figures may not be what they were."
        )

    def engine(self, run: str) -> str:
        """The version of the engine that computed the last attempt of a run; empty where it was not written down.

        A page asks this of hundreds of runs, so only the lines that say it are parsed.

        Raises:
            UnknownRun: There is no such run.
        """
        path = self.folder(run) / "events.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        for line in reversed([line for line in lines if b'"event":"run_started"' in line]):
            with contextlib.suppress(ValueError):
                event = from_line(line)
                return event.versions.get("engine", "") if isinstance(event, RunStarted) else ""
        return ""

    def stage_folder(self, run: str, stage: int) -> Path:
        """Where the arrays of a stage (counted from 1) lie, or will lie. Raises UnknownRun."""
        return self.folder(run) / "stages" / str(stage)

    def stages_stored(self, run: str) -> list[int]:
        """The stages whose arrays are there, in order. Raises UnknownRun."""
        names = (path.parent.name for path in (self.folder(run) / "stages").glob("*/network.safetensors"))
        return sorted(int(name) for name in names if re.fullmatch("[0-9]{1,4}", name))

    def pin(self, run: str, pinned: bool) -> RunRecord:
        """Keep the arrays of a run's stages whatever room they take, or no longer.

        Returns:
            The record as it is now.

        Raises:
            UnknownRun: There is no such run.
        """
        record = self.change(run, pinned=pinned)
        # How much room is left in the stage cache is then counted anew, with these arrays or without them.
        (self.cache / "stages" / "room").unlink(missing_ok=True)
        return record


@functools.lru_cache(maxsize=256)
def _digest(path: Path, changed: int, size: int) -> str:
    """Once for each time that the file changed, because pages ask again and again."""
    return digest_of(path)
