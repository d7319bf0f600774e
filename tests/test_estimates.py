"""What a run will cost: the measurement is real, the arithmetic is right, wishes are kept."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from labcore.configs import presets
from labcore.configs.registry import ABOUT, METHODS
from labcore.networks import fisher
from labcore.runs.settings import DETAILS
from labcore.runs.store import Store
from labcore.studies import estimates
from labcore.studies.estimates import Speed, estimate
from labcore.tasks import catalogue, pictures
from labcore.training import speed, worker
from labcore.version import ENGINE_VERSION
from tests.conftest import tiny
from tests.waiting import until

ROUND = Speed(
    device="cpu",
    backbone="small_cnn",
    image_size=16,
    step_ms=10.0,
    image_ms=1.0,
    head_step_ms=2.0,
    forward_ms=0.5,
    single_ms=1.0,
    activation_bytes=1000,
    features=128,
    weights=1000,
    others=0.0,
    engine=ENGINE_VERSION,
)


@pytest.mark.parametrize("name", catalogue.EMBEDDED)
def test_counts_are_those_of_the_pictures(name: str, tmp_path: Path) -> None:
    for limit in (None, 7):
        data = pictures.load(name, 16, limit, tmp_path)
        splits = (data.train, data.validation, data.test)
        assert catalogue.counts(name, limit) == tuple(len(split.labels) for split in splits)


def test_an_estimate_by_hand() -> None:
    config = tiny()  # two stages: 40 and 36 images, 2 passes, batches of 8; 5 steps a pass each
    (first, second) = (catalogue.counts(task.name, task.images_per_class) for task in config.tasks)
    assert (first[0], second[0]) == (40, 36)
    steps = 2 * 5 * (10 + 8 * 1) * 2
    live = (3 * 8 * 1 + 3 * 8 * 2) * 0.5  # the fewest looks and pictures that there are
    whole = (2 * sum(first[1:]) + sum(second[1:])) * 0.5
    single = 5 * 30 * 1.0
    maps = 2 * (8 * 8 + 100) * 1.25 * 1.0  # the fewest pictures that a live map has
    assert estimate(config, ROUND).seconds == pytest.approx((steps + live + whole + single + maps) / 1000)


def test_maps_that_are_not_recorded_are_not_counted() -> None:
    whole, ends, none = (estimate(tiny(), ROUND, detail).seconds for detail in DETAILS)
    assert whole - ends == pytest.approx(2 * 8 * 8 * 1.25 * 1.0 / 1000)
    assert ends - none == pytest.approx(2 * 100 * 1.25 * 1.0 / 1000)


def test_importance_needs_memory_whoever_asks_for_it() -> None:
    assert (estimates._FISHER_CHUNK, estimates._FISHER_NUMBERS) == (fisher.MOST_IMAGES, fisher.CHUNK_NUMBERS)
    whole, ends, none = (estimate(tiny(), ROUND, detail).memory for detail in DETAILS)
    kept, more = 2 * 2 * 4 * ROUND.weights, 1.4 * 64 * ROUND.activation_bytes
    assert whole == ends == pytest.approx(none + kept + more)
    whole, _, none = (estimate(tiny("ewc"), ROUND, detail).memory for detail in DETAILS)
    assert whole == pytest.approx(none + kept)  # it measures importance itself


def test_pictures_that_are_measured_one_by_one_take_a_step_each() -> None:
    few, many = (estimate(tiny("mas", method={"name": "mas", "importance_images": count}), ROUND) for count in (1, 11))
    assert many.seconds - few.seconds == pytest.approx(2 * 10 * (ROUND.step_ms + ROUND.image_ms) / 1000)


def test_a_trunk_that_stands_still_is_run_once_and_joint_training_reads_everything() -> None:
    seconds = {method: estimate(tiny(method), ROUND).seconds for method in METHODS}
    assert seconds["feature_extraction"] < seconds["fine_tuning"] < seconds["joint"]


def test_this_machine_is_measured_where_somebody_wished_for_it(store: Store) -> None:
    config = tiny()
    assert estimates.next_wish(store, "cpu") is None
    assert estimates.known(store, "cpu", config) is None  # and so it is wished for
    assert estimates.next_wish(store, "cuda:0") is None
    assert estimates.next_wish(store, "cpu") == ("small_cnn", 16, False)
    found = speed.measure("small_cnn", 16, "cpu", lambda: False)
    assert found is not None
    assert min(found.image_ms, found.forward_ms, found.single_ms, found.head_step_ms) >= 0
    assert found.forward_ms > 0
    assert 0 <= found.others <= 1
    assert found.activation_bytes > 16 * 16 * 32 * 4  # at least what the first layer made of one image
    estimates.keep(store, found)
    assert estimates.next_wish(store, "cpu") is None
    assert estimates.known(store, "cpu", config) == found
    (store.cache / "speeds" / "cpu_small_cnn_16.json").write_text("{")
    assert estimates.known(store, "cpu", config) is None


def test_what_an_older_engine_measured_is_measured_again(store: Store) -> None:
    estimates.keep(store, ROUND.model_copy(update={"engine": "older"}))
    assert estimates.known(store, "cpu", tiny()) is None
    assert estimates.next_wish(store, "cpu") == ("small_cnn", 16, False)
    path = store.cache / "speeds" / "cpu_small_cnn_16.json"
    path.write_text(ROUND.model_dump_json(exclude={"engine"}))  # as it was kept before engines were told apart
    assert estimates.known(store, "cpu", tiny()) is None
    estimates.keep(store, ROUND)
    assert estimates.known(store, "cpu", tiny()) == ROUND


def test_steps_in_bfloat16_are_measured_where_they_are_chosen(store: Store) -> None:
    short = tiny(training__precision="bfloat16")
    estimates.keep(store, ROUND)
    assert estimates.known(store, "cpu", tiny()) == ROUND
    assert estimates.next_wish(store, "cpu") is None
    assert estimates.kept(store, "cpu", short) is None
    assert estimates.next_wish(store, "cpu") is None, "to look is no wish"
    assert estimates.known(store, "cpu", short) is None
    (store.cache / "speeds" / "cpu_small_cnn_16.json").unlink()
    assert estimates.known(store, "cpu", tiny()) is None
    wish = estimates.next_wish(store, "cpu")
    assert wish == ("small_cnn", 16, True), "a wish for less takes nothing back"
    worker._measure_speed(store, "cpu", wish, lambda: False)
    found = estimates.known(store, "cpu", short)
    assert found is not None and found.bfloat16 is not None and found.bfloat16 > 0
    assert estimates.known(store, "cpu", tiny()) == found
    assert estimates.next_wish(store, "cpu") is None


def test_only_training_takes_longer_in_bfloat16() -> None:
    slow, short = ROUND.model_copy(update={"bfloat16": 8.0}), tiny(training__precision="bfloat16")
    plain, longer = estimate(tiny(), slow), estimate(short, slow)
    steps = 2 * 5 * (10 + 8 * 1) * 2
    assert longer.seconds - plain.seconds == pytest.approx(7 * steps / 1000)
    assert longer.memory == plain.memory


@pytest.mark.parametrize(
    ("where", "times", "said"),
    [
        ("cpu", 8.04, "On this processor a step in bfloat16 takes 8 times as long as in float32."),
        ("cuda:0", 1.25, "On this GPU a step in bfloat16 takes 1.2 times as long as in float32."),
        ("cuda:0", 0.5, "On this GPU steps in bfloat16 are 2 times as fast as in float32."),
        ("cpu", 1.04, "On this processor a step in bfloat16 takes about as long as in float32."),
    ],
)
def test_bfloat16_is_told_in_a_sentence(where: str, times: float, said: str) -> None:
    assert estimates.told_of_bfloat16(where, times) == said


def test_a_speed_that_others_disturbed_is_measured_again(store: Store) -> None:
    estimates.keep(store, ROUND.model_copy(update={"others": 0.6}))
    path = store.cache / "speeds" / "cpu_small_cnn_16.json"
    for age, wished in ((0, None), (100, ("small_cnn", 16, False))):
        os.utime(path, (time.time() - age, time.time() - age))
        found = estimates.known(store, "cpu", tiny())
        assert found is not None
        assert found.disturbed
        assert estimates.next_wish(store, "cpu") == wished
    estimates.keep(store, ROUND)
    assert estimates.known(store, "cpu", tiny()) == ROUND
    assert estimates.next_wish(store, "cpu") is None


def test_what_other_programs_use_meanwhile_is_seen() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        others = speed._Others()
        until(lambda: others.share() * (os.cpu_count() or 1) > 0.3)  # of one processor
    finally:
        busy.kill()
        busy.wait()


def test_a_moment_of_disturbance_falls_out_of_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_SECONDS", 0.1)
    calls: list[int] = []
    now = 0.0
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: now))

    def act(count: int) -> None:
        nonlocal now
        calls.append(count)
        now += 0.05 if len(calls) in (1, 2, 9, 10) else 0.001  # while it gets warm, and once for a while

    found = speed._take_turns(((act, 1), (act, 2)), lambda: False)
    assert found is not None and max(found) < 20
    assert calls[:4] == [1, 2, 1, 2], "they take turns"


def test_measuring_gives_way_to_a_run() -> None:
    assert speed.measure("small_cnn", 16, "cpu", lambda: True) is None
    steps = iter([False] * 3 + [True])
    learner = speed._Learner("small_cnn", 16, "cpu")
    assert speed._times_in_bfloat16(learner, lambda: next(steps)) is None


def test_every_method_has_its_marks_and_every_preset_an_estimate() -> None:
    for method in METHODS:
        assert {mark for _, mark in ABOUT[method].verdict.ratings.values()}
        for name in presets.PRESETS:
            assert estimate(presets.preset(name, method), ROUND).seconds > 0


def test_a_configuration_that_was_run_is_known(store: Store) -> None:
    assert store.known(tiny()) is None
    run = store.submit(tiny()).run
    known = store.known(tiny())
    assert known is not None
    assert known.run == run
    assert store.known(tiny(seed=1)) is None
    store.request_stop(run)
    store.delete(run)
    assert store.known(tiny()) is None
