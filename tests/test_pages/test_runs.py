"""Runs in every state."""

import ast
import errno
import shlex
import threading
from pathlib import Path

import pytest

from labcore.cli import main as cli
from labcore.runs import files, records
from labcore.runs.stage_cache import StageCache
from labcore.runs.store import Store
from pages.parts import runs, stages
from tests import stories
from tests.conftest import tiny
from tests.test_pages.conftest import app, button, listed, picked, text, trained

MOST_LISTED = 100


def test_runs_without_runs_teaches() -> None:
    assert "No runs yet" in text(app("runs"))


def test_runs_shows_all(store: Store) -> None:
    stories.written(store, stories.COMPLETE).finish("complete")
    store.submit(tiny(seed=1))
    test = app("runs")
    waiting, done = listed(test)
    assert (waiting["state"], waiting["note"]) == ("waiting", "number 1 in the queue")
    assert (done["state"], done["cells"]["accuracy"], done["cells"]["forgotten"]) == ("done", "60 %", "50 %")
    assert "2 runs" in text(test)


def test_the_chosen_run_stays_the_chosen_one_when_others_come_and_go(store: Store) -> None:
    mine, other = (store.submit(tiny(method)).run for method in ("ewc", "joint"))
    test = picked(app("runs"), 1)  # the newest stands first
    newest = store.submit(tiny("lwf")).run
    test.run()
    assert len(listed(test)) == 3
    button(test, "Stop").click().run()
    states = {run: store.record(run).state for run in (mine, other, newest)}
    assert states == {mine: "stopped", other: "queued", newest: "queued"}
    store.delete(newest)
    button(test.run(), "Delete").click().run()
    assert f"{runs.title(store.config(mine))}: its curves" in text(test)


def test_a_small_run_is_packed_and_a_large_one_named_for_the_command_line(store: Store) -> None:
    run = stories.written(store, stories.COMPLETE).finish("complete").run
    test = picked(app("runs"), 0)
    button(test, "Export").click().run()
    assert not test.exception
    (download,) = test.get("download_button")
    assert download.proto.label.startswith("Download ")
    weights = store.stage_folder(run, 1) / "network.safetensors"
    weights.parent.mkdir(parents=True)
    with weights.open("wb") as file:
        file.truncate(120_000_000)
    button(test.run(), "Export").click().run()
    assert not test.get("download_button")
    assert "120 MB is too much" in text(test)
    shown = next(block.value for block in test.code if "export" in block.value)
    options = cli.parser().parse_args(shlex.split(shown)[3:])
    assert (options.run, str(options.file)) == (run, f"{run}.zip")


def test_of_several_chosen_runs_each_is_stopped_and_deleted_after_a_question(store: Store) -> None:
    for seed in range(4):
        store.submit(tiny(seed=seed))
    test = picked(app("runs"), 0, 1, 2)
    assert "3 runs chosen" in text(test) and button(test, "Export").disabled, "none is over"
    button(test, "Stop").click().run()
    assert [record.state for record in store.records()] == ["stopped"] * 3 + ["queued"]
    button(test, "Delete").click().run()
    assert len(store.records()) == 4, "it asks"
    store.delete(store.records()[0].run)  # in another tab
    test.button(key="delete-now").click().run()
    assert not test.exception, test.exception
    assert [record.state for record in store.records()] == ["queued"]


def test_a_run_that_trains_keeps_no_other_from_being_deleted(store: Store) -> None:
    trains = stories.written(store, stories.FIRST[:6])
    for seed in (1, 2):
        store.request_stop(store.submit(tiny(seed=seed)).run)
    test = picked(app("runs"), 0, 1, 2)
    button(test, "Delete").click().run()
    test.button(key="delete-now").click().run()
    assert not test.exception, test.exception
    assert [record.run for record in store.records()] == [trains.run]
    assert [error.value for error in test.error] == [f"Run {trains.run} is running; stop it first, then delete it."]


def test_a_chosen_run_that_is_gone_leaves_none_chosen(store: Store) -> None:
    store.submit(tiny(seed=1))
    gone = store.submit(tiny(seed=2)).run
    test = picked(app("runs"), 0)
    assert not button(test, "Delete").disabled
    store.delete(gone)
    test.run()
    assert not test.exception
    assert button(test, "Delete").disabled


def test_runs_says_what_is_stored_and_asks_before_it_empties(store: Store) -> None:
    run = trained(store, tiny())
    test = app("runs")
    assert "2 stages" in text(test)
    button(test, "Free up space").click().run()
    assert "Curves, figures and settings stay" in text(test)
    assert store.stages_stored(run) == [1, 2]
    button(test, "Free it up").click().run()
    assert not test.exception
    assert store.stages_stored(run) == []
    assert store.result(run).average_accuracy is not None


def test_runs_counts_carbon_by_the_country_in_the_settings(store: Store) -> None:
    stories.written(store, stories.COMPLETE).finish("complete")
    test = app("runs")
    assert listed(test)[0]["values"]["energy"] == 0.25
    assert listed(test)[0]["values"]["carbon"] == pytest.approx(0.11875)
    test.selectbox(key="country").select("FRA").run()
    assert not test.exception
    assert store.settings().country == "FRA"
    assert listed(test)[0]["values"]["carbon"] == pytest.approx(0.25 / 1000 * 56.039)
    (store.root / "settings.json").write_text("{")
    assert "defaults stand in" in text(app("runs"))


def test_runs_sets_what_is_recorded_of_the_inside(store: Store) -> None:
    test = app("runs")
    chosen = next(group for group in test.button_group if group.key == "maps")  # type: ignore[attr-defined]
    assert chosen.value == "all"
    chosen.set_value("none").run()
    assert not test.exception
    assert store.settings().maps == "none"
    run = stories.written(store, stories.COMPLETE).finish("complete").run
    assert "is set to record no maps" in text(app("inside", run=run))


def test_a_run_of_which_nothing_is_installed_is_seen_on_every_page_and_not_offered_for_training(store: Store) -> None:
    claim = stories.written(store, stories.COMPLETE)
    claim.finish("complete")
    for name in ("config.json", "events.jsonl"):
        path = claim.folder / name
        told = path.read_text().replace('"fine_tuning"', '"leash"').replace('"small_cnn"', '"narrow"')
        path.write_text(told.replace('"digits:0-3"', '"stripes:0-3"'))
    store.change(claim.run, config_digest=files.digest_of(claim.folder / "config.json"))
    (line,) = listed(picked(app("runs"), 0))
    assert (line["method"], line["cells"]["network"]) == ("leash (not installed)", "narrow (not installed)")
    assert line["jobs"].startswith("stripes:0-3 (not installed) → Clothes")
    for page in ("watch", "inside", "compare"):
        shown = text(app(page, run=claim.run, view="runs"))
        assert "leash" in shown or page == "inside"
    why = "'leash', the backbone 'narrow' and the task 'stripes:0-3' are not installed here"
    for page in ("launch", "explore"):
        assert why in text(app(page, run=claim.run))
    test = app("watch", run=claim.run)
    button(test, "Train it again").click().run()
    assert why in text(test)


def test_a_stage_store_that_cannot_be_emptied_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(store, tiny())
    test = app("runs")
    button(test, "Free up space").click().run()

    def refuse(self: StageCache) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(StageCache, "empty", refuse)
    button(test, "Free it up").click().run()
    assert not test.exception, test.exception
    assert "Read-only file system" in test.error[0].value


FRAGMENTS = [
    (path.stem, node)
    for path in sorted((Path(__file__).parent.parent.parent / "pages").rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.FunctionDef) and any("st.fragment" in ast.unparse(one) for one in node.decorator_list)
]


@pytest.mark.parametrize(("page", "ticks"), FRAGMENTS, ids=[f"{page}-{ticks.name}" for page, ticks in FRAGMENTS])
def test_what_ticks_says_what_is_refused(page: str, ticks: ast.FunctionDef) -> None:
    """A fragment is drawn by itself at its ticks, outside all that the page is drawn in."""
    guards = {ast.unparse(one) for one in ticks.decorator_list}
    only_begins_anew = (page, ticks.name) == ("lab", "ask")
    assert guards & {"runs.while_there", "refusals_told()"} or only_begins_anew


def test_a_large_store_is_listed_in_part_and_searched_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.at_once():
        old = store.submit(tiny("ewc")).run
        for seed in range(MOST_LISTED + 4):
            store.submit(tiny(seed=seed))
    claim = store.claim_run(old)  # it is at work, so the table ticks
    test = app("runs")
    assert len(listed(test)) == MOST_LISTED
    assert "The newest 100 of 105 runs. The filters look through all 105." in text(test)
    test.selectbox(key="method").select("Elastic weights (EWC)").run()
    assert [line["method"] for line in listed(test)] == ["Elastic weights (EWC)"]
    assert "The newest" not in text(test)
    read: list[object] = []
    parse = records.parse_json
    monkeypatch.setattr(records, "parse_json", lambda *given, **named: (read.append(given), parse(*given, **named))[1])
    test.selectbox(key="method").select(None).run()
    assert len(listed(test)) == MOST_LISTED
    assert len(read) == 0  # a page that was drawn reads no configuration again
    claim.release()


def test_what_is_stored_is_counted_while_the_page_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.submit(tiny())
    counted = threading.Event()
    usage = Store.usage
    monkeypatch.setattr(Store, "usage", lambda self: (counted.wait(30), usage(self))[1])
    monkeypatch.setattr(stages, "LOOKED_FOR", 0.0)
    test = app("runs")
    assert "What is stored is being counted." in text(test)
    counted.set()
    stages._counter(str(store.root)).ask(1).result()
    assert "1 run" in text(test.run())
