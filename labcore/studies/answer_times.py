"""Answer times that may be compared: those of several finished runs, timed in turn. No torch here.

A run times its own answers at its end, and another run does so at another hour, when the machine has other things to
do. So the two figures are not compared. A page that wants to compare wishes for it; a worker that has nothing else to
do times the runs in turn (labcore/training/answer_times.py) and keeps what it found. A run's own figure stays its own.

    HOME/cache/answer_times/KEY.wish    somebody wants these runs timed in turn
    HOME/cache/answer_times/KEY.json    what was found

Both are JSON, and are passed over where they are damaged or do not hold what their name says.
"""

import contextlib
import functools
import hashlib
import statistics
from pathlib import Path
from typing import Annotated

from pydantic import Field

from labcore.configs.base import Frozen, Number, Whole
from labcore.runs.files import write_atomically
from labcore.runs.store import Store
from labcore.version import ENGINE_VERSION

# A file larger than this is not one of ours.
_LARGEST = 1 << 18
_MOST_RUNS = 1000

Milliseconds = Annotated[Number, Field(gt=0)]


class Turn(Frozen):
    """Which runs are to be timed in turn, each by its ID and attempt, and on which device of which machine."""

    engine: str
    device: str
    machine: str
    runs: tuple[tuple[str, Whole], ...] = Field(min_length=1, max_length=_MOST_RUNS)

    @property
    def key(self) -> str:
        """What its files are called: the same for the same runs on the same device by the same engine."""
        same = self.model_copy(update={"runs": tuple(sorted(self.runs))})
        return hashlib.blake2b(same.model_dump_json().encode(), digest_size=16).hexdigest()


class InTurn(Frozen):
    """How long a run's answers took in each round, in milliseconds a picture; or `why` it was left out.

    torch had so many `threads`.
    """

    run: str
    threads: Whole = Field(ge=1)
    milliseconds: tuple[Milliseconds, ...] = ()
    why: str = ""

    @property
    def median(self) -> float | None:
        """The median over rounds, which is the run's figure."""
        return statistics.median(self.milliseconds) if self.milliseconds else None

    @property
    def middle(self) -> tuple[float, float] | None:
        """The lower and the upper quartile of the rounds: one round that something disturbed moves neither far."""
        if len(self.milliseconds) < 2:
            return None
        lower, _, upper = statistics.quantiles(self.milliseconds, n=4, method="inclusive")
        return lower, upper


class AnswerTimes(Frozen):
    """What was found when some runs were timed in turn, in the order of the turn's runs."""

    turn: Turn
    timed: tuple[InTurn, ...]

    def of(self, run: str) -> InTurn | None:
        """What was found of a run."""
        return next((timed for timed in self.timed if timed.run == run), None)


def turn_of(store: Store, device: str, runs: list[tuple[str, int]]) -> Turn:
    """The turn of these runs, by ID and attempt, on a device of this machine, as this engine answers."""
    return Turn(engine=ENGINE_VERSION, device=device, machine=store.devices().get(device, ""), runs=tuple(runs))


def _path(store: Store, turn: Turn) -> Path:
    return store.cache / "answer_times" / f"{turn.key}.json"


def known(store: Store, turn: Turn) -> AnswerTimes | None:
    """What was found of these runs; None where they were not timed in turn, or the file cannot be used."""
    path = _path(store, turn)
    try:
        found = path.stat()
        times = _read(path, found.st_mtime_ns, found.st_ino)
    except (OSError, ValueError):
        return None
    fits = times.turn.key == turn.key and [timed.run for timed in times.timed] == [run for run, _ in times.turn.runs]
    return times if fits else None


@functools.lru_cache(maxsize=64)
def _read(path: Path, changed: int, inode: int) -> AnswerTimes:
    """A page asks every second: the file is read once for each time that it changed. Raises OSError, ValueError."""
    return AnswerTimes.model_validate_json(_text(path))


def _text(path: Path) -> bytes:
    with path.open("rb") as file:
        text = file.read(_LARGEST + 1)
    if len(text) > _LARGEST:
        raise ValueError(f"{path.name} is too large to be one of the lab's")
    return text


def wish(store: Store, turn: Turn) -> None:
    """Say that these runs are to be timed in turn; nothing is written where that was said before."""
    path = _path(store, turn).with_suffix(".wish")
    if not path.exists():
        write_atomically(path, turn.model_dump_json().encode())


def next_wish(store: Store, device: str) -> Turn | None:
    """Runs that somebody wants timed in turn on this device by this engine."""
    for path in sorted((store.cache / "answer_times").glob("*.wish")):
        with contextlib.suppress(OSError, ValueError):
            turn = Turn.model_validate_json(_text(path))
            if (turn.device, turn.engine, turn.key) == (device, ENGINE_VERSION, path.stem):
                return turn
    return None


def keep(store: Store, times: AnswerTimes) -> None:
    """Write down what was found; the wish is fulfilled."""
    path = _path(store, times.turn)
    write_atomically(path, times.model_dump_json().encode())
    path.with_suffix(".wish").unlink(missing_ok=True)
