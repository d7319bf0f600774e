"""The page Inside in every state, and what its figures are made of."""

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from labcore import plugins
from labcore.drawings import flip_book
from labcore.drawings.inside import importance, magnitudes, movement, registry, representation
from labcore.drawings.inside.kind import MapKind
from labcore.drawings.inside.layer import ChartPiece, Pictures, RunSeen, Shown
from labcore.drawings.inside.overview import Overview
from labcore.drawings.inside.pictures import Picture
from labcore.methods.packnet import maps as owners
from labcore.methods.piggyback import maps as masks
from labcore.runs import archive, map_files, moments, reductions
from labcore.runs.events import MapSaved
from labcore.runs.moments import Book, View
from labcore.runs.results import fold
from labcore.runs.store import Store
from labcore.training import map_maker
from tests import kept, stories
from tests.conftest import tiny
from tests.drawn import drawn
from tests.test_pages.conftest import app, played, text, trained

KINDS = registry.kinds()
NOTES = movement.NOTES | masks.NOTES | {"similarity": representation.NOTE}
NOTES["spring"] = NOTES["spring"].format(quantity="importance")
LAYERS = {
    "layers": np.array(["a.conv", "b.conv"]),
    "blocks": np.array(["a", "b"]),
    "shapes": np.array([[4, 3, 3, 3], [8, 4, 1, 1]], np.int32),
}


def told(folder: Path) -> View:
    """Two stages of made-up maps of a network of two layers, the second one a moment before its end."""
    told_at = [(1, 5, "live"), (1, 10, "stage"), (2, 10, "live"), (2, 15, "live")]
    span = map_files.range_of(1.0)
    for number, (stage, step, kind) in enumerate(told_at, 1):
        arrays = {
            "importance": np.array([0.1 * number, 0], np.float32),
            "importance_range": np.array(span, np.float32),
            "importance/a.conv": map_files.encode(np.full((4, 27), 0.01 * number), span),
            "images": np.array(32 if kind == "live" else 100, np.int32),
            "owners": np.array([[10 * number, 108 - 10 * number, 0], [-1, -1, -1]], np.int32),
        }
        if number == 1:
            arrays["owner/a.conv"] = np.array([[0, 1, 1], [2, 1, 0]], np.uint8)
        if stage == 2:
            arrays |= {
                "drift_tasks": np.array([1], np.int32),
                "drift": np.array([[0.25, 0]], np.float32),
                "drift/a.conv": np.array([[0.1, 0.2, 0.3, 0.4]], np.float32),
                "broke": np.array([[0.01, 0]], np.float32),
                "broke/a.conv": np.array([[0.01, 0, 0, 0]], np.float32),
            }
        map_files.save(folder / map_files.path_of(stage, step, kind), LAYERS | arrays)  # type: ignore[arg-type]
    saved = [
        MapSaved(stage=stage, kind=kind, path=map_files.path_of(stage, step, kind), step=step)  # type: ignore[arg-type]
        for stage, step, kind in told_at
    ]
    events = [*stories.FIRST[:6], saved[0], *stories.FIRST[6:-1], saved[1], stories.FIRST[-1]]
    events += [*stories.SECOND[:3], saved[2], stories.SECOND[3], saved[3]]
    told = fold(events)
    found = moments.view(Book(folder), told, told.maps[-1])
    assert found is not None
    return found


def test_overview_is_what_the_files_hold(tmp_path: Path) -> None:
    seen = told(tmp_path)
    mattered = KINDS["importance"].read(seen)
    assert mattered.values[:, 0].tolist() == pytest.approx([np.log10(0.2), np.log10(0.4)], abs=1e-6)
    assert np.isnan(mattered.values[:, 1]).all(), "no importance is nothing, not very little"
    assert mattered.estimated == 32
    drift = KINDS["drift"].read(seen)
    assert drift.values[0].tolist() == [25, 0]
    assert np.isnan(drift.values[1]).all()
    owned = KINDS["owners"].read(seen)
    assert owned.values[:, 0].tolist() == pytest.approx([100 * 40 / 108, 100 * 68 / 108, 0], rel=1e-5)
    assert np.isnan(owned.values[:, 1]).all()
    broke = KINDS["broke"].read(seen)
    assert broke.values[0, 0] == pytest.approx(-2, abs=1e-6)
    assert [kind.name for kind in registry.kinds_of(seen.book, seen.fold)] == ["importance", "drift", "broke", "owners"]


def test_two_runs_have_one_scale(tmp_path: Path) -> None:
    seen = told(tmp_path)
    info = KINDS["drift"].read(seen)
    more = Overview([1], ["x"], np.array([[180.0]]), ["a"], ["a"], [0])
    assert KINDS["drift"].drawing.scale([info]) == (0, 50)
    assert KINDS["drift"].drawing.scale([info, more]) == (0, 200)
    assert KINDS["importance"].drawing.scale([KINDS["importance"].read(seen)]) == (-1, 0)
    assert KINDS["drift"].overview(info, (0, 200)).traces[0]["zmax"] == 200


def test_a_layer_has_one_scale_at_all_moments_of_two_runs(tmp_path: Path) -> None:
    seen = told(tmp_path)
    layer = seen.layers[0]
    drift, broke = (movement.strips_info(seen, layer, kind) for kind in ("drift", "broke"))
    assert drift is not None and drift[1].tolist() == pytest.approx([10, 20, 30, 40])
    assert broke is not None and broke[1].tolist() == pytest.approx([0.01, 0, 0, 0])
    map_files.save(tmp_path / "other" / seen.moment.path, LAYERS | {
        "drift_tasks": np.array([1], np.int32), "drift/a.conv": np.array([[0.8, 0, 0, 0]], np.float32),
    })  # fmt: skip
    other = moments.view(Book(tmp_path / "other"), seen.fold, seen.moment)
    before = moments.view(seen.book, seen.fold, seen.fold.maps[0])
    assert other is not None and before is not None
    for views, top in (([seen], 40), ([before], 40), ([before, other], 80)):
        assert movement.strips_top(views, 0, "drift") == pytest.approx(top)
    assert movement.strips_top([seen], 1, "drift") == 0
    # Importance of the second job is 0.03, and then 0.04: a moment's own scale would end elsewhere.
    assert magnitudes.layer_scale([before], layer, 2) == magnitudes.layer_scale([seen], layer, 2) == (-2, -1)
    assert movement.strips_info(seen, seen.layers[1], "drift") is None


def test_filters_are_drawn_by_size_and_not_as_they_lie(tmp_path: Path) -> None:
    seen = told(tmp_path)
    drift, broke = movement.strips(seen, seen.layers[0], "drift", 80), movement.strips(seen, seen.layers[0], "broke", 0)
    assert drift is not None and broke is not None
    assert list(drift.traces[0]["y"]) == pytest.approx([40, 30, 20, 10])
    assert [chart.layout["yaxis"]["range"] for chart in (drift, broke)] == [[0, 84], [0, 1]]


def test_a_long_run_is_gone_through_here_and_there() -> None:
    maps = [MapSaved(stage=1, kind="live", path=f"{step}", step=step) for step in range(1000)]
    found = moments.album(maps, keep="1.333", most=60)
    assert len(found) <= 61
    assert [found[0].step, found[-1].step] == [0, 999]
    assert maps[333] in found and found == sorted(found, key=lambda moment: moment.step)
    assert moments.album(maps[:20], most=60) == maps[:20]


@pytest.mark.parametrize("name", ["importance", "drift", "owners", "masks"])
def test_a_flip_book_makes_every_chart_again(name: str, tmp_path: Path) -> None:
    """As the browser does: a frame put upon the chart of any other moment."""
    seen = told(tmp_path)
    kind = KINDS[name]
    views = [moments.view(seen.book, seen.fold, moment) for moment in seen.fold.maps]
    infos = [kind.read(view) for view in views if view is not None]
    charts = [kind.overview(info, (0, 100)) for info in infos]
    frames = flip_book.frames(charts)
    plain = [flip_book._plain(chart.as_json) for chart in charts]
    for frame, made in zip(json.loads(json.dumps(frames, allow_nan=False)), plain, strict=True):
        for base in plain:
            traces = zip(base["data"], frame["data"], strict=False)
            data = frame["data"] if frame["whole"] else [{**trace, **changed} for trace, changed in traces]
            assert (data, {**base["layout"], **frame["layout"]}) == (made["data"], made["layout"])
    if name != "masks":  # which this run has none of
        assert len(json.dumps(frames)) < 0.7 * len(json.dumps(plain)), "only what changes is sent"


def test_moments_have_names_words_and_a_counterpart(tmp_path: Path) -> None:
    seen = told(tmp_path)
    words = [moments.words_of(seen.fold, moment) for moment in seen.fold.maps]
    assert words == [
        "learning Digits: 0 to 3, 53 %",
        "after Digits: 0 to 3",
        "learning Clothes: T-shirt to pullover, 0 %",
        "learning Clothes: T-shirt to pullover, 0 %",
    ]
    assert [moments.name_of(moment) for moment in seen.fold.maps] == ["1.5", "1.10", "2.10", "2.15"]
    assert moments.tied(seen.fold, seen.fold, seen.fold.maps[1]) == seen.fold.maps[1]
    assert moments.tied(seen.fold, fold(stories.FIRST), seen.fold.maps[1]) is None


def test_pictures_say_what_a_pixel_is_and_look_back(tmp_path: Path) -> None:
    seen = told(tmp_path)
    owner = owners.owner_picture(seen, seen.layers[0])
    assert owner is not None
    assert [word for _, word in owner.legend] == ["free", "Digits: 0 to 3", "Clothes: T-shirt to pullover"]
    assert owner.pixel.startswith("a pixel is the owner of most of up to")
    assert owner.png.startswith(b"\x89PNG")
    assert owners.owner_picture(seen, seen.layers[1]) is None
    mattered = magnitudes.picture(seen, seen.layers[0], (-3, 0), 1)
    assert mattered is not None
    assert (mattered.rows, mattered.columns, mattered.pixel) == (4, 27, "a pixel is one weight")
    filters = movement.filters_info(seen, seen.layers[0], 1)
    assert filters is not None
    assert filters[0] == pytest.approx([0.02] * 4, rel=0.05)
    assert filters[1] == pytest.approx([10, 20, 30, 40])


def test_points_follow_the_job_where_its_drift_is_known(tmp_path: Path) -> None:
    seen = told(tmp_path)
    assert movement.drift_task(seen, 1) == 1
    assert movement.drift_task(seen, 2) == 1, "its own drift is not known before another job is learnt"
    before = moments.View(seen.book, seen.fold, seen.until[:1], seen.layers)
    assert movement.drift_task(before, 1) is None


def test_the_gauge_counts_whole_weights(tmp_path: Path) -> None:
    seen = told(tmp_path)
    info = owners.capacity_info(seen, 0.5)
    assert info is not None
    assert (info.weights, info.pruned) == (108, True)
    assert info.shares == pytest.approx([40 / 108, 68 / 108, 0])
    assert info.more == 6  # 40 → 20 → 10 → 5 → 2 → 1 → full
    before = moments.View(seen.book, seen.fold, seen.until[:1], seen.layers)
    assert owners.capacity_info(before, 0.5).more == 4  # type: ignore[union-attr]
    assert "63 %" in owners.gauge(info, seen.titles)


def test_a_last_job_that_is_not_pruned_leaves_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = told(tmp_path)
    monkeypatch.setattr(Book, "read", lambda *_: np.array([[0, 50, 58], [-1, -1, -1]], np.int32))
    for prune_last, expected in ((True, (False, 5)), (False, (True, 0))):
        config = tiny("packnet", method__prune_last=prune_last)
        assert seen.fold.started is not None
        seen.fold.started = seen.fold.started.model_copy(update={"config": config})
        info = owners.capacity_info(seen, 0.5)
        assert info is not None and (info.pruned, info.more) == expected


def test_a_methods_own_importance_is_a_kind_in_a_few_lines(tmp_path: Path) -> None:
    seen = told(tmp_path)
    kind = importance.magnitude_kind("path", 15, KINDS["importance"].words, array="path_importance")
    assert np.isnan(kind.read(seen).values).all()
    weights = {"a.conv.weight": torch.full((4, 3, 3, 3), 0.1), "head.bias": torch.ones(3)}
    arrays = reductions.magnitudes("path_importance", seen.layers, weights)
    map_files.save(tmp_path / seen.moment.path, map_files.facts(LAYERS | arrays))
    seen = moments.view(Book(tmp_path), seen.fold, seen.moment)
    assert seen is not None
    assert [found for found in kind.needs if found in arrays] == ["path_importance"]
    info = kind.read(seen)
    assert info.values[1, 0] == pytest.approx(-1, abs=1e-6), "of the stage's task"
    assert np.isnan(np.delete(info.values.ravel(), 2)).all()
    drawn(kind.overview(info, kind.drawing.scale([info])))
    shown = Shown([RunSeen("run", "", seen)], 0, task=2)
    (pictures,), (against_the_move,) = kind.layer(shown)
    assert isinstance(pictures, Pictures) and isinstance(against_the_move, ChartPiece)
    assert isinstance(pictures.make(seen), Picture)
    (missing,), _ = kind.layer(Shown([RunSeen("run", "", seen)], 1, task=2))
    assert isinstance(missing, Pictures)
    assert missing.make(seen) == "No importance was measured here."
    assert against_the_move.title == "Importance against the move"


def test_the_panels_of_a_methods_own_kind_speak_in_its_words(tmp_path: Path) -> None:
    words = dataclasses.replace(KINDS["importance"].words, term="use of the leash = how far it may still go")
    kind = importance.magnitude_kind("leash", 15, words, array="leash_used")
    (pictures,), (against_the_move,) = kind.layer(Shown([RunSeen("run", "", told(tmp_path))], 0, task=2))
    assert isinstance(pictures, Pictures) and isinstance(against_the_move, ChartPiece)
    assert pictures.make(told(tmp_path)) == "No use of the leash was measured here."
    assert against_the_move.title.startswith("Use of the leash against the move")
    assert "against its use of the leash" in against_the_move.missing
    assert "more use of the leash" in against_the_move.note
    axis = movement.spring([("run", np.ones(2), np.ones(2))], words.quantity, (-1, 0), 1).layout["xaxis"]
    assert axis["title"]["text"] == "use of the leash of a filter (log₁₀)"


def brought(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> dict[str, MapKind]:
    """All kinds, where another package has a method whose maps.py is this."""
    (folder / "another").mkdir()
    (folder / "another" / "__init__.py").touch()
    (folder / "another" / "maps.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    for module in ("another", "another.maps"):  # of the test before
        monkeypatch.delitem(sys.modules, module, raising=False)
    about = SimpleNamespace(name="another", package="another")
    monkeypatch.setattr(registry, "ABOUT", registry.ABOUT | {"another": about})
    monkeypatch.setattr(plugins, "_problems", {})
    return registry.kinds.__wrapped__()


def test_a_kind_of_another_package_stands_on_the_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """from labcore.drawings.inside.importance import IMPORTANCE, magnitude_kind
KINDS = (magnitude_kind("another", 11, IMPORTANCE.words, array="another_importance"),)"""
    found = brought(tmp_path, monkeypatch, code)
    assert list(found) == ["importance", "another", *list(KINDS)[1:]]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import nothing_of_the_kind", "No module named"),
        ("KINDS = ('path',)", "must be of type"),
        ("from labcore.drawings.inside.importance import IMPORTANCE as it\nKINDS = (it,)", "taken already"),
    ],
)
def test_kinds_of_another_package_that_cannot_be_used_are_told(
    code: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(brought(tmp_path, monkeypatch, code)) == list(KINDS)
    (sentence,) = plugins.problems()
    assert why in sentence and "'another'" in sentence


# ---- the page -------------------------------------------------------------------------------------------------------


def kinds(test: object) -> list[str]:
    (switch,) = [group for group in test.button_group if group.key == "inside-map"]  # type: ignore[attr-defined]
    return list(switch.options)


def test_inside_without_runs_teaches() -> None:
    shown = text(app("inside"))
    assert "Where does each job live?" in shown
    assert "Once a run has begun" in shown


def test_inside_waits_for_the_first_map_and_says_where_there_is_none(store: Store) -> None:
    running = stories.written(store, stories.FIRST[:4])
    assert "seconds from now" in text(app("inside", run=running.run))
    done = stories.written(store, stories.COMPLETE, tiny(seed=1))
    done.finish("complete")
    assert "No maps of this run were recorded" in text(app("inside", run=done.run))
    assert "There is no run" in text(app("inside", run="../x"))


@pytest.mark.parametrize(
    ("method", "last"), [("packnet", "Owners"), ("piggyback", "Masks"), ("fine_tuning", "What it broke")]
)
def test_inside_offers_what_the_run_has(method: str, last: str, store: Store) -> None:
    test = app("inside", run=trained(store, tiny(method)))
    names = kinds(test)
    assert names[:3] == ["Importance", "Drift", "What it broke"]
    assert names[-2:] == ([last, "Representation"])
    for kind in ("importance", "drift", "broke", "representation"):
        switch = next(group for group in test.button_group if group.key == "inside-map")
        switch.set_value(kind).run()
        assert not test.exception
        assert KINDS[kind].words.question in text(test)
        assert "What to look for" in text(test)


@pytest.mark.parametrize("method", ["packnet", "piggyback"])
def test_inside_draws_every_map_from_the_first_moment_on(method: str, store: Store) -> None:
    run = trained(store, tiny(method))
    shown = kinds(app("inside", run=run))
    assert "Representation" in shown, "known at stage ends alone"
    first = moments.name_of(store.fold(run).maps[0])
    for kind, record in KINDS.items():
        if record.words.name in shown:
            test = app("inside", run=run, moment=first, map=kind)
            assert not test.exception
            assert record.words.question in text(test)


def test_inside_of_a_running_run_follows_and_of_an_address_stays(store: Store, home: Path) -> None:
    run = store.submit(tiny("packnet")).run
    claim = store.claim_run(run)
    from labcore.training import loop

    events = loop.train(tiny("packnet"), maps=claim.folder)
    saved = 0
    while saved < 3:
        event = next(events)
        claim.append(event)
        saved += isinstance(event, MapSaved)
    test = app("inside", run=run)
    assert "free" in text(test)
    assert len(played(test)["moments"]) == 3
    assert played(test)["at"] == moments.name_of(store.fold(run).maps[-1])
    while saved < 4:
        event = next(events)
        claim.append(event)
        saved += isinstance(event, MapSaved)
    test.run()
    assert played(test)["at"] == moments.name_of(store.fold(run).maps[-1])
    early = moments.name_of(store.fold(run).maps[1])
    test = app("inside", run=run, moment=early, layer="block3.conv", map="importance")
    assert played(test)["at"] == early
    assert test.selectbox(key="inside-layer").value == "block3.conv"
    assert test.query_params["moment"] in (early, [early])


def test_inside_of_two_runs_and_of_an_imported_one(store: Store, tmp_path: Path) -> None:
    ours, theirs = trained(store, tiny("ewc")), trained(store, tiny("fine_tuning"))
    test = app("inside", run=ours, beside=theirs, map="drift")
    shown = text(test)
    assert "Elastic weights" in shown
    assert "Fine-tuning" in shown
    archive.export_run(store, ours, tmp_path / "run.zip")
    new = archive.import_run(store, tmp_path / "run.zip")
    assert new != ours
    assert "Which weights does each job depend on?" in text(app("inside", run=new, map="importance"))


@pytest.mark.parametrize("fits", [True, False])
def test_inside_says_why_drift_is_missing(fits: bool, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fits:
        monkeypatch.setattr(map_maker, "LARGEST_KEPT", 0)
    test = app("inside", run=kept.train(store, tiny("fine_tuning")), map="drift")
    assert not test.exception
    assert "How far have weights moved since?" in text(test)
    assert ("no map since Digits" in text(test)) != fits


def test_inside_says_how_a_run_stands(store: Store) -> None:
    claim = stories.written(store, stories.FIRST[:4])
    assert '"lab-chip lab-running"' in text(app("inside", run=claim.run)).replace("\\", "")
    claim.finish("stopped")
    assert '"lab-chip lab-stopped"' in text(app("inside", run=claim.run)).replace("\\", "")
    done = trained(store, tiny("ewc", seed=1))
    assert '"lab-chip lab-done"' in text(app("inside", run=done)).replace("\\", "")
    test = app("inside", run=done, beside=trained(store, tiny("ewc", seed=2)))
    assert text(test).count("lab-chip lab-done") == 2


@pytest.mark.parametrize("job", ["²", "0", "x", "9" * 5000])
def test_inside_of_a_job_that_cannot_be_shows_one_that_can(job: str, store: Store) -> None:
    test = app("inside", run=trained(store, tiny("ewc")), map="importance", job=job)
    (switch,) = [group for group in test.button_group if group.key == "inside-job"]
    assert switch.value == 2


def test_inside_with_a_torn_file_is_a_sentence(store: Store) -> None:
    run = trained(store, tiny("ewc"))
    for path in (store.folder(run) / "maps").glob("*/*.npz"):
        path.write_bytes(path.read_bytes()[:200])
    shown = text(app("inside", run=run))
    assert "cut short" in shown


def test_inside_does_not_follow_a_path_that_is_none_of_ours(store: Store, tmp_path: Path) -> None:
    claim = stories.written(store, stories.FIRST[:6])
    claim.append(MapSaved(stage=1, kind="live", path="../../../etc/passwd", step=5))
    assert "none of its own" in text(app("inside", run=claim.run))


def test_the_map_is_explained_until_somebody_has_seen_enough(store: Store) -> None:
    test = app("inside", run=trained(store, tiny("ewc")), map="drift")
    assert KINDS["drift"].words.caption in text(test)
    test.toggle(key="inside-explain").set_value(False).run()
    assert not test.exception
    assert KINDS["drift"].words.caption not in text(test)


@pytest.mark.parametrize(
    ("method", "kind", "notes"),
    [
        ("ewc", "importance", ["spring"]),
        ("ewc", "drift", ["drift", "spring"]),
        ("ewc", "broke", ["broke", "spring"]),
        ("ewc", "representation", ["similarity"]),
        ("piggyback", "masks", ["scores", "overlap"]),
    ],
)
def test_each_chart_of_a_layer_is_explained(method: str, kind: str, notes: list[str], store: Store) -> None:
    test = app("inside", run=trained(store, tiny(method)), map=kind)
    assert [name for name, note in NOTES.items() if note in text(test)] == notes
    test.toggle(key="inside-explain").set_value(False).run()
    assert not any(note in text(test) for note in NOTES.values())


def test_a_layer_is_called_by_its_place_and_what_it_sees(store: Store) -> None:
    run = trained(store, tiny("ewc"))
    layers = app("inside", run=run, layer="block2.conv").selectbox(key="inside-layer")
    assert layers.value == "block2.conv"
    assert layers.options == [
        "Layer 1 of 3: sees patches of 3 × 3 pixels",
        "Layer 2 of 3: sees patches of 8 × 8 pixels",
        "Layer 3 of 3: sees up to the whole picture",
    ]
    for path in (store.folder(run) / "maps").glob("*/*.npz"):  # of before, when it was not told
        opened = map_files.MapFile(path)
        map_files.save(path, {name: opened.read(name) for name in opened.names if name != "sees"})
    assert app("inside", run=run).selectbox(key="inside-layer").options[1] == "Layer 2 of 3"
