"""Which configurations normalisation cannot learn in: those are refused before they start, and all others train."""

import importlib
import itertools
from typing import Any

import pytest
import torch
from torch import nn

from labcore.configs.base import ConfigError
from labcore.configs.catalogue import BACKBONES
from labcore.configs.reading import parse_stored, require_installed
from labcore.configs.registry import METHODS
from labcore.configs.run import RunConfig
from labcore.runs.events import StepLogged
from labcore.training import loop
from tests.conftest import tiny

NORMS = ("frozen", "affine_per_task", "per_task", "shared")
NORMALISED = [name for name, info in BACKBONES.items() if info.has_norm]


def small(method: str, batch_size: int, **backbone: Any) -> RunConfig:
    tasks = [{"name": name, "images_per_class": 2} for name in ("digits:0-1", "fashion:0-1")]
    return tiny(
        method, backbone=backbone, tasks=tasks, training={"epochs": 1, "batch_size": batch_size, "learning_rate": 1e-4}
    )


def trains_two_steps_of_each_stage(config: RunConfig) -> None:
    events = loop.train(config)
    for event in events:
        if isinstance(event, StepLogged) and event.stage == 2:
            return
    pytest.fail("it did not come to its second stage")


def refused_or_trains(monkeypatch: pytest.MonkeyPatch, method: str, batch_size: int, **backbone: Any) -> bool:
    """Whether it is refused in a sentence of ours; what is refused would break off, and all else trains."""
    try:
        config = small(method, batch_size, **backbone)
    except ConfigError as error:
        if "cannot learn from one value" not in str(error):
            return True  # other settings that do not fit, such as shared normalisation where the trunk is kept
        with monkeypatch.context() as patch:
            patch.setattr(RunConfig, "_check_statistics", lambda *_: None)
            config = small(method, batch_size, **backbone)
            with pytest.raises(ValueError, match="more than 1 value per channel"):
                trains_two_steps_of_each_stage(config)
        return True
    trains_two_steps_of_each_stage(config)
    return False


CHOICES = [
    (method, start, norm, batch_size)
    for method, start, norm, batch_size in itertools.product(METHODS, ("pretrained", "kaiming"), NORMS, (1, 3))
]
QUICK = [
    choice
    for choice in CHOICES
    if choice in itertools.product(("fine_tuning", "piggyback"), ("pretrained", "kaiming"), NORMS, (1,))
    or choice in itertools.product(("joint", "feature_extraction"), ("kaiming",), ("per_task", "frozen"), (1, 3))
]


@pytest.mark.usefixtures("few_answers")
@pytest.mark.parametrize(
    "choice", [choice if choice in QUICK else pytest.param(choice, marks=pytest.mark.heavy) for choice in CHOICES]
)
def test_each_small_choice_trains_or_is_refused(
    monkeypatch: pytest.MonkeyPatch, choice: tuple[str, str, str, int]
) -> None:
    method, start, norm, batch_size = choice
    where = {"name": "efficientnet_lite0", "start": start, "norm": norm, "image_size": 16}
    if refused_or_trains(monkeypatch, method, batch_size, **where):
        assert batch_size == 1 or norm == "shared"


@pytest.mark.usefixtures("few_answers")
@pytest.mark.parametrize("name", ["small_cnn", "small_cnn_plain", "mlp"])
def test_where_maps_have_many_places_one_picture_is_enough(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for norm in ("per_task", "shared"):
        where = {"name": name, "start": "kaiming", "norm": norm, "image_size": 16}
        assert not refused_or_trains(monkeypatch, "fine_tuning", 1, **where)


@pytest.mark.heavy
@pytest.mark.usefixtures("few_answers")
@pytest.mark.parametrize("name", [name for name in NORMALISED if BACKBONES[name].smallest_image == 32])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_zoo_trains_or_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, norm: str, batch_size: int) -> None:
    where = {"name": name, "start": "kaiming", "norm": norm, "image_size": 32}
    refused_or_trains(monkeypatch, "fine_tuning", batch_size, **where)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.heavy] if BACKBONES[name].smallest_image == 32 else [])
        for name in NORMALISED
    ],
)
@torch.no_grad()
def test_the_catalogue_says_up_to_which_size_the_last_map_has_one_place(name: str) -> None:
    info = BACKBONES[name]
    module, _, function = info.builder.partition(":")
    for size in {info.smallest_image, max(info.one_place, info.smallest_image), info.one_place + 1}:
        if size < info.smallest_image:
            continue
        trunk = getattr(importlib.import_module(module), function)(name, size).eval()
        places: list[int] = []
        for layer in trunk.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.register_forward_pre_hook(lambda _, given, found=places: found.append(given[0][0, 0].numel()))
        trunk(torch.zeros(1, 3, size, size), 0, None)
        if places:  # some networks normalise within their convolutions, where the test above looks
            assert (min(places) == 1) == (size <= info.one_place)


def test_one_that_is_stored_from_before_is_read_and_not_trained() -> None:
    good = small("fine_tuning", 2, name="efficientnet_lite0", start="kaiming", norm="shared", image_size=16)
    data = good.model_dump(mode="json")
    data["training"]["batch_size"] = 1
    stored = parse_stored(data)
    assert stored.training.batch_size == 1
    with pytest.raises(ConfigError, match="cannot learn from one value"):
        require_installed(stored)
