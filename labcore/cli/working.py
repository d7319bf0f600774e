"""Commands that work for the store: `worker` trains what the queue holds, `draw` makes maps again."""

import argparse

from labcore.cli.command import (
    GOOD,
    Command,
    add_checkpoint_seconds,
    add_device,
    add_maps,
    add_run,
    checkpoint_seconds,
    opened,
    show,
)
from labcore.configs.base import ConfigError
from labcore.configs.units import count_of
from labcore.training import worker
from labcore.training.slots import MOST_SLOTS


def _declare(parser: argparse.ArgumentParser) -> None:
    add_device(parser)
    parser.add_argument("--executor", default="local", choices=["local"], help="where training runs")
    text = "how many runs train at once (default: as many as there are cores while several wait; on a card one)"
    parser.add_argument("--slots", metavar="N", help=text)
    parser.add_argument(
        "--slot", default="0", help=argparse.SUPPRESS
    )  # which one this is, for a worker's own processes
    parser.add_argument("--until-idle", action="store_true", help="end when nothing waits")
    parser.add_argument(
        "--ahead", action="store_true", help="nobody waits yet: come up at low priority, and end if nobody ever does"
    )
    add_checkpoint_seconds(parser)
    add_maps(parser)


def _count(text: str, name: str, least: int) -> int:
    """The whole number that an option says. Raises ConfigError."""
    if text.isascii() and text.isdigit() and least <= int(text) <= MOST_SLOTS:
        return int(text)
    raise ConfigError(f"{name} is {text!r}; it must be a whole number from {least} to {MOST_SLOTS}.")


def _worker(options: argparse.Namespace) -> int:
    worker.work(
        opened(),
        options.device,
        slots=None if options.slots is None else _count(options.slots, "--slots", 1),
        slot=_count(options.slot, "--slot", 0),
        until_idle=options.until_idle,
        ahead=options.ahead,
        checkpoint_seconds=checkpoint_seconds(options),
        maps=options.maps,
    )
    if options.json:
        show(options, {"device": options.device, "ended": True}, str)
    return GOOD


def _declare_draw(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_device(parser)


def _draw(options: argparse.Namespace) -> int:
    from labcore.training import maps_again  # with torch

    stages = maps_again.draw(opened(), options.run, options.device)
    words = f"{options.run}: the maps of {count_of(len(stages), 'stage')} are drawn again."
    show(options, {"run": options.run, "stages": stages}, lambda: words)
    return GOOD


COMMANDS = (
    Command("worker", "take queued runs and train them", _worker, _declare),
    Command("draw", "draw the maps of a run's stages again, from its stored weights", _draw, _declare_draw),
)
