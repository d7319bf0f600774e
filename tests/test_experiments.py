"""Experiments: what they want, what there is, what it shows, and what goes wrong under them."""

import dataclasses
import json

import pytest

from labcore import plugins
from labcore.cli import main as cli
from labcore.configs import presets
from labcore.configs.base import ConfigError
from labcore.configs.reading import parse
from labcore.configs.registry import ABOUT, of_group
from labcore.configs.run import RunConfig
from labcore.configs.verdicts import Verdict
from labcore.runs.results import RunResult
from labcore.runs.store import Store
from labcore.studies import estimates, experiments, measures, questions
from labcore.studies.criteria import ARTICLES, criteria
from labcore.studies.criterion import Word
from labcore.studies.estimates import Speed
from labcore.studies.experiments import Arm, Experiment
from labcore.studies.measures import CurvePoint, Difference, Spread
from labcore.studies.reader import Reader
from labcore.studies.table import TableCell, table_row
from labcore.version import ENGINE_VERSION
from tests import stories
from tests.conftest import tiny

BASE = tiny("ewc").model_dump(mode="json")


def two_arms(seeds: int = 2) -> Experiment:
    arms = (Arm("soft", tiny("ewc", method__strength=1.0)), Arm("stiff", tiny("ewc", method__strength=1e6)))
    return Experiment("two", "Two springs", arms, tuple(range(seeds)), experiments.best_on_validation)


def seeded(arm: Arm, seed: int) -> RunConfig:
    return arm.seeded(seed)


def tell_both(store: Store, experiment: Experiment, seeds: int = 2) -> None:
    soft, stiff = experiment.arms
    for seed in range(seeds):
        stories.told(store, seeded(soft, seed), [[0.9], [0.5 + seed / 100, 0.8]])
        stories.told(store, seeded(stiff, seed), [[0.9], [0.9 + seed / 100, 0.6]])


# ---- what is there, what is missing ---------------------------------------------------------------------------------


def test_runs_that_exist_are_used_and_missing_ones_are_queued(store: Store) -> None:
    experiment, reader = two_arms(), Reader(store)
    stories.told(store, seeded(experiment.arms[0], 1), [[0.9], [0.5, 0.8]])
    findings = reader.look(experiment)
    assert [cell.state for cell in findings.cells] == ["missing", "missing", "complete", "missing"]
    assert len(experiments.queue(store, findings)) == 3
    findings = reader.look(experiment)
    assert findings.live and not findings.missing
    experiments.stop(store, findings)
    findings = reader.look(experiment)
    assert sorted(cell.state for cell in findings.cells) == ["complete", "stopped", "stopped", "stopped"]
    assert len(experiments.queue(store, findings)) == 3
    assert len(store.records()) == 4  # it went on; nothing was made twice


def test_means_spreads_and_pairs_by_seed(store: Store) -> None:
    experiment = two_arms()
    tell_both(store, experiment)
    findings = Reader(store).look(experiment)
    assert findings.complete
    assert findings.spread("soft", "accuracy").mean == pytest.approx((0.65 + 0.655) / 2)
    assert findings.spread("soft", "new").values == pytest.approx((0.8, 0.8))
    assert findings.spread("stiff", "old").mean == pytest.approx(0.905)
    difference = findings.difference("stiff", "soft", "old")
    assert difference.spread.values == pytest.approx((0.4, 0.4))
    assert difference.sure == "clear"
    best = findings.best()
    assert best is not None and best.label == "stiff"
    assert "on test images it reaches 75.2 ± 0.4 %" in findings.told()[0]


def test_looking_again_reads_nothing_new(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, reader = two_arms(), Reader(store)
    tell_both(store, experiment)
    findings = reader.look(experiment)
    monkeypatch.setattr(Store, "tail", lambda *_: pytest.fail("events were read"))
    assert reader.look(experiment) is findings
    assert Reader(store).look(experiment).complete  # another process finds the folded results on disk


def test_a_run_deleted_under_it_is_missing_again(store: Store) -> None:
    experiment, reader = two_arms(), Reader(store)
    tell_both(store, experiment)
    findings = reader.look(experiment)
    record = findings.cells[0].record
    assert record is not None
    store.delete(record.run)
    findings = reader.look(experiment)
    assert [cell.state for cell in findings.cells] == ["missing", "complete", "complete", "complete"]
    assert findings.difference("stiff", "soft", "old").spread.n == 1


def test_what_failed_is_named_and_the_rest_is_shown(store: Store) -> None:
    experiment = two_arms()
    stories.told(store, seeded(experiment.arms[0], 0), [[0.9], [0.5, 0.8]])
    claim = store.claim_run(store.submit(seeded(experiment.arms[1], 0)).run)
    claim.fail("The loss became nan.")
    said = " ".join(Reader(store).look(experiment).told())
    assert "soft" in said
    assert "Failed, and so not counted: stiff (seed 0). The loss became nan." in said


def test_a_lost_worker_is_seen_and_its_run_still_counts_as_coming(store: Store) -> None:
    experiment = two_arms(1)
    claim = stories.written(store, stories.FIRST, seeded(experiment.arms[0], 0))
    claim.release()
    findings = Reader(store).look(experiment)
    assert findings.cells[0].state == "lost" and findings.live
    assert experiments.queue(store, findings) == [record.run for record in store.active()][1:]


def test_another_engine_version_is_shown_and_never_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = two_arms(1)
    with monkeypatch.context() as patch:
        patch.setattr("labcore.configs.run.ENGINE_VERSION", "0")
        old = stories.told(store, seeded(experiment.arms[0], 0), [[0.9], [0.1, 0.1]])
    reader = Reader(store)
    findings = reader.look(experiment)
    assert findings.cells[0].older == (old,) and findings.cells[0].finished is None
    assert findings.spread("soft", "accuracy").n == 0
    assert not reader.is_current(store.record(old))


def test_an_imported_run_is_not_used(store: Store) -> None:
    experiment = two_arms(1)
    run = stories.told(store, seeded(experiment.arms[0], 0), [[0.9], [0.5, 0.8]])
    record = store.record(run)
    store._database.delete(f"key/{record.key}")
    store.change(run, imported=True)
    cell = Reader(store).look(experiment).cells[0]
    assert cell.record is None and cell.older == ()


# ---- figures --------------------------------------------------------------------------------------------------------


def test_how_sure_a_difference_is() -> None:
    def sure(*values: float) -> str:
        return Difference("accuracy", Spread(values)).sure

    assert sure() == "nothing"
    assert sure(0.1) == "one seed"
    assert sure(0.0, 0.0, 0.0) == "none seen"
    assert sure(0.1, -0.1, 0.02) == "none seen"
    assert sure(0.05, 0.02, 0.07) == "likely"
    assert sure(0.05, 0.051, 0.049) == "clear"
    said = Difference("accuracy", Spread((0.1, -0.1, 0.02))).sentence("a", "b")
    assert said == "Average accuracy: no difference seen between a and b (+0.7 ± 10.1 points over 3 seeds)."


def test_intransigence_is_against_joint_and_the_gap_against_copies(store: Store) -> None:
    def result(method: str, rows: list[list[float]]) -> RunResult:
        return store.result(stories.told(store, tiny(method), rows))

    ewc = result("ewc", [[0.9], [0.8, 0.6]])
    joint = result("joint", [[0.95], [0.9, 0.85]])
    copies = result("separate_copies", [[0.9], [0.9, 0.9]])
    assert measures.intransigence(ewc, joint) == pytest.approx((0.05, 0.25))
    assert measures.gap_to_copies(ewc, copies) == pytest.approx((0.0, 0.3))


def test_a_curve_crosses_a_level_between_its_points() -> None:
    curve = [CurvePoint(0, 0, 0.1), CurvePoint(10, 2, 0.7), CurvePoint(20, 4, 0.9)]
    assert measures.crossing(curve, 0.8) == pytest.approx((15, 3))
    assert measures.crossing(curve, 0.95) is None
    assert measures.crossing([], 0.5) is None
    assert measures.crossing(curve, 0.0) == (0, 0)


def test_the_table_takes_other_jobs_and_nothing_else_does() -> None:
    experiment = questions.named("table", "story", 1, ("fans", "digits"))
    assert {tuple(arm.config.task_names) for arm in experiment.arms} == {("fans", "digits")}
    assert experiment.arms[0].config.training == presets.preset("story", "feature_extraction").training
    with pytest.raises(ConfigError, match="q1 has its own jobs"):
        questions.named("q1", "quick", 1, ("fans",))
    with pytest.raises(ConfigError, match="nonsense"):
        questions.named("table", "quick", 1, ("nonsense",))


SLOW = Speed(
    device="cpu", backbone="small_cnn", image_size=28, step_ms=10.0, image_ms=1.0, head_step_ms=2.0, forward_ms=0.5,
    single_ms=1.0, activation_bytes=1000, features=128, weights=1000, others=0.9, engine=ENGINE_VERSION,
)  # fmt: skip


def test_the_time_is_looked_at_again_while_the_speed_is_not_known_for_sure(store: Store) -> None:
    experiment = questions.named("table", "quick", 1)
    reader = Reader(store)
    findings = reader.look(experiment)
    assert reader.speeds(findings.unfinished, "cpu") == {None}
    assert reader.seconds_left(findings, "cpu", {}) is None
    estimates.keep(store, SLOW)
    assert reader.speeds(findings.unfinished, "cpu") == {SLOW}
    before = reader.seconds_left(findings, "cpu", {})
    estimates.keep(store, SLOW.model_copy(update={"step_ms": 1.0, "others": 0.0}))
    after = reader.seconds_left(findings, "cpu", {})
    assert before is not None
    assert after is not None
    assert after < before, "a speed that was measured again counts at once"


@pytest.mark.parametrize(("cores", "part"), [(None, 1.0), (2, 0.5)])
def test_what_finished_runs_took_corrects_what_the_others_are_estimated_to_take(
    cores: int | None, part: float, store: Store
) -> None:
    experiment, reader = questions.named("table", "quick", 1), Reader(store)
    estimates.keep(store, SLOW.model_copy(update={"others": 0.0}))
    first, *others = [arm.config for arm in experiment.arms]
    expected = sum(reader.seconds(config, "cpu") or 0.0 for config in others)
    stories.told(store, first, [[0.9], [0.4, 0.8], [0.4, 0.8, 0.8]], cores=cores)
    findings = reader.look(experiment)
    (done,) = [cell.finished.result for cell in findings.cells if cell.finished]
    took = sum(stage.train_seconds + stage.evaluation_seconds for stage in done.stages)
    pace = took / (reader.seconds(first, "cpu") or 1.0)
    assert pace != pytest.approx(1, rel=0.1)
    assert done.device_share == part, "one thread of two cores leaves room for another run"
    assert reader.seconds_left(findings, "cpu", {}) == pytest.approx(part * pace * expected)
    alone = dataclasses.replace(findings, cells=findings.cells[:2])
    longest = reader.seconds(others[0], "cpu") or 0.0
    assert reader.seconds_left(alone, "cpu", {}) == pytest.approx(pace * longest), (
        "it is not over sooner than by itself"
    )


def test_the_words_of_the_table_come_from_the_figures(store: Store) -> None:
    experiment = questions.named("table", "quick", 1)
    rows = {
        "fine_tuning": [[0.9], [0.5, 0.8], [0.4, 0.5, 0.9]],
        "ewc": [[0.9], [0.88, 0.7], [0.87, 0.68, 0.8]],
        "joint": [[0.9], [0.9, 0.85], [0.9, 0.85, 0.9]],
    }
    for method, matrix in rows.items():
        stories.told(
            store,
            presets.preset("quick", method),
            matrix,
            seconds=2.1 if method == "joint" else 1.0,
            kept=3000 if method == "ewc" else 1000,
            old_images=5 if method == "joint" else 0,
        )
    cells = cells_of(store, experiment)
    words = {method: [cell.word for cell in row] for method, row in cells.items()}
    assert [words[method][0] for method in rows] == [None] * 3, "one of the others may be the best"
    assert words["lwf"] == [None] * 6
    assert [cell.agrees for cell in cells["lwf"]] == [None] * 6
    measure_the_others(store, experiment)
    cells = cells_of(store, experiment)
    words = {method: [cell.word for cell in row] for method, row in cells.items()}
    assert words["fine_tuning"] == ["good", "bad", "fast", None, "medium", "not needed"]
    assert words["ewc"] == ["medium", "medium", "fast", None, "large", "not needed"]
    assert words["joint"] == ["best", "good", "slow", None, "medium", "needed"]
    assert [cell.agrees for cell in cells["joint"]] == [True, True, True, None, False, True]


def cells_of(store: Store, experiment: Experiment) -> dict[str, list[TableCell]]:
    findings = Reader(store).look(experiment)
    return {arm.config.method.name: table_row(findings, arm) for arm in experiment.arms}


def measure_the_others(store: Store, experiment: Experiment) -> None:
    """What is missing of the experiment is done, and learns each job to 80 %."""
    for cell in Reader(store).look(experiment).cells:
        if cell.finished is None:
            stories.told(store, cell.config, [[0.8], [0.8, 0.8], [0.8, 0.8, 0.8]])


def test_what_may_be_chance_is_not_called_different(store: Store) -> None:
    """Over two seeds EWC is 1.5 points below the best at a new job, and its own spread is 2.1 points."""
    experiment = questions.named("table", "quick", 2)
    for method, learnt in (("joint", (0.9, 0.9)), ("ewc", (0.87, 0.90)), ("lwf", (0.885, 0.885))):
        for seed, value in enumerate(learnt):
            config = parse(presets.preset_data("quick", method) | {"seed": seed})
            stories.told(store, config, [[0.9], [0.9, value], [0.9, 0.9, value]])
    measure_the_others(store, experiment)
    new = {method: row[0].word for method, row in cells_of(store, experiment).items()}
    assert (new["joint"], new["ewc"], new["lwf"]) == ("best", "best", "good")
    said = " ".join(Reader(store).look(experiment).told())
    assert "Joint training has the highest average accuracy" in said
    assert "; Elastic weights (EWC) lies within the spread." in said


def test_one_measured_method_is_not_yet_the_best(store: Store) -> None:
    stories.told(store, presets.preset("quick", "ewc"), [[0.9], [0.88, 0.7], [0.87, 0.68, 0.8]])
    findings = Reader(store).look(questions.named("table", "quick", 1))
    (arm,) = [arm for arm in findings.experiment.arms if arm.config.method.name == "ewc"]
    new = table_row(findings, arm)[0]
    assert new.figure and (new.word, new.agrees) == (None, None)
    assert "highest" not in " ".join(findings.told())


def test_every_mark_of_the_literature_can_be_measured() -> None:
    for about in of_group("article"):
        assert set(about.verdict.ratings) == {criterion.name for criterion in ARTICLES}, about.name
        for criterion in ARTICLES:
            mark = about.verdict.of(criterion.name).mark
            assert mark in {word.mark for word in criterion.words}, (about.name, criterion.name)


def test_a_criterion_whose_parts_do_not_fit_is_refused_in_a_sentence() -> None:
    for changed, why in (
        ({"measure": "beauty"}, "measure is 'beauty'; allowed: accuracy"),
        ({"against": "worst"}, "against 'worst'; allowed: best, fine_tuning, own"),
        ({"words": (Word("good", "good", 1.0), Word("bad", "poor", 2.0))}, r"the last must be float\('inf'\)"),
        ({"words": ()}, "must rise"),
    ):
        with pytest.raises(ValueError, match=why):
            dataclasses.replace(ARTICLES[0], **changed)


def test_the_best_is_the_least_where_less_is_better(store: Store) -> None:
    for method, seconds in (("fine_tuning", 1.0), ("ewc", 3.0)):
        stories.told(store, presets.preset("quick", method), [[0.9], [0.5, 0.8], [0.4, 0.5, 0.9]], seconds=seconds)
    experiment = questions.named("table", "quick", 1)
    measure_the_others(store, experiment)
    findings = Reader(store).look(experiment)
    words = (Word("least", "good", 0.0), Word("more", "poor", float("inf")))
    criterion = dataclasses.replace(ARTICLES[0], measure="train_seconds", words=words)
    found = [criterion.word(findings, ABOUT[method].title) for method in ("fine_tuning", "ewc")]
    assert found == list(words)


def test_a_criterion_of_another_package_is_a_column_by_which_nobody_is_rated(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = dataclasses.replace(ARTICLES[0], name="mine", title="my own")
    monkeypatch.setattr("labcore.plugins.load", lambda group, accept, taken: {"mine": accept("mine", mine)})
    monkeypatch.setattr("labcore.plugins._problems", {})
    misspelt = Verdict({"new": ("good", "good"), "speed": ("fast", "good")})
    monkeypatch.setitem(ABOUT, "ewc", dataclasses.replace(ABOUT["ewc"], verdict=misspelt))
    criteria.cache_clear()
    try:
        findings = Reader(store).look(questions.named("table", "quick", 1))
        cells = {arm.config.method.name: table_row(findings, arm) for arm in findings.experiment.arms}
        assert [cell.criterion for cell in cells["lwf"]] == [*(criterion.name for criterion in ARTICLES), "mine"]
        assert (cells["lwf"][-1].literature, cells["lwf"][-1].source) == ("not rated", None)
        assert [cell.literature for cell in cells["ewc"]] == ["good", *["not rated"] * 6]
        (told,) = plugins.problems()
        assert told.startswith(
            "What the method 'ewc' says by 'speed' is left out: no criterion has this name; there are"
        )
    finally:
        criteria.cache_clear()


def test_every_named_experiment_can_be_made_and_told_of_nothing(store: Store) -> None:
    for name, named in questions.NAMED.items():
        experiment = questions.named(name)
        assert len(experiment.seeds) == named.seeds
        assert len({arm.label for arm in experiment.arms}) == len(experiment.arms)
        assert Reader(store).look(experiment).told() == ["Nothing is finished yet."]


@pytest.mark.parametrize("name", ["q1", "q2", "q3", "starts", "recycle"])
def test_every_question_is_answered_from_its_first_run_on(store: Store, name: str) -> None:
    experiment = questions.named(name, seeds=3)
    for count, (_, _, config) in enumerate(experiment.configs()):
        stories.told(store, config, [[0.9 + config.seed / 100] * (k + 1) for k in range(len(config.tasks))])
        if count in (0, len(experiment.arms)):
            assert Reader(store).look(experiment).told()
    said = " ".join(Reader(store).look(experiment).told())
    assert "nan" not in said and "None" not in said
    if name == "q1":
        assert "No difference seen** over 3 seeds between “kept” and “set to zero”" in said
    if name == "starts":
        assert "Without normalisation, steps to 80 %" in said
    if name == "recycle":
        assert "times as long, over 3 seeds" in said


# ---- the command ----------------------------------------------------------------------------------------------------


def test_an_unknown_experiment_is_bad_input_with_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, sentence in (
        (["nope"], "table, q1, q2, q3, starts, recycle"),
        (["q1", "--preset", "nope"], "allowed: story"),
        (["q1", "--seeds", "9"], "from 1 to 5"),
        (["q1", "--seeds", "two"], "from 1 to 5"),
        (["q1", "--seeds", "²"], "from 1 to 5"),
        (["q1", "--seeds", "9" * 5000], "from 1 to 5"),
        (["starts", "--preset", "quick"], "takes no preset"),
    ):
        assert cli.main(["experiment", *arguments, "--json"]) == 2
        out, err = capsys.readouterr()
        assert out == "" and sentence in err and err.count("\n") == 1


def tiny_experiment(monkeypatch: pytest.MonkeyPatch, *arms: Arm) -> None:
    made = Experiment("q1", "Tiny", arms, (0,))
    monkeypatch.setattr("labcore.studies.questions.named", lambda *_: made)


def test_the_command_trains_what_is_missing(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = {"training": {**BASE["training"], "epochs": 1}}
    arms = [Arm(name, parse({**BASE, **short, "method": {"name": name}})) for name in ("fine_tuning", "joint")]
    done = stories.told(store, arms[0].seeded(0), [[0.9], [0.5, 0.8]])
    tiny_experiment(monkeypatch, *arms)
    assert cli.main(["experiment", "q1", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["complete"] and document["arms"][0]["runs"][0]["run"] == done
    assert document["arms"][1]["measures"]["accuracy"]["n"] == 1
    assert "2 of 2: joint, seed 0" in err and "1 of 2" not in err


def test_the_command_shows_what_it_has_and_fails_where_a_run_failed(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blows_up = parse({**BASE, "training": {**BASE["training"], "optimizer": "sgd", "learning_rate": 10.0}})
    good = tiny()
    stories.told(store, good, [[0.9], [0.5, 0.8]])
    monkeypatch.setattr("labcore.training.worker.run_claim", lambda claim, *_, **__: claim.fail("The loss became nan."))
    tiny_experiment(monkeypatch, Arm("good", good), Arm("bad", blows_up))
    assert cli.main(["experiment", "q1", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [arm["runs"][0]["state"] for arm in document["arms"]] == ["complete", "failed"]
    assert "Failed, and so not counted: bad (seed 0). The loss became nan." in document["findings"]
