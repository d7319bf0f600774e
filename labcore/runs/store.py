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
    HOME/records.lock        who makes the records anew just now; records.damaged-TIME/ are those that were put aside
    HOME/runs/ID/            config.json  record.jsonl  events.jsonl  checkpoint.safetensors, .before  stop  lock
                             stages/K/*.safetensors  maps/K/*.npz
    HOME/explorations/       explorations, a file each
    HOME/cache/pictures/     decoded pictures, by fingerprint
    HOME/cache/stages/       trained stages (stage_cache.py), by what they depend on; the arrays are the runs' own
    HOME/cache/folds/        what the events of long runs add up to (kept_folds.py)
    HOME/cache/training/     who trains which stage just now (stage_locks.py)
    HOME/cache/speeds/, answer_times/, results/  what was measured of this machine, or summed up of runs
    HOME/weights/, datasets/ what was downloaded, or put there by hand; never evicted
    HOME/workers/            a lock for each slot of a device, a log, and the locks by which runs stand still (quiet.py)
    HOME/settings.json       what a person has set for the lab as a whole
    HOME/reserve             a megabyte for a full disk

`Store` is made of parts that share the one open folder; each part tells its own laws and has its own file:

    Records      records.py     which runs there are: record, records, active, config, folder, change, delete, take_in
    Gallery      gallery.py     the recorded runs that ship with the lab, beside the store's own: recordings, recorded
    Queue        queue.py       what people ask for: submit, known, request_stop, resume
    Stories      stories.py     what runs said: tail, fold, engine; which stages' arrays are there: stages_stored, pin
    Workers      workers.py     who trains, and on what: lock_device, tell_worker, workers, at_work, devices
    Preferences  settings.py    what a person has set: settings, change_settings, country
    Claim        claims.py      the right to write one run, which `claim` and `claim_run` give out

A method raises what its docstring names and no other error of the store; where the disk itself refuses, OSError.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from labcore.configs.base import ConfigError
from labcore.configs.run import RunConfig
from labcore.runs import losses
from labcore.runs.claims import Claim
from labcore.runs.errors import Busy, StoreError, UnknownRun
from labcore.runs.files import digest_of, is_held, is_left_over, take_lock, write_atomically
from labcore.runs.gallery import Gallery
from labcore.runs.queue import Queue
from labcore.runs.records import Loss, Process, RunRecord, made_anew
from labcore.runs.results import RunResult
from labcore.runs.settings import Preferences
from labcore.runs.stories import Stories
from labcore.runs.workers import Workers

Choose = Callable[[Iterator[RunRecord]], Iterator[RunRecord]]

_MOST_NAMED = 200  # records that are given their names whenever a worker comes up, which they keep for two seconds
_DAY = 86400.0  # seconds
# So many attempts in a row may lose their worker without leaving a newer checkpoint.
MOST_LOST = 3


class Store(Gallery, Queue, Stories, Workers, Preferences):
    """The folder of runs, with all its parts; and here what needs several of them at once."""

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
                claim.fail(_lost_too_often(claim.record.loss))
        return None

    def claim_run(self, run: str) -> Claim:
        """Become the writer of this run, which waits or lost its worker.

        One that somebody asked to stop, and whose worker was lost before it could obey, is stopped here.

        Raises:
            Busy: Another process writes it, or it is over.
            UnknownRun: There is no such run.
        """
        lock = take_lock(self.folder(run) / "lock")
        try:
            with self._transaction():
                if self.record(run).state == "running" and self.stop_requested(run):
                    lost = self.record(run).times_lost + 1
                    self.change(run, state="stopped", owner=None, ended=time.time(), times_lost=lost)
            with self._transaction():
                record = self.record(run)
                if not record.active:
                    raise Busy(f"Run {run} is {record.state}, not waiting.")
                lost = record.state == "running"  # whoever wrote it is gone, for the lock is ours
                checkpoint = self._checkpoint_time(run)
                in_vain = lost and checkpoint == record.checkpoint
                kills = losses.memory_kills()
                loss = _loss_of(record, kills) if lost else record.loss
                # An old request to stop goes here, where nobody can make a new one yet: a later one is not lost.
                (self.folder(run) / "stop").unlink(missing_ok=True)
                record = self.change(
                    run,
                    state="running",
                    owner=Process.me(),
                    attempt=record.attempt + 1,
                    lost_attempts=record.lost_attempts + 1 if in_vain else 0,
                    checkpoint=checkpoint,
                    times_lost=record.times_lost + lost,
                    loss=loss,
                    memory_kills=kills,
                    started=record.started or time.time(),
                    ended=None,
                    error=None,
                )
            return Claim(self, record, lock)
        except BaseException:
            os.close(lock)
            raise

    def tell_loss(self, pid: int, how: str, memory: bool) -> None:
        """Say how a process was lost, of the run that it wrote, also where another one goes on with that by now.

        Args:
            pid: The process's number.
            how: The signal or the exit status, in words.
            memory: Whether it is known that memory had run out.
        """
        with self._transaction():
            for record in self.active():
                owner, loss = record.owner, record.loss
                if record.lost and owner is not None and owner.pid == pid:
                    self.change(record.run, loss=Loss(process=owner, how=how, memory=memory))
                elif loss is not None and not loss.how and loss.process is not None and loss.process.pid == pid:
                    self.change(record.run, loss=Loss(process=loss.process, how=how, memory=memory or loss.memory))

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
            Bytes of `runs`, `stages` (the arrays of trained stages), `maps`, `pictures`, `downloads` and `other`.
        """
        places = {"weights": "downloads", "datasets": "downloads", "runs": "runs"}
        found = dict.fromkeys(("runs", "stages", "maps", "pictures", "downloads", "other"), 0)
        seen: set[tuple[int, int]] = set()
        for folder, _, names in os.walk(self.root):
            parts = Path(folder).relative_to(self.root).parts
            what = places.get(parts[0] if parts else "", "other")
            if "stages" in parts[1:]:
                what = "stages"
            elif parts[:1] == ("runs",) and "maps" in parts[2:3]:
                what = "maps"
            elif parts[:2] == ("cache", "pictures"):
                what = "pictures"
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    status = os.lstat(os.path.join(folder, name))
                    if (place := (status.st_dev, status.st_ino)) not in seen:
                        seen.add(place)
                        found[what] += status.st_size
        return found

    def warnings(self) -> list[str]:
        """What is damaged or cannot be done, as far as it was noticed by now, a sentence each. It costs no search."""
        found = self.notes
        if (why := self._database.damage) is not None:
            found.append(f"The records are damaged ({why}); what is shown is read from the runs' folders.")
        if self.read_only:
            found.append(
                f"The store {self.root} cannot be written ({self.read_only}); it can be looked at and exported."
            )
        return found + list(filter(None, [self.settings_problem()]))

    def check(self, *, repair: bool = False, tell: Callable[[str], object] = lambda text: None) -> list[str]:
        """Look through the records, every run's configuration and events, the settings, and what was left behind.

        Args:
            repair: Make the records anew from the runs' folders where they are damaged, write down in the folders what
                only the records say, restore configurations that the events hold, and clear away what processes left
                that died. What was put right stands in `notes`.
            tell: Is told again and again how far it is, in a few words.

        Returns:
            What is wrong, a sentence each; empty when all is well.

        Raises:
            StoreError: It cannot be repaired because nothing can be written.
        """
        wrong: list[str] = []
        if repair and (why := self.read_only):
            raise StoreError(f"The store {self.root} cannot be repaired, because it cannot be written ({why}).")
        if (why := self._database.problem()) is not None:
            if repair:
                self._database.make_anew(why)
            else:
                wrong.append(
                    f"The records are damaged ({why}); `check --repair` makes them anew from the runs' folders."
                )
        if (why := self.settings_problem()) is not None:
            wrong.append(why)
        wrong += self._check_folders(repair)
        records = self.records()
        for number, record in enumerate(records, 1):
            tell(f"{number:,} of {len(records):,} runs")
            if (self.root / "runs" / record.run).is_dir():
                wrong += self._check_run(record, repair)
        tell("what processes left that died")
        left = [f"{path.relative_to(self.root)} was left by a process that died" for path in self._left_behind()]
        if repair:
            self.tidy()
            for text in left:
                self._database.note(f"{text}; it was removed.")
        else:
            wrong += [f"{text}; `check --repair` removes it." for text in left]
        return wrong

    def tidy(self) -> None:
        """Clear away what processes left that died, and write down in the folders of older runs what only the records
        say. A worker does so once it has nothing to train, because to look through a large store takes seconds."""
        for path in self._left_behind():
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        named = 0
        with contextlib.suppress(OSError):
            for record in self.records():
                names = record.names
                if names is None and named < _MOST_NAMED:  # the record is of before there were names
                    with contextlib.suppress(ConfigError, UnknownRun):
                        names, named = self.names(record), named + 1
                if names != record.names or not (self.root / "runs" / record.run / "record.jsonl").exists():
                    with contextlib.suppress(UnknownRun):
                        self.change(record.run, names=names)

    def _left_behind(self) -> Iterator[Path]:
        """Files and folders that nobody writes any more and nobody will read.

        In the folder of a run they are what its writer was writing, once nobody holds its lock. Elsewhere nothing tells
        whether a writer lives, so they must be a day old, longer than anything takes to be written.
        """
        yield from self.cache.glob("deleted-*")
        yield from self.cache.glob("stages/.gone-*")  # stages that made room, half removed
        yield from (path for path in self.cache.glob("folds/*.json") if not (self.root / "runs" / path.stem).exists())
        for name in ("import-*", "tmp*", "pictures/tmp*", "stages/.new-*"):
            yield from filter(_is_old, self.cache.glob(name))
        for folder, _, names in os.walk(self.root):
            left = [Path(folder, name) for name in names if is_left_over(name)]
            if left:
                parts = Path(folder).relative_to(self.root).parts
                free = len(parts) > 1 and parts[0] == "runs" and self._has_no_writer(parts[1])
                yield from (path for path in left if (free and ".record.jsonl." not in path.name) or _is_old(path))

    def _has_no_writer(self, run: str) -> bool:
        lock = self.root / "runs" / run / "lock"
        return lock.exists() and not is_held(lock)

    def _check_folders(self, repair: bool) -> list[str]:
        """Records without a folder, and folders of which nobody was told; each goes where it is to be repaired."""
        wrong = []
        for run in sorted(self._runs_known() - self._folders()):
            text = f"Run {run}: its folder is gone"
            if repair:
                with self.at_once():
                    if not (self.root / "runs" / run).exists():  # another run of this ID was taken in meanwhile
                        self._forget(run)
                        self._database.note(f"{text}, so its record was removed.")
            else:
                wrong.append(f"{text}; `check --repair` removes its record.")
        for run in sorted(self._folders() - self._runs_known()):
            # Whoever submits a run makes its folder and tells of it in one transaction, so in another one it is whole.
            with self.at_once() if repair else contextlib.nullcontext():
                if self._is_told_of(run):
                    continue
                text = f"runs/{run} holds no run: nothing was ever said of it"
                if repair:
                    shutil.rmtree(self.root / "runs" / run, ignore_errors=True)
                    self._database.note(f"{text}, so it was removed.")
                else:
                    wrong.append(f"{text}; `check --repair` removes it.")
        return wrong

    def _is_told_of(self, run: str) -> bool:
        """Whether a folder has a record or is gone; one that can be a run's is taken in."""
        with contextlib.suppress(UnknownRun):
            self.record(run)
            return True
        return not (self.root / "runs" / run).exists()

    def _check_run(self, record: RunRecord, repair: bool) -> list[str]:
        """What is wrong with one run."""
        wrong = []
        folder = self.root / "runs" / record.run
        if record.state != "running" and made_anew(folder) != record:
            if repair:
                self.change(record.run)
            elif (
                folder / "record.jsonl"
            ).exists() and not record.active:  # one that waits may have been begun just now
                wrong.append(
                    f"Run {record.run}: its record.jsonl is not what the records say; `check --repair` writes it."
                )
        if not (record.imported or record.fresh) and self.known_by_key(record.key) is None:
            if repair:
                self.answer_with(record)
            else:
                wrong.append(f"Run {record.run} is not found by its settings; `check --repair` mends that.")
        try:
            told = self.fold(record.run)
            if (why := self.damage(record.run, told)) is not None:
                wrong.append(why)
            try:
                config = self.config(record.run)
                if record.config_digest is None and told.started is not None and told.started.config != config:
                    raise ConfigError("config.json is not what its events say that it was trained with.")
            except ConfigError:
                if not repair or told.started is None or why is not None:
                    raise
                self._restore_config(record.run, told.started.config)
        except (ConfigError, OSError) as error:
            wrong.append(f"Run {record.run}: {error}")
        return wrong

    def _restore_config(self, run: str, config: RunConfig) -> None:
        """Write a run's configuration as its events tell it, and say so."""
        path = self.folder(run) / "config.json"
        with self.at_once():
            write_atomically(path, config.model_dump_json(indent=2).encode())
            self.change(run, config_digest=digest_of(path))
            self._database.note(f"Run {run}: its config.json was damaged; its events restored it.")


def _is_old(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return abs(time.time() - path.lstat().st_mtime) > _DAY
    return False


def _loss_of(record: RunRecord, kills: tuple[int, int] | None) -> Loss:
    """What is known of how the worker of this run was lost, where the system has counted so many ended by now."""
    told = record.loss if record.loss and record.loss.process == record.owner else Loss(process=record.owner)
    then = record.memory_kills
    more = then is not None and kills is not None and kills[0] == then[0] and kills[1] > then[1]
    return told.model_copy(update={"memory": told.memory or more})


def _lost_too_often(loss: Loss | None) -> str:
    """Why a run ends that lost its worker again and again, and what to do."""
    text = f"Its worker was lost {MOST_LOST} times in a row, each time before a new checkpoint was there"
    text += f", the last one by {loss.how}." if loss and loss.how else "."
    if loss and loss.memory:
        return text + (
            " The system had run out of memory. Close other programs and resume it, or run it again with a smaller "
            "training.batch_size or backbone.image_size."
        )
    return text + " Resume it once whatever ends its workers is over; workers/worker.log may say what that is."
