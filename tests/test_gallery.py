import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from labcore.cli.main import main
from labcore.configs.base import ConfigError
from labcore.configs.recordings import RECORDINGS
from labcore.configs.registry import of_group
from labcore.runs import archive, gallery
from labcore.runs.map_files import MapFile
from labcore.runs.results import RunResult
from labcore.runs.store import Store
from tests.disks import for_reading_alone, mounted

ONE, OTHER = "gallery-ewc", "gallery-fine"


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(arguments)
    return status, *capsys.readouterr()


def good(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    status, out, err = call(capsys, *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def listed(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    """The recorded runs that are shown, and what is said of the others."""
    _, out, err = call(capsys, "list", "--recorded", "--json")
    return [record["run"] for record in json.loads(out)], err.splitlines()


def test_a_gallery_is_made_once_and_read_in_place(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert good(capsys, "gallery") == {"written": [], "current": [ONE, OTHER], "lacking": []}
    (shipped / f"{OTHER}.zip").unlink()
    assert good(capsys, "gallery") == {"written": [OTHER], "current": [ONE, OTHER], "lacking": []}
    trained = Store(shipped / "store")
    known = trained.known(RECORDINGS[ONE].config)
    assert known is not None

    (first, _) = good(capsys, "list", "--recorded")
    assert (first["run"], first["state"], first["recorded"], first["method"]) == (ONE, "complete", True, "ewc")
    shown = good(capsys, "show", ONE)
    assert shown["recorded"] and shown["recording"]["command"].startswith("python -m labcore run --preset quick")
    assert shown["recording"]["key"] == known.key and shown["recording"]["versions"]["engine"]
    theirs = trained.result(known.run).model_dump(mode="json")
    assert {name: shown[name] for name in theirs} == theirs | {"run": ONE, "cached": True, "stages": shown["stages"]}
    assert not any(stage["weights"] for stage in shown["stages"])
    assert shown["maps_gone"] == {"live": 0, "stages": []}
    assert len(good(capsys, "events", ONE)) == len(trained.tail(known.run)[0])

    store = Store()
    for moment in store.fold(ONE).maps:
        names = MapFile(store.folder(ONE) / moment.path).names
        assert "importance" in names or moment.kind == "live"
        assert moment.kind == "stage" or not any("/" in name for name in names)
    assert (shipped / f"{ONE}.zip").stat().st_size <= gallery.LARGEST


def test_recorded_runs_are_in_nothing_that_is_a_persons_own(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store()
    assert good(capsys, "list") == [] == store.records() == store.active()
    assert store.known(RECORDINGS[ONE].config) is None
    assert not store.submit(RECORDINGS[ONE].config).cached

    packed = shipped.parent / "taken.zip"
    assert good(capsys, "export", ONE, str(packed))["missing_stages"] == [1, 2]
    elsewhere = Store(shipped.parent / "elsewhere")
    run = archive.import_run(elsewhere, packed)
    assert not run.startswith("gallery-") and elsewhere.record(run).imported and not elsewhere.record(run).recorded
    assert elsewhere.result(run).accuracy_matrix == store.result(ONE).accuracy_matrix


def test_nothing_changes_a_recorded_run(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (shipped / f"{ONE}.zip").read_bytes()
    for command in ("delete", "resume", "cancel"):
        status, out, err = call(capsys, command, ONE)
        assert (status, out, err.count("\n")) == (2, "", 1) and "recorded run that ships with the lab" in err
    assert call(capsys, "draw", ONE)[0] == 2
    with pytest.raises(ConfigError, match="ships with the lab"):
        Store().pin(ONE, True)
    assert (shipped / f"{ONE}.zip").read_bytes() == before and good(capsys, "show", ONE)["state"] == "complete"


def test_one_that_cannot_be_shown_is_told_in_a_sentence_and_the_rest_works(
    shipped: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = shipped / f"{ONE}.zip", shipped / f"{OTHER}.zip"
    whole = one.read_bytes()

    def told(words: str) -> None:
        shown, (sentence,) = listed(capsys)
        assert shown == [OTHER] and words in sentence
        status, out, err = call(capsys, "show", ONE)
        assert (status, out, err.count("\n")) == (2, "", 1) and "`make gallery` trains it" in err

    for cut in (0, len(whole) // 2, len(whole) - 10):
        one.write_bytes(whole[:cut])
        told("is damaged")
    shutil.copy(other, one)  # whole, and another run
    told("earlier version")
    archive.export_run(Store(), OTHER, one)  # without what a recording says of itself
    told("is damaged")
    with zipfile.ZipFile(other) as source, zipfile.ZipFile(one, "w") as target:
        for name in source.namelist():
            text = source.read(name)
            if name == gallery.FACTS:  # it says that it is what it is not
                text = json.dumps({**json.loads(text), "key": RECORDINGS[ONE].key}).encode()
            target.writestr(name, text)
    told("is damaged")
    one.unlink()
    told("1 recorded run is not there")

    one.write_bytes(whole)
    (shipped / "gallery-nobody.zip").write_bytes(whole)
    shown, (sentence,) = listed(capsys)
    assert shown == [ONE, OTHER] and sentence.endswith(
        "gallery-nobody.zip is not listed by this lab, and is left alone."
    )
    assert call(capsys, "show", "gallery-nobody")[0] == 2
    (shipped / "gallery-nobody.zip").unlink()

    monkeypatch.setattr("labcore.configs.run.ENGINE_VERSION", "another")
    for run in RECORDINGS:
        RECORDINGS[run].__dict__.pop("key")
    assert listed(capsys) == (
        [],
        ["Warning: 2 recorded runs of an earlier version of the lab are hidden; `make gallery` trains them anew."],
    )


def test_recorded_runs_are_shown_where_nothing_can_be_written(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with mounted(tmp_path / "disk", 4) as disk:
        monkeypatch.setenv("REUSE_LAB_HOME", str(disk))
        Store().close()
        for_reading_alone(disk)
        assert [record["run"] for record in good(capsys, "list", "--recorded")] == [ONE, OTHER]
        assert good(capsys, "show", ONE)["average_accuracy"] is not None
        status, out, err = call(capsys, "delete", ONE)
        assert status == 2 and out == "" and err


def test_the_gallery_that_ships_is_current_and_every_figure_folds_from_its_events() -> None:
    store = Store()
    records, wrong = store.recordings()
    assert wrong == []
    assert [record.run for record in records] == list(RECORDINGS)
    story = {record.names.method for record in records if record.names and "strength" not in record.run}
    assert story >= {about.name for about in of_group("article")}
    size = 0
    for record in records:
        file = gallery.FOLDER / f"{record.run}.zip"
        with zipfile.ZipFile(file) as packed:
            written = RunResult.model_validate_json(packed.read("result.json"))
        folded = store.result(record.run)
        same = {
            "accuracy_matrix",
            "average_accuracy",
            "forgetting",
            "energy_wh",
            "footprint_bytes",
            "test_ms_per_image",
        }
        assert folded.model_dump(include=same) == written.model_dump(include=same)
        assert (record.average_accuracy, record.train_seconds) == (folded.average_accuracy, folded.train_seconds)
        assert store.fold(record.run).maps and store.damage(record.run, store.fold(record.run)) is None
        size += file.stat().st_size
        assert file.stat().st_size <= gallery.LARGEST
    assert size <= 10_000_000
