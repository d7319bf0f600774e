"""The lab without a page: `python -m labcore …`.

Results go to stdout (with `--json` as one JSON document), progress and logs to stderr. Exit status: 0 good, 1 a run
that failed or was stopped, 2 bad input, told in one line on stderr with stdout empty.
"""

import argparse
import contextlib
import itertools
import json
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from labcore import tasks
from labcore.configs.catalogue import BACKBONES
from labcore.configs.presets import DEFAULT_METHOD, PRESETS, preset_data, with_backbone, with_tasks
from labcore.configs.run import METHOD_TITLES, METHODS, ConfigError, RunConfig, apply_setting, parse, with_settings
from labcore.configs.units import whole
from labcore.runs import archive, energy
from labcore.runs.errors import Busy, StoreError, UnknownRun
from labcore.runs.events import Downloading, Evaluated, Event, RunEnded, RunStarted, StageEnded, StageStarted, to_line
from labcore.runs.records import RunRecord
from labcore.runs.results import RunResult
from labcore.runs.settings import DETAILS, Detail
from labcore.runs.store import Store
from labcore.studies import advancing, experiments, explorations, measures, questions
from labcore.studies.reader import Reader
from labcore.training import worker

GOOD, FAILED, BAD_INPUT = 0, 1, 2
MOST_COMBINATIONS = 1000
MOST_TOLD = 5  # explorations, where a name is unknown


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        options = _parser().parse_args(arguments)
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except (ConfigError, tasks.TaskError, StoreError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        # Whoever read our output has gone; what they did not read they did not want.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return GOOD


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m labcore", description="Teach one network several tasks, and see what it forgets.")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND", parser_class=_Parser)

    def add(name: str, command: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(command=command)
        sub.add_argument("--json", action="store_true", help="print one JSON document on stdout")
        return sub

    for name, command, help in (
        ("run", _run, "train a configuration here and now, and print its result"),
        ("submit", _submit, "queue a configuration for the worker, and print the run's ID"),
        ("sweep", _sweep, "train every combination of settings here and now, and print the results"),
    ):
        sub = add(name, command, help)
        sub.add_argument("config", nargs="?", metavar="CONFIG.json", help="a configuration")
        sub.add_argument("--preset", help=f"start from a preset: {', '.join(PRESETS)} (default story)")
        sub.add_argument("--method", help=", ".join(METHODS))
        sub.add_argument("--backbone", help=", ".join(BACKBONES))
        sub.add_argument("--tasks", metavar="A,B,C", help="the task sequence")
        sub.add_argument("--seed", help="seed of everything random")
        sub.add_argument(
            "--set", action="append", default=[], metavar="a.b=v", dest="settings", help="change a setting"
        )
        sub.add_argument("--no-cache", action="store_true", help="always a new run, every stage trained anew")
        sub.add_argument("--device", default="auto", help="auto, cpu, cuda:0, …")
        if name == "sweep":
            sub.add_argument(
                "--vary",
                action="append",
                default=[],
                metavar="a.b=v1,v2",
                help="try each of these values; several --vary: every combination",
            )
        if name != "submit":
            _add_checkpoint_seconds(sub)
            _add_maps(sub, default="none" if name == "sweep" else None)
    sub = add("experiment", _experiment, "train what is missing of an experiment here, and print its figures")
    named = ", ".join(questions.NAMED)
    sub.add_argument("experiment", metavar="NAME", help=f"{named}, or an exploration of this store")
    sub.add_argument("--preset", help=f"the jobs, and how they are learnt: {', '.join(PRESETS)}")
    sub.add_argument("--tasks", metavar="A,B,C", help="table: other jobs, learnt as the preset's are")
    sub.add_argument("--seeds", metavar="N", help=f"how many seeds, 1 to {experiments.MOST_SEEDS}")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda:0, …")
    _add_checkpoint_seconds(sub)
    add("experiments", _experiments, "the experiments there are, and how far this store's explorations are")
    add("list", _list, "all runs, the newest first")
    for name, command, help in (
        ("show", _show, "a run's result"),
        ("events", _events, "a run's events, one JSON line each"),
        ("cancel", _cancel, "stop a run, or take it out of the queue"),
        ("resume", _resume, "queue a stopped, failed or lost run again; it goes on from its last checkpoint"),
        ("delete", _delete, "remove a run for good"),
    ):
        add(name, command, help).add_argument("run", metavar="RUN")
    sub = add("export", _export, "write a run to a zip")
    sub.add_argument("run", metavar="RUN")
    sub.add_argument("file", metavar="OUT.zip", type=Path)
    add("import", _import, "read a run from a zip").add_argument("file", metavar="IN.zip", type=Path)
    sub = add("worker", _worker, "take queued runs and train them")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda:0, …")
    sub.add_argument("--executor", default="local", choices=["local"], help="where training runs")
    sub.add_argument("--until-idle", action="store_true", help="end when nothing waits")
    _add_checkpoint_seconds(sub)
    _add_maps(sub)
    add("backbones", _backbones, "the networks there are")
    add("tasks", _tasks, "the tasks there are")
    add("methods", _methods, "the methods there are")
    add("presets", _presets, "the presets there are")
    return parser


def _add_checkpoint_seconds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint-seconds", default="20", metavar="S", help="time between checkpoints (default 20)")


def _add_maps(parser: argparse.ArgumentParser, default: Detail | None = None) -> None:
    text = "what is recorded of the network's inside: all, at stage ends alone (stages), or none"
    told = default or "as set on the page Runs, else all"
    parser.add_argument("--maps", default=default, choices=DETAILS, help=f"{text} (default {told})")


def _checkpoint_seconds(options: argparse.Namespace) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (seconds := float(options.checkpoint_seconds)) <= 86400:
            return seconds
    raise ConfigError(f"--checkpoint-seconds is {options.checkpoint_seconds!r}; it must be a number from 0 to 86400.")


# ---- configurations -------------------------------------------------------------------------------------------------


def read_config(options: argparse.Namespace) -> RunConfig:
    """Preset or file, then --method, --backbone, --tasks, --seed, --set; validated once. Raises ConfigError."""
    config = parse(_read_data(options))
    _print_notes([config])
    return config


def read_sweep(options: argparse.Namespace) -> list[tuple[dict[str, Any], RunConfig]]:
    """What varies, and the configuration, for every combination of --vary; all validated. Raises ConfigError."""
    varied: dict[str, list[Any]] = {}
    for setting in options.vary:
        path, text = _setting("--vary", setting)
        if path in varied:
            raise ConfigError(f"--vary {path} is given twice; give all its values in one, as in {path}=1,2.")
        varied[path] = _values(text)
    if not varied:
        raise ConfigError("Say what to vary, as in --vary method.strength=10,100,1000.")
    count = math.prod(map(len, varied.values()))
    if count > MOST_COMBINATIONS:
        raise ConfigError(f"These are {count:,} combinations; at most {MOST_COMBINATIONS:,} are allowed.")
    data = _read_data(options)
    found = []
    for values in itertools.product(*varied.values()):
        chosen = dict(zip(varied, values, strict=True))
        found.append((chosen, parse(with_settings(data, chosen))))
    _print_notes([config for _, config in found])
    return found


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def _read_data(options: argparse.Namespace) -> dict[str, Any]:
    if options.config is not None and options.preset is not None:
        raise ConfigError("Give a configuration file or --preset, not both.")
    if options.method is not None and options.method not in METHODS:
        raise ConfigError(f"method is {options.method!r}; allowed: {', '.join(METHODS)}.")
    if options.config is not None:
        data = _read_file(Path(options.config))
        if options.method is not None:
            data["method"] = {"name": options.method}
    else:
        preset = "story" if options.preset is None else options.preset
        data = preset_data(preset, DEFAULT_METHOD if options.method is None else options.method)
    if options.backbone is not None:
        with_backbone(data, options.backbone)
    if options.tasks is not None:
        with_tasks(data, _names(options.tasks))
    if options.seed is not None:
        data["seed"] = _json_or_text(options.seed)
    for setting in options.settings:
        path, value = _setting("--set", setting)
        apply_setting(data, path, _json_or_text(value))
    return data


def _setting(option: str, text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise ConfigError(f"{option} {text!r} is not of the form a.b=value.")
    if path.split(".")[0] not in RunConfig.model_fields:
        raise ConfigError(f"{option} {path}: known: {', '.join(RunConfig.model_fields)}.")
    return path, value


def _values(text: str) -> list[Any]:
    """Values between commas, each read as JSON, else as text; lists and quoted commas are one value."""
    try:
        return list(json.loads(f"[{text}]")) or [""]
    except (ValueError, RecursionError):
        return [_json_or_text(value) for value in text.split(",")]


def _print_notes(configs: Sequence[RunConfig]) -> None:
    for warning in dict.fromkeys(warning for config in configs for warning in config.warnings()):
        print(f"Note: {warning}", file=sys.stderr)


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _read_file(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"The configuration {str(path)!r} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"The configuration {str(path)!r} is not valid JSON: {error}.") from None
    if not isinstance(data, dict):
        raise ConfigError(f"The configuration {str(path)!r} must be a JSON object.")
    return data


# ---- commands -------------------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    config = read_config(options)
    (result,) = _train_here(options, [config])
    _print(options, result.model_dump(mode="json"), lambda: _describe(result))
    return GOOD if result.state == "complete" else FAILED


def _sweep(options: argparse.Namespace) -> int:
    found = read_sweep(options)
    results = list(_train_here(options, [config for _, config in found]))
    rows = [(chosen, result) for (chosen, _), result in zip(found, results, strict=False)]
    _print(options, [result.model_dump(mode="json") for result in results], lambda: _sweep_table(rows))
    return GOOD if len(results) == len(found) and all(r.state == "complete" for r in results) else FAILED


def _train_here(options: argparse.Namespace, configs: Sequence[RunConfig]) -> Iterator[RunResult]:
    """Train one after the other in this process, until all are done or the person stops."""
    seconds, store = _checkpoint_seconds(options), Store()
    energy.warm_up()
    from labcore.training.hardware import pick_device, prepare

    device = pick_device(options.device)
    prepare()
    with _interrupts() as stop:
        for number, config in enumerate(configs, 1):
            if len(configs) > 1:
                print(f"{number} of {len(configs)}", file=sys.stderr, flush=True)
            submission = store.submit(config, device=options.device, use_cache=not options.no_cache)
            run = submission.run
            if not submission.cached:
                _train_or_follow(store, run, device, seconds, stop, options.maps)
            result = store.result(run, cached=submission.cached)
            if result.state == "stopped":
                print(f"Stopped. `python -m labcore resume {run}` queues it again.", file=sys.stderr)
            yield result
            if stop.is_set():
                return


def _train_or_follow(
    store: Store, run: str, device: str, seconds: float, stop: threading.Event, maps: Detail | None
) -> None:
    """See a queued run to its end: train it here, or follow whoever has it."""
    while store.record(run).active:
        try:
            claim = store.claim_run(run)
        except Busy:  # a worker, or another command, has it: follow it
            worker.wait_for(store, run, _tell, until=stop.is_set)
            if stop.is_set():
                break
            continue
        with _passing_on(stop, store, run):
            worker.run_claim(claim, device, checkpoint_seconds=seconds, tell=_tell, maps=maps)


def _experiment(options: argparse.Namespace) -> int:
    store = Store()
    if options.experiment not in questions.NAMED and options.experiment in explorations.names(store):
        return _exploration(options, store)
    experiment, reader = _named(options, store), Reader(store)
    cells = reader.look(experiment).cells
    missing = ((f"{number} of {len(cells)}", cell) for number, cell in enumerate(cells, 1) if not cell.finished)
    with _interrupts() as stop:
        _train_cells(options, store, missing, stop)
    findings = reader.look(experiment)
    return _print_findings(options, findings.document(), _describe_findings(findings), stop)


def _exploration(options: argparse.Namespace, store: Store) -> int:
    """Go on with an exploration of this store until it is over or the person stops. Raises ConfigError."""
    name, reader = options.experiment, Reader(store)
    for option in ("preset", "tasks", "seeds"):
        if getattr(options, option) is not None:
            raise ConfigError(f"{name} is an exploration and has its own {option}; leave --{option} out.")
    explorations.read(store, name)  # one that cannot be read is told before anything begins
    with _interrupts() as stop:
        _train_cells(options, store, _explored_cells(store, reader, name, options.device, stop), stop)
        if stop.is_set():
            explorations.stop(store, name)
            experiments.stop(store, reader.look(explorations.read(store, name).experiment()))
    record = explorations.read(store, name)
    findings = reader.look(record.experiment())
    lines = [f"Left out, as it cannot be: {problem}" for problem in dict.fromkeys(record.refused)]
    lines.append(f"{record.so_far(findings)} · {record.ended or record.state}")
    return _print_findings(options, record.document(findings), "\n".join([_describe_findings(findings), *lines]), stop)


def _train_cells(
    options: argparse.Namespace, store: Store, cells: Iterable[tuple[str, experiments.Cell]], stop: threading.Event
) -> None:
    """Train these here, one after the other, each told by its words, until all are done or the person stops."""
    seconds = _checkpoint_seconds(options)
    from labcore.training.hardware import pick_device, prepare

    device = pick_device(options.device)
    prepare()
    for words, cell in cells:
        if stop.is_set():
            return
        print(f"{words}: {cell.arm.label}, seed {cell.seed}", file=sys.stderr, flush=True)
        submission = store.submit(cell.config, device=options.device)
        with contextlib.suppress(UnknownRun):  # deleted meanwhile: missing, and told so
            _train_or_follow(store, submission.run, device, seconds, stop, "none")


def _print_findings(options: argparse.Namespace, document: dict[str, Any], text: str, stop: threading.Event) -> int:
    _print(options, document, lambda: text)
    if stop.is_set():
        print("Stopped; the same command goes on.", file=sys.stderr)
    return GOOD if document["complete"] else FAILED


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
    jobs = None if options.tasks is None else _names(options.tasks)
    return questions.named(options.experiment, options.preset, count, jobs)


def _explored_cells(
    store: Store, reader: Reader, name: str, device: str, stop: threading.Event
) -> Iterator[tuple[str, experiments.Cell]]:
    """What waits of an exploration that goes on meanwhile: what is missing, then what it asks for, until it is over."""
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
    store = Store()
    reader, found = Reader(store), []
    for name in explorations.names(store):
        try:
            record = explorations.read(store, name)
            found.append((record, reader.look(record.experiment())))
        except ConfigError as error:  # one that cannot be read hides no other
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
    _print(options, {"named": named, "explorations": explored}, lambda: "\n".join(lines))
    return GOOD


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, which asks the run to stop; a second one ends the process."""
    stop = threading.Event()

    def ask(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        print("Stopping…", file=sys.stderr)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _passing_on(stop: threading.Event, store: Store, run: str) -> Iterator[None]:
    """While the block lasts, a stop is the run's: asked for by a thread, as no signal may interrupt the store."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            if stop.is_set():
                store.request_stop(run)
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _submit(options: argparse.Namespace) -> int:
    config, store = read_config(options), Store()
    if options.device != "auto" and options.device != "cpu":
        from labcore.training.hardware import pick_device

        pick_device(options.device)
    submission = store.submit(config, device=options.device, use_cache=not options.no_cache)
    found = {"run": submission.run, "state": submission.state, "cached": submission.cached}
    _print(options, found, lambda: submission.run)
    return GOOD


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
    _print(options, document, lambda: "\n".join(_row(*row) for row in rows) or "No runs yet: `python -m labcore run`.")
    return GOOD


def _row(record: RunRecord, config: RunConfig) -> str:
    accuracy = "" if record.average_accuracy is None else f"{record.average_accuracy:4.0%}"
    state = "lost" if record.lost else record.state
    return f"{record.run}  {state:9} {accuracy:5} {config.method.name:18} {' → '.join(config.task_names)}"


def _show(options: argparse.Namespace) -> int:
    store = Store()
    result = store.result(options.run, cached=store.record(options.run).state == "complete")
    _print(options, result.model_dump(mode="json"), lambda: _describe(result))
    return GOOD


def _events(options: argparse.Namespace) -> int:
    events, _ = Store().tail(options.run)
    lines = [to_line(event).decode().rstrip("\n") for event in events]
    _print(options, [json.loads(line) for line in lines], lambda: "\n".join(lines))
    return GOOD


def _cancel(options: argparse.Namespace) -> int:
    store = Store()
    store.request_stop(options.run)
    return _print_record(options, store)


def _resume(options: argparse.Namespace) -> int:
    store = Store()
    store.resume(options.run)
    return _print_record(options, store)


def _print_record(options: argparse.Namespace, store: Store) -> int:
    record = store.record(options.run)
    stopping = record.state == "running" and store.stop_requested(record.run)
    _print(options, record.model_dump(mode="json"), lambda: f"{record.run}: {'stopping' if stopping else record.state}")
    return GOOD


def _delete(options: argparse.Namespace) -> int:
    Store().delete(options.run)
    _print(options, {"run": options.run, "deleted": True}, lambda: f"{options.run}: deleted")
    return GOOD


def _export(options: argparse.Namespace) -> int:
    missing = archive.export_run(Store(), options.run, options.file)
    if missing:
        print(f"Stages without stored arrays, left out: {', '.join(map(str, missing))}.", file=sys.stderr)
    found = {"run": options.run, "file": str(options.file), "missing_stages": missing}
    _print(options, found, lambda: f"{options.run}: written to {options.file}")
    return GOOD


def _import(options: argparse.Namespace) -> int:
    run = archive.import_run(Store(), options.file)
    _print(options, {"run": run}, lambda: run)
    return GOOD


def _worker(options: argparse.Namespace) -> int:
    seconds = _checkpoint_seconds(options)
    worker.work(Store(), options.device, until_idle=options.until_idle, checkpoint_seconds=seconds, maps=options.maps)
    if options.json:
        _print(options, {"device": options.device, "ended": True}, str)
    return GOOD


def _backbones(options: argparse.Namespace) -> int:
    document = [
        {
            "name": name,
            "title": info.title,
            "description": info.description,
            "start": info.start,
            "image_size": info.image_size,
            "blocks": list(info.blocks),
            "weights": info.weights,
            "download_megabytes": info.download,
        }
        for name, info in BACKBONES.items()
    ]
    _print(options, document, lambda: "\n".join(f"{row['name']:20} {row['description']}" for row in document))
    return GOOD


def _tasks(options: argparse.Namespace) -> int:
    found = [tasks.describe(name) for name in tasks.ALL]
    document = [
        {
            "name": task.name,
            "title": task.title,
            "description": task.description,
            "classes": list(task.classes),
            "download_megabytes": task.download,
        }
        for task in found
    ]
    _print(options, document, lambda: "\n".join(map(_task_line, found)))
    return GOOD


def _task_line(task: tasks.TaskInfo) -> str:
    size = f"Download, {task.download} MB. " if task.download else ""
    shown = task.classes if len(task.classes) <= 10 else (*task.classes[:5], f"… {len(task.classes)} in all")
    return f"{task.name:20} {task.description} {size}{', '.join(shown)}"


def _methods(options: argparse.Namespace) -> int:
    document = [
        {"name": name, "title": METHOD_TITLES[name], "description": model.__doc__} for name, model in METHODS.items()
    ]
    _print(options, document, lambda: "\n".join(f"{row['name']:20} {row['description']}" for row in document))
    return GOOD


def _presets(options: argparse.Namespace) -> int:
    document = [
        {
            "name": preset.name,
            "title": preset.title,
            "description": preset.description,
            "methods": {method: preset_data(preset.name, method) for method in METHODS},
        }
        for preset in PRESETS.values()
    ]
    _print(options, document, lambda: "\n".join(f"{p.name:20} {p.description}" for p in PRESETS.values()))
    return GOOD


# ---- output ---------------------------------------------------------------------------------------------------------


def _print(options: argparse.Namespace, document: Any, plain: Callable[[], str]) -> None:
    print(json.dumps(document, indent=2, allow_nan=False) if options.json else plain())
    sys.stdout.flush()


def _tell(event: Event) -> None:
    """Progress for people, on stderr."""
    match event:
        case Downloading():
            line = event.text
        case RunStarted():
            again = "" if event.resumed_from_step is None else f", going on from step {event.resumed_from_step}"
            line = f"{event.run} on {event.device} ({event.device_name}, {event.threads} threads){again}"
        case StageEnded(reused=True):
            line = f"stage {event.stage}: {event.task}, reused: learnt in {event.train_seconds:.1f} s before"
        case StageStarted(reused=False):
            line = f"stage {event.stage}: {event.task}"
        case Evaluated(kind="live", reused=False):
            line = f"  {event.images_seen:7} images  " + "  ".join(f"{value:4.0%}" for value in event.accuracy)
        case StageEnded():
            line = f"  learnt in {event.train_seconds:.1f} s, measured in {event.evaluation_seconds:.1f} s"
        case RunEnded():
            line = event.state + (f": {event.error}" if event.error else "")
        case _:
            return
    print(line, file=sys.stderr, flush=True)


def _describe(result: RunResult) -> str:
    lines = [f"{result.run}: {result.state}" + (f": {result.error}" if result.error else "")]
    lines += [f"  after {result.tasks[k]:16}" + _percents(row) for k, row in enumerate(result.accuracy_matrix)]
    if result.average_accuracy is not None:
        lines.append(f"  average accuracy {result.average_accuracy:.1%}")
    if result.energy_wh is not None:
        carbon, country = energy.grams(result.carbon_g), energy.country(result.carbon_country).text
        lines.append(f"  ≈ {energy.watt_hours(result.energy_wh)}, {carbon} CO₂e ({country}), estimated by codecarbon")
    return "\n".join(lines)


def _sweep_table(rows: Sequence[tuple[dict[str, Any], RunResult]]) -> str:
    """A line a combination: what was varied, average accuracy, mean forgetting, seconds of training, the run."""
    table = [[*(rows[0][0] if rows else []), "accuracy", "forgotten", "training", "run"]]
    for chosen, result in rows:
        table.append(
            [
                *map(str, chosen.values()),
                result.state if result.average_accuracy is None else f"{result.average_accuracy:.1%}",
                "–" if result.mean_forgetting is None else f"{result.mean_forgetting:.1%}",
                f"{result.train_seconds:.1f} s",
                result.run,
            ]
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in table)


def _percents(row: Sequence[float | None]) -> str:
    return "  ".join("    –" if value is None else f"{value:5.1%}" for value in row)
