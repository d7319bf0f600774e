"""The lab without a page: `python -m labcore …`.

Results go to stdout (with `--json` as one JSON document), progress and logs to stderr. Exit status: 0 good, 1 a run
that failed or was stopped, 2 bad input, told in one line on stderr with stdout empty.
"""

import argparse
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from labcore.cli import experimenting, looking, moving, queueing, recording, running, telling, working
from labcore.cli.command import BAD_INPUT, GOOD
from labcore.configs.base import ConfigError
from labcore.runs.errors import StoreError, refused
from labcore.tasks.source import TaskError

# In the order in which the help lists them.
COMMANDS = (
    *running.COMMANDS,
    *experimenting.COMMANDS,
    *looking.COMMANDS,
    *queueing.COMMANDS,
    *moving.COMMANDS,
    *working.COMMANDS,
    *recording.COMMANDS,
    *telling.COMMANDS,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal or pipe of few letters shows "?" for those that it lacks: a result is worth more than its arrows.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        options = parser().parse_args(arguments)
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(message)s")
        logging.getLogger("labcore").setLevel(logging.INFO)  # of other packages only what goes wrong
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except (ConfigError, TaskError, StoreError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        # Whoever read our output has gone; what they did not read they did not want.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return GOOD
    except OSError as error:
        print(" ".join(refused(error).split()), file=sys.stderr)
        return BAD_INPUT


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Tell what argparse cannot read as bad input is told, in one sentence and without the usage."""
        raise ConfigError(f"{self.prog}: {message}")


def parser() -> argparse.ArgumentParser:
    """The parser of the whole line. It leaves the chosen command's function in `command`."""
    whole = _Parser(prog="python -m labcore", description="Teach one network several tasks, and see what it forgets.")
    names = whole.add_subparsers(dest="name", required=True, metavar="COMMAND", parser_class=_Parser)
    for command in COMMANDS:
        own = names.add_parser(command.name, help=command.help, description=command.help)
        own.set_defaults(command=command.run)
        own.add_argument("--json", action="store_true", help="print one JSON document on stdout")
        command.declare(own)
    return whole
