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
# The answers to single pictures are told of so many of a job, the first that a live look looks at, and of so many jobs:
# the first ones, as nobody looks at hundreds of rows.
SHOWN_PICTURES, SHOWN_JOBS = 24, 32
# A live map estimates importance on this many pictures, and a picture of it takes longer than one that is trained on.
MOST_MAP_PICTURES, FEWEST_MAP_PICTURES, MAP_PICTURE_COST = 32, 8, 1.25
# The network's inside is drawn so many times a stage in which the trunk moves. Where it stands still, what matters in
# it moves slowly, and fewer are enough.
MAPS, MAPS_OF_A_STILL_TRUNK = 8, 2
# What blocks make of so many test pictures a job is kept at stages' ends, of so many jobs, the first ones: of each
# block so many maps, in at most so many places a side.
SEEN_PICTURES, SEEN_JOBS, SEEN_MAPS, SEEN_SIDE = 2, 8, 4, 32
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


def map_pictures(trained_images: int, maps: int) -> int:
    """On how many pictures each of so many live maps of a phase estimates importance.

    Together they share SHARE of the phase's time as far as FEWEST_MAP_PICTURES lets them. Where the trunk stands still
    no step takes long: `trained_images` is 0 there.
    """
    affordable = int(SHARE * trained_images / MAP_PICTURE_COST / maps)
    return min(MOST_MAP_PICTURES, max(FEWEST_MAP_PICTURES, affordable))


# Where the trunk stands still, each job's pictures pass through it once, and every look then asks a head alone.
STILL_LOOKS = Looks(MOST_POINTS, MOST_PICTURES)
