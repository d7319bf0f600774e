"""A run's whole state in one file, so that after `kill -9` it goes on bit for bit as if nothing had happened."""

import contextlib
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from labcore.configs.run import Frozen
from labcore.networks.network import like
from labcore.runs.events import Event
from labcore.runs.files import atomic_path


class Position(Frozen):
    """Where a run stands, and what it has spent: `stage` from 1, `phase` and `phase_step` from 0, seconds of the run.

    `phase_step` steps of the phase are done; at phase 0, step 0 the stage has not begun. `pending` are the loss terms
    of the steps since the last `StepLogged`; `told` is what the stage has said so far. `energy_wh` is None where not
    all of it was measured.
    """

    key: str
    stage: int = 1
    phase: int = 0
    phase_step: int = 0
    step: int = 0
    images_seen: int = 0
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    stage_step: int = 0
    stage_images: int = 0
    stage_train_seconds: float = 0.0
    stage_evaluation_seconds: float = 0.0
    energy_wh: float | None = None
    stage_energy_wh: float | None = None
    peak_memory: int = 0
    reused_peak_memory: int = 0
    pending: tuple[dict[str, float], ...] = ()
    told: tuple[Annotated[Event, Field(discriminator="event")], ...] = ()


Checkpoint = tuple[Position, dict[str, Tensor]]


def save(path: Path, position: Position, tensors: Mapping[str, Tensor]) -> None:
    """Write position and tensors as one file, whole or not at all; the one before is kept beside it.

    Raises OSError where the disk is full.
    """
    with atomic_path(path) as temporary:
        write_tensors(temporary, tensors, {"position": position.model_dump_json()})
        with contextlib.suppress(OSError), atomic_path(_before(path)) as link:  # none yet, or a disk without links
            link.hardlink_to(path)


def _before(path: Path) -> Path:
    return path.with_name(f"{path.name}.before")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file. Raises OSError."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Two names for one storage are two tensors in the file.
    seen: set[int] = set()
    for name, tensor in plain.items():
        if tensor.data_ptr() in seen:
            plain[name] = tensor.clone()
        seen.add(tensor.data_ptr())
    try:
        save_file(plain, path, metadata)
    except SafetensorError as error:  # it wraps the system's error in its own
        raise OSError(28 if "os error 28" in str(error) else 5, str(error)) from None


def find(path: Path, key: str) -> tuple[Checkpoint | None, str | None]:
    """The newest checkpoint that can be read, and a sentence for the person where that is not the newest there is."""
    found = load(path, key)
    if found is not None or not path.exists():
        return found, None
    found = load(_before(path), key)
    if found is not None:
        return found, "The newest checkpoint could not be read. The run went on from the one before."
    return None, (
        "The checkpoint could not be read: it is damaged, or of another version of the lab. The run began anew, with "
        "what is stored of its stages."
    )


def load(path: Path, key: str) -> Checkpoint | None:
    """The checkpoint of the run of this key; None where there is none, or it is not one of this run."""
    try:
        with safe_open(path, framework="pt") as file:
            position = Position.model_validate_json((file.metadata() or {}).get("position", ""))
            if position.key != key:
                return None
            return position, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, struct.error, json.JSONDecodeError):
        return None


def optimizer_tensors(
    optimizers: Sequence[torch.optim.Optimizer], parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The optimizers' memory as `optimizer/WHAT/PARAMETER`: by name, as a run that goes on may list them otherwise."""
    return {
        f"optimizer/{what}/{name}": value
        for optimizer in optimizers
        for name, parameter in parameters.items()
        for what, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def restore_optimizers(
    optimizers: Sequence[torch.optim.Optimizer], parameters: Mapping[str, Tensor], saved: Mapping[str, Tensor]
) -> None:
    """Take back `optimizer_tensors`, in the parameters' memory format. Raises KeyError for an unknown parameter."""
    owner = {id(p): optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    for path, value in saved.items():
        if path.startswith("optimizer/"):
            _, what, name = path.split("/", 2)
            parameter = parameters[name]
            state: dict[str, Any] = owner[id(parameter)].state[parameter]
            state[what] = like(parameter, value) if value.shape == parameter.shape else value.to(parameter.device)
