"""Recorded runs on the pages."""

from pathlib import Path

from labcore.runs.store import Store
from pages.parts import runs
from tests.conftest import tiny
from tests.test_pages.conftest import app, listed, text, trained


def test_a_recorded_run_is_opened_by_its_address_and_by_nothing_else(shipped: Path, store: Store) -> None:
    run = trained(store, tiny())
    assert run in app("watch").query_params["run"]
    for page in ("watch", "inside"):
        test = app(page, run="gallery-ewc")
        assert ">recorded<" in text(test) and "it ships with the lab" in text(test)
        assert not [b.label for b in test.button if b.label in ("Stop", "Resume", "Train it again")]
        assert not [toggle.label for toggle in test.toggle if toggle.label == "Keep its weights"]
        (link,) = [link.proto for link in test.get("page_link") if link.proto.label == "Do it yourself"]
        assert link.query_string == "run=gallery-ewc"
    assert app("launch", run="gallery-ewc").session_state["draft"]["method"]["name"] == "ewc"
    beside = app("watch", run=run, **{"with": "gallery-fine"})
    assert ">recorded<" in text(beside)
    assert [line["run"] for line in listed(app("runs"))] == [run]

    (shipped / "gallery-ewc.zip").write_bytes(b"cut short")
    assert "is damaged" in text(app("watch", run="gallery-ewc"))


def test_whoever_has_trained_nothing_is_led_to_two_recorded_runs(store: Store) -> None:
    run, other = runs.SEEN_FIRST
    for page in (None, "watch"):
        (link,) = [link.proto for link in app(page).get("page_link") if link.proto.label == "See a recorded run first"]
        assert link.query_string == f"run={run}&with={other}"
    test = app("watch", run=run, **{"with": other})
    assert [head.value for head in test.subheader] == ["Fine-tuning", "Elastic weights (EWC)"]
    assert text(test).count(">recorded<") == 2 and not store.records()


def test_inside_says_of_a_recorded_run_what_of_a_layer_was_not_kept(store: Store) -> None:
    assert "Single weights were not kept" in text(app("inside", run="gallery-story-packnet"))
    assert "Only the whole layer" in text(app("inside", run="gallery-story-ewc"))
