"""The recorded runs that ship with the lab: which there are, and what each is a run of.

This is the one list. `make gallery` trains what stands here, and a recorded run is shown while it is the run of what
stands here today.
"""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from labcore.configs.presets import preset_data
from labcore.configs.reading import parse, with_settings
from labcore.configs.run import RunConfig

# The article's, in the order of its table.
_METHODS = (
    "feature_extraction",
    "fine_tuning",
    "separate_copies",
    "joint",
    "lwf",
    "ewc",
    "packnet",
    "piggyback",
)
# From springs that hold nothing to springs that let nothing move; an eighth is the preset's own, `gallery-story-ewc`.
_STRENGTHS = ("1e2", "1e3", "1e4", "1e5", "1e6", "1e7", "1e9")


@dataclass(frozen=True)
class Recording:
    """A preset as a method learns it, with some settings of its own: by their dotted names."""

    preset: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def config(self) -> RunConfig:
        """What is trained."""
        return parse(with_settings(preset_data(self.preset, self.method), self.settings))

    @cached_property
    def key(self) -> str:
        """The key that a run of it has today: it changes with the engine, the method and the pictures."""
        return self.config.key()

    @property
    def command(self) -> str:
        """The line that repeats it."""
        own = (f" --set {shlex.quote(f'{name}={json.dumps(value)}')}" for name, value in self.settings.items())
        return f"python -m labcore run --preset {self.preset} --method {self.method}{''.join(own)}"


# By the ID of the run.
RECORDINGS: dict[str, Recording] = {
    **{f"gallery-story-{method.replace('_', '-')}": Recording("story", method) for method in _METHODS},
    **{
        f"gallery-story-ewc-strength-{strength}": Recording("story", "ewc", {"method.strength": float(strength)})
        for strength in _STRENGTHS
    },
}
