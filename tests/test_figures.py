import dataclasses
import re
from itertools import pairwise

import pytest

from labcore.drawings import figures
from labcore.runs.events import FootprintMeasured
from labcore.runs.results import fold
from labcore.studies import measures
from tests import stories
from tests.drawn import drawn

TITLES = ["Digits: 0 to 3", "Clothes: T-shirt to pullover"]


def test_accuracy_curves_are_the_live_points_of_each_task() -> None:
    info = figures.accuracy_curves_info(fold(stories.COMPLETE))
    assert [(line.position, line.title, line.images_seen, line.percent) for line in info.lines] == [
        (1, "Digits: 0 to 3", [0, 40, 76, 76, 152], [25, 75, 90, 90, 40]),
        (2, "Clothes: T-shirt to pullover", [76, 152], [30, 80]),
    ]
    assert [(span.title, span.first, span.last) for span in info.spans] == [(TITLES[0], 0, 76), (TITLES[1], 76, 152)]
    assert (info.total_images, info.pictures) == (152, "50")
    assert [line.measured for line in info.lines] == [[(76, 90), (152, 40)], [(152, 80)]]
    figure = drawn(figures.accuracy_curves(info))
    lines = [trace for trace in figure.data if "lines" in trace.mode]
    assert [trace.line.color for trace in lines] == ["#0072B2", "#E69F00"]
    assert len({trace.line.dash for trace in lines}) == 2
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    assert [(trace.x, trace.y) for trace in marks] == [((76, 152), (90, 40)), ((152,), (80,))]
    said = {annotation.text for annotation in figure.layout.annotations}
    assert {
        "learns Digits: 0 to 3",
        "learns Clothes: T-shirt to pullover",
        "Digits: 0 to 3 40 %",
        "Clothes: T-shirt to pullover 80 %",
    } == said
    assert tuple(figure.layout.yaxis.range) == (0, 102)


def test_phases_of_a_stage_are_marked_where_they_begin_and_named_where_there_is_room() -> None:
    parts = (("warm_up", 0), ("train", 400), ("retrain", 990))
    spans = [figures.StageSpan(1, "Digits", 0, 1000, phases=parts), figures.StageSpan(2, "Fans", 1000, 1200)]
    curves = drawn(figures.accuracy_curves(figures.AccuracyCurves([], spans, 1200)))
    dashed = [shape.x0 for shape in curves.layout.shapes if shape.line.dash == "dash"]
    assert dashed == [400, 990]
    named = {note.text: note.x for note in curves.layout.annotations if note.yanchor == "bottom" and note.y < 0.5}
    assert named == {"new head alone": 200, "all that learns": 695}  # what is left, again, has no room


def test_a_phase_begins_at_the_images_seen_by_then() -> None:
    (span, *_) = figures.stage_spans(fold(stories.COMPLETE))
    assert span.phases[0] == ("train", 0)


def test_while_a_stage_is_learnt_its_values_say_how_sure_they_are() -> None:
    told = [*stories.FIRST, *stories.SECOND[:2], stories.live(2, 90, 12, 0.5, 0.3)]
    info = figures.accuracy_curves_info(fold(told))
    assert [line.end[:2] for line in info.lines] == [(50, "≈ 50 %"), (30, "≈ 30 %")]
    figure = drawn(figures.accuracy_curves(info))
    assert "Digits: 0 to 3 ≈ 50 %" in {annotation.text for annotation in figure.layout.annotations}
    digits, fashion = (trace.error_y for trace in figure.data if trace.error_y.array is not None)
    assert digits.array == pytest.approx(digits.arrayminus)  # from 36.6 to 63.4 %, by Wilson
    assert digits.array[0] == pytest.approx(13.4, abs=0.05)
    assert (30 - fashion.arrayminus[0], 30 + fashion.array[0]) == pytest.approx((19.1, 43.8), abs=0.05)
    # The stage's first look has the same place as the end of the stage before, whose figure is surer.
    at_first = figures.accuracy_curves_info(fold([*stories.FIRST, *stories.SECOND[:3]]))
    assert [line.end[1] for line in at_first.lines] == ["90 %", "≈ 30 %"]


def test_all_that_watch_says_of_one_job_is_the_same_figure() -> None:
    """The few pictures that were looked at live say 18 % and 66 %, all test pictures 30 % and 61 %."""
    first = [*stories.FIRST[:-5], stories.live(1, 76, 10, 0.97), *stories.measured(1, "digits:0-3", 76, 10, 0.92)]
    second = [*stories.SECOND[:2], stories.live(2, 152, 20, 0.18, 0.66)]
    told = fold([*first, *second, *stories.measured(2, "fashion:0-2", 152, 20, 0.30, 0.61), stories.END])
    curves, matrix = figures.accuracy_curves_info(told), figures.accuracy_matrix_info(told, TITLES)
    overlay = figures.accuracy_overlay_info(TITLES, {"this run": told})
    assert [line.end[0] for line in curves.lines] == matrix.percent[-1] == [30, 61]
    assert [line.end[1] for line in curves.lines] == ["30 %", "61 %"]
    assert [line.end for line in overlay.lines] == [(30, "30"), (61, "61")]
    assert [[value for _, value in line.measured] for line in curves.lines] == [[92, 30], [61]]
    assert matrix.text[-1] == ["30 %<br>was 92 %", "61 %"]
    said = figures.summary(told)
    assert re.findall(r"\d+ %", said) == ["92 %", "30 %", "25 %"], said  # the last is what guessing gets
    on_the_charts = str(drawn(figures.accuracy_curves(curves)).layout.annotations)
    assert "18 %" not in on_the_charts
    assert "66 %" not in on_the_charts


def test_wilsons_interval_is_that_of_the_quadratic_equation() -> None:
    for share, count in ((0.0, 8), (0.3, 50), (1.0, 200)):
        for end in measures.wilson(share, count):
            assert abs(end - share) == pytest.approx(1.96 * (end * (1 - end) / count) ** 0.5, abs=1e-12)


def test_a_run_that_has_not_begun_draws_empty_axes() -> None:
    nothing = fold([])
    assert figures.accuracy_curves_info(nothing) == figures.AccuracyCurves([], [], 0)
    assert len(drawn(figures.accuracy_curves(figures.accuracy_curves_info(nothing))).data) == 0
    assert figures.loss_terms_info(nothing) == figures.LossTerms([], {}, [], 0)
    assert len(drawn(figures.loss_terms(figures.loss_terms_info(nothing))).data) == 0
    info = figures.accuracy_matrix_info(nothing, TITLES)
    assert info.percent == [[None, None], [None, None]]
    assert len(drawn(figures.accuracy_matrix(info)).data[0].x) == 2


def test_the_matrix_fills_in_and_says_what_was() -> None:
    half = figures.accuracy_matrix_info(fold(stories.FIRST), TITLES)
    assert half.percent == [[90, None], [None, None]]
    assert len(drawn(figures.accuracy_matrix(half)).layout.shapes) == 2  # the places still to be filled
    info = figures.accuracy_matrix_info(fold(stories.COMPLETE), TITLES)
    assert info.percent == [[90, None], [40, 80]]
    assert info.text == [["90 %", ""], ["40 %<br>was 90 %", "80 %"]]
    heat = drawn(figures.accuracy_matrix(info)).data[0]
    assert (heat.zmin, heat.zmax) == (0, 100)


def test_loss_terms_that_a_stage_lacks_are_nought_there() -> None:
    told = fold([*stories.FIRST, *stories.SECOND[:2], stories.logged(2, 90, 12, new_task=1.0, old_tasks=0.5)])
    info = figures.loss_terms_info(told)
    assert info.terms == {"new task": [1.5, 0.5, 1.0], "old tasks": [0, 0, 0.5]}
    assert info.images_seen == [40, 76, 90]
    assert [(span.title, span.first) for span in info.spans] == [(TITLES[0], 0), (TITLES[1], 76)]
    figure = drawn(figures.loss_terms(info))
    assert [trace.stackgroup for trace in figure.data] == ["terms", "terms"]
    assert [name.text for name in figure.layout.annotations] == [
        "learns Digits: 0 to 3",
        "learns Clothes: T-shirt to pullover",
    ]


def test_labels_do_not_overlap() -> None:
    for heights in ([50.0, 51.0, 49.0], [100.0, 99.0, 98.0], [0.0, 0.0], [1.0, 0.0, 2.0], [20.0, 80.0]):
        placed = figures.apart(heights, 7)
        ordered = sorted(placed)
        assert all(b - a >= 6.99 for a, b in pairwise(ordered))
        assert min(placed) >= 0 and max(placed) <= 100
    assert figures.apart([20.0, 80.0], 7) == [20.0, 80.0]
    assert figures.apart([50.0, 50.0, 90.0], 8) == [46.0, 54.0, 90.0]  # as far up as down
    assert figures.apart([52.0, 41.0, 50.0], 9) == pytest.approx([170 / 3, 116 / 3, 143 / 3])


def test_the_summary_is_made_of_the_figures() -> None:
    said = figures.summary(fold(stories.COMPLETE))
    assert "90 %" in said
    assert "40 %" in said
    assert "180 of 200 test pictures" in said and "80 of 200 test pictures" in said
    assert "It forgot most of it." in said  # (0.9 − 0.4) of (0.9 − 0.25)
    assert "before it had learnt" in figures.summary(fold([]))
    assert "90 %" in figures.summary(fold(stories.FIRST))


def test_the_summary_speaks_of_the_job_that_was_forgotten_most() -> None:
    told = fold(stories.COMPLETE)
    third = told.started.tasks[0].model_copy(update={"title": "Third"}) if told.started else None
    assert told.started is not None and third is not None
    told.started = told.started.model_copy(update={"tasks": (*told.started.tasks, third)})
    last = told.stages[-1]
    assert last.test is not None
    accuracy = last.test.model_copy(update={"stage": 3, "accuracy": (0.85, 0.35, 0.9), "images": (200, 300, 200)})
    told.stages.append(dataclasses.replace(last, test=accuracy))
    said = figures.summary(told)
    assert said.startswith(
        "When it had just learnt Clothes: T-shirt to pullover, it got 240 of 300 test pictures right (80 %). Now"
    )
    assert "learnt Third as well, it gets 105 of 300 test pictures right (35 %). It forgot nearly all" in said


def test_runs_laid_over_each_other_are_aligned_by_stage() -> None:
    both = {"this run": fold(stories.COMPLETE), "half": fold(stories.FIRST)}
    info = figures.accuracy_overlay_info(["Digits", "Clothes"], both)
    found = [(line.position, line.run, line.stages, [round(p) for p in line.percent]) for line in info.lines]
    half_way = 40 / 76
    assert found == [
        (1, 0, [0, half_way, 1, 1, 2], [25, 75, 90, 90, 40]),
        (1, 1, [0, half_way, 1], [25, 75, 90]),
        (2, 0, [1, 2], [30, 80]),
    ]
    assert [line.end[1] for line in info.lines] == ["40", "90", "80"]
    laid_over = drawn(figures.accuracy_overlay(info))
    assert [trace.xaxis for trace in laid_over.data] == ["x", "x", "x2"]
    assert [trace.name[0] for trace in laid_over.data] == ["AB"[line.run] for line in info.lines]
    blue, orange = "<span style='color:#0072B2'>", "<span style='color:#E69F00'>"
    assert list(laid_over.layout.xaxis.ticktext) == [f"{blue}Digits</span>", f"{orange}Clothes</span>"]
    assert list(laid_over.layout.xaxis2.ticktext) == [f"{orange}Clothes</span>"]
    long = drawn(figures.accuracy_overlay(figures.accuracy_overlay_info([*TITLES, "Hot dogs"], both)))
    assert list(long.layout.xaxis2.ticktext) == [f"{orange}2</span>", "<span style='color:#009E73'>3</span>"]
    assert "<b>2. Clothes: T-shirt to pullover</b>" in [name.text for name in long.layout.annotations]


def test_what_is_kept_is_told_by_purpose_in_plain_words() -> None:
    told = FootprintMeasured(
        stage=1, kept={"fisher": 30, "trunk": 60, "owners": 0, "odd": 10}, working={"recorded outputs": 5, "scores": 0}
    )
    print_ = figures.footprint_info(fold([*stories.FIRST[:-1], told]))
    assert [(part.purpose, part.count, part.share) for part in print_.kept] == [
        ("weights", 60, 0.6),
        ("importance (Fisher)", 30, 0.3),
        ("odd", 10, 0.1),
    ]
    assert [(part.purpose, part.count) for part in print_.working] == [("recorded outputs", 5)]
    assert figures.footprint_info(fold(stories.FIRST[:3])) == figures.Footprint([], [])
