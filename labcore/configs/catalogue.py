"""The backbones that there are, as far as a configuration and the pages need to know them.

Those of the lab come first, then those that other packages announce as `reuse_lab.backbones`: each a
`labcore.configs.backbone.BackboneInfo`. The networks themselves are built by the functions that the records name. No
torch here: pages read this module.
"""

import re
from typing import TYPE_CHECKING, Any, Literal, get_args

from labcore import plugins
from labcore.configs.backbone import BackboneInfo, Start
from labcore.tasks.downloads import File

__all__ = ["BACKBONES", "BackboneInfo", "BackboneName", "Start"]


def _zoo(
    name: str,
    title: str,
    description: str,
    *,
    blocks: tuple[str, ...],
    weights: int,
    digest: str,
    download: int,
    smallest_layer: int,
    smallest_depthwise: int = 0,
    has_norm: bool = True,
    one_place: int = 32,
) -> BackboneInfo:
    """One of torchvision's networks: it has seen ImageNet, and halves a picture five times.

    `digest` is the beginning of the SHA-256 of its weights, which torchvision writes into the file's name.
    """
    return BackboneInfo(
        title=title,
        description=f"{description} It has seen 1.2 million photographs (ImageNet): a download of {download} MB.",
        builder="labcore.networks.zoo:build",
        start="pretrained",
        image_size=64,
        blocks=blocks,
        weights=weights,
        has_norm=has_norm,
        smallest_layer=smallest_layer,
        smallest_depthwise=smallest_depthwise,
        smallest_image=32,
        one_place=one_place if has_norm else 0,
        download=download,
        weights_file=File(f"https://download.pytorch.org/models/{name}-{digest}.pth", digest, "weights"),
    )


_OWN: dict[str, BackboneInfo] = {
    "efficientnet_lite0": BackboneInfo(
        title="EfficientNet-Lite0",
        description="A real phone-sized network that has already seen 1.2 million photographs (ImageNet).",
        builder="labcore.networks.lite0:build",
        start="pretrained",
        image_size=64,
        blocks=("stem", *(f"blocks.{i}" for i in range(7)), "head"),
        weights=3_371_008,
        has_norm=True,
        smallest_layer=512,
        smallest_depthwise=288,
        one_place=32,
    ),
    "small_cnn": BackboneInfo(
        title="Small CNN",
        description="Three convolutions with batch normalisation; it knows nothing yet and trains in seconds.",
        builder="labcore.networks.small:build",
        start="kaiming",
        image_size=28,
        blocks=("block1", "block2", "block3"),
        weights=93_472,
        has_norm=True,
        smallest_layer=864,
    ),
    "small_cnn_plain": BackboneInfo(
        title="Small CNN without normalisation",
        description="The same three convolutions, bare: here the start matters most.",
        builder="labcore.networks.small:build",
        start="kaiming",
        image_size=28,
        blocks=("block1", "block2", "block3"),
        weights=93_248,
        has_norm=False,
        smallest_layer=864,
    ),
    "mlp": BackboneInfo(
        title="Multilayer perceptron",
        description="Two fully connected layers over the raw pixels, the plainest network there is.",
        builder="labcore.networks.small:build",
        start="kaiming",
        image_size=28,
        blocks=("layer1", "layer2"),
        weights=317_696,
        has_norm=False,
        smallest_layer=16384,
    ),
    "resnet18": _zoo(
        "resnet18",
        "ResNet-18",
        "A residual network that suits a laptop.",
        blocks=("stem", "layer1", "layer2", "layer3", "layer4"),
        weights=11_176_512,
        digest="f37072fd",
        download=47,
        smallest_layer=8192,
    ),
    "mobilenet_v3_small": _zoo(
        "mobilenet_v3_small",
        "MobileNetV3-Small",
        "A network for phones, smaller than all others that know photographs.",
        blocks=(*(f"features.{i}" for i in range(13)), "classifier"),
        weights=1_517_856,
        digest="047dcff4",
        download=10,
        smallest_layer=128,
        smallest_depthwise=144,
    ),
    "resnet50": _zoo(
        "resnet50",
        "ResNet-50",
        "The papers' residual network, fifty layers deep.",
        blocks=("stem", "layer1", "layer2", "layer3", "layer4"),
        weights=23_508_032,
        digest="0676ba61",
        download=103,
        smallest_layer=4096,
    ),
    "densenet121": _zoo(
        "densenet121",
        "DenseNet-121",
        "The papers' network in which every layer sees all earlier ones.",
        blocks=(
            "stem",
            *(f"{part}{i}" for i in (1, 2, 3) for part in ("denseblock", "transition")),
            "denseblock4",
        ),
        weights=6_953_856,
        digest="a639ec97",
        download=32,
        smallest_layer=8192,
        one_place=60,
    ),
    "vgg16": _zoo(
        "vgg16",
        "VGG-16",
        "The papers' oldest network: thirteen convolutions, two huge layers, no normalisation.",
        blocks=("conv1", "conv2", "conv3", "conv4", "conv5", "classifier"),
        weights=134_260_544,
        digest="397923af",
        download=553,
        has_norm=False,
        smallest_layer=1728,
    ),
    "vgg16_bn": _zoo(
        "vgg16_bn",
        "VGG-16 with normalisation",
        "The same thirteen convolutions and two huge layers, with batch normalisation.",
        blocks=("conv1", "conv2", "conv3", "conv4", "conv5", "classifier"),
        weights=134_268_992,
        digest="6c64b313",
        download=554,
        smallest_layer=1728,
        one_place=0,
    ),
}


def _accepted(name: str, announced: Any) -> BackboneInfo:
    """Take what another package announces as a backbone. Raises TypeError or ValueError where it is none."""
    if not isinstance(announced, BackboneInfo):
        raise TypeError(f"it is no labcore.configs.backbone.BackboneInfo but of type {type(announced).__name__}")
    if not re.fullmatch("[a-z0-9_]+", name):
        raise ValueError("a backbone's name consists of small letters, digits and underscores")
    if not re.fullmatch(r"[\w.]+:\w+", announced.builder):
        raise ValueError(f"its builder is {announced.builder!r}, not of the form package.module:function")
    if announced.start not in get_args(Start):
        raise ValueError(f"its start is {announced.start!r}; allowed: {', '.join(get_args(Start))}")
    if not announced.blocks:
        raise ValueError("it has no blocks")
    return announced


BACKBONES: dict[str, BackboneInfo] = _OWN | plugins.load("reuse_lab.backbones", _accepted, taken=tuple(_OWN))

# A configuration refuses other names, and a form offers these; a type checker cannot know what is installed.
if TYPE_CHECKING:
    BackboneName = str
else:
    BackboneName = Literal[tuple(BACKBONES)]
