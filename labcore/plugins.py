"""What other packages bring to the lab: the objects that they announce by entry points.

A package that is installed beside the lab names its tasks, backbones, methods and criteria in its own metadata, in the
groups `reuse_lab.tasks`, `reuse_lab.backbones`, `reuse_lab.methods` and `reuse_lab.criteria`. One that cannot be used
is told in a sentence, and the lab goes on without it. This module imports only the standard library, because the lowest
rooms need it.
"""

from collections.abc import Callable, Collection
from functools import lru_cache
from importlib import metadata
from typing import Any

# One sentence for each entry point that could not be used, by its group, name and package.
_problems: dict[tuple[str, str, str], str] = {}


def load(
    group: str,
    accept: Callable[[str, Any], Any] | None = None,
    taken: Collection[str] = (),
) -> dict[str, Any]:
    """The objects that other packages announce in a group, by name; `problems` tells those that cannot be used.

    `accept(name, object)` gives what the lab takes for an announced object, and raises an exception, whose text says
    what is wrong, for an object that the lab cannot use. `taken` are names that are no longer free. The objects come in
    the order of their names; of two packages that announce the same name, the first in the alphabet is used.
    """
    found: dict[str, Any] = {}
    points = [point for point in _announced() if point.group == group]
    for point in sorted(points, key=lambda point: (point.name, _package(point))):
        try:
            if point.name in taken or point.name in found:
                raise ValueError(f"the name {point.name!r} is taken already")
            announced = point.load()
            found[point.name] = accept(point.name, announced) if accept else announced
        except (Exception, SystemExit) as error:  # whatever another package does, the lab goes on
            _problems[group, point.name, _package(point)] = (
                f"{_package(point)} announces {point.name!r} in {group} ({point.value}), which is left out: "
                f"{_first_line(error)}."
            )
    return found


def leave_out(what: str, error: BaseException) -> None:
    """Tell in a sentence that something is left out, such as `The method 'x' in labcore/methods is`, and why."""
    _problems["", what, ""] = f"{what} left out: {_first_line(error)}."


def problems() -> list[str]:
    """The sentences of all that was loaded so far in this process and could not be used, group by group."""
    return [_problems[key] for key in sorted(_problems)]


@lru_cache(maxsize=1)
def _announced() -> tuple[metadata.EntryPoint, ...]:
    """The entry points of all installed packages, read once, because that takes some ten milliseconds."""
    points = (point for package in metadata.distributions() for point in package.entry_points)
    seen: dict[tuple[str, str, str], metadata.EntryPoint] = {}
    for point in points:  # a package that is on the path twice counts once, as it does when it is imported
        seen.setdefault((point.group, point.name, point.value), point)
    return tuple(seen.values())


def _package(point: metadata.EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "A package without a name"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0].strip() if lines else ""
    told = isinstance(error, ValueError | ImportError | TypeError) and text
    return (text if told else f"{type(error).__name__}{': ' if text else ''}{text}").removesuffix(".")
