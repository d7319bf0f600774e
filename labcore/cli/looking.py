"""Commands that look at the store: `list`, `show`, `events` at its runs, `check` at what of it is damaged."""

import argparse
import json
import sys
from collections.abc import Sequence

from labcore.cli.command import FAILED, GOOD, Command, add_run, opened, show
from labcore.configs.base import ConfigError
from labcore.runs import energy, stored_maps
from labcore.runs.errors import UnknownRun
from labcore.runs.events import Unreadable, to_line
from labcore.runs.records import Names, RunRecord
from labcore.runs.results import RunResult
from labcore.runs.stage_cache import StageCache
from labcore.runs.store import Store
from labcore.runs.stored_maps import Gone
from labcore.studies import explorations


def _declare_list(parser: argparse.ArgumentParser) -> None:
    text = "the recorded runs that ship with the lab, in place of the store's own"
    parser.add_argument("--recorded", action="store_true", help=text)


def _list(options: argparse.Namespace) -> int:
    store = opened()
    rows = []
    found, wrong = store.recordings() if options.recorded else (store.records(), [])
    for sentence in wrong:
        print(f"Warning: {sentence}", file=sys.stderr)
    for record in found:
        try:
            rows.append((record, store.names(record)))
        except UnknownRun:  # deleted just now
            continue
        except (ConfigError, OSError) as error:
            print(f"Warning: run {record.run} is left out: {error}", file=sys.stderr)
    document = [
        {**record.model_dump(mode="json"), "method": names.method, "tasks": list(names.tasks)} for record, names in rows
    ]
    none = "No recorded runs." if options.recorded else "No runs yet: `python -m labcore run`."
    show(options, document, lambda: "\n".join(_row(*row) for row in rows) or none)
    return GOOD


def _row(record: RunRecord, names: Names) -> str:
    accuracy = "" if record.average_accuracy is None else f"{record.average_accuracy:4.0%}"
    state = "lost" if record.lost else record.state
    return f"{record.run}  {state:9} {accuracy:5} {names.method:18} {' → '.join(names.tasks)}"


def _show(options: argparse.Namespace) -> int:
    store = opened()
    result = store.result(options.run, cached=store.record(options.run).state == "complete")
    gone = stored_maps.gone(store.fold(options.run), store.folder(options.run))
    facts = store.recorded(options.run)
    document = result.model_dump(mode="json") | {"maps_gone": {"live": gone.live, "stages": gone.ends}}
    document |= {"recorded": facts is not None, "recording": facts and facts.model_dump(mode="json")}
    came = f"  {facts.words}; `{facts.command}` repeats it" if facts else ""
    show(options, document, lambda: "\n".join(filter(None, [describe(result), came, _ways_back(store, result, gone)])))
    return _told_damage(store, options.run)


def _ways_back(store: Store, result: RunResult, gone: Gone) -> str:
    """What of a run's maps made room, and how to have them again; empty where nothing did."""
    if not gone.words:
        return ""
    ways = f"`python -m labcore draw {result.run}` draws those of stages' ends from the stored weights. "
    stored = set(gone.ends) & set(store.stages_stored(result.run))
    return f"  {gone.words} {ways if stored else ''}To have all again, run its configuration anew with --no-cache."


def _events(options: argparse.Namespace) -> int:
    store = opened()
    events = [event for event in store.tail(options.run)[0] if not isinstance(event, Unreadable)]
    lines = [to_line(event).decode().rstrip("\n") for event in events]
    show(options, [json.loads(line) for line in lines], lambda: "\n".join(lines))
    return _told_damage(store, options.run)


def _told_damage(store: Store, run: str) -> int:
    """Say on stderr where a run's events are damaged, and return the exit status that says so, too."""
    why = store.damage(run, store.fold(run))
    if why is not None:
        print(f"Warning: {why}", file=sys.stderr)
    return GOOD if why is None else FAILED


def _declare_check(parser: argparse.ArgumentParser) -> None:
    text = "make the records anew from the runs' folders where they are damaged, and clear away what was left behind"
    parser.add_argument("--repair", action="store_true", help=text)


def _check(options: argparse.Namespace) -> int:
    store = Store()
    wrong = store.check(repair=options.repair, tell=_tell_progress)
    _tell_progress("weights of trained stages")
    for run, stages in StageCache(store).spoilt(record.run for record in store.records()).items():
        wrong += [f"Run {run}: the arrays of stage {stage} are damaged; its figures are not." for stage in stages]
    for name in explorations.names(store):
        try:
            explorations.read(store, name)
        except ConfigError as error:
            wrong.append(str(error))
    _tell_progress("")
    plain = [*(f"Put right: {text}" for text in store.notes), *(f"Damaged: {text}" for text in wrong)]
    show(options, {"damaged": wrong, "put_right": store.notes}, lambda: "\n".join(plain) or "All is well.")
    return FAILED if wrong else GOOD


def _tell_progress(text: str) -> None:
    """Overwrite the last line on stderr with what is looked at, where a person watches; without a text, remove it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text and f'Looking at {text} …'}", end="", file=sys.stderr, flush=True)


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
    Command("list", "all runs, the newest first", _list, _declare_list),
    Command("show", "a run's result", _show, add_run),
    Command("events", "a run's events, one JSON line each", _events, add_run),
    Command("check", "look through the whole store for what is damaged", _check, _declare_check),
)
