"""A run's whole state in one file, so that after `kill -9` it goes on bit for bit as if nothing had happened."""

import contextlib
import hashlib
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

from labcore.configs.base import Frozen
from labcore.networks.network import like
from labcore.runs.events import Event
from labcore.runs.files import atomic_path


class Position(Frozen):
    """Where a run stands, and what it has spent by then.

    `stage` counts from 1, `phase` and `phase_step` from 0: so many steps of the phase are done, and at step 0 of phase
    0 the stage has not begun. What begins with `stage_` is of the stage so far, the rest of the run. `pending` are the
    loss terms of the steps since the last `StepLogged`, and `told` is what the stage has said so far. The watt-hours
    are None where a part of them was not measured.
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
    """Write a position and its tensors as one file, whole or not at all; the checkpoint before is kept beside it.

    Raises:
        OSError: The disk is full, or the system refuses otherwise; the checkpoint that was there still is.
    """
    text = position.model_dump_json()
    with atomic_path(path) as temporary:
        write_tensors(temporary, tensors, {"position": text, "digest": _digest(text, tensors)})
        # There may be no checkpoint before, and some disks know no second names.
        with contextlib.suppress(OSError), atomic_path(_before(path)) as link:
            link.hardlink_to(path)


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """The BLAKE2b (hexadecimal) of a position's text and of all tensors, so that one flipped bit is seen."""
    found = hashlib.blake2b(text.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _before(path: Path) -> Path:
    """Where the checkpoint before the newest lies."""
    return path.with_name(f"{path.name}.before")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file. Raises OSError where the system refuses."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Tensors that share their memory are written as two, because the format knows no shared memory.
    seen: set[int] = set()
    for name, tensor in plain.items():
        if tensor.data_ptr() in seen:
            plain[name] = tensor.clone()
        seen.add(tensor.data_ptr())
    try:
        save_file(plain, path, metadata)
    except SafetensorError as error:  # The library wraps the system's errors in its own.
        raise OSError(28 if "os error 28" in str(error) else 5, str(error)) from None


def find(path: Path, key: str) -> tuple[Checkpoint | None, str | None]:
    """Look for the newest checkpoint that can be read.

    Args:
        path: Where the newest checkpoint of the run lies, if there is one.
        key: The key of the run.

    Returns:
        The checkpoint, or None where the run begins anew; and a sentence for the person where a newer one is damaged.
    """
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
    """Read a checkpoint; None where there is none, where it is damaged, and where it is of a run of another key."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            position = Position.model_validate_json(text := metadata.get("position", ""))
            if position.key != key:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if "digest" in metadata and metadata["digest"] != _digest(text, tensors):  # those of before have none
            return None
        return position, tensors
    except (OSError, SafetensorError, ValueError, struct.error, json.JSONDecodeError):
        return None


def optimizer_tensors(
    optimizers: Sequence[torch.optim.Optimizer], parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """What the optimizers remember, as `optimizer/WHAT/PARAMETER`.

    It is kept by the parameters' names, because a run that goes on may list its parameters in another order.
    """
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
    """Give the optimizers back what `optimizer_tensors` took from them, in the memory format of the parameters.

    Raises:
        KeyError: A parameter is not known, or no optimizer trains it.
    """
    owner = {id(p): optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    for path, value in saved.items():
        if path.startswith("optimizer/"):
            _, what, name = path.split("/", 2)
            parameter = parameters[name]
            state: dict[str, Any] = owner[id(parameter)].state[parameter]
            state[what] = like(parameter, value) if value.shape == parameter.shape else value.to(parameter.device)
