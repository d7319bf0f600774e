"""Answers timed in turn: restored runs answer as they did, words say nothing of noise, and wishes are served."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from labcore.configs import presets
from labcore.configs.registry import ABOUT, METHODS
from labcore.networks.batches import Stopped, load_task
from labcore.runs.store import Store
from labcore.studies import answer_times, questions
from labcore.studies.answer_times import AnswerTimes, InTurn, Turn
from labcore.studies.experiments import Arm, Experiment, Findings
from labcore.studies.reader import Reader
from labcore.studies.table import answer_times_told, table_row
from labcore.training import answer_times as timing
from labcore.training import measuring, worker
from labcore.training.loop import Loop
from labcore.training.slots import Slots
from tests import kept, stories
from tests.conftest import tiny


def two_trained(store: Store) -> tuple[Experiment, Turn]:
    """A complete table of two tiny runs, and their turn."""
    configs = [tiny("fine_tuning"), tiny("separate_copies")]
    runs = [(kept.train(store, config), 1) for config in configs]
    arms = tuple(Arm(config.method.title, config) for config in configs)
    experiment = Experiment("table", "Tiny", arms, (0,), in_turn=True)
    return experiment, answer_times.turn_of(store, "cpu", runs)


# ---- timing ---------------------------------------------------------------------------------------------------------


def test_passes_take_turns_and_the_warm_ones_do_not_count() -> None:
    order: list[str] = []

    def one_pass(name: str) -> Callable[[], float]:
        def run() -> float:
            order.append(name)
            return float(len(order))

        return run

    found = timing.take_turns({"a": one_pass("a"), "b": one_pass("b")}, rounds=2)
    assert "".join(order) == "ab" * 3
    assert found == {"a": (3.0, 5.0), "b": (4.0, 6.0)}


def test_the_median_and_the_quartiles_by_hand() -> None:
    found = InTurn(run="a", threads=1, milliseconds=(3.0, 90.0, 1.0, 2.0, 4.0))
    assert (found.median, found.middle) == (3.0, (2.0, 4.0)), "one disturbed round moves neither"
    left_out = InTurn(run="a", threads=1, why="Gone.")
    assert (left_out.median, left_out.middle) == (None, None)


def test_asking_whether_to_stop_takes_none_of_the_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = 0.0, 0
    monkeypatch.setattr(measuring, "time", SimpleNamespace(perf_counter=lambda: now))

    def should_stop() -> bool:
        nonlocal now, asked
        now, asked = now + 7.0, asked + 1
        return asked > 8

    def logits(*arguments: object) -> torch.Tensor:
        nonlocal now
        now += 0.002
        return torch.zeros(1, 2)

    trunk = SimpleNamespace(normalise=lambda image: image)
    network = SimpleNamespace(trunk=trunk, logits=logits, let_statistics_move=lambda blocks: None)
    method = SimpleNamespace(fixed_overlay=lambda task: {})
    task = SimpleNamespace(position=1, test=SimpleNamespace(images=torch.zeros(50, 1)))
    one_pass = measuring.Measurer(network, method, should_stop).passes(task)  # type: ignore[arg-type]
    assert one_pass() == pytest.approx(2.0)
    assert asked == measuring.TIMED_PICTURES
    with pytest.raises(Stopped):
        one_pass()
    assert asked == 9, "it is asked before each picture"


LIGHT = ("fine_tuning", "ewc", "packnet", "piggyback")  # of each way to keep weights one


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=[] if name in LIGHT else [pytest.mark.heavy]) for name in METHODS]
)
def test_a_restored_run_answers_as_it_did_at_its_end(
    store: Store, method: str, monkeypatch: pytest.MonkeyPatch, few_answers: pytest.MonkeyPatch
) -> None:
    config = tiny(method)
    answers: list[torch.Tensor] = []
    ask = Loop._answers

    def remembered(self: Loop, task: measuring.LoadedTask, split: measuring.Split) -> measuring.Answers:
        found = ask(self, task, split)
        if task.position == 1 and split == "test":
            answers.append(found.classes)
        return found

    monkeypatch.setattr(Loop, "_answers", remembered)
    run = kept.train(store, config)
    cpu = torch.device("cpu")
    first = load_task(1, config.tasks[0], config.backbone.image_size, store.cache, cpu)
    learner = timing.restore(config, store.stage_folder(run, 2), cpu, first)
    found = measuring.Measurer(learner.network, learner.method, lambda: False).answers(learner.tasks[0], "test").classes
    assert len(found) == 60
    assert torch.equal(found, answers[-1])


def test_runs_are_timed_in_turn_and_one_without_weights_is_left_out(store: Store) -> None:
    _, turn = two_trained(store)
    assert timing.measure(store, turn, lambda: True) is None
    (store.stage_folder(turn.runs[1][0], 2) / "network.safetensors").unlink()
    found = timing.measure(store, turn, lambda: False)
    assert found is not None
    timed, left_out = found.timed
    assert len(timed.milliseconds) == 5 and min(timed.milliseconds) > 0 and not timed.why
    assert (left_out.milliseconds, left_out.why) == ((), timing.DROPPED)


# ---- keeping and wishing --------------------------------------------------------------------------------------------


def test_a_file_that_does_not_hold_what_its_name_says_is_passed_over(store: Store) -> None:
    turn = answer_times.turn_of(store, "cpu", [("a", 1), ("b", 2)])
    assert turn.key == answer_times.turn_of(store, "cpu", [("b", 2), ("a", 1)]).key
    times = AnswerTimes(turn=turn, timed=tuple(InTurn(run=run, threads=1, milliseconds=(1.0,)) for run in "ab"))
    answer_times.wish(store, turn)
    answer_times.keep(store, times)
    assert answer_times.known(store, turn) == times
    assert answer_times.next_wish(store, "cpu") is None
    path = store.cache / "answer_times" / f"{turn.key}.json"
    other = times.model_copy(update={"turn": turn.model_copy(update={"device": "cuda:0"})})
    unfinished = times.model_copy(update={"timed": times.timed[:1]})
    for text in ("{", "[]", "x" * (1 << 19), other.model_dump_json(), unfinished.model_dump_json()):
        path.write_text(text)
        assert answer_times.known(store, turn) is None
    path.write_text(times.model_dump_json().replace("1.0", "-1.0"))
    assert answer_times.known(store, turn) is None


def test_a_wish_is_for_its_device_and_a_strange_one_is_passed_over(store: Store) -> None:
    turn = answer_times.turn_of(store, "cpu", [("a", 1)])
    answer_times.wish(store, turn)
    (store.cache / "answer_times" / "0.wish").write_text("{")
    (store.cache / "answer_times" / "1.wish").write_text(turn.model_dump_json())
    assert answer_times.next_wish(store, "cpu") == turn
    assert answer_times.next_wish(store, "cuda:0") is None


def test_a_worker_with_nothing_else_to_do_serves_a_wish(store: Store) -> None:
    experiment, turn = two_trained(store)
    reader = Reader(store)
    before = reader.look(experiment)
    assert before.awaits_turn and reader.look(experiment) is before
    assert reader.wish_answer_times(before) == "cpu"
    waiting = store.submit(tiny(seed=7)).run
    own, ending = Slots(store, "cpu"), threading.Event()
    assert not worker._measures_a_wish(own, ending), "a run that waits comes first"
    store.request_stop(waiting)
    assert worker._measures_a_wish(own, ending)
    after = reader.look(experiment)
    assert after is not before and after.timed_in_turn and not after.awaits_turn
    assert reader.wish_answer_times(after) is None
    found = answer_times.known(store, turn)
    assert found is not None
    for cell, timed in zip(after.cells, found.timed, strict=True):
        assert cell.finished is not None
        assert after.spread(cell.arm.label, "test_ms").mean == timed.median
        assert cell.finished.result.test_ms_per_image == store.result(timed.run).test_ms_per_image, "its own stays"
    assert not worker._measures_a_wish(own, ending)


def test_timing_that_breaks_ends_no_worker_and_is_not_tried_for_ever(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*arguments: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(timing, "take_turns", breaks)
    _, turn = two_trained(store)
    answer_times.wish(store, turn)
    worker._time_answers(store, turn, lambda: False)
    assert answer_times.next_wish(store, "cpu") is None
    found = answer_times.known(store, turn)
    assert found is not None and "RuntimeError" in found.timed[0].why


# ---- words ----------------------------------------------------------------------------------------------------------


def table_with(store: Store, rounds: dict[str, tuple[float, ...]]) -> Findings:
    """The table of the quick preset, complete and timed in turn; methods that are not named are as fast as any."""
    experiment, reader = questions.named("table", "quick", 1), Reader(store)
    for arm in experiment.arms:
        stories.told(store, arm.seeded(0), [[0.9], [0.5, 0.8], [0.4, 0.5, 0.9]], milliseconds=1.0)
    findings = reader.look(experiment)
    runs = [(cell.record.run, cell.record.attempt) for cell in findings.cells if cell.record]
    timed = [
        InTurn(run=run, threads=2, milliseconds=found, why="" if found else timing.DROPPED)
        for (run, _), arm in zip(runs, experiment.arms, strict=True)
        for found in [rounds.get(arm.config.method.name, (3.9, 4.0, 4.0, 4.0, 4.1))]
    ]
    turn = answer_times.turn_of(store, "cpu", runs)
    answer_times.keep(store, AnswerTimes(turn=turn, timed=tuple(timed)))
    return reader.look(experiment)


def answers(findings: Findings) -> dict[str, str | None]:
    """The word for the time to answer, by method."""
    rows = {arm.config.method.name: table_row(findings, arm) for arm in findings.experiment.arms}
    return {method: cell.word for method, row in rows.items() for cell in row if cell.criterion == "test"}


def test_methods_are_called_different_only_beyond_their_spreads(store: Store) -> None:
    findings = table_with(
        store,
        {
            "feature_extraction": (4.0, 4.0, 5.5, 6.0, 6.0),  # a median far above, and quartiles that meet
            "lwf": (5.8, 6.1, 6.2, 6.3, 6.4),  # meets the one above at no point
            "ewc": (8.8, 9.0, 9.0, 9.5, 9.6),
            "packnet": (7.0, 7.6, 7.9, 9.1, 9.2),  # below twice by itself, and meets the one above
            "joint": (),
        },
    )
    found = answers(findings)
    assert found["fine_tuning"] == found["feature_extraction"] == found["piggyback"] == "fast"
    assert (found["lwf"], found["packnet"], found["ewc"], found["joint"]) == ("medium", "medium", "medium", None)
    told = " ".join(answer_times_told(findings))
    assert "were timed in turn" in told and "threads: 2" in told
    assert f"{ABOUT['joint'].title}, seed 0, was not timed with the others. {timing.DROPPED}" in told
    (arm,) = [arm for arm in findings.experiment.arms if arm.config.method.name == "ewc"]
    assert [cell.figure for cell in table_row(findings, arm) if cell.criterion == "test"] == ["9.0 ms (9.0 to 9.5)"]


def test_figures_of_different_hours_get_no_word(store: Store) -> None:
    for method, milliseconds in (("fine_tuning", 3.2), ("feature_extraction", 5.5)):
        stories.told(
            store, presets.preset("quick", method), [[0.9], [0.5, 0.8], [0.4, 0.5, 0.9]], milliseconds=milliseconds
        )
    findings = Reader(store).look(questions.named("table", "quick", 1))
    assert set(answers(findings).values()) == {None}
    (told,) = answer_times_told(findings)
    assert "so they are not compared" in told


def test_only_a_table_is_wished_for(store: Store) -> None:
    experiment, reader = questions.named("q1", None, 1), Reader(store)
    for _, _, config in experiment.configs():
        stories.told(store, config, [[0.9] * (k + 1) for k in range(len(config.tasks))])
    assert reader.wish_answer_times(reader.look(experiment)) is None
    assert not os.path.exists(Path(store.cache) / "answer_times")
