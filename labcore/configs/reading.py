"""Reading, changing and explaining configurations: plain data in, a configuration or one plain sentence out."""

import copy
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from labcore.configs.base import ConfigError
from labcore.configs.fields import field
from labcore.configs.registry import METHODS
from labcore.configs.run import BackboneConfig, RunConfig, RunOfUninstalled, TaskConfig, TrainingConfig


def parse(data: Mapping[str, Any], kind: type[RunConfig] = RunConfig) -> RunConfig:
    """Validate plain data, as read from JSON. Raises ConfigError with one sentence."""
    try:
        return kind.model_validate(dict(data))
    except ValidationError as error:
        raise ConfigError(explain(error)) from None


def parse_json(text: str | bytes, *, stored: bool = False) -> RunConfig:
    """Validate a JSON document. Raises ConfigError where it is not JSON, not an object, or not a configuration.

    Where `stored` is true, it belongs to a run that exists, of which not all need be installed here (any more).
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:  # also UnicodeDecodeError
        raise ConfigError(f"The configuration is not valid JSON ({str(error).splitlines()[0]}).") from None
    if not isinstance(data, dict):
        raise ConfigError("The configuration must be a JSON object with backbone, tasks, training, method and seed.")
    return parse_stored(data) if stored else parse(data)


def parse_stored(data: Mapping[str, Any]) -> RunConfig:
    """Validate the plain data of a run that exists.

    Its method, its backbone and its tasks need not be installed here (any more). Raises ConfigError with one sentence.
    """
    try:
        return RunConfig.model_validate(dict(data))
    except ValidationError:
        return parse(data, RunOfUninstalled)


def require_installed(config: RunConfig) -> None:
    """Refuse a run that can be read but not trained. Raises ConfigError, which names what lacks, or what is wrong."""
    if isinstance(config, RunOfUninstalled) and not config.lacking:
        parse(config.model_dump(mode="json"))
    elif isinstance(config, RunOfUninstalled):
        *others, last = config.lacking
        names = f"{', '.join(others)} and {last} are" if others else f"{last} is"
        raise ConfigError(
            f"{names[0].upper()}{names[1:]} not installed here, so this run can be looked at and exported but not "
            f"trained; install what brings {'them' if others else 'it'}."
        )


def with_settings(data: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of plain data with some dotted settings changed. Raises ConfigError for an unknown path."""
    changed = copy.deepcopy(dict(data))
    for path, value in settings.items():
        apply_setting(changed, path, value)
    return changed


def apply_setting(data: dict[str, Any], path: str, value: Any) -> None:
    """Set `a.b.0.c` in plain data, in place; list positions count from 0. Raises ConfigError for an unknown path."""
    node: Any = data
    *parents, last = path.split(".")
    for part in parents:
        node = _child(node, part, path)
    if isinstance(node, list):
        node[_position(node, last, path)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise ConfigError(f"{path}: there is nothing below {'.'.join(parents)} to set.")


def _child(node: Any, part: str, path: str) -> Any:
    if isinstance(node, list):
        return node[_position(node, part, path)]
    if isinstance(node, dict) and part in node:
        return node[part]
    known = ", ".join(node) if isinstance(node, dict) else "nothing"
    raise ConfigError(f"{path}: there is no {part!r} here; known: {known}.")


def _position(node: list[Any], part: str, path: str) -> int:
    if part.isascii() and part.isdigit() and int(part) < len(node):
        return int(part)
    raise ConfigError(f"{path}: {part!r} is not a position from 0 to {len(node) - 1}.")


def explain(error: ValidationError, whole: type[BaseModel] | None = None) -> str:
    """One plain sentence for the first thing that is wrong, which also says how many more there are.

    `whole` is the model of the data; None stands for a run.
    """
    first, *rest = error.errors(include_url=False)
    location = [str(part) for part in first["loc"]]
    if location[:1] == ["method"] and len(location) > 1 and location[1] in METHODS:
        model: type[BaseModel] | None = METHODS[location[1]]
        del location[1]  # pydantic names the member of the union that it tried
    else:
        model = _model_at(location, whole or RunConfig)
    if location[:1] == ["tasks"] and len(location) > 1 and location[1].isdigit():
        location[1] = str(int(location[1]) + 1)  # people count from 1
    field = ".".join(location)
    context = first.get("ctx", {})
    value = _short(first["input"])
    match first["type"]:
        case "value_error":
            sentence = str(context["error"]).removesuffix(".")
        case "missing":
            sentence = f"{field} is missing"
        case "extra_forbidden":
            sentence = f"{field} is not a known field{_siblings(model)}"
        case "literal_error":
            sentence = f"{field} is {value}; allowed: {context['expected'].replace(chr(39), '')}"
        case "union_tag_invalid":
            sentence = f"method.name is {_short(context['tag'])}; allowed: {', '.join(METHODS)}"
        case "union_tag_not_found":
            sentence = f"method needs a name; allowed: {', '.join(METHODS)}"
        case "too_long":
            sentence = f"{field} has {context['actual_length']} entries; at most {context['max_length']} are allowed"
        case "too_short":
            sentence = f"{field} is empty; at least {context['min_length']} is needed"
        case "finite_number":
            sentence = f"{field} is {value}; it must be a finite number"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            sentence = f"{field} is {value}; it must be {_bounds(model, location[-1])}"
        case _:
            sentence = f"{field or 'The configuration'} is {value}; {_plain(first['msg'])}"
    more = f" (and {len(rest)} more)" if rest else ""
    return " ".join(f"{sentence}{more}.".split())


def _plain(message: str) -> str:
    return message[0].lower() + message[1:].replace("Input should be", "it must be").replace(
        "input should be", "it must be"
    )


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def _model_at(location: list[str], whole: type[BaseModel]) -> type[BaseModel] | None:
    match location:
        case [_]:
            return whole
        case ["backbone", _]:
            return BackboneConfig
        case ["training", _]:
            return TrainingConfig
        case ["tasks", _, _]:
            return TaskConfig
    return None


def _siblings(model: type[BaseModel] | None) -> str:
    return f"; known: {', '.join(model.model_fields)}" if model else ""


def _bounds(model: type[BaseModel] | None, name: str) -> str:
    known = model is not None and name in model.model_fields
    return field("", model, name).bounds if model is not None and known else "within its bounds"
