"""What the lab knows about one backbone: a record that the catalogue lists, and that other packages bring along.

No torch here: pages read this module. The network itself is built by the function that the record names.
"""

from dataclasses import dataclass
from typing import Literal

from labcore.tasks.downloads import File

Start = Literal["pretrained", "kaiming", "xavier", "far"]


@dataclass(frozen=True, slots=True)
class BackboneInfo:
    """What the lab knows about a backbone before it builds it.

    `image_size` is the side of the pictures in px if nothing else is said, and `weights` the number of weights without
    the head. `builder` names the function that builds it, as "package.module:function"; the function takes the
    backbone's name and the side of the square pictures in px, and gives a `labcore.networks.trunk.Trunk`. `start` is
    where its weights start if nothing else is said; "pretrained" tells that there are trained weights. Where these do
    not come with the lab, `weights_file` is the file that holds them, of `download` MB, and the trunk's
    `load_pretrained` reads it.

    `blocks` are the names of the trunk's blocks, in order. `smallest_layer` is the number of weights of the smallest
    convolution or linear layer that is not depthwise, and `smallest_depthwise` that of the smallest depthwise one, or 0
    where there is none.

    In pictures of up to `one_place` px a side, the last map that is normalised has a single place, so that a single
    picture has one value a channel; 0 where there is no such map, or nobody has looked.
    """

    title: str
    description: str
    builder: str
    start: Start
    image_size: int
    blocks: tuple[str, ...]
    weights: int
    has_norm: bool
    smallest_layer: int
    smallest_depthwise: int = 0
    smallest_image: int = 16
    one_place: int = 0
    download: int = 0
    weights_file: File | None = None

    @property
    def pretrained(self) -> bool:
        """Whether there are trained weights to start from."""
        return self.start == "pretrained"

    def smallest_prunable(self, depthwise: bool) -> int:
        """How many weights the smallest layer has that may be pruned or masked, with or without `depthwise` ones."""
        return (
            min(self.smallest_layer, self.smallest_depthwise or self.smallest_layer)
            if depthwise
            else self.smallest_layer
        )
