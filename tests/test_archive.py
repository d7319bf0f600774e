import json
import os
import re
import struct
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

import pytest

from labcore.configs.base import ConfigError
from labcore.runs import answers, archive, files, unpacking, zips
from labcore.runs.events import MapSaved, PhaseStarted, Warned, to_line
from labcore.runs.store import Store
from labcore.training import worker
from tests.conftest import tiny


@pytest.fixture
def exported(store: Store, tmp_path: Path) -> Path:
    run = store.submit(tiny("separate_copies")).run
    worker.run_claim(store.claim_run(run), "cpu")
    assert archive.export_run(store, run, tmp_path / "run.zip") == ([], [], 0)
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
    assert archive.export_run(store, run, tmp_path / "less.zip") == ([1], [], 0)
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
    put("result.json", b'{"config":{"a":[' + b"[]," * 6000 + b"[]]}}"),
    put("config.json", b'{"a":[' + b"[]," * 6000 + b"[]]}"),
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


def test_what_unpacks_too_large_is_refused(exported: Path, tmp_path: Path) -> None:
    name = "stages/1/method.safetensors"
    bomb = changed(exported, put(name, b"\0" * 40_000_000))
    with pytest.raises(ConfigError, match=r"unpacks to 4[0-9,]* bytes, and none of this lab to more than 5,000,000"):
        archive.import_run(Store(tmp_path / "elsewhere"), bomb, largest=5_000_000)
    # A zip that lies about it is unpacked as far as it says, and found to be another.
    data = bytearray(bomb.read_bytes())
    place = data.rindex(name.encode()) - 46
    data[place + 24 : place + 28] = struct.pack("<I", 100)
    bomb.write_bytes(data)
    with pytest.raises(ConfigError):
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
    assert archive.export_run(store, run, tmp_path / "french.zip") == ([], [], 0)
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


# ---- what a stranger sends -------------------------------------------------------------------------------------------


def zipped(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members:
            file.writestr(name, data)
    return path


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.mark.parametrize("secret", ["../../../secret.txt", "{tmp}/secret.txt", "maps/1/000000000-live.npz", "stages"])
def test_an_export_takes_no_file_from_outside_the_runs_folder(
    secret: str, store: Store, exported: Path, tmp_path: Path
) -> None:
    run = store.records()[0].run
    outside = tmp_path / "secret.txt"
    outside.write_bytes(b"mine alone")
    folder = store.folder(run)
    if secret.startswith("maps"):  # a name as it should be, of a file that is none of the run's
        (folder / "maps/1").mkdir(parents=True, exist_ok=True)
        (folder / secret).unlink(missing_ok=True)
        (folder / secret).symlink_to(outside)
    if secret == "stages":
        arrays = folder / "stages/1/network.safetensors"
        arrays.unlink()
        arrays.symlink_to(outside)
    event = MapSaved.model_construct(stage=1, kind="live", path=secret.format(tmp=tmp_path), step=0, seq=1)
    with (folder / "events.jsonl").open("ab") as events:
        events.write(to_line(event))
    store.change(run, digest=files.digest_of(folder / "events.jsonl"))
    archive.export_run(store, run, tmp_path / "out.zip")
    assert outside.read_bytes() not in members_of(tmp_path / "out.zip").values()


def told(change: Callable[[list[dict[str, object]]], None]) -> Callable[[dict[str, bytes]], None]:
    """A change of what the events of an export say."""

    def edited(members: dict[str, bytes]) -> None:
        events = [json.loads(line) for line in members["events.jsonl"].splitlines()]
        change(events)
        members["events.jsonl"] = b"".join(json.dumps(event).encode() + b"\n" for event in events)

    return edited


def says(kind: str, **values: object) -> Callable[[dict[str, bytes]], None]:
    """Let the first event of a kind say other things."""

    def change(events: list[dict[str, object]]) -> None:
        next(event for event in events if event["event"] == kind).update(values)

    return told(change)


def told_again(events: list[dict[str, object]]) -> None:
    """Let an answer follow that was given before others that are told."""
    answered = [place for place, event in enumerate(events) if event["event"] == "answered"]
    events.insert(answered[-1] + 1, dict(events[answered[0]]))


MANY_PHASES = [json.loads(to_line(ORPHAN.model_copy(update={"stage": 1, "phase": f"part {n}"}))) for n in range(65)]
WRONG_STORIES = {
    "a path above": says("map_saved", path="../../../secret.txt"),
    "a path from the root": says("map_saved", path="/etc/passwd"),
    "another moment's path": says("map_saved", path="maps/1/000000099-stage.npz"),
    "a stage that is none": says("stage_started", stage=0),
    "a stage too far": says("stage_started", stage=2),
    "a stage past all": says("warned", stage=3),
    "accuracies of more tasks": says("evaluated", accuracy=[0.5] * 3, images=[1] * 3),
    "accuracies of no pictures": says("evaluated", images=[]),
    "accuracies of none of the pictures": says("evaluated", images=[0]),
    "as many phases as one likes": told(lambda events: events.__setitem__(slice(3, 3), MANY_PHASES)),
    "a device that is a path": says("run_started", device="../../cpu"),
    "an accuracy above 1": says("evaluated", accuracy=[7.0]),
    "a count below 0": says("stage_started", images=-5),
    "a count without end": says("stage_started", images=10**400),
    "a time without end": says("run_started", time=1e300),
    "a time before all": says("run_started", time=-1e300),
    "seconds without end": says("stage_ended", train_seconds=1e308),
    "no threads": says("run_started", threads=0),
    "tasks without classes": says("run_started", tasks=[]),
    "another task": says("stage_started", task="digits"),
    "as many terms as one likes": says("step_logged", loss={f"term {n}": 1.0 for n in range(1000)}),
    "an error without end": says("run_ended", error="x" * 100_000),
    "answers longer than an event": says("predicted", classes="A" * 100_000),
    "answers of a stage too far": says("answered", stage=2),
    "answers to a job too far": says("answered", task=2),
    "answers to a job past all that are shown": says("answered", task=200),
    "predictions of a job too far": says("predicted", task=2),
    "answers of before others": told(told_again),
    "pictures of a stage too far": says("pictures_chosen", stage=2),
    "as many pictures as one likes": says("pictures_chosen", pictures=list(range(76)), labels=[0] * 76),
    "pictures below 0": says("pictures_chosen", pictures=[-1], labels=[0]),
    "no pictures": says("pictures_chosen", pictures=[], labels=[]),
}
ANSWERS_THAT_DO_NOT_FIT = {
    "pictures that are not there": says("pictures_chosen", pictures=[0, 10_000], labels=[0, 1]),
    "pictures of classes that are not there": says("pictures_chosen", pictures=[0, 1], labels=[0, 7]),
    "answers to half a picture": says("answered", probabilities="AAAA"),
    "answers to more pictures": says("answered", probabilities="A" * 400),
    "answers that are markup": says("answered", probabilities="<img src=http://tracker.example>"),
    "answers that name classes": says("answered", classes="AAAA"),
    "test pictures of classes that are not there": says("predicted", classes="/" * 266 + "w=="),
    "fewer test pictures": says("predicted", classes="AAAA"),
    "test pictures that are markup": says("predicted", classes="![t](http://tracker.example)"),
    "a job with fewer classes": told(
        lambda events: [facts.update(classes=["0", "1"]) for facts in events[0]["tasks"]] and None  # type: ignore[attr-defined]
    ),
}


@pytest.mark.parametrize("change", WRONG_STORIES.values(), ids=WRONG_STORIES)
def test_every_word_of_an_import_is_checked(
    change: Callable[[dict[str, bytes]], None], exported: Path, tmp_path: Path
) -> None:
    def with_warning(events: list[dict[str, object]]) -> None:
        events.insert(1, json.loads(to_line(Warned(stage=1, text="…"))))

    elsewhere = Store(tmp_path / "elsewhere")
    as_it_is = changed(exported, told(with_warning))
    archive.import_run(elsewhere, as_it_is)
    elsewhere.delete(elsewhere.records()[0].run)
    with pytest.raises(ConfigError) as error:
        archive.import_run(elsewhere, changed(as_it_is.rename(tmp_path / "as it is.zip"), change))
    assert "\n" not in str(error.value)
    assert elsewhere.records() == []


@pytest.mark.parametrize("change", ANSWERS_THAT_DO_NOT_FIT.values(), ids=ANSWERS_THAT_DO_NOT_FIT)
def test_answers_of_pictures_or_classes_that_are_not_there_are_refused(
    change: Callable[[dict[str, bytes]], None], exported: Path, tmp_path: Path
) -> None:
    refused(changed(exported, change), tmp_path, "answers about pictures or classes that its jobs do not have")


def test_answers_travel_with_a_run(store: Store, exported: Path, tmp_path: Path) -> None:
    elsewhere = Store(tmp_path / "elsewhere")
    run = archive.import_run(elsewhere, exported)
    here, there = store.fold(run), elsewhere.fold(run)
    assert here.answers_missing == there.answers_missing == ()
    for job in (1, 2):
        mine, theirs = answers.of_job(here, job), answers.of_job(there, job)
        assert mine is not None and theirs is not None
        assert (mine.untrained, mine.learnt, mine.now) == (theirs.untrained, theirs.learnt, theirs.now)
        assert answers.predicted(here, job, 2) == answers.predicted(there, job, 2) is not None


def test_a_map_that_no_event_names_stays_out(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="its events do not tell"):
        archive.import_run(Store(tmp_path / "elsewhere"), changed(exported, put("maps/1/000000077-live.npz", b"")))


def test_a_zip_with_a_password_is_a_sentence(exported: Path, tmp_path: Path) -> None:
    data = bytearray(exported.read_bytes())
    for place in [at.start() for at in re.finditer(b"PK\x01\x02", data)]:
        data[place + 8] |= 1  # the flag in the directory, which is where one is asked for a password
    locked = tmp_path / "locked.zip"
    locked.write_bytes(data)
    with pytest.raises(ConfigError, match=r"'locked\.zip' is locked with a password; pack it again without one\."):
        archive.import_run(Store(tmp_path / "elsewhere"), locked)


@pytest.mark.parametrize("way", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 99])
def test_a_zip_packed_in_another_way_is_a_sentence(way: int, exported: Path, tmp_path: Path) -> None:
    data = bytearray(exported.read_bytes())
    for place in [at.start() for at in re.finditer(b"PK\x01\x02", data)]:
        data[place + 10 : place + 12] = struct.pack("<H", way)
    other = tmp_path / "other.zip"
    other.write_bytes(data)
    with pytest.raises(ConfigError, match="packed in a way"):
        archive.import_run(Store(tmp_path / "elsewhere"), other)


@pytest.mark.parametrize("name", ["events.jsonl", "stages/1/network.safetensors"])
def test_a_file_that_is_not_where_the_directory_says_is_a_sentence(name: str, exported: Path, tmp_path: Path) -> None:
    data = bytearray(exported.read_bytes())
    with zipfile.ZipFile(exported) as file:
        place = file.getinfo(name).header_offset
    data[place + 7] |= 8  # the name is in UTF-8, which it now is not
    data[place + 30] = 0xFF
    (tmp_path / "other.zip").write_bytes(data)
    refused(tmp_path / "other.zip", tmp_path, "is not a zip, or is cut short")


def test_a_zip_that_the_disk_cannot_read_is_blamed_and_not_the_store(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = zips.Zip.open

    def unreadable(file: zips.Zip, name: str) -> IO[bytes]:
        os.dup2(os.open(os.devnull, os.O_WRONLY), file._file.fileno())
        return opened(file, name)

    monkeypatch.setattr(zips.Zip, "open", unreadable)
    refused(exported, tmp_path, r"'run\.zip' cannot be read \(Bad file descriptor\)\.")


def test_files_of_before_a_zip_can_say_are_exported(store: Store, exported: Path, tmp_path: Path) -> None:
    run = store.records()[0].run
    os.utime(store.folder(run) / "stages/1/network.safetensors", (0, 0))
    archive.export_run(store, run, tmp_path / "old.zip")
    assert "stages/1/network.safetensors" in members_of(tmp_path / "old.zip")


def refused(path: Path, tmp_path: Path, words: str) -> None:
    elsewhere = Store(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=words):
        archive.import_run(elsewhere, path)
    assert elsewhere.records() == [] and not list(elsewhere.cache.iterdir())


def test_too_many_files_are_refused_by_the_directory_alone(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (f"maps/1/{number:09}-live.npz" for number in range(unpacking.MOST_FILES + 1))
    many = zipped(tmp_path / "many.zip", ((name, b"") for name in names))
    monkeypatch.setattr(zipfile.ZipFile, "open", None)  # nothing is unpacked
    refused(many, tmp_path, "10,001 files, and none of this lab more than 10,000")
    # A longer directory than that of the largest zip of this lab is not read at all.
    monkeypatch.setattr(archive, "MOST_FILES", 10)
    monkeypatch.setattr(zipfile.ZipFile, "infolist", None)
    refused(many, tmp_path, "holds more files than any of this lab")


def test_too_many_events_are_counted_and_none_is_read(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "MOST_EVENTS", 100)
    members = members_of(exported)
    line = members["events.jsonl"].splitlines(keepends=True)[-1]
    read = []
    monkeypatch.setattr(unpacking, "from_line", lambda line: read.append(line))
    refused(
        zipped(tmp_path / "long.zip", (members | {"events.jsonl": 101 * line}).items()),
        tmp_path,
        "101 events, and no run of this lab more than 100",
    )
    assert not read


@pytest.mark.parametrize("name", ["config.json", "result.json", "events.jsonl"])
def test_a_text_that_is_too_long_is_not_read(
    name: str, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = members_of(exported)
    monkeypatch.setitem(unpacking.LARGEST_TEXTS, name, len(members[name]) - 1)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    refused(exported, tmp_path, f"The import's {name} has [0-9,]* bytes, and none of this lab more than")


def test_attempts_are_bounded(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MOST_ATTEMPTS", 3)

    def again(events: list[dict[str, object]]) -> None:
        events[:0] = events[:1] * 3

    refused(changed(exported, told(again)), tmp_path, "more than 3 attempts")


def test_arrays_are_refused_one_by_one_before_the_next_is_unpacked(exported: Path, tmp_path: Path) -> None:
    elsewhere = Store(tmp_path / "elsewhere")
    unpacked = []
    checked = unpacking.map_files.check

    def check(path: Path) -> None:
        unpacked.append(path.parent.parent.parent)
        assert len(list(path.parent.parent.rglob("*.npz"))) == len(unpacked)
        checked(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpacking.map_files, "check", check)
        archive.import_run(elsewhere, exported)
    assert len(unpacked) > 1


def test_a_header_longer_than_any_is_refused_before_the_rest(exported: Path, tmp_path: Path) -> None:
    name = "stages/1/network.safetensors"
    bomb = changed(exported, put(name, struct.pack("<Q", 1 << 30) + bytes(1000)))
    refused(bomb, tmp_path, f"The import's {name} is not a safetensors file of this lab")


def test_a_zip_that_unpacks_to_far_more_than_it_has_is_refused(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = members_of(exported) | {"stages/1/method.safetensors": bytes(1 << 28)}
    bomb = zipped(tmp_path / "bomb.zip", members.items())
    monkeypatch.setattr(archive, "UNPACKS_ALWAYS", 0)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    refused(bomb, tmp_path, "unpacks to [0-9,]* bytes, and none of this lab to more than")
