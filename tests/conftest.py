import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labcore.configs.reading import parse
from labcore.configs.recordings import RECORDINGS, Recording
from labcore.configs.run import RunConfig
from labcore.runs import gallery
from labcore.runs.store import Store
from labcore.tasks import pictures
from labcore.tasks.source import Source
from tests import kept

os.environ.setdefault("REUSE_LAB_THREADS", "1")

# Of pytest-xdist's processes the one that deals out tests reads this file, too, and runs none: what brings torch is
# imported where it is needed.


# Files whose tests take longest, in seconds a test, as `--durations` tells on two cores; all others take less.
LONGEST = {
    "test_journey": 20.0,
    "test_chaos": 4.0,
    "test_extending": 3.4,
    "test_worker": 2.5,
    "test_slots": 1.2,
    "test_stages": 1.3,
    "test_zoo": 1.0,
    "test_method_contract": 1.2,
    "test_maps": 1.2,
    "test_path_and_answers": 0.7,
    "test_methods": 0.7,
    "test_inside": 0.7,
    "test_imports": 0.7,
    "test_watch": 0.6,
    "test_explore": 0.5,
    "test_compare": 0.5,
    "test_cli": 0.4,
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest tests first, file by file, so that no process is left with one of them at the end.

    pytest-xdist gives each process an equal number of tests, one after the other from the first, and lets the one that
    is done take from the end of another's. So each process's share begins with files of its own.
    """
    files = sorted({item.path.stem for item in items}, key=lambda stem: (-LONGEST.get(stem, 0.1), stem))
    processes: int = getattr(config, "workerinput", {}).get("workercount", 1)
    shares: list[list[pytest.Item]] = [[] for _ in range(processes)]
    short: list[pytest.Item] = []
    for stem in files:
        found = [item for item in items if item.path.stem == stem]
        (min(shares, key=_seconds) if stem in LONGEST else short).extend(found)
    size = len(items) // processes
    items.clear()
    for share in shares:
        fill = max(0, size - len(share))
        items += [*share, *short[:fill]]
        del short[:fill]
    items += short


def _seconds(share: list[pytest.Item]) -> float:
    return sum(LONGEST.get(item.path.stem, 0.1) for item in share)


@pytest.fixture(scope="session", autouse=True)
def short_runs() -> Iterator[None]:
    """A run in this process draws and shrinks no picture that an earlier one did, and times few answers.

    Of a tiny run that was most of the time, in hundreds of tests. Workers of their own process do all of it.
    """
    from labcore.training import measuring

    load, loaded = pictures._loaded, {}
    resize, resized = pictures._resize, {}

    def kept(source: Source, *where: Any) -> tuple[np.ndarray, np.ndarray]:
        if source.files:
            return load(source, *where)
        if source.fingerprint() not in loaded:
            loaded[source.fingerprint()] = load(source, *where)
        train, test = loaded[source.fingerprint()]
        return train.copy(), test.copy()

    def remembered(images: np.ndarray, size: int) -> np.ndarray:
        key = (hashlib.sha256(np.ascontiguousarray(images)).digest(), images.shape, size)
        if key not in resized:
            found = resize(images, size)
            if found.nbytes > 10_000_000:
                return found
            resized[key] = found
        return resized[key].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "_loaded", kept)
        patch.setattr(pictures, "_resize", remembered)
        patch.setattr(measuring, "TIMED_PICTURES", 5)
        yield


@pytest.fixture(scope="session", autouse=True)
def kept_runs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The folder that this session's processes share."""
    own = tmp_path_factory.getbasetemp()
    kept.root = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "kept"
    kept.root.mkdir(exist_ok=True)


@pytest.fixture
def few_answers() -> Iterator[pytest.MonkeyPatch]:
    """Measuring asks a run in this process for the first 60 answers a task, of validation and of test pictures.

    They are still more than one reading of `batches.CHUNK`. For tests that compare runs of this process among each
    other: most of what a run of a second computes is answers.
    """
    load = pictures.load

    def fewer(*where: Any, **named: Any) -> pictures.TaskData:
        data = load(*where, **named)
        first = {
            name: pictures.Split(split.images[:60], split.labels[:60])
            for name, split in (("validation", data.validation), ("test", data.test))
        }
        return dataclasses.replace(data, **first)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "load", fewer)
        yield patch


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a store of its own."""
    monkeypatch.setenv("REUSE_LAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Store:
    return Store()


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A gallery of its own, with recordings of two tiny runs and the store in which they were trained."""
    listed = dict(RECORDINGS)
    RECORDINGS.clear()
    for method in ("ewc", "fine_tuning"):
        data = tiny(method).model_dump(mode="json")
        RECORDINGS[f"gallery-{method[:4]}"] = Recording("quick", method, data)

    def make(path: Path) -> None:
        from labcore.cli.main import main

        monkeypatch.setattr(gallery, "FOLDER", path)
        assert main(["gallery"]) == 0

    try:
        shutil.copytree(kept.folder("gallery", make), tmp_path / "gallery")
        monkeypatch.setattr(gallery, "FOLDER", tmp_path / "gallery")
        yield tmp_path / "gallery"
    finally:
        RECORDINGS.clear()
        RECORDINGS.update(listed)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try what asks for a device on the CPU, and where there is a GPU once more on that."""
    if "device" in metafunc.fixturenames:
        import torch

        devices = ["cpu", "cuda:0"] if torch.cuda.is_available() else ["cpu"]
        metafunc.parametrize("device", devices, indirect=True, scope="function")


@pytest.fixture
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where this process trains, whatever it is told."""
    from labcore.training import loop

    name: str = request.param
    monkeypatch.setattr(loop, "pick_device", lambda _: name)
    return name


def in_fresh_process(code: str, *arguments: str) -> str:
    """What Python code prints in a process of its own, where nothing is imported yet."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Killed(BaseException):
    """As by a signal: nothing catches it."""


def tiny(method: str = "fine_tuning", /, **changes: Any) -> RunConfig:
    """A run of a second: a small network, two tasks, few images. `changes` as `backbone__norm="shared"`."""
    data: dict[str, Any] = {
        "backbone": {"name": "small_cnn", "start": "kaiming", "image_size": 16},
        "tasks": [{"name": "digits:0-3", "images_per_class": 10}, {"name": "fashion:0-2", "images_per_class": 12}],
        "training": {"epochs": 2, "batch_size": 8, "learning_rate": 2e-3, "head_learning_rate": 6e-3},
        "method": {"name": method},
        "seed": 0,
    }
    for path, value in changes.items():
        if "__" in path:
            part, name = path.split("__")
            data[part][name] = value
        else:
            data[path] = value
    return parse(data)
