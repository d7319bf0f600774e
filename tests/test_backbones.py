import pytest
import torch
from sklearn.datasets import load_sample_image
from torch.nn import functional

from labcore import backbones
from labcore.configs import BACKBONES
from labcore.streams import stream


@pytest.mark.parametrize(("file", "imagenet_class"), [("flower.jpg", 985), ("china.jpg", 698)])
def test_pretrained_lite0_knows_a_daisy_and_a_palace(file: str, imagenet_class: int) -> None:
    photo = torch.from_numpy(load_sample_image(file).copy()).permute(2, 0, 1)[None].float()
    side = min(photo.shape[2:])
    top, left = (photo.shape[2] - side) // 2, (photo.shape[3] - side) // 2
    square = functional.interpolate(photo[:, :, top : top + side, left : left + side], (224, 224), mode="area")
    trunk = backbones.build("efficientnet_lite0", "pretrained", 224, stream(0)).eval()
    with torch.no_grad():
        logits = backbones.imagenet_head()(trunk(trunk.normalise(square.round().byte().permute(0, 2, 3, 1))))
    assert logits.argmax().item() == imagenet_class


@pytest.mark.parametrize("name", BACKBONES)
def test_what_configurations_say_of_a_backbone_is_so(name: str) -> None:
    info = BACKBONES[name]
    trunk = backbones.build(name, info.start, info.image_size, stream(0)).eval()
    assert trunk.block_names == info.blocks
    assert sum(p.numel() for p in trunk.parameters()) == info.weights
    assert info.has_norm == any(isinstance(m, torch.nn.BatchNorm2d) for m in trunk.modules())
    images = torch.zeros(2, info.image_size, info.image_size, 1, dtype=torch.uint8)
    assert trunk(trunk.normalise(images)).shape == (2, trunk.features)


@pytest.mark.parametrize("name", BACKBONES)
def test_blocks_follow_each_other(name: str) -> None:
    size = BACKBONES[name].image_size
    trunk = backbones.build(name, "kaiming", size, stream(0)).eval()
    order = [trunk.block_of(parameter) for parameter, _ in trunk.named_parameters()]
    assert order == sorted(order)
    assert set(order) == set(range(len(trunk.block_names)))
    x = torch.randn(2, 3, size, size, generator=stream(1))
    with torch.no_grad():
        whole = trunk(x)
        for cut in range(len(trunk.block_names) + 1):
            assert torch.equal(trunk(trunk(x, 0, cut), cut), whole)


@pytest.mark.parametrize("start", ["kaiming", "xavier", "far"])
@pytest.mark.parametrize("name", BACKBONES)
def test_random_starts_come_from_their_stream_alone(name: str, start: str) -> None:
    size = BACKBONES[name].image_size
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = backbones.build(name, start, size, stream(1)).state_dict()
    assert torch.equal(torch.rand(3), expected)
    second, other = (backbones.build(name, start, size, stream(seed)).state_dict() for seed in (1, 2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_far_is_far_and_kaiming_is_near() -> None:
    far, near, between = (
        backbones.build("small_cnn", start, 28, stream(0)).state_dict()["block3.conv.weight"].std().item()
        for start in ("far", "kaiming", "xavier")
    )
    assert far == pytest.approx(1, abs=0.02)
    assert near == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    assert between == pytest.approx((2 / (64 * 9 + 128 * 9)) ** 0.5, rel=0.05)


def test_pretrained_needs_weights() -> None:
    with pytest.raises(ValueError, match="small_cnn has no trained weights"):
        backbones.build("small_cnn", "pretrained", 28, stream(0))


def test_weights_that_do_not_fit_are_refused() -> None:
    trunk = backbones.build("efficientnet_lite0", "kaiming", 64, stream(0)).state_dict()
    with pytest.raises(RuntimeError, match="294 tensors|tensors"):
        backbones._lite0_weights(dict(list(trunk.items())[:-1]))
    trunk["conv_stem.weight"] = torch.zeros(1)
    with pytest.raises(RuntimeError, match=r"conv_stem\.weight"):
        backbones._lite0_weights(trunk)


def test_grey_becomes_three_equal_channels() -> None:
    trunk = backbones.build("efficientnet_lite0", "kaiming", 64, stream(0))
    images = torch.randint(0, 256, (2, 8, 8, 1), dtype=torch.uint8)
    x = trunk.normalise(images)
    assert torch.equal(x, ((images.float() - 127) / 128).permute(0, 3, 1, 2).expand(2, 3, 8, 8))
    assert x.is_contiguous(memory_format=torch.channels_last)
