"""A store that an earlier commit made, and a run that it left half-way: both are still good.

tests/fixtures/README.md says how the store was made. What its runs' figures were at that commit stands beside it. The
engine was number 3 then. Its runs are found again, and go on, where it still is: the tests that ask for this say so
by `engine_of_then`, and what they show is that keys and files are what they were.
"""

import contextlib
import json
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from labcore.cli.main import main
from labcore.configs.reading import parse
from labcore.configs.run import RunConfig
from labcore.runs import archive, map_files
from labcore.runs.events import RunStarted, Warned
from labcore.runs.map_files import MapFile
from labcore.runs.stage_keys import StageKey, stage_keys
from labcore.runs.store import Store
from labcore.training import worker
from labcore.training.hardware import device_name

FIXTURES = Path(__file__).parent / "fixtures"
NAME = "store-555d13e"
BEFORE: dict[str, Any] = json.loads((FIXTURES / f"{NAME}.json").read_text())
MACHINE: dict[str, Any] = BEFORE["machine"]
RUNS: dict[str, str] = BEFORE["runs"]
FINISHED = [name for name, shown in BEFORE["shown"].items() if shown["state"] == "complete"]


def other_bits() -> str:
    """Why this machine may compute other last bits than the one on which the store was made; empty: it may not."""
    here = {
        "torch": str(torch.__version__),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "maker": device_name(torch.device("cpu")).split()[0],
        "threads": int(os.environ["REUSE_LAB_THREADS"]),
    }
    there = {**MACHINE, "maker": MACHINE["device_name"].split()[0]}
    return ", ".join(f"{what} is {here[what]} and was {there[what]}" for what in here if here[what] != there[what])


same_bits = pytest.mark.skipif(bool(other_bits()), reason=f"other bits are to be expected: {other_bits()}")


@contextlib.contextmanager
def engine_of_then() -> Iterator[None]:
    """For the block, the engine calls itself number 3; what it computes is today's."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("labcore.configs.run", "labcore.training.stored_stages"):
            patch.setattr(f"{module}.ENGINE_VERSION", MACHINE["engine"])
        yield


@pytest.fixture(name="engine_of_then")
def _engine_of_then() -> Iterator[None]:
    with engine_of_then():
        yield


def unpack(root: Path) -> Store:
    with tarfile.open(FIXTURES / f"{NAME}.tar.xz") as file:
        file.extractall(root.parent, filter="data")
    (root.parent / "home").rename(root)
    return Store(root)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return unpack(tmp_path_factory.mktemp("before") / "store")


@pytest.fixture
def old(unpacked: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store as it was made. No test that takes it changes it."""
    monkeypatch.setenv("REUSE_LAB_HOME", str(unpacked.root))
    return unpacked


def config_of(name: str) -> RunConfig:
    return parse(BEFORE["shown"][name]["config"])


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def assert_holds(now: dict[str, Any], before: dict[str, Any]) -> None:
    """All that was said before is said now; more may be."""
    assert {name: now[name] for name in before} == before


# ---- what is there to look at ---------------------------------------------------------------------------------------


def test_every_run_is_listed_as_it_was(old: Store, capsys: pytest.CaptureFixture[str]) -> None:
    listed = printed(capsys, "list")
    assert [row["run"] for row in listed] == [row["run"] for row in BEFORE["list"]]
    for now, before in zip(listed, BEFORE["list"], strict=True):
        assert_holds(now, before)


@pytest.mark.parametrize("name", RUNS)
def test_every_run_shows_the_figures_it_had(name: str, old: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert_holds(printed(capsys, "show", RUNS[name]), BEFORE["shown"][name])


@pytest.mark.parametrize("name", RUNS)
def test_every_run_is_exported_and_comes_in_elsewhere(name: str, old: Store, tmp_path: Path) -> None:
    missing, damaged, _ = archive.export_run(old, RUNS[name], tmp_path / "out.zip")
    before = BEFORE["shown"][name]
    assert damaged == []
    assert missing == [k for k, stage in enumerate(before["stages"], 1) if not stage["weights"]]
    with zipfile.ZipFile(tmp_path / "out.zip") as file:
        assert_holds(json.loads(file.read("result.json")), before | {"cached": False})
    other = Store(tmp_path / "other")
    result = other.result(archive.import_run(other, tmp_path / "out.zip"))
    assert_holds(result.model_dump(mode="json"), before | {"cached": False})


def test_every_map_opens(old: Store) -> None:
    paths = [old.folder(RUNS["packnet"]) / saved.path for saved in old.fold(RUNS["packnet"]).maps]
    assert len(paths) > 10
    for path in paths:
        map_files.check(path)
    last = MapFile(paths[-1])
    assert [layer.name for layer in map_files.layers(last)] == ["block1.conv", "block2.conv", "block3.conv"]
    assert last.read("owners").shape == (3, 3)
    last.close()


def test_arrays_have_the_names_they_had(old: Store) -> None:
    def names(run: str, stage: int, file: str) -> set[str]:
        return set(load_file(old.folder(RUNS[run]) / "stages" / str(stage) / f"{file}.safetensors"))

    assert {"trunk/block1.conv.weight", "heads/1/weight", "heads/1/bias"} <= names("ewc", 1, "network")
    assert {"fisher/1/block1.conv.weight", "anchor/1/block3.conv.bias"} <= names("ewc", 1, "method")
    assert "owner/block2.conv.weight" in names("packnet", 2, "method")
    assert {"mask/1/block1.conv.weight", "mask/2/block3.conv.weight"} <= names("piggyback", 2, "method")


# ---- keys -----------------------------------------------------------------------------------------------------------

# By method: the key of a run of these settings, and of the training and the addition of its last stage.
KEYS = {
    "feature_extraction": (
        "ba96fcbda8c1adf1bac56b8ea7e97ea4d939c69adeba24c4d9feb0843e097696",
        "24b88c0a2b335dc44dd202caed3f8fd33fc15387ef9c828de32db04546fabe41",
        "ca1c020da0756d2eaf8d968786e2a3f536efa78fbd39e76dd855bdf83e8adb5a",
    ),
    "fine_tuning": (
        "992c0a6bd830b8bf9a6029c84bae266f8852d0bc7b4cb1fbc23ca36d8db43100",
        "c871364d6ea02b1338313d1100c7f19b923b52fbc6f00de728ec27a269641ea4",
        "fef23ba1d0981bf9b1940486b339789e556e0c24136adccf1267630b9b5e607b",
    ),
    "separate_copies": (
        "02ae06c3fb339ea4c8b43048a9507742e0a3e44dff0184ecac7cef5de9c0e0f0",
        "ec742b95d62ad877cbf9378c7ca524be49644abdfb7eb8138a60843941fb55ef",
        "59f341b076088da2b08500b990002deac67092de4e95d4fe4e573420459584a2",
    ),
    "joint": (
        "a22bf45b18da5d7bd900a9dd132f5a141400e08bb675abda75b2591df191b75f",
        "9a4dbf574647e7cdfcc8f302709882033476919ac2e389441398372b3a96ffa1",
        "1f202beeec06bb971df5cf08237ecaef4690787bcf3b6204a0015deb1d933550",
    ),
    "lwf": (
        "09339a48dbe9449b09bcd8ab08613e4d7871c59fc58e73ff9c3320bfae493196",
        "fb01608332691398858f46039d497c1f672d1163b456e088bb139286aca85ccb",
        "bfa8b7a7d0333a3adfbc120a5ab8f283e971bbd6e338852e645f956db25d7bdd",
    ),
    "ewc": (
        "1fac2c4ec644f00cda9c1bd972d724f26dd327176d8fee1e9f92b40dde1a71ee",
        "7378033a84231a991545aed776daa8a553b6af627f398a0aca20faaa97125ab7",
        "933b1ceb60997b0250994064f8075e09599eea69b2ea456d81c24493e55fc861",
    ),
    "packnet": (
        "0a0119585c6e898755e4295a31a0b2751bae99ed9dbfad1bc984518236c31b37",
        "d6c3e5cb2572bee45a0e17a8e3a8cbd35a19f98556d65cac856f93fbce0db803",
        "9abaaaba378a1761be022b77e8b5aa2d8289cccc2c03ea6481c8615a089c0fa1",
    ),
    "piggyback": (
        "f8841d837f4963e62b0b78b2a9f9f1a9bfc765aa6543f707c12f713a7be2d1fe",
        "7c83ef6bce0e6354f3e82213b6f1079cb9d2b44c7c85ff3f086243eff0c2a7eb",
        "6345383a1b7719d21995be592877a30ed74b19069fc7af1571703f709cd6d0b9",
    ),
}


def keys_on(machine: dict[str, Any], config: RunConfig) -> list[StageKey]:
    """The stages' keys, as a worker of that machine makes them."""
    parts = {name: machine[name] for name in ("engine", "torch", "device", "cpu", "threads")} | {"card": ""}
    stages = range(1, len(config.tasks) + 1)
    trained = [config.method.stage_config(stage, len(stages)) for stage in stages]
    added = [config.method.addition_config(stage, len(stages)) for stage in stages]
    return stage_keys(config, parts, trained, added)


@pytest.mark.usefixtures("engine_of_then")
@pytest.mark.parametrize("method", KEYS)
def test_keys_stay(method: str) -> None:
    config = parse(
        {
            "backbone": {"name": "small_cnn", "start": "kaiming", "image_size": 16},
            "tasks": [{"name": "digits:0-3", "images_per_class": 10}, {"name": "fashion"}, {"name": "fans"}],
            "method": {"name": method},
            "seed": 7,
        }
    )
    machine = {"engine": "3", "torch": "2.13.0+cpu", "device": "cpu", "cpu": "AVX512", "threads": 1}
    last = keys_on(machine, config)[-1]
    assert (config.key(), last.training, last.addition) == KEYS[method]


@pytest.mark.usefixtures("engine_of_then")
@pytest.mark.parametrize("name", FINISHED)
def test_the_same_configuration_finds_the_finished_run(name: str, old: Store) -> None:
    assert old.record(RUNS[name]).key == config_of(name).key()
    submission = old.submit(config_of(name))
    assert (submission.run, submission.state, submission.cached) == (RUNS[name], "complete", True)


@pytest.mark.parametrize(("name", "stage"), [("ewc", 1), ("packnet", 2), ("piggyback", 1), ("piggyback", 2)])
def test_stored_stages_have_the_keys_they_had(name: str, stage: int, old: Store) -> None:
    key = keys_on(MACHINE, config_of(name))[stage - 1]
    entry = old.cache / "stages" / key.training
    assert (entry / "stage.json").is_file()
    assert (entry / f"method-{key.addition}.json").is_file()
    own = old.folder(RUNS[name]) / "stages" / str(stage) / "network.safetensors"
    assert own.samefile(entry / "network.safetensors"), "one file of two names"


# ---- going on -------------------------------------------------------------------------------------------------------


def train(store: Store, config: RunConfig) -> str:
    run = store.submit(config, device="cpu").run
    worker.run_claim(store.claim_run(run), "cpu", maps="none")
    return run


@pytest.fixture(scope="module")
def gone_on(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store once the run that was broken off has been seen to its end here, by the engine of then."""
    with engine_of_then():
        store = unpack(tmp_path_factory.mktemp("gone_on") / "store")
        assert train(store, config_of("broken off")) == RUNS["broken off"], "the same run, not another"
    return store


def test_the_run_that_was_broken_off_goes_on_from_its_checkpoint(gone_on: Store) -> None:
    events = gone_on.tail(RUNS["broken off"])[0]
    resumed = [event.resumed_from_step for event in events if isinstance(event, RunStarted)]
    first, whole = BEFORE["shown"]["broken off"], BEFORE["never_stopped"]["result"]
    begun = first["stages"][0]["steps"]
    assert len(resumed) == 2
    assert resumed[0] is None
    assert resumed[1] is not None
    assert begun < resumed[1] < begun + whole["stages"][1]["steps"], "in the midst of its second stage"
    assert not [event for event in events if isinstance(event, Warned)]
    result = gone_on.result(RUNS["broken off"])
    assert result.state == "complete"
    assert list(result.accuracy_matrix[0]) == first["accuracy_matrix"][0]
    assert [stage.steps for stage in result.stages] == [stage["steps"] for stage in whole["stages"]]
    assert result.average_accuracy is not None
    assert abs(result.average_accuracy - whole["average_accuracy"]) < 0.05


def test_a_run_of_an_older_engine_begins_anew_and_says_so(tmp_path: Path) -> None:
    """Its second half would not fit its first."""
    store, run = unpack(tmp_path / "store"), RUNS["broken off"]
    assert store.submit(config_of("broken off"), device="cpu").run != run, "the same settings are another run now"
    store.resume(run)
    assert worker.run_claim(store.claim_run(run), "cpu", maps="none").state == "complete"
    events = store.tail(run)[0]
    resumed = [event.resumed_from_step for event in events if isinstance(event, RunStarted)]
    assert resumed[-1] is None
    assert any("began anew" in event.text for event in events if isinstance(event, Warned))


@same_bits
@pytest.mark.usefixtures("engine_of_then")
def test_a_new_run_takes_a_stage_that_was_trained_before(gone_on: Store) -> None:
    stiffer = config_of("ewc").model_dump(mode="json")
    stiffer["method"]["strength"] = 7.0
    result = gone_on.result(train(gone_on, parse(stiffer)))
    assert [stage.reused for stage in result.stages] == [True, False]
    assert list(result.accuracy_matrix[0]) == BEFORE["shown"]["ewc"]["accuracy_matrix"][0]
