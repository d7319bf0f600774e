"""What a run's network said of single pictures, as pages ask for it: over time, and by class of all test pictures.

It is taken out of a run's fold. Pictures are told by their places alone: those of a job's validation pictures, for what
was said over time, and those of its test pictures, for what they were taken for. The pictures themselves, and the true
classes of test pictures, are those of `labcore.tasks.pictures`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from labcore.runs.events import Answered
from labcore.runs.packed_answers import Guess, unpack, unpack_classes
from labcore.runs.results import Fold

# What the network said of one picture, the most probable class first: every class of a job of up to ten, else three.
# Empty where it was not asked about the picture yet.
Said = tuple[Guess, ...]
When = Literal["learnt", "now"]
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class JobAnswers:
    """What the network said of the chosen pictures of one job, at every live look since it began to learn the job.

    `pictures` are their places among the job's validation pictures, and `labels` the classes that they show, as places
    in `classes`. `looks` tell what was said, the oldest first; where answers stood, there is no look.
    """

    classes: tuple[str, ...]
    pictures: tuple[int, ...]
    labels: tuple[int, ...]
    looks: tuple[Answered, ...]
    at_end: Answered | None

    @property
    def untrained(self) -> tuple[Said, ...] | None:
        """What was said of each picture before the first step of the job's stage; None where nothing was said yet."""
        return self.at(0) if self.looks else None

    @property
    def learnt(self) -> tuple[Said, ...] | None:
        """What was said of each picture when the job was learnt; None before it is."""
        return None if self.at_end is None else tuple(unpack(self.at_end, len(self.classes)))

    @property
    def now(self) -> tuple[Said, ...] | None:
        """What was last said of each picture; None where nothing was said yet."""
        return self.at(len(self.looks) - 1) if self.looks else None

    def at(self, look: int) -> tuple[Said, ...]:
        """What the network had said of each picture by a look, counted from 0.

        A look may be at the first pictures alone; of the others it is what was said at the last look before.
        """
        said: list[Said] = []
        for told in reversed(self.looks[: look + 1]):
            found = unpack(told, len(self.classes))
            said += found[len(said) :]
            if len(said) >= len(self.pictures):
                break
        return tuple(said + [()] * (len(self.pictures) - len(said)))

    def over_time(self, number: int) -> list[tuple[int, Said]]:
        """What was said of a picture (its number within `pictures`), after how many images of the run."""
        found = ((told.images_seen, unpack(told, len(self.classes))) for told in self.looks)
        return [(images, said[number]) for images, said in found if number < len(said)]


def of_job(fold: Fold, job: int) -> JobAnswers | None:
    """What was said of the chosen pictures of a job, counted from 1.

    None where the job is not begun, or was learnt by a version that did not tell (`Fold.answers_missing`).
    """
    stage = fold.stages[job - 1] if job <= len(fold.stages) else None
    if stage is None or stage.pictures is None:
        return None
    chosen = stage.pictures
    classes = fold.tasks[job - 1].classes
    return JobAnswers(classes, chosen.pictures, chosen.labels, tuple(stage.answers), stage.learnt)


# ---- all test pictures -----------------------------------------------------------------------------------------------


class Confusion(NamedTuple):
    """How often test pictures of each class (row) are taken for each class (column), and which.

    `pictures` holds the first three of each cell, by their places among the test pictures.
    """

    counts: tuple[tuple[int, ...], ...]
    pictures: tuple[tuple[tuple[int, ...], ...], ...]


def predicted(fold: Fold, job: int, stage: int) -> tuple[int, ...] | None:
    """The class that each test picture of a job was taken for at the end of a stage, both counted from 1.

    None where that was not measured, or not told.
    """
    if not 1 <= stage <= len(fold.stages) or job not in fold.stages[stage - 1].predicted:
        return None
    return unpack_classes(fold.stages[stage - 1].predicted[job].classes, len(fold.tasks[job - 1].classes))


def confusion(fold: Fold, job: int, when: When, labels: Sequence[int]) -> Confusion | None:
    """What the test pictures of a job are taken for: when it was learnt, or now, at the end of the last stage.

    Args:
        fold: The run.
        job: The job, counted from 1.
        when: At the end of which stage.
        labels: The true class of each test picture, in their order.

    Returns:
        The matrix; None where it was not told, or where these are not the classes by which the run was measured, as of
        a job whose pictures are other ones by now.
    """
    told = enumerate(fold.stages, 1)
    ended = [number for number, stage in told if number >= job and stage.test is not None and job in stage.predicted]
    if not ended:
        return None
    stage = job if when == "learnt" else ended[-1]
    found, test = predicted(fold, job, stage), fold.stages[stage - 1].test
    if not labels or found is None or test is None or len(found) != len(labels) or job > len(test.accuracy):
        return None
    right = sum(one == other for one, other in zip(found, labels, strict=True))
    if abs(right / len(labels) - test.accuracy[job - 1]) > 1e-9:
        return None
    return _confusion(found, labels, len(fold.tasks[job - 1].classes))


def _confusion(found: Sequence[int], labels: Sequence[int], classes: int) -> Confusion | None:
    counts = [[0] * classes for _ in range(classes)]
    pictures: list[list[list[int]]] = [[[] for _ in range(classes)] for _ in range(classes)]
    for place, (label, answer) in enumerate(zip(labels, found, strict=True)):
        if not 0 <= label < classes:
            return None
        counts[label][answer] += 1
        if counts[label][answer] <= _EXAMPLES:
            pictures[label][answer].append(place)
    return Confusion(tuple(map(tuple, counts)), tuple(tuple(map(tuple, row)) for row in pictures))
