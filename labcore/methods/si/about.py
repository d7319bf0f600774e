"""Synaptic intelligence, as far as it can be told without torch."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from labcore.configs.base import Number, single
from labcore.configs.method import About, Cost, MethodConfig
from labcore.configs.verdicts import Verdict

if TYPE_CHECKING:
    from labcore.configs.run import RunConfig


class SIConfig(MethodConfig):
    """How stiff the springs are, and how importance is kept from growing without bound."""

    name: Literal["si"] = "si"
    strength: Number = Field(
        1.0,
        ge=0,
        le=1e12,
        description="Stiffness of all springs together (c). 0 is fine-tuning.",
        json_schema_extra={"log": True},
    )
    damping: Number = Field(
        1e-3,
        gt=0,
        le=10,
        description="Added to a weight's squared move when importance is divided by it, so that weights which hardly "
        "moved are not held by what is only noise (ξ).",
        json_schema_extra={"log": True},
    )

    def check(self, run: "RunConfig") -> None:
        """Refuse a damping that is 0 in 32 bits: importance would be divided by nothing. Raises ValueError."""
        if not single(self.damping):
            raise ValueError(f"method.damping is {self.damping}, which is 0 in 32 bits; choose at least 1e-40")

    def stage_config(self, stage: int, stages: int) -> dict[str, Any]:
        """There is no spring in stage 1, but its path is followed: all strengths share it, fine-tuning does not.

        The network after stage 1 is the same as fine-tuning's. What the stage adds hangs on every step that led there,
        so it cannot be computed from that network: a stage that another method trained will not do.
        """
        if stage == 1:
            return {"name": self.name, "damping": self.damping}
        return super().stage_config(stage, stages)


class SICost(Cost):
    """Nothing is measured when a stage ends; what is kept and followed takes memory."""

    def bytes_a_weight(self, run: "RunConfig") -> float:
        """Each task's importance and anchor, the spring, the path with its start and one step; float64 for a sum."""
        return 8 * (len(run.tasks) + 1) + 16 + 16


ABOUT = About(
    name="si",
    title="Synaptic intelligence (SI)",
    idea="Ties down the weights that did most to lower the loss while an old job was learnt.",
    facts=("forgets less", "measures while it learns"),
    settings=SIConfig,
    learner="SI",
    group="today",
    place=1,
    verdict=Verdict(
        {
            "new": ("good", "good"),
            "old": ("medium", "medium"),
            "train": ("fast", "good"),
            "test": ("fast", "good"),
            "memory": ("three times", "poor"),
            "old data": ("not needed", "good"),
        }
    ),
    presets={"story": {"method.strength": 300.0}, "quick": {"method.strength": 1.0}},
    cost=SICost(),
)
