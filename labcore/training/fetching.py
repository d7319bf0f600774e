"""Files that others publish, fetched before a run loads anything: weights of backbones, pictures of tasks."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from labcore.configs.run import RunConfig
from labcore.networks import backbones
from labcore.networks.batches import Stopped
from labcore.runs.events import Downloading, Event
from labcore.tasks import catalogue
from labcore.tasks.downloads import File, fetch

# Progress of a download is told this often.
TELL_SECONDS = 1.0


def fetch_files(config: RunConfig, root: Path, step: int, should_stop: Callable[[], bool]) -> Iterator[Event]:
    """Make sure that the weights and the data sets of a run lie below `root`, and tell how each download goes.

    `should_stop` is asked before every piece. Raises DownloadError where a file cannot be had, and Stopped.
    """
    weights = backbones.weights_file(config.backbone.name, config.backbone.start)
    needed: list[File] = [weights] if weights else []
    needed += [file for name in config.task_names for file in catalogue.files(name)]
    for file in dict.fromkeys(needed):
        told = -math.inf
        with closing(fetch(file, root)) as pieces:
            for done, total in pieces:
                if should_stop():
                    raise Stopped
                if time.monotonic() - told >= TELL_SECONDS or done == total:
                    told = time.monotonic()
                    yield Downloading(file=file.name, done=done, total=total, step=step)
