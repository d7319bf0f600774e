"""How much of the picture a layer sees: against which pixels in truth change a place of its output."""

import pytest
import torch
from torch import Tensor, nn

from labcore.configs.catalogue import BACKBONES
from labcore.networks import backbones, receptive
from labcore.networks.trunk import Trunk


def naive(trunk: Trunk, layer: str, size: int) -> int:
    """The side of the square of pixels by which the middle place of a layer's output changes: where its gradient is."""
    kept: list[Tensor] = []
    module = trunk.get_submodule(layer)
    handle = module.register_forward_hook(lambda _module, _given, made: kept.append(made))
    picture = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).double().requires_grad_(True)
    trunk(picture)
    handle.remove()
    places = kept[0]
    middle = places[0, :, places.shape[2] // 2, places.shape[3] // 2].sum()
    (gradient,) = torch.autograd.grad(middle, picture)
    rows = gradient[0].abs().sum((0, 2)).nonzero().flatten()
    return int(rows[-1] - rows[0]) + 1


def lively(name: str) -> Trunk:
    """A network in which every way carries: a gradient that happens to be 0 would hide pixels that a place sees."""
    trunk = backbones.build(name, "kaiming", 64, torch.Generator().manual_seed(0)).double()
    for parameter in trunk.parameters():
        parameter.data = parameter.data.abs() / max(1, parameter[0].numel() if parameter.ndim > 1 else 1)
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    return trunk


@pytest.mark.parametrize(("name", "size"), [("small_cnn", 64), ("small_cnn_plain", 64), ("efficientnet_lite0", 160)])
def test_a_layer_sees_the_pixels_by_which_it_changes(name: str, size: int) -> None:
    trunk = lively(name)
    found = receptive.fields(backbones.build(name, "kaiming", size, torch.Generator()), size)
    asked = [layer for layer, side in found.items() if side <= size // 2]
    assert len(asked) >= 3
    # A pooling passes the gradient on to one of its places: there what is seen is at most what is told.
    exact = name == "efficientnet_lite0"
    for layer in asked:
        seen = naive(trunk, layer, size)
        assert seen == found[layer] if exact else 0 <= found[layer] - seen <= 2, layer


@pytest.mark.parametrize("name", [name for name, info in BACKBONES.items() if not info.download])
def test_every_layer_is_followed_and_the_last_sees_all(name: str) -> None:
    size = BACKBONES[name].image_size
    trunk = backbones.build(name, "kaiming", size, torch.Generator())
    found = receptive.fields(trunk, size)
    layers = [path for path, module in trunk.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert sorted(found) == sorted(layers)
    assert max(found.values()) == (18 if name.startswith("small") else 2 * size)


class Strange(Trunk):
    """What lies between its two layers cannot be followed."""

    block_names = ("one",)
    width = 4

    def __init__(self) -> None:
        super().__init__()
        self.owners = {"before": 0, "after": 0}
        self.before, self.after = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def run_block(self, index: int, x: Tensor) -> Tensor:
        return self.after(torch.flip(self.before(x), (2,))).mean((2, 3))  # type: ignore[no-any-return]


def test_nothing_is_said_behind_what_cannot_be_followed() -> None:
    assert receptive.fields(Strange(), 16) == {"before": 3}
