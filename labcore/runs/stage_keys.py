"""What a trained stage depends on, as a hash: two stages of the same key come out the same, bit for bit.

The training of a stage depends on the machine, the seed, the backbone, the training settings, the task's pictures, what
the method says of this stage (`stage_config`), and all that earlier stages depend on. What the method adds at the end
of a stage (EWC's Fisher, say) depends on that and on `addition_config`. So methods that train their first stage alike
share it, and a change of EWC's strength trains no first stage anew.

No torch here: pages ask which stages two runs share.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labcore.configs.run import RunConfig


@dataclass(frozen=True, slots=True)
class StageKey:
    """A stage by what it depends on: its training, and what its end added to it. Each is 64 hexadecimal digits."""

    training: str
    addition: str


def stage_keys(
    config: RunConfig,
    machine: Mapping[str, str | int],
    trained: Sequence[Mapping[str, Any]],
    added: Sequence[Mapping[str, Any] | None],
) -> list[StageKey]:
    """The keys of all stages of a run.

    Args:
        config: The configuration of the run.
        machine: What the bits depend on beside the configuration: processor, versions, number of threads.
        trained: The method's `stage_config`, stage by stage.
        added: The method's `addition_config`, stage by stage.
    """
    whole = config.model_dump(mode="json")
    told: list[Any] = [dict(machine), whole["seed"], whole["backbone"], whole["training"]]
    keys = []
    for task, plain, how, more in zip(config.tasks, whole["tasks"], trained, added, strict=True):
        told += [plain, task.fingerprint, how]
        training = _hash(told)
        keys.append(StageKey(training, _hash([training, more])))
        told.append(more)
    return keys


def shared_stages(one: RunConfig, other: RunConfig) -> int:
    """How many stages, counted from the first, come out the same in two runs on the same machine."""
    pairs = zip(_plain_keys(one), _plain_keys(other), strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(one.tasks), len(other.tasks)))


def _plain_keys(config: RunConfig) -> list[str]:
    """The training keys of a run on a machine that is left open."""
    stages = range(1, len(config.tasks) + 1)
    trained = [config.stage_config(stage) for stage in stages]
    added = [config.addition_config(stage) for stage in stages]
    return [key.training for key in stage_keys(config, {}, trained, added)]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
