"""Whole data sets that others publish: downloaded on first use, or from the system's package.

    fashion_mnist   Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747); Debian's dataset-fashion-mnist where installed
    mnist           MNIST (LeCun et al. 1998, Gradient-based learning applied to document recognition)
    cifar10         CIFAR-10 and CIFAR-100 (Krizhevsky 2009, Learning multiple layers of features from tiny images),
    cifar100        the binary versions: the ones for Python are pickles
    flowers102      102 Flowers (Nilsback & Zisserman 2008), training and validation images together

A task has equally many pictures of every class, so each class is cut to the smallest one's count, in the files' order.
The hashes are those that torchvision checks. Nothing is unpickled, and archives are read without being unpacked.
"""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from labcore.tasks.downloads import File
from labcore.tasks.source import Source, TaskError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_VERSION = "1"  # the version of the readers below: raise it when they would give other pictures


def _by_class(images: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Turn [N, …] into [classes, count, …]: the first of each class, as many as the rarest class has.

    Raises TaskError where the labels are not those of so many classes.
    """
    count = int(np.bincount(labels, minlength=classes).min())
    if count == 0 or len(images) != len(labels) or labels.max() >= classes:
        raise TaskError("the downloaded file is not what it should be: delete it, and resume this run")
    return np.stack([images[np.flatnonzero(labels == label)[:count]] for label in range(classes)])


# ---- MNIST and its like ---------------------------------------------------------------------------------------------


def _idx(path: Path, dimensions: int) -> np.ndarray:
    """Read a file of unsigned bytes: 0, 0, 8, the number of dimensions, each of them as four bytes, then the values."""
    data = gzip.decompress(path.read_bytes())
    shape = tuple(int(side) for side in np.frombuffer(data, ">u4", dimensions, 4))
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _load_idx(
    train_images: Path, train_labels: Path, test_images: Path, test_labels: Path, *, size: int
) -> tuple[np.ndarray, np.ndarray]:
    return (
        _by_class(_idx(train_images, 3)[..., None], _idx(train_labels, 1), 10),
        _by_class(_idx(test_images, 3)[..., None], _idx(test_labels, 1), 10),
    )


def _idx_files(base: str, folder: str, digests: Sequence[str], installed: Path | None = None) -> tuple[File, ...]:
    names = [f"{part}-{what}-ubyte.gz" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
    return tuple(
        File(f"{base}{name}", digest, f"datasets/{folder}", installed / name if installed else None)
        for name, digest in zip(names, digests, strict=True)
    )


# ---- CIFAR ----------------------------------------------------------------------------------------------------------


def _load_cifar(archive: Path, *, size: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Read rows of a label (in CIFAR-100 a coarse and a fine one) and 3 × 32 × 32 bytes from files of the archive."""
    label_bytes = 1 if classes == 10 else 2
    parts: dict[str, bytes] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(".bin") and (file := tar.extractfile(member)) is not None:
                parts[member.name.rsplit("/", 1)[-1]] = file.read()
    found = []
    for names in ([name for name in sorted(parts) if "test" not in name], [name for name in parts if "test" in name]):
        rows = np.frombuffer(b"".join(parts[name] for name in names), np.uint8).reshape(-1, label_bytes + 3072)
        images = rows[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        found.append(_by_class(images, rows[:, label_bytes - 1], classes))
    return found[0], found[1]


# ---- 102 Flowers ----------------------------------------------------------------------------------------------------


def _load_flowers(archive: Path, labels: Path, splits: Path, *, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Read photographs of 500 px and more, of which each is cut to its middle square and brought to `size` px."""
    from scipy.io import loadmat  # type: ignore[import-untyped]  # here: pages need not wait for it

    label_of = loadmat(labels)["labels"].ravel().astype(np.int64) - 1  # image 1 is at place 0
    numbers = loadmat(splits)
    wanted = [
        _first_of_each(np.concatenate([numbers[name].ravel() for name in names]), label_of)
        for names in (("trnid", "valid"), ("tstid",))
    ]
    place = {int(number): (split, at) for split, chosen in enumerate(wanted) for at, number in enumerate(chosen)}
    found = [np.empty((len(chosen), size, size, 3), np.uint8) for chosen in wanted]
    with tarfile.open(archive) as tar:
        for member in tar:
            stem = Path(member.name).stem.removeprefix("image_")
            at = place.pop(int(stem), None) if stem.isascii() and stem.isdigit() else None
            if at is not None and (file := tar.extractfile(member)) is not None:
                found[at[0]][at[1]] = _square(file.read(), size)
    if place:
        raise TaskError(f"the downloaded file {archive} lacks {len(place)} photographs: delete it, and resume this run")
    train, test = (
        _by_class(images, label_of[np.asarray(chosen) - 1], len(_FLOWERS))
        for images, chosen in zip(found, wanted, strict=True)
    )
    return train, test


def _first_of_each(numbers: np.ndarray, label_of: np.ndarray) -> list[int]:
    """The numbers of the photographs that are taken, so that no other is decoded."""
    mine = label_of[numbers.astype(np.int64) - 1]
    return [int(number) for number in _by_class(numbers, mine, len(_FLOWERS)).ravel()]


def _square(data: bytes, size: int) -> np.ndarray:
    """The middle square of a JPEG, as uint8 [size, size, 3]."""
    with Image.open(io.BytesIO(data)) as photo:
        photo.draft("RGB", (2 * size, 2 * size))  # a JPEG can be decoded at a half, a quarter, an eighth
        side = min(photo.size)
        left, top = (photo.width - side) / 2, (photo.height - side) / 2
        box = (left, top, left + side, top + side)
        return np.asarray(photo.convert("RGB").resize((size, size), Image.Resampling.LANCZOS, box))


# ---- the sources ----------------------------------------------------------------------------------------------------


def _fingerprint(files: tuple[File, ...]) -> str:
    return hashlib.sha256("/".join([_VERSION, *(file.digest for file in files)]).encode()).hexdigest()


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.replace("\n", " ").split(","))


_CIFAR10 = _names("airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck")
_CIFAR100 = _names(
    """apple, aquarium fish, baby, bear, beaver, bed, bee, beetle, bicycle, bottle, bowl, boy, bridge, bus, butterfly,
    camel, can, castle, caterpillar, cattle, chair, chimpanzee, clock, cloud, cockroach, couch, crab, crocodile, cup,
    dinosaur, dolphin, elephant, flatfish, forest, fox, girl, hamster, house, kangaroo, keyboard, lamp, lawn mower,
    leopard, lion, lizard, lobster, man, maple tree, motorcycle, mountain, mouse, mushroom, oak tree, orange, orchid,
    otter, palm tree, pear, pickup truck, pine tree, plain, plate, poppy, porcupine, possum, rabbit, raccoon, ray, road,
    rocket, rose, sea, seal, shark, shrew, skunk, skyscraper, snail, snake, spider, squirrel, streetcar, sunflower,
    sweet pepper, table, tank, telephone, television, tiger, tractor, train, trout, tulip, turtle, wardrobe, whale,
    willow tree, wolf, woman, worm"""
)
_FLOWERS = _names(
    """pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger lily, moon orchid,
    bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king protea, spear thistle, yellow iris,
    globe-flower, purple coneflower, peruvian lily, balloon flower, giant white arum lily, fire lily, pincushion flower,
    fritillary, red ginger, grape hyacinth, corn poppy, prince of wales feathers, stemless gentian, artichoke,
    sweet william, carnation, garden phlox, love in the mist, mexican aster, alpine sea holly, ruby-lipped cattleya,
    cape flower, great masterwort, siam tulip, lenten rose, barbeton daisy, daffodil, sword lily, poinsettia,
    bolero deep blue, wallflower, marigold, buttercup, oxeye daisy, common dandelion, petunia, wild pansy, primula,
    sunflower, pelargonium, bishop of llandaff, gaura, geranium, orange dahlia, pink-yellow dahlia, cautleya spicata,
    japanese anemone, black-eyed susan, silverbush, californian poppy, osteospermum, spring crocus, bearded iris,
    windflower, tree poppy, gazania, azalea, water lily, rose, thorn apple, morning glory, passion flower, lotus,
    toad lily, anthurium, frangipani, clematis, hibiscus, columbine, desert-rose, tree mallow, magnolia, cyclamen,
    watercress, canna lily, hippeastrum, bee balm, ball moss, foxglove, bougainvillea, camellia, mallow,
    mexican petunia, bromelia, blanket flower, trumpet creeper, blackberry lily"""
)

_FASHION_FILES = _idx_files(
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "fashion-mnist",
    (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    DEBIAN,
)
_MNIST_FILES = _idx_files(
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "mnist",
    (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
)
_CIFAR10_FILES = (
    File("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", "datasets"),
)
_CIFAR100_FILES = (
    File("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", "datasets"),
)
_FLOWERS_FILES = tuple(
    File(f"https://www.robots.ox.ac.uk/~vgg/data/flowers/102/{name}", digest, "datasets/flowers102")
    for name, digest in (
        ("102flowers.tgz", "52808999861908f626f3c1f4e79d11fa"),
        ("imagelabels.mat", "e0620be6f572b9609742df49c70aed4d"),
        ("setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c"),
    )
)

SOURCES: tuple[Source, ...] = (
    Source(
        name="fashion_mnist",
        title="Fashion-MNIST",
        description="All 70,000 pictures of clothing of which Clothes has some.",
        classes=("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
        load=_load_idx,
        picture=None,
        fingerprint=partial(_fingerprint, _FASHION_FILES),
        images=(6000, 1000),
        files=_FASHION_FILES,
        download=31,
    ),
    Source(
        name="mnist",
        title="MNIST",
        description="Which digit did somebody write? 5,421 of each to learn from: as many as the rarest digit has.",
        classes=tuple(str(digit) for digit in range(10)),
        load=_load_idx,
        picture=None,
        fingerprint=partial(_fingerprint, _MNIST_FILES),
        images=(5421, 892),
        files=_MNIST_FILES,
        download=12,
    ),
    Source(
        name="cifar10",
        title="CIFAR-10",
        description="What is in the small photograph, an animal or a vehicle?",
        classes=_CIFAR10,
        load=partial(_load_cifar, classes=10),
        picture=None,
        fingerprint=partial(_fingerprint, _CIFAR10_FILES),
        images=(5000, 1000),
        files=_CIFAR10_FILES,
        download=170,
    ),
    Source(
        name="cifar100",
        title="CIFAR-100",
        description="Which of a hundred things is in the small photograph?",
        classes=_CIFAR100,
        load=partial(_load_cifar, classes=100),
        picture=None,
        fingerprint=partial(_fingerprint, _CIFAR100_FILES),
        images=(500, 100),
        files=_CIFAR100_FILES,
        download=169,
    ),
    Source(
        name="flowers102",
        title="102 Flowers",
        description="Which flower is it? 20 photographs of each to learn from and 20 to test, as the rarest has.",
        classes=_FLOWERS,
        load=_load_flowers,
        picture=None,
        fingerprint=partial(_fingerprint, _FLOWERS_FILES),
        images=(20, 20),
        files=_FLOWERS_FILES,
        download=345,
    ),
)
