import pytest

from labcore.runs import results
from labcore.runs.events import MapSaved, RunEnded, StageStarted, Unreadable, from_line, to_line
from labcore.runs.results import fold
from tests import stories
from tests.conftest import tiny

CONFIG = tiny().model_dump(mode="json")


def test_measures_follow_their_papers() -> None:
    matrix = ((0.9, None, None), (0.5, 0.8, None), (0.6, 0.7, 0.95))
    assert results.average_accuracy(matrix, 3) == pytest.approx((0.6 + 0.7 + 0.95) / 3)
    assert results.backward_transfer(matrix, 3) == pytest.approx(((0.6 - 0.9) + (0.7 - 0.8)) / 2)
    assert results.forgetting(matrix, 3) == (pytest.approx(0.3), pytest.approx(0.1), None)
    rising = ((0.5, None, None), (0.8, 0.5, None), (0.6, 0.7, 0.5))
    assert results.forgetting(rising, 3)[0] == pytest.approx(0.2), "the best of earlier rows, not the first"
    assert results.backward_transfer(((0.9,),), 1) is None
    assert results.average_accuracy(matrix[:2], 3) is None
    assert results.forgetting((), 2) == (None, None)


def test_a_whole_story() -> None:
    result = fold(stories.COMPLETE).result("r", "complete", CONFIG, weights=[2])
    assert result.accuracy_matrix == ((0.9, None), (0.4, 0.8))
    assert result.average_accuracy == pytest.approx(0.6)
    assert result.backward_transfer == pytest.approx(-0.5)
    assert result.forgetting == (pytest.approx(0.5), None)
    assert result.footprint_bytes == {"trunk": 1000, "heads": 20, "total": 1020, "working": 5}
    assert [stage.weights for stage in result.stages] == [False, True]
    assert (result.test_ms_per_image, result.peak_memory_bytes, result.device) == (0.5, 2_000_000, "cpu")
    assert not result.needs_old_data


def test_a_run_without_events_and_one_that_failed() -> None:
    empty = fold([]).result("r", "queued", CONFIG)
    assert (empty.accuracy_matrix, empty.average_accuracy, empty.stages, empty.device) == ((), None, (), None)
    failed = fold([*stories.FIRST, RunEnded(state="failed", error="It broke.")]).result("r", "failed", CONFIG)
    assert failed.error == "It broke."
    assert failed.average_accuracy is None
    assert len(failed.stages) == 1


def test_one_by_one_is_the_same_as_all_at_once() -> None:
    folded = results.Fold()
    for event in stories.COMPLETE:
        folded.add(from_line(to_line(event)))
    assert folded.result("r", "complete", CONFIG) == fold(stories.COMPLETE).result("r", "complete", CONFIG)
    assert folded.accuracy == fold(stories.COMPLETE).accuracy


def test_a_resumed_attempt_takes_back_what_was_said_past_its_step() -> None:
    lost = [*stories.FIRST, *stories.SECOND[:-4]]  # up to before the second stage's end
    told = fold([*lost, stories.opened(resumed=15, images=114, time=200)])
    assert [point.step for point in told.accuracy] == [0, 5, 10, 10]
    assert [point.step for point in told.losses] == [5, 10]
    assert len(told.stages) == 2
    assert (told.images_seen, told.ended) == (114, None)
    whole = fold([*lost, stories.opened(resumed=15, images=114), *stories.SECOND[3:], stories.COMPLETE[-1]])
    assert whole.accuracy == fold(stories.COMPLETE).accuracy
    assert whole.matrix("test") == fold(stories.COMPLETE).matrix("test")


def test_resumed_within_the_first_stage_the_end_of_it_is_taken_back() -> None:
    told = fold([*stories.FIRST, stories.opened(resumed=5, images=40)])
    assert told.stages[0].ended is None
    assert told.matrix("test") == ()


def test_begun_again_from_nothing_it_forgets_all() -> None:
    told = fold([*stories.COMPLETE[:-1], stories.opened()])
    assert (told.stages, told.accuracy, told.losses, told.images_seen) == ([], [], [], 0)


def test_curves_stay_bounded_and_keep_their_ends() -> None:
    folded = fold(stories.FIRST[:3])
    for step in range(1, 50_001):
        folded.add(stories.logged(1, step, step, new_task=1.0))
    assert len(folded.losses) <= results.MOST_POINTS
    assert (folded.losses[0].step, folded.losses[-1].step) == (1, 50_000)


def test_speed_is_measured() -> None:
    assert fold(stories.FIRST[:6]).images_per_second == pytest.approx(40 / 0.5)


@pytest.mark.parametrize(
    "line", [b"", b"{}", b'{"event":"party"}', b'{"event":"run_ended","state":"fine"}', b"\xff", b"[" * 9999]
)
def test_what_is_no_event(line: bytes) -> None:
    with pytest.raises(ValueError, match="event"):
        from_line(line)


@pytest.mark.parametrize("stage", [1, 2])
def test_what_is_said_of_a_stage_whose_beginning_cannot_be_read_is_damaged_too(stage: int) -> None:
    """Who draws it looks up the stage."""
    told = [*stories.FIRST, MapSaved(stage=1, kind="live", path="maps/1/000010.npz", step=10), *stories.SECOND]
    lost = next(event for event in told if isinstance(event, StageStarted) and event.stage == stage)
    found = fold(Unreadable(offset=0) if event is lost else event for event in told)
    assert found.damaged > 1
    assert [begun.task for begun in found.stages] == ["digits:0-3"][: stage - 1]
    assert all(point.stage <= len(found.stages) for point in (*found.accuracy, *found.losses, *found.maps))
