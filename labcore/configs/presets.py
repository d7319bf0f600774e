"""Named configurations: a sequence, and fair settings for every method.

Backbone, tasks and training are the same for all methods, with rates chosen by single-task validation accuracy, but
for what a method's `about` says of a preset: its own settings, and epochs, batch size or normalisation where it learns
in another way than by training the whole network once. These were chosen by validation accuracy over the sequence, in a
few trials each (docs/performance.md tells of them all, and of the cases in which something else had a say).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labcore import plugins
from labcore.configs.base import ConfigError
from labcore.configs.catalogue import BACKBONES
from labcore.configs.reading import parse, with_settings
from labcore.configs.registry import ABOUT, METHODS
from labcore.configs.run import RunConfig


@dataclass(frozen=True, slots=True)
class Preset:
    """A configuration with a name: `base` is all of it but the method.

    Each method's `about` says what differs for it, under the name `settled_as`: that of this preset, or of another
    whose settings this one takes.
    """

    name: str
    title: str
    description: str
    base: dict[str, Any]
    settled_as: str

    def differs(self, method: str) -> Mapping[str, Any]:
        """What differs for a method, as dotted settings; nothing where the method says nothing. Raises KeyError."""
        return ABOUT[method].presets.get(self.settled_as, {})


_TRAINING = {
    "optimizer": "adam",
    "learning_rate": 5e-4,
    "head_learning_rate": 3e-3,
    "epochs": 3,
    "batch_size": 32,
    "head_warmup_epochs": 5,
}
# So few that forgetting is seen within a minute of Start; with more pictures each job is learnt a little better.
_DIGITS = {"name": "digits", "images_per_class": 60}
_FASHION = {"name": "fashion", "images_per_class": 60}
_FANS = {"name": "fans", "images_per_class": 100}
_LITE0 = {"name": "efficientnet_lite0", "start": "pretrained", "image_size": 64, "norm": "frozen"}

PRESETS: dict[str, Preset] = {
    "story": Preset(
        "story",
        "The story",
        "A network that knows photographs learns digits, then clothes, then hand fans.",
        {
            "backbone": _LITE0,
            "tasks": [_DIGITS, _FASHION, _FANS],
            "training": _TRAINING,
        },
        settled_as="story",
    ),
    "quick": Preset(
        "quick",
        "Quick look",
        "A tiny network from random weights learns clothes, then digits, then hot dogs: the quickest of all.",
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
        settled_as="quick",
    ),
    "long": Preset(
        "long",
        "Five jobs",
        "The same network as in the story, five jobs in a row.",
        {
            "backbone": _LITE0,
            "tasks": [
                _DIGITS,
                _FASHION,
                {"name": "faces", "images_per_class": 100},
                _FANS,
                {"name": "swatters", "images_per_class": 100},
            ],
            "training": _TRAINING,
        },
        settled_as="story",
    ),
}
DEFAULT_METHOD = "fine_tuning"

for _about in ABOUT.values():
    if _unknown := sorted(set(_about.presets) - {preset.settled_as for preset in PRESETS.values()}):
        plugins.leave_out(
            f"What the method {_about.name!r} sets for the preset {_unknown[0]!r} is",
            ValueError(f"there is no such preset; there are {', '.join(PRESETS)}"),
        )


def preset_data(name: str, method: str = DEFAULT_METHOD) -> dict[str, Any]:
    """A preset's configuration for a method, as plain data to change. Raises ConfigError for unknown names."""
    if name not in PRESETS:
        raise ConfigError(f"preset is {name!r}; allowed: {', '.join(PRESETS)}.")
    if method not in METHODS:
        raise ConfigError(f"method is {method!r}; allowed: {', '.join(METHODS)}.")
    data = {**PRESETS[name].base, "method": {"name": method}, "seed": 0}
    return with_settings(data, PRESETS[name].differs(method))


def preset(name: str, method: str = DEFAULT_METHOD) -> RunConfig:
    """A preset's configuration for a method. Raises ConfigError for unknown names."""
    return parse(preset_data(name, method))


def with_tasks(data: dict[str, Any], names: Sequence[str]) -> None:
    """Change the tasks of plain data, in place; those that it had keep their number of images."""
    had = {task["name"]: task for task in data.get("tasks", []) if isinstance(task, dict) and "name" in task}
    data["tasks"] = [dict(had.get(name, {"name": name})) for name in names]


def with_backbone(data: dict[str, Any], name: str) -> None:
    """Change the backbone of plain data, in place; start and size become its defaults.

    Raises ConfigError for an unknown backbone.
    """
    if name not in BACKBONES:
        raise ConfigError(f"backbone is {name!r}; allowed: {', '.join(BACKBONES)}.")
    info = BACKBONES[name]
    data["backbone"] = {**data.get("backbone", {}), "name": name, "start": info.start, "image_size": info.image_size}
