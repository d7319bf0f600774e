"""The backbones that there are, as far as a configuration and the pages need to know them.

The networks themselves are in labcore/networks/backbones.py. No torch here: pages read this module.
"""

from dataclasses import dataclass
from typing import Literal

BackboneName = Literal[
    "efficientnet_lite0",
    "small_cnn",
    "small_cnn_plain",
    "mlp",
    "resnet18",
    "mobilenet_v3_small",
    "resnet50",
    "densenet121",
    "vgg16",
    "vgg16_bn",
]
Start = Literal["pretrained", "kaiming", "xavier", "far"]


@dataclass(frozen=True, slots=True)
class BackboneInfo:
    """What pages and validation say about a backbone: `image_size` in px, `weights` as a count without the head.

    `download` is how many MB its trained weights are, where they do not come with the lab. `smallest_layer` is the
    number of weights of the smallest convolution or linear layer that is not depthwise, `smallest_depthwise` of the
    smallest that is (0: there is none).
    """

    title: str
    description: str
    start: Start
    image_size: int
    blocks: tuple[str, ...]
    weights: int
    has_norm: bool
    smallest_layer: int
    smallest_depthwise: int = 0
    smallest_image: int = 16
    download: int = 0

    @property
    def pretrained(self) -> bool:
        """Whether there are trained weights to start from."""
        return self.start == "pretrained"

    def smallest_prunable(self, depthwise: bool) -> int:
        """Weights of the smallest layer that may be pruned or masked, `depthwise` ones included or not."""
        return (
            min(self.smallest_layer, self.smallest_depthwise or self.smallest_layer)
            if depthwise
            else self.smallest_layer
        )


def _zoo(
    title: str,
    description: str,
    *,
    blocks: tuple[str, ...],
    weights: int,
    download: int,
    smallest_layer: int,
    smallest_depthwise: int = 0,
    has_norm: bool = True,
) -> BackboneInfo:
    """One of torchvision's networks: it has seen ImageNet, and halves a picture five times."""
    return BackboneInfo(
        title=title,
        description=f"{description} It has seen 1.2 million photographs (ImageNet): a download of {download} MB.",
        start="pretrained",
        image_size=64,
        blocks=blocks,
        weights=weights,
        has_norm=has_norm,
        smallest_layer=smallest_layer,
        smallest_depthwise=smallest_depthwise,
        smallest_image=32,
        download=download,
    )


BACKBONES: dict[str, BackboneInfo] = {
    "efficientnet_lite0": BackboneInfo(
        title="EfficientNet-Lite0",
        description="A real phone-sized network that has already seen 1.2 million photographs (ImageNet).",
        start="pretrained",
        image_size=64,
        blocks=("stem", *(f"blocks.{i}" for i in range(7)), "head"),
        weights=3_371_008,
        has_norm=True,
        smallest_layer=512,
        smallest_depthwise=288,
    ),
    "small_cnn": BackboneInfo(
        title="Small CNN",
        description="Three convolutions with batch normalisation; it knows nothing yet and trains in seconds.",
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
        start="kaiming",
        image_size=28,
        blocks=("layer1", "layer2"),
        weights=317_696,
        has_norm=False,
        smallest_layer=16384,
    ),
    "resnet18": _zoo(
        "ResNet-18",
        "A residual network that suits a laptop.",
        blocks=("stem", "layer1", "layer2", "layer3", "layer4"),
        weights=11_176_512,
        download=47,
        smallest_layer=8192,
    ),
    "mobilenet_v3_small": _zoo(
        "MobileNetV3-Small",
        "A network for phones, smaller than all others that know photographs.",
        blocks=(*(f"features.{i}" for i in range(13)), "classifier"),
        weights=1_517_856,
        download=10,
        smallest_layer=128,
        smallest_depthwise=144,
    ),
    "resnet50": _zoo(
        "ResNet-50",
        "The papers' residual network, fifty layers deep.",
        blocks=("stem", "layer1", "layer2", "layer3", "layer4"),
        weights=23_508_032,
        download=103,
        smallest_layer=4096,
    ),
    "densenet121": _zoo(
        "DenseNet-121",
        "The papers' network in which every layer sees all earlier ones.",
        blocks=(
            "stem",
            *(f"{part}{i}" for i in (1, 2, 3) for part in ("denseblock", "transition")),
            "denseblock4",
        ),
        weights=6_953_856,
        download=32,
        smallest_layer=8192,
    ),
    "vgg16": _zoo(
        "VGG-16",
        "The papers' oldest network: thirteen convolutions, two huge layers, no normalisation.",
        blocks=("conv1", "conv2", "conv3", "conv4", "conv5", "classifier"),
        weights=134_260_544,
        download=553,
        has_norm=False,
        smallest_layer=1728,
    ),
    "vgg16_bn": _zoo(
        "VGG-16 with normalisation",
        "The same thirteen convolutions and two huge layers, with batch normalisation.",
        blocks=("conv1", "conv2", "conv3", "conv4", "conv5", "classifier"),
        weights=134_268_992,
        download=554,
        smallest_layer=1728,
    ),
}
