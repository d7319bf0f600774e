"""The Fisher diagonal against its definition, an image at a time, and against numbers worked out by hand."""

import logging
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labcore.networks import backbones
from labcore.networks.fisher import Kind, fisher_diagonal, fisher_diagonal_by_image
from labcore.training import hardware

KINDS: tuple[Kind, ...] = ("sampled", "empirical", "exact")
EXACT_ENOUGH = {torch.float64: 1e-6, torch.float32: 5e-3}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def definition(model: nn.Module, images: Tensor, kind: Kind, labels: Tensor | None = None) -> dict[str, Tensor]:
    """Mean over images of the (expected) squared gradients of log p(y|x), as it is written in the paper."""
    model.eval().requires_grad_(True)
    names = dict(model.named_parameters())
    found = {name: torch.zeros_like(parameter) for name, parameter in names.items()}
    draws = torch.rand(len(images), generator=seeded(), dtype=torch.float64)
    for index in range(len(images)):
        log_p = F.log_softmax(model(images[index : index + 1]), 1)[0]
        p = log_p.detach().exp()
        if kind == "exact":
            weights = dict(enumerate(p.tolist()))
        elif kind == "empirical":
            assert labels is not None
            weights = {int(labels[index]): 1.0}
        else:
            weights = {int((p.double().cumsum(0) <= draws[index]).sum()): 1.0}
        for y, weight in weights.items():
            gradients = torch.autograd.grad(log_p[y], list(names.values()), retain_graph=True, allow_unused=True)
            for name, gradient in zip(names, gradients, strict=True):
                if gradient is not None:
                    found[name] = found[name] + weight * gradient.detach() ** 2 / len(images)
    return {name: value.detach() for name, value in found.items()}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], error: float) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape and found[name].dtype == value.dtype and (found[name] >= 0).all()
        assert (found[name] - value).norm() <= error * value.norm(), name


def check(
    model: nn.Module, images: Tensor, kinds: tuple[Kind, ...] = KINDS, by_image: bool = True, classes: int = 3
) -> None:
    """By layers, without falling back, and by images: both are the definition."""
    labels = torch.arange(len(images)) % classes
    for kind in kinds:
        expected = definition(model, images, kind, labels)
        assert all(value.norm() > 0 for value in expected.values())
        error = EXACT_ENOUGH[images.dtype]
        assert_close(quietly(model, images, labels, kind), expected, error)
        if by_image:
            assert_close(fisher_diagonal_by_image(model, images, labels, kind, seeded()), expected, error)


def quietly(model: nn.Module, images: Tensor, labels: Tensor | None, kind: Kind, **more: Any) -> dict[str, Tensor]:
    """The Fisher diagonal, which must not have fallen back to single images."""
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("labcore.networks.fisher")
    logger.addHandler(handler)
    try:
        found = fisher_diagonal(model, images, labels, kind, seeded(), **more)
    finally:
        logger.removeHandler(handler)
    assert not records
    return found


def classifier(name: str, size: int, dtype: torch.dtype, start: str = "kaiming", classes: int = 3) -> nn.Module:
    trunk = backbones.build(name, start, size, seeded(1))
    head = nn.Linear(trunk.width, classes)
    for module in trunk.modules():  # as after some training
        if isinstance(module, nn.BatchNorm2d) and start != "pretrained":
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.bias, std=0.3)
    return nn.Sequential(trunk, head).to(dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]


def pictures(count: int, size: int, dtype: torch.dtype = torch.float64, channels: int = 3) -> Tensor:
    images = torch.randn(count, channels, size, size, generator=seeded(2), dtype=dtype)
    return images.contiguous(memory_format=torch.channels_last)


# --- backbones --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["small_cnn", "small_cnn_plain", "mlp"])
def test_small_networks(name: str, dtype: torch.dtype) -> None:
    check(classifier(name, 28, dtype), pictures(5, 28, dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", ["sampled", "exact"])
def test_resnet18(kind: Kind, dtype: torch.dtype) -> None:
    check(classifier("resnet18", 32, dtype), pictures(3, 32, dtype), (kind,), by_image=False)


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        (torch.float64, 64),
        *(
            pytest.param(*case, marks=pytest.mark.heavy)
            for case in ((torch.float64, 32), (torch.float32, 32), (torch.float32, 64))
        ),
    ],
)
def test_efficientnet_with_its_weights(dtype: torch.dtype, size: int) -> None:
    model = classifier("efficientnet_lite0", size, dtype, "pretrained")
    check(model, pictures(3, size, dtype), KINDS if size == 32 else ("empirical",), by_image=False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["small_cnn", "resnet18", "efficientnet_lite0"])
def test_on_a_gpu(name: str, dtype: torch.dtype) -> None:
    hardware.prepare()
    model, images = classifier(name, 32, dtype).cuda(), pictures(3, 32, dtype).cuda()
    check(model, images, by_image=name == "small_cnn")


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "densenet121"])
def test_other_backbones_do_not_fall_back(name: str) -> None:
    check(classifier(name, 32, torch.float64), pictures(2, 32), ("sampled",), by_image=False)


# --- layers -----------------------------------------------------------------------------------------------------------


def behind(layer: nn.Module, channels: int) -> nn.Module:
    """A classifier in which a layer stands between two others and an activation that works in place."""
    rest = (nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(channels * 4, 3))
    return nn.Sequential(nn.Conv2d(3, 8, 1), layer, *rest).double()


CONVOLUTIONS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.Conv2d(8, 12, 3, padding=1),
    "strided": lambda: nn.Conv2d(8, 12, (3, 2), stride=(2, 3), padding=(0, 2)),
    "dilated": lambda: nn.Conv2d(8, 12, 3, padding=2, dilation=(2, 1)),
    "1x1": lambda: nn.Conv2d(8, 12, 1, bias=False),
    "1x1, strided": lambda: nn.Conv2d(8, 12, 1, stride=2),
    "1x1, padded": lambda: nn.Conv2d(8, 12, 1, padding=1),
    "one place": lambda: nn.Conv2d(8, 12, 9),
    "same": lambda: nn.Conv2d(8, 12, (4, 3), padding="same", dilation=(1, 2)),
    "valid": lambda: nn.Conv2d(8, 12, 3, padding="valid"),
    "grouped": lambda: nn.Conv2d(8, 12, 3, groups=4, padding=1),
    "grouped 1x1": lambda: nn.Conv2d(8, 12, 1, groups=2, stride=2),
    "depthwise": lambda: nn.Conv2d(8, 8, 5, groups=8, stride=2, padding=2),
    "depthwise, two of each": lambda: nn.Conv2d(8, 16, 3, groups=8, dilation=2),
}


@pytest.mark.parametrize("size", [9, 10])
@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_convolutions(name: str, size: int, layout: torch.memory_format) -> None:
    layer = CONVOLUTIONS[name]()
    model = behind(layer, layer.out_channels).to(memory_format=layout)  # type: ignore[call-overload, arg-type]
    check(model, pictures(4, size).contiguous(memory_format=layout), ("empirical",), by_image=False)


def test_slices_of_a_layer_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labcore.networks.squared_gradients.SLICE_NUMBERS", 1500)
    monkeypatch.setattr("labcore.networks.squared_gradients.TAP_NUMBERS", 1500)
    for name in ("plain", "depthwise", "grouped"):
        layer = CONVOLUTIONS[name]()
        check(behind(layer, layer.out_channels), pictures(5, 9), ("empirical",))  # type: ignore[arg-type]


def test_linear_on_rows_with_an_activation_in_place() -> None:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Linear(6, 7), nn.Linear(7, 5, bias=False), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:  # [N, 4, 2, 6]
            return self.last(self.second(F.relu_(self.first(input=x))).flatten(1, 2).mean(1))  # type: ignore[no-any-return]

    check(Mixer().double(), torch.randn(4, 4, 2, 6, dtype=torch.float64))


@pytest.mark.parametrize("places", [(), (5,)])
def test_normalisation_of_rows(places: tuple[int, ...]) -> None:
    norm = nn.BatchNorm1d(6)
    nn.init.normal_(norm.running_mean)
    model = nn.Sequential(norm, nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(6 * math.prod(places), 3)).double()
    check(model, torch.randn(4, 6, *places, dtype=torch.float64))


def test_normalisation_with_large_means_in_single_precision() -> None:
    norm = nn.BatchNorm2d(3)
    nn.init.constant_(norm.running_mean, 1000.0)
    model = nn.Sequential(norm, nn.Flatten(), nn.Linear(3 * 16, 3))
    check(model, pictures(4, 4, torch.float32) + 1000, ("exact",))


def test_residual_sums_and_in_place_activations() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu_(self.stem(x))
            y = self.norm(self.conv(x))
            y += x
            return self.head(F.relu6(y, inplace=True).mean((2, 3)))  # type: ignore[no-any-return]

    check(Residual().double(), pictures(4, 8))


# --- definition -------------------------------------------------------------------------------------------------------


def test_logistic_by_hand() -> None:
    # z = (w₀ x, w₁ x) with w₀ = log 3, w₁ = 0: at x = 1, p = (3/4, 1/4); at x = 2, p = (9/10, 1/10).
    # ∂ log p(y) / ∂w₀ = x (1[y = 0] − p₀), and ∂w₁ is its negative.
    model = nn.Linear(1, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[math.log(3)], [0.0]]))
    x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)

    def both(kind: Kind, labels: Tensor | None = None) -> list[float]:
        return fisher_diagonal(model, x, labels, kind)["weight"].flatten().tolist()

    exact = (3 / 4 * 1 / 4 + 4 * 9 / 10 * 1 / 10) / 2  # x² p₀ p₁
    empirical = ((1 / 4) ** 2 + 4 * (9 / 10) ** 2) / 2  # labels 0 and 1
    assert both("exact") == pytest.approx([exact] * 2)
    assert both("empirical", torch.tensor([0, 1])) == pytest.approx([empirical] * 2)


def test_mean_of_draws_is_the_expectation() -> None:
    model = nn.Linear(2, 3).double()
    x = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    exact = fisher_diagonal(model, x, kind="exact")
    sampled = fisher_diagonal(model, x.expand(20_000, 2), kind="sampled", generator=seeded())
    for name, value in exact.items():
        assert torch.allclose(sampled[name], value, rtol=0.05)


def test_it_is_not_the_square_of_the_batch_gradient() -> None:
    model = nn.Linear(2, 2).double()
    images = torch.randn(64, 2, dtype=torch.float64)
    labels = torch.arange(64) % 2
    F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
    assert model.weight.grad is not None
    assert fisher_diagonal(model, images, labels, "empirical")["weight"].sum() > 5 * model.weight.grad.square().sum()


def test_draws_depend_on_the_generator_alone() -> None:
    model, images = classifier("small_cnn", 16, torch.float64), pictures(9, 16)
    once = fisher_diagonal(model, images, generator=seeded(3))
    state = torch.get_rng_state()
    again = fisher_diagonal(model, images, generator=seeded(3))
    assert torch.equal(torch.get_rng_state(), state)
    other = fisher_diagonal(model, images, generator=seeded(4))
    assert all(torch.equal(value, again[name]) for name, value in once.items())
    assert any(not torch.equal(value, other[name]) for name, value in once.items())


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_do_not_matter(kind: Kind) -> None:
    model, images, labels = classifier("small_cnn", 16, torch.float64), pictures(7, 16), torch.arange(7) % 3
    whole = quietly(model, images, labels, kind)
    for chunk in (1, 3, 7, 100):
        assert_close(quietly(model, images, labels, kind, chunk=chunk), whole, 1e-12)


# --- which parameters -------------------------------------------------------------------------------------------------


def test_names_restrict_what_is_measured() -> None:
    model, images = classifier("small_cnn", 16, torch.float64), pictures(4, 16)
    whole = quietly(model, images, None, "sampled")
    for names in (["0.block2.conv.weight", "0.block3.norm.bias"], ["1.bias"], ["0.block1.norm.weight"], []):
        assert_close(quietly(model, images, None, "sampled", names=names), {n: whole[n] for n in names}, 1e-12)
    with pytest.raises(KeyError, match="no parameter body"):
        fisher_diagonal(model, images, names=["body"])


def test_parameters_that_do_not_matter_have_none() -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.heads = nn.Linear(4, 5), nn.ModuleList([nn.Linear(5, 3), nn.Linear(5, 3)])
            self.scale = nn.Parameter(torch.ones(()))  # of nobody

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.heads[1](self.trunk(x))
            return self.heads[0](self.trunk(x).relu_())  # type: ignore[no-any-return]

    model, images = TwoHeads().double(), torch.randn(5, 4, dtype=torch.float64)
    found = quietly(model, images, None, "sampled")
    assert_close(found, definition(model, images, "sampled"), 1e-12)
    for name in ("heads.1.weight", "heads.1.bias", "scale"):
        assert not found[name].any()


def test_without_any_dependence_all_is_zero() -> None:
    class Constant(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return x

    found = fisher_diagonal(Constant(3, 3), torch.randn(4, 3))
    assert list(found) == ["weight", "bias"] and not any(value.any() for value in found.values())


def test_frozen_parameters_count() -> None:
    model, images = classifier("small_cnn", 16, torch.float64), pictures(3, 16)
    whole = quietly(model, images, None, "exact")
    assert_close(quietly(model.requires_grad_(False), images, None, "exact"), whole, 0)


# --- overlays ---------------------------------------------------------------------------------------------------------


class Overlaid(nn.Module):
    """A trunk some of whose tensors are replaced, as `labcore.networks.network` does for a task's own normalisation."""

    def __init__(self, trunk: nn.Module, width: int, overlay: Callable[[nn.Module], dict[str, Tensor]]) -> None:
        super().__init__()
        self.trunk, self.head, self.overlay = trunk, nn.Linear(width, 3), overlay
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.func.functional_call(self.trunk, self.overlay(self.trunk), (x,)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["small_cnn", "efficientnet_lite0"])
@pytest.mark.parametrize("statistics", [False, True])
def test_overlay_of_a_tasks_own_normalisation(name: str, statistics: bool) -> None:
    trunk = backbones.build(name, "kaiming", 32, seeded(1)).double()
    norms = [path for path, module in trunk.named_modules() if isinstance(module, nn.BatchNorm2d)]
    own: dict[str, Tensor] = {}
    for path in norms:
        like = trunk.get_parameter(f"{path}.weight")
        own[f"{path}.weight"] = nn.Parameter(torch.rand_like(like) + 0.5)
        own[f"{path}.bias"] = nn.Parameter(torch.randn_like(like) * 0.3)
        if statistics:
            own[f"{path}.running_mean"] = torch.randn_like(like).detach() * 0.3
            own[f"{path}.running_var"] = torch.rand_like(like).detach() + 0.5
    model, images = Overlaid(trunk, trunk.width, lambda _: own), pictures(3, 32)
    found = quietly(model, images, None, "sampled")
    assert_close(found, definition(model, images, "sampled"), 1e-6)
    assert not any(found[f"trunk.{key}"].any() for key in own if f"trunk.{key}" in found)
    assert all(value.grad is None for value in own.values())


def test_overlay_of_statistics_alone() -> None:
    trunk = backbones.build("small_cnn", "kaiming", 16, seeded(1))
    own = {n: b.double() * 0.5 + 0.3 for n, b in trunk.named_buffers() if "num" not in n}
    check(Overlaid(trunk, trunk.width, lambda _: own), pictures(3, 16))


def test_overlay_that_depends_on_what_it_replaces(caplog: pytest.LogCaptureFixture) -> None:
    trunk = backbones.build("small_cnn", "kaiming", 16, seeded(1))
    name = "block2.conv.weight"
    mask = torch.rand_like(trunk.get_parameter(name)).round().double()
    model = Overlaid(trunk, trunk.width, lambda trunk: {name: trunk.get_parameter(name) * mask})
    images = pictures(3, 16)
    found = fisher_diagonal(model, images, generator=seeded())
    assert_close(found, definition(model, images, "sampled"), 1e-6)
    assert name in caplog.text


# --- what no rule covers ----------------------------------------------------------------------------------------------


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.layer(x).tanh()).tanh())  # type: ignore[no-any-return]


class Tied(Shared):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(4, 4)
        self.other.weight = self.layer.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.other(self.layer(x).tanh()).tanh())  # type: ignore[no-any-return]


class Borrowed(Shared):
    """A layer's weight is used once by the layer and once by somebody else."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.linear(self.layer(x).tanh(), self.layer.weight))  # type: ignore[no-any-return]


class Direct(Shared):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x * self.scale).tanh())  # type: ignore[no-any-return]


class RowsAsImages(Shared):
    """The layer takes pairs of values for images."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.repeat(1, 2).view(-1, 4)).tanh().view(len(x), 2, 4).sum(1))  # type: ignore[no-any-return]


class Doubled(nn.Linear):
    """A subclass with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


UNKNOWN: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "used twice": (Shared, "layer is used twice"),
    "tied": (Tied, "layer.weight"),
    "borrowed": (Borrowed, "layer.weight"),
    "direct": (Direct, "scale"),
    "rows as images": (RowsAsImages, "layer gets"),
    "layer norm": (lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 3)), "1.weight"),
    "subclass": (lambda: nn.Sequential(Doubled(4, 4), nn.Linear(4, 3)), "0.weight"),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), "parametrizations"),
    "weight norm by hooks": (lambda: nn.utils.weight_norm(nn.Linear(4, 3)), "weight_g"),
}


@pytest.mark.parametrize("name", UNKNOWN)
@pytest.mark.parametrize("kind", KINDS)
def test_falls_back_to_single_images_and_says_why(name: str, kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    build, reason = UNKNOWN[name]
    model, images, labels = build().double(), torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 3
    found = fisher_diagonal(model, images, labels, kind, seeded(), chunk=4)
    assert_close(found, definition(model, images, kind, labels), 1e-6)
    assert len(caplog.records) == 1 and reason in caplog.text


@pytest.mark.parametrize("mode", ["reflect", "circular"])
def test_other_padding_falls_back(mode: Literal["reflect", "circular"], caplog: pytest.LogCaptureFixture) -> None:
    model, images = behind(nn.Conv2d(8, 12, 3, padding=1, padding_mode=mode), 12), pictures(3, 8)
    assert_close(fisher_diagonal(model, images, kind="exact"), definition(model, images, "exact"), 1e-6)
    assert "1.weight" in caplog.text


def test_normalisation_by_the_batch_falls_back(caplog: pytest.LogCaptureFixture) -> None:
    norm = nn.BatchNorm2d(3, track_running_stats=False)  # an image alone is normalised by itself
    model, images = nn.Sequential(norm, nn.Flatten(), nn.Linear(3 * 64, 3)).double(), pictures(3, 8)
    assert_close(fisher_diagonal(model, images, kind="exact"), definition(model, images, "exact"), 1e-6)
    assert "0 has no statistics" in caplog.text


def test_an_unknown_layer_is_no_matter_when_its_weights_are_not_wanted() -> None:
    model, images = UNKNOWN["layer norm"][0]().double(), torch.randn(6, 4, dtype=torch.float64)
    expected = definition(model, images, "sampled")
    names = ["0.weight", "0.bias", "2.weight"]
    assert_close(quietly(model, images, None, "sampled", names=names), {name: expected[name] for name in names}, 1e-6)


def test_hooks_of_others_belong_to_the_network() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    model[0].register_forward_hook(lambda module, args, output: output * 3)
    model[2].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    check(model, torch.randn(4, 4, dtype=torch.float64))


# --- what is left behind ----------------------------------------------------------------------------------------------


class Counting(nn.Module):
    """Writes to a buffer and replaces another at every call, and breaks when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(()))
        self.breaks = False

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = x.sum()
        if self.breaks:
            raise RuntimeError("broken")
        return x


def snapshot(model: nn.Module) -> list[Any]:
    hooks = [
        (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._forward_pre_hooks_with_kwargs))
        for module in model.modules()
    ]
    tensors = [(name, id(t), t.clone(), t.requires_grad) for name, t in model.state_dict(keep_vars=True).items()]
    gradients = [None if p.grad is None else (id(p.grad), p.grad.clone()) for p in model.parameters()]
    return [hooks, [module.training for module in model.modules()], tensors, gradients, torch.is_grad_enabled()]


def same(one: Any, two: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, two)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))
    return bool(one == two)


@pytest.mark.parametrize("failing", ["", "model", "labels", "rule"])
@pytest.mark.parametrize("network", ["small_cnn", "efficientnet_lite0"])
def test_the_model_is_left_as_it_was(network: str, failing: str) -> None:
    counting = Counting()
    parts: list[nn.Module] = [*classifier(network, 32, torch.float32).children()]
    if failing == "rule":
        parts.insert(1, nn.LayerNorm(parts[1].in_features))  # type: ignore[arg-type]
    model = nn.Sequential(*parts, counting)
    images = pictures(3, 32, torch.float32)
    model(images).sum().backward()
    model.train()
    parts[0].eval()
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(index % 2 == 0)
        if index % 3 == 0:
            parameter.grad = None
    before = snapshot(model)
    counting.breaks = failing == "model"
    labels = torch.tensor([0, 1, 7 if failing == "labels" else 2])
    if failing in ("model", "labels"):
        with pytest.raises((RuntimeError, ValueError), match=r"broken|a label is none"):
            fisher_diagonal(model, images, labels, "empirical")
        with pytest.raises((RuntimeError, ValueError), match=r"broken|a label is none"):
            fisher_diagonal_by_image(model, images, labels, "empirical")
    else:
        with torch.no_grad():
            fisher_diagonal(model, images, labels, "empirical")
    assert same(snapshot(model), before)


def test_the_result_holds_no_graph_and_images_get_no_gradient() -> None:
    images = pictures(2, 16).requires_grad_()
    found = fisher_diagonal(classifier("small_cnn", 16, torch.float64), images)
    assert images.grad is None and not any(value.requires_grad for value in found.values())


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"kind": "empirical"}, "needs labels"),
        ({"kind": "empirical", "labels": torch.zeros(3, dtype=torch.int64)}, "one for each of 4 images"),
        ({"kind": "empirical", "labels": torch.full((4,), 3)}, "none of the classes 0 to 2"),
        ({"kind": "true"}, "choose one of sampled, empirical, exact"),
        ({"images": torch.zeros(0, 5)}, "no images"),
        ({"chunk": 0}, "at least 1"),
    ],
)
def test_bad_input(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        fisher_diagonal(nn.Linear(5, 3), **{"images": torch.zeros(4, 5), **arguments})


def test_logits_must_be_logits() -> None:
    with pytest.raises(ValueError, match=r"logits are \[N, classes\] for 4 images, not \[4, 2, 3\]"):
        fisher_diagonal(nn.Linear(5, 3), torch.zeros(4, 2, 5))
