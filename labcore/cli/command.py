"""What a command of the line is, and what several of them share: statuses, options, and how results are printed.

A module of commands ends with `COMMANDS`, and `main` puts those tuples in a row. So a new command is one place: a
function that does it, one that declares its options where it has any, and an entry in the tuple below them.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labcore.configs.base import ConfigError
from labcore.runs.settings import DETAILS, Detail
from labcore.runs.store import Store

# The exit statuses. Bad input is told in one line on stderr, and stdout is then empty.
GOOD, FAILED, BAD_INPUT = 0, 1, 2


def _no_options(parser: argparse.ArgumentParser) -> None:
    """Declare nothing: `--json`, which every command has, is all."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        name: The word that a person types.
        help: What it does, in a line.
        run: Does it, and returns the exit status. Raises ConfigError, TaskError or StoreError for bad input.
        declare: Adds the command's own arguments to its parser.
    """

    name: str
    help: str
    run: Callable[[argparse.Namespace], int]
    declare: Callable[[argparse.ArgumentParser], None] = _no_options


def opened() -> Store:
    """The store of the command. What of it is damaged is told on stderr. Raises StoreError."""
    store = Store()
    for text in store.warnings():
        print(f"Warning: {text}", file=sys.stderr)
    return store


def add_run(parser: argparse.ArgumentParser) -> None:
    """Declare the argument of a command that is about one run."""
    parser.add_argument("run", metavar="RUN")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Declare the device to train on."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:0, …")


def add_checkpoint_seconds(parser: argparse.ArgumentParser) -> None:
    """Declare how often a run is saved. It is text until `checkpoint_seconds` has looked at it."""
    parser.add_argument("--checkpoint-seconds", default="20", metavar="S", help="time between checkpoints (default 20)")


def checkpoint_seconds(options: argparse.Namespace) -> float:
    """The seconds between checkpoints. Raises ConfigError for what is no number from 0 to a day."""
    with contextlib.suppress(ValueError):
        if 0 <= (seconds := float(options.checkpoint_seconds)) <= 86400:
            return seconds
    raise ConfigError(f"--checkpoint-seconds is {options.checkpoint_seconds!r}; it must be a number from 0 to 86400.")


def add_maps(parser: argparse.ArgumentParser, default: Detail | None = None) -> None:
    """Declare how much of the network's inside is recorded; without a default it is as the person has set it."""
    text = "what is recorded of the network's inside: all, at stage ends alone (stages), or none"
    told = default or "as set on the page Runs, else all"
    parser.add_argument("--maps", default=default, choices=DETAILS, help=f"{text} (default {told})")


def show(options: argparse.Namespace, document: Any, plain: Callable[[], str]) -> None:
    """Print a result on stdout: the document as JSON where `--json` was given, else the plain text."""
    print(json.dumps(document, indent=2, allow_nan=False) if options.json else plain())
    sys.stdout.flush()
