"""The strip of answers on pictures: which jobs, what it says of them in a sentence, and the pictures beside it."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labcore.configs.looking import SHOWN_PICTURES
from labcore.drawings import confusion, strip
from labcore.runs import answers
from labcore.runs.answers import JobAnswers
from labcore.runs.events import Answered
from labcore.runs.packed_answers import pack
from labcore.runs.results import fold
from labcore.runs.store import Store
from labcore.tasks import pictures
from labcore.training import worker
from pages.parts import strips
from tests import stories
from tests.conftest import tiny

LABELS = (0, 1, 2, 0)


def look(images: int, *said: int, stage: int = 1) -> Answered:
    """What was said of the first pictures of a job of three classes."""
    shares = [[0.8 if label == answer else 0.1 for label in range(3)] for answer in said]
    probabilities, classes = pack(shares, said)
    return Answered(stage=stage, task=1, images_seen=images, step=images, probabilities=probabilities, classes=classes)


def row(*looks: Answered, learnt: int | None = None, position: int = 1) -> strip.Row:
    told = JobAnswers(("a", "b", "c"), (0, 1, 2, 3), LABELS, looks, None if learnt is None else looks[learnt])
    return strip.Row("a-run", position, "Shapes", "#000", told)


def test_the_look_that_a_job_was_learnt_with_is_sent_however_many_others_are_dropped() -> None:
    looks = [look(number, 1, 1, 1, 1, stage=1 + number // 50) for number in range(200)]
    looks[49] = look(49, 0, 1, 2, 0)
    sent = row(*looks, learnt=49).document("", most=8)
    assert sent["looks"][sent["learnt"]]["seen"] == 49
    assert [sent["looks"][0]["seen"], sent["looks"][-1]["seen"]] == [0, 199]
    assert len(sent["looks"]) <= 9
    assert [one["at"] for one in sent["looks"]] == sorted(one["at"] for one in sent["looks"])
    # A long run has dropped it from its looks.
    told = JobAnswers(("a", "b", "c"), (0, 1, 2, 3), LABELS, (*looks[:49], *looks[50:]), looks[49])
    sent = strip.Row("a-run", 1, "Shapes", "#000", told).document("")
    assert sent["looks"][sent["learnt"]]["seen"] == 49


def test_two_jobs_with_equally_many_looks_are_two_versions() -> None:
    looks = look(0, 1, 1, 1, 1), look(10, 0, 1, 2, 1)
    one, other = row(*looks, learnt=1), row(*looks, learnt=1, position=2)
    assert one.version != other.version
    assert one.version != replace(one, title="Another").version
    assert one.version != row(*looks).version
    assert one.version == row(*looks, learnt=1).version


def test_the_sentence_counts_the_pictures_that_are_seen() -> None:
    first, good, worse = look(0, 1, 1, 1, 1), look(10, 0, 1, 2, 0), look(20, 1, 1, 2, 1, stage=2)
    later = strip.Row("a-run", 2, "Letters", "#000", None)
    assert strip.sentence([later]) == "Its first answers come with its first look at the pictures."
    assert strip.sentence([row(first), later]) == "It has learnt nothing yet: its answers on Shapes are guesses."
    assert strip.sentence([row(first, good), later]) == "Of these 4 pictures of Shapes it gets 4 right so far."
    kept = strip.sentence([row(first, good, learnt=1), later])
    assert kept == "Nothing is forgotten so far: of these 4 pictures of Shapes it gets 4 right."
    lost = row(first, good, worse, learnt=1)
    told = "Of these 4 pictures of Shapes it gets 2 right; when it had just learnt them it got 4."
    assert strip.sentence([lost, later]) == told
    assert strip.sentence([replace(row(first, good, learnt=1), title="Kept"), lost]) == told  # of which most was lost


def test_what_the_browser_is_given_is_what_was_said() -> None:
    looks = look(0, 1, 1, 1, 1), look(10, 0, 1, 2, 1)
    told = row(*looks, learnt=1, position=2).document("pictures?run=x")
    assert (told["key"], told["learnt"], told["wide"], told["labels"]) == ("a-run-2", 1, 3, LABELS)
    assert [(one["seen"], one["shares"]) for one in told["looks"]] == [
        (event.images_seen, event.probabilities) for event in looks
    ]
    later = strip.Row("a-run", 3, "Letters", "#000", None).document("")
    assert (later["looks"], later["labels"], later["note"]) == ([], (), "It is learnt later.")


def test_several_runs_stand_below_each_other_on_the_pictures_of_one_job() -> None:
    config = tiny()
    folds = {name: (f"run-{name}", fold([stories.opened()])) for name in ("EWC", "LwF")}
    found = strip.beside(folds, 2)
    assert [(one.run, one.position, one.title, one.told) for one in found] == [
        ("run-EWC", 2, "EWC", None), ("run-LwF", 2, "LwF", None),
    ]  # fmt: skip
    assert strip.beside(folds, len(config.tasks) + 1) == []


@pytest.fixture
def trained(store: Store) -> str:
    return worker.run_claim(store.claim_run(store.submit(tiny()).run), "cpu").run


def test_every_job_of_a_run_has_its_row_and_its_pictures(store: Store, trained: str) -> None:
    found = store.fold(trained)
    rows = strip.rows(trained, found, [job.title for job in found.tasks])
    assert [one.title for one in rows] == [job.title for job in found.tasks]
    assert all(one.told is not None and one.told.at_end is not None and not one.note for one in rows)
    assert strip.sentence(rows).startswith(("Of these", "Nothing is forgotten"))
    config = store.config(trained)
    for number, one in enumerate(rows, 1):
        side = strips.side_by_side(store, trained, number)
        assert side is not None and one.told is not None
        image = Image.open(io.BytesIO(side[0]))
        size, count = config.backbone.image_size, len(one.told.pictures)
        assert image.size == (size * count, size)
        data = pictures.load(config.tasks[number - 1].name, size, cache=store.cache).validation
        assert [int(data.labels[place]) for place in one.told.pictures] == list(one.told.labels)
        if side[1] == "png":  # which loses nothing
            last = np.asarray(image)[:, size * (count - 1) :]
            assert np.array_equal(last, data.images[one.told.pictures[-1]][..., 0])
    for nothing in (0, len(rows) + 1):
        assert strips.side_by_side(store, trained, nothing) is None
    for no_pictures in ([10**9], [-1], list(range(SHOWN_PICTURES + 1))):
        assert strips.side_by_side(store, trained, 1, no_pictures) is None


def test_mistakes_are_counted_from_all_test_pictures_and_shown(store: Store, trained: str) -> None:
    found, config = store.fold(trained), store.config(trained)
    labels = pictures.load(config.tasks[0].name, config.backbone.image_size, cache=store.cache).test.labels.tolist()
    classes = found.tasks[0].classes
    learnt, now = (answers.confusion(found, 1, when, labels) for when in ("learnt", "now"))
    assert learnt is not None and now is not None
    told = confusion.mistakes(classes, learnt, now)
    said = answers.predicted(found, 1, len(found.stages))
    assert said is not None
    wrong = [place for place, (label, answer) in enumerate(zip(labels, said, strict=True)) if label != answer]
    assert sum(mistake.now for mistake in told) == len(wrong) > 0
    assert [mistake.now for mistake in told] == sorted((mistake.now for mistake in told), reverse=True)
    first = told[0]
    assert first.pictures and set(first.pictures) <= set(wrong)
    assert {(classes[labels[place]], classes[said[place]]) for place in first.pictures} == {
        (first.shows, first.taken_for)
    }
    chart = confusion.matrices(classes, learnt, now)
    assert [len(trace["z"]) for trace in chart.traces] == [len(classes)] * 2
    sums = [sum(sum(row) for row in one.counts) for one in (learnt, now)]
    assert sums == [len(labels)] * 2
    side = strips.side_by_side(store, trained, 1, first.pictures)
    assert side is not None
    assert Image.open(io.BytesIO(side[0])).width == config.backbone.image_size * len(first.pictures)


def test_a_run_of_before_says_that_it_kept_no_answers(store: Store, trained: str) -> None:
    kinds = ("pictures_chosen", "answered", "predicted")
    before = fold(event for event in store.tail(trained)[0] if event.event not in kinds)
    rows = strip.rows(trained, before, [job.title for job in before.tasks])
    assert all(one.told is None and "Train it again" in one.note for one in rows)
    assert strip.sentence(rows) == ""


def test_pictures_that_are_not_on_this_machine_are_none(store: Store, trained: str, tmp_path: Path) -> None:
    def gone(*_: object, **__: object) -> None:
        raise pictures.TaskError("digits is not downloaded")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "load", gone)
        assert strips.side_by_side(store, trained, 1) is None
