"""From the options of a command to configurations: preset or file, then options, then settings by their paths.

Everything is put together as plain data and validated once, at the end, so that the order of the options does not
matter and two settings that only together make sense may be given in any order.
"""

import argparse
import itertools
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labcore.configs.base import ConfigError
from labcore.configs.catalogue import BACKBONES
from labcore.configs.presets import DEFAULT_METHOD, PRESETS, preset_data, with_backbone, with_tasks
from labcore.configs.reading import apply_setting, parse, with_settings
from labcore.configs.registry import METHODS
from labcore.configs.run import RunConfig

MOST_COMBINATIONS = 1000


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say what to train."""
    parser.add_argument("config", nargs="?", metavar="CONFIG.json", help="a configuration")
    parser.add_argument("--preset", help=f"start from a preset: {', '.join(PRESETS)} (default story)")
    parser.add_argument("--method", help=", ".join(METHODS))
    parser.add_argument("--backbone", help=", ".join(BACKBONES))
    parser.add_argument("--tasks", metavar="A,B,C", help="the task sequence")
    parser.add_argument("--seed", help="seed of everything random")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=v", dest="settings", help="change a setting")


def read_config(options: argparse.Namespace) -> RunConfig:
    """The configuration of preset or file, --method, --backbone, --tasks, --seed, --set. Raises ConfigError."""
    config = parse(_read_data(options))
    _print_notes([config])
    return config


def read_sweep(options: argparse.Namespace) -> list[tuple[dict[str, Any], RunConfig]]:
    """Every combination of --vary.

    Returns:
        For each combination the settings that vary, by path, and the whole configuration.

    Raises:
        ConfigError: One of them is not allowed, so none is trained.
    """
    varied: dict[str, list[Any]] = {}
    for setting in options.vary:
        path, text = _setting("--vary", setting)
        if path in varied:
            raise ConfigError(f"--vary {path} is given twice; give all its values in one, as in {path}=1,2.")
        varied[path] = _values(text)
    if not varied:
        raise ConfigError("Say what to vary, as in --vary method.strength=10,100,1000.")
    count = math.prod(map(len, varied.values()))
    if count > MOST_COMBINATIONS:
        raise ConfigError(f"These are {count:,} combinations; at most {MOST_COMBINATIONS:,} are allowed.")
    data = _read_data(options)
    found = []
    for values in itertools.product(*varied.values()):
        chosen = dict(zip(varied, values, strict=True))
        found.append((chosen, parse(with_settings(data, chosen))))
    _print_notes([config for _, config in found])
    return found


def task_names(text: str) -> tuple[str, ...]:
    """The names of a task sequence; of an empty text none, which is a value like any other and refused later."""
    return tuple(text.split(",")) if text else ()


def _read_data(options: argparse.Namespace) -> dict[str, Any]:
    """The configuration as plain data, not validated yet."""
    if options.config is not None and options.preset is not None:
        raise ConfigError("Give a configuration file or --preset, not both.")
    if options.method is not None and options.method not in METHODS:
        raise ConfigError(f"method is {options.method!r}; allowed: {', '.join(METHODS)}.")
    if options.config is not None:
        data = _read_file(Path(options.config))
        if options.method is not None:
            data["method"] = {"name": options.method}
    else:
        preset = "story" if options.preset is None else options.preset
        data = preset_data(preset, DEFAULT_METHOD if options.method is None else options.method)
    if options.backbone is not None:
        with_backbone(data, options.backbone)
    if options.tasks is not None:
        with_tasks(data, task_names(options.tasks))
    if options.seed is not None:
        data["seed"] = _json_or_text(options.seed)
    for setting in options.settings:
        path, value = _setting("--set", setting)
        apply_setting(data, path, _json_or_text(value))
    return data


def _setting(option: str, text: str) -> tuple[str, str]:
    """The path and the value of `a.b=value`."""
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise ConfigError(f"{option} {text!r} is not of the form a.b=value.")
    if path.split(".")[0] not in RunConfig.model_fields:
        raise ConfigError(f"{option} {path}: known: {', '.join(RunConfig.model_fields)}.")
    return path, value


def _values(text: str) -> list[Any]:
    """Values between commas, each read as JSON, else as text. A list is one value, and so are quoted commas."""
    try:
        return list(json.loads(f"[{text}]")) or [""]
    except (ValueError, RecursionError):
        return [_json_or_text(value) for value in text.split(",")]


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _read_file(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"The configuration {str(path)!r} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"The configuration {str(path)!r} is not valid JSON: {error}.") from None
    if not isinstance(data, dict):
        raise ConfigError(f"The configuration {str(path)!r} must be a JSON object.")
    return data


def _print_notes(configs: Sequence[RunConfig]) -> None:
    """Tell on stderr, once each, what these configurations are warned of."""
    for warning in dict.fromkeys(warning for config in configs for warning in config.warnings()):
        print(f"Note: {warning}", file=sys.stderr)
