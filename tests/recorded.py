"""Runs that many tests look at from different sides: each is trained once a session, and all that they ask is kept."""

import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from labcore.configs.run import RunConfig
from labcore.runs.events import Event, RunEnded, from_line, to_line
from labcore.training import loop
from tests import kept

# The global draws stand here before a recorded run begins.
SEED = 3


@dataclass(frozen=True)
class Measured:
    """What measuring at the end of a stage did to the global draws, and which tensors of the network it changed."""

    draws_stand_still: bool
    changed: list[str]


@dataclass(frozen=True)
class Recorded:
    """A run from scratch: what it told, what it left, and how the global draws stood after it."""

    events: list[Event]
    stages: Path
    measured: list[Measured]
    draws_after: Tensor


def recorded(run: RunConfig, device: str) -> Recorded:
    """The record of this run on this device, which is trained where no process of this session has done so."""
    folder = kept.folder(f"recorded-{run.key()}-{device}", lambda path: _record(run, path))
    return Recorded(
        events=[from_line(line) for line in (folder / "events.jsonl").read_bytes().splitlines()],
        stages=folder / "stages",
        measured=[Measured(**found) for found in json.loads((folder / "measured.json").read_text())],
        draws_after=load_file(folder / "draws.safetensors")["after"],
    )


def _record(run: RunConfig, folder: Path) -> None:
    found: list[dict[str, Any]] = []
    original = loop.Loop._measure

    def measured(self: Any, stage: int) -> Generator[Event, None, Any]:
        before = {name: value.detach().clone() for name, value in self.learner.network.tensors().items()}
        state = torch.get_rng_state()
        fallen = yield from original(self, stage)
        after = self.learner.network.tensors()
        still = torch.equal(torch.get_rng_state(), state)
        assert before.keys() == after.keys()
        changed = [name for name in before if not torch.equal(before[name], after[name])]
        found.append({"draws_stand_still": still, "changed": changed})
        return fallen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Loop, "_measure", measured)
        torch.manual_seed(SEED)
        events = list(loop.train(run, stages=lambda k: folder / "stages" / str(k)))
    assert isinstance(events[-1], RunEnded)
    save_file({"after": torch.get_rng_state()}, folder / "draws.safetensors")
    (folder / "events.jsonl").write_bytes(b"".join(map(to_line, events)))
    (folder / "measured.json").write_text(json.dumps(found))
