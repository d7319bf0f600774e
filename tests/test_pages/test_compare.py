"""Compare in every state."""

import pytest
from streamlit.testing.v1 import AppTest

from labcore.configs import presets
from labcore.configs.registry import of_group
from labcore.configs.verdicts import ARTICLE_AT
from labcore.runs.store import Store
from labcore.studies import answer_times, questions
from labcore.studies.answer_times import AnswerTimes, InTurn
from tests import stories
from tests.test_pages.conftest import app, asked_workers, button, text


def measured(store: Store, *methods: str, seeds: int = 1) -> None:
    for seed in range(seeds):
        for place, method in enumerate(methods):
            config = presets.preset("quick", method).model_copy(update={"seed": seed})
            kept = 0.5 + place / 20
            stories.told(store, config, [[0.9], [kept, 0.8], [kept, 0.6, 0.85 + seed / 100]], seconds=2.0 + place)


def _in_order(test: AppTest) -> list[str]:
    """What the page's charts and its HTML hold, from top to bottom."""
    return [str(element.proto) for element in test.main if element.type in ("html", "bidi_component")]


@pytest.mark.parametrize("seeds", ["12", "0", "9", "", "x", "²"])
def test_compare_takes_no_number_of_seeds_that_it_does_not_offer(seeds: str, store: Store) -> None:
    test = app("compare", preset="quick", seeds=seeds)
    assert not test.exception
    assert test.query_params["seeds"] in ("1", ["1"])


def test_compare_without_runs_teaches_and_one_button_queues_all_eight(store: Store) -> None:
    test = app("compare")
    shown = text(test)
    assert "0 of 8 runs measured" in shown and "expected, not measured" in shown and "“bad”" in shown
    assert shown.count(ARTICLE_AT) == 1, "which article is meant is said once"
    (folded,) = [expander for expander in test.expander if "not measured yet" in expander.label]
    assert len(folded.get("html")) == 1 == shown.count('lab-table\\"'), "all rows are folded"
    button(test, "Measure all eight").click().run()
    assert not test.exception
    assert [store.config(record.run).method.name for record in store.active()] == [
        about.name for about in of_group("article")
    ]
    assert "waiting" in text(test)
    button(test, "Stop").click().run()
    assert not test.exception and not store.active()


def test_somebody_elses_runs_can_be_seen_in_the_table_and_not_be_stopped_by_it(store: Store) -> None:
    own = store.submit(presets.preset("quick", "ewc")).run
    test = app("compare", preset="quick")
    assert "waiting" in text(test)
    button(test, "Measure all eight").click().run()
    assert len(store.active()) == 8
    button(test, "Stop").click().run()
    assert [record.run for record in store.active()] == [own]
    for about in of_group("article"):
        store.submit(presets.preset("quick", about.name))
    test.run()
    assert button(test, "Being trained").disabled
    stopped = store.records()[-1].run
    store.request_stop(stopped)
    test.run()
    button(test, "Measure all eight").click().run()
    assert store.record(stopped).asked_by == "table"
    store.submit(store.config(stopped))  # now somebody wants it, too
    test.run()
    assert button(test, "Being trained").disabled
    assert not test.exception and len(store.active()) == 8


def test_the_table_fills_and_goes_on(store: Store) -> None:
    measured(store, "fine_tuning", "joint", seeds=2)
    test = app("compare", preset="quick", seeds="2")
    shown = text(test)
    assert "4 of 16 runs measured" in shown
    assert "80.5" not in shown and "82.8 ± 0.4 %" in shown
    assert "≠" in shown and "✓" in shown and "expected, not measured" not in shown
    plane, rows = (next(i for i, e in enumerate(_in_order(test)) if word in e) for word in ("plasticity", "82.8 ± 0.4"))
    assert plane < rows, "the chart stands above the table"
    button(test, "Go on").click().run()
    assert len(store.active()) == 12
    gone = next(record.run for record in store.records() if store.config(record.run).method.name == "joint")
    for record in store.records():
        if store.config(record.run).method.name in ("joint", "fine_tuning"):
            store.delete(record.run)  # in another tab
    shown = text(test.run())
    assert "0 of 16 runs measured" in shown and "expected, not measured" in shown and gone not in shown


def test_the_table_is_measured_on_jobs_of_ones_own(store: Store) -> None:
    test = app("compare", preset="quick", tasks="hotdogs,nonsense,digits", seeds="1")
    assert test.multiselect(key="table-jobs-quick").value == ["hotdogs", "digits"]
    assert test.query_params["tasks"] == "hotdogs,digits"
    button(test, "Measure all eight").click().run()
    assert {tuple(store.config(record.run).task_names) for record in store.active()} == {("hotdogs", "digits")}
    assert {store.config(record.run).tasks[1].images_per_class for record in store.active()} == {68}, "the preset's"
    test.multiselect(key="table-jobs-quick").set_value([]).run()
    assert "tasks" not in test.query_params and "0 of 8 runs measured" in text(test)
    which = app("compare", view="which", preset="quick", tasks="hotdogs,digits")
    assert which.query_params["tasks"] == "hotdogs,digits"


def test_a_failed_method_is_named_and_the_others_stay(store: Store) -> None:
    measured(store, "fine_tuning")
    claim = store.claim_run(store.submit(presets.preset("quick", "ewc")).run)
    claim.fail("The loss became nan.")
    shown = text(app("compare", preset="quick", seeds="1"))
    assert "Failed, and so not counted" in shown and "The loss became nan." in shown
    assert "1 of 8 runs measured" in shown


def test_runs_of_an_earlier_version_are_marked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("labcore.configs.run.ENGINE_VERSION", "0")
        measured(store, "fine_tuning")
    test = app("compare", preset="quick", seeds="1")
    assert "0 of 8 runs measured" in text(test)
    assert [e.label for e in test.expander if "earlier version" in e.label]
    test = app("compare", view="runs")
    assert "earlier version" in str(test.multiselect[0].options)


def test_runs_side_by_side_fold_unfold_and_survive_deletion(store: Store) -> None:
    assert "nothing to compare yet" in text(app("compare", view="runs"))
    measured(store, "fine_tuning", "joint", "separate_copies", seeds=2)
    test = app("compare", view="runs")
    assert "They differ in method" in text(test)
    assert len(test.multiselect[0].value) == 6
    test.toggle(key="compare-unfold").set_value(True).run()
    assert not test.exception
    gone = store.records()[0].run
    asked = ",".join(record.run for record in store.records())
    store.delete(gone)
    test = app("compare", view="runs", runs=asked)
    assert "no longer here" in test.warning[0].value
    assert len(test.multiselect[0].value) == 5


def test_which_to_use_ranks_what_was_measured(store: Store) -> None:
    assert "Nothing is measured" in text(app("compare", view="which", preset="quick"))
    measured(store, "fine_tuning", "joint")
    test = app("compare", view="which", preset="quick", change="freely", memory="any")
    assert "1. Joint training" in text(test)
    test = app("compare", view="which", preset="quick", change="not at all")
    assert "No method that was measured does all of that" in text(test)


@pytest.mark.parametrize("name", ["q1", "q2", "q3", "starts", "recycle"])
def test_a_question_is_explained_asked_and_answered(store: Store, name: str) -> None:
    test = app("compare", view="ask", ask=name)
    assert "Nobody knows yet" in text(test)
    assert any("recorded, not measured here" in expander.label for expander in test.expander)
    button(test, "Find out").click().run()
    assert not test.exception
    experiment = questions.named(name)
    assert len(store.active()) == len(experiment.configs())
    for record in store.active():
        store.request_stop(record.run)
    for record in store.records():
        store.delete(record.run)
    for _, _, config in experiment.configs():
        stories.told(store, config, [[0.9 + config.seed / 100] * (k + 1) for k in range(len(config.tasks))])
    test = app("compare", view="ask", ask=name)
    assert [b for b in test.button if b.label == "All measured"]
    assert "Nobody knows yet" not in text(test)


def test_each_arm_with_a_finished_run_leads_inside(store: Store) -> None:
    experiment = questions.named("q1")
    zero, kept = experiment.arms
    first = stories.told(store, zero.seeded(1), [[0.9], [0.9, 0.8], [0.9, 0.8, 0.7]])
    test = app("compare", view="ask", ask="q1")
    links = {link.proto.label: link.proto.query_string for link in test.get("page_link")}
    assert links[zero.label] == f"run={first}" and kept.label not in links


def test_a_strange_address_is_no_error(store: Store) -> None:
    for query in (
        {"view": "x"},
        {"preset": "x", "seeds": "99"},
        {"view": "ask", "ask": "x"},
        {"view": "runs", "runs": "x"},
        {"view": "which", "preset": "x", "seeds": "x", "more": "-3", "memory": "x", "change": "x"},
    ):
        app("compare", **query)


@pytest.mark.parametrize("more", ["²", "9" * 5000, "", "-1"])
def test_an_odd_number_in_the_address_of_which_is_the_usual_one(store: Store, more: str) -> None:
    assert app("compare", view="which", preset="quick", more=more).slider[0].value == 2


def test_answer_times_are_compared_once_all_were_timed_in_turn(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.tell_devices({"cpu": "A processor"})
    asked = asked_workers(monkeypatch)
    methods = [about.name for about in of_group("article")]
    measured(store, *methods[:-1])
    shown = text(app("compare", preset="quick", seeds="1"))
    assert "not compared yet" in shown and "they are not compared" in shown
    assert answer_times.next_wish(store, "cpu") is None, "not before all are there"
    for record in store.records():
        store.delete(record.run)
    measured(store, *methods)
    shown = text(app("compare", preset="quick", seeds="1"))
    assert "not compared yet" in shown and "0.5 ms" in shown and "they will be timed in turn" in shown
    turn = answer_times.next_wish(store, "cpu")
    assert turn is not None and len(turn.runs) == 8
    assert "cpu" in asked, "as for a speed that is not known"
    timed = (InTurn(run=run, threads=2, milliseconds=(2.1, 2.2, 2.3, 2.4, 2.5)) for run, _ in turn.runs)
    answer_times.keep(store, AnswerTimes(turn=turn, timed=tuple(timed)))
    shown = text(app("compare", preset="quick", seeds="1"))
    assert "not compared yet" not in shown and "they are not compared" not in shown
    assert "2.3 ms (2.2 to 2.4)" in shown and "0.5 ms" not in shown
    assert "were timed in turn" in shown
