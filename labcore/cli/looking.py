"""Commands that look at the runs of the store: `list`, `show`, `events`."""

import argparse
import contextlib
import json
from collections.abc import Sequence

from labcore.cli.command import GOOD, Command, add_run, show
from labcore.configs.base import ConfigError
from labcore.configs.run import RunConfig
from labcore.runs import energy
from labcore.runs.events import to_line
from labcore.runs.records import RunRecord
from labcore.runs.results import RunResult
from labcore.runs.store import Store


def _list(options: argparse.Namespace) -> int:
    store = Store()
    rows = []
    for record in store.records():
        with contextlib.suppress(ConfigError):
            config = store.config(record.run)
            rows.append((record, config))
    document = [
        {**record.model_dump(mode="json"), "method": config.method.name, "tasks": config.task_names}
        for record, config in rows
    ]
    show(options, document, lambda: "\n".join(_row(*row) for row in rows) or "No runs yet: `python -m labcore run`.")
    return GOOD


def _row(record: RunRecord, config: RunConfig) -> str:
    accuracy = "" if record.average_accuracy is None else f"{record.average_accuracy:4.0%}"
    state = "lost" if record.lost else record.state
    return f"{record.run}  {state:9} {accuracy:5} {config.method.name:18} {' → '.join(config.task_names)}"


def _show(options: argparse.Namespace) -> int:
    store = Store()
    result = store.result(options.run, cached=store.record(options.run).state == "complete")
    show(options, result.model_dump(mode="json"), lambda: describe(result))
    return GOOD


def _events(options: argparse.Namespace) -> int:
    events, _ = Store().tail(options.run)
    lines = [to_line(event).decode().rstrip("\n") for event in events]
    show(options, [json.loads(line) for line in lines], lambda: "\n".join(lines))
    return GOOD


def describe(result: RunResult) -> str:
    """A result for people: how the run ended, its accuracy after each stage, and what it cost the climate."""
    lines = [f"{result.run}: {result.state}" + (f": {result.error}" if result.error else "")]
    lines += [f"  after {result.tasks[k]:16}" + _percents(row) for k, row in enumerate(result.accuracy_matrix)]
    if result.average_accuracy is not None:
        lines.append(f"  average accuracy {result.average_accuracy:.1%}")
    if result.energy_wh is not None:
        carbon, country = energy.grams(result.carbon_g), energy.country(result.carbon_country).text
        lines.append(f"  ≈ {energy.watt_hours(result.energy_wh)}, {carbon} CO₂e ({country}), estimated by codecarbon")
    return "\n".join(lines)


def _percents(row: Sequence[float | None]) -> str:
    return "  ".join("    –" if value is None else f"{value:5.1%}" for value in row)


COMMANDS = (
    Command("list", "all runs, the newest first", _list),
    Command("show", "a run's result", _show, add_run),
    Command("events", "a run's events, one JSON line each", _events, add_run),
)
