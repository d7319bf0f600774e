"""What a person has set for the lab as a whole, which lies in `settings.json` of the store."""

import contextlib
import functools
import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from labcore.configs.base import ConfigError, Frozen, Number
from labcore.configs.reading import explain
from labcore.runs import energy
from labcore.runs.errors import unusable
from labcore.runs.files import seal_of, write_atomically
from labcore.runs.records import Records

# A file larger than this is not one of ours.
_LARGEST = 1 << 16
MOST_GB = 100_000
# How much of a network's inside is recorded: at the ends of stages and live between them, at their ends, or nothing.
Detail = Literal["all", "stages", "none"]
DETAILS: tuple[Detail, ...] = ("all", "stages", "none")


class Settings(Frozen):
    """What can be set. Everything has a default, so that a lab without the file works."""

    country: str | None = Field(None, description="Whose electricity carbon is counted by; null is the world average.")
    stage_cache_gb: Number = Field(
        10.0,
        ge=0,
        le=MOST_GB,
        description="Room for the weights of trained stages and for maps, in GB of 10⁹ bytes; the least used go.",
    )
    maps: Detail = Field("all", description="What workers record of a network's inside: all, stages alone, or none.")

    @field_validator("country")
    @classmethod
    def _known(cls, code: str | None) -> str | None:
        if code is not None and code not in energy.countries():
            raise ValueError(f"country is {code[:20]!r}; it must be a three-letter code such as FRA, or null")
        return code


class _File(Settings):
    """The settings as they stand in the file."""

    seal: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> "_File":
        return cls(**settings.model_dump(), seal=_seal(settings))

    def settings(self) -> Settings:
        """What the file sets. Raises ValueError where that is not what was sealed."""
        settings = Settings.model_validate(self.model_dump(exclude={"seal"}, exclude_unset=True))
        if self.seal not in (None, _seal(settings)):
            raise ValueError("it is not what the lab wrote; who changes it by hand takes away the line of its seal")
        return settings


def _seal(settings: Settings) -> str:
    """The BLAKE2b (hexadecimal) of what is set in so many words."""
    text = json.dumps(settings.model_dump(exclude_unset=True), sort_keys=True)
    return seal_of(text)


class Preferences(Records):
    """The settings of a store.

    Law: a lab whose file is damaged or of another version still works, with the defaults for what of it cannot be used,
    and says what that is. So that another value in place of the one that was set is seen, too, the file ends with a
    seal, the digest of the settings. Where only the seal does not fit, nothing tells which value is wrong, so none is
    used. A file without a seal, of before or by hand, holds as it stands.
    """

    def settings(self) -> Settings:
        """What a person has set; the default for whatever is missing or cannot be used."""
        return read_settings(self.root / "settings.json")[0]

    def settings_problem(self) -> str | None:
        """What is wrong with the file of settings, in a sentence; None where it is right, and where it is missing."""
        return read_settings(self.root / "settings.json")[1]

    def change_settings(self, **changes: Any) -> Settings:
        """Overwrite some settings, and leave the others as they are.

        Returns:
            The settings as they are now.

        Raises:
            ConfigError: A value is not allowed; nothing was changed.
            StoreError: The file cannot be written.
        """
        changed = parse_settings({**self.settings().model_dump(), **changes})
        path = self.root / "settings.json"
        try:
            if path.is_file() and self.settings_problem() is not None:  # what cannot be read may still be worth a look
                os.replace(path, path.with_name("settings.json.damaged"))
            write_atomically(path, _File.of(changed).model_dump_json(indent=2).encode())
        except OSError as error:
            raise unusable(self.root, error) from None
        return changed

    def country(self) -> energy.Country:
        """The country whose electricity carbon is counted by; the world's average where none is set."""
        return energy.country(self.settings().country)


def parse_settings(data: Any) -> Settings:
    """The settings that plain data is. Raises ConfigError, in one sentence, for a value that is not allowed."""
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        raise ConfigError(explain(error, Settings)) from None


def read_settings(path: Path) -> tuple[Settings, str | None]:
    """Read the file of settings.

    Returns:
        The settings, with the defaults for what is missing or cannot be used; and in a sentence what is wrong with the
        file, or None.
    """
    try:
        found = path.stat()
        settings, reason = _read(path, found.st_mtime_ns, found.st_ino)
    except FileNotFoundError:
        return Settings(), None
    except OSError as error:
        settings, reason = Settings(), error.strerror or str(error)
    except ValueError as error:
        settings, reason = Settings(), str(error)
    if reason is None:
        return settings, None
    carbon = "" if settings.country else " Carbon is counted by the world's average."
    reason = reason.rstrip(".")
    return settings, (
        f"{path.name} cannot be used ({reason}), so defaults stand in for it until settings are changed on "
        f"page Runs.{carbon}"
    )


@functools.lru_cache(maxsize=8)
def _read(path: Path, changed: int, inode: int) -> tuple[Settings, str | None]:
    """The settings that the file says, and what is wrong with the others.

    It is read once for each time that it changed, because pages ask every second. Raises OSError, and ValueError where
    nothing in it can be used.
    """
    with path.open("rb") as file:
        text = file.read(_LARGEST + 1)
    if len(text) > _LARGEST:
        raise ValueError("it is too large")
    try:
        found = _File.model_validate_json(text)
    except ValidationError as error:
        reason = explain(error, Settings)
    else:
        return found.settings(), None
    try:
        said = json.loads(text)
    except RecursionError:
        raise ValueError(reason) from None
    usable = {}
    for name, value in said.items() if isinstance(said, dict) else ():
        with contextlib.suppress(ValidationError):
            Settings.model_validate({name: value})
            usable[name] = value
    return Settings.model_validate(usable), reason
