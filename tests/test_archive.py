import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from labcore.configs.base import ConfigError
from labcore.runs import archive
from labcore.runs.events import PhaseStarted, to_line
from labcore.runs.store import Store
from labcore.training import worker
from tests.conftest import tiny


@pytest.fixture
def exported(store: Store, tmp_path: Path) -> Path:
    run = store.submit(tiny("separate_copies")).run
    worker.run_claim(store.claim_run(run), "cpu")
    assert archive.export_run(store, run, tmp_path / "run.zip") == []
    return tmp_path / "run.zip"


def changed(source: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(source) as file:
        members = {name: file.read(name) for name in file.namelist()}
    change(members)
    target = source.with_name("changed.zip")
    with zipfile.ZipFile(target, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return target


def test_a_run_comes_back_whole(store: Store, exported: Path, tmp_path: Path) -> None:
    run = store.records()[0].run
    elsewhere = Store(tmp_path / "elsewhere")
    assert archive.import_run(elsewhere, exported) == run
    assert elsewhere.result(run) == store.result(run)
    assert elsewhere.stages_stored(run) == [1, 2]
    assert elsewhere.record(run).imported
    assert elsewhere.check() == []
    ours, theirs = (s.stage_folder(run, 2) / "network.safetensors" for s in (store, elsewhere))
    assert ours.read_bytes() == theirs.read_bytes()


def test_what_was_computed_elsewhere_is_not_taken_for_this_machines(exported: Path, tmp_path: Path) -> None:
    elsewhere = Store(tmp_path / "elsewhere")
    archive.import_run(elsewhere, exported)
    assert not elsewhere.submit(tiny("separate_copies")).cached


def test_a_taken_id_gets_a_new_one(store: Store, exported: Path) -> None:
    old = store.records()[0].run
    new = archive.import_run(store, exported)
    assert new != old
    assert {event.run for event in store.tail(new)[0]} == {new}
    assert store.result(new).accuracy_matrix == store.result(old).accuracy_matrix


def test_missing_arrays_are_left_out_and_listed(store: Store, exported: Path, tmp_path: Path) -> None:
    run = store.records()[0].run
    (store.stage_folder(run, 1) / "network.safetensors").unlink()
    assert archive.export_run(store, run, tmp_path / "less.zip") == [1]
    elsewhere = Store(tmp_path / "elsewhere")
    archive.import_run(elsewhere, tmp_path / "less.zip")
    assert [stage.weights for stage in elsewhere.result(run).stages] == [False, True]


def test_a_run_that_is_not_over_cannot_be_exported(store: Store, tmp_path: Path) -> None:
    run = store.submit(tiny()).run
    with pytest.raises(ConfigError, match="queued"):
        archive.export_run(store, run, tmp_path / "out.zip")


def put(name: str, data: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.update({name: data})


def drop(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.pop(name) and None


def edit(name: str, **values: object) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        members[name] = json.dumps({**json.loads(members[name]), **values}).encode()

    return change


def cut_events(members: dict[str, bytes]) -> None:
    members["events.jsonl"] = b"".join(members["events.jsonl"].splitlines(keepends=True)[:-1])


ORPHAN = PhaseStarted(stage=3, phase="train", epochs=1, steps=1, trained_weights=1, cached_blocks=0)
STRAY = b'{"event":"run_ended","state":"complete"}\n'
HOSTILE = [
    put("../../escape.txt", b"x"),
    put("/tmp/escape.txt", b"x"),
    put("stages/1/evil.pkl", b"x"),
    put("stages/0/network.safetensors", b"x"),
    put("stages/9/network.safetensors", b"x"),
    put("stages/1/network.safetensors", b"not tensors"),
    put("stages/1/network.safetensors", struct.pack("<Q", 2**60)),
    drop("config.json"),
    drop("events.jsonl"),
    put("config.json", b"{}"),
    put("config.json", b"\xff"),
    put("result.json", b"{}"),
    put("result.json", b"[" * 1000),
    edit("result.json", average_accuracy=0.99),
    edit("config.json", seed=7),
    put("events.jsonl", b""),
    put("events.jsonl", b"{}\n"),
    put("events.jsonl", to_line(ORPHAN) + STRAY),
    cut_events,
    put("events.jsonl", b'{"event":"step_logged"}\n' + STRAY),
]


@pytest.mark.parametrize("change", HOSTILE)
def test_what_is_not_ours_is_refused_and_leaves_nothing(
    change: Callable[[dict[str, bytes]], None], exported: Path, tmp_path: Path
) -> None:
    elsewhere = Store(tmp_path / "elsewhere")
    with pytest.raises(ConfigError) as error:
        archive.import_run(elsewhere, changed(exported, change))
    assert "\n" not in str(error.value)
    assert elsewhere.records() == []
    assert not list((elsewhere.root / "runs").iterdir())
    assert not list(elsewhere.cache.iterdir())
    assert not list(tmp_path.rglob("escape.txt"))


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_zip_cut_short(keep: float, exported: Path, tmp_path: Path) -> None:
    data = exported.read_bytes()
    short = tmp_path / "short.zip"
    short.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ConfigError):
        archive.import_run(Store(tmp_path / "elsewhere"), short)


def test_a_zip_with_a_broken_part(exported: Path, tmp_path: Path) -> None:
    data = bytearray(exported.read_bytes())
    data[len(data) // 2] ^= 0xFF
    broken = tmp_path / "broken.zip"
    broken.write_bytes(data)
    with pytest.raises(ConfigError):
        archive.import_run(Store(tmp_path / "elsewhere"), broken)


def test_what_unpacks_too_large_is_refused_by_its_real_size(exported: Path, tmp_path: Path) -> None:
    bomb = changed(exported, put("stages/1/method.safetensors", b"\0" * 40_000_000))
    with pytest.raises(ConfigError, match="unpacks to more than"):
        archive.import_run(Store(tmp_path / "elsewhere"), bomb, largest=5_000_000)


@pytest.mark.parametrize("content", [b"", b"PK", b"hello" * 100])
def test_what_is_no_zip(content: bytes, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "file.zip"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"file\.zip"):
        archive.import_run(store, path)


def test_grams_are_counted_where_they_are_read(store: Store, exported: Path, tmp_path: Path) -> None:
    run = store.records()[0].run
    store.change_settings(country="FRA")
    assert archive.export_run(store, run, tmp_path / "french.zip") == []
    elsewhere = Store(tmp_path / "elsewhere")
    assert archive.import_run(elsewhere, tmp_path / "french.zip") == run
    result, energy_wh = elsewhere.result(run), store.result(run).energy_wh
    assert energy_wh is not None and elsewhere.record(run).energy_wh == energy_wh
    assert (result.energy_wh, result.carbon_country) == (energy_wh, None)
    assert result.carbon_g == pytest.approx(energy_wh * 0.475)


def test_an_export_from_before_energy_was_measured_comes_in(store: Store, exported: Path, tmp_path: Path) -> None:
    def forget(members: dict[str, bytes]) -> None:
        told = {"energy_wh", "energy_method", "carbon_g", "carbon_country"}

        def without(text: bytes) -> dict[str, object]:
            return {name: value for name, value in json.loads(text).items() if name not in told}

        result = without(members["result.json"])
        for stage in result["stages"]:  # type: ignore[attr-defined]
            del stage["energy_wh"]
        members["result.json"] = json.dumps(result).encode()
        lines = members["events.jsonl"].splitlines()
        members["events.jsonl"] = b"".join(json.dumps(without(line)).encode() + b"\n" for line in lines)

    elsewhere = Store(tmp_path / "elsewhere")
    assert elsewhere.result(archive.import_run(elsewhere, changed(exported, forget))).energy_wh is None
