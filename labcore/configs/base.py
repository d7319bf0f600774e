"""What every part of a configuration is built of: frozen models, strict numbers, and the error for bad input."""

import functools
import struct
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class ConfigError(ValueError):
    """Bad input, told in one plain sentence that names the field, the value and what is allowed."""


# Numbers are strict, so that "3" is text and true is no number; NaN and infinity are refused everywhere.
Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Switch = Annotated[bool, Field(strict=True)]


# What pages and charts would take for more than a letter: Markdown a link or a picture, Plotly markup or a placeholder.
_PLAIN = str.maketrans({"<": "‹", ">": "›", "[": "(", "]": ")", "{": "(", "}": ")", "\\": "/", "`": "'", "$": "S"})
_LONGEST_NAME = 200


def plain(name: str) -> str:
    """A name as it may stand in any sentence, label or chart: of letters that mean but themselves, and short."""
    return _plain(name[:_LONGEST_NAME])


@functools.lru_cache(maxsize=1024)
def _plain(name: str) -> str:
    """A run says the same few names in each of its events."""
    printable = "".join(letter if letter.isprintable() else " " for letter in name)
    return printable.translate(_PLAIN).replace("://", ":/")


# A name that may be a stranger's: of a task, a class, a device.
Name = Annotated[str, AfterValidator(plain)]


def single(value: float) -> float:
    """The number as torch has it, in 32 bits: what differs by less is the same there, and the smallest are 0."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def unit(name: str) -> dict[str, Any]:
    """What a field carries so that forms and sentences can say what its number counts."""
    return {"unit": name}


class Frozen(BaseModel):
    """Immutable, hashable, and closed: a field that is not declared is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
