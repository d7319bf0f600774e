"""What is damaged is said in a sentence, what is whole is still shown, and nothing finished is lost."""

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import sqlite3
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from labcore.cli.main import main
from labcore.configs.base import ConfigError
from labcore.configs.reading import parse_json
from labcore.runs import archive, database, files
from labcore.runs.database import Database
from labcore.runs.errors import StoreError, UnknownRun
from labcore.runs.events import RunEnded
from labcore.runs.stage_cache import StageCache
from labcore.runs.store import Store
from labcore.training import worker
from tests import kept, stories
from tests.conftest import tiny
from tests.disks import fill, for_reading_alone, mounted


def facts(store: Store) -> dict[str, tuple[object, ...]]:
    """What is known of all runs: what must come back however the records were damaged."""
    return {
        record.run: (record.state, record.imported, record.fresh, record.pinned, record.submitted, record.key)
        for record in store.records()
    }


@pytest.fixture
def full(store: Store, tmp_path: Path) -> Store:
    """A store with every kind of run that only its records tell: finished, pinned, imported, fresh, stopped, queued."""
    finished = stories.told(store, tiny(), [[0.9], [0.4, 0.8]])
    pinned = stories.told(store, tiny(seed=1), [[0.9], [0.4, 0.8]])
    store.pin(pinned, True)
    archive.export_run(store, finished, tmp_path / "run.zip")
    archive.import_run(store, tmp_path / "run.zip")
    stopped = store.submit(tiny(seed=2)).run
    store.request_stop(stopped)
    store.submit(tiny(seed=3), use_cache=False)
    store.submit(tiny(seed=4))
    store.close()
    return store


def flip(path: Path, at: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


# ---- records --------------------------------------------------------------------------------------------------------


def emptied(database: Path) -> None:
    database.write_bytes(b"")


def removed(database: Path) -> None:
    shutil.rmtree(database.parent)


def without_rows(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM Cache")


def cut_short(database: Path) -> None:
    os.truncate(database, database.stat().st_size // 2)


def no_database(database: Path) -> None:
    database.write_bytes(b"not a database, not at all" * 100)


def another_shape(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("ALTER TABLE Cache RENAME COLUMN value TO other")


def header(database: Path) -> None:
    flip(database, 3)


@pytest.mark.parametrize("damage", [emptied, removed, without_rows, cut_short, no_database, another_shape, header])
def test_the_records_are_made_anew_from_the_folders(damage: object, full: Store) -> None:
    before, waiting = facts(full), [record.run for record in full.active()]
    full.close()
    damage(full.root / "records" / "cache.db")  # type: ignore[operator]
    found = Store(full.root)
    assert facts(found) == before
    assert [record.run for record in found.active()] == waiting
    assert found.notes
    assert found.submit(tiny()).cached  # what was finished here is found by its configuration, and not trained again
    assert found.check() == []


def test_the_damaged_file_is_kept_aside(full: Store) -> None:
    no_database(full.root / "records" / "cache.db")
    assert "kept in records.damaged-" in Store(full.root).notes[0]
    (aside,) = full.root.glob("records.damaged-*")
    assert (aside / "cache.db").read_bytes().startswith(b"not a database")


def test_two_that_open_damaged_records_at_once_make_them_anew_once(
    full: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = facts(full)
    full.close()
    no_database(full.root / "records" / "cache.db")
    real = Database._alone

    def alone(self: Database) -> contextlib.AbstractContextManager[None]:
        monkeypatch.setattr(Database, "_alone", real)
        Store(full.root).submit(tiny(seed=9))  # another process is quicker
        return real(self)

    monkeypatch.setattr(Database, "_alone", alone)
    assert len(facts(Store(full.root))) == len(before) + 1
    assert len(list(full.root.glob("records.damaged-*"))) == 1
    assert (full.root / "records.lock").stat().st_mode & 0o777 == 0o600


def test_damage_that_a_change_meets_and_another_process_put_right_is_said(full: Store) -> None:
    def change() -> None:
        with full.at_once():
            os.rename(full.root / "records", full.root / "records.damaged-elsewhere")
            Store(full.root)
            raise database._Damaged("database disk image is malformed")

    with pytest.raises(StoreError, match="Nothing was changed; try again"):
        change()
    assert full.check() == []


def test_what_was_put_right_is_told_once_and_not_for_ever(full: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        full._database.note("Something was put right.")
    assert full.warnings() == ["Something was put right."]
    monkeypatch.setattr(database, "_TOLD_FOR", 0.0)
    assert full.warnings() == []


def test_a_damaged_list_of_active_runs_is_written_anew(full: Store) -> None:
    waiting = [record.run for record in full.active()]
    full._database.set("active", "[")
    assert [record.run for record in full.active()] == waiting
    assert json.loads((full._database.get("active") or "").partition("\n")[0]) == waiting


def test_a_run_that_is_deleted_while_it_is_taken_in_stays_gone(full: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(full)
    full._database.delete(f"run/{run}")
    real = full._from_folder

    def found_last(asked: str) -> object:
        record = real(asked)
        shutil.rmtree(full.root / "runs" / asked)
        return record

    monkeypatch.setattr(full, "_from_folder", found_last)
    full._fill()
    assert run not in full._runs_known()


def test_a_flipped_bit_anywhere_in_the_records_loses_nothing(full: Store, capsys: pytest.CaptureFixture[str]) -> None:
    before, waiting = facts(full), {record.run for record in full.active()}
    full.close()
    whole = full.root.with_name("whole")
    shutil.copytree(full.root / "records", whole)
    pick = random.Random(27)
    for _ in range(25):
        shutil.rmtree(full.root / "records")
        shutil.copytree(whole, full.root / "records")
        place = pick.randrange((whole / "cache.db").stat().st_size), pick.randrange(8)
        flip(full.root / "records" / "cache.db", *place)
        assert main(["list"]) == 0, place
        store = Store(full.root)
        assert facts(store) == before, place
        assert {record.run for record in store.active()} == waiting, place
        store.close()
    capsys.readouterr()


def test_one_damaged_row_ends_nothing(full: Store, capsys: pytest.CaptureFixture[str]) -> None:
    before = facts(full)
    run = next(iter(before))
    full._database.set(f"run/{run}", '{"run": "' + run + '", "state": "comp')
    assert facts(full) == before
    assert f"The record of run {run} was missing or damaged" in full.notes[-1]
    full._database.set(f"run/{run}", full._database.get(f"run/{run}").replace("complete", "complexe"))
    assert main(["list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(before)


def test_a_server_that_had_the_old_records_open_finds_the_new_ones(full: Store) -> None:
    here = Store(full.root)
    before = facts(here)
    no_database(full.root / "records" / "cache.db")
    Store(full.root).submit(tiny(seed=9))  # another process, which makes them anew
    assert facts(here).items() >= before.items()
    assert len(here.records()) == len(before) + 1
    assert here.submit(tiny(seed=9)).run == here.active()[-1].run


def test_records_that_are_damaged_while_they_are_open(full: Store) -> None:
    before = facts(full)
    shutil.rmtree(full.root / "records")
    assert facts(full) == before
    full.submit(tiny(seed=9))
    assert len(full.records()) == len(before) + 1


def test_a_run_of_which_no_record_was_written_down_counts_as_imported_until_trained_here(store: Store) -> None:
    run = kept.trained(store, tiny())
    old = store.record(run)
    (store.folder(run) / "record.jsonl").unlink(missing_ok=True)
    store.close()
    emptied(store.root / "records" / "cache.db")
    found = Store(store.root)
    record = found.record(run)
    assert record.imported
    assert record.state == "complete"
    assert (record.average_accuracy, record.train_seconds) == (old.average_accuracy, old.train_seconds)
    again = found.submit(tiny())
    assert again.run != run
    assert not again.cached


def test_a_queued_run_whose_record_is_damaged_in_both_places_is_still_there(store: Store) -> None:
    run = store.submit(tiny()).run
    written = store.folder(run) / "record.jsonl"
    flip(written, written.stat().st_size // 2)
    store.close()
    emptied(store.root / "records" / "cache.db")
    found = Store(store.root)
    record = found.record(run)
    assert (record.state, record.imported, record.attempt) == ("stopped", True, 0)
    assert record.names is not None and record.names.tasks == tuple(tiny().task_names)
    found.check(repair=True)
    assert found.config(run) == tiny()
    found.resume(run)
    assert worker.run_claim(found.claim_run(run), "cpu").state == "complete"


def test_a_run_whose_end_was_not_recorded_when_the_records_were_lost_has_the_digest_of_its_events(store: Store) -> None:
    claim = stories.written(store, stories.COMPLETE)
    assert store.record(claim.run).state == "running"
    claim.release()
    store.close()
    emptied(store.root / "records" / "cache.db")
    found = Store(store.root)
    record = found.record(claim.run)
    assert (record.state, record.imported) == ("complete", False)
    assert record.digest == files.digest_of(found.folder(claim.run) / "events.jsonl")


def test_the_damaged_record_of_a_run_that_waits_is_written_anew(store: Store) -> None:
    run = store.submit(tiny()).run
    written = store.folder(run) / "record.jsonl"
    whole = written.read_bytes()
    flip(written, len(whole) // 2)
    store.check(repair=True)
    assert written.read_bytes() == whole


def test_an_imported_run_that_is_trained_here_is_this_labs_own(store: Store) -> None:
    run = store.submit(tiny()).run
    store._database.delete(f"key/{store.record(run).key}")
    store.change(run, imported=True)
    claim = store.claim_run(run)
    claim.append(RunEnded(state="complete"))
    assert not claim.finish("complete").imported
    assert store.submit(tiny()).run == run


def test_a_store_of_before_there_were_records_in_folders_gets_them(store: Store) -> None:
    runs = [store.submit(tiny(seed=seed)).run for seed in range(3)]
    before = facts(store)
    for run in runs:
        (store.folder(run) / "record.jsonl").unlink()
    store.tidy()
    store.close()
    emptied(store.root / "records" / "cache.db")
    assert facts(Store(store.root)) == before


def test_check_names_what_is_damaged_and_repairs_it(full: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run, other, gone, *_ = [record.run for record in full.records() if record.state == "complete"]
    (full.folder(run) / "config.json").write_text("{")
    (full.folder(other) / "record.jsonl").write_text("{}")
    shutil.rmtree(full.folder(gone))
    (full.root / "runs" / "nobody").mkdir()
    assert main(["check"]) == 1
    told = capsys.readouterr().out
    for part in (f"Run {run}: The configuration is not valid JSON", f"Run {other}: its record.jsonl", "runs/nobody"):
        assert part in told
    assert f"Run {gone}: its folder is gone" in told
    assert main(["check", "--repair", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["damaged"] == []
    assert any(f"Run {run}: its config.json was damaged" in text for text in found["put_right"])
    assert main(["check"]) == 0
    assert capsys.readouterr().out == "All is well.\n"
    assert full.config(run) == tiny() or full.config(run) == tiny(seed=1)


def test_check_tells_how_far_it_is_where_a_person_watches(
    full: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check"]) == 0
    assert capsys.readouterr() == ("All is well.\n", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert main(["check"]) == 0
    out, err = capsys.readouterr()
    count = len(full.records())
    assert out == "All is well.\n"
    assert all(f"\r\033[KLooking at {number} of {count} runs …" in err for number in range(1, count + 1))
    assert err.endswith("\r\033[K")  # nothing of it is left


def killed_at(root: Path, number: int, act: Callable[[Store], object]) -> bool:
    """Do something in a process of its own, which is killed at the n-th durable write; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = number

        def die(path: Path) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            store = Store(root)
            files.about_to_write = die
            act(store)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def run_where(store: Store, **facts: object) -> str:
    return next(r.run for r in store.records() if all(getattr(r, name) == value for name, value in facts.items()))


ACTIONS: dict[str, Callable[[Store], object]] = {
    "submit": lambda store: store.submit(tiny(seed=8)),
    "delete": lambda store: store.delete(run_where(store, pinned=True)),
    "pin": lambda store: store.pin(run_where(store, state="complete", imported=False, pinned=False), True),
    "import": lambda store: archive.import_run(store, store.root.parent / "run.zip"),
    "finish": lambda store: store.claim_run(run_where(store, fresh=True)).finish("complete"),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_kill_between_two_writes_loses_and_doubles_no_run(action: str, full: Store, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(full.root, whole)
    before = facts(full)
    full.close()
    killed, number = True, -1
    while killed:
        number += 1
        shutil.rmtree(full.root)
        shutil.copytree(whole, full.root)
        killed = killed_at(full.root, number, ACTIONS[action])
        found = Store(full.root)
        assert facts(found).keys() >= before.keys() - {r for r, f in before.items() if action == "delete" and f[3]}
        assert len(found.records()) - len(before) in {"submit": (0, 1), "import": (0, 1), "delete": (-1, 0)}.get(
            action, (0,)
        )
        if action == "submit":
            assert found.submit(tiny(seed=8)).run == found.submit(tiny(seed=8)).run
            assert len(found.records()) == len(before) + 1
        rows = facts(found)
        found.close()
        emptied(full.root / "records" / "cache.db")  # and what is made anew is the same
        again = facts(Store(full.root))
        assert again.keys() == rows.keys()
        assert killed or again == rows
    assert number >= 3


# ---- events, weights, settings --------------------------------------------------------------------------------------


def run_of(full: Store) -> str:
    return run_where(full, state="complete", imported=False, pinned=False)


@pytest.mark.parametrize("line", range(len(stories.COMPLETE)))
def test_a_damaged_event_is_said_and_the_others_still_are_shown(
    line: int, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    claim = stories.written(store, stories.COMPLETE)
    claim.finish("complete")
    path = store.folder(claim.run) / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b'{"', b"{\xff", 1)
    path.write_bytes(b"".join(lines))
    assert main(["show", claim.run]) == 1
    told = capsys.readouterr()
    assert claim.run in told.out
    assert f"Run {claim.run} is damaged: " in told.err
    assert main(["events", claim.run]) == 1
    assert len(capsys.readouterr().out.splitlines()) == len(lines) - 1
    assert main(["export", claim.run, str(tmp_path / "out.zip")]) == 2
    assert "no lab could import it" in capsys.readouterr().err
    assert not (tmp_path / "out.zip").exists()


def test_another_figure_in_the_events_is_said(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    claim = stories.written(store, stories.COMPLETE)
    claim.finish("complete")
    path = store.folder(claim.run) / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b"[0.9]", b"[0.8]"))
    assert main(["show", claim.run]) == 1
    assert "its events are not those that were written" in capsys.readouterr().err
    assert main(["check"]) == 1


def test_an_event_of_a_later_version_is_no_damage(store: Store) -> None:
    claim = stories.written(store, stories.COMPLETE[:-1])
    with (claim.folder / "events.jsonl").open("ab") as file:
        file.write(b'{"event":"weather_told","sun":true}\n')
    assert store.fold(claim.run).damaged == 0
    assert len(store.tail(claim.run)[0]) == len(stories.COMPLETE) - 1


def test_a_run_that_goes_on_after_it_was_over_is_whole(store: Store) -> None:
    claim = stories.written(store, stories.FIRST)
    claim.append(RunEnded(state="stopped"))
    claim.finish("stopped")
    store.resume(claim.run)
    again = store.claim_run(claim.run)
    for event in stories.COMPLETE:
        again.append(event)
    assert store.damage(claim.run, store.fold(claim.run)) is None
    again.finish("complete")
    assert store.damage(claim.run, store.fold(claim.run)) is None


def test_damaged_weights_are_left_out_of_an_export_and_named(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = kept.trained(store, tiny("separate_copies"))
    path = store.stage_folder(run, 1) / "network.safetensors"
    flip(path, path.stat().st_size - 3)
    assert StageCache(store).spoilt([run]) == {run: [1]}
    assert main(["export", run, str(tmp_path / "out.zip")]) == 0
    assert "Stages whose arrays are damaged, left out: 1." in capsys.readouterr().err
    with zipfile.ZipFile(tmp_path / "out.zip") as file:
        names = file.namelist()
        assert [stage["weights"] for stage in json.loads(file.read("result.json"))["stages"]] == [False, True]
    assert not [name for name in names if name.startswith("stages/1/")]
    assert [name for name in names if name.startswith("stages/2/")]
    assert main(["check"]) == 1
    assert "the arrays of stage 1 are damaged" in capsys.readouterr().out
    assert archive.import_run(Store(tmp_path / "elsewhere"), tmp_path / "out.zip") == run


def test_damaged_weights_are_found_for_all_runs_at_once_and_in_folders_of_stages_alone(store: Store) -> None:
    run = kept.trained(store, tiny("separate_copies"))
    other = kept.trained(store, tiny("separate_copies", seed=1))
    path = store.stage_folder(run, 2) / "network.safetensors"
    for name in ("0old", "old"):
        store.stage_folder(run, 1).with_name(name).mkdir()
        os.link(path, store.stage_folder(run, 1).with_name(name) / path.name)
    store.stage_folder(other, 4).mkdir()
    os.link(path, store.stage_folder(other, 4) / path.name)
    flip(path, path.stat().st_size - 3)
    assert StageCache(store).spoilt([run, other, "gone"]) == {run: [2], other: [4]}


def test_what_no_lab_could_import_is_left_out_of_an_export_and_named(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = kept.trained(store, tiny("separate_copies"))
    StageCache(store).root.rename(tmp_path / "stages")  # so nobody knows the digests of its arrays
    os.truncate(store.stage_folder(run, 1) / "network.safetensors", 100)
    maps = sorted(store.folder(run).glob("maps/*/*-*.npz"))
    maps[0].write_bytes(b"")
    flip(maps[-1], maps[-1].stat().st_size // 2)
    assert main(["export", run, str(tmp_path / "out.zip")]) == 0
    told = capsys.readouterr().err
    assert "Stages whose arrays are damaged, left out: 1." in told
    assert "Maps that are damaged, left out: 2." in told
    elsewhere = Store(tmp_path / "elsewhere")
    assert archive.import_run(elsewhere, tmp_path / "out.zip") == run
    assert elsewhere.stages_stored(run) == [2]
    assert len(list(elsewhere.folder(run).glob("maps/*/*.npz"))) == len(maps) - 2


def another_rate(store: Store, run: str) -> None:
    """Flip a bit of a run's configuration, so that it still is one: of another learning rate."""
    path = store.folder(run) / "config.json"
    flip(path, path.read_bytes().index(b'"learning_rate": 0.002') + len(b'"learning_rate": 0.002') - 1)
    assert parse_json(path.read_bytes()).training.learning_rate == 0.003


def test_another_setting_in_a_configuration_is_said_and_nothing_is_trained_by_it(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    done, waiting = stories.told(store, tiny(), [[0.9], [0.4, 0.8]]), store.submit(tiny(seed=1)).run
    for run in (done, waiting):
        another_rate(store, run)
        with pytest.raises(ConfigError, match=r"config\.json is not what was written"):
            store.config(run)
    assert main(["show", done]) == 2
    assert main(["list"]) == 0  # which names nothing that is not in the records
    record = worker.run_claim(store.claim_run(waiting), "cpu")
    assert record.state == "failed" and "config.json is not what was written" in (record.error or "")
    capsys.readouterr()
    assert main(["check"]) == 1
    assert capsys.readouterr().out.count("config.json is not what was written") == 2
    assert main(["check", "--repair"]) == 1  # of the one that had not begun nothing tells what it was
    assert store.config(done) == tiny()
    assert main(["show", done]) == 0
    elsewhere = Store(store.root)
    assert elsewhere.config(done) == tiny()
    assert not [text for text in elsewhere.check() if done in text]


def test_damaged_events_do_not_restore_a_configuration(store: Store) -> None:
    run = stories.told(store, tiny(), [[0.9], [0.4, 0.8]])
    another_rate(store, run)
    events = store.folder(run) / "events.jsonl"
    flip(events, events.read_bytes().index(b'"seed":0') + len(b'"seed":0') - 1)
    assert len([text for text in store.check(repair=True) if run in text]) == 2
    with pytest.raises(ConfigError):
        store.config(run)


def test_another_setting_in_a_configuration_of_before_is_seen_by_what_its_events_say(store: Store) -> None:
    run = stories.told(store, tiny(), [[0.9], [0.4, 0.8]])
    store.change(run, config_digest=None)
    assert store.check() == []
    another_rate(store, run)
    assert store.check() == [f"Run {run}: config.json is not what its events say that it was trained with."]
    assert store.check(repair=True) == []
    assert store.config(run) == tiny()


def test_a_run_without_a_record_knows_its_configuration_from_then_on(full: Store) -> None:
    run = run_of(full)
    (full.folder(run) / "record.jsonl").unlink()
    full.close()
    emptied(full.root / "records" / "cache.db")
    found = Store(full.root)
    assert found.record(run).config_digest == files.digest_of(found.folder(run) / "config.json")


def test_a_configuration_that_the_events_do_not_confirm_is_not_sealed(full: Store) -> None:
    run = run_of(full)
    path = full.folder(run) / "config.json"
    path.write_bytes(path.read_bytes().replace(b'"seed": 0', b'"seed": 1'))
    (full.folder(run) / "record.jsonl").unlink()
    full.close()
    emptied(full.root / "records" / "cache.db")
    found = Store(full.root)
    assert found.record(run).config_digest is None
    assert any("config.json is not what its events say" in text for text in found.check())


def test_another_value_in_the_settings_is_said_and_the_defaults_hold(store: Store) -> None:
    store.change_settings(country="FRA", stage_cache_gb=50.0)
    path = store.root / "settings.json"
    for before, after in ((b'"FRA"', b'"BRA"'), (b"50.0", b"10.0"), (b'"all"', b'"none"')):
        whole = path.read_bytes()
        assert before in whole
        path.write_bytes(whole.replace(before, after))
        assert "it is not what the lab wrote" in (store.settings_problem() or "")
        assert store.settings().country is None
        assert StageCache(store).limit_bytes > 10**15  # nothing is evicted by a limit that nobody chose
        path.write_bytes(whole)
        assert (store.settings().country, store.settings_problem()) == ("FRA", None)


def test_settings_by_hand_or_of_before_hold_without_a_seal(store: Store) -> None:
    path = store.root / "settings.json"
    path.write_text('{"country": "FRA"}')
    assert (store.settings().country, store.settings_problem()) == ("FRA", None)
    store.change_settings(maps="none")
    told = json.loads(path.read_text())
    assert told.pop("seal")
    path.write_text(json.dumps(told | {"country": "DEU"}))
    assert (store.settings().country, store.settings().maps, store.settings_problem()) == ("DEU", "none", None)


def test_damaged_settings_are_said_and_what_is_whole_holds(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.change_settings(country="FRA", stage_cache_gb=50.0)
    path = store.root / "settings.json"
    path.write_text(path.read_text().replace('"FRA"', '"FRB"'))
    assert store.settings().stage_cache_gb == 50
    assert StageCache(store).limit_bytes == 50e9
    assert main(["list"]) == 0
    assert "Carbon is counted by the world's average" in capsys.readouterr().err
    path.write_text("{")
    # What was set cannot be read: so nothing is evicted by a limit that nobody chose.
    assert StageCache(store).limit_bytes > 10**15
    store.change_settings(maps="none")
    assert store.settings_problem() is None
    assert (store.root / "settings.json.damaged").read_text() == "{"


# ---- a full disk, a disk for reading alone --------------------------------------------------------------------------


@pytest.mark.parametrize("reserve", [True, False])
def test_on_a_full_disk_all_can_be_read_and_deleted(
    reserve: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "disk", 24) as disk:
        monkeypatch.setenv("REUSE_LAB_HOME", str(disk / "home"))
        store = Store()
        runs = [stories.told(store, tiny(seed=seed), [[0.9], [0.4, 0.8]]) for seed in range(3)]
        archive.export_run(store, runs[0], tmp_path / "in.zip")
        store.close()
        if not reserve:
            (store.root / "reserve").unlink()
        fill(disk)
        assert main(["list"]) == 0
        fill(disk)  # with what the reserve gave back
        assert len(capsys.readouterr().out.splitlines()) == 3
        assert main(["show", runs[0]]) == 0
        assert main(["export", runs[0], str(tmp_path / "out.zip")]) == 0
        assert main(["import", str(tmp_path / "in.zip")]) == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert "No space left on device" in told
        assert "`delete RUN` still works" in told
        for run in runs:
            assert main(["delete", run]) == 0, capsys.readouterr().err
        capsys.readouterr()
        assert main(["list"]) == 0
        assert capsys.readouterr().out.startswith("No runs yet")


def test_a_store_for_reading_alone_is_listed_shown_and_exported(
    full: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, run = facts(full), run_of(full)
    full.close()
    with mounted(tmp_path / "disk", 24) as disk:
        shutil.copytree(full.root, disk / "home")
        for_reading_alone(disk)
        store = Store(disk / "home")
        assert store.read_only == "Read-only file system"
        assert facts(store) == before
        monkeypatch.setenv("REUSE_LAB_HOME", str(disk / "home"))
        for command in (
            ["list"],
            ["show", run],
            ["events", run],
            ["export", run, str(tmp_path / "out.zip")],
            ["check"],
        ):
            assert main(command) == 0, capsys.readouterr().err
            assert "cannot be written (Read-only file system)" in capsys.readouterr().err or command == ["check"]
        for command in (["delete", run], ["submit"], ["import", str(tmp_path / "out.zip")], ["check", "--repair"]):
            assert main(command) == 2
            assert "cannot be written (Read-only file system)" in capsys.readouterr().err.splitlines()[-1]


def test_a_store_whose_disk_was_full_is_written_once_there_is_room(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 24) as disk:
        run = Store(disk / "home").submit(tiny()).run
        (disk / "home" / "reserve").unlink()
        fill(disk)
        store = Store(disk / "home")
        assert store.read_only == "No space left on device"
        with pytest.raises(StoreError, match="No space left on device"):
            store.pin(run, True)
        (disk / "rest").unlink()
        assert store.pin(run, True).pinned
        assert store.read_only is None
        assert Store(disk / "home").record(run).pinned


@pytest.mark.parametrize("damage", [no_database, cut_short, without_rows])
def test_damage_that_cannot_be_put_right_is_not_said_to_be(
    damage: Callable[[Path], None],
    full: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = facts(full)
    full.close()
    damage(full.root / "records" / "cache.db")
    with mounted(tmp_path / "disk", 24) as disk:
        shutil.copytree(full.root, disk / "home")
        for_reading_alone(disk)
        store = Store(disk / "home")
        assert facts(store) == before
        assert "what is shown is read from the runs' folders" in store.warnings()[0]
        monkeypatch.setenv("REUSE_LAB_HOME", str(disk / "home"))
        assert main(["check"]) == 1
        told = capsys.readouterr().out
        assert told.startswith("Damaged: The records are damaged (")
        assert "Put right" not in told


def test_a_change_that_comes_while_a_copy_is_filled_is_refused_and_not_lost(full: Store, tmp_path: Path) -> None:
    full.close()
    refused: list[StoreError] = []
    with mounted(tmp_path / "disk", 24) as disk:
        shutil.copytree(full.root, disk / "home")
        for_reading_alone(disk)

        def change() -> None:
            try:
                found.set("run/x", "lost")
            except StoreError as error:
                refused.append(error)

        thread = threading.Thread(target=change)

        def fill_in() -> None:
            if thread.ident is None:
                thread.start()
            thread.join(0.5)  # it may wait for us

        found = Database(disk / "home", fill_in, files.Reserve(disk / "home" / "reserve"))
        found.open()
        thread.join()
        assert len(refused) == 1
        assert found.get("run/x") is None


def test_a_change_that_is_refused_at_any_write_leaves_folders_and_records_alike(
    full: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [record.run for record in full.records() if record.state == "complete"]

    def change() -> None:
        with full.at_once():
            for run in runs:
                full.change(run, pinned=not full.record(run).pinned)

    before, number, refused = facts(full), -1, True
    while refused:
        number += 1
        left, refused = number, False

        def refuse(path: Path) -> None:
            nonlocal left, refused
            left -= 1
            if left == -1:
                refused = True
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        monkeypatch.setattr(files, "about_to_write", refuse)
        with contextlib.suppress(OSError):
            change()
        monkeypatch.undo()
        assert not refused or facts(full) == before
        assert full.check() == []
    assert number > len(runs)


def test_a_write_that_is_refused_changes_nothing(full: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = facts(full)

    def refuse(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(files, "about_to_write", refuse)
    for action in ACTIONS.values():
        with pytest.raises((OSError, StoreError)):
            action(full)
    monkeypatch.undo()
    assert facts(full) == before
    assert full.check() == []


# ---- two at once, and what the dead leave behind --------------------------------------------------------------------


def test_two_imports_of_one_zip_at_once_are_two_runs(full: Store, tmp_path: Path) -> None:
    elsewhere = Store(tmp_path / "elsewhere")
    found: list[str] = []
    real, both = elsewhere.free_id, threading.Barrier(2, timeout=20)

    def free_id(run: str) -> str:
        picked = real(run)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(5 if len(found) == 0 else 0.01)
        return picked

    elsewhere.free_id = free_id  # type: ignore[method-assign]

    def take() -> None:
        found.append(archive.import_run(elsewhere, tmp_path / "run.zip"))

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 2
    assert {record.run for record in elsewhere.records()} == set(found)
    assert not list(elsewhere.cache.glob("import-*"))


def test_an_export_of_a_run_that_is_deleted_meanwhile_blames_no_target(
    full: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(full)
    real = full.tail

    def tail(asked: str, offset: int = 0) -> object:
        found = real(asked, offset)
        if list(tmp_path.glob(".out.zip.*")):  # the zip is begun
            full.delete(run)
        return found

    monkeypatch.setattr(full, "tail", tail)
    full.stage_folder(run, 1).mkdir(parents=True, exist_ok=True)
    (full.stage_folder(run, 1) / "network.safetensors").write_bytes(b"arrays")
    with pytest.raises(UnknownRun, match=run):
        archive.export_run(full, run, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_two_writers_of_one_process_number_are_not_in_each_others_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two containers may have it that share a folder."""
    monkeypatch.setattr(os, "getpid", lambda: 17)
    path = tmp_path / "file"
    with files.atomic_path(path) as first:
        first.write_bytes(b"first")
        with files.atomic_path(path) as second:
            second.write_bytes(b"second, and longer")
            assert first.read_bytes() == b"first"
        assert path.read_bytes() == b"second, and longer"
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]
    with contextlib.suppress(ZeroDivisionError), files.atomic_path(path) as left:
        left.write_bytes(b"half")
        assert files.is_left_over(left.name)
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == [path]
    assert files.is_left_over(".settings.json.17") and not files.is_left_over("settings.json.17")


def test_what_a_killed_writer_left_is_cleared_away_by_the_next(store: Store) -> None:
    run = store.submit(tiny()).run
    left = store.folder(run) / ".checkpoint.safetensors.4194999"
    left.write_bytes(b"half")
    (store.folder(run) / "checkpoint.safetensors").write_bytes(b"whole")
    store.claim_run(run).finish("stopped")
    assert not left.exists()
    assert (store.folder(run) / "checkpoint.safetensors").read_bytes() == b"whole"


def test_what_the_dead_left_is_cleared_away_and_what_the_living_write_is_not(store: Store) -> None:
    run, other = store.submit(tiny()).run, store.submit(tiny(seed=1)).run
    claim = store.claim_run(run)
    store.claim_run(other).finish("stopped")
    old = [
        store.folder(other) / ".checkpoint.safetensors.17",
        store.cache / "import-aaaa",
        store.root / ".settings.json.17",
        store.cache / "stages" / ".new-1f",
        store.cache / "deleted-x",
        store.cache / "stages" / ".gone-1f",
    ]
    new = [claim.folder / ".checkpoint.safetensors.18", store.cache / "import-bbbb", store.root / ".settings.json.18"]
    new.append(store.cache / "stages" / ".new-2f")
    for path in old + new:
        path.mkdir(parents=True) if store.cache in path.parents else path.write_bytes(b"half")
    for path in old[1:4]:
        os.utime(path, (0, 0))
    assert len(store.check()) == len(old)
    store.check(repair=True)
    assert not [path for path in old if path.exists()]
    assert all(path.exists() for path in new)
    claim.release()


def test_a_run_that_is_being_submitted_is_not_cleared_away(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go, real = threading.Event(), threading.Event(), store.at_once
    found: list[str] = []

    def write(path: Path, data: bytes) -> None:
        begun.set()
        go.wait(60)
        files.write_atomically(path, data)

    def at_once() -> contextlib.AbstractContextManager[None]:
        go.set()
        return real()

    monkeypatch.setattr("labcore.runs.queue.write_atomically", write)
    monkeypatch.setattr(store, "at_once", at_once)
    thread = threading.Thread(target=lambda: found.append(Store(store.root).submit(tiny()).run))
    thread.start()
    try:
        assert begun.wait(60)
        assert store.check(repair=True) == []
    finally:
        go.set()
        thread.join()
    assert [record.run for record in store.records()] == found
    assert store.config(found[0]) == tiny()
