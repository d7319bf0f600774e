"""Which workers live on this machine, and which devices it has, as the workers themselves have told."""

import json
import time

from labcore.runs.errors import Busy
from labcore.runs.files import take_lock
from labcore.runs.records import Process, Records, WorkerRecord


class Workers(Records):
    """The workers of a store: one process a device, each with a lock that the system releases with the process.

    Laws:

    - A device has at most one worker, also when two are started at once.
    - A worker that died is nobody: it is left out when workers are listed, though it could not say goodbye.
    """

    def lock_device(self, device: str) -> int:
        """Become the one worker of a device, until the process ends.

        Returns:
            The descriptor of the lock; to close it is to give the device up.

        Raises:
            Busy: The device has a worker already.
        """
        try:
            return take_lock(self.root / "workers" / f"{device.replace(':', '-')}.lock")
        except Busy:
            raise Busy(f"There is a worker for {device} already; one a device is enough.") from None

    def may_start_worker(self, device: str, patience: float) -> bool:
        """Whether the caller is the one to start a device's worker: one caller alone is, in `patience` seconds."""
        with self._transaction():
            text = self._database.get(f"starting/{device}", retry=True)
            if text is not None and abs(time.time() - float(text)) < patience:
                return False
            self._database.set(f"starting/{device}", str(time.time()), retry=True)
            return True

    def tell_worker(self, device: str, run: str | None) -> None:
        """Say that this process is the device's worker, and which run it trains; None while it waits."""
        record = WorkerRecord(device=device, process=Process.me(), run=run, since=time.time())
        with self._transaction():
            self._put_workers([*(other for other in self._workers() if other.device != device), record])

    def forget_worker(self, device: str) -> None:
        """Say that the device's worker is gone. It overwrites what `tell_worker` said."""
        with self._transaction():
            self._put_workers([other for other in self._workers() if other.device != device])

    def workers(self) -> list[WorkerRecord]:
        """The workers that are alive, in the order of their devices' names."""
        return sorted((worker for worker in self._workers() if worker.process.alive), key=lambda worker: worker.device)

    def tell_devices(self, devices: dict[str, str]) -> None:
        """Say which devices this machine has, and what each is: `{"cpu": "Intel …"}`. It overwrites what was said."""
        self._database.set("devices", json.dumps(devices), retry=True)

    def devices(self) -> dict[str, str]:
        """What each device of this machine is, by name; empty before the first worker has looked."""
        return dict(json.loads(self._database.get("devices", "{}", retry=True)))

    def _workers(self) -> list[WorkerRecord]:
        """The workers as they told: one small value, which pages read each second however many runs there are."""
        rows = json.loads(self._database.get("workers", "[]", retry=True))
        return [WorkerRecord.model_validate(row) for row in rows]

    def _put_workers(self, workers: list[WorkerRecord]) -> None:
        self._database.set("workers", json.dumps([worker.model_dump(mode="json") for worker in workers]), retry=True)
