"""A network's answers to single pictures as text, short enough for an event, and back.

What the text holds is bytes in base64, picture by picture:

    Answered.probabilities   round(255 · p): of every class in order where the job has at most ALL_CLASSES, else of the
                             BEST classes, falling
    Answered.classes         the numbers of those BEST classes; empty where every class is there
    Predicted.classes        the number of the class that a picture was taken for

A class's number is a byte, or two (the lower first) where the job has more than 256 classes. Rounding makes no two
classes equal where it matters: the byte of the network's answer is larger than any other of its picture.

Whatever is taken out here was held against the job before (`fits`), as it may be a stranger's.
"""

import base64
import heapq
import struct
from collections.abc import Sequence
from typing import NamedTuple

from labcore.runs.events import LONGEST_PACKED, Answered, PicturesChosen, Predicted, TaskFacts

ALL_CLASSES, BEST = 10, 3
_ONE_BYTE = 256  # classes


class Guess(NamedTuple):
    """A class by its place in the job, and how probable the network holds it to be, a fraction of 1."""

    label: int
    probability: float


# ---- into events -----------------------------------------------------------------------------------------------------


def pack(probabilities: Sequence[Sequence[float]], answers: Sequence[int]) -> tuple[str, str]:
    """The texts `probabilities` and `classes` of an `Answered`.

    Args:
        probabilities: A row a picture, a column a class, fractions of 1.
        answers: The class that each picture is taken for.
    """
    rows = [_rounded(row, answer) for row, answer in zip(probabilities, answers, strict=True)]
    classes = len(probabilities[0])
    if classes <= ALL_CLASSES:
        return _text(b"".join(map(bytes, rows))), ""
    best = [
        (share, label)
        for row, exact in zip(rows, probabilities, strict=True)
        for share, _, label in heapq.nlargest(BEST, zip(row, exact, range(classes), strict=True))
    ]
    return _text(bytes(share for share, _ in best)), pack_classes([label for _, label in best], classes)


def _rounded(row: Sequence[float], answer: int) -> list[int]:
    """A picture's probabilities as bytes, of which that of its answer is the largest and no other is as large."""
    found = [int(255 * probability + 0.5) for probability in row]
    share, found[answer] = found[answer], -1
    found[answer] = max(share, max(found) + 1)
    return found


def pack_classes(numbers: Sequence[int], classes: int) -> str:
    """Numbers of classes, of a job that has so many."""
    return _text(bytes(numbers) if classes <= _ONE_BYTE else struct.pack(f"<{len(numbers)}H", *numbers))


def can_hold(pictures: int, classes: int) -> bool:
    """Whether the classes that so many pictures are taken for are short enough for an event."""
    return 4 * -(-pictures * _width(classes) // 3) <= LONGEST_PACKED


# ---- out of events ---------------------------------------------------------------------------------------------------


def unpack(event: Answered, classes: int) -> list[tuple[Guess, ...]]:
    """What the network said of each picture that was asked about, the most probable class first.

    Every class is there where the job has at most ALL_CLASSES, and else the BEST.
    """
    shares = [share / 255 for share in _bytes(event.probabilities)]
    width = _columns(classes)
    labels = unpack_classes(event.classes, classes) if event.classes else tuple(range(width)) * (len(shares) // width)
    guesses = list(map(Guess, labels, shares))
    return [
        tuple(sorted(guesses[start : start + width], key=lambda guess: -guess.probability))
        for start in range(0, len(guesses), width)
    ]


def unpack_classes(text: str, classes: int) -> tuple[int, ...]:
    """Numbers of classes, of a job that has so many."""
    data = _bytes(text)
    return tuple(data) if classes <= _ONE_BYTE else struct.unpack(f"<{len(data) // 2}H", data)


# ---- what fits -------------------------------------------------------------------------------------------------------


def chosen_fit(event: PicturesChosen, job: TaskFacts) -> bool:
    """Whether the job has these pictures, each named once and in order, and these classes."""
    return (
        len(event.pictures) == len(event.labels)
        and all(one < next_one for one, next_one in zip(event.pictures, event.pictures[1:], strict=False))
        and event.pictures[-1] < job.validation_images
        and max(event.labels) < len(job.classes)
    )


def answered_fit(event: Answered, job: TaskFacts, pictures: int) -> bool:
    """Whether these are answers to one or more of so many pictures of a job, by classes that it has."""
    classes = len(job.classes)
    width = _columns(classes)
    try:
        shares = len(_bytes(event.probabilities))
        named = 0 if not event.classes else _named(event.classes, classes)
    except ValueError:
        return False
    return 0 < shares <= pictures * width and shares % width == 0 and named == (shares if classes > ALL_CLASSES else 0)


def predicted_fit(event: Predicted, job: TaskFacts) -> bool:
    """Whether this is a class that the job has for each of its test pictures."""
    try:
        return _named(event.classes, len(job.classes)) == job.test_images
    except ValueError:
        return False


def _named(text: str, classes: int) -> int:
    """How many classes a text names. Raises ValueError where the job lacks one of them, or it is not base64."""
    if len(data := _bytes(text)) % _width(classes):
        raise ValueError("half a number")
    numbers = unpack_classes(text, classes)
    if max(numbers, default=0) >= classes:
        raise ValueError("a class that is not there")
    return len(data) // _width(classes)


def _columns(classes: int) -> int:
    """How many classes are told of each picture."""
    return classes if classes <= ALL_CLASSES else BEST


def _width(classes: int) -> int:
    """How many bytes a class's number takes."""
    return 1 if classes <= _ONE_BYTE else 2


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    """Raises ValueError where a text is not base64."""
    return base64.b64decode(text, validate=True)
