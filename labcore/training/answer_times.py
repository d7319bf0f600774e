"""Time the answers of several finished runs in turn, so that what disturbs the machine disturbs all of them alike."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from labcore.configs.base import ConfigError
from labcore.configs.looking import TIMED_PASSES
from labcore.configs.reading import require_installed
from labcore.configs.run import RunConfig
from labcore.networks.batches import LoadedTask, Stopped, load_task
from labcore.runs.errors import UnknownRun
from labcore.runs.store import Store
from labcore.studies.answer_times import AnswerTimes, InTurn, Turn
from labcore.tasks import catalogue
from labcore.tasks.source import TaskError
from labcore.training import hardware, saving
from labcore.training.learner import Learner
from labcore.training.measuring import Measurer

log = logging.getLogger("labcore.training.answer_times")

DROPPED = "Its weights were dropped to make room for others."


def measure(store: Store, turn: Turn, should_stop: Callable[[], bool]) -> AnswerTimes | None:
    """Time these runs in turn, each on the first test pictures of its first task. None where it was told to stop.

    `should_stop` is asked before each run that is restored and before each picture. A run that cannot be restored is
    left out, and what is found says why.
    """
    threads = hardware.prepare()  # with all cores: the run before may have shared them
    passes: dict[str, Callable[[], float]] = {}
    why: dict[str, str] = {}
    pictures: dict[str, LoadedTask] = {}
    for run, _ in turn.runs:
        if should_stop():
            return None
        try:
            learner = _of_store(store, run, torch.device(turn.device), pictures)
        except _LeftOut as reason:
            why[run] = str(reason)
            continue
        passes[run] = Measurer(learner.network, learner.method, should_stop).passes(learner.tasks[0])
    try:
        found = take_turns(passes)
    except Stopped:
        return None
    timed = (
        InTurn(run=run, threads=threads, milliseconds=found.get(run, ()), why=why.get(run, "")) for run, _ in turn.runs
    )
    return AnswerTimes(turn=turn, timed=tuple(timed))


def take_turns(passes: Mapping[str, Callable[[], float]], rounds: int = TIMED_PASSES) -> dict[str, tuple[float, ...]]:
    """What each pass returns in each round. In every round each has its turn; a first, warm one does not count."""
    for one_pass in passes.values():
        one_pass()
    found: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(rounds):
        for name, one_pass in passes.items():
            found[name].append(one_pass())
    return {name: tuple(values) for name, values in found.items()}


class _LeftOut(Exception):
    """A run cannot be timed; the text is a sentence that says why."""


def _of_store(store: Store, run: str, device: torch.device, pictures: dict[str, LoadedTask]) -> Learner:
    """A run of the store as it stood after its last stage. Raises _LeftOut.

    `pictures` keeps the first tasks that were read, as the runs of a table have theirs in common.
    """
    try:
        config = store.config(run)
        require_installed(config)
        if store.stages_stored(run)[-1:] != [len(config.tasks)]:
            raise _LeftOut(DROPPED)
        size = config.backbone.image_size
        place = f"{config.tasks[0].model_dump_json()} {size}"
        if place not in pictures:
            pictures[place] = load_task(1, config.tasks[0], size, store.cache, device, store.root)
        return restore(config, store.stage_folder(run, len(config.tasks)), device, pictures[place], store.root)
    except _LeftOut:
        raise
    except UnknownRun as error:
        raise _LeftOut("It was deleted.") from error
    except (ConfigError, TaskError) as error:
        raise _LeftOut(str(error)) from error
    except FileNotFoundError as error:
        raise _LeftOut(DROPPED) from error
    except Exception as error:
        log.exception("Run %s cannot be restored", run)
        raise _LeftOut(f"Its network could not be restored ({type(error).__name__}).") from error


def restore(
    config: RunConfig, folder: Path, device: torch.device, first: LoadedTask, downloads: Path | None = None
) -> Learner:
    """A run's network and method as its last stage left them in `folder`, with the test pictures of its `first` task.

    Of the other tasks, and of what the first was trained on, there are no pictures: answering needs none. Raises
    OSError and what reading damaged arrays raises.
    """
    nothing = first.test.first(0)
    tasks = [
        LoadedTask(position, catalogue.describe(task.name), nothing, nothing, first.test if position == 1 else nothing)
        for position, task in enumerate(config.tasks, 1)
    ]
    learner = Learner(config, device, downloads=downloads, tasks=tasks)
    for stage in range(1, len(tasks) + 1):
        learner.see(stage)
    saving.load_stage(learner, folder)
    return learner
