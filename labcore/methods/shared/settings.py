"""Settings and costs that several methods share. No torch here."""

from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import Field

from labcore.configs.base import Number, Whole, unit
from labcore.configs.catalogue import BACKBONES
from labcore.configs.method import Cost, MethodConfig

if TYPE_CHECKING:
    from labcore.configs.run import RunConfig

# ---------------------------------------------------------------------------------------------------------------------
# Methods that train the trunk as it is
# ---------------------------------------------------------------------------------------------------------------------


class TrainsTrunkConfig(MethodConfig):
    """How fast the trunk moves, and how many of its first blocks do not move at all."""

    trunk_lr_scale: Number = Field(1.0, ge=0, le=10, description="Trunk's step size, times this. 0 trains heads alone.")
    frozen_blocks: Whole = Field(
        0, ge=0, le=64, description="First blocks that stay as they are.", json_schema_extra=unit("blocks")
    )

    def check(self, run: "RunConfig") -> None:
        """Refuse more frozen blocks than the backbone has. Raises ValueError."""
        blocks = len(BACKBONES[run.backbone.name].blocks)
        if self.frozen_blocks > blocks:
            raise ValueError(
                f"method.frozen_blocks is {self.frozen_blocks}, but {run.backbone.name} has {blocks} blocks; "
                f"choose 0 to {blocks}"
            )


class TrainsTrunkCost(Cost):
    """Frozen blocks are run once over the pictures; where the trunk's step size is 0, so is the whole trunk."""

    def still_share(self, run: "RunConfig", stage: int) -> float:
        """The share of the frozen blocks among all blocks."""
        method = run.method
        assert isinstance(method, TrainsTrunkConfig)
        blocks = len(BACKBONES[run.backbone.name].blocks)
        return method.frozen_blocks / blocks if method.trunk_lr_scale else 1.0


# ---------------------------------------------------------------------------------------------------------------------
# Methods that keep one trunk for all tasks
# ---------------------------------------------------------------------------------------------------------------------

KeptTrunk = Literal["start", "first_task"]


def kept_trunk(run: "RunConfig") -> KeptTrunk:
    """Which trunk the run's method keeps.

    Where the setting is left open, it is the one at the start if that is pretrained, else the one after task 1.
    """
    chosen: KeptTrunk | None = getattr(run.method, "trunk", None)
    return chosen or ("start" if run.backbone.start == "pretrained" else "first_task")


def learns_trunk(run: "RunConfig", stage: int) -> bool:
    """Whether the stage is the one in which a kept trunk learns: the first, where the trunk after task 1 is kept."""
    return stage == 1 and kept_trunk(run) == "first_task"


@runtime_checkable
class MasksLayers(Protocol):
    """Settings of a method that masks layers, and so must say which of them."""

    @property
    def depthwise(self) -> bool:
        """Whether layers that keep channels apart, with a handful of weights each, are masked, too."""


@runtime_checkable
class HoldsBySprings(Protocol):
    """Settings of a method that holds weights by springs."""

    @property
    def strength(self) -> float:
        """How stiff all springs are together."""


class KeptTrunkCost(Cost):
    """The trunk learns in the first stage at most, and only where the trunk after task 1 is the one that is kept."""

    keeps_answers: ClassVar[bool] = True

    def is_fresh(self, run: "RunConfig", stage: int) -> bool:
        """As by fine-tuning, but false for a trunk that never learns: even if random, it gets no better."""
        return super().is_fresh(run, stage) and learns_trunk(run, stage)
