from itertools import pairwise

import pytest

from labcore.drawings import figures
from labcore.runs.events import FootprintMeasured
from labcore.runs.results import fold
from tests import stories
from tests.drawn import drawn

TITLES = ["Digits 0 to 3", "Fashion 0 to 2"]


def test_accuracy_curves_are_the_live_points_of_each_task() -> None:
    info = figures.accuracy_curves_info(fold(stories.COMPLETE))
    assert [(line.position, line.title, line.images_seen, line.percent) for line in info.lines] == [
        (1, "Digits 0 to 3", [0, 40, 76, 76, 152], [25, 75, 90, 90, 40]),
        (2, "Fashion 0 to 2", [76, 152], [30, 80]),
    ]
    assert [(span.title, span.first, span.last) for span in info.spans] == [(TITLES[0], 0, 76), (TITLES[1], 76, 152)]
    assert (info.total_images, info.pictures) == (152, "50")
    figure = drawn(figures.accuracy_curves(info))
    assert [trace.line.color for trace in figure.data] == ["#0072B2", "#E69F00"]
    assert len({trace.line.dash for trace in figure.data}) == 2
    said = {annotation.text for annotation in figure.layout.annotations}
    assert {"learns Digits 0 to 3", "learns Fashion 0 to 2", "Digits 0 to 3 40 %", "Fashion 0 to 2 80 %"} == said
    assert tuple(figure.layout.yaxis.range) == (0, 102)


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
    assert [name.text for name in figure.layout.annotations] == ["learns Digits 0 to 3", "learns Fashion 0 to 2"]


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
    assert "200 pictures" in said
    assert "77 %" in said  # (0.9 − 0.4) of (0.9 − 0.25)
    assert "before it had learnt" in figures.summary(fold([]))
    assert "90 %" in figures.summary(fold(stories.FIRST))


def test_runs_laid_over_each_other_are_aligned_by_stage() -> None:
    both = {"this run": fold(stories.COMPLETE), "half": fold(stories.FIRST)}
    info = figures.accuracy_overlay_info(["Digits", "Fashion"], both)
    found = [(line.position, line.run, line.stages, [round(p) for p in line.percent]) for line in info.lines]
    half_way = 40 / 76
    assert found == [
        (1, 0, [0, half_way, 1, 1, 2], [25, 75, 90, 90, 40]),
        (1, 1, [0, half_way, 1], [25, 75, 90]),
        (2, 0, [1, 2], [30, 80]),
    ]
    laid_over = drawn(figures.accuracy_overlay(info))
    assert [trace.xaxis for trace in laid_over.data] == ["x", "x", "x2"]
    assert [trace.name[0] for trace in laid_over.data] == ["AB"[line.run] for line in info.lines]
    blue, orange = "<span style='color:#0072B2'>", "<span style='color:#E69F00'>"
    assert list(laid_over.layout.xaxis.ticktext) == [f"{blue}Digits</span>", f"{orange}Fashion</span>"]
    assert list(laid_over.layout.xaxis2.ticktext) == [f"{orange}Fashion</span>"]
    long = drawn(figures.accuracy_overlay(figures.accuracy_overlay_info([*TITLES, "Hot dogs"], both)))
    assert list(long.layout.xaxis2.ticktext) == [f"{orange}2</span>", "<span style='color:#009E73'>3</span>"]
    assert "<b>2. Fashion 0 to 2</b>" in [name.text for name in long.layout.annotations]


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
