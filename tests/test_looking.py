"""Nothing is looked at twice that cannot have changed, and how often it is looked follows from counts alone."""

from typing import Any

import pytest
import torch
from torch import Tensor

from labcore.configs import looking
from labcore.configs.looking import FEWEST_PICTURES, FEWEST_POINTS, MOST_PICTURES, MOST_POINTS, SHARE, live_looks
from labcore.configs.registry import ABOUT
from labcore.methods.base import Phase
from labcore.methods.load import learner
from labcore.networks.network import Network
from labcore.runs.events import Evaluated, Event, RunEnded, Warned
from labcore.training import loop
from labcore.training.phase_plan import PhasePlan
from tests.conftest import tiny

THREE = [{"name": name, "images_per_class": 40} for name in ("digits:0-2", "fashion:0-2", "digits:5-7")]
ISOLATING = [name for name, about in ABOUT.items() if about.cost.keeps_answers]


@pytest.mark.parametrize("jobs", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("trained", [10, 300, 1440, 4000, 100_000])
def test_live_looks_take_their_share_of_a_phase(trained: int, jobs: int) -> None:
    points, pictures = live_looks(trained, jobs)
    assert FEWEST_POINTS <= points <= MOST_POINTS
    assert FEWEST_PICTURES <= pictures <= MOST_PICTURES
    if (points, pictures) != (FEWEST_POINTS, FEWEST_PICTURES):
        assert points * pictures * jobs <= SHARE * 3 * trained
    more = live_looks(2 * trained, jobs)
    assert more.points >= points
    assert more.points * more.pictures >= points * pictures


@pytest.mark.parametrize("trained", [0, 10, 1800, 5000, 100_000])
def test_live_maps_take_their_share_of_a_phase(trained: int) -> None:
    pictures = looking.map_pictures(trained, 8)
    assert looking.FEWEST_MAP_PICTURES <= pictures <= looking.MOST_MAP_PICTURES
    if pictures > looking.FEWEST_MAP_PICTURES:
        assert 8 * pictures * looking.MAP_PICTURE_COST <= SHARE * trained
    assert [looking.map_pictures(images, 8) for images in (1800, 5000, 100_000)] == [9, 25, 32]


def test_live_looks_by_hand() -> None:
    assert live_looks(3 * 1000, 1) == (8, 50)
    assert live_looks(3 * 480, 3) == (3, 24)
    assert live_looks(800, 20) == (3, 8)


@pytest.mark.parametrize(("steps_in_epoch", "looks"), [(1, 3), (2, 8), (20, 3), (20, 8), (1000, 8)])
def test_a_phase_is_looked_at_more_often_at_its_beginning(steps_in_epoch: int, looks: int) -> None:
    phase = Phase("train", 3)
    points = looking.Looks(looks, 50)
    plan = PhasePlan.of(phase, [phase], steps_in_epoch, 32 * steps_in_epoch, points, trunk_moves=True)
    found = sorted(plan.measure_at)
    assert found[0] == 0 and found[-1] < plan.steps and len(found) == min(looks, plan.steps)
    gaps = [after - before for before, after in zip(found, [*found[1:], plan.steps], strict=True)]
    assert gaps == sorted(gaps)


def train(method: str, **more: Any) -> list[Event]:
    events = list(loop.train(tiny(method, tasks=THREE, **more)))
    assert isinstance(events[-1], RunEnded)
    assert events[-1].state == "complete"
    return events


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Grows with every batch that the network answers without learning: whose it was, and how many pictures."""
    found: list[tuple[int, int]] = []
    original = Network.logits

    def watched(self: Network, x: Tensor, task: int, *more: Any) -> Tensor:
        if not torch.is_grad_enabled():
            found.append((task, len(x)))
        return original(self, x, task, *more)

    monkeypatch.setattr(Network, "logits", watched)
    return found


@pytest.mark.parametrize("method", ISOLATING)
def test_isolated_answers_are_asked_for_once_and_proved_at_the_end(method: str, asked: list[tuple[int, int]]) -> None:
    learnt: list[int] = []
    for event in loop.train(tiny(method, tasks=THREE)):
        if isinstance(event, Evaluated) and event.kind == "test":
            whose = {task for task, _ in asked}
            last = event.stage == len(THREE)
            assert whose == ({1, 2, 3} if last else {event.stage}), "only the new job, and all of them at the end"
            asked.clear()
            learnt.append(event.stage)
        assert not isinstance(event, Warned)
    assert learnt == [1, 2, 3]


def test_old_answers_stand_while_a_new_head_learns(asked: list[tuple[int, int]]) -> None:
    stage, warming = 0, False
    for event in loop.train(tiny("fine_tuning", tasks=THREE, training__head_warmup_epochs=2)):
        if event.event == "stage_started":
            stage = event.stage
        if event.event == "phase_started":
            warming = event.phase == "warm_up"
            asked.clear()
        if isinstance(event, Evaluated) and event.kind == "live" and warming:
            assert len(event.accuracy) == stage
            assert {task for task, _ in asked} == {stage}
    assert stage == 3


def test_a_method_that_breaks_its_word_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = learner("separate_copies")
    monkeypatch.setattr(kind, "overlay", lambda self, task: self.network.norm_overlay(task))  # no copy at all
    told = [event.text for event in train("separate_copies", training__epochs=4) if isinstance(event, Warned)]
    assert any("answered otherwise than when it was learnt" in text for text in told)
