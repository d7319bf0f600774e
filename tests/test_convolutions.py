"""Convolutions that take less time give what torch's own give: values, and every gradient."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labcore.networks import backbones, convolutions
from labcore.networks.convolutions import DepthwiseConv2d, convolve_and_normalise, quicken
from labcore.networks.streams import stream
from labcore.networks.trunk import is_depthwise

CHANNELS = 6
GEOMETRIES: dict[str, dict[str, Any]] = {
    "3, padded": {"kernel_size": 3, "padding": 1},
    "5, padded": {"kernel_size": 5, "padding": 2},
    "no padding": {"kernel_size": 3},
    "valid": {"kernel_size": 3, "padding": "valid"},
    "same": {"kernel_size": 5, "padding": "same"},
    "same, of even size": {"kernel_size": 4, "padding": "same"},
    "same, of even height and odd width": {"kernel_size": (2, 3), "padding": "same", "dilation": (3, 1)},
    "stride 2": {"kernel_size": 3, "stride": 2, "padding": 1},
    "stride 3, unlike sides": {"kernel_size": (3, 5), "stride": (3, 2), "padding": (0, 2)},
    "dilated": {"kernel_size": 3, "dilation": 2, "padding": 2},
    "dilated and strided": {"kernel_size": 3, "dilation": (2, 1), "stride": 2, "padding": (3, 1)},
    "more padding than picture": {"kernel_size": 7, "padding": 6},
    "with bias": {"kernel_size": 3, "padding": 1, "bias": True},
    "two of each channel": {"kernel_size": 3, "padding": 1, "out_channels": 2 * CHANNELS, "bias": True},
}


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def depthwise(kind: type[nn.Conv2d], **geometry: Any) -> nn.Conv2d:
    torch.manual_seed(0)
    layer = kind(CHANNELS, **{"out_channels": CHANNELS, "groups": CHANNELS, "bias": False, **geometry})
    return layer.double()


def gradients(layer: Callable[[Tensor], Tensor], x: Tensor, of: list[Tensor]) -> list[Tensor]:
    x = x.detach().requires_grad_()
    z = layer(x)
    torch.manual_seed(1)
    return [z.detach(), *torch.autograd.grad(z, [x, *of], torch.randn_like(z))]


def assert_equal(found: list[Tensor], expected: list[Tensor], error: float) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert float((one - other).detach().norm()) <= error * float(other.detach().norm())


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Take the quicker ways in float64, too; gives a list that grows with each convolution taken tap by tap."""
    taken: list[str] = []
    original = convolutions._by_weight

    def watched(*args: Any) -> Tensor:
        taken.append("tap by tap")
        return original(*args)

    monkeypatch.setattr(convolutions, "_is_plain", lambda *_: True)
    monkeypatch.setattr(convolutions, "_by_weight", watched)
    return taken


# ---- depthwise ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (5, 4), (3, 5), (3, 3), (2, 1), (1, 1)])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_gradients_are_those_of_torch(name: str, size: tuple[int, int], in_float64: list[str]) -> None:
    geometry = GEOMETRIES[name]
    ours, theirs = depthwise(DepthwiseConv2d, **geometry), depthwise(nn.Conv2d, **geometry)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = drawn(3, CHANNELS, *size).to(memory_format=layout)
        try:
            expected = gradients(theirs, x, list(theirs.parameters()))
        except RuntimeError:  # the kernel is larger than the picture
            with pytest.raises(RuntimeError):
                ours(x)
            return
        in_float64.clear()
        assert_equal(gradients(ours, x, list(ours.parameters())), expected, 1e-12)
        small = all(side <= k for side, k in zip(expected[0].shape[2:], ours.kernel_size, strict=True))
        assert bool(in_float64) == small


def test_large_maps_go_the_way_of_torch(in_float64: list[str]) -> None:
    ours, theirs = (depthwise(kind, kernel_size=3, padding=1) for kind in (DepthwiseConv2d, nn.Conv2d))
    x = drawn(2, CHANNELS, 4, 4)
    assert_equal(gradients(ours, x, [ours.weight]), gradients(theirs, x, [theirs.weight]), 0)
    assert not in_float64


@pytest.mark.parametrize(("channels", "size", "kernel"), [(1152, 2, 5), (672, 4, 5), (240, 3, 3)])
def test_in_float32_as_close_as_torch(channels: int, size: int, kernel: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(32, channels, size, size).contiguous(memory_format=torch.channels_last)
    theirs = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)
    expected = gradients(theirs, x, [theirs.weight])
    quicken(theirs)
    assert type(theirs) is DepthwiseConv2d
    found = gradients(theirs, x, [theirs.weight])
    assert_equal(found, expected, 1e-6)
    assert torch.equal(found[0], expected[0])


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v3_small"])
def test_every_depthwise_layer_of_a_backbone_is_quick(name: str) -> None:
    trunk = backbones.build(name, "kaiming", 64, stream(0, "trunk"))
    kinds = {type(module) for module in trunk.modules() if is_depthwise(module)}
    assert kinds == {DepthwiseConv2d}
    assert not any(type(module) is DepthwiseConv2d for module in trunk.modules() if not is_depthwise(module))


def test_layers_of_another_kind_stay_as_they_are() -> None:
    mirrored = nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="reflect")
    grouped, dense = nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3)
    network = nn.Sequential(mirrored, grouped, dense)
    quicken(network)
    assert {type(module) for module in network} == {nn.Conv2d}


# ---- normalisation --------------------------------------------------------------------------------------------------


def normalised(**geometry: Any) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 5, 3, padding=1, **geometry).double()
    norm = nn.BatchNorm2d(5, eps=1e-3).double().eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return conv, norm


class _Seen(nn.Module):
    """Tells whether a convolution or a normalisation did its own work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.calls: list[str] = []
        original = F.batch_norm

        def watched(*args: Any, **more: Any) -> Tensor:
            self.calls.append("norm")
            return original(*args, **more)

        monkeypatch.setattr(F, "batch_norm", watched)


@pytest.mark.parametrize("bias", [False, True])
def test_normalisation_within_the_convolution(
    bias: bool, in_float64: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    conv, norm = normalised(bias=bias)
    of = [*conv.parameters(), *norm.parameters()]
    x = drawn(20, 4, 6, 6)
    expected = gradients(lambda x: norm(conv(x)), x, of)
    seen = _Seen(monkeypatch)
    assert_equal(gradients(lambda x: convolve_and_normalise(conv, norm, x), x, of), expected, 1e-12)
    assert not seen.calls


def test_where_normalisation_keeps_its_own_step(in_float64: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _Seen(monkeypatch)
    conv, norm = normalised()
    x = drawn(20, 4, 6, 6)

    def calls(x: Tensor) -> int:
        seen.calls.clear()
        expected = norm(conv(x))
        found = convolve_and_normalise(conv, norm, x)
        assert_equal([found], [expected], 1e-12)
        return len(seen.calls) - 1

    assert calls(x) == 0
    assert calls(x[:1, :, :1, :1]) == 1, "there are more weights than the map has numbers"
    heard = conv.register_forward_hook(lambda *_: None)
    assert calls(x) == 1, "somebody listens to the convolution"
    heard.remove()
    heard = norm.register_forward_pre_hook(lambda *_: None)
    assert calls(x) == 1, "somebody listens to the normalisation"
    heard.remove()
    norm.momentum = 0.0  # so that both see the same statistics
    norm.train()
    assert calls(x) == 1, "statistics are the batch's"


def test_other_numbers_go_the_way_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _Seen(monkeypatch)
    conv, norm = normalised()
    x = drawn(20, 4, 6, 6)
    convolve_and_normalise(conv, norm, x)
    assert seen.calls == ["norm"], "in float64"
    conv, norm, x = conv.float(), norm.float(), x.float()
    with torch.autocast("cpu", torch.bfloat16):
        convolve_and_normalise(conv, norm, x)
    assert seen.calls == ["norm", "norm"], "in bfloat16"
    convolve_and_normalise(conv, norm, x)
    assert seen.calls == ["norm", "norm"]


def test_the_trunk_is_the_same_with_and_without_hooks() -> None:
    """What the Fisher diagonal measures, layer by layer, is the network that training sees."""
    trunk = backbones.build("efficientnet_lite0", "pretrained", 64, stream(0, "trunk"))
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8, generator=stream(0, "pictures"))
    with torch.no_grad():
        quick = trunk(trunk.normalise(images))
        for module in trunk.modules():
            module.register_forward_hook(lambda *_: None)
        plain = trunk(trunk.normalise(images))
    assert not torch.equal(quick, plain)
    assert float((quick - plain).norm()) <= 1e-5 * float(plain.norm())
