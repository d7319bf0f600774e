"""The command that trains what the queue holds: `worker`."""

import argparse

from labcore.cli.command import (
    GOOD,
    Command,
    add_checkpoint_seconds,
    add_device,
    add_maps,
    checkpoint_seconds,
    show,
)
from labcore.runs.store import Store
from labcore.training import worker


def _declare(parser: argparse.ArgumentParser) -> None:
    add_device(parser)
    parser.add_argument("--executor", default="local", choices=["local"], help="where training runs")
    parser.add_argument("--until-idle", action="store_true", help="end when nothing waits")
    add_checkpoint_seconds(parser)
    add_maps(parser)


def _worker(options: argparse.Namespace) -> int:
    seconds = checkpoint_seconds(options)
    worker.work(Store(), options.device, until_idle=options.until_idle, checkpoint_seconds=seconds, maps=options.maps)
    if options.json:
        show(options, {"device": options.device, "ended": True}, str)
    return GOOD


COMMANDS = (Command("worker", "take queued runs and train them", _worker, _declare),)
