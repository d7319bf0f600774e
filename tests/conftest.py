import os
from pathlib import Path
from typing import Any

import pytest

from labcore.configs import RunConfig, parse
from labcore.store import Store

os.environ.setdefault("REUSE_LAB_THREADS", "1")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a store of its own."""
    monkeypatch.setenv("REUSE_LAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Store:
    return Store()


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
