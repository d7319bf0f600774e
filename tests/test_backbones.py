"""Backbones: their blocks, their starts, the ImageNet weights, and torchvision beside a CPU-only torch."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from labcore.configs.catalogue import BACKBONES
from labcore.networks import backbones, convolutions, lite0, masks
from labcore.networks.trunk import Trunk, is_depthwise
from tests.conftest import in_fresh_process

EMBEDDED = [name for name, info in BACKBONES.items() if not info.download]  # the others: test_zoo.py
PAIRS = [
    (name, start)
    for name in EMBEDDED
    for start in ("pretrained", "kaiming", "xavier", "far")
    if start != "pretrained" or name == "efficientnet_lite0"
]


def build(name: str, start: str = "kaiming", seed: int = 0) -> Trunk:
    return backbones.build(name, start, BACKBONES[name].image_size, torch.Generator().manual_seed(seed))


def pictures(name: str, count: int = 2) -> Tensor:
    size = BACKBONES[name].image_size
    draw = torch.randint(0, 256, (count, size, size, 3), generator=torch.Generator().manual_seed(1))
    return draw.to(torch.uint8)


def layers(trunk: Trunk) -> list[nn.Conv2d | nn.Linear]:
    return [module for module in trunk.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


# --- every backbone ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "start"), PAIRS)
def test_builds_and_forwards(name: str, start: str) -> None:
    trunk = build(name, start)
    features = trunk(trunk.normalise(pictures(name)))
    assert features.shape == (2, trunk.width)
    assert features.isfinite().all()
    assert not trunk.training
    assert all(value.is_contiguous() and value.device.type == "cpu" for value in trunk.state_dict().values())


@pytest.mark.parametrize("name", EMBEDDED)
def test_is_what_configurations_say(name: str) -> None:
    trunk, info = build(name), BACKBONES[name]
    assert trunk.block_names == info.blocks
    assert sum(parameter.numel() for parameter in trunk.parameters()) == info.weights
    smallest = {d: [w.numel() for w in masks.layers(trunk, d).values()] for d in (False, True)}
    assert min(smallest[False]) == info.smallest_layer
    assert min(smallest[True]) == min(info.smallest_layer, info.smallest_depthwise or info.smallest_layer)
    assert any(isinstance(module, nn.BatchNorm2d) for module in trunk.modules()) == info.has_norm


@pytest.mark.parametrize("name", EMBEDDED)
def test_blocks_partition_parameters_and_buffers_in_order(name: str) -> None:
    trunk = build(name)
    for named in (trunk.named_parameters(), trunk.state_dict().items()):
        owners = [trunk.block_of(key) for key, _ in named]
        assert owners == sorted(owners)
        assert set(owners) == set(range(len(trunk.block_names)))


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_block_depends_on_its_own_parameters_only(name: str) -> None:
    trunk = build(name)
    x = trunk.normalise(pictures(name))
    for index in range(len(trunk.block_names)):
        x = trunk.run_block(index, x.detach())
        trunk.zero_grad()
        x.sum().backward()
        touched = {trunk.block_of(key) for key, parameter in trunk.named_parameters() if parameter.grad is not None}
        assert touched == {index}


def test_block_of_an_unknown_name_says_so() -> None:
    with pytest.raises(KeyError, match="belongs to no block"):
        build("small_cnn").block_of("block11.conv.weight")


@pytest.mark.parametrize("name", EMBEDDED)
def test_blocks_run_on_kept_activations(name: str) -> None:
    trunk = build(name)
    x = trunk.normalise(pictures(name))
    with torch.no_grad():
        whole = trunk(x)
        for count in range(len(trunk.block_names) + 1):
            kept = trunk(x, last=count)
            copy = kept.clone()
            assert torch.equal(trunk(kept, first=count), whole)
            assert torch.equal(kept, copy), "a block wrote to its input"
    assert torch.equal(x, trunk.normalise(pictures(name)))


@pytest.mark.parametrize(("first", "last"), [(-1, None), (0, 4), (2, 1)])
def test_blocks_that_are_not_there(first: int, last: int | None) -> None:
    trunk = build("small_cnn")
    with pytest.raises(IndexError, match="there are 3"):
        trunk(torch.zeros(1, 3, 28, 28), first, last)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", EMBEDDED)
def test_gradients_reach_replaced_parameters(name: str, training: bool) -> None:
    trunk = build(name).train(training)
    own = {key: value.detach().clone() for key, value in trunk.state_dict().items()}
    replaced = {key: value.detach().clone().requires_grad_() for key, value in trunk.named_parameters()}
    statistics = {key: value.clone() for key, value in trunk.named_buffers()}
    features = torch.func.functional_call(trunk, {**replaced, **statistics}, (trunk.normalise(pictures(name)),))
    features.square().sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in replaced.values())
    assert all(parameter.grad is None for parameter in trunk.parameters())
    assert all(torch.equal(value, own[key]) for key, value in trunk.state_dict().items())


def test_small_cnn_has_about_a_hundred_thousand_weights() -> None:
    assert sum(layer.weight.numel() for layer in layers(build("small_cnn"))) == 93_024


def test_depthwise_layers() -> None:
    trunk = build("efficientnet_lite0")
    found = [key for key, module in trunk.named_modules() if is_depthwise(module)]
    assert len(found) == 16
    assert all(key.endswith("conv_dw") for key in found)
    assert not any(is_depthwise(module) for module in build("small_cnn").modules())
    assert not is_depthwise(nn.Conv2d(1, 8, 3))


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_normalise_values() -> None:
    images = torch.tensor([0, 127, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    assert build("efficientnet_lite0").normalise(images).flatten().tolist() == [-127 / 128, 0, 1]
    for name in ("small_cnn", "small_cnn_plain", "mlp"):
        assert build(name).normalise(images).flatten().tolist() == [-127.5 / 64, -0.5 / 64, 127.5 / 64]


def test_normalise_puts_channels_first_in_channels_last_memory() -> None:
    images = pictures("small_cnn", 5)
    x = build("small_cnn").normalise(images)
    assert x.shape == (5, 3, 28, 28)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert x[4, 2, 3, 7] == (float(images[4, 3, 7, 2]) - 127.5) / 64


def test_normalise_repeats_grey() -> None:
    grey = pictures("small_cnn", 5)[..., :1]
    trunk = build("small_cnn")
    x = trunk.normalise(grey)
    assert torch.equal(x, trunk.normalise(grey.repeat(1, 1, 1, 3)))
    assert x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("images", [torch.zeros(1, 8, 8, 3), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)])
def test_normalise_refuses_what_is_no_stored_picture(images: Tensor) -> None:
    with pytest.raises(ValueError, match="pictures are uint8"):
        build("small_cnn").normalise(images)


# --- starts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EMBEDDED)
@pytest.mark.parametrize("start", ["kaiming", "xavier", "far"])
def test_size_of_the_start(name: str, start: str) -> None:
    for layer in layers(build(name, start)):
        if layer.weight.numel() < 500:  # too few draws to measure
            continue
        groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
        area = layer.weight[0, 0].numel()
        fan_in, fan_out = layer.weight.shape[1] * area, layer.weight.shape[0] // groups * area
        expected = {"far": 1.0, "kaiming": math.sqrt(2 / fan_in), "xavier": math.sqrt(2 / (fan_in + fan_out))}
        assert layer.weight.std().item() == pytest.approx(expected[start], rel=0.15)
        assert abs(layer.weight.mean().item()) < 0.2 * expected[start]


@pytest.mark.parametrize("name", EMBEDDED)
@pytest.mark.parametrize("start", ["kaiming", "xavier", "far"])
def test_biases_and_normalisation_start_as_new(name: str, start: str) -> None:
    trunk = build(name, start)
    assert all(layer.bias is None or not layer.bias.any() for layer in layers(trunk))
    for norm in (module for module in trunk.modules() if isinstance(module, nn.BatchNorm2d)):
        assert norm.running_mean is not None and norm.running_var is not None
        assert torch.equal(norm.weight, torch.ones_like(norm.weight)) and not norm.bias.any()
        assert torch.equal(norm.running_var, torch.ones_like(norm.running_var)) and not norm.running_mean.any()
        assert norm.num_batches_tracked == 0


@pytest.mark.parametrize(("name", "start"), PAIRS)
def test_the_seed_decides_the_weights(name: str, start: str) -> None:
    torch.manual_seed(5)
    once = build(name, start, seed=3).state_dict()
    torch.manual_seed(6)
    again = build(name, start, seed=3).state_dict()
    other = build(name, start, seed=4).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in once.items())
    assert all(torch.equal(value, other[key]) for key, value in once.items()) == (start == "pretrained")


@pytest.mark.parametrize(("name", "start"), PAIRS)
def test_global_draws_are_left_alone(name: str, start: str) -> None:
    before = torch.get_rng_state()
    build(name, start)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["small_cnn", "small_cnn_plain", "mlp"])
def test_pretrained_is_refused_where_there_are_no_weights(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} has no pretrained weights; start it from kaiming, xavier or far$"):
        build(name, "pretrained")


def test_unknown_names_are_refused() -> None:
    generator = torch.Generator()
    with pytest.raises(ValueError, match="no backbone is called vgg"):
        backbones.build("vgg", "kaiming", 28, generator)
    with pytest.raises(ValueError, match="no start is called warm"):
        backbones.build("mlp", "warm", 28, generator)


# --- the ImageNet weights ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "label"), [("flower.jpg", 985), ("china.jpg", 698)])
def test_knows_photographs(file: str, label: int) -> None:
    from sklearn.datasets import load_sample_image  # takes a second and a half

    photo = Image.fromarray(load_sample_image(file))
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    photo = photo.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    trunk = backbones.build("efficientnet_lite0", "pretrained", 224, torch.Generator())
    *_, weight, bias = lite0.imagenet_weights().values()
    with torch.no_grad():
        scores = F.linear(trunk(trunk.normalise(torch.from_numpy(np.array(photo))[None])), weight, bias)
    assert scores.argmax().item() == label


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [32, 33])  # what is missing at the edges of strided layers depends on it
def test_lite0_is_timms(size: int, training: bool, quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names in order, features, gradients and statistics: bit for bit, or nearly so where convolutions are quicker."""
    import timm

    if not quick:
        monkeypatch.setattr(convolutions, "_is_plain", lambda *_: False)

    def same(ours: Tensor, theirs: Tensor, rounding: float = 1e-4) -> bool:
        if not quick:
            return torch.equal(ours, theirs)
        return float((ours - theirs).detach().norm()) <= rounding * float(theirs.detach().norm())

    own = build("efficientnet_lite0", "pretrained", size).train(training)
    timms = timm.create_model("tf_efficientnet_lite0", num_classes=0).train(training)
    assert list(own.state_dict()) == list(timms.state_dict())
    assert [name for name, _ in own.named_parameters()] == [name for name, _ in timms.named_parameters()]
    timms.load_state_dict(own.state_dict())
    torch.manual_seed(0)
    images = own.normalise(torch.randint(0, 256, (4, size, size, 3), dtype=torch.uint8))
    for features in (own(images), timms(images)):
        (features * torch.linspace(-1, 1, own.width)).sum().backward()
    assert same(own(images), timms(images))
    for ours, theirs in zip(own.parameters(), timms.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert same(ours.grad, theirs.grad, 1e-2)  # a ReLU may fall to either side of its kink; mostly it is 2e-6
    for name, value in own.state_dict().items():
        assert same(value.double(), timms.state_dict()[name].double()), name


def test_weights_in_order_are_loaded_whatever_their_names() -> None:
    layer = nn.Linear(3, 2)
    lite0.load_by_position(layer, {"w": torch.ones(2, 3), "b": torch.zeros(2)})
    assert layer.weight.tolist() == [[1, 1, 1], [1, 1, 1]]


def test_weights_of_another_network_are_refused_and_change_nothing() -> None:
    layer = nn.Linear(3, 2)
    before = layer.weight.detach().clone()
    with pytest.raises(RuntimeError, match="holds 1 tensors, the network 2"):
        lite0.load_by_position(layer, {"w": torch.ones(2, 3)})
    with pytest.raises(RuntimeError, match=r"b has shape \[3\], the network's bias in the same place \[2\]"):
        lite0.load_by_position(layer, {"w": torch.ones(2, 3), "b": torch.zeros(3)})
    assert torch.equal(layer.weight, before)


# --- imports ----------------------------------------------------------------------------------------------------------


def test_torchvision_can_be_imported_after_it_failed() -> None:
    in_fresh_process(
        "import torch\n"
        "try:\n    import torchvision\n"
        "except RuntimeError: pass\n"
        "import labcore.networks.backbones, torchvision; torchvision.models.resnet18()"
    )


def test_own_networks_import_only_what_they_need_and_torchvision_can_be_imported_afterwards() -> None:
    """torchvision and timm bring torch's compiler, and a person would wait for it before a run's first point."""
    in_fresh_process(
        "import sys, torch, labcore.networks.backbones as backbones\n"
        "for name in ('small_cnn', 'efficientnet_lite0'):\n"
        "    backbones.build(name, 'kaiming', 28, torch.Generator())\n"
        "assert not {'torchvision', 'timm', 'torch._dynamo', 'streamlit'} & set(sys.modules)\n"
        "import torchvision\n"
        "torchvision.models.resnet18()\n"
        "import torchvision.transforms.v2"
    )
