"""Which workers live on this machine, and which devices it has, as the workers themselves have told.

A device has one worker, which is its slot 0. For runs that train beside its own the worker starts further processes,
the slots 1, 2, … Every slot has a lock and a record of its own.
"""

import contextlib
import json
import time
from pathlib import Path

from labcore.runs.errors import Busy
from labcore.runs.files import is_held, take_lock
from labcore.runs.records import Process, Records, WorkerRecord


class Workers(Records):
    """The workers of a store: a process for each slot of a device, with a lock that the system releases with it.

    Laws:

    - A slot of a device has at most one process, also when two are started at once; so a device has one worker.
    - A worker that died is nobody: it is left out when workers are listed, though it could not say goodbye.
    """

    def lock_device(self, device: str, slot: int = 0) -> int:
        """Become the one worker of a device, or one of its further slots, until the process ends.

        Returns:
            The descriptor of the lock; to close it is to give the slot up.

        Raises:
            Busy: The slot has a process already.
        """
        try:
            lock = take_lock(self._lock(device, slot))
        except Busy:
            if slot:
                raise Busy(f"Slot {slot} of the worker for {device} is taken already.") from None
            raise Busy(f"There is a worker for {device} already; one a device is enough.") from None
        self.forget_worker(device, slot)  # what one that died had told is not said of us
        return lock

    def may_start_worker(self, device: str, patience: float) -> bool:
        """Whether the caller is the one to start a device's worker: one caller alone is, in `patience` seconds."""
        with self._transaction():
            text = self._database.get(f"starting/{device}")
            with contextlib.suppress(ValueError):
                if text is not None and abs(time.time() - float(text)) < patience:
                    return False
            self._database.set(f"starting/{device}", str(time.time()))
            return True

    def tell_worker(
        self,
        device: str,
        run: str | None,
        *,
        slot: int = 0,
        slots: int = 1,
        threads: int = 0,
        stage: str | None = None,
    ) -> None:
        """Say that this process is a slot of the device, and which run it trains and how; None while it waits."""
        record = WorkerRecord(
            device=device,
            process=Process.me(),
            run=run,
            since=time.time(),
            slot=slot,
            slots=slots,
            threads=threads,
            stage=stage,
        )
        with self._transaction():
            self._put_workers([*self._others(device, slot), record])

    def forget_worker(self, device: str, slot: int = 0) -> None:
        """Say that a slot's process is gone. It overwrites what `tell_worker` said."""
        with self._transaction():
            self._put_workers(self._others(device, slot))

    def workers(self) -> list[WorkerRecord]:
        """The processes that are alive, in the order of their devices' names, each device's worker before its slots."""
        alive = (worker for worker in self._workers() if self._lives(worker))
        return sorted(alive, key=lambda worker: (worker.device, worker.slot))

    def at_work(self, device: str | None = None) -> list[WorkerRecord]:
        """The processes of a device, or of all, that train a run now."""
        told = (worker for worker in self._workers() if worker.run is not None and device in (None, worker.device))
        return [worker for worker in told if self._lives(worker)]

    def tell_devices(self, devices: dict[str, str]) -> None:
        """Say which devices this machine has, and what each is: `{"cpu": "Intel …"}`. It overwrites what was said."""
        self._database.set("devices", json.dumps(devices))

    def devices(self) -> dict[str, str]:
        """What each device of this machine is, by name; empty before the first worker has looked."""
        with contextlib.suppress(ValueError, TypeError):  # damaged: the next worker tells it anew
            return dict(json.loads(self._database.get("devices") or "{}"))
        return {}

    def _lock(self, device: str, slot: int) -> Path:
        return self.root / "workers" / f"{device.replace(':', '-')}-{slot}.lock"

    def _lives(self, worker: WorkerRecord) -> bool:
        return is_held(self._lock(worker.device, worker.slot))

    def _others(self, device: str, slot: int) -> list[WorkerRecord]:
        return [other for other in self._workers() if (other.device, other.slot) != (device, slot)]

    def _workers(self) -> list[WorkerRecord]:
        """The workers as they told: one small value, which pages read each second however many runs there are."""
        found = []
        with contextlib.suppress(ValueError, TypeError):  # damaged: they tell it anew with their next run
            for row in json.loads(self._database.get("workers") or "[]"):
                found.append(WorkerRecord.model_validate(row))
        return found

    def _put_workers(self, workers: list[WorkerRecord]) -> None:
        self._database.set("workers", json.dumps([worker.model_dump(mode="json") for worker in workers]))
