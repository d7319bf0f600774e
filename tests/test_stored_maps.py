"""Maps make room, in their order and for nothing that is needed, and come back from stored weights."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labcore.cli.main import main
from labcore.configs.base import ConfigError
from labcore.runs import archive, files, map_files, moments, stored_maps
from labcore.runs.files import take_lock
from labcore.runs.map_files import MapFile
from labcore.runs.moments import Book
from labcore.runs.stage_cache import StageCache
from labcore.runs.store import Store
from labcore.training import maps_again
from tests.conftest import Killed, tiny
from tests.kept import trained


def maps_of(store: Store, run: str) -> stored_maps.Stored:
    (found,) = stored_maps.all_of(store, [run]) or [stored_maps.Stored(run, 0, 0, 0)]
    return found


def kinds(store: Store, run: str) -> tuple[bool, bool]:
    """Whether a run has live maps, and maps of its stages' ends."""
    found = maps_of(store, run)
    return found.live > 0, found.stage > 0


def used(store: Store, run: str, seconds: int) -> None:
    os.utime(store.folder(run) / "maps", (seconds, seconds))


def told(store: Store, run: str) -> Any:
    return (store.folder(run) / "events.jsonl").read_bytes(), store.result(run).accuracy_matrix, store.record(run)


def another(store: Store, run: str, name: str) -> str:
    """A finished run that is a copy of this one."""
    folder = store.cache / "copy"
    shutil.copytree(store.folder(run), folder)
    shutil.rmtree(folder / "stages")
    store.take_in(store.record(run).model_copy(update={"run": name}), folder)
    return name


def keep(store: Store, limit: float) -> None:
    StageCache(store, limit_bytes=int(limit)).keep_to_limit()


def test_weights_go_first_then_live_maps_then_those_of_stages_ends_the_least_used_of_each(store: Store) -> None:
    first = trained(store, tiny())
    runs = [first, another(store, first, "second"), another(store, first, "third")]
    for seconds, run in zip((300, 100, 200), runs, strict=True):
        used(store, run, seconds)
    before = [told(store, run) for run in runs]
    one = maps_of(store, first)
    live, end, weights = one.live, one.stage, StageCache(store).usage()[1]
    keep(store, 3 * (live + end) + weights)
    assert store.stages_stored(first) == [1, 2]
    keep(store, 3 * (live + end) * 1.06)
    assert store.stages_stored(first) == []
    assert [kinds(store, run) for run in runs] == [(True, True)] * 3
    keep(store, (2 * live + 3 * end) * 1.06)
    assert [kinds(store, run) for run in runs] == [(True, True), (False, True), (True, True)]
    keep(store, (live + 3 * end) * 1.06)
    assert [kinds(store, run) for run in runs] == [(True, True), (False, True), (False, True)]
    keep(store, 2 * end * 1.06)
    assert [kinds(store, run) for run in runs] == [(False, True), (False, False), (False, True)]
    keep(store, 0)
    assert [kinds(store, run) for run in runs] == [(False, False)] * 3
    assert before == [told(store, run) for run in runs]
    assert not list(store.cache.glob("deleted-*"))


def test_a_run_at_work_a_kept_one_and_one_in_somebodys_hands_lose_nothing(store: Store) -> None:
    kept, held, queued = trained(store, tiny()), "held", store.submit(tiny(seed=7)).run
    another(store, kept, held)
    shutil.copytree(store.folder(kept) / "maps", store.folder(queued) / "maps")
    running = store.submit(tiny(seed=8)).run
    shutil.copytree(store.folder(kept) / "maps", store.folder(running) / "maps")
    store.claim_run(running)
    store.pin(kept, True)
    lock = take_lock(store.folder(held) / "lock")
    keep(store, 0)
    for run in (kept, held, queued, running):
        assert kinds(store, run) == (True, True), run
    os.close(lock)
    keep(store, 0)
    assert [kinds(store, run)[1] for run in (kept, held, queued, running)] == [True, False, True, True]


def test_the_stage_store_is_emptied_without_the_maps(store: Store) -> None:
    run = trained(store, tiny())
    StageCache(store).empty()
    assert store.stages_stored(run) == []
    assert kinds(store, run) == (True, True)


def test_looking_at_a_run_is_using_its_maps_and_so_is_training_it(store: Store) -> None:
    run = trained(store, tiny())
    used(store, run, 100)
    stored_maps.looked_at(store, run)
    assert maps_of(store, run).used > 10**18
    used(store, run, 100)
    room = StageCache(store)
    room.keep_to_limit()
    before = room._room()
    room.keep_to_limit(run)
    found = maps_of(store, run)
    assert found.used > 10**18
    assert room._room() == before - found.live - found.stage


def drawn(store: Store, run: str) -> dict[tuple[int, str], np.ndarray]:
    """All that the moments at stages' ends show, whichever file it stands in."""
    fold, shelf, found = store.fold(run), Book(store.folder(run)), {}
    left = stored_maps.there(fold, store.folder(run))
    names = {name for moment in left.maps for name in MapFile(store.folder(run) / moment.path).names}
    for moment in left.maps:
        seen = moments.view(shelf, left, moment)
        if seen is not None and moment.kind == "stage":
            found |= {(moment.stage, name): value for name in names if (value := seen.recent(name)) is not None}
    assert not shelf.trouble
    return found


def assert_same(one: dict[tuple[int, str], np.ndarray], other: dict[tuple[int, str], np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=str(name))


@pytest.mark.parametrize("method", ["packnet", "piggyback"])
def test_without_live_maps_a_stages_end_shows_what_it_showed_wherever_it_was_broken_off(
    method: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(store, tiny(method))
    before, spoken, live = drawn(store, run), told(store, run), maps_of(store, run).live
    assert any(name.startswith(("owner/", "mask/")) for _, name in before)
    removed = 0

    def kill(path: Path) -> None:
        nonlocal removed
        removed += path.suffix == ".npz"
        if removed == 2:
            raise Killed

    for _ in range(3):
        removed = 0
        with monkeypatch.context() as patch:
            patch.setattr(files, "about_to_write", kill)
            with pytest.raises(Killed):
                stored_maps.make_room(store, run, "live")
        assert_same(before, drawn(store, run))
    stored_maps.make_room(store, run, "live")
    assert_same(before, drawn(store, run))
    assert 0 < maps_of(store, run).live < live / 2  # what the ends lean on
    assert stored_maps.make_room(store, run, "live") == 0
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", lambda *paths: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            stored_maps.make_room(store, run, "stage")
    assert_same(before, drawn(store, run))
    stored_maps.make_room(store, run, "stage")
    assert drawn(store, run) == {}
    assert told(store, run) == spoken


@pytest.mark.parametrize("method", ["fine_tuning", "ewc", "packnet", "piggyback", "separate_copies"])
def test_maps_of_stages_ends_are_drawn_again_from_weights(method: str, store: Store) -> None:
    run = trained(store, tiny(method))
    stored_maps.make_room(store, run, "live")
    ends = [moment for moment in store.fold(run).maps if moment.kind == "stage"]
    before = {moment.path: MapFile(store.folder(run) / moment.path) for moment in ends}
    read = {path: {name: opened.read(name) for name in opened.names} for path, opened in before.items()}
    spoken = told(store, run)
    stored_maps.make_room(store, run, "stage")
    assert stored_maps.gone(store.fold(run), store.folder(run)).ends == (1, 2)
    assert maps_again.draw(store, run) == [1, 2]
    assert stored_maps.gone(store.fold(run), store.folder(run)).ends == ()
    assert told(store, run) == spoken
    for path, arrays in read.items():
        now = MapFile(store.folder(run) / path)
        for name in arrays.keys() - {"cka", "scores", "score_edges", "threshold"}:
            np.testing.assert_array_equal(now.read(name), arrays[name], err_msg=f"{path} {name}")
        map_files.check(store.folder(run) / path)


def test_without_weights_or_of_a_run_at_work_no_map_is_drawn_again(store: Store) -> None:
    run = trained(store, tiny())
    lock = take_lock(store.folder(run) / "lock")
    with pytest.raises(ConfigError, match="later"):
        maps_again.draw(store, run)
    os.close(lock)
    keep(store, 0)
    with pytest.raises(ConfigError, match="train it again"):
        maps_again.draw(store, run)
    with pytest.raises(ConfigError, match="queued"):
        maps_again.draw(store, store.submit(tiny(seed=9)).run)


def test_a_run_without_its_maps_travels_and_says_so_there(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(store, tiny())
    stored_maps.make_room(store, run, "live")
    assert main(["show", run]) == 0
    shown = capsys.readouterr().out
    assert "live maps are no longer stored" in shown and "labcore draw" not in shown
    stored_maps.make_room(store, run, "stage")
    assert main(["show", run]) == 0
    assert f"labcore draw {run}" in capsys.readouterr().out
    archive.export_run(store, run, tmp_path / "run.zip")
    elsewhere = Store(tmp_path / "elsewhere")
    name = archive.import_run(elsewhere, tmp_path / "run.zip")
    assert stored_maps.gone(elsewhere.fold(name), elsewhere.folder(name)) == stored_maps.gone(
        store.fold(run), store.folder(run)
    )
    monkeypatch.setenv("REUSE_LAB_HOME", str(elsewhere.root))
    assert main(["draw", name]) == 0
    assert kinds(elsewhere, name) == (False, True)
