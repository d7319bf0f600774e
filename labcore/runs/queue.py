"""The queue: what waits to be trained, and how people put it there, stop it, and let it go on."""

import contextlib
import os
import shutil
import time
from dataclasses import dataclass

from labcore.configs.reading import require_installed
from labcore.configs.run import RunConfig
from labcore.runs.errors import UnknownRun, unusable
from labcore.runs.files import digest_of, write_atomically
from labcore.runs.records import Names, Records, RunRecord, new_id
from labcore.runs.results import State


@dataclass(frozen=True, slots=True)
class Submission:
    """The run that a configuration became or already was. `cached`: it was complete before it was asked for."""

    run: str
    state: State
    cached: bool


class Queue(Records):
    """Runs in the order in which they were queued.

    Laws:

    - Two that submit the same configuration at once get the same run.
    - A run that is queued again goes to the end of the queue, and goes on from its last checkpoint.
    - A stop that is asked for is not lost: a run that waits leaves the queue at once, and a running one finds the file
      `stop` in its folder, which stays until its writer has ended or the run is queued again. Where that writer dies
      before it obeys, the next one to claim the run obeys for it.
    """

    def submit(
        self, config: RunConfig, *, device: str = "auto", use_cache: bool = True, asked_by: str = ""
    ) -> Submission:
        """Queue a configuration, or find the run that it already is.

        A complete, queued or running run of the same key is that run. A stopped or failed one is queued again.

        Args:
            config: What to train.
            device: Which worker may take it (`cpu`, `cuda:0`); `auto` for any.
            use_cache: False makes a new run in any case, which reads no stored stage and which no later call finds.
            asked_by: The experiment that wants the run; nothing where a person wants it for itself.

        Returns:
            The run and its state.

        Raises:
            ConfigError: Something that the configuration names is not installed here.
            StoreError: Nothing can be written.
        """
        require_installed(config)
        key = config.key()
        try:
            with self._transaction():
                known = self._database.get(f"key/{key}") if use_cache else None
                if known is not None:
                    with contextlib.suppress(UnknownRun):
                        self.folder(known)
                        return self._submit_again(self.record(known), device, asked_by)
                run = self._create(config, key, device, fresh=not use_cache, asked_by=asked_by)
                if use_cache:
                    self._database.set(f"key/{key}", run)
                return Submission(run, "queued", cached=False)
        except OSError as error:
            raise unusable(self.root, error) from None

    def known(self, config: RunConfig) -> RunRecord | None:
        """The run that `submit` would find for this configuration, finished or not; None where it would make one."""
        return self.known_by_key(config.key())

    def request_stop(self, run: str) -> None:
        """Ask the writer of a run to stop, or take the run out of the queue. A run that is over stays as it is.

        Raises:
            UnknownRun: There is no such run.
            ConfigError: It is a recorded one.
        """
        with self._transaction():
            record = self.own(run)
            if record.state == "queued" or record.lost:
                self.change(
                    run, state="stopped", owner=None, ended=time.time(), times_lost=record.times_lost + record.lost
                )
            elif record.state == "running":
                (self.folder(run) / "stop").touch(mode=0o600)

    def stop_requested(self, run: str) -> bool:
        """Whether a running run has been asked to stop. It looks for one file, which is cheap enough for every step."""
        return os.path.exists(self.root / "runs" / run / "stop")

    def resume(self, run: str) -> Submission:
        """Queue a stopped, failed or lost run again. Any other run stays as it is.

        Returns:
            The run and its state.

        Raises:
            UnknownRun: There is no such run.
            ConfigError: It is a recorded one.
        """
        with self._transaction():
            record = self.own(run)
            if record.state in ("stopped", "failed") or record.lost:
                return self._requeue(record, record.device, record.asked_by)
            return Submission(run, record.state, cached=record.state == "complete")

    def _submit_again(self, record: RunRecord, device: str, asked_by: str) -> Submission:
        if record.state in ("stopped", "failed"):
            return self._requeue(record, device, asked_by)
        if record.active and record.asked_by and not asked_by:
            self.change(record.run, asked_by="")  # now a person wants it, too, and no experiment may stop it
        return Submission(record.run, record.state, cached=record.state == "complete")

    def _requeue(self, record: RunRecord, device: str, asked_by: str) -> Submission:
        (self.folder(record.run) / "stop").unlink(missing_ok=True)
        lost = record.times_lost + record.lost
        anew = {"owner": None, "error": None, "ended": None, "digest": None, "times_lost": lost}
        self.change(record.run, state="queued", device=device, asked_by=asked_by, **anew)
        return Submission(record.run, "queued", cached=False)

    def _create(self, config: RunConfig, key: str, device: str, *, fresh: bool, asked_by: str) -> str:
        run = new_id(key[:6])
        folder = self.root / "runs" / run
        folder.mkdir(mode=0o700)
        self._own.undo.append(lambda: shutil.rmtree(folder, ignore_errors=True))
        write_atomically(folder / "config.json", config.model_dump_json(indent=2).encode())
        self._put(
            RunRecord(
                run=run,
                key=key,
                state="queued",
                device=device,
                submitted=time.time(),
                fresh=fresh,
                asked_by=asked_by,
                config_digest=digest_of(folder / "config.json"),
                names=Names.of(config),
            )
        )
        return run
