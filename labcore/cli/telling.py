"""Commands that tell what there is to choose from: `backbones`, `tasks`, `methods`, `presets`.

What other packages bring stands among it; what of it cannot be used is told on stderr.
"""

import argparse
import sys

from labcore import plugins
from labcore.cli.command import GOOD, Command, show
from labcore.configs.catalogue import BACKBONES
from labcore.configs.presets import PRESETS, preset_data
from labcore.configs.registry import ABOUT, METHODS
from labcore.tasks import catalogue


def _warn() -> None:
    for problem in plugins.problems():
        print(f"Warning: {problem}", file=sys.stderr)


def _backbones(options: argparse.Namespace) -> int:
    _warn()
    document = [
        {
            "name": name,
            "title": info.title,
            "description": info.description,
            "start": info.start,
            "image_size": info.image_size,
            "blocks": list(info.blocks),
            "weights": info.weights,
            "download_megabytes": info.download,
        }
        for name, info in BACKBONES.items()
    ]
    show(options, document, lambda: "\n".join(f"{row['name']:20} {row['description']}" for row in document))
    return GOOD


def _tasks(options: argparse.Namespace) -> int:
    _warn()
    found = [catalogue.describe(name) for name in catalogue.ALL]
    document = [
        {
            "name": task.name,
            "title": task.title,
            "description": task.description,
            "classes": list(task.classes),
            "download_megabytes": task.download,
        }
        for task in found
    ]
    show(options, document, lambda: "\n".join(map(_task_line, found)))
    return GOOD


def _task_line(task: catalogue.TaskInfo) -> str:
    size = f"Download, {task.download} MB. " if task.download else ""
    shown = task.classes if len(task.classes) <= 10 else (*task.classes[:5], f"… {len(task.classes)} in all")
    return f"{task.name:20} {task.description} {size}{', '.join(shown)}"


def _methods(options: argparse.Namespace) -> int:
    _warn()
    document = [{"name": about.name, "title": about.title, "description": about.idea} for about in ABOUT.values()]
    show(options, document, lambda: "\n".join(f"{row['name']:20} {row['description']}" for row in document))
    return GOOD


def _presets(options: argparse.Namespace) -> int:
    document = [
        {
            "name": preset.name,
            "title": preset.title,
            "description": preset.description,
            "methods": {method: preset_data(preset.name, method) for method in METHODS},
        }
        for preset in PRESETS.values()
    ]
    show(options, document, lambda: "\n".join(f"{p.name:20} {p.description}" for p in PRESETS.values()))
    return GOOD


COMMANDS = (
    Command("backbones", "the networks there are", _backbones),
    Command("tasks", "the tasks there are", _tasks),
    Command("methods", "the methods there are", _methods),
    Command("presets", "the presets there are", _presets),
)
