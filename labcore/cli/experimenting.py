"""Commands that measure many runs together: `experiment` and `experiments`.

An experiment trains what is missing of it, as many runs at once as a worker would, and prints its figures. Where it is
stopped, the same command goes on. An exploration of the store goes on in the same way, until its budget is spent.
"""

import argparse
import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
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
from labcore.cli.here import interrupts, meanwhile, ready
from labcore.configs.base import ConfigError
from labcore.configs.presets import PRESETS
from labcore.configs.units import whole
from labcore.runs.errors import Busy, StoreError
from labcore.runs.store import Store
from labcore.studies import experiments, explorations, measures, questions
from labcore.studies.experiments import Findings
from labcore.studies.reader import Reader
from labcore.training import worker

# How often it is looked whether a run has begun or ended.
LOOK_SECONDS = 0.3

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
    experiment = _named(options, store)
    device = ready(options.device)
    with interrupts() as stop:
        findings = _train(options, store, device, lambda: experiment, lambda: False, stop)
    return _print_findings(options, findings.document(), _describe_findings(findings), stop)


def _exploration(options: argparse.Namespace, store: Store) -> int:
    """Go on with an exploration of this store until it is over or the person stops. Raises ConfigError."""
    name = options.experiment
    for option in ("preset", "tasks", "seeds"):
        if getattr(options, option) is not None:
            raise ConfigError(f"{name} is an exploration and has its own {option}; leave --{option} out.")

    def record() -> explorations.ExplorationRecord:
        return explorations.read(store, name)

    def goes_on() -> bool:
        found = record()
        return found.going and found.exploration.device in ("auto", device)

    record()  # What cannot be read is told before anything begins.
    device = ready(options.device)
    explorations.go_on(store, name)
    with interrupts() as stop:
        findings = _train(options, store, device, lambda: record().experiment(), goes_on, stop)
        if stop.is_set():
            explorations.stop(store, name)
    found = record()
    lines = [f"Left out, as it cannot be: {problem}" for problem in dict.fromkeys(found.refused)]
    lines.append(f"{found.so_far(findings)} · {found.ended or found.state}")
    text = "\n".join([_describe_findings(findings), *lines])
    return _print_findings(options, found.document(findings), text, stop)


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


def _train(
    options: argparse.Namespace,
    store: Store,
    device: str,
    experiment: Callable[[], experiments.Experiment],
    goes_on: Callable[[], bool],
    stop: threading.Event,
) -> Findings:
    """Queue what is missing of an experiment and see it trained, until it is over or the person stops.

    Where the device has a worker, that one trains; else this process is the worker for so long, with further slots.
    What was queued before has its turn first.

    Args:
        options: The command's; of them the device as it was asked for, and the seconds between checkpoints.
        store: Where it is queued.
        device: The device that is meant, as `ready` returned it.
        experiment: The experiment as it stands; an exploration's grows.
        goes_on: Whether it will ask for more runs, here.
        stop: Set when the person stops.

    Returns:
        What is there in the end.
    """
    seconds, reader = checkpoint_seconds(options), Reader(store)

    def over() -> bool:
        return stop.is_set() or not (goes_on() or _comes(store, reader.look(experiment()), device))

    experiments.queue(store, reader.look(experiment()), options.device)
    with _telling(store, experiment):
        while not over():
            try:
                worker.work(store, device, over=over, ending=stop, checkpoint_seconds=seconds)
            except Busy:  # a worker has the device, and trains what is queued
                stop.wait(LOOK_SECONDS)
        if stop.is_set():
            experiments.stop(store, reader.look(experiment()))
    findings = reader.look(experiment())
    waiting = {cell.record.device for cell in findings.cells if cell.record and cell.record.state == "queued"}
    for other in sorted(waiting - {"auto", device}):
        print(f"Some runs wait for {other}: start `python -m labcore worker --device {other}`.", file=sys.stderr)
    return findings


def _comes(store: Store, findings: Findings, device: str) -> bool:
    """Whether some run of it trains, or waits for this device or for one that has a worker."""
    there = {"auto", device, *(found.device for found in store.workers())}
    active = [cell.record for cell in findings.cells if cell.record is not None and cell.record.active]
    return any(record.state == "running" or record.device in there for record in active)


@contextlib.contextmanager
def _telling(store: Store, experiment: Callable[[], experiments.Experiment]) -> Iterator[None]:
    """For the block, tell on stderr which runs of an experiment begin and end, whoever trains them."""
    reader = Reader(store)
    before: dict[tuple[str, int], str] = {
        (cell.arm.label, cell.seed): cell.state for cell in reader.look(experiment()).cells if cell.finished
    }

    def look() -> None:
        findings = reader.look(experiment())
        grows = findings.experiment.name not in questions.NAMED  # nobody knows yet how many an exploration will have
        for number, cell in enumerate(findings.cells, 1):
            place = (cell.arm.label, cell.seed)
            if cell.state not in ("missing", "queued", before.get(place)):
                before[place] = cell.state
                words = f"run {number}" if grows else f"{number} of {len(findings.cells)}"
                print(f"{words}: {cell.arm.label}, seed {cell.seed}: {cell.state}", file=sys.stderr, flush=True)

    def watch() -> bool:
        with contextlib.suppress(StoreError, ConfigError, OSError):  # whoever trains meets it, and says so
            look()
        return False

    with meanwhile(watch, LOOK_SECONDS):
        yield
    look()


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
    Command("experiment", "train what is missing of an experiment, and print its figures", _experiment, _declare),
    Command("experiments", "the experiments there are, and how far this store's explorations are", _experiments),
)
