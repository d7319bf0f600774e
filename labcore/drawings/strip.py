"""The strip: a network's answers on pictures, a row a job; or several networks' answers on the pictures of one job.

No torch, no Streamlit.

What is shown is decided here; the browser draws it (pages/parts/assets/strip.js). It is given what the run told at so
many looks, as the events pack it, so that a person goes through them without asking the server.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labcore.configs.looking import SHOWN_JOBS
from labcore.drawings.figures import GREY, task_colour
from labcore.runs import answers
from labcore.runs.answers import JobAnswers, Said
from labcore.runs.events import Answered
from labcore.runs.packed_answers import ALL_CLASSES
from labcore.runs.results import Fold

# So many looks are sent of all jobs together, and of each job at least so many, whatever the length of the run.
MOST_LOOKS, FEWEST_LOOKS = 240, 8


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
        return "" if self.told else f"It is learnt {'first' if self.position == 1 else 'later'}."

    @property
    def version(self) -> list[object]:
        """What is another one when the row is to be drawn anew."""
        told = self.told
        last = told.looks[-1] if told and told.looks else None
        known = None if told is None else (told.pictures, told.at_end is not None)
        return [self.run, self.position, self.title, self.note, known, last and (last.stage, last.step)]

    def document(self, pictures: str, most: int = MOST_LOOKS) -> dict[str, Any]:
        """What the browser draws, with at most so many looks.

        `pictures` is the address of the row's pictures side by side; empty for none.
        """
        told = self.told
        classes = told.classes if told else ()
        looks, learnt = _chosen(told, most) if told else ([], None)
        return {
            "key": f"{self.run}-{self.position}",
            "title": self.title,
            "colour": self.colour,
            "line": task_colour(self.position),
            "classes": classes,
            "labels": told.labels if told else (),
            "wide": len(classes) if len(classes) <= ALL_CLASSES else 0,
            "looks": [
                {
                    "at": (look.stage, look.step),
                    "seen": look.images_seen,
                    "shares": look.probabilities,
                    "classes": look.classes,
                }
                for look in looks
            ],
            "learnt": learnt,
            "pictures": pictures,
            "note": self.note,
        }


def _chosen(told: JobAnswers, most: int) -> tuple[list[Answered], int | None]:
    """At most so many looks, the first and the last among them; and which of them the job was learnt with.

    That one is always among them: a long run has dropped it from its looks, as it drops every second of them.
    """
    looks = list(told.looks)
    while len(looks) > max(2, most):
        del looks[1:-1:2]
    end = told.at_end
    if end is None:
        return looks, None
    before = [look for look in looks if (look.stage, look.step) < (end.stage, end.step)]
    after = [look for look in looks if (look.stage, look.step) > (end.stage, end.step)]
    return [*before, end, *after], len(before)


def sentence(rows: Sequence[Row]) -> str:
    """What is to be seen in the strip, in pictures: of the job of which most was forgotten. Empty where nothing is."""
    counted = [(row, row.told, _right(row.told, row.told.learnt), _right(row.told, row.told.now))
               for row in rows if row.told and row.told.looks]  # fmt: skip
    if not counted:
        return "" if any(row.missing for row in rows) else "Its first answers come with its first look at the pictures."
    learnt = [(row, job, then, now) for row, job, then, now in counted if job.at_end is not None]
    if not learnt:
        row, job, _, now = counted[0]
        if len(job.looks) == 1:
            return f"It has learnt nothing yet: its answers on {row.title} are guesses."
        return f"Of these {len(job.labels)} pictures of {row.title} it gets {now} right so far."
    row, job, then, now = max(learnt, key=lambda found: found[2] - found[3])
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


def rows(run: str, fold: Fold, titles: Sequence[str]) -> list[Row]:
    """A row for each of the first jobs of a run, of which answers are told, in the order in which they are learnt.

    `titles` are those of all its jobs, which a run has before it begins.
    """
    jobs = enumerate(titles[:SHOWN_JOBS], 1)
    return [_row(run, fold, position, title, task_colour(position)) for position, title in jobs]


def beside(folds: Mapping[str, tuple[str, Fold]], position: int) -> list[Row]:
    """A row for each of some runs, by name: what they say of the job at this position, if they are on it.

    Methods have no colour of their own.
    """
    return [_row(run, fold, position, name, GREY) for name, (run, fold) in folds.items() if position <= len(fold.tasks)]


def _row(run: str, fold: Fold, position: int, title: str, colour: str) -> Row:
    told = answers.of_job(fold, position)
    return Row(run, position, title, colour, told, position in fold.answers_missing)
