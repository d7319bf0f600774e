"""Explore in every state."""

import re
from typing import Any

import pytest

from labcore.runs.store import Store
from labcore.studies import advancing, estimates, explorations
from labcore.studies.reader import Reader
from labcore.version import ENGINE_VERSION
from pages.parts import exploring, markup
from pages.parts.live_plot import Picked
from tests import stories
from tests.conftest import tiny
from tests.test_pages.conftest import app, button, text


def explored(store: Store, *varied: dict[str, Any], **changes: Any) -> str:
    """An exploration around a tiny run; nobody advances it but the test."""
    data = {"base": tiny("ewc").model_dump(mode="json"), "varied": varied, "runs": 40, **changes}
    return explorations.create(store, explorations.parse_exploration(data))


STRENGTH = {"path": "method.strength", "low": 1.0, "high": 1e4, "steps": 3, "log": True}
LABELS = {"path": "method.labels", "values": ("sampled", "exact")}
EPOCHS = {"path": "training.epochs", "low": 1.0, "high": 3.0, "steps": 2}


def advanced(store: Store, name: str, times: int = 1) -> None:
    """Let a worker ask, and tell what came of it."""
    for _ in range(times):
        advancing.advance(store, Reader(store))
        findings = Reader(store).look(explorations.read(store, name).experiment())
        for number, cell in enumerate(findings.cells):
            if cell.state == "queued":
                stories.told(store, cell.config, [[0.9], [0.4 + number / 50, 0.8]])


def test_explore_teaches_and_one_button_begins(store: Store) -> None:
    test = app("explore")
    assert "Every method has knobs" in text(test) and "5 runs" in text(test)
    button(test, "How much should a job give back?").click().run()
    assert test.query_params["vary"] == "method.prune_ratio~0.3~0.9~4"
    assert test.selectbox[0].value == "packnet"
    button(test, "Explore").click().run()
    assert not test.exception
    (name,) = explorations.names(store)
    assert test.query_params["exploration"] in (name, [name])
    record = explorations.read(store, name)
    assert record.going and record.exploration.varied[0].steps == 4
    assert "0 of 4 runs" in " ".join(element.proto.body for element in test.get("html"))


@pytest.mark.parametrize(
    ("vary", "sentence"),
    [
        ("method.temperature", "method.temperature is not a setting of ewc"),
        ("method.strength~0~10~3~log", "cannot pass zero"),
        ("method.strength~10~1~3", "empty range"),
        ("method.strength~1~10~30", "These are 30 runs, and the budget is 20"),
        ("method.strength~x", "it must be like method.strength~1~100~5~log"),
        ("method.labels~loud", "what is tried is empty"),
    ],
)
def test_explore_tells_what_cannot_be_in_one_sentence(vary: str, sentence: str, store: Store) -> None:
    test = app("explore", preset="quick", method="ewc", vary=vary)
    assert markup.literal(sentence) in text(test)
    begin = button(test, "Explore")
    assert begin.disabled or "not a setting" in sentence or "must be like" in sentence  # it goes on with a default


def test_explore_asks_where_there_are_more_combinations_than_the_budget(store: Store) -> None:
    test = app("explore", preset="quick", method="ewc", vary="method.strength~1~10~30")
    button(test, "Allow 30 runs").click().run()
    assert "budget is" not in text(test) and not button(test, "Explore").disabled


def test_explore_keeps_the_budget_in_its_address(store: Store) -> None:
    test = app("explore", preset="quick", method="ewc", vary="method.strength~1~10~3")  # of before budgets were kept
    assert [test.query_params[name] for name in ("sampler", "seeds", "budget", "runs")] == ["grid", "1", "runs", "20"]
    asked = {"sampler": "random", "seeds": "2", "budget": "minutes", "minutes": "2.5"}
    test = app("explore", preset="quick", method="ewc", vary="method.strength~1~10~3", **asked)
    assert not test.error and {name: test.query_params[name] for name in asked} == asked
    button(test, "Explore").click().run()
    exploration = explorations.read(store, explorations.names(store)[0]).exploration
    assert (exploration.sampler, exploration.seeds) == ("random", 2)
    assert (exploration.runs, exploration.minutes) == (None, 2.5)
    both = {**asked, "budget": "both", "runs": "8"}
    test = app("explore", preset="quick", method="ewc", vary="method.strength~1~10~3", **both)
    button(test, "Explore").click().run()
    budgets = {explorations.read(store, name).exploration.budget for name in explorations.names(store)}
    assert budgets == {"2.5 minutes", "8 runs or 2.5 minutes"}


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"runs": "0"}, "runs is '0'; it must be a number from 1 to 1000."),
        ({"runs": "-2"}, "runs is '-2'"),
        ({"runs": "2.5"}, "runs is '2.5'"),
        ({"seeds": "many"}, "seeds is 'many'; it must be a number from 1 to 5."),
        ({"budget": "minutes", "minutes": "0"}, "minutes is '0'; it must be a number from 0.5 to 100000."),
        ({"budget": "minutes", "minutes": "-1"}, "minutes is '-1'"),
        ({"budget": "minutes", "minutes": "nan"}, "minutes is 'nan'"),
        ({"budget": "both", "minutes": "inf"}, "minutes is 'inf'"),
        ({"budget": "neither"}, None),
        ({"sampler": "luck"}, None),
    ],
)
def test_explore_goes_on_with_what_it_knows_where_an_address_is_wrong(
    asked: dict[str, str], sentence: str | None, store: Store
) -> None:
    test = app("explore", preset="quick", method="ewc", vary="method.strength~1~10~3", **asked)
    assert [error.value.startswith(sentence) for error in test.error if sentence] == [True] * bool(sentence)
    assert not button(test, "Explore").disabled


def speed_known(store: Store, others: float = 0.0) -> None:
    """As if the small network's speed had been measured: a run of the quick preset takes some seconds."""
    measured = {"step_ms": 1.0, "image_ms": 1.0, "head_step_ms": 0.1, "forward_ms": 0.2, "single_ms": 1.0}
    sizes = {"image_size": 28, "activation_bytes": 1000, "features": 64, "weights": 93_472}
    what = {"device": "cpu", "backbone": "small_cnn", "engine": ENGINE_VERSION}
    estimates.keep(store, estimates.Speed(others=others, **what, **sizes, **measured))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "^30 runs, ≈ .* min, estimated; less"),
        ({"budget": "minutes", "minutes": "0.5"}, r"^≈ \d+ of 30 combinations in 0.5 min, estimated; more"),
        ({"budget": "minutes", "minutes": "900"}, "^30 runs, ≈ .* min, estimated; less"),
        ({"budget": "minutes", "minutes": "0.5", "sampler": "random"}, r"^≈ \d+ runs in 0.5 min, estimated; more"),
        ({"budget": "both", "minutes": "0.5", "sampler": "tpe"}, r"^≈ \d+ of 30 runs in 0.5 min, estimated; more"),
    ],
)
def test_explore_tells_what_a_budget_comes_to(asked: dict[str, str], words: str, store: Store) -> None:
    speed_known(store)
    test = app("explore", preset="quick", method="ewc", vary="method.strength~1~10~30", runs="30", **asked)
    assert [caption.value for caption in test.caption if re.search(words, caption.value)]


def test_explore_says_when_other_programs_were_busy_as_launch_and_compare_do(store: Store) -> None:
    speed_known(store, others=0.9)
    busy = "estimated while other programs were busy"
    assert f"{busy}; less" in text(app("explore", preset="quick", method="ewc"))
    assert f"{busy}; more" in text(app("explore", preset="quick", method="ewc", budget="minutes", minutes="0.5"))
    assert f"{busy}; less" in text(app("compare", preset="quick"))
    test = app()
    (network,) = [box for box in test.selectbox if "backbone" in box.label]
    network.select("small_cnn").run()
    assert busy in text(test)
    (store.cache / "speeds" / "cpu_small_cnn_28.json").unlink()
    speed_known(store)
    assert "estimated; less" in text(app("explore", preset="quick", method="ewc"))


@pytest.mark.parametrize(
    ("sampler", "words"), [("grid", "30 runs; this machine's"), ("random", "10 minutes; this machine's")]
)
def test_explore_tells_the_budget_before_the_speed_is_known(sampler: str, words: str, store: Store) -> None:
    vary = "method.strength~1~10~30"
    test = app("explore", preset="quick", method="ewc", vary=vary, sampler=sampler, budget="minutes")
    assert f"{words} speed is being measured" in text(test)


def test_explore_around_a_run(store: Store) -> None:
    run = stories.told(store, tiny("lwf"), [[0.9], [0.5, 0.8]])
    test = app("explore", run=run)
    assert "All other settings are those of" in text(test)
    button(test, "Explore").click().run()
    exploration = explorations.read(store, explorations.names(store)[0]).exploration
    assert exploration.base == tiny("lwf") and list(exploration.paths) == ["method.strength"]


@pytest.mark.parametrize("varied", [(STRENGTH,), (STRENGTH, LABELS), (STRENGTH, LABELS, EPOCHS)])
def test_explore_live_stopped_and_done(varied: tuple[dict[str, Any], ...], store: Store) -> None:
    name = explored(store, *varied)
    total = explorations.read(store, name).exploration.combinations
    test = app("explore", exploration=name)
    assert button(test, "Use the best").disabled and "first point appears" in text(test)
    advanced(store, name)
    test = app("explore", exploration=name)
    assert "The best on validation images is" in text(test) and not button(test, "Use the best").disabled
    button(test, "Stop").click().run()
    assert explorations.read(store, name).state == "stopped"
    button(test, "Go on").click().run()
    assert explorations.read(store, name).going
    advanced(store, name, total)
    test = app("explore", exploration=name)
    assert explorations.read(store, name).state == "complete" and button(test, "All tried").disabled
    assert len(test.dataframe[0].value) == total
    if len(varied) > 1:
        assert "Which setting matters?" in text(test)
    best = test.dataframe[0].value.sort_values("all jobs", ascending=False).iloc[0]
    button(test, "Use the best").click().run()
    assert test.session_state["draft"]["method"]["strength"] == best["strength"]


def test_explore_by_chance_goes_on_with_a_larger_budget(store: Store) -> None:
    name = explored(store, STRENGTH, sampler="random", runs=2)
    advanced(store, name, 3)
    test = app("explore", exploration=name)
    assert "The budget of 2 runs is used" in " ".join(element.proto.body for element in test.get("html"))
    button(test, "Try more").click().run()
    record = explorations.read(store, name)
    assert record.going and record.exploration.runs == 4


def test_explore_out_of_minutes_goes_on_with_twice_as_many(store: Store) -> None:
    name = explored(store, STRENGTH, minutes=0.01)
    advanced(store, name, 2)
    assert explorations.read(store, name).ended == "The budget of 0.01 minutes is used."
    test = app("explore", exploration=name)
    button(test, "Try more").click().run()
    record = explorations.read(store, name)
    assert record.going and record.exploration.minutes == 0.02


def test_explore_in_minutes_alone_tells_time_rather_than_runs(store: Store) -> None:
    name = explored(store, STRENGTH, sampler="random", runs=None, minutes=0.1)  # a run of these is told to take 3 s
    test = app("explore", exploration=name)
    shown = text(test)
    assert "at most 0.1 minutes" in shown and "0 runs · 0.0 s of 0.1 min used · at most 6.0 s left" in shown
    advanced(store, name)
    seen = exploring.follow(name)
    assert exploring.share_used(seen, {}) == pytest.approx(seen.spent / 6) and seen.total is None
    advanced(store, name, 3)
    test = app("explore", exploration=name)
    assert "The budget of 0.1 minutes is used" in text(test)
    button(test, "Try more").click().run()
    record = explorations.read(store, name)
    assert record.going and (record.exploration.runs, record.exploration.minutes) == (None, 0.2)


def test_explore_of_as_many_runs_as_can_be_offers_no_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorations, "MOST_RUNS", 2)
    name = explored(store, STRENGTH, sampler="random", runs=None, minutes=100.0)
    advanced(store, name, 3)
    test = app("explore", exploration=name)
    assert "2 runs were tried, as many as can be" in text(test) and button(test, "Try more").disabled


def test_another_method_on_explore_has_ranges_of_its_own(store: Store) -> None:
    test = app("explore", preset="quick", method="ewc", vary="method.strength~10~100000~5~log")
    test.selectbox[0].set_value("lwf").run()
    assert not test.error and test.query_params["vary"] in (
        "method.strength~0.01~100~5~log",
        ["method.strength~0.01~100~5~log"],
    )


def test_a_running_exploration_opens_at_once_and_its_points_rise(store: Store) -> None:
    first, second = explored(store, STRENGTH), explored(store, EPOCHS)
    advancing.advance(store, Reader(store))
    test = app("explore")
    test.query_params.clear()  # as a click on the page's name does in a browser
    assert test.run().query_params["exploration"] in (max(first, second), [max(first, second)])
    cells = Reader(store).look(explorations.read(store, second).experiment()).cells
    claim = stories.written(store, stories.FIRST, cells[0].config)
    test = app("explore", exploration=second)
    assert "job 1 of 2" in text(test) and "not finished" in text(test)
    (rising,) = exploring.rising_now(exploring.follow(second).findings)
    exploration = explorations.read(store, second).exploration
    point = Picked(trace=4, point=(0,), x=1.0, y=45.0)
    assert exploring.run_at(point, exploration, [], [rising]) == claim.run
    assert exploring.run_at(point, exploration, [], []) is None, "it was deleted meanwhile"
    claim.finish("stopped")
    store.delete(claim.run)
    assert "job 1 of 2" not in text(test.run())
    test = app("explore", new="1")
    assert test.multiselect and "exploration" not in test.query_params, "the form, where that is asked for"
    explorations.stop(store, first)
    explorations.stop(store, second)
    test.query_params.clear()
    assert test.run().multiselect


def test_explore_shows_what_it_has_when_runs_go(store: Store) -> None:
    name = explored(store, STRENGTH)
    advanced(store, name, 4)
    store.delete(store.records()[0].run)
    test = app("explore", exploration=name)
    assert "not here" in {word for words in test.dataframe[0].value["state"] for word in words}
    assert not button(test, "Go on").disabled


@pytest.mark.parametrize("name", ["../runs", "nope", "20260101-000000-abcd"])
def test_explore_of_none_says_so(name: str, store: Store) -> None:
    assert "There is no exploration" in text(app("explore", exploration=name))


def test_explorations_are_listed_and_forgotten(store: Store) -> None:
    name = explored(store, STRENGTH)
    advanced(store, name, 4)
    assert "Elastic weights (EWC): strength · 3 combinations" in str(
        [link.proto.label for link in app("explore").get("page_link")]
    )
    test = app("explore", exploration=name)
    button(test, "Delete it").click().run()
    button(test, "Delete").click().run()
    assert explorations.names(store) == [] and len(store.records()) == 3
