"""What a store costs does not grow with its size where a page asks each second, and what is remembered is true."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from labcore.cli.main import main
from labcore.runs import kept_folds, records, stories
from labcore.runs.events import Downloading, Event, MapSaved, Waiting, Warned
from labcore.runs.kept_folds import _Head
from labcore.runs.records import Names, RunRecord
from labcore.runs.results import Fold, fold
from labcore.runs.store import Store
from tests import stories as told
from tests.conftest import tiny

# Whatever a run may say, twice resumed.
STORY: list[Event] = [
    Downloading(file="weights.pth", done=1, total=2),
    *told.FIRST,
    Warned(stage=1, text="It learns nothing.", step=10),
    MapSaved(stage=1, kind="live", path="maps/1/000010.npz", step=10),
    *told.SECOND[:4],
    told.opened(resumed=10, images=76, time=300.0, energy_wh=0.05),
    Waiting(stage=2, step=10, time=310.0),
    *told.SECOND,
    told.opened(time=500.0),
    *told.COMPLETE[1:],
]


@pytest.fixture
def all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fold of a short run is kept, too."""
    monkeypatch.setattr(stories, "_WORTH_KEEPING", 0)


def counted(monkeypatch: pytest.MonkeyPatch, place: object, name: str) -> list[object]:
    """What a function was called with, from now on."""
    calls: list[object] = []
    original: Callable[..., object] = getattr(place, name)
    monkeypatch.setattr(place, name, lambda *given, **named: (calls.append(given), original(*given, **named))[1])
    return calls


def kept(store: Store, run: str) -> Path:
    return store.cache / "folds" / f"{run}.json"


@pytest.mark.usefixtures("all_kept")
@pytest.mark.parametrize("story", [told.COMPLETE, told.FIRST, STORY], ids=["complete", "begun", "resumed"])
def test_a_kept_fold_is_what_the_events_add_up_to_after_each_of_them(
    store: Store, story: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = told.written(store, [])
    read = counted(monkeypatch, stories, "from_line")
    for event in story:
        claim.append(event)
        fresh = fold(store.tail(claim.run)[0])
        read.clear()
        assert store.fold(claim.run) == fresh
        assert len(read) == 1  # all that came before it is kept
        assert kept(store, claim.run).exists()
        assert store.fold(claim.run) == fresh


@pytest.mark.usefixtures("all_kept")
def test_a_kept_fold_that_does_not_fit_is_passed_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = told.written(store, STORY)
    path, own = claim.folder / "events.jsonl", kept(store, claim.run)
    whole, before = store.fold(claim.run), path.read_bytes()

    cut = before.splitlines(keepends=True)[:-3]
    path.write_bytes(b"".join(cut))
    assert store.fold(claim.run) == fold(store.tail(claim.run)[0]) != whole  # shorter

    path.write_bytes(before)
    assert store.fold(claim.run) == whole
    at = before.rindex(b'"loss":{"new task":0.5')
    path.write_bytes(before[:at] + b'"loss":{"new task":0.7' + before[at + 22 :])
    assert store.fold(claim.run) == fold(store.tail(claim.run)[0]) != whole  # one digit
    path.write_bytes(before[:at] + b"#" + before[at + 1 :])
    assert store.fold(claim.run).damaged == 1

    path.write_bytes(before)
    store.fold(claim.run)
    text = own.read_bytes()
    for place in range(0, len(text), 97):
        own.write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        assert store.fold(claim.run) == whole
    own.write_bytes(text[:-10])
    assert store.fold(claim.run) == whole

    monkeypatch.setattr(kept_folds, "_code", lambda: "of another version")
    read = counted(monkeypatch, stories, "from_line")
    assert store.fold(claim.run) == whole
    assert len(read) == len(STORY)
    assert _Head.model_validate_json(own.read_bytes().split(b"\n")[0]).code == "of another version"


def test_a_fold_that_cannot_be_kept_as_it_is_is_not_kept(store: Store, tmp_path: Path) -> None:
    claim = told.written(store, told.FIRST)
    odd = store.fold(claim.run)
    odd.losses[0].loss["new task"] = float("nan")  # which JSON has no word for
    kept_folds.write(tmp_path / "kept.json", claim.folder / "events.jsonl", 100, odd)
    assert not (tmp_path / "kept.json").exists()
    assert kept_folds.read(tmp_path / "kept.json", claim.folder / "events.jsonl") == (Fold(), 0)


@pytest.mark.usefixtures("all_kept")
def test_a_kept_fold_goes_with_its_run(store: Store) -> None:
    run = told.written(store, told.COMPLETE).finish("complete").run
    assert kept(store, run).exists()
    store.delete(run)
    assert not kept(store, run).exists()


def test_a_record_is_read_again_only_where_it_was_changed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [store.submit(tiny(seed=seed)).run for seed in range(5)]
    other = Store(store.root)  # as another process has it
    read, listed = counted(monkeypatch, records, "_unsealed"), counted(monkeypatch, Store, "_read_all")
    found = other.records()
    assert [record.run for record in found] == runs[::-1]
    read.clear()
    listed.clear()
    assert other.records() == found
    assert (len(read), len(listed)) == (0, 0)
    changed = store.change(runs[2], error="changed")
    read.clear()
    assert other.records()[2].error == "changed"
    assert other.record(runs[2]) == changed
    assert len([text for text in read if "changed" in str(text)]) == 1
    assert len([text for text in read if '"key"' in str(text)]) == 1


def test_a_list_that_is_not_read_again_asks_who_holds_a_lock_and_is_the_callers_own(store: Store) -> None:
    told.written(store, told.COMPLETE).finish("complete")
    claim = told.written(store, told.FIRST, tiny(seed=1))
    store.submit(tiny(seed=2))
    other = Store(store.root)
    assert [(record.state, record.lost) for record in other.records()] == [
        ("queued", False),
        ("running", False),
        ("complete", False),
    ]
    other.records().clear()
    claim.release()  # as when its process is gone: no record changes
    assert [record.lost for record in other.records()] == [False, True, False]


def test_a_list_of_runs_sees_at_once_what_others_do(store: Store, tmp_path: Path) -> None:
    other = Store(store.root)
    assert other.records() == []
    run = told.written(store, told.COMPLETE).finish("complete").run
    assert [record.state for record in other.records()] == ["complete"]
    with contextlib.suppress(ZeroDivisionError), store.at_once():
        store.change(run, error="half")
        assert store.records()[0].error == "half"
        assert other.records()[0].error is None
        raise ZeroDivisionError
    assert store.records()[0].error is other.records()[0].error is None
    store.delete(run)
    assert other.records() == []
    # A folder of which nobody was told: it is taken in as it stands.
    again = Store(tmp_path / "again")
    copied = told.written(again, told.COMPLETE).finish("complete").run
    shutil.copytree(again.folder(copied), store.root / "runs" / copied)
    assert [record.run for record in other.records()] == [copied]


def test_a_list_knows_what_a_run_names_without_its_configuration(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = store.submit(tiny("ewc")).run
    names = Names(method="ewc", backbone="small_cnn", tasks=("digits:0-3", "fashion:0-2"))
    assert store.record(run).names == names
    store.change(run, names=None)  # as in a record of before there were names
    read = counted(monkeypatch, records, "parse_json")
    assert [store.names(store.record(run)) for _ in range(3)] == [names] * 3
    assert len(read) == 1
    store.tidy()
    assert store.record(run).names == names
    read.clear()
    assert main(["list"]) == 0
    assert read == []
    assert isinstance(records.made_anew(store.folder(run)), RunRecord)
