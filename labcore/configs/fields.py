"""The settings of a configuration one by one, as the form, the command line and sentences about bad input need them.

What kind of value a field takes, its bounds, its unit and its help are read from its declaration
(labcore/configs/run.py).
"""

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel

FieldKind = Literal["choice", "switch", "whole", "number", "text"]
_KINDS: dict[type, FieldKind] = {bool: "switch", int: "whole", float: "number"}


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One setting: its dotted `path`, its `kind` (choice, switch, whole, number, text), its bounds, unit and help.

    A bound that is None does not limit it.
    """

    path: str
    kind: FieldKind
    default: Any
    help: str
    optional: bool = False
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False
    unit: str = ""
    log: bool = False

    def allows(self, value: float) -> bool:
        """Whether a number lies within the bounds."""
        low = self.low is None or value > self.low or (value == self.low and not self.low_open)
        high = self.high is None or value < self.high or (value == self.high and not self.high_open)
        return low and high

    @property
    def bounds(self) -> str:
        """The bounds in words, such as `from 0 and up to 1` or `above 0`."""
        low = "" if self.low is None else f"{'above' if self.low_open else 'from'} {self.low:g}"
        high = "" if self.high is None else f"{'below' if self.high_open else 'up to'} {self.high:g}"
        return " and ".join(part for part in (low, high) if part) or "a number"


def fields(prefix: str, model: type[BaseModel]) -> Iterator[FieldSpec]:
    """All settings of a part of the configuration, in order.

    A setting that has only one value, such as a method's own name, is left out.
    """
    for name in model.model_fields:
        found = field(prefix, model, name)
        if len(found.choices) != 1:
            yield found


def field(prefix: str, model: type[BaseModel], name: str) -> FieldSpec:
    """One setting of a part of the configuration. Raises KeyError where it has none of this name."""
    info = model.model_fields[name]
    annotation: Any = info.annotation
    metadata = list(info.metadata)
    optional = typing.get_origin(annotation) in (types.UnionType, typing.Union) and type(None) in typing.get_args(
        annotation
    )
    if optional:
        annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
    if typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    choices = typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()
    kind: FieldKind = "choice" if choices else _KINDS.get(annotation, "text")
    limits: dict[str, float] = {}
    for item in metadata:
        for mark in ("ge", "gt", "le", "lt"):
            if getattr(item, mark, None) is not None:
                limits[mark] = getattr(item, mark)
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    return FieldSpec(
        path=f"{prefix}.{name}" if prefix else name,
        kind=kind,
        default=info.get_default(call_default_factory=True) if not info.is_required() else None,
        help=info.description or "",
        optional=optional,
        choices=tuple(str(choice) for choice in choices),
        low=limits.get("ge", limits.get("gt")),
        high=limits.get("le", limits.get("lt")),
        low_open="gt" in limits,
        high_open="lt" in limits,
        unit=str(extra.get("unit", "")),
        log=bool(extra.get("log", False)),
    )
