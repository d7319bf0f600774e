"""How often a run looks at its own answers, and on how many pictures.

It follows from counts that are known when a phase begins, never from a clock or an accuracy, so that the same
configuration gives the same events on every machine. Estimates go by the same numbers. No torch here.
"""

from typing import NamedTuple

# Live looks may take this share of the time that a phase trains, where an image that is trained on takes as long as so
# many that are only looked at: forward, and back to the inputs and to the weights.
SHARE, TRAINING_COST = 0.05, 3
MOST_POINTS, FEWEST_POINTS = 8, 3
# Fewer pictures than these tell little; where there are many jobs, and little to train, it is fewer all the same.
MOST_PICTURES, ENOUGH_PICTURES, FEWEST_PICTURES = 50, 24, 8
# At the end of a run this many answers are timed, one at a time, so many times.
TIMED_PICTURES, TIMED_PASSES = 30, 5


class Looks(NamedTuple):
    """How many live looks a phase has, the first of them before its first step, and at how many pictures of a job."""

    points: int
    pictures: int


def live_looks(trained_images: int, jobs: int) -> Looks:
    """The live looks of a phase in which the trunk moves.

    `trained_images` are those of all its steps, `jobs` those whose answers may change, at least one. The looks share
    SHARE of the phase's time among the jobs, as far as FEWEST_POINTS and FEWEST_PICTURES let them.
    """
    affordable = int(SHARE * TRAINING_COST * trained_images / jobs)
    points = min(MOST_POINTS, max(FEWEST_POINTS, affordable // ENOUGH_PICTURES))
    return Looks(points, min(MOST_PICTURES, max(FEWEST_PICTURES, affordable // points)))


# Where the trunk stands still, each job's pictures pass through it once, and every look then asks a head alone.
STILL_LOOKS = Looks(MOST_POINTS, MOST_PICTURES)
