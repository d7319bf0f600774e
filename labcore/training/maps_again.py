"""The maps of stages' ends, drawn again from the weights that are stored after them.

They are what the run drew, except for what only its training knew: how features compared before a stage that cannot be
told from the one before it, and what a method shows only while a stage lasts. Torch is loaded here.
"""

import os

import torch

from labcore.configs.base import ConfigError
from labcore.configs.reading import require_installed
from labcore.runs.errors import Busy
from labcore.runs.files import take_lock
from labcore.runs.store import Store
from labcore.training import hardware, saving
from labcore.training.learner import Learner
from labcore.training.map_maker import MapMaker


def draw(store: Store, run: str, device: str = "cpu") -> list[int]:
    """Draw the maps of all stages of a run that is over whose weights are stored.

    Returns:
        The stages.

    Raises:
        UnknownRun: There is no such run.
        ConfigError: It is not over, has no weights, or needs what is not installed.
        TaskError: Its pictures are not here.
        OSError: The system refuses.
    """
    folder, config = store.folder(run), store.config(run)
    require_installed(config)
    try:
        lock = take_lock(folder / "lock")
    except Busy:
        raise ConfigError(f"Run {run} is running, or its maps are being drawn or removed; try it later.") from None
    try:
        record = store.record(run)
        if record.active:
            raise ConfigError(f"Run {run} is {record.state}; its maps can be drawn again when it is over.")
        stored = store.stages_stored(run)
        moments = {moment.stage: moment for moment in store.fold(run).maps if moment.kind == "stage"}
        stages = [stage for stage in stored if stage in moments]
        if not stages:
            raise ConfigError(f"Run {run} has no stored weights of which maps could be drawn; train it again.")
        hardware.prepare()
        learner = Learner(config, torch.device(hardware.pick_device(device)), store.cache, store.root)
        maker = MapMaker(
            learner.network,
            learner.method,
            config,
            learner.tasks,
            folder,
            lambda stage: store.stage_folder(run, stage),
            lambda: False,
        )
        for stage in range(1, stages[-1] + 1):
            learner.see(stage)
            if stage in stages:
                saving.load_stage(learner, store.stage_folder(run, stage))
                maker.end(stage, moments[stage].step)
        return stages
    finally:
        os.close(lock)
