"""The plan of a phase: how many steps it has, and after which of them something is told, measured or drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

from labcore.configs.looking import MAPS, MAPS_OF_A_STILL_TRUNK, Looks, map_pictures
from labcore.methods.base import Phase

# Loss terms are told about a hundred times a phase, and at least every ten steps.
LOGS_A_PHASE = 100
LONGEST_LOG_INTERVAL = 10


@dataclass(frozen=True, slots=True)
class PhasePlan:
    """Steps are counted from 0 within the phase. At the steps of `measure_at` and `map_at` it looks before it steps.

    A live look looks at the first `pictures` validation pictures of each task, and a live map estimates importance on
    `map_pictures` of the training pictures.
    """

    steps_in_epoch: int
    steps: int
    log_interval: int
    measure_at: frozenset[int]
    pictures: int
    map_at: frozenset[int]
    map_pictures: int

    @classmethod
    def of(
        cls,
        phase: Phase,
        phases: Sequence[Phase],
        steps_in_epoch: int,
        trained_images: int,
        looks: Looks,
        *,
        trunk_moves: bool,
    ) -> "PhasePlan":
        """The plan of one of the `phases` of a stage, whose steps together train on so many images."""
        steps = steps_in_epoch * phase.epochs
        # Where the trunk moves in more phases than one, they share the maps among them: such a stage is drawn no more
        # often than another, and costs no more.
        moving = sum(not other.head_only for other in phases)
        interval = moving if trunk_moves else MAPS // MAPS_OF_A_STILL_TRUNK
        maps = _evenly(steps, MAPS)[::interval]
        return cls(
            steps_in_epoch=steps_in_epoch,
            steps=steps,
            log_interval=max(1, min(LONGEST_LOG_INTERVAL, steps // LOGS_A_PHASE)),
            measure_at=frozenset(_early(steps, looks.points)),
            pictures=looks.pictures,
            map_at=frozenset(maps),
            map_pictures=map_pictures(trained_images if trunk_moves else 0, max(1, len(maps))),
        )

    def epoch(self, step: int) -> int:
        """The epoch that a step belongs to, counted from 1."""
        return step // self.steps_in_epoch + 1

    def tells_after(self, step: int) -> bool:
        """Whether the loss is told after this step."""
        return (step + 1) % self.log_interval == 0 or step + 1 == self.steps


def _evenly(steps: int, count: int) -> list[int]:
    """So many steps at even intervals from the first on, each once.

    A phase's end is none of them: the next phase begins there with its first, or the stage is measured.
    """
    return sorted({round(i * steps / count) for i in range(count)})


def _early(steps: int, count: int) -> list[int]:
    """So many steps from the first on, denser at the beginning, where most is learnt and most is forgotten.

    The i-th of n is at (i / n)² of the phase, or one step after the one before.
    """
    found = [0]
    for i in range(1, count):
        found.append(max(found[-1] + 1, round(steps * (i / count) ** 2)))
    return [step for step in found if step < steps]
