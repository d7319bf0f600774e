"""Named configurations: a sequence, and fair settings for every method.

`fine_tuning`, `separate_copies`, `joint`, `lwf` and `ewc` have identical backbone, tasks and training, with rates
chosen by single-task validation accuracy. `feature_extraction`, `packnet` and `piggyback` may also differ in epochs,
batch size and norm. What is a method's own was searched for validation accuracy over the sequence, in a few trials each
(docs/performance.md tells them all, and where something else had a say).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labcore.configs.catalogue import BACKBONES
from labcore.configs.run import METHODS, ConfigError, RunConfig, parse, with_settings


@dataclass(frozen=True, slots=True)
class Preset:
    """`base` is a whole configuration; `by_method` holds what differs for one method, as dotted settings."""

    name: str
    title: str
    description: str
    base: dict[str, Any]
    by_method: dict[str, dict[str, Any]]


_TRAINING = {
    "optimizer": "adam",
    "learning_rate": 5e-4,
    "head_learning_rate": 3e-3,
    "epochs": 3,
    "batch_size": 32,
    "head_warmup_epochs": 10,
}
_LITE0 = {"name": "efficientnet_lite0", "start": "pretrained", "image_size": 64, "norm": "frozen"}
# Heads alone cost next to nothing on cached features, so feature extraction gets the passes it needs to converge.
# PackNet retrains in many small steps; Piggyback's scores travel by steps, not by large ones.
_STORY: dict[str, dict[str, Any]] = {
    "feature_extraction": {"training.epochs": 100},
    "lwf": {"method.strength": 0.5, "method.temperature": 4.0},
    "ewc": {"method.strength": 1e4},
    "packnet": {"training.batch_size": 16, "backbone.norm": "affine_per_task"},
    "piggyback": {"training.epochs": 8, "training.batch_size": 16, "backbone.norm": "affine_per_task"},
}
# From random weights, a new head needs many passes on what the network makes of pictures that it never learnt from.
_QUICK: dict[str, dict[str, Any]] = {
    "feature_extraction": {"training.epochs": 40},
    "lwf": {"method.temperature": 8.0},
    "ewc": {"method.strength": 300.0},
    "packnet": {"method.prune_ratio": 0.7, "method.retrain_epochs": 6, "backbone.norm": "per_task"},
    "piggyback": {
        "method.score_learning_rate": 1e-3,
        "training.epochs": 14,
        "training.batch_size": 16,
        "backbone.norm": "per_task",
    },
}

PRESETS: dict[str, Preset] = {
    "story": Preset(
        "story",
        "The story",
        "A network that knows photographs learns digits, then clothes, then hand fans.",
        {
            "backbone": _LITE0,
            "tasks": [{"name": "digits"}, {"name": "fashion", "images_per_class": 100}, {"name": "fans"}],
            "training": _TRAINING,
        },
        _STORY,
    ),
    "quick": Preset(
        "quick",
        "Quick look",
        "A tiny network from scratch, ten to twenty seconds a method.",
        {
            "backbone": {"name": "small_cnn", "start": "kaiming", "image_size": 28, "norm": "frozen"},
            "tasks": [
                {"name": "fashion:0-4", "images_per_class": 136},
                {"name": "digits", "images_per_class": 68},
                {"name": "hotdogs", "images_per_class": 170},
            ],
            "training": {
                **_TRAINING,
                "learning_rate": 4e-3,
                "head_learning_rate": 2e-2,
                "epochs": 10,
                "head_warmup_epochs": 40,
            },
        },
        _QUICK,
    ),
    "long": Preset(
        "long",
        "Five jobs",
        "The same network as in the story, five jobs in a row.",
        {
            "backbone": _LITE0,
            "tasks": [
                {"name": "digits"},
                {"name": "fashion", "images_per_class": 100},
                {"name": "faces"},
                {"name": "fans"},
                {"name": "swatters"},
            ],
            "training": _TRAINING,
        },
        _STORY,
    ),
}
DEFAULT_METHOD = "fine_tuning"


def preset_data(name: str, method: str = DEFAULT_METHOD) -> dict[str, Any]:
    """A preset's configuration for a method, as plain data to change. Raises ConfigError for unknown names."""
    if name not in PRESETS:
        raise ConfigError(f"preset is {name!r}; allowed: {', '.join(PRESETS)}.")
    if method not in METHODS:
        raise ConfigError(f"method is {method!r}; allowed: {', '.join(METHODS)}.")
    data = {**PRESETS[name].base, "method": {"name": method}, "seed": 0}
    return with_settings(data, PRESETS[name].by_method.get(method, {}))


def preset(name: str, method: str = DEFAULT_METHOD) -> RunConfig:
    """A preset's configuration for a method. Raises ConfigError for unknown names."""
    return parse(preset_data(name, method))


def with_tasks(data: dict[str, Any], names: Sequence[str]) -> None:
    """Other tasks for plain data, in place; those that it had keep their number of images."""
    had = {task["name"]: task for task in data.get("tasks", []) if isinstance(task, dict) and "name" in task}
    data["tasks"] = [dict(had.get(name, {"name": name})) for name in names]


def with_backbone(data: dict[str, Any], name: str) -> None:
    """Change the backbone of plain data, in place; start and size become its defaults. Raises ConfigError."""
    if name not in BACKBONES:
        raise ConfigError(f"backbone is {name!r}; allowed: {', '.join(BACKBONES)}.")
    info = BACKBONES[name]
    data["backbone"] = {**data.get("backbone", {}), "name": name, "start": info.start, "image_size": info.image_size}
