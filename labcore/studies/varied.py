"""What varies in an exploration: a setting of a configuration, and the values that it takes. No torch here.

Which settings there are, and what each may be, is read from the fields of the configuration; nothing is named here.
"""

import math
from functools import cache
from typing import Any

from pydantic import Field

from labcore.configs.base import ConfigError, Frozen, Number, Whole
from labcore.configs.catalogue import BACKBONES
from labcore.configs.fields import FieldSpec, fields
from labcore.configs.registry import METHODS
from labcore.configs.run import BackboneConfig, RunConfig, TrainingConfig
from labcore.configs.units import setting_name

MOST_STEPS = 50


@cache
def settings_of(method: str) -> dict[str, FieldSpec]:
    """The settings that can vary for a method, by dotted path, its own first; a text or a network's name is none."""
    specs = (
        *fields("method", METHODS[method]),
        *fields("training", TrainingConfig),
        *fields("backbone", BackboneConfig),
    )
    return {spec.path: spec for spec in specs if spec.kind != "text" and spec.path != "backbone.name"}


def spec_of(path: str, method: str) -> FieldSpec:
    """The setting of this dotted path for a method. Raises ConfigError where the method lacks it."""
    known = settings_of(method)
    if path not in known:
        raise ConfigError(f"{path} is not a setting of {method} that can vary; known: {', '.join(known)}.")
    return known[path]


class Varied(Frozen):
    """A setting and what it takes: a number from `low` to `high`, in so many `steps` on a grid, or some `values`."""

    path: str = Field(description="The setting, as in method.strength.")
    low: Number | None = Field(None, description="The smallest value, for a number.")
    high: Number | None = Field(None, description="The largest value, for a number.")
    steps: Whole = Field(5, ge=1, le=MOST_STEPS, description="How many values a grid takes.")
    log: bool = Field(False, description="By equal factors rather than equal distances.")
    values: tuple[bool | str, ...] = Field((), description="What is tried, for a setting that is no number.")

    @property
    def name(self) -> str:
        """Its name in words."""
        return setting_name(self.path)

    @property
    def numeric(self) -> bool:
        """Whether it is a number with a range."""
        return self.low is not None

    def check(self, spec: FieldSpec) -> None:
        """Raises ConfigError, in one sentence, for what the setting cannot take."""
        if spec.kind not in ("number", "whole"):
            allowed: tuple[bool | str, ...] = (False, True) if spec.kind == "switch" else spec.choices
            wrong = [value for value in self.values if value not in allowed]
            if wrong or not self.values or self.low is not None or self.high is not None:
                given = wrong[0] if wrong else "empty"
                raise ConfigError(
                    f"{self.path}: what is tried is {given}; choose among {', '.join(map(str, allowed))}."
                )
            return
        if self.values or self.low is None or self.high is None:
            raise ConfigError(f"{self.path} is a number; give the smallest and the largest value to try.")
        if self.low > self.high or (self.low == self.high and self.steps > 1):
            raise ConfigError(
                f"{self.path}: from {self.low:g} to {self.high:g} is an empty range; the largest must be above."
            )
        if self.log and self.low <= 0:
            raise ConfigError(
                f"{self.path}: a range by equal factors cannot pass zero, and it begins at {self.low:g}; "
                "begin above zero, or take equal distances."
            )
        for end in (self.low, self.high):
            if not spec.allows(end):
                raise ConfigError(f"{self.path}: {end:g} cannot be; allowed: {spec.bounds}.")
            if spec.kind == "whole" and end != round(end):
                raise ConfigError(f"{self.path}: {end:g} cannot be; it counts {spec.unit or 'in whole numbers'}.")

    def grid(self, spec: FieldSpec) -> tuple[Any, ...]:
        """The values on a grid, in order; a whole number's are rounded, and each is there once."""
        if self.low is None or self.high is None:
            return tuple(dict.fromkeys(self.values))
        shares = [index / max(1, self.steps - 1) for index in range(self.steps)]
        low, high = self.low, self.high
        values = [low * (high / low) ** share if self.log else low + (high - low) * share for share in shares]
        return tuple(dict.fromkeys(self.rounded(value, spec) for value in values))

    def rounded(self, value: float, spec: FieldSpec) -> float | int:
        """A number of three figures, as a person would choose it, within the range; of six where that is narrow."""
        assert self.low is not None and self.high is not None
        if spec.kind == "whole":
            return round(value)
        figures = 3 if self.high - self.low > 0.1 * abs(self.high) else 6
        return min(self.high, max(self.low, float(f"{value:.{figures}g}")))


def suggested(spec: FieldSpec, base: RunConfig) -> Varied:
    """A range around what a configuration has, within what is allowed."""
    part, name = spec.path.split(".")
    now = getattr(getattr(base, part), name)
    if spec.kind == "switch":
        return Varied(path=spec.path, values=(False, True))
    if spec.kind == "choice":
        choices = [
            choice for choice in spec.choices if choice != "pretrained" or BACKBONES[base.backbone.name].pretrained
        ]
        return Varied(path=spec.path, values=tuple(choices))
    now = float(now or 0)
    if spec.log:
        factor = 100 if (spec.high or 0) >= 1000 else 10
        now = now or 1.0
        low, high = now / factor, now * factor
    elif spec.high == 1:
        low, high = now / 2, (now + 1) / 2
    elif spec.path.endswith("frozen_blocks"):
        low, high = 0, len(BACKBONES[base.backbone.name].blocks)
    else:
        low, high = (now // 2 if spec.kind == "whole" else now / 2), 2 * now or 10
    low, high = max(low, spec.low or 0), min(high, math.inf if spec.high is None else spec.high)
    steps = 5 if spec.kind == "number" else int(min(5, high - low + 1))
    return Varied(path=spec.path, low=low, high=high, steps=steps, log=spec.log)
