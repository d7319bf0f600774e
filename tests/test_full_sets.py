"""Whole data sets: small ones of the same formats, from a server on this machine."""

import dataclasses
import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labcore.configs.base import ConfigError
from labcore.runs.events import Downloading, RunEnded
from labcore.tasks import catalogue, fashion, full_sets, pictures
from labcore.tasks.downloads import File, fetch
from labcore.tasks.source import TaskError
from labcore.training import loop
from tests.conftest import tiny
from tests.served import Site, site

FULL = ["fashion_mnist", "mnist", "cifar10", "cifar100", "flowers102"]
RNG = np.random.default_rng(0)


@pytest.fixture
def server() -> Iterator[Site]:
    with site() as found:
        yield found


def publish(monkeypatch: pytest.MonkeyPatch, server: Site, name: str, contents: dict[str, bytes]) -> None:
    """Make the server the place that a full set is from, and these its files."""
    server.files.update(contents)
    source = catalogue._SOURCES[name]
    assert [file.name for file in source.files] == list(contents)
    files = tuple(
        File(f"{server.url}/{file.name}", hashlib.md5(contents[file.name]).hexdigest(), file.folder)
        for file in source.files
    )
    monkeypatch.setitem(catalogue._SOURCES, name, dataclasses.replace(source, files=files))


def download(name: str, root: Path) -> None:
    for file in catalogue.files(name):
        list(fetch(file, root))


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.tobytes())


def small_mnist() -> tuple[dict[str, bytes], dict[str, np.ndarray]]:
    """Ten classes; of class 3 there are few."""
    arrays = {}
    for part, counts in (("train", [21] * 10), ("t10k", [6] * 10)):
        counts[3] -= 1
        labels = RNG.permutation(np.repeat(np.arange(10, dtype=np.uint8), counts))
        arrays[f"{part}-images-idx3-ubyte.gz"] = RNG.integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte.gz"] = labels
    return {name: idx(array) for name, array in arrays.items()}, arrays


def archive(mode: str, files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


# --- all of them ------------------------------------------------------------------------------------------------------


def test_full_sets_are_told_apart_from_those_that_come_with_the_lab() -> None:
    assert [name for name in catalogue.ALL if name not in catalogue.EMBEDDED] == FULL
    assert not any(catalogue.files(name) or catalogue.describe(name).download for name in catalogue.EMBEDDED)


@pytest.mark.parametrize(("name", "classes"), zip(FULL, [10, 10, 10, 100, 102], strict=True))
def test_describing_needs_no_data(name: str, classes: int) -> None:
    info = catalogue.describe(name)
    assert len(set(info.classes)) == classes
    assert all(info.classes)
    assert catalogue.describe(f"{name}:2-5").classes == info.classes[2:6]
    assert all(len(file.digest) == 32 for file in catalogue.files(name))
    assert len(catalogue.fingerprint(name)) == 64


def test_fingerprints_differ() -> None:
    assert len({catalogue.fingerprint(name) for name in catalogue.ALL}) == len(catalogue.ALL)


@pytest.mark.parametrize("name", FULL[1:])
def test_without_its_files_a_set_is_not_loaded(name: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="is not downloaded") as error:
        pictures.load(name, 16, downloads=tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("name", FULL)
def test_no_pictures_are_shown_before_they_are_here(name: str, tmp_path: Path) -> None:
    for cache in (None, tmp_path):
        with pytest.raises(TaskError, match="pictures appear after the first run"):
            pictures.samples(name, 4, cache)


def test_the_hashes_are_those_of_torchvision() -> None:
    from torchvision.datasets import MNIST, FashionMNIST, Flowers102

    import labcore.networks.backbones  # noqa: F401

    for name, theirs in (("mnist", MNIST), ("fashion_mnist", FashionMNIST)):
        assert [(file.name, file.digest) for file in catalogue.files(name)] == theirs.resources
        assert catalogue.files(name)[0].url.startswith(tuple(theirs.mirrors))
    assert [(file.name, file.digest) for file in catalogue.files("flowers102")] == list(Flowers102._file_dict.values())


# --- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not full_sets.DEBIAN.exists(), reason="needs Debian's dataset-fashion-mnist")
def test_debians_fashion_mnist_is_where_the_sample_is_from(tmp_path: Path) -> None:
    (source,) = [source for source in full_sets.SOURCES if source.name == "fashion_mnist"]
    assert catalogue.describe("fashion_mnist").download == 0
    train, test = pictures._loaded(source, 28, tmp_path)
    assert train.shape == (10, 6000, 28, 28, 1) and test.shape == (10, 1000, 28, 28, 1)
    few_train, few_test = fashion.SOURCE.load()
    assert np.array_equal(train[:, :300], few_train) and np.array_equal(test[:, :100], few_test)
    assert source.classes == fashion.SOURCE.classes


def test_mnist_is_cut_to_the_rarest_digit(server: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents, arrays = small_mnist()
    publish(monkeypatch, server, "mnist", contents)
    download("mnist", tmp_path)
    assert (tmp_path / "datasets" / "mnist" / "train-images-idx3-ubyte.gz").is_file()
    data = pictures.load("mnist", 28, downloads=tmp_path)
    assert [len(split.labels) for split in (data.train, data.validation, data.test)] == [170, 30, 50]
    images, labels = arrays["t10k-images-idx3-ubyte.gz"], arrays["t10k-labels-idx1-ubyte.gz"]
    for label in range(10):
        assert np.array_equal(data.test.images[data.test.labels == label][..., 0], images[labels == label][:5])


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_is_read_from_its_binary_version(
    name: str, classes: int, server: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    red = np.zeros((4 * classes, 3, 32, 32), np.uint8)
    red[:, 0], red[:, 1, 0, 1] = 200, 7
    labels = np.tile(np.arange(classes, dtype=np.uint8), 4)
    red[:, 2, 5, 5] = labels
    coarse = [] if classes == 10 else [np.full(len(labels), 99, np.uint8)]
    rows = np.column_stack([*coarse, labels, red.reshape(len(labels), -1)])
    files = {"d/readme.html": b"<p>", "d/classes.txt": b"a"}
    if classes == 10:
        files |= {f"d/data_batch_{i}.bin": rows[8 * (i - 1) : 8 * i].tobytes() for i in (2, 1, 3, 4, 5)}
        files["d/test_batch.bin"] = rows[:20].tobytes()
    else:
        files |= {"d/test.bin": rows[:200].tobytes(), "d/train.bin": rows.tobytes()}
    file = f"cifar-{classes}-binary.tar.gz"
    publish(monkeypatch, server, name, {file: archive("w:gz", files)})
    download(name, tmp_path)
    source = catalogue._SOURCES[name]
    train, test = pictures._loaded(source, 32, tmp_path)
    assert train.shape == (classes, 4, 32, 32, 3) and test.shape == (classes, 2, 32, 32, 3)
    assert train[3, 1, 0, 0].tolist() == [200, 0, 0] and train[3, 1, 0, 1].tolist() == [200, 7, 0]
    assert all((train[label, :, 5, 5, 2] == label).all() for label in range(classes))


def flowers() -> dict[str, bytes]:
    """Six photographs of each flower, of its own brightness, and a tenth of a margin that is cut off; one is rare."""
    from scipy.io import savemat

    labels = np.append(np.repeat(np.arange(1, 103), 6), 1).astype(np.uint8)
    photos = {}
    for number, label in enumerate(labels, 1):
        pixels = np.full((40, 60, 3), 255, np.uint8)
        pixels[:, 10:50] = 2 * label
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "JPEG", quality=95)
        photos[f"jpg/image_{number:05d}.jpg"] = data.getvalue()
    numbers = np.arange(1, 613).reshape(102, 6)
    splits = {"trnid": numbers[:, :1], "valid": numbers[:, 1:4], "tstid": np.append(numbers[:, 4:], 613)}
    mats = {}
    for name, content in (
        ("imagelabels.mat", {"labels": labels[None]}),
        ("setid.mat", {key: value.reshape(1, -1).astype(np.uint16) for key, value in splits.items()}),
    ):
        data = io.BytesIO()
        savemat(data, content)
        mats[name] = data.getvalue()
    return {"102flowers.tgz": archive("w:gz", photos), **mats}


def test_flowers_are_cut_to_their_middle(server: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, server, "flowers102", flowers())
    download("flowers102", tmp_path)
    train, test = pictures._loaded(catalogue._SOURCES["flowers102"], 16, tmp_path)
    assert train.shape == (102, 4, 16, 16, 3) and test.shape == (102, 2, 16, 16, 3)
    for images in (train, test):
        middle = images[:, :, 4:12, 4:12].astype(int)
        assert all(abs(middle[label] - 2 * (label + 1)).max() <= 3 for label in range(102))
    assert train[0, 0, 8, 1].max() < 60, "the margin is still there"


def test_a_photograph_that_is_missing_is_told(server: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, server, "flowers102", flowers() | {"102flowers.tgz": archive("w:gz", {"jpg/x.jpg": b""})})
    download("flowers102", tmp_path)
    with pytest.raises(TaskError, match="lacks 612 photographs"):
        pictures.load("flowers102", 16, downloads=tmp_path)


# --- in a run ---------------------------------------------------------------------------------------------------------


def test_a_run_fetches_its_sets_and_afterwards_pictures_can_be_shown(
    server: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, server, "mnist", small_mnist()[0])
    run = tiny(tasks=[{"name": "mnist:0-1"}, {"name": "mnist:2-4"}])
    events = list(loop.train(run, cache=tmp_path / "cache", downloads=tmp_path))
    assert isinstance(events[-1], RunEnded) and events[-1].state == "complete"
    assert {event.file for event in events if isinstance(event, Downloading)} == {
        f.name for f in catalogue.files("mnist")
    }
    assert len(server.asked) == 4
    shown = pictures.samples("mnist:2-4", 6, tmp_path / "cache")
    assert [name for _, name in shown] == ["2", "3", "4"] * 2
    assert all(image.shape == (28, 28, 1) for image, _ in shown)
    assert not np.array_equal(shown[0][0], shown[3][0])


def test_a_task_that_is_not_there_names_full_sets_too() -> None:
    with pytest.raises(ConfigError, match="flowers102"):
        tiny(tasks=[{"name": "imagenet"}])
