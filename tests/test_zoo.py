"""torchvision's networks as backbones: cut into blocks, and still torchvision's."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from labcore.configs.base import ConfigError
from labcore.configs.catalogue import BACKBONES
from labcore.networks import backbones, masks
from labcore.networks.network import Network
from labcore.networks.trunk import Trunk
from tests.conftest import tiny

ZOO = [name for name, info in BACKBONES.items() if info.download]


@functools.lru_cache(maxsize=1)
def _built(name: str) -> Trunk:
    return backbones.build(name, "kaiming", 64, torch.Generator().manual_seed(0))


# Their blocks are cut by the same rules as the smaller ones', and each pass through them takes seconds.
LARGE = {"vgg16", "vgg16_bn", "resnet50"}
NAMES = [pytest.param(name, marks=[pytest.mark.heavy] if name in LARGE else []) for name in ZOO]


@pytest.fixture(params=NAMES, scope="module")
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param
    _built.cache_clear()  # VGG-16 is half a gigabyte


@pytest.fixture
def trunk(name: str) -> Iterator[Trunk]:
    built = _built(name)
    before = {key: value._version for key, value in built.state_dict().items()}
    yield built.requires_grad_(True)
    built.zero_grad()
    assert {key: value._version for key, value in built.state_dict().items()} == before


def theirs(name: str, trunk: Trunk) -> nn.Module:
    """torchvision's whole network with the trunk's weights, less its last layer."""
    from torchvision.models import get_model

    with torch.device("meta"):
        model: nn.Module = get_model(name)
    last = trunk.head_name  # type: ignore[attr-defined]
    parent, _, leaf = last.rpartition(".")
    setattr(model.get_submodule(parent), leaf, nn.Identity())
    model.load_state_dict(trunk.state_dict(), assign=True)
    return model.eval()


def pictures(size: int = 64) -> Tensor:
    return torch.randint(0, 256, (2, size, size, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def test_is_what_configurations_say(name: str, trunk: Trunk) -> None:
    info = BACKBONES[name]
    assert trunk.block_names == info.blocks
    assert sum(parameter.numel() for parameter in trunk.parameters()) == info.weights
    smallest = {d: [w.numel() for w in masks.layers(trunk, d).values()] for d in (False, True)}
    assert min(smallest[False]) == info.smallest_layer
    assert min(smallest[True]) == min(info.smallest_layer, info.smallest_depthwise or info.smallest_layer)
    assert any(isinstance(module, nn.BatchNorm2d) for module in trunk.modules()) == info.has_norm
    assert not any(module.training for module in trunk.modules())


def test_names_are_torchvisions(name: str, trunk: Trunk) -> None:
    from torchvision.models import get_model

    with torch.device("meta"):
        whole = list(get_model(name).state_dict())
    head = trunk.head_name  # type: ignore[attr-defined]
    assert [*trunk.state_dict(), f"{head}.weight", f"{head}.bias"] == whole


def test_features_are_torchvisions(name: str, trunk: Trunk) -> None:
    model = theirs(name, trunk)
    with torch.no_grad():
        for size in (64, 32, 96):
            x = trunk.normalise(pictures(size))
            features = trunk(x)
            assert features.shape == (2, trunk.width)
            assert features.isfinite().all() and features.std() > 0
            assert torch.equal(features, model(x))


def test_normalisation_is_imagenets(trunk: Trunk) -> None:
    images = pictures()
    mean, spread = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = ((images / 255 - mean) / spread).permute(0, 3, 1, 2)
    assert torch.allclose(trunk.normalise(images), expected, atol=1e-5)
    assert trunk.normalise(images).is_contiguous(memory_format=torch.channels_last)


def test_blocks_partition_parameters_and_buffers_in_order(name: str, trunk: Trunk) -> None:
    for named in (trunk.named_parameters(), trunk.state_dict().items()):
        owners = [trunk.block_of(key) for key, _ in named]
        assert owners == sorted(owners)
        assert set(owners) == set(range(len(trunk.block_names)))


def test_a_block_writes_to_nothing_and_depends_on_its_own_parameters_only(trunk: Trunk) -> None:
    x = trunk.normalise(pictures())
    for index in range(len(trunk.block_names)):
        given = x.detach().requires_grad_()
        copy, version = given.detach().clone(), given._version
        x = trunk.run_block(index, given)
        assert torch.equal(given, copy) and given._version == version
        trunk.zero_grad()
        x.sum().backward()
        assert given.grad is not None
        touched = {trunk.block_of(key) for key, parameter in trunk.named_parameters() if parameter.grad is not None}
        assert touched == {index}


def test_blocks_run_on_kept_activations(trunk: Trunk) -> None:
    x = trunk.normalise(pictures())
    with torch.no_grad():
        whole = trunk(x)
        for count in range(len(trunk.block_names) + 1):
            kept = trunk(x, last=count)
            copy = kept.clone()
            assert torch.equal(trunk(kept, first=count), whole)
            assert torch.equal(kept, copy)


def test_gradients_reach_replaced_parameters(trunk: Trunk) -> None:
    # The last block's: the others' are a matter of the same call, and VGG-16 is large.
    last = len(trunk.block_names) - 1
    replaced = {
        key: value.detach().clone().requires_grad_()
        for key, value in trunk.named_parameters()
        if trunk.block_of(key) == last
    }
    features = torch.func.functional_call(trunk, replaced, (trunk.normalise(pictures()),))
    features.square().sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in replaced.values())
    assert all(p.grad is None for key, p in trunk.named_parameters() if trunk.block_of(key) == last)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_the_seed_decides_the_weights_and_global_draws_are_left_alone(name: str) -> None:
    before = torch.get_rng_state()
    once, again, other = (
        backbones.build(name, "xavier", 64, torch.Generator().manual_seed(seed)).state_dict() for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, again[key]) for key, value in once.items())
    assert any(not torch.equal(value, other[key]) for key, value in once.items())


# --- files of weights -------------------------------------------------------------------------------------------------


def weights(name: str, seed: int = 2) -> dict[str, Any]:
    """A whole network of torchvision's, as its file holds it."""
    from torchvision.models import get_model

    with torch.device("meta"):  # its own start takes seconds
        shapes = get_model(name).state_dict()
    draw = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(value.shape, generator=draw) if value.is_floating_point() else torch.zeros(value.shape).long()
        for key, value in shapes.items()
    }


def pretrained(name: str, path: Path) -> Trunk:
    return backbones.build(name, "pretrained", 64, torch.Generator(), path)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121"])
def test_weights_are_read_and_the_head_is_left(name: str, tmp_path: Path) -> None:
    saved = weights(name)
    torch.save(saved, tmp_path / "weights")
    trunk = pretrained(name, tmp_path / "weights").state_dict()
    assert all(torch.equal(value, saved[key]) for key, value in trunk.items())
    assert len(trunk) == len(saved) - 2


def test_densenets_older_names_are_understood(tmp_path: Path) -> None:
    saved = weights("densenet121")
    old = {
        key.replace("norm1.", "norm.1.")
        .replace("norm2.", "norm.2.")
        .replace("conv1.", "conv.1.")
        .replace("conv2.", "conv.2.")
        if "denselayer" in key
        else key: value
        for key, value in saved.items()
        if "num_batches" not in key
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "weights")
    trunk = pretrained("densenet121", tmp_path / "weights").state_dict()
    assert all(torch.equal(value, saved[key]) for key, value in trunk.items())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(weights("mobilenet_v3_small"), tmp_path / "weights")
    with pytest.raises(RuntimeError):
        pretrained("resnet18", tmp_path / "weights")


def test_weights_are_never_unpickled(tmp_path: Path) -> None:
    torch.save({"fc.weight": Path("a thing that a pickle can make")}, tmp_path / "weights")
    with pytest.raises(Exception, match="Weights only load failed"):
        pretrained("resnet18", tmp_path / "weights")


def test_without_a_file_pretrained_is_refused() -> None:
    with pytest.raises(ValueError, match=r"weights are in resnet18-f37072fd\.pth"):
        backbones.build("resnet18", "pretrained", 64, torch.Generator())


def test_which_file_a_start_needs() -> None:
    for name in ZOO:
        file = backbones.weights_file(name, "pretrained")
        assert file is not None and file.name.endswith(f"-{file.digest}.pth") and len(file.digest) == 8
        assert backbones.weights_file(name, "kaiming") is None
    assert backbones.weights_file("efficientnet_lite0", "pretrained") is None


def test_the_files_are_those_that_torchvision_names() -> None:
    from torchvision.models import get_model_weights

    for name in ZOO:
        file = backbones.weights_file(name, "pretrained")
        first = next(iter(get_model_weights(name)))
        assert file is not None and file.url == first.url
        assert BACKBONES[name].download == round(first.meta["_file_size"] * 1.048576)


# --- in a configuration -----------------------------------------------------------------------------------------------


def test_pictures_must_be_large_enough() -> None:
    with pytest.raises(ConfigError, match="image_size is 28, but resnet18 needs at least 32 px; choose 32 to 256"):
        tiny(backbone={"name": "resnet18", "start": "kaiming", "image_size": 28})
    tiny(backbone={"name": "resnet18", "start": "kaiming", "image_size": 32})


def test_dropout_never_drops() -> None:
    run = tiny(backbone={"name": "mobilenet_v3_small", "start": "kaiming", "image_size": 32, "norm": "shared"})
    network = Network(run.backbone, 0, torch.device("cpu"))
    network.let_statistics_move(range(len(network.trunk.block_names)))
    assert any(isinstance(module, nn.Dropout) for module in network.trunk.modules())
    assert not any(module.training for module in network.trunk.modules() if isinstance(module, nn.Dropout))
