"""The tasks that there are: their names, classes, splits and fingerprints, without reading a picture.

Those of the lab come first, then the full sets, then those that other packages announce as `reuse_lab.tasks`: each a
`labcore.tasks.source.Source`. Validation is a fixed 15 % of the training images of each class (rounded). No torch here:
pages read this module.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from labcore import plugins
from labcore.tasks import digits, drawn, fashion, full_sets
from labcore.tasks.downloads import File
from labcore.tasks.source import Source, TaskError

VALIDATION_SHARE = 0.15
_SUBSET = re.compile(r"(?P<name>[a-z0-9_]+)(:(?P<classes>[0-9]{1,4}(-[0-9]{1,4})?(\+[0-9]{1,4}(-[0-9]{1,4})?)*))?")
_NAME = re.compile(r"[a-z0-9_]+")


def _accepted(name: str, announced: object) -> Source:
    """Take what another package announces as a task. Raises TypeError or ValueError where it is none."""
    if not isinstance(announced, Source):
        raise TypeError(f"it is no labcore.tasks.source.Source but of type {type(announced).__name__}")
    if announced.name != name:
        raise ValueError(f"the source calls itself {announced.name!r}")
    if not _NAME.fullmatch(name):
        raise ValueError("a task's name consists of small letters, digits and underscores")
    if not 2 <= len(announced.classes) <= 9999:
        raise ValueError(f"it has {len(announced.classes)} classes; a task needs at least two")
    if not re.fullmatch("[0-9a-f]{16,}", announced.fingerprint()):
        raise ValueError("its fingerprint is not at least 16 hex digits")
    return announced


_EMBEDDED = (digits.SOURCE, fashion.SOURCE, *drawn.SOURCES)
_SOURCES: dict[str, Source] = {source.name: source for source in (*_EMBEDDED, *full_sets.SOURCES)}
_SOURCES |= plugins.load("reuse_lab.tasks", _accepted, taken=tuple(_SOURCES))
# The names of the tasks that come with the lab, and those of all tasks, which may need a download or another package.
EMBEDDED: tuple[str, ...] = tuple(source.name for source in _EMBEDDED)
ALL: tuple[str, ...] = tuple(_SOURCES)


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task as pages show it: `classes` are those that it takes, in order; `description` is a sentence for anybody.

    `download` is how many MB are downloaded on first use; 0 for what comes with the lab.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    description: str
    download: int = 0


def describe(name: str) -> TaskInfo:
    """Describe a task by its name, or some of its classes as in `fashion:0-4`, without reading pictures.

    Raises TaskError where there is no such task.
    """
    source, chosen = parse(name)
    classes = tuple(source.classes[number] for number in chosen)
    title = source.title if len(chosen) == len(source.classes) else f"{source.title}: {_called(source, chosen)}"
    return TaskInfo(name, title, classes, source.description, _download(source))


MOST_NAMED = 3  # rows of classes in the title of a task that takes some of them


def _called(source: Source, chosen: Sequence[int]) -> str:
    """`T-shirt to coat`, `T-shirt, bag`, or `T-shirt to dress, bag and 2 more`."""
    rows = _rows(chosen)
    named = [
        " to ".join(source.classes[number] for number in (row[0], row[-1]))
        if len(row) > 2
        else ", ".join(source.classes[number] for number in row)
        for row in rows[:MOST_NAMED]
    ]
    more = sum(map(len, rows[MOST_NAMED:]))
    return ", ".join(named) + (f" and {more} more" if more else "")


def is_row(chosen: Sequence[int]) -> bool:
    """Whether these classes, in rising order, follow one upon the other."""
    return chosen[-1] - chosen[0] + 1 == len(chosen)


def _download(source: Source) -> int:
    return 0 if all(file.is_installed for file in source.files) else source.download


def parse(name: str) -> tuple[Source, tuple[int, ...]]:
    """Where a task's pictures come from, and the numbers of the classes that it takes, rising. Raises TaskError."""
    match = _SUBSET.fullmatch(name)
    source = _SOURCES.get(match["name"]) if match else None
    if match is None or source is None:
        raise TaskError(f"{name[:60]!r} is not a task; allowed: {', '.join(ALL)}, or some classes as in fashion:0-4")
    highest = len(source.classes) - 1
    if match["classes"] is None:
        return source, tuple(range(highest + 1))
    chosen: list[int] = []
    for part in match["classes"].split("+"):
        first, _, last = part.partition("-")
        found = range(int(first), int(last or first) + 1)
        if not found or found[-1] > highest:
            asked = f"classes {first} to {last}" if last else f"class {first}"
            raise TaskError(f"{name[:60]!r} asks for {asked}; {source.name} has classes 0 to {highest}")
        if chosen and found[0] <= chosen[-1]:
            raise TaskError(f"{name[:60]!r} names a class twice or not in rising order; write it as in fashion:0-2+5")
        chosen.extend(found)
    if len(chosen) == 1:
        raise TaskError(f"{name!r} has one class only; a task needs at least two")
    return source, tuple(chosen)


def named(source: str, chosen: Sequence[int]) -> str:
    """The name of the task that takes these classes of a source, rising: `fashion:0-2+5`; of all, the source's own."""
    if len(chosen) == len(_SOURCES[source].classes):
        return source
    return f"{source}:{_ranges(chosen)}"


def _ranges(chosen: Sequence[int]) -> str:
    """`0-2+5`."""
    return "+".join(str(row[0]) if len(row) == 1 else f"{row[0]}-{row[-1]}" for row in _rows(chosen))


def _rows(chosen: Sequence[int]) -> list[list[int]]:
    """These numbers, rising, in rows that follow one upon the other."""
    rows: list[list[int]] = []
    for number in chosen:
        if rows and rows[-1][-1] == number - 1:
            rows[-1].append(number)
        else:
            rows.append([number])
    return rows


def is_installed(name: str) -> bool:
    """Whether the pictures of a task are known here, whole or some of its classes.

    Raises TaskError where the name cannot be that of a task anywhere.
    """
    match = _SUBSET.fullmatch(name)
    if match is None:
        raise TaskError(f"{name[:60]!r} is not a task's name")
    return match["name"] in _SOURCES


@lru_cache(maxsize=256)
def fingerprint(name: str) -> str:
    """SHA-256 (64 hex digits) that changes when the task's pictures would. Raises TaskError."""
    source, chosen = parse(name)
    return hashlib.sha256(f"{source.name}/{source.fingerprint()}/{_ranges(chosen)}".encode()).hexdigest()


def files(name: str) -> tuple[File, ...]:
    """The files that must be there before the task can be loaded; none if it comes with the lab. Raises TaskError."""
    return parse(name)[0].files


def counts(name: str, images_per_class: int | None = None) -> tuple[int, int, int]:
    """How many training, validation and test images `pictures.load` would give, without reading any.

    Raises TaskError where there is no such task.
    """
    source, chosen = parse(name)
    classes, (whole, test) = len(chosen), source.images
    held_out = round(whole * VALIDATION_SHARE)
    return classes * min(whole - held_out, images_per_class or whole), classes * held_out, classes * test
