"""What is damaged is said in a sentence, what is whole is still shown, and nothing finished is lost."""

import json
import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from labcore.cli.main import main
from labcore.runs import archive, files
from labcore.runs.events import RunEnded
from labcore.runs.store import Store
from tests import kept, stories
from tests.conftest import tiny


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
