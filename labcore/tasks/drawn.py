"""Four drawn tasks in the article's spirit: faces, hot dogs or not, hand fans, fly swatters.

Every picture is drawn from a seed of its own (task, split, class, number) with varied pose, colour, scale, light,
clutter and background; one of them can be made without the others.
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import PIL

from labcore.tasks import canvas, things
from labcore.tasks.canvas import Draw
from labcore.tasks.source import Source

TRAINING_IMAGES, TEST_IMAGES = 200, 50


def _draw(name: str, thing: Draw, label: int, split: str, index: int, turn: float) -> np.ndarray:
    seed = hashlib.sha256(f"{name}/{split}/{label}/{index}".encode()).digest()
    return canvas.picture(thing, np.random.default_rng(list(seed)), turn)


@lru_cache(maxsize=1)
def _fingerprint() -> str:
    """The code that draws, and the versions of what it draws with."""
    code = b"".join(Path(file).read_bytes() for file in (__file__, canvas.__file__, things.__file__))
    return hashlib.sha256(code + f"{PIL.__version__}/{np.__version__}".encode()).hexdigest()


def _source(name: str, title: str, description: str, turn: float, classes: dict[str, Draw]) -> Source:
    drawers: list[Callable[[str, int], np.ndarray]] = [
        partial(lambda thing, label, split, index: _draw(name, thing, label, split, index, turn), thing, label)
        for label, thing in enumerate(classes.values())
    ]

    def load() -> tuple[np.ndarray, np.ndarray]:
        train = np.stack([[draw("train", index) for index in range(TRAINING_IMAGES)] for draw in drawers])
        test = np.stack([[draw("test", index) for index in range(TEST_IMAGES)] for draw in drawers])
        return train, test

    return Source(
        name=name,
        title=title,
        description=description,
        classes=tuple(classes),
        load=load,
        picture=lambda label, index: drawers[label]("train", index),
        fingerprint=_fingerprint,
        images=(TRAINING_IMAGES, TEST_IMAGES),
    )


SOURCES: tuple[Source, ...] = (
    _source(
        "faces",
        "Faces",
        "What does the face show, if there is one?",
        25,
        {"happy": things.happy, "sad": things.sad, "surprised": things.surprised, "no face": things.none_of_faces},
    ),
    _source(
        "hotdogs",
        "Hot dogs",
        "Hot dog or not?",
        35,
        {
            "hot dog": things.hot_dog,
            "sandwich": things.sandwich,
            "sausage": things.sausage,
            "none": things.none_of_hot_dogs,
        },
    ),
    _source(
        "fans",
        "Hand fans",
        "Which kind of fan is it, if it is one?",
        40,
        {
            "folding": things.folding_fan,
            "round": things.round_fan,
            "electric": things.electric_fan,
            "none": things.none_of_fans,
        },
    ),
    _source(
        "swatters",
        "Fly swatters",
        "What would you hit the fly with?",
        50,
        {
            "swatter": things.swatter,
            "racket": things.racket,
            "spatula": things.spatula,
            "none": things.none_of_swatters,
        },
    ),
)
