"""Commands that measure many runs together: `experiment` and `experiments`.

An experiment trains what is missing of it here, one run after the other, and prints its figures. Where it is stopped,
the same command goes on. An exploration of the store goes on in the same way, until its budget is spent.
"""

import argparse
import contextlib
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from labcore.cli.command import (
    FAILED,
    GOOD,
    Command,
    add_checkpoint_seconds,
    add_device,
    checkpoint_seconds,
    opened,
    show,
)
from labcore.cli.configuring import task_names
from labcore.cli.here import interrupts, ready, train_or_follow
from labcore.configs.base import ConfigError
from labcore.configs.presets import PRESETS
from labcore.configs.units import whole
from labcore.runs.errors import UnknownRun
from labcore.runs.store import Store
from labcore.studies import advancing, experiments, explorations, measures, questions
from labcore.studies.reader import Reader

# So many explorations are named where somebody asks for one that is not there.
MOST_TOLD = 5


def _declare(parser: argparse.ArgumentParser) -> None:
    named = ", ".join(questions.NAMED)
    parser.add_argument("experiment", metavar="NAME", help=f"{named}, or an exploration of this store")
    parser.add_argument("--preset", help=f"the jobs, and how they are learnt: {', '.join(PRESETS)}")
    parser.add_argument("--tasks", metavar="A,B,C", help="table: other jobs, learnt as the preset's are")
    parser.add_argument("--seeds", metavar="N", help=f"how many seeds, 1 to {experiments.MOST_SEEDS}")
    add_device(parser)
    add_checkpoint_seconds(parser)


def _experiment(options: argparse.Namespace) -> int:
    store = opened()
    if options.experiment not in questions.NAMED and options.experiment in explorations.names(store):
        return _exploration(options, store)
    experiment, reader = _named(options, store), Reader(store)
    cells = reader.look(experiment).cells
    missing = ((f"{number} of {len(cells)}", cell) for number, cell in enumerate(cells, 1) if not cell.finished)
    with interrupts() as stop:
        _train_cells(options, store, missing, stop)
    findings = reader.look(experiment)
    return _print_findings(options, findings.document(), _describe_findings(findings), stop)


def _exploration(options: argparse.Namespace, store: Store) -> int:
    """Go on with an exploration of this store until it is over or the person stops. Raises ConfigError."""
    name, reader = options.experiment, Reader(store)
    for option in ("preset", "tasks", "seeds"):
        if getattr(options, option) is not None:
            raise ConfigError(f"{name} is an exploration and has its own {option}; leave --{option} out.")
    explorations.read(store, name)  # What cannot be read is told before anything begins.
    with interrupts() as stop:
        _train_cells(options, store, _explored_cells(store, reader, name, options.device, stop), stop)
        if stop.is_set():
            explorations.stop(store, name)
            experiments.stop(store, reader.look(explorations.read(store, name).experiment()))
    record = explorations.read(store, name)
    findings = reader.look(record.experiment())
    lines = [f"Left out, as it cannot be: {problem}" for problem in dict.fromkeys(record.refused)]
    lines.append(f"{record.so_far(findings)} · {record.ended or record.state}")
    return _print_findings(options, record.document(findings), "\n".join([_describe_findings(findings), *lines]), stop)


def _named(options: argparse.Namespace, store: Store) -> experiments.Experiment:
    """The experiment of this name, as the options want it. Raises ConfigError."""
    count = whole(options.seeds, 1, experiments.MOST_SEEDS)
    if options.seeds is not None and count is None:
        raise ConfigError(f"--seeds is {options.seeds!r}; it must be from 1 to {experiments.MOST_SEEDS}.")
    if options.experiment not in questions.NAMED:
        newest = explorations.names(store)
        more = f" and {len(newest) - MOST_TOLD} older" if len(newest) > MOST_TOLD else ""
        known = ", ".join([*questions.NAMED, *newest[:MOST_TOLD]])
        raise ConfigError(f"There is no experiment {options.experiment[:80]!r}; known: {known}{more}.")
    jobs = None if options.tasks is None else task_names(options.tasks)
    return questions.named(options.experiment, options.preset, count, jobs)


def _explored_cells(
    store: Store, reader: Reader, name: str, device: str, stop: threading.Event
) -> Iterator[tuple[str, experiments.Cell]]:
    """What an exploration has to train: what is missing of it, then what it asks for meanwhile, until it is over."""
    explorations.go_on(store, name)
    experiments.queue(store, reader.look(explorations.read(store, name).experiment()), device)
    while not stop.is_set():
        advancing.advance_one(store, reader, name)
        record = explorations.read(store, name)
        cells = reader.look(record.experiment()).cells
        waiting = [
            (f"run {number}", cell) for number, cell in enumerate(cells, 1) if cell.record and cell.record.active
        ]
        if not waiting and not record.going:
            return
        yield from waiting


def _train_cells(
    options: argparse.Namespace, store: Store, cells: Iterable[tuple[str, experiments.Cell]], stop: threading.Event
) -> None:
    """Train cells here, one after the other, and tell each by the words given with it, until the person stops."""
    seconds = checkpoint_seconds(options)
    device = ready(options.device)
    for words, cell in cells:
        if stop.is_set():
            return
        print(f"{words}: {cell.arm.label}, seed {cell.seed}", file=sys.stderr, flush=True)
        submission = store.submit(cell.config, device=options.device)
        with contextlib.suppress(UnknownRun):  # A run that was deleted meanwhile is missing, and the figures say so.
            train_or_follow(store, submission.run, device, seconds, stop, "none")


def _print_findings(options: argparse.Namespace, document: dict[str, Any], text: str, stop: threading.Event) -> int:
    show(options, document, lambda: text)
    if stop.is_set():
        print("Stopped; the same command goes on.", file=sys.stderr)
    return GOOD if document["complete"] else FAILED


def _describe_findings(findings: experiments.Findings) -> str:
    """A line an arm, and what they show."""
    lines = [findings.experiment.title]
    for arm in findings.experiment.arms:
        accuracy = measures.percents(findings.spread(arm.label, "accuracy"))
        took = measures.with_sd(findings.spread(arm.label, "train_seconds"), "s")
        lines.append(f"  {arm.label:36} average accuracy {accuracy:14} training {took}")
    work = findings.work
    lines.append(f"  In all {measures.amount('s', work.spent)} of training and measuring; {work.shared}.")
    return "\n".join([*lines, *findings.told()])


def _experiments(options: argparse.Namespace) -> int:
    store = opened()
    reader, found = Reader(store), []
    for name in explorations.names(store):
        try:
            record = explorations.read(store, name)
            found.append((record, reader.look(record.experiment())))
        except ConfigError as error:  # An exploration that cannot be read hides no other.
            print(error, file=sys.stderr)
    named = [
        {"name": one.name, "title": one.title, "question": one.question, "preset": one.preset, "seeds": one.seeds}
        for one in questions.NAMED.values()
    ]
    explored = [
        {
            "name": record.name,
            "title": record.title,
            "state": record.state,
            "ended": record.ended,
            "finished": len(findings.having("complete")),
            "runs": record.exploration.most_runs,
            "minutes": record.exploration.minutes,
            "minutes_used": record.spent(findings) / 60,
        }
        for record, findings in found
    ]
    lines = [f"{row['name']:20} {row['title']}" for row in named]
    lines += [
        f"{record.name:20} {record.title} · {record.state} · {record.so_far(findings)}" for record, findings in found
    ]
    show(options, {"named": named, "explorations": explored}, lambda: "\n".join(lines))
    return GOOD


COMMANDS = (
    Command("experiment", "train what is missing of an experiment here, and print its figures", _experiment, _declare),
    Command("experiments", "the experiments there are, and how far this store's explorations are", _experiments),
)
