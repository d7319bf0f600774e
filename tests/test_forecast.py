"""How far a run is and how long it takes: exact where time passes as estimated, whatever the pace; sane elsewhere."""

from itertools import pairwise

import pytest

from labcore.runs.events import Event, MapSaved, RunEnded
from labcore.runs.results import fold
from labcore.studies import estimates
from labcore.studies.forecast import forecast
from tests import stories
from tests.conftest import tiny
from tests.test_estimates import ROUND


def told_by_the_estimate(pace: float, until: float) -> tuple[list[Event], float]:
    """A run whose every part takes `pace` times its estimate, told up to so many seconds; and those that are left.

    The first five seconds are those in which a page sees nothing of it.
    """
    config = tiny(training={"epochs": 2, "batch_size": 8, "head_warmup_epochs": 3})
    events: list[Event] = [stories.opened(time=0.0).model_copy(update={"config": config})]
    now, seen, step = 0.0, 0, 0
    plan = estimates.parts(config, ROUND)
    whole = pace * sum(part.milliseconds for stage in plan for part in stage) / 1000
    for number, stage in enumerate(plan[:-1], 1):
        name, images = config.tasks[number - 1].name, sum(part.images for part in stage)
        begun = stories.stage(number, name, seen, step)
        events += [event.model_copy(update={"time": now, "images": images}) for event in begun[:1]]
        for part in stage:
            now += pace * part.milliseconds / 1000
            if part.images:
                seen, step = seen + part.images, step + 1
                events.append(stories.logged(number, seen, step, new_task=1.0).model_copy(update={"time": now}))
        accuracy = (0.9,) * number
        ended = stories.measured(number, name, seen, step, *accuracy)
        events += [event.model_copy(update={"time": now}) for event in ended]
    kept = [event for event in events if event.time <= until * whole]
    return kept, whole - kept[-1].time


@pytest.mark.parametrize("until", [0.2, 0.4, 0.55, 0.8, 0.99])
@pytest.mark.parametrize("pace", [0.5, 1.0, 3.0])
def test_where_all_takes_what_was_estimated_the_time_left_is_exact(pace: float, until: float) -> None:
    events, left = told_by_the_estimate(pace, until)
    found = forecast(fold(events), ROUND)
    assert found.seconds_left is not None
    told, prior = found.seconds_left / left, 0.03 / found.share
    assert told == pytest.approx((pace + prior) / (1 + prior) / pace)  # the estimate has a little say
    assert found.share == pytest.approx(1 - left / (left + events[-1].time))


def test_without_a_measured_speed_the_pace_alone_tells() -> None:
    events, left = told_by_the_estimate(2.0, 0.5)
    found = forecast(fold(events), None)
    assert found.seconds_left == pytest.approx(left, rel=0.5)
    assert forecast(fold(events[:2]), None).seconds_left is None


def test_passes_of_the_head_alone_are_a_small_part_of_the_work() -> None:
    config = tiny(training={"epochs": 1, "batch_size": 8, "head_warmup_epochs": 20})
    warm_up, trunk = (part for part in estimates.parts(config, ROUND)[1] if part.images)
    assert warm_up.images == 20 * 36
    assert warm_up.milliseconds < 2 * trunk.milliseconds


def test_the_silent_parts_of_a_stages_end_are_over_when_they_are_told() -> None:
    config = tiny(training={"epochs": 1})
    plan = estimates.parts(config, ROUND)
    whole = sum(part.milliseconds for stage in plan for part in stage)
    begun = [stories.opened().model_copy(update={"config": config}), *stories.stage(1, "digits:0-3", 0, 0)[:1]]
    images = sum(part.images for part in plan[0])
    begun = [begun[0], begun[1].model_copy(update={"images": images}), stories.logged(1, images, 10, new_task=1.0)]
    validation, test = stories.measured(1, "digits:0-3", images, 10, 0.9)[:2]
    drawn = MapSaved(stage=1, kind="stage", path="maps/1/10-stage.npz", step=10)
    maps, on_validation, on_test = (part.milliseconds for part in plan[0][-3:])
    assert min(maps, on_validation, on_test) > 0
    shares = [forecast(fold([*begun, *told]), ROUND).share for told in ([], [drawn], [drawn, validation])]
    shares.append(forecast(fold([*begun, drawn, validation, test]), ROUND).share)
    steps = [(later - earlier) * whole for earlier, later in pairwise(shares)]
    assert steps == pytest.approx([maps, on_validation, on_test])
    assert forecast(fold([*begun, validation]), ROUND).share == pytest.approx(shares[2])  # of a run without maps


def test_a_run_that_is_over_or_has_not_begun_has_no_time_left() -> None:
    assert forecast(fold([]), ROUND).share == 0
    done = forecast(fold(stories.COMPLETE), ROUND)
    assert (done.share, done.seconds_left) == (1, None)
    stopped = forecast(fold([*stories.FIRST, RunEnded(state="stopped", step=10)]), ROUND)
    assert 0 < stopped.share < 1
    assert stopped.seconds_left is None


def test_what_cannot_be_estimated_any_more_is_not_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise KeyError("a method that is not installed")

    monkeypatch.setattr(estimates, "parts", gone)
    config = tiny(seed=77)  # no other test has asked for it
    begun = [stories.opened().model_copy(update={"config": config}), *stories.FIRST[1:4]]
    assert forecast(fold(begun), ROUND).seconds_left is None
