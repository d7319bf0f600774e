"""A run whose numbers have left all proportion does not end as complete, and says what most likely made them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from labcore.configs.run import RunConfig
from labcore.methods.base import Method
from labcore.networks.network import Network
from labcore.networks.proportion import OutOfProportion, require_proportion
from labcore.runs import map_files, reductions
from labcore.runs.events import RunEnded
from labcore.runs.map_files import Layer
from labcore.runs.store import Store
from labcore.training import loop, worker
from tests.conftest import tiny

REAL_LOSS = Method.loss


def end_of(config: RunConfig, **options: Any) -> RunEnded:
    ended = list(loop.train(config, **options))[-1]
    assert isinstance(ended, RunEnded)
    return ended


def weights_grow(patch: pytest.MonkeyPatch) -> None:
    def end_phase(method: Method, stage: int, phase: Any) -> None:
        with torch.no_grad():
            next(iter(method.network.trunk.parameters())).mul_(1e30)

    patch.setattr(Method, "end_phase", end_phase)


def statistics_overflow(patch: pytest.MonkeyPatch) -> None:
    def tensors(network: Network) -> dict[str, Tensor]:
        return real(network) | {"trunk/norm.running_var": torch.tensor([1.0, math.inf])}

    real = Network.tensors
    patch.setattr(Network, "tensors", tensors)


def losses_grow(patch: pytest.MonkeyPatch) -> None:
    def loss(method: Method, batch: Any) -> dict[str, Tensor]:
        return {name: term + 1e20 for name, term in REAL_LOSS(method, batch).items()}

    patch.setattr(Method, "loss", loss)


def importance_is(value: float, where: str) -> Callable[[pytest.MonkeyPatch], None]:
    def act(patch: pytest.MonkeyPatch) -> None:
        def measured(network: Any, pictures: Tensor, *more: Any, names: list[str], **options: Any) -> dict[str, Tensor]:
            own = dict(network.named_parameters())
            return {name: torch.full_like(own[name], value) for name in names}

        patch.setattr(f"{where}.fisher_diagonal", measured)

    return act


@pytest.mark.parametrize(
    ("method", "spoil", "said"),
    [
        ("fine_tuning", weights_grow, "the network's weights and statistics"),
        ("fine_tuning", statistics_overflow, "running_var has come to inf"),
        ("fine_tuning", losses_grow, "the loss term 'new task' is 1e+20"),
        ("ewc", importance_is(math.inf, "labcore.methods.ewc.learn"), "Of importance, "),
        ("ewc", importance_is(math.nan, "labcore.methods.ewc.learn"), "has come to nan"),
        ("fine_tuning", importance_is(math.inf, "labcore.training.map_maker"), "Of importance, "),
    ],
)
def test_at_a_stages_end_numbers_out_of_proportion_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, spoil: Callable[[pytest.MonkeyPatch], None], said: str
) -> None:
    spoil(monkeypatch)
    ended = end_of(tiny(method), maps=tmp_path, live_maps=False)
    assert (ended.state, ended.diverged) == ("failed", True)
    assert said in (ended.error or "") and "training.learning_rate" in (ended.error or "")
    assert not list(tmp_path.rglob("*-stage.npz"))


def test_what_left_all_proportion_is_kept_for_no_other_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    weights_grow(monkeypatch)
    record = worker.run_claim(store.claim_run(store.submit(tiny()).run), "cpu", maps="none")
    assert record.state == "failed"
    assert not list((store.cache / "stages").rglob("*.safetensors")) and store.stages_stored(record.run) == []


def test_a_strength_that_no_step_size_can_bear_is_named_first() -> None:
    rigid = tiny("ewc", method__strength=1e12, training__optimizer="sgd", training__learning_rate=0.1)
    error = end_of(rigid).error or ""
    assert "Try a smaller method.strength (it is 1e+12), or a smaller training.learning_rate (it is 0.1)" in error


def test_where_there_is_nothing_to_hold_the_step_size_is_named_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    weights_grow(monkeypatch)
    error = end_of(tiny("ewc")).error or ""
    assert "Try a smaller training.learning_rate (it is 0.002)" in error and "strength" not in error


def test_large_is_not_out_of_proportion() -> None:
    require_proportion("weights", {"a": torch.tensor([1e11, -1e11]), "empty": torch.zeros(0), "whole": torch.tensor(1)})
    for value in (1e13, -1e13, math.inf, -math.inf, math.nan):
        with pytest.raises(OutOfProportion, match="Of weights, a has come to "):
            require_proportion("weights", {"a": torch.tensor([1.0, value])})


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_what_is_not_finite_enters_no_colours_of_a_map(value: float) -> None:
    layers = [Layer("a", "block", (2, 2, 1, 1)), Layer("b", "block", (2, 2, 1, 1))]
    spoilt = torch.tensor([[1.0, 2.0], [value, 4.0]])
    found = {"a.weight": torch.ones(2, 2), "b.weight": spoilt}
    drawn = reductions.magnitudes("importance", layers, found)
    alone = reductions.magnitudes("importance", layers, {"a.weight": torch.ones(2, 2)})
    assert drawn["importance_range"] == alone["importance_range"]
    assert "importance/a" in drawn and "importance/b" not in drawn and math.isnan(drawn["importance"][1])
    held = map_files.facts({"drift": [[1.0, value, 1e300]]})["drift"]
    assert np.array_equal(held, np.array([[1.0, np.nan, np.nan]], np.float32), equal_nan=True)
