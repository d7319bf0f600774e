"""How far a run is and how long it still takes: what was estimated, corrected by what it took so far. No torch here.

Images alone do not tell: those that only a head learns take a fiftieth of the time of others, and a stage ends with
pictures that are looked at and not learnt. The estimate knows what each part takes beside the others (estimates.py), so
the run's place in it gives the share of the work that is done, and the time passed gives its pace.
"""

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from labcore.configs.run import RunConfig
from labcore.runs.results import Fold, Stage
from labcore.runs.settings import Detail
from labcore.studies import estimates
from labcore.studies.estimates import Part, Speed
from labcore.tasks.source import TaskError

# The estimate's own pace counts as much as having seen this share of the work done.
_PRIOR = 0.03
# Where nothing was measured, what things take beside each other, as on most processors and networks; milliseconds.
_USUAL = Speed(
    device="", backbone="", image_size=0, step_ms=1.0, image_ms=1.0, head_step_ms=0.5, forward_ms=0.3, single_ms=1.0,
    activation_bytes=0, features=0, weights=0, others=0.0, engine="",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Forecast:
    """Which share of its work a run has done, 0 to 1, and the seconds left; None without a pace, or when it is over."""

    share: float
    seconds_left: float | None


def forecast(fold: Fold, speed: Speed | None, maps: Detail = "all") -> Forecast:
    """Where a run stands, and what is before it.

    Args:
        fold: What the run told so far.
        speed: This machine's speed for the run's network and size; None where it was not measured.
        maps: How much the run records of the network's inside.
    """
    if fold.ended is not None and fold.ended.state == "complete":
        return Forecast(1.0, None)
    if fold.started is None:
        return Forecast(0.0, None)
    try:
        stages = _parts(fold.started.config, speed or _USUAL, maps)
    except (TaskError, KeyError):  # of a task or a method that is not here any more
        return Forecast(0.0, None)
    total = sum(part.milliseconds for stage in stages for part in stage)
    done = _done(stages, fold.images_seen, [_told(fold, number) for number in range(1, len(fold.stages) + 1)])
    if fold.ended is not None:
        return Forecast(done / total, None)
    images, _, begun = fold.attempt_start
    own = done - _done(stages, images, [{"test"} if _is_before(stage, images) else set() for stage in fold.stages])
    passed = 1000 * (fold.last_time - begun)
    prior = 0.0 if speed is None else _PRIOR * total
    if own + prior <= 0:
        return Forecast(done / total, None)
    return Forecast(done / total, (passed + prior) / (own + prior) * (total - done) / 1000)


def _is_before(stage: Stage, images: int) -> bool:
    return stage.test is not None and stage.first_image + stage.images <= images


def _told(fold: Fold, number: int) -> set[str]:
    """What was told of the end of a stage, counted from 1."""
    stage, last = fold.stages[number - 1], fold.maps[-1] if fold.maps else None
    told = {name for name in ("validation", "test") if getattr(stage, name) is not None}
    drawn = last is not None and (last.stage, last.kind) == (number, "stage")  # of an earlier stage all was told
    return told | {"maps"} if drawn or told else told


def _done(stages: Sequence[Sequence[Part]], images: int, told: Sequence[Collection[str]]) -> float:
    """The milliseconds of work up to so many images of the run, and by what was told of the ends of its stages."""
    done = 0.0
    for number, stage in enumerate(stages):
        ends = told[number] if number < len(told) else ()
        for part in stage:
            if "test" in ends or part.told in ends:
                done += part.milliseconds
            elif part.images:
                done += part.milliseconds * min(1.0, max(0, images) / part.images)
            elif images > 0:
                done += part.milliseconds
            images -= part.images
    return done


@functools.lru_cache(maxsize=256)
def _parts(config: RunConfig, speed: Speed, maps: Detail) -> list[list[Part]]:
    """A page asks each second, and the answer is the same."""
    return estimates.parts(config, speed, maps)
