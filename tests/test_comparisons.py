"""Runs beside each other: numbers first, figures second; and the advice that follows from them."""

import dataclasses
from itertools import combinations

import pytest

from labcore.configs.registry import ABOUT
from labcore.configs.run import RunConfig
from labcore.configs.verdicts import Verdict
from labcore.drawings import answers, comparisons, panels, trade_off
from labcore.drawings.trade_off import Expected, PlanePoint
from labcore.runs.store import Store
from labcore.studies import advice, questions
from labcore.studies.advice import Wish
from labcore.studies.groups import Group, differences_line, fold_seeds, names_of
from labcore.studies.measures import CurvePoint, Finished
from labcore.studies.reader import Reader
from tests import stories
from tests.conftest import tiny
from tests.drawn import drawn

ROWS = {
    "fine_tuning": [[0.9], [0.4, 0.8]],
    "joint": [[0.9], [0.9, 0.85]],
    "piggyback": [[0.9], [0.9, 0.7]],
    "packnet": [[0.9], [0.9, 0.6]],
}


def finished(store: Store, config: RunConfig, rows: list[list[float]], **told: int) -> Finished:
    return Finished("", store.result(stories.told(store, config, rows, **told)))  # type: ignore[arg-type]


def shifted(rows: list[list[float]], by: float) -> list[list[float]]:
    return [[value + by for value in row] for row in rows]


def all_groups(store: Store) -> list[Group]:
    runs = [
        (config, finished(store, config, shifted(rows, seed / 50), old_images=method == "joint"), "")
        for method, rows in ROWS.items()
        for seed in (0, 1)
        for config in [tiny(method, seed=seed)]
    ]  # fmt: skip
    return fold_seeds(runs)


def test_runs_that_differ_by_seed_alone_are_one_group(store: Store) -> None:
    groups = all_groups(store)
    assert [group.name for group in groups] == [ABOUT[method].title for method in ROWS]
    assert [len(group.runs) for group in groups] == [2] * 4
    assert groups[0].spread("old").mean == pytest.approx(0.41)


def test_unfolded_each_seed_is_itself_and_marked_runs_stay_apart(store: Store) -> None:
    made = [(config, finished(store, config, ROWS["joint"])) for config in (tiny("joint"), tiny("joint", seed=1))]
    runs = [(*made[0], ""), (*made[1], "")]
    assert [g.name for g in fold_seeds(runs, unfold=True)] == [
        "Seed 0",
        "Seed 1",
    ]
    marked = [runs[0], (*made[1], "earlier version")]
    names = [group.name for group in fold_seeds(marked)]
    assert names == ["Joint training", "Joint training (earlier version)"]


def test_what_differs_is_named_in_a_line() -> None:
    soft, stiff = tiny("ewc", method__strength=1.0), tiny("ewc", method__strength=1e4)
    line = differences_line([soft, stiff])
    assert line.startswith("All are Elastic weights (EWC). They differ in strength (1, 10\u202f000); all else")
    assert names_of([soft, stiff])[1] == "Elastic weights (EWC), strength 10\u202f000"
    assert "method" in differences_line([soft, tiny()])
    plain = tiny("ewc", method__strength=1.0, backbone__name="small_cnn_plain")
    assert "network (Small CNN, Small CNN without normalisation)" in differences_line([soft, plain])
    assert differences_line([soft, soft]) == "They have the same settings."
    assert differences_line([soft]).startswith("One configuration")


def test_groups_of_one_method_are_named_by_the_rest(store: Store) -> None:
    soft, stiff, joint = tiny("ewc", method__strength=1.0), tiny("ewc", method__strength=1e4), tiny("joint")
    runs = [(config, finished(store, config, ROWS["joint"]), "") for config in (soft, stiff, joint)]
    assert [group.name for group in fold_seeds(runs[:2])] == ["Strength 1", "Strength 10\u202f000"]
    assert fold_seeds(runs)[0].name == "Elastic weights (EWC), strength 1"


def test_long_names_take_two_lines_where_they_stand_side_by_side() -> None:
    assert panels.folded("Separate copies", 20) == "Separate copies"
    assert panels.folded("Elastic weights (EWC), strength 464", 30) == "Elastic weights (EWC),<br>strength 464"
    assert panels.folded("x" * 50, 30) == "x" * 50
    matrix = comparisons.MeanMatrix("a long name, of many words, beside others", [[None]], [[None]])
    (title,) = drawn(comparisons.matrices([matrix])).layout.annotations
    assert title.text == "<b>a long name, of many words,<br>beside others</b>"


def test_the_front_is_what_no_other_beats_in_both(store: Store) -> None:
    points = {point.name: point for point in trade_off.plane_info(all_groups(store))}
    assert [name for name, point in points.items() if point.front] == ["Joint training"]
    assert points["Fine-tuning"].new == pytest.approx(81) and points["Fine-tuning"].old == pytest.approx(41)
    assert drawn(trade_off.plane(list(points.values()))).data


def test_what_to_expect_is_the_literatures_marks_of_those_that_it_rates_for_both() -> None:
    some = [ABOUT[name] for name in ("fine_tuning", "packnet")]
    unrated = dataclasses.replace(ABOUT["joint"], verdict=Verdict({"new": ("good", "good")}))
    assert trade_off.expected_info([*some, unrated]) == [
        Expected("Fine-tuning", "good", "poor", True),
        Expected("PackNet", "medium", "good", False),
    ]


def test_names_in_the_plane_do_not_cover_each_other() -> None:
    points = [PlanePoint(i, f"method {i}", 90 + i / 10, 90 - i / 10, 0, 0, False) for i in range(8)]
    width, height = trade_off._AREA
    boxes = []
    placed = trade_off.labels_apart(points, (80, 102), (80, 102))
    assert len(placed) == len(points)
    for point, right, down, side in placed:
        x, y = (point.new - 80) / 22 * width + right, (102 - point.old) / 22 * height + down
        left = x if side == "left" else x - trade_off._LETTER * len(point.name)
        high = trade_off._LINE / 2
        boxes.append((left, y - high, left + trade_off._LETTER * len(point.name), y + high))
    for a, b in combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)
    assert all(left >= 0 and right <= width and top >= 0 and low <= height for left, top, right, low in boxes)


def test_where_names_have_no_room_the_front_keeps_its_own() -> None:
    crowd = [PlanePoint(i, f"one of a hundred {i}", 90, 90, 0, 0, i == 99) for i in range(100)]
    placed = trade_off.labels_apart(crowd, (80, 102), (80, 102))
    assert placed[0][0].name == "one of a hundred 99"
    assert 1 < len(placed) < 40


def test_an_axis_runs_from_the_ten_below_to_the_ten_above() -> None:
    assert trade_off._tens([47.0, 35.0]) == (30, 60)
    assert trade_off._tens([3.0, 99.0]) == (0, 102)
    assert trade_off._tens([]) == (60, 102)


def test_matrices_are_means_over_seeds(store: Store) -> None:
    matrix = comparisons.matrices_info(all_groups(store))[0]
    assert matrix.percent[0] == [pytest.approx(91), None]
    assert matrix.percent[1] == [pytest.approx(41), pytest.approx(81)]
    assert matrix.sd[1][0] == pytest.approx(2 / 2**0.5)
    assert drawn(comparisons.matrices([matrix])).data and drawn(comparisons.sequences([matrix])).data


def test_by_task_shows_intransigence_only_where_joint_is(store: Store) -> None:
    groups = all_groups(store)
    info = comparisons.by_task_info(groups)
    forgetting, against_joint, gap = info.columns
    assert forgetting.values[0] == [pytest.approx(50), None]
    assert against_joint.values[2] == [pytest.approx(0), pytest.approx(15)]
    assert against_joint.values[1] == [None, None]  # joint against itself says nothing
    assert all(value is None for row in gap.values for value in row)  # there are no separate copies
    without = comparisons.by_task_info([group for group in groups if "Joint" not in group.name])
    assert all(value is None for row in without.columns[1].values for value in row)
    assert drawn(comparisons.by_task(info)).data
    assert comparisons.costs_info(groups).columns[0].title == "training, s"
    assert drawn(comparisons.costs(comparisons.costs_info(groups))).data


def against_joint(runs: list[tuple[RunConfig, Finished, str]], *, unfold: bool = False) -> dict[str, list[object]]:
    info = comparisons.by_task_info(fold_seeds(runs, unfold=unfold))
    return dict(zip(info.names, info.columns[1].values, strict=True))  # type: ignore[arg-type]


def test_a_reference_is_of_the_same_version(store: Store) -> None:
    joint, mask = (finished(store, tiny(method), ROWS[method]) for method in ("joint", "piggyback"))
    found = against_joint([(tiny("joint"), joint, "earlier version, engine 1"), (tiny("piggyback"), mask, "")])
    assert found["Piggyback"] == [None, None]
    old = "earlier version, engine 1"
    found = against_joint([(tiny("joint"), joint, old), (tiny("piggyback"), mask, old)])
    assert found[f"Piggyback ({old})"] == [pytest.approx(0), pytest.approx(15)]


def test_unfolded_every_seed_finds_its_reference(store: Store) -> None:
    runs = [
        (tiny(method, seed=seed), finished(store, tiny(method, seed=seed), shifted(ROWS[method], seed / 50)), "")
        for method in ("joint", "piggyback")
        for seed in (0, 1)
    ]
    found = against_joint(runs, unfold=True)
    assert found["Piggyback, seed 0"] == found["Piggyback, seed 1"] == [pytest.approx(0), pytest.approx(15)]
    assert found["Joint training, seed 0"] == found["Joint training, seed 1"] == [None, None]


def test_versions_are_not_mixed_into_one_mean_imported_or_not(store: Store) -> None:
    reader, runs = Reader(store), []
    for seed, engine, imported in ((0, "1", False), (1, "2", False), (2, "1", True), (3, "2", True)):
        config = tiny(seed=seed)
        opened = stories.opened().model_copy(update={"config": config, "versions": {"engine": engine}})
        claim = stories.written(store, [opened, *stories.COMPLETE[1:]], config)
        claim.finish("complete")
        key = config.key() if imported else f"of engine {engine}"
        record = store.change(claim.run, imported=imported, key=key)
        runs.append((config, reader.finished(record), reader.note(record)))
    assert [note for *_, note in runs] == [
        "earlier version, engine 1",
        "earlier version, engine 2",
        "imported, engine 1",
        "imported, engine 2",
    ]
    assert len(fold_seeds(runs)) == 4
    current = store.record(stories.told(store, tiny(seed=4), ROWS["joint"]))
    assert reader.note(current) == ""


def test_learning_curves_are_means_over_seeds(store: Store) -> None:
    experiment = questions.named("starts", seeds=2)
    arm = experiment.arms[0]
    for seed in (0, 1):
        stories.told(store, arm.seeded(seed), [[0.8 + seed / 10]])
    findings = Reader(store).look(experiment)
    (curve,) = answers.learning_curves_info(findings, "steps", {arm.label: "plain"})
    assert curve.x == [0, 5, 10] and curve.percent == pytest.approx([0, 42.5, 85])
    cell = findings.of(arm.label)[0]
    assert cell.finished is not None and cell.finished.curve[1] == CurvePoint(5, 0.5, 0.4)
    assert drawn(answers.learning_curves([curve], ["plain"], "steps", 0.8)).data


def test_advice_rules_out_and_ranks_with_reasons(store: Store) -> None:
    groups = all_groups(store)
    anything = advice.rank(groups, Wish(True, "freely", None, 0))
    assert [entry.name for entry in anything] == ["Joint training", "Piggyback", "PackNet", "Fine-tuning"]
    assert all(entry.fits for entry in anything)
    strict = advice.rank(groups, Wish(False, "not at all", None, 0))
    assert [entry.name for entry in strict if entry.fits] == ["Piggyback", "PackNet"]
    reasons = {entry.name: entry.reason for entry in strict}
    assert "reads old pictures" in reasons["Joint training"] and "lost 50.0 points" in reasons["Fine-tuning"]
    assert "forgets nothing" in reasons["Piggyback"]
    crowded = {entry.name: entry for entry in advice.rank(groups, Wish(True, "freely", None, 20))}
    assert not crowded["PackNet"].fits and "room for" in crowded["PackNet"].reason


def test_advice_counts_what_each_job_adds(store: Store) -> None:
    group = fold_seeds([(tiny("joint"), finished(store, tiny("joint"), ROWS["joint"]), "")])[0]
    kept = {"trunk": 1000, "old images": 400, "total": 1400, "working": 0}
    result = group.runs[0].result.model_copy(update={"footprint_bytes": kept})
    grown = Group("Joint", group.config, (Finished("", result),))
    assert advice.bytes_ahead(grown, 3) == 1400 + 3 * 200
    (entry,) = advice.rank([grown], Wish(True, "freely", 1.5, 3))
    assert not entry.fits and "2.0 times the network" in entry.reason
