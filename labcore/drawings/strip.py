"""The strip: a network's answers on pictures, a row a job; or several networks' answers on the pictures of one job.

No torch, no Streamlit.

What is shown is decided here; the browser draws it (pages/parts/assets/strip.js). It is given every answer that the run
has told, as the events pack them, so that a person goes through them without asking the server.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labcore.drawings.figures import GREY, task_colour
from labcore.runs import answers
from labcore.runs.answers import JobAnswers, Said
from labcore.runs.packed_answers import ALL_CLASSES
from labcore.runs.results import Fold


@dataclass(frozen=True, slots=True)
class Row:
    """A job of a run, by its position from 1, and what was said of its pictures.

    `title` is what tells it from the other rows: the job's, or the run's. `told` is None where the job is still to
    come, or is `missing`: learnt by a version that did not tell.
    """

    run: str
    position: int
    title: str
    colour: str
    told: JobAnswers | None
    missing: bool = False

    @property
    def note(self) -> str:
        """What stands in place of pictures."""
        if self.missing:
            return "It was learnt by a version of the lab that kept no answers. Train it again to see them here."
        return "" if self.told else "It is learnt later."

    @property
    def learnt(self) -> int | None:
        """The look, counted from 0, with which the job had just been learnt; None before that is over."""
        return None if self.told is None or self.told.at_end is None else self.told.looks.index(self.told.at_end)

    @property
    def forgotten(self) -> list[int]:
        """The pictures, from 0, whose answer was right when the job had been learnt and is wrong now."""
        if self.told is None or self.told.learnt is None or self.told.now is None:
            return []
        found = zip(self.told.labels, self.told.learnt, self.told.now, strict=False)
        return [place for place, (label, then, now) in enumerate(found) if then[0].label == label != now[0].label]

    def document(self, pictures: str) -> dict[str, Any]:
        """What the browser draws. `pictures` is the address of the row's pictures side by side; empty for none."""
        told = self.told
        classes = told.classes if told else ()
        return {
            "key": f"{self.run}-{self.position}",
            "title": self.title,
            "colour": self.colour,
            "classes": classes,
            "labels": told.labels if told else (),
            "wide": len(classes) if len(classes) <= ALL_CLASSES else 0,
            "looks": [
                {"step": look.step, "seen": look.images_seen, "shares": look.probabilities, "classes": look.classes}
                for look in (told.looks if told else ())
            ],
            "learnt": self.learnt,
            "pictures": pictures,
            "note": self.note,
        }


def sentence(rows: list[Row]) -> str:
    """What is to be seen in the strip, in pictures: of the job of which most was forgotten. Empty where nothing is."""
    told = [(row, row.told) for row in rows if row.told and row.told.now]
    if not told and any(row.missing for row in rows):
        return ""
    if not told:
        return "Its first answers come with its first look at the pictures."
    learnt = [(row, job) for row, job in told if job.learnt]
    if not learnt:
        row, job = told[0]
        if len(job.looks) == 1:
            return f"It has learnt nothing yet: what it says of {row.title} is guessed."
        return f"Of these {len(job.labels)} pictures of {row.title} it gets {_right(job, job.now)} right so far."
    row, job = max(learnt, key=lambda pair: _right(pair[1], pair[1].learnt) - _right(pair[1], pair[1].now))
    now, then = _right(job, job.now), _right(job, job.learnt)
    if now >= then:
        return f"Nothing is forgotten so far: of these {len(job.labels)} pictures of {row.title} it gets {now} right."
    return (
        f"Of these {len(job.labels)} pictures of {row.title} it gets {now} right; when it had just learnt them it got "
        f"{then}."
    )


def _right(job: JobAnswers, said: tuple[Said, ...] | None) -> int:
    """Of how many of its pictures the answer was right."""
    found = zip(job.labels, said or (), strict=False)
    return sum(bool(guesses) and guesses[0].label == label for label, guesses in found)


def rows(run: str, fold: Fold) -> list[Row]:
    """A row for each job of a run, in the order in which the jobs are learnt."""
    jobs = enumerate(fold.tasks, 1)
    return [_row(run, fold, position, job.title, task_colour(position)) for position, job in jobs]


def beside(folds: Mapping[str, tuple[str, Fold]], position: int) -> list[Row]:
    """A row for each of some runs, by name: what they say of the job at this position, if they are on it.

    Methods have no colour of their own.
    """
    return [_row(run, fold, position, name, GREY) for name, (run, fold) in folds.items() if position <= len(fold.tasks)]


def _row(run: str, fold: Fold, position: int, title: str, colour: str) -> Row:
    told = answers.of_job(fold, position)
    return Row(run, position, title, colour, told, position in fold.answers_missing)
