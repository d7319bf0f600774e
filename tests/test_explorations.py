"""Explorations: what can vary, what is asked next, and that it goes on, stops and ends whatever happens."""

import json
import math
import re
from typing import Any

import pytest

from labcore.configs.base import ConfigError
from labcore.configs.reading import parse
from labcore.configs.registry import METHODS
from labcore.drawings import explored as charts
from labcore.runs.errors import StoreError
from labcore.runs.store import Store
from labcore.studies import advancing, experiments, explorations, proposals
from labcore.studies.explorations import Exploration, ExplorationRecord, Told, parse_exploration
from labcore.studies.reader import Reader
from labcore.studies.varied import Varied, settings_of, suggested
from labcore.training import worker
from tests import stories
from tests.conftest import tiny
from tests.drawn import drawn

STRENGTH = {"path": "method.strength", "low": 1.0, "high": 1e4, "steps": 5, "log": True}
EPOCHS = {"path": "training.epochs", "low": 1.0, "high": 3.0, "steps": 3}
LABELS = {"path": "method.labels", "values": ("sampled", "exact")}


def explored(*varied: dict[str, Any], method: str = "ewc", **changes: Any) -> Exploration:
    return parse_exploration(
        {"base": tiny(method).model_dump(mode="json"), "varied": varied or (STRENGTH,), "runs": 40, **changes}
    )


def told_all(store: Store, name: str, accuracy: float = 0.8) -> None:
    """Finish whatever the exploration has queued; more strength keeps more and learns less."""
    for cell in look(store, name)[1].cells:
        if cell.record is not None and cell.record.state == "queued":
            kept = math.log10(max(1.0, getattr(cell.config.method, "strength", 1.0))) / 5
            stories.told(store, cell.config, [[0.9], [kept, accuracy - kept / 2]])


def look(store: Store, name: str) -> tuple[ExplorationRecord, experiments.Findings]:
    record = explorations.read(store, name)
    return record, Reader(store).look(record.experiment())


# ---- what varies ----------------------------------------------------------------------------------------------------


def test_values_of_a_range_are_even_or_by_equal_factors_and_whole_where_they_count() -> None:
    exploration = explored(STRENGTH, EPOCHS)
    strength, epochs = exploration.varied
    assert strength.grid(exploration.spec(strength)) == (1, 10, 100, 1000, 10000)
    assert epochs.grid(exploration.spec(epochs)) == (1, 2, 3)
    assert Varied(path="training.epochs", low=1, high=3, steps=9).grid(exploration.spec(epochs)) == (1, 2, 3)
    assert exploration.combinations == 15
    assert list(exploration.grid())[:2] == [
        {"method.strength": 1.0, "training.epochs": 1},
        {"method.strength": 1.0, "training.epochs": 2},
    ]


@pytest.mark.parametrize(
    ("varied", "changes", "sentence"),
    [
        ([{**STRENGTH, "path": "method.temperature"}], {}, "method.temperature is not a setting of ewc"),
        ([{**STRENGTH, "path": "backbone.name"}], {}, "backbone.name is not a setting of ewc that can vary"),
        ([{**STRENGTH, "low": 0.0}], {}, "cannot pass zero"),
        ([{**STRENGTH, "low": 1e5}], {}, "empty range"),
        ([{**STRENGTH, "low": 1e4}], {}, "empty range"),
        ([{**STRENGTH, "low": -1.0, "log": False}], {}, "-1 cannot be; allowed: from 0 and up to 1e"),
        ([{**STRENGTH, "high": math.inf}], {}, "varied"),
        ([{"path": "training.momentum", "low": 0.5, "high": 1.0}], {}, "1 cannot be; allowed"),
        ([{**EPOCHS, "low": 1.5}], {}, "1.5 cannot be"),
        ([{**LABELS, "values": ("loud",)}], {}, "what is tried is loud; choose among sampled, empirical, exact"),
        ([{**LABELS, "values": ()}], {}, "what is tried is empty"),
        ([{**STRENGTH, "low": None}], {}, "give the smallest and the largest"),
        ([STRENGTH, STRENGTH], {}, "vary twice"),
        ([STRENGTH, EPOCHS, LABELS, {**EPOCHS, "path": "training.batch_size"}], {}, "choose 1 to 3"),
        ([STRENGTH, EPOCHS], {"runs": 10}, "These are 15 runs, and the budget is 10"),
        ([STRENGTH], {"runs": 10, "seeds": 3}, "These are 15 runs, and the budget is 10"),
        ([STRENGTH], {"sampler": "random", "runs": 2, "seeds": 3}, "runs is 2, but each combination takes 3"),
        ([STRENGTH], {"seeds": 0}, "seeds"),
        ([STRENGTH], {"runs": None}, "^There is no budget; give runs, minutes or both.$"),
        ([STRENGTH], {"runs": 0}, "runs is 0; it must be"),
        ([STRENGTH], {"runs": -3}, "runs is -3; it must be"),
        ([STRENGTH], {"runs": math.nan}, "runs is"),
        ([STRENGTH], {"runs": 1001}, "runs is 1001; it must be"),
        ([STRENGTH], {"runs": None, "minutes": 0.0}, "minutes is 0.0; it must be"),
        ([STRENGTH], {"runs": None, "minutes": -1.0}, "minutes is -1.0; it must be"),
        ([STRENGTH], {"runs": None, "minutes": math.nan}, "minutes is NaN; it must be a finite number"),
        ([STRENGTH], {"minutes": math.inf}, "minutes is Infinity; it must be a finite number"),
        ([STRENGTH], {"minutes": 1e6}, "minutes is 1000000.0; it must be"),
        (
            [{**STRENGTH, "steps": 50}, {**EPOCHS, "high": 30.0, "steps": 30}],
            {"runs": None, "minutes": 1.0},
            "These are 1500 runs; at most 1000 can be",
        ),
        ([STRENGTH], {"sampler": "luck"}, "sampler"),
    ],
)
def test_what_cannot_be_is_one_sentence(varied: list[dict[str, Any]], changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        explored(*varied, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", list(METHODS))
def test_every_setting_of_every_method_has_a_range_to_begin_with(method: str) -> None:
    base = tiny(method)
    for path, spec in settings_of(method).items():
        varied = suggested(spec, base)
        exploration = Exploration(base=base, varied=(varied,), runs=1000)
        assert exploration.combinations > 1, path
        now = getattr(getattr(base, path.split(".")[0]), path.split(".")[1])
        if varied.numeric and now:
            assert varied.low <= now <= varied.high, path  # type: ignore[operator]


# ---- what is asked next ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_next_values_lie_in_range_and_are_the_same_for_the_same_history(sampler: str) -> None:
    exploration = explored(STRENGTH, EPOCHS, LABELS, sampler=sampler)
    told: list[Told] = []
    for number in range(12):
        values = proposals.ask(exploration, told)
        assert values is not None and values == proposals.ask(exploration, told)
        assert 1 <= values["method.strength"] <= 1e4
        assert values["training.epochs"] in (1, 2, 3) and isinstance(values["training.epochs"], int)
        assert values["method.labels"] in ("sampled", "exact")
        exploration.arm(values)
        score = None if number % 4 == 3 else 1 - abs(math.log10(values["method.strength"]) - 3) / 4
        told.append(Told(values, score, open=number == 7))
    assert len({tuple(one.values.items()) for one in told}) == 12


def test_tpe_looks_where_it_was_good_and_chance_does_not() -> None:
    def mean_distance(sampler: str) -> float:
        exploration, told = explored(STRENGTH, sampler=sampler), list[Told]()
        for _ in range(25):
            values = proposals.ask(exploration, told)
            assert values is not None
            told.append(Told(values, 1 - abs(math.log10(values["method.strength"]) - 3) / 4))
        return sum(abs(math.log10(one.values["method.strength"]) - 3) for one in told[-15:]) / 15

    assert mean_distance("tpe") < 0.6 * mean_distance("random")


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe"])
def test_a_small_space_is_used_up(sampler: str) -> None:
    exploration = explored(LABELS, sampler=sampler)
    told: list[Told] = []
    while (values := proposals.ask(exploration, told)) is not None:
        told.append(Told(values, 0.5))
    assert sorted(one.values["method.labels"] for one in told) == ["exact", "sampled"]


def test_importance_finds_the_setting_that_matters() -> None:
    exploration = explored(STRENGTH, EPOCHS)
    told = [Told(values, math.log10(values["method.strength"]) / 5) for values in exploration.grid()]
    found = proposals.importance(exploration, told)
    assert found is not None and found["method.strength"] > 0.9 > 0.1 > found["training.epochs"]
    assert proposals.importance(exploration, told[:3]) is None
    assert proposals.importance(explored(STRENGTH), told) is None


# ---- going on -------------------------------------------------------------------------------------------------------


def test_a_grid_is_asked_for_one_by_one_and_ends(store: Store) -> None:
    name = explorations.create(store, explored(STRENGTH))
    for done in range(5):
        advancing.advance(store, Reader(store))
        record, findings = look(store, name)
        assert (len(record.asked), len(findings.having("queued"))) == (done + 1, 1)
        told_all(store, name)
    advancing.advance(store, Reader(store))
    record, findings = look(store, name)
    assert (record.state, record.ended) == ("complete", "Every combination was tried.")
    best = findings.best("validation_accuracy")
    assert best is not None and best.label == "strength 10\u202f000"
    before = len(store.records())
    advancing.advance(store, Reader(store))
    assert len(store.records()) == before


def test_runs_that_exist_are_used_and_cost_no_wait(store: Store) -> None:
    exploration = explored(STRENGTH)
    arms = [exploration.arm(values) for values in exploration.grid()]
    for arm in arms[:3]:
        stories.told(store, arm.seeded(0), [[0.9], [0.5, 0.8]])
    name = explorations.create(store, exploration)
    advancing.advance(store, Reader(store))
    record, findings = look(store, name)
    assert len(record.asked) == 4 and len(findings.having("complete")) == 3
    assert findings.work.spent > 0 and record.spent(findings) == 0


def test_the_budget_of_runs_counts_every_seed(store: Store) -> None:
    name = explorations.create(store, explored(STRENGTH, EPOCHS, sampler="random", runs=7, seeds=2))
    for _ in range(6):
        advancing.advance(store, Reader(store))
        told_all(store, name)
    record, findings = look(store, name)
    assert len(findings.cells) == 6 and findings.complete
    assert record.ended == "The budget of 7 runs is used."
    explorations.go_on(store, name, runs=8)
    advancing.advance(store, Reader(store))
    assert len(look(store, name)[1].cells) == 8


def test_the_budget_of_minutes_counts_training_that_was_done(store: Store) -> None:
    name = explorations.create(store, explored(STRENGTH, minutes=0.1))
    for _ in range(5):
        advancing.advance(store, Reader(store))
        for cell in look(store, name)[1].having("queued"):
            stories.told(store, cell.config, [[0.9], [0.5, 0.8]], seconds=2.0)
    record, findings = look(store, name)
    assert record.spent(findings) > 6
    assert record.ended == "The budget of 0.1 minutes is used." and len(record.asked) < 5


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe"])
def test_minutes_alone_end_it(sampler: str, store: Store) -> None:
    exploration = explored(STRENGTH, sampler=sampler, runs=None, minutes=0.2)
    assert exploration.budget == "0.2 minutes"
    assert (exploration.most_points, exploration.most_runs) == ((5, 5) if sampler == "grid" else (1000, None))
    name = explorations.create(store, exploration)
    for _ in range(4):
        advancing.advance(store, Reader(store))
        for cell in look(store, name)[1].having("queued"):
            stories.told(store, cell.config, [[0.9], [0.5, 0.8]], seconds=2.0)
    record, findings = look(store, name)
    assert record.ended == "The budget of 0.2 minutes is used." and len(findings.cells) == 3
    explorations.go_on(store, name, minutes=2)
    advancing.advance(store, Reader(store))
    record, findings = look(store, name)
    assert len(findings.cells) == 4 and (record.exploration.runs, record.exploration.minutes) == (None, 2)


def test_a_grid_in_minutes_ends_where_all_was_tried(store: Store) -> None:
    name = explorations.create(store, explored(EPOCHS, runs=None, minutes=1000.0))
    for _ in range(4):
        advancing.advance(store, Reader(store))
        told_all(store, name)
    assert explorations.read(store, name).ended == "Every combination was tried."


def test_minutes_alone_never_allow_more_runs_than_there_can_be(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorations, "MOST_RUNS", 3)
    name = explorations.create(store, explored(STRENGTH, sampler="random", runs=None, minutes=1000.0))
    for _ in range(4):
        advancing.advance(store, Reader(store))
        told_all(store, name)
    record, findings = look(store, name)
    assert record.ended == "3 runs were tried, as many as can be." and len(findings.cells) == 3


def test_it_ends_where_all_of_the_first_fail_as_no_minutes_would_end_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advancing, "_MOST_FAILED", 2)
    name = explorations.create(store, explored(STRENGTH, runs=None, minutes=1000.0))
    for _ in range(3):
        advancing.advance(store, Reader(store))
        for cell in look(store, name)[1].having("queued"):
            assert cell.record is not None
            claim = store.claim_run(cell.record.run)
            claim.fail("A file is missing.")
            claim.release()
    record, findings = look(store, name)
    assert record.ended == "All of its first 2 runs failed: A file is missing." and len(findings.cells) == 2


def test_how_far_it_is_in_words(store: Store) -> None:
    def words(times: int, **budget: Any) -> str:
        name = explorations.create(store, explored({**STRENGTH, "steps": 2}, **budget))
        for _ in range(times):
            advancing.advance(store, Reader(store))
            told_all(store, name)
        record, findings = look(store, name)
        explorations.stop(store, name)
        return record.so_far(findings)

    assert words(0, runs=8) == "0 of 2 runs"
    assert words(0, runs=8, sampler="random") == "0 of at most 8 runs"
    assert words(0, runs=None, minutes=2.5) == "0 of at most 2 runs · 0.0 s of 2.5 min used"
    assert re.fullmatch(r"1 run · \d\.\d s of 2.5 min used", words(1, runs=None, minutes=2.5, sampler="random"))
    assert words(2, runs=None, minutes=2.5).startswith("2 of 2 runs · ")  # all tried: no longer "at most"


def test_the_budget_in_words() -> None:
    assert explored(STRENGTH, runs=5).budget == "5 runs"
    assert explored(STRENGTH, runs=None, minutes=1.0).budget == "1 minute"
    assert explored(STRENGTH, runs=20, minutes=7.5).budget == "20 runs or 7.5 minutes"


def test_a_record_written_when_runs_always_were_the_budget_is_read(store: Store) -> None:
    name = explorations.create(store, explored(STRENGTH))
    path = store.root / "explorations" / f"{name}.json"
    data = json.loads(path.read_bytes())
    data["exploration"] |= {"runs": 20, "minutes": None}
    path.write_text(json.dumps(data))
    exploration = explorations.read(store, name).exploration
    assert (exploration.runs, exploration.minutes) == (20, None)


def test_the_budget_of_minutes_counts_runs_that_stopped_or_failed(store: Store) -> None:
    exploration = explored(STRENGTH, minutes=0.02)
    before, *_ = [exploration.arm(values).seeded(0) for values in exploration.grid()]
    stories.written(store, stories.FIRST, before).finish("stopped")
    name = explorations.create(store, exploration)
    advancing.advance(store, Reader(store))
    record, findings = look(store, name)
    assert record.spent(findings) == 0
    ((run,),) = [[cell.record.run] for cell in findings.cells if cell.record]
    for state in ("stopped", "failed"):
        store.resume(run)
        claim = store.claim_run(run)
        for event in stories.FIRST:
            claim.append(event)
        claim.finish(state)  # type: ignore[arg-type]
        assert record.spent(look(store, name)[1]) == pytest.approx(1.5)  # 1 s of training, 0.5 s of measuring
    advancing.advance(store, Reader(store))
    assert explorations.read(store, name).ended == "The budget of 0.02 minutes is used."


def test_stopped_asks_for_nothing_and_goes_on_where_it_was(store: Store) -> None:
    name = explorations.create(store, explored(STRENGTH))
    advancing.advance(store, Reader(store))
    record, findings = look(store, name)
    explorations.stop(store, name)
    experiments.stop(store, findings)
    advancing.advance(store, Reader(store))
    record, findings = look(store, name)
    assert (record.state, len(record.asked)) == ("stopped", 1)
    assert [cell.state for cell in findings.cells] == ["stopped"]
    explorations.go_on(store, name)
    experiments.queue(store, findings)
    told_all(store, name)
    advancing.advance(store, Reader(store))
    assert len(look(store, name)[0].asked) == 2


def test_stopped_while_a_worker_waits_for_the_lock_it_asks_for_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = explorations.create(store, explored(STRENGTH))
    read = explorations.read

    def stopped_just_now(store: Store, name: str) -> ExplorationRecord:
        return read(store, name).model_copy(update={"going": False})

    monkeypatch.setattr(explorations, "read", stopped_just_now)
    advancing.advance(store, Reader(store))
    assert read(store, name).asked == () and store.records() == []


def test_a_full_disk_ends_no_worker(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    name = explorations.create(store, explored(STRENGTH))

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(explorations, "write_atomically", full)
    advancing.advance(store, Reader(store))
    advancing.advance(store, Reader(store))  # nor a second one
    assert explorations.read(store, name).state == "stopped" and len(store.records()) == 1


def test_a_worker_lost_in_the_middle_is_waited_for(store: Store) -> None:
    name = explorations.create(store, explored(STRENGTH))
    advancing.advance(store, Reader(store))
    (cell,) = look(store, name)[1].cells
    claim = stories.written(store, stories.FIRST, cell.config)
    claim.release()
    advancing.advance(store, Reader(store))
    record, findings = look(store, name)
    assert [cell.state for cell in findings.cells] == ["lost"] and record.going
    again = store.claim("cpu")
    assert again is not None and again.run == claim.run  # the next worker goes on with it
    again.finish("complete")
    again.release()
    advancing.advance(store, Reader(store))
    assert len(look(store, name)[0].asked) == 2


def test_only_combinations_with_all_their_seeds_can_be_best(store: Store) -> None:
    exploration = explored(STRENGTH, seeds=2)
    name = explorations.create(store, exploration)
    for _ in range(2):
        advancing.advance(store, Reader(store))
        for cell in look(store, name)[1].having("queued"):
            if (cell.seed, dict(cell.arm.values)["method.strength"]) != (1, 10.0):
                stories.told(store, cell.config, [[0.9], [0.5, dict(cell.arm.values)["method.strength"] / 100]])
    record, findings = look(store, name)
    found = charts.tried_info(findings, record.exploration.varied)
    assert [(one.values["method.strength"], one.best) for one in found] == [(1.0, True), (10.0, False)]


def test_a_combination_that_cannot_be_is_told_and_left_out(store: Store) -> None:
    score = {"path": "method.initial_score", "low": 0.001, "high": 0.02, "steps": 3}
    name = explorations.create(store, explored(score, method="piggyback"))
    for _ in range(4):
        advancing.advance(store, Reader(store))
        told_all(store, name)
    record, findings = look(store, name)
    assert record.state == "complete" and len(findings.cells) == 2
    assert len(record.refused) == 1 and "not above method.threshold" in record.refused[0]
    assert record.told(findings)[0].score is None


def test_a_failed_run_is_named_and_the_rest_goes_on(store: Store) -> None:
    name = explorations.create(store, explored(STRENGTH))
    advancing.advance(store, Reader(store))
    (cell,) = look(store, name)[1].cells
    assert cell.record is not None
    claim = store.claim_run(cell.record.run)
    claim.fail("The disk is full.")
    claim.release()
    advancing.advance(store, Reader(store))
    record, findings = look(store, name)
    assert len(record.asked) == 2
    assert record.told(findings)[0] == Told({"method.strength": 1.0}, None)
    told_all(store, name)
    assert any("Failed, and so not counted: strength 1 (seed 0)" in said for said in look(store, name)[1].told())


def test_a_run_deleted_under_it_leaves_the_rest(store: Store) -> None:
    name = explorations.create(store, explored(STRENGTH))
    for _ in range(2):
        advancing.advance(store, Reader(store))
        told_all(store, name)
    record, findings = look(store, name)
    assert findings.cells[0].record is not None
    store.delete(findings.cells[0].record.run)
    record, findings = look(store, name)
    assert [cell.state for cell in findings.cells] == ["missing", "complete"]
    assert len(charts.tried_info(findings, record.exploration.varied)) == 1
    advancing.advance(store, Reader(store))
    assert len(look(store, name)[0].asked) == 3  # it goes on; nobody asked for the deleted one again


def test_one_that_breaks_is_ended_with_the_reason_and_others_go_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = explorations.create(store, explored(STRENGTH))
    whole = explorations.create(store, explored(EPOCHS))
    ask = proposals.ask

    def breaks(exploration: Exploration, told: Any) -> Any:
        if exploration.varied[0].path == "method.strength":
            raise RuntimeError("no idea")
        return ask(exploration, told)

    monkeypatch.setattr(proposals, "ask", breaks)
    advancing.advance(store, Reader(store))
    assert explorations.read(store, broken).ended == "It broke off: RuntimeError: no idea"
    assert len(explorations.read(store, whole).asked) == 1


def test_names_lead_nowhere_else_and_what_is_cut_short_is_told(store: Store) -> None:
    for name in ("../runs", "", "20260101-000000-abcd"):
        with pytest.raises(ConfigError, match="There is no exploration"):
            explorations.read(store, name)
    name = explorations.create(store, explored(STRENGTH))
    path = store.root / "explorations" / f"{name}.json"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ConfigError, match="cannot be read"):
        explorations.read(store, name)
    advancing.advance(store, Reader(store))  # does not raise
    assert not (store.root / "explorations" / f"{name}.going").exists()


def test_deleting_one_leaves_its_runs(store: Store) -> None:
    name = explorations.create(store, explored(STRENGTH))
    advancing.advance(store, Reader(store))
    explorations.delete(store, name)
    assert explorations.names(store) == [] and len(store.records()) == 1


def test_a_full_disk_is_one_sentence(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(explorations, "write_atomically", full)
    with pytest.raises(StoreError, match="No space left on device"):
        explorations.create(store, explored(STRENGTH))


def test_a_worker_trains_it_to_its_end_and_shares_the_first_stage(store: Store) -> None:
    varied = {**STRENGTH, "low": 10.0, "high": 1000.0, "steps": 2}
    name = explorations.create(store, explored(varied))
    worker.work(store, "cpu", until_idle=True, maps="none")
    record, findings = look(store, name)
    assert record.state == "complete" and findings.complete
    assert (findings.work.reused, findings.work.stages) == (1, 4) and findings.work.saved > 0
    assert [cell.reused_stages for cell in findings.cells] == [[], [1]]
    assert findings.work.shared.startswith("1 of 4 stages taken from earlier runs: ")
    best = charts.best_of(charts.tried_info(findings, record.exploration.varied))
    assert best is not None and store.config(best.run).method.name == "ewc"


# ---- figures --------------------------------------------------------------------------------------------------------


def tried(store: Store, exploration: Exploration) -> list[charts.Tried]:
    name = explorations.create(store, exploration)
    for _ in range(exploration.combinations):
        advancing.advance(store, Reader(store))
        told_all(store, name)
    return charts.tried_info(look(store, name)[1], exploration.varied)


def test_a_curve_holds_every_figure_in_the_order_of_the_setting(store: Store) -> None:
    exploration = explored({**STRENGTH, "steps": 3})
    info = charts.curve_info(tried(store, exploration), exploration.varied[0])
    assert info.values == [1, 100, 10000] and info.names is None
    assert [line.shown.title for line in info.lines] == ["all jobs", "new jobs", "old jobs", "all jobs, test"]
    assert info.lines[2].percent == pytest.approx([0, 40, 80])
    assert info.lines[1].percent == pytest.approx([80, 60, 40])
    assert info.lines[0].percent == pytest.approx([40, 50, 60])
    figure = drawn(charts.curve(info))
    assert figure.layout.xaxis.type == "log" and figure.layout.yaxis.range == (0, 102)
    assert [list(trace.marker.symbol).count("star") for trace in figure.data] == [1, 0, 0, 0]
    assert len({trace.marker.color for trace in figure.data}) == 3, "no more colours than three"


def test_what_trains_now_is_a_point_that_rises(store: Store) -> None:
    exploration = explored({**STRENGTH, "steps": 2}, {**EPOCHS, "steps": 2}, LABELS)
    name = explorations.create(store, exploration)
    advancing.advance(store, Reader(store))
    findings = look(store, name)[1]
    claim = store.claim_run(findings.cells[0].record.run)  # type: ignore[union-attr]
    events, heights = [*stories.FIRST, *stories.SECOND], []
    for event in events:
        claim.append(event)
        found = charts.rising_info(look(store, name)[1], {claim.run: store.fold(claim.run)})
        heights += [round(one.percent, 6) for one in found]
    assert list(dict.fromkeys(heights)) == [12.5, 37.5, 45, 60]
    assert [(one.run, one.words) for one in found] == [(claim.run, "job 2 of 2")]
    assert charts.rising_info(findings, {}) == [], "as long as it has told nothing"
    strength, epochs, labels = exploration.varied
    for chart in (
        charts.curve(charts.curve_info([], strength), found),
        charts.plane(charts.plane_info([], (strength, labels)), found),
        charts.heat_map(charts.heat_map_info([], (strength, epochs), exploration.axes[:2]), found),
        charts.parallel(charts.parallel_info([], exploration.varied), found),
    ):
        assert drawn(chart).data[-1].marker.symbol == "circle-open"
    claim.release()


def test_a_heat_map_frames_the_best_and_leaves_room_for_what_is_not_tried(store: Store) -> None:
    exploration = explored({**STRENGTH, "steps": 2}, LABELS)
    settings = (exploration.varied[0], exploration.varied[1])
    found = tried(store, exploration)
    info = charts.heat_map_info(found[:3], settings, exploration.axes)
    assert info.across == ["1", "10\u202f000"] and info.up == ["sampled", "exact"]
    assert info.percent == [[pytest.approx(40), pytest.approx(60)], [pytest.approx(40), None]]
    assert info.which == [[0, 2], [1, None]] and info.best == (0, 1)
    figure = drawn(charts.heat_map(info))
    assert [note.text for note in figure.layout.annotations] == ["40", "60", "40"]
    assert figure.layout.shapes[0].x0 == 0.5


def test_random_places_lie_on_their_axes(store: Store) -> None:
    exploration = explored({**STRENGTH, "steps": 2}, LABELS)
    settings = (exploration.varied[0], exploration.varied[1])
    info = charts.plane_info(tried(store, exploration), settings)
    assert info.x == [1, 1, 10000, 10000] and info.y == [0, 1, 1, 0]
    assert info.percent == pytest.approx([40, 40, 60, 60])
    assert info.which == [0, 1, 3, 2] and info.best
    figure = drawn(charts.plane(info))
    assert list(figure.data[0].marker.line.width) == [0, 0, 0, 3]
    assert list(figure.layout.yaxis.ticktext) == ["sampled", "exact"]


def test_of_two_tiles_that_cover_each_other_the_better_one_tells_its_figure(store: Store) -> None:
    close = {**STRENGTH, "log": False, "steps": 20}  # a tile lies a little less than its side from the next
    exploration = explored(close, LABELS)
    settings = (exploration.varied[0], exploration.varied[1])
    found = tried(store, exploration)
    info = charts.plane_info(found, settings)
    assert found[info.which[-1]].best and info.told[-1], "the best lies on top"
    assert info.percent == sorted(info.percent)
    assert sum(info.told) == 2 and len(info.told) == 40, "each is covered by the next better one"


def test_parallel_lines_lie_where_their_values_do(store: Store) -> None:
    exploration = explored({**STRENGTH, "steps": 3}, LABELS, {**EPOCHS, "steps": 2})
    info = charts.parallel_info(tried(store, exploration), exploration.varied)
    assert info.axes == ["strength", "labels", "epochs", "all jobs (validation)"]
    assert info.heights[5] == pytest.approx([0.5, 0, 1, 0.5])
    assert len(drawn(charts.parallel(info)).data) == 12


def test_empty_figures_keep_their_axes() -> None:
    exploration = explored(STRENGTH, LABELS, EPOCHS)
    strength, labels, _ = exploration.varied
    assert drawn(charts.curve(charts.curve_info([], strength))).layout.xaxis.range is not None
    assert drawn(charts.plane(charts.plane_info([], (strength, labels)))).layout.xaxis.range
    tiles = charts.heat_map_info([], (strength, labels), exploration.axes[:2])
    assert drawn(charts.heat_map(tiles)).layout.xaxis.range == (-0.5, 4.5)
    lines = charts.parallel_info([], exploration.varied)
    assert drawn(charts.parallel(lines)).layout.annotations
    assert charts.best_of([]) is None


def test_a_base_that_cannot_be_is_told_as_a_configuration_is() -> None:
    with pytest.raises(ConfigError, match="strength"):
        parse_exploration(
            {
                "base": {**tiny("ewc").model_dump(), "method": {"name": "ewc", "strength": -1.0}},
                "varied": (STRENGTH,),
                "runs": 5,
            }
        )
    assert parse(tiny("ewc").model_dump())
