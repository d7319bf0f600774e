"""The network's answers to single pictures: how they are packed, what a fold keeps of them, and what it refuses."""

import base64
import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from labcore.configs.looking import MOST_POINTS, SHOWN_JOBS, SHOWN_PICTURES
from labcore.configs.presets import preset
from labcore.configs.registry import METHODS
from labcore.runs import answers, packed_answers
from labcore.runs.events import (
    LONGEST_PACKED,
    Answered,
    Event,
    PicturesChosen,
    Predicted,
    StageEnded,
    StageStarted,
    TaskFacts,
    from_line,
    to_line,
)
from labcore.runs.results import Fold, fold
from labcore.runs.store import Store
from labcore.tasks import catalogue
from labcore.training import loop, worker
from tests import stories
from tests.conftest import Killed, tiny


def job(classes: int, validation: int = 30, test: int = 6) -> TaskFacts:
    return TaskFacts(
        name="digits", title="A job", classes=tuple(f"class {number}" for number in range(classes)), train_images=1,
        validation_images=validation, test_images=test,
    )  # fmt: skip


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


# ---- packing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 10, 11, 256, 257, 9999])
def test_answers_come_out_as_they_went_in(classes: int) -> None:
    draws = np.random.default_rng(classes)
    shares = torch.tensor(draws.normal(size=(SHOWN_PICTURES, classes)) * 3).softmax(1)
    said = shares.argmax(1).tolist()
    probabilities, names = packed_answers.pack(shares.tolist(), said)
    event = Answered(stage=1, task=1, images_seen=0, probabilities=probabilities, classes=names)
    assert packed_answers.answered_fit(event, job(classes), SHOWN_PICTURES)
    assert not packed_answers.answered_fit(event, job(classes), SHOWN_PICTURES - 1)
    found = packed_answers.unpack(event, classes)
    assert [guesses[0].label for guesses in found] == said
    best = shares.sort(1, descending=True).values
    for guesses, row, falling in zip(found, shares.tolist(), best.tolist(), strict=True):
        assert len(guesses) == (classes if classes <= packed_answers.ALL_CLASSES else packed_answers.BEST)
        assert all(one.probability >= other.probability for one, other in pairwise(guesses))
        assert all(abs(guess.probability - row[guess.label]) <= 1.5 / 255 for guess in guesses)
        assert all(abs(g.probability - exact) <= 1.5 / 255 for g, exact in zip(guesses, falling, strict=False))
    labels = draws.integers(classes, size=50).tolist()
    assert packed_answers.unpack_classes(packed_answers.pack_classes(labels, classes), classes) == tuple(labels)


@pytest.mark.parametrize("classes", [4, 40])
def test_the_answer_is_told_also_where_rounding_makes_classes_equal(classes: int) -> None:
    equal = [1 / classes] * classes
    nothing = [0.0] * classes  # as of a network whose numbers are none any more
    packed = packed_answers.pack([equal, equal, nothing], [2, classes - 1, 0])
    event = Answered(stage=1, task=1, images_seen=0, probabilities=packed[0], classes=packed[1])
    assert [guesses[0].label for guesses in packed_answers.unpack(event, classes)] == [2, classes - 1, 0]


def test_what_is_too_long_for_an_event_is_known_before() -> None:
    for classes, most in ((10, 48_000), (1000, 24_000)):
        assert packed_answers.can_hold(most, classes)
        assert not packed_answers.can_hold(most + 1, classes)
        whole = packed_answers.pack_classes([0] * most, classes)
        assert len(whole) == LONGEST_PACKED
        line = to_line(Predicted(run="r" * 64, seq=2**40, step=2**40, stage=254, task=32, classes=whole))
        assert len(line) < 64 << 10
        with pytest.raises(ValidationError):
            Predicted(stage=1, task=1, classes=whole + "AAAA")


@pytest.mark.parametrize("method", METHODS)
def test_a_story_tells_answers_in_less_than_200_kilobytes(method: str) -> None:
    """Counted as if every look asked about all pictures of all jobs."""
    config = preset("story", method)
    told = 0
    for stage in range(1, len(config.tasks) + 1):
        phases = 3  # PackNet's: a head warms up, the trunk trains, what is kept trains again
        for name in config.task_names[:stage]:
            classes = len(catalogue.describe(name).classes)
            packed, _ = packed_answers.pack([[1.0] + [0.0] * (classes - 1)] * SHOWN_PICTURES, [0] * SHOWN_PICTURES)
            look = Answered(
                run="20261128-104541-0123456789-abcd", seq=10_000, step=10_000, stage=stage, task=stage,
                images_seen=100_000, probabilities=packed,
            )  # fmt: skip
            pictures = catalogue.counts(name)[2]
            end = look.model_dump(exclude={"images_seen", "probabilities", "event"})
            end["classes"] = packed_answers.pack_classes([0] * pictures, classes)
            told += len(to_line(look)) * (phases * MOST_POINTS + 1) + len(to_line(Predicted(**end)))
    assert 20_000 < told < 200_000


# ---- folding ---------------------------------------------------------------------------------------------------------

# Of the job of `stories`: "Digits: 0 to 3" with 76 validation and 200 test pictures.
CHOSEN = PicturesChosen(stage=1, pictures=(0, 1, 2), labels=(0, 1, 2), step=0)


def said(stage: int, step: int, *classes: int, task: int = 1) -> Answered:
    """The network takes the first pictures for these classes of four."""
    rows = [[0.7 if label == answer else 0.1 for label in range(4)] for answer in classes]
    packed, _ = packed_answers.pack(rows, classes)
    return Answered(stage=stage, task=task, images_seen=4 * step, step=step, probabilities=packed)


def taken(stage: int, step: int, *classes: int) -> Predicted:
    return Predicted(stage=stage, task=1, step=step, classes=packed_answers.pack_classes(classes, 4))


LABELS = [0, 1, 2, 3] * 50
AT_FIRST = [*LABELS[:180], *[0] * 20]  # 185 of 200 are right: 92.5 %
LATER = [*LABELS[:80], *[1] * 120]


def whole_story() -> list[Event]:
    """The story of `stories`, with answers to its first job."""
    started, phase = stories.stage(1, "digits:0-3", 0, 0)
    return [
        stories.opened(), started, CHOSEN, phase,
        stories.live(1, 0, 0, 0.25), said(1, 0, 3, 3),
        stories.live(1, 40, 5, 0.75), said(1, 5, 0, 1),
        stories.live(1, 76, 10, 0.9), said(1, 10, 0, 1, 2), taken(1, 10, *AT_FIRST),
        *stories.measured(1, "digits:0-3", 76, 10, 0.925),
        *stories.stage(2, "fashion:0-2", 76, 10),
        stories.live(2, 76, 10, 0.9, 0.3), said(2, 10, 0, 1),
        stories.live(2, 152, 20, 0.4, 0.8), said(2, 20, 3, 0), taken(2, 20, *LATER),
        *stories.measured(2, "fashion:0-2", 152, 20, (80 + 30) / 200, 0.8),
        stories.END,
    ]  # fmt: skip


def labels_of(found: tuple[answers.Said, ...] | None) -> list[int | None] | None:
    return None if found is None else [guesses[0].label if guesses else None for guesses in found]


def test_a_fold_tells_what_was_said_at_first_when_learnt_and_now() -> None:
    folded = fold(whole_story())
    assert folded.damaged == 0
    job = answers.of_job(folded, 1)
    assert job is not None
    assert (job.pictures, job.labels, job.classes) == ((0, 1, 2), (0, 1, 2), ("0", "1", "2", "3"))
    assert labels_of(job.untrained) == [3, 3, None]
    assert labels_of(job.learnt) == [0, 1, 2]
    assert labels_of(job.now) == [3, 0, 2], "of a picture that a look left out, the last that was said"
    assert labels_of(job.at(3)) == [0, 1, 2]
    assert [(images, found[0].label) for images, found in job.over_time(0)] == [
        (0, 3),
        (20, 0),
        (40, 0),
        (40, 0),
        (80, 3),
    ]
    assert [images for images, _ in job.over_time(2)] == [40]
    assert sum(guess.probability for guess in job.over_time(0)[0][1]) == pytest.approx(1, abs=0.02)
    assert folded.answers_missing == (2,), "nothing was told of the second job, as if another version had learnt it"
    assert answers.of_job(folded, 2) is answers.of_job(folded, 3) is None


def test_before_a_job_is_learnt_nothing_is_told_of_then() -> None:
    folded = fold(whole_story()[:6])
    job = answers.of_job(folded, 1)
    assert job is not None and job.learnt is None
    assert labels_of(job.now) == labels_of(job.untrained) == [3, 3, None]
    begun = answers.of_job(fold(whole_story()[:4]), 1)
    assert begun is not None and begun.untrained is begun.now is None
    assert fold(whole_story()[:2]).answers_missing == (), "it may still come"


def test_what_is_confused_with_what() -> None:
    folded = fold(whole_story())
    then, now = (answers.confusion(folded, 1, when, LABELS) for when in ("learnt", "now"))  # type: ignore[arg-type]
    assert then is not None and now is not None
    assert then.counts == ((50, 0, 0, 0), (5, 45, 0, 0), (5, 0, 45, 0), (5, 0, 0, 45))
    assert then.pictures[2] == ((182, 186, 190), (), (2, 6, 10), ())
    assert now.counts == ((20, 30, 0, 0), (0, 50, 0, 0), (0, 30, 20, 0), (0, 30, 0, 20))
    assert answers.predicted(folded, 1, 1) == tuple(AT_FIRST)
    assert answers.predicted(folded, 2, 2) is answers.predicted(folded, 1, 3) is None


@pytest.mark.parametrize("labels", [[], LABELS[:-1], [*LABELS[1:], 0], [*LABELS[:-1], 9], [*LABELS, 0]], ids=len)
def test_labels_that_are_not_those_of_the_run_are_noticed(labels: list[int]) -> None:
    assert answers.confusion(fold(whole_story()), 1, "now", labels) is None


def test_a_fold_with_answers_is_kept_as_json() -> None:
    adapter = TypeAdapter(Fold)
    story = whole_story()
    folded = fold(story)
    assert adapter.validate_json(adapter.dump_json(folded)) == folded
    assert fold(from_line(to_line(event)) for event in story) == folded


@pytest.mark.parametrize(("step", "goes_on"), [(0, 1), (5, 6), (10, 15)])
def test_an_attempt_takes_back_the_answers_past_the_step_that_it_goes_on_from(step: int, goes_on: int) -> None:
    """Wherever the first attempt broke off after the checkpoint from which the second goes on."""
    story = whole_story()
    assert story[goes_on].step == step
    whole = fold(story)
    for until in range(goes_on, len(story)):
        resumed = fold([*story[:until], stories.opened(resumed=step), *story[goes_on:]])
        assert resumed.damaged == 0
        for one, other in zip(whole.stages, resumed.stages, strict=True):
            assert (one.pictures, one.answers, one.learnt) == (other.pictures, other.answers, other.learnt)
            assert one.predicted == other.predicted


def test_a_stage_that_is_taken_back_is_not_learnt_any_more() -> None:
    until_learnt = whole_story()[: whole_story().index(stories.stage(2, "fashion:0-2", 76, 10)[0])]
    assert fold(until_learnt).stages[0].learnt is not None
    folded = fold([*until_learnt, stories.opened(resumed=5)])
    (stage,) = folded.stages
    assert (stage.learnt, stage.predicted) == (None, {})
    assert [event.step for event in stage.answers] == [0, 5]


def test_jobs_of_another_size_take_the_answers_back() -> None:
    other = stories.FACTS[0].model_copy(update={"classes": ("0", "1")}), stories.FACTS[1]
    again = stories.opened(resumed=20).model_copy(update={"tasks": other})
    folded = fold([*whole_story(), again])
    assert answers.of_job(folded, 1) is None
    assert answers.confusion(folded, 1, "now", LABELS) is None


WRONG = {
    "more pictures than the job has": PicturesChosen(stage=1, pictures=(0, 76), labels=(0, 1)),
    "a picture twice": PicturesChosen(stage=1, pictures=(0, 0), labels=(0, 1)),
    "a class that is not there": PicturesChosen(stage=1, pictures=(0, 1), labels=(0, 4)),
    "fewer labels": PicturesChosen(stage=1, pictures=(0, 1), labels=(0,)),
    "a job that is not there": said(1, 5, 0, task=3),
    "a stage that was not begun": said(2, 5, 0),
    "answers to no picture": said(1, 5, 0).model_copy(update={"probabilities": ""}),
    "answers to more pictures": said(1, 5, 0, 0, 0, 0),
    "half an answer": said(1, 5, 0).model_copy(update={"probabilities": text(b"123")}),
    "no base64": said(1, 5, 0).model_copy(update={"probabilities": "<b>no</b>"}),
    "classes where all are told": said(1, 5, 0).model_copy(update={"classes": text(b"0123")}),
    "test pictures left out": taken(1, 10, *AT_FIRST[:-1]),
    "more test pictures": taken(1, 10, *AT_FIRST, 0),
    "a test picture of a class that is not there": taken(1, 10, *AT_FIRST[:-1], 4),
    "test pictures of a job that is not there": taken(1, 10).model_copy(update={"task": 3}),
}


@pytest.mark.parametrize("event", WRONG.values(), ids=WRONG)
def test_answers_that_do_not_fit_are_damage_and_change_nothing(event: Event) -> None:
    begun = whole_story()[:6]
    before, after = fold(begun), fold([*begun, event])
    assert after.damaged == 1
    assert before.stages == after.stages


@pytest.mark.parametrize(
    ("classes", "probabilities", "names", "fits"),
    [
        (12, bytes(9), bytes([0, 1, 2, 3, 4, 5, 6, 7, 11]), True),
        (12, bytes(9), bytes([0, 1, 2, 3, 4, 5, 6, 7, 12]), False),
        (12, bytes(9), bytes(8), False),
        (12, bytes(9), b"", False),
        (12, bytes(8), bytes(8), False),
        (300, bytes(3), b"\x00\x00\x01\x00\x2b\x01", True),
        (300, bytes(3), b"\x00\x00\x01\x00\x2c\x01", False),
        (300, bytes(3), b"\x00\x00\x01\x00\x2b", False),
    ],
)
def test_answers_by_the_best_classes_alone_are_held_against_the_job(
    classes: int, probabilities: bytes, names: bytes, fits: bool
) -> None:
    event = Answered(stage=1, task=1, images_seen=0, probabilities=text(probabilities), classes=text(names))
    assert packed_answers.answered_fit(event, job(classes), SHOWN_PICTURES) is fits


def test_answers_of_a_run_whose_first_event_is_damaged_are_passed_over() -> None:
    folded = fold(whole_story()[1:])
    assert folded.damaged == 0
    assert folded.answers_missing == (1, 2)
    assert answers.of_job(folded, 1) is None


# ---- runs ------------------------------------------------------------------------------------------------------------


def trained(**changes: Any) -> list[Event]:
    return list(loop.train(tiny(**changes)))


@pytest.mark.usefixtures("few_answers")
def test_pictures_are_balanced_and_answers_begin_before_the_first_step() -> None:
    events = trained(training__head_warmup_epochs=1)
    folded = fold(events)
    assert folded.damaged == 0 and folded.answers_missing == ()
    for number, classes in ((1, 4), (2, 3)):
        found = answers.of_job(folded, number)
        assert found is not None
        assert found.pictures == tuple(range(SHOWN_PICTURES))
        counts = [found.labels.count(label) for label in range(classes)]
        assert sum(counts) == SHOWN_PICTURES and max(counts) - min(counts) <= 1
        assert found.looks[0].step == folded.stages[number - 1].step, "before the first step"
        assert found.learnt is not None and () not in found.learnt
    kinds = [event.event for event in events]
    assert kinds[1:3] == ["stage_started", "pictures_chosen"]
    assert kinds.index("answered") < kinds.index("step_logged")


@pytest.mark.usefixtures("few_answers")
def test_answers_that_stand_are_not_told_again() -> None:
    warm = {"training__head_warmup_epochs": 1}
    for method, told in (("fine_tuning", True), ("separate_copies", False)):
        events = list(loop.train(tiny(method, **warm)))
        second = events.index(next(e for e in events if isinstance(e, StageStarted) and e.stage == 2))
        train = events.index(next(e for e in events[second:] if e.event == "phase_started" and e.phase == "train"))
        old = [event for event in events[second:] if isinstance(event, Answered) and event.task == 1]
        assert bool(old) is told
        assert not [event for event in events[second:train] if isinstance(event, Answered) and event.task == 1]
        assert {event.task for event in events[second:] if isinstance(event, Predicted)} == {1, 2}


@pytest.mark.usefixtures("few_answers")
def test_of_many_classes_the_three_best_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def said_at_the_end() -> list[list[answers.Said]]:
        folded = fold(trained())
        assert folded.damaged == 0
        return [list(found.now or ()) for number in (1, 2) if (found := answers.of_job(folded, number)) is not None]

    every = said_at_the_end()
    monkeypatch.setattr(packed_answers, "ALL_CLASSES", 2)
    assert said_at_the_end() == [[guesses[:3] for guesses in said] for said in every]


@pytest.mark.usefixtures("few_answers")
def test_jobs_beyond_those_that_are_shown_are_not_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SHOWN_JOBS > 10
    for module in ("labcore.training.telling", "labcore.runs.results"):
        monkeypatch.setattr(f"{module}.SHOWN_JOBS", 1)
    events = trained()
    told = [event for event in events if isinstance(event, PicturesChosen | Answered | Predicted)]
    assert {event.stage if isinstance(event, PicturesChosen) else event.task for event in told} == {1}
    assert fold(events).answers_missing == ()


def learn(store: Store, tasks: int) -> str:
    config = tiny()
    run = store.submit(config.model_copy(update={"tasks": config.tasks[:tasks]})).run
    assert worker.run_claim(store.claim_run(run), "cpu", maps="none").state == "complete"
    return run


def without_answers(store: Store) -> None:
    """Let the stored stages be those of a version of before there were answers."""
    for entry in (store.cache / "stages").glob("*/events.jsonl"):
        told = entry.read_bytes().splitlines(keepends=True)
        old = b"".join(
            line for line in told if json.loads(line)["event"] not in ("pictures_chosen", "answered", "predicted")
        )
        assert len(old) < entry.stat().st_size
        entry.write_bytes(old)
        record = json.loads((entry.parent / "stage.json").read_bytes())
        record["events"] = hashlib.blake2b(old).hexdigest()
        (entry.parent / "stage.json").write_text(json.dumps(record))


@pytest.mark.usefixtures("few_answers")
def test_a_stage_that_was_stored_without_answers_is_told_without(store: Store) -> None:
    store.delete(learn(store, 1))
    without_answers(store)
    run = learn(store, 2)
    folded = store.fold(run)
    assert [stage.reused for stage in store.result(run).stages] == [True, False]
    assert folded.damaged == 0
    assert folded.answers_missing == (1,)
    assert answers.of_job(folded, 1) is None
    later = answers.of_job(folded, 2)
    assert later is not None and later.learnt is not None
    assert sorted(folded.stages[1].predicted) == [1, 2], "of test pictures it is known from now on"
    assert store.check() == []


@pytest.mark.usefixtures("few_answers")
def test_a_run_that_goes_on_from_before_there_were_answers_tells_of_later_jobs(tmp_path: Path) -> None:
    """Its first stage, and the beginning of its second, are as a version of before told them."""
    places: dict[str, Any] = {"checkpoint": tmp_path / "checkpoint", "stages": lambda k: tmp_path / str(k)}
    old = []
    for event in loop.train(tiny(), checkpoint_seconds=0, **places):
        if not isinstance(event, PicturesChosen | Answered | Predicted):
            old.append(event)
        if isinstance(event, StageEnded):
            break
    folded = fold([*old, *loop.train(tiny(), **places)])
    assert folded.damaged == 0
    assert folded.answers_missing == (1,)
    assert answers.of_job(folded, 2) is not None


def test_a_run_killed_while_it_tells_a_stored_stage_anew_has_the_answers_of_one_that_was_not(store: Store) -> None:
    worker.run_claim(store.claim_run(store.submit(tiny("fine_tuning")).run), "cpu", maps="none")
    run = store.submit(tiny("ewc")).run  # its first stage is that of fine-tuning
    told: list[Event] = []

    def tell(event: Event) -> None:
        told.append(event)
        if sum(isinstance(one, Answered) for one in told) == 2:
            raise Killed

    claim = store.claim_run(run)
    with pytest.raises(Killed):
        worker.run_claim(claim, "cpu", maps="none", tell=tell)
    claim.release()
    assert not any(isinstance(event, StageEnded) for event in told), "half of the stage was told"
    claim = store.claim("cpu") or pytest.fail("it does not wait")
    assert worker.run_claim(claim, "cpu", maps="none").state == "complete"
    never = store.submit(tiny("ewc"), use_cache=False).run
    worker.run_claim(store.claim_run(never), "cpu", maps="none")
    mine, theirs = (store.fold(name) for name in (run, never))
    assert mine.damaged == 0 and mine.stages[0].ended is not None and mine.stages[0].ended.reused
    for job in (1, 2):
        one, other = (answers.of_job(found, job) for found in (mine, theirs))
        assert one is not None and other is not None and len(one.looks) > 2
        assert [told_of(look) for look in one.looks] == [told_of(look) for look in other.looks]
        assert (one.learnt, one.now) == (other.learnt, other.now)
        assert answers.predicted(mine, job, 2) == answers.predicted(theirs, job, 2)


def told_of(look: Answered) -> tuple[int, int, str, str]:
    return look.stage, look.images_seen, look.probabilities, look.classes
