"""What a person has set for the lab as a whole, in `settings.json` of the store."""

import functools
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from labcore.configs.run import ConfigError, Frozen, Number, explain
from labcore.runs import energy

# A file larger than this is not one of ours.
_LARGEST = 1 << 16
MOST_GB = 100_000
# How much of a network's inside is recorded: at stage ends and live between them, at stage ends, nothing.
Detail = Literal["all", "stages", "none"]
DETAILS: tuple[Detail, ...] = ("all", "stages", "none")


class Settings(Frozen):
    """All have defaults, so that a lab without the file works."""

    country: str | None = Field(None, description="Whose electricity carbon is counted by; null is the world average.")
    stage_cache_gb: Number = Field(
        10.0,
        ge=0,
        le=MOST_GB,
        description="Room for the weights of trained stages, in GB of 10⁹ bytes; the least recently used go.",
    )
    maps: Detail = Field("all", description="What workers record of a network's inside: all, stages alone, or none.")

    @field_validator("country")
    @classmethod
    def _known(cls, code: str | None) -> str | None:
        if code is not None and code not in energy.countries():
            raise ValueError(f"country is {code[:20]!r}; it must be a three-letter code such as FRA, or null")
        return code


def parse_settings(data: Any) -> Settings:
    """Settings of plain data. Raises ConfigError with one sentence."""
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        raise ConfigError(explain(error, Settings)) from None


def read_settings(path: Path) -> tuple[Settings, str | None]:
    """The settings of a file, and what is wrong with it; the defaults where it is not there, or not right."""
    try:
        found = path.stat()
        return _read(path, found.st_mtime_ns, found.st_ino), None
    except FileNotFoundError:
        return Settings(), None
    except ValidationError as error:
        reason = explain(error, Settings).rstrip(".")
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:
        reason = str(error)
    return Settings(), f"{path.name} cannot be used, so the defaults hold until settings are changed here: {reason}."


@functools.lru_cache(maxsize=8)
def _read(path: Path, changed: int, inode: int) -> Settings:
    """Pages ask in every tick: the file is read once for each time that it changed. Raises OSError, ValueError."""
    with path.open("rb") as file:
        text = file.read(_LARGEST + 1)
    if len(text) > _LARGEST:
        raise ValueError("it is too large")
    return Settings.model_validate_json(text)
