"""Commands that take configurations: `run` and `sweep` train them here and now, `submit` queues one for the worker."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from labcore.cli.command import (
    FAILED,
    GOOD,
    Command,
    add_checkpoint_seconds,
    add_device,
    add_maps,
    checkpoint_seconds,
    opened,
    show,
)
from labcore.cli.configuring import add_configuration, read_config, read_sweep
from labcore.cli.here import interrupts, ready, tell_precision, train_or_follow
from labcore.cli.looking import describe
from labcore.configs.run import RunConfig
from labcore.runs import energy
from labcore.runs.results import RunResult
from labcore.runs.store import Store


def _add_how(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser)
    parser.add_argument("--no-cache", action="store_true", help="always a new run, every stage trained anew")
    add_device(parser)


# ---- run ------------------------------------------------------------------------------------------------------------


def _declare_run(parser: argparse.ArgumentParser) -> None:
    _add_how(parser)
    add_checkpoint_seconds(parser)
    add_maps(parser)


def _run(options: argparse.Namespace) -> int:
    config = read_config(options)
    (result,) = _train_here(options, [config])
    show(options, result.model_dump(mode="json"), lambda: describe(result))
    return GOOD if result.state == "complete" else FAILED


def _train_here(options: argparse.Namespace, configs: Sequence[RunConfig]) -> Iterator[RunResult]:
    """Train one after the other in this process, until all are done or the person stops."""
    seconds, store = checkpoint_seconds(options), opened()
    energy.warm_up()
    device = ready(options.device)
    tell_precision(store, device, (config for config in configs if options.no_cache or not _finished(store, config)))
    with interrupts() as stop:
        for number, config in enumerate(configs, 1):
            if len(configs) > 1:
                print(f"{number} of {len(configs)}", file=sys.stderr, flush=True)
            submission = store.submit(config, device=options.device, use_cache=not options.no_cache)
            run = submission.run
            if not submission.cached:
                train_or_follow(store, run, device, seconds, stop, options.maps)
            result = store.result(run, cached=submission.cached)
            if result.state == "stopped":
                print(f"Stopped. `python -m labcore resume {run}` queues it again.", file=sys.stderr)
            yield result
            if stop.is_set():
                return


def _finished(store: Store, config: RunConfig) -> bool:
    known = store.known(config)
    return known is not None and known.state == "complete"


# ---- submit ---------------------------------------------------------------------------------------------------------


def _submit(options: argparse.Namespace) -> int:
    config, store = read_config(options), opened()
    if options.device != "auto" and options.device != "cpu":
        from labcore.training.hardware import pick_device

        pick_device(options.device)
    submission = store.submit(config, device=options.device, use_cache=not options.no_cache)
    found = {"run": submission.run, "state": submission.state, "cached": submission.cached}
    show(options, found, lambda: submission.run)
    return GOOD


# ---- sweep ----------------------------------------------------------------------------------------------------------


def _declare_sweep(parser: argparse.ArgumentParser) -> None:
    _add_how(parser)
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="a.b=v1,v2",
        help="try each of these values; several --vary: every combination",
    )
    add_checkpoint_seconds(parser)
    add_maps(parser, default="none")


def _sweep(options: argparse.Namespace) -> int:
    found = read_sweep(options)
    results = list(_train_here(options, [config for _, config in found]))
    rows = [(chosen, result) for (chosen, _), result in zip(found, results, strict=False)]
    show(options, [result.model_dump(mode="json") for result in results], lambda: _sweep_table(rows))
    return GOOD if len(results) == len(found) and all(r.state == "complete" for r in results) else FAILED


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


COMMANDS = (
    Command("run", "train a configuration here and now, and print its result", _run, _declare_run),
    Command("submit", "queue a configuration for the worker, and print the run's ID", _submit, _add_how),
    Command("sweep", "train every combination of settings here and now, and print the results", _sweep, _declare_sweep),
)
