"""The base class *is* sequential fine-tuning; each method overrides a few hooks, and its file reads like its paper."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from labcore.configs.method import BASE as BASE
from labcore.configs.registry import ABOUT
from labcore.configs.run import RunConfig
from labcore.networks.batches import Batch, LoadedTask
from labcore.networks.network import Network, Overlay, count_bytes
from labcore.runs.map_files import Layer

# Which elements of a tensor may change: all of them (None), or those where a bool tensor of its shape is true.
Mask = Tensor | None


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a stage: some passes over its data, with an optimizer of its own.

    Where `head_only` is true, the trunk stands still.
    """

    name: str
    epochs: int
    head_only: bool = False


class Method:
    """Sequential fine-tuning, and the hooks by which methods differ from it.

    Stages and tasks count from 1: stage k learns task k. `tasks` holds the pictures of all tasks seen so far, by
    position − 1. A method keeps masks, owners and anchors; weights, heads and normalisation are the network's.
    """

    def __init__(self, network: Network, config: RunConfig, tasks: Sequence[LoadedTask]) -> None:
        self.network, self.run, self.tasks = network, config, tasks
        self.pretrained = config.backbone.start == "pretrained"
        self.warnings: list[str] = []  # sentences for the person who watches; the loop passes them on
        # Long work outside of steps asks this now and then, and raises Stopped where it is true.
        self.should_stop: Callable[[], bool] = lambda: False

    # ---- what a stage is --------------------------------------------------------------------------------------------

    def phases(self, stage: int) -> Sequence[Phase]:
        """The parts of a stage in order: first the new head may warm up, then everything trains."""
        warmup = self.run.training.head_warmup_epochs
        train = Phase("train", self.run.training.epochs)
        # A random trunk that has learnt nothing gives a head nothing to warm up on.
        return [Phase("warm_up", warmup, head_only=True), train] if warmup and not self.is_fresh(stage) else [train]

    def data(self, stage: int, phase: Phase) -> Sequence[int]:
        """The tasks whose training images the phase reads."""
        return [stage]

    def start_stage(self, stage: int) -> None:
        """Called once the new head is there, before any training."""

    def end_phase(self, stage: int, phase: Phase) -> None:
        """Called after the last step of a phase."""

    def end_stage(self, stage: int) -> None:
        """Called after the last phase, before measuring."""

    # ---- what may change --------------------------------------------------------------------------------------------

    def is_fresh(self, stage: int) -> bool:
        """Whether the trunk has learnt nothing before this stage, so that its normalisation has to learn now."""
        return stage == 1 and not self.pretrained

    def isolates(self) -> bool:
        """Whether nothing that is learnt later changes an answer to a task that is learnt; `Cost` says it."""
        return ABOUT[self.run.method.name].cost.isolates(self.run)

    def frozen_blocks(self, stage: int) -> int:
        """How many of the first blocks stand still in this stage, together with their shared normalisation."""
        return 0

    def trainable(self, stage: int, phase: Phase) -> dict[str, Mask]:
        """The tensors that the phase may change, by export name, each with a mask of the elements that may change."""
        network = self.network
        names = [f"heads/{task}/{part}" for task in self.trained_heads(stage, phase) for part in ("weight", "bias")]
        if not phase.head_only:
            shared_norm_learns = network.config.norm == "shared" or (
                network.config.norm == "frozen" and self.is_fresh(stage)
            )
            for name, _ in network.trunk.named_parameters():
                if network.trunk.block_of(name) < self.frozen_blocks(stage):
                    continue
                if name not in network.norm_weights or shared_norm_learns:
                    names.append(f"trunk/{name}")
            for task in self.data(stage, phase):
                own = network.norms.get(task, {})
                names += [f"norm/{task}/{name}" for name in own if name in network.norm_weights]
        return dict.fromkeys(names)

    def trained_heads(self, stage: int, phase: Phase) -> Sequence[int]:
        """The tasks whose heads learn."""
        return [stage]

    def moving_statistics(self, stage: int, phase: Phase) -> Sequence[int]:
        """The blocks whose normalisation statistics follow the batches of this phase."""
        if phase.head_only:
            return []
        blocks = range(len(self.network.trunk.block_names))
        match self.network.config.norm:
            case "per_task":
                return blocks  # statistics of a task's own move in frozen blocks, too
            case "shared":
                return blocks[self.frozen_blocks(stage) :]
            case _:
                return blocks[self.frozen_blocks(stage) :] if self.is_fresh(stage) else []

    def learning_rate(self, name: str) -> float:
        """The step size of a tensor, by its export name, before the schedule changes it."""
        training = self.run.training
        return training.head_learning_rate if name.startswith("heads/") else training.learning_rate

    # ---- the step ---------------------------------------------------------------------------------------------------

    def overlay(self, task: int) -> Overlay:
        """The tensors that stand in for the trunk's own when this task is asked for, by trunk name."""
        return self.network.norm_overlay(task)

    @torch.no_grad()
    def fixed_overlay(self, task: int) -> Overlay:
        """The overlay as plain values, through which no gradient goes, for those who only look."""
        return {name: value.detach() for name, value in self.overlay(task).items()}

    def seen(self, task: int) -> dict[str, Tensor]:
        """Which elements of a weight the task sees, as bool tensors by trunk name; a weight seen whole is left out."""
        return {}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss by name, each a scalar, through which gradients go back in every step.

        Their sum, with that of `further_terms`, is what training makes small.
        """
        logits = self.network.logits(batch.inputs, batch.task, self.overlay(batch.task), batch.first)
        return {"new task": functional.cross_entropy(logits, batch.labels)}

    def further_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Terms of the loss, by names of their own, whose gradients `before_step` adds because it knows them.

        A penalty such as λ/2 · Σ F (θ − θ*)² needs no backward pass: its gradient is λ · F · (θ − θ*). So its value is
        only asked for in steps that are told, before the weights move, with autograd switched off.
        """
        return {}

    def before_step(self, batch: Batch) -> None:
        """Called in every step between the backward pass and the optimizers, where gradients are known and may change.

        What learns in the phase (`trainable`) has in `.grad` the gradient of the loss, all its terms summed, or None
        where the loss does not depend on it. A method may read these gradients, change them in place or put others in
        their stead; the optimizers see what it leaves. It must not change the weights, which are still those of which
        the gradients were taken. Elements that a mask freezes may have gradients, too; they are put back after the
        step.

        The gradients of `further_terms` are added here, after whatever wants the gradient of the task's loss alone.

        Autograd is switched off here; a method that needs further gradients switches it on (`torch.enable_grad()`) and
        asks for them by `torch.autograd.grad`, which adds to no `.grad`. Random draws come from a stream of the
        method's own (`networks.streams`). What is summed up over steps belongs in `checkpoint_tensors`: otherwise a run
        that goes on after a break would not end the same.

        In a stage whose `stage_config` is BASE a method does nothing here. Such a stage is shared with fine-tuning, and
        comes from the cache where another run has trained it: no step would be seen. A method that sums something up
        over a stage's steps answers with settings of its own for that stage.
        """

    def after_step(self, batch: Batch) -> None:
        """Called in every step once it is done: weights have moved, and what is frozen was put back bit for bit.

        The gradients are still there as the optimizers saw them. With what it remembered in `before_step` a method can
        tell how far each weight moved in this step, or put weights where it wants them. The rules are those of
        `before_step`: autograd is off, what is summed up belongs in `checkpoint_tensors`, and in a stage whose
        `stage_config` is BASE a method does nothing here.
        """

    # ---- what it shows inside ---------------------------------------------------------------------------------------

    def maps(self, stage: int, layers: Sequence[Layer]) -> dict[str, Any]:
        """What the method shows of itself at this moment of the stage: numbers, lists, arrays, or `IfNew`, by name.

        `layers` are the network's in the order of a map's arrays. The method's `maps.py` says what the arrays hold and
        how they are drawn; what only exists before `end_stage` is saved at the stage's end as it was just before.
        """
        return {}

    def fisher_of(self, task: int) -> tuple[dict[str, Tensor], int] | None:
        """The Fisher diagonal of a task by the trunk's names, and the number of images on which it rests.

        None where the method did not measure it.
        """
        return None

    # ---- what is kept -----------------------------------------------------------------------------------------------

    def footprint(self) -> dict[str, int]:
        """How many bytes must be kept to answer all tasks so far and to learn another, by purpose."""
        network = self.network
        kept = {
            "trunk": count_bytes(network.trunk.state_dict().values()),
            "heads": count_bytes(network.heads.state_dict().values()),
        }
        if network.norms:
            kept["norm"] = sum(count_bytes(network.norm_overlay(task).values()) for task in network.norms)
        return kept

    def working_footprint(self) -> dict[str, int]:
        """How many bytes exist only during a stage, by purpose."""
        return {}

    def own_tensors(self) -> dict[str, Tensor]:
        """Tensors of the method's own that may learn, by Adam; `…/NAME` belongs to the trunk's tensor NAME."""
        return {}

    def stage_config(self, stage: int) -> dict[str, Any]:
        """The settings of the method that this stage's training depends on; see `RunConfig.stage_config`."""
        return self.run.stage_config(stage)

    def addition_config(self, stage: int) -> dict[str, Any] | None:
        """The settings that `end_stage` depends on beside training; see `RunConfig.addition_config`."""
        return self.run.addition_config(stage)

    def network_tensors(self) -> dict[str, Tensor]:
        """Whole trunks that the method keeps beside the network's own, as `copies/T/NAME` for task T.

        After a stage they are saved in the network's file, because without them its answers could not be given again.
        They are part of `state_dict`.
        """
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """What the method keeps beside the network, by export name: after a stage, all that the next stage needs.

        A method that overrides this, and has `network_tensors`, returns those too.
        """
        return self.network_tensors()

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what `state_dict` gave."""

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """All that is needed to go on in the middle of a stage: the state, and what exists only during the stage."""
        return self.state_dict()

    def load_checkpoint_tensors(self, state: dict[str, Tensor]) -> None:
        """Take back what `checkpoint_tensors` gave."""
        self.load_state_dict(state)


# ---- tensors of every task, by export name --------------------------------------------------------------------------


def named(kind: str, kept: Mapping[int, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Name what is kept for each task T by trunk name: `KIND/T/NAME`."""
    return {f"{kind}/{task}/{name}": value for task, row in kept.items() for name, value in row.items()}


def by_task(kind: str, state: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Take what `named` made out of a state that may hold more: by task, then by trunk name."""
    found: dict[int, dict[str, Tensor]] = {}
    for path, value in state.items():
        if path.startswith(f"{kind}/"):
            _, task, name = path.split("/", 2)
            found.setdefault(int(task), {})[name] = value
    return found
