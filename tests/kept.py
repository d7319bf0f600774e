"""What all test processes of a session make once: finished runs, which each test gets a copy of.

The folder is the session's; a lock lets the first process that asks make a thing while the others wait for it.
"""

import fcntl
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from labcore.configs.run import RunConfig
from labcore.runs.stage_keys import shared_stages
from labcore.runs.store import Store
from labcore.training import worker

# Set by conftest.py at the beginning of a session.
root = Path("/nowhere")


def folder(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of this name, which `make` fills where no process of this session has done so."""
    path, unfinished = root / name, root / f"{name}.unfinished"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(path)
    return path


def trained(store: Store, config: RunConfig) -> str:
    """A complete run with all its maps, as if it had been trained in this store just now; its ID.

    It is trained here where the store has a run that it would have taken stages from, or would have been.
    """
    others = [store.config(record.run) for record in store.records()]
    if any(shared_stages(config, other) for other in others):
        return train(store, config)
    return taken(store, folder(config.key(), lambda path: [train(Store(path), config)].clear()))


def taken(store: Store, home: Path) -> str:
    """Copy a store's one run, with its record and what it left in the cache; its ID."""
    subprocess.run(["cp", "-a", home / "runs", home / "cache", store.root], check=True)
    source = Store(home)
    (run,) = [record.run for record in source.records()]
    for key in source._database:
        if str(key).startswith(("run/", "key/")):
            store._database.set(key, source._database.get(key))
    source.close()
    return run


def train(store: Store, config: RunConfig) -> str:
    """Train a run in this store, whatever others have; its ID."""
    run = store.submit(config).run
    record = worker.run_claim(store.claim_run(run), "cpu")
    assert record.state == "complete", record.error
    return run
