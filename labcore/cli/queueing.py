"""Commands that change what waits, runs, or is there: `cancel`, `resume`, `delete`."""

import argparse

from labcore.cli.command import GOOD, Command, add_run, opened, show
from labcore.runs.store import Store


def _cancel(options: argparse.Namespace) -> int:
    store = opened()
    store.request_stop(options.run)
    return _show_record(options, store)


def _resume(options: argparse.Namespace) -> int:
    store = opened()
    store.resume(options.run)
    return _show_record(options, store)


def _show_record(options: argparse.Namespace, store: Store) -> int:
    record = store.record(options.run)
    stopping = record.state == "running" and store.stop_requested(record.run)
    show(options, record.model_dump(mode="json"), lambda: f"{record.run}: {'stopping' if stopping else record.state}")
    return GOOD


def _delete(options: argparse.Namespace) -> int:
    opened().delete(options.run)
    show(options, {"run": options.run, "deleted": True}, lambda: f"{options.run}: deleted")
    return GOOD


COMMANDS = (
    Command("cancel", "stop a run, or take it out of the queue", _cancel, add_run),
    Command(
        "resume", "queue a stopped, failed or lost run again; it goes on from its last checkpoint", _resume, add_run
    ),
    Command("delete", "remove a run for good", _delete, add_run),
)
