from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from labcore.tasks import catalogue, digits, drawn, fashion, pictures
from labcore.tasks.source import TaskError

DRAWN = ["faces", "hotdogs", "fans", "swatters"]


@pytest.mark.parametrize(
    "name",
    [
        "cats",
        "digits:",
        "digits:1",
        "digits:a-b",
        "digits:0-99999",
        "../x",
        "digits:4-4",
        "faces:0-4",
        "Digits",
        "digits:1+1",
        "digits:4+2-3",
        "digits:0-3+3-5",
        "digits:0+10",
        "digits:0+",
        "digits:+1",
    ],
)
def test_what_is_no_task_is_told_in_a_sentence(name: str) -> None:
    with pytest.raises(TaskError) as error:
        catalogue.describe(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "classes", "train", "test"), [("digits", 10, 124, 50), ("fashion", 10, 300, 100)])
def test_splits_are_fixed_and_balanced(name: str, classes: int, train: int, test: int) -> None:
    data = pictures.load(name, 16)
    held_out = round(train * 0.15)
    assert [len(split.labels) for split in (data.train, data.validation, data.test)] == [
        classes * (train - held_out),
        classes * held_out,
        classes * test,
    ]
    for split in (data.train, data.validation, data.test):
        assert split.images.dtype == np.uint8
        assert split.images.shape == (len(split.labels), 16, 16, 1)
        assert split.labels[: 2 * classes].tolist() == [*range(classes)] * 2


def test_training_and_test_pictures_are_different_ones() -> None:
    data = pictures.load("fashion", 28)
    seen = [{image.tobytes() for image in split.images} for split in (data.train, data.validation, data.test)]
    assert not seen[0] & seen[1]
    assert not (seen[0] | seen[1]) & seen[2]


def test_a_limit_takes_training_images_only() -> None:
    whole, few = pictures.load("digits", 8), pictures.load("digits", 8, images_per_class=5)
    assert len(few.train.labels) == 50
    assert np.array_equal(few.train.images, whole.train.images[:50])
    assert np.array_equal(few.validation.images, whole.validation.images)
    assert np.array_equal(few.test.images, whole.test.images)


def test_a_subset_may_leave_classes_out() -> None:
    whole, some = pictures.load("fashion", 28), pictures.load("fashion:0-2+8", 28)
    assert some.info.title == "Clothes: T-shirt to pullover, bag"
    assert some.info.classes == ("T-shirt", "trousers", "pullover", "bag")
    for now, before in zip(some.test.images[:4], whole.test.images[[0, 1, 2, 8]], strict=True):
        np.testing.assert_array_equal(now, before)
    assert len(some.train.images) == catalogue.counts("fashion:0-2+8")[0]
    assert [catalogue.describe(name).title for name in ("fashion:0-4", "fashion:3+5", "fashion:0+2+4+6+9")] == [
        "Clothes: T-shirt to coat",
        "Clothes: dress, sandal",
        "Clothes: T-shirt, pullover, coat and 2 more",
    ]
    # However it is written, these are the same pictures; and they are those of before.
    assert len({catalogue.fingerprint(name) for name in ("fashion:0-2", "fashion:0+1+2", "fashion:0-1+2")}) == 1
    assert [catalogue.named("fashion", chosen) for chosen in ([0, 1, 2, 5], [3, 4], range(10))] == [
        "fashion:0-2+5",
        "fashion:3-4",
        "fashion",
    ]


def test_a_subset_renumbers_its_classes() -> None:
    some = pictures.load("fashion:5-9", 28)
    assert some.info.classes == fashion.SOURCE.classes[5:]
    assert set(some.test.labels) == set(range(5))
    whole = pictures.load("fashion", 28)
    assert np.array_equal(some.test.images[0], whole.test.images[5])


def test_fingerprints_differ_where_pictures_do() -> None:
    names = ["digits", "fashion", "fashion:0-4", "fashion:5-9", *DRAWN]
    assert len({catalogue.fingerprint(name) for name in names}) == len(names)


def test_the_cache_gives_the_same_pictures_and_survives_a_torn_file(tmp_path: Path) -> None:
    fresh = pictures.load("digits", 12)
    first, second = (pictures.load("digits", 12, cache=tmp_path) for _ in range(2))
    assert np.array_equal(fresh.train.images, first.train.images)
    assert np.array_equal(first.test.images, second.test.images)
    (kept,) = (tmp_path / "pictures").iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    assert np.array_equal(pictures.load("digits", 12, cache=tmp_path).train.images, fresh.train.images)
    assert not [file.path for file in psutil.Process().open_files() if file.path.startswith(str(tmp_path))]
    np.savez(kept, train=np.zeros(3), test=np.zeros(3))
    assert np.array_equal(pictures.load("digits", 12, cache=tmp_path).train.images, fresh.train.images)


def test_what_two_need_at_once_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, load = [], pictures._loaded
    monkeypatch.setattr(pictures, "_loaded", lambda source, *more: made.append(source.name) or load(source, *more))
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(lambda _: pictures.load("fashion", 16, None, tmp_path), range(2))
    assert made == ["fashion"]
    assert np.array_equal(one.train.images, other.train.images)


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    theirs = load_digits()
    ours = digits.SOURCE.load()[0]
    assert np.array_equal(ours[3, 0, ..., 0], np.round(theirs.images[theirs.target == 3][0] * 255 / 16))


@pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").exists(), reason="needs Debian's dataset-fashion-mnist"
)
def test_the_fashion_sample_is_made_of_the_whole_set() -> None:
    import runpy

    script = runpy.run_path(str(Path(__file__).parent.parent / "scripts" / "make_fashion_sample.py"))
    train, test = fashion.SOURCE.load()
    assert np.array_equal(script["first_of_each_class"]("train", 300), train[..., 0])
    assert np.array_equal(script["first_of_each_class"]("t10k", 100), test[..., 0])


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawn_picture_is_the_same_alone_and_among_others(name: str) -> None:
    (source,) = [source for source in drawn.SOURCES if source.name == name]
    assert np.array_equal(source.picture(2, 7), source.picture(2, 7))
    assert not np.array_equal(source.picture(2, 7), source.picture(2, 8))
    shown = pictures.samples(name, 5)
    assert [what for _, what in shown] == [*source.classes, source.classes[0]]
    assert np.array_equal(shown[4][0], source.picture(0, 1))


@pytest.mark.parametrize(
    "name", ["fans", *(pytest.param(name, marks=pytest.mark.heavy) for name in DRAWN if name != "fans")]
)
def test_drawn_tasks_are_not_solved_by_a_linear_look_at_pixels(name: str) -> None:
    data = pictures.load(name, 28)
    assert len(data.test.labels) == 200
    assert len(data.train.labels) + len(data.validation.labels) == 800

    def flat(split: pictures.Split) -> np.ndarray:
        return np.c_[split.images.reshape(len(split.labels), -1) / 255 - 0.5, np.ones(len(split.labels))]

    x, y = flat(data.train), np.eye(4)[data.train.labels]
    best = 0.0
    for ridge in (10.0, 100.0, 1000.0):
        weights = x.T @ np.linalg.solve(x @ x.T + ridge * np.eye(len(x)), y)
        best = max(best, float(((flat(data.test) @ weights).argmax(1) == data.test.labels).mean()))
    assert 0.2 < best <= 0.6
