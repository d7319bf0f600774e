"""What a person has set for the lab as a whole, in `settings.json` of the store."""

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from labcore import energy
from labcore.configs import ConfigError, Frozen, Number, explain

# A file larger than this is not one of ours.
_LARGEST = 1 << 16


class Settings(Frozen):
    """All have defaults, so that a lab without the file works."""

    country: str | None = Field(None, description="Whose electricity carbon is counted by; null is the world average.")

    stage_cache_gb: Number = Field(
        10.0,
        ge=0,
        le=100_000,
        description="Room for trained stages; above it the least recently used go.",
        json_schema_extra={"unit": "GB"},
    )

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
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise ValueError("it is too large")
        return Settings.model_validate_json(text), None
    except FileNotFoundError:
        return Settings(), None
    except ValidationError as error:
        reason = explain(error, Settings).rstrip(".")
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:
        reason = str(error)
    return Settings(), f"{path.name} cannot be used, so the defaults hold until settings are changed here: {reason}."
