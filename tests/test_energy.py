import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from labcore.configs.base import ConfigError
from labcore.runs import energy
from labcore.runs.errors import StoreError
from labcore.runs.events import Event, RunEnded, RunStarted, StageEnded, StepLogged
from labcore.runs.results import fold
from labcore.runs.store import Store
from labcore.training import loop, telling, worker
from tests import stories
from tests.conftest import tiny

ROOT = Path(__file__).parent.parent


class Hand:
    """A meter that has moved on by a watt-hour each time that it is read; broken from `broken_at` on."""

    method = "by hand"

    def __init__(self, broken_at: float = 1e9) -> None:
        self.value, self.broken_at = 0.0, broken_at

    def read(self) -> float | None:
        self.value += 1
        return None if self.value >= self.broken_at else self.value


@pytest.fixture(autouse=True)
def every_reading_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "METER_SECONDS", 0.0)


# ---- the real one ---------------------------------------------------------------------------------------------------

SMOKE = """
import socket, time
def refuse(*arguments): raise AssertionError("the network was asked")
socket.socket.connect = socket.getaddrinfo = refuse
from labcore.runs import energy
with energy.metering("cpu") as meter:
    first, end = meter.read(), time.perf_counter() + 1
    while time.perf_counter() < end: pass
    second = meter.read()
    time.sleep(1)
    print(first, second, meter.read(), meter.method, sep="|")
"""


def test_a_second_of_work_costs_something_and_nothing_is_written_sent_or_said(tmp_path: Path) -> None:
    hostile = {
        "CODECARBON_OUTPUT_METHODS": "csv,api",
        "CODECARBON_SAVE_TO_FILE": "true",
        "CODECARBON_EMISSIONS_ENDPOINT": "http://127.0.0.1:9/",
        "CODECARBON_CO2_SIGNAL_API_TOKEN": "token",
        "CODECARBON_OUTPUT_DIR": "/nowhere",
        "CODECARBON_LOG_LEVEL": "debug",
        "CODECARBON_ALLOW_MULTIPLE_RUNS": "false",
    }
    done = subprocess.run(
        [sys.executable, "-c", SMOKE],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **hostile, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, second, third, method = done.stdout.strip().split("|")
    assert float(third) >= float(second) > float(first) >= 0
    assert float(second) - float(first) < 1, "a second at 3.6 kW"
    assert method.startswith("from ") and "memory" in method
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_measured_by_the_worker(store: Store) -> None:
    run = store.submit(tiny()).run
    record = worker.run_claim(store.claim_run(run), "cpu")
    result = store.result(run)
    assert record.energy_wh == result.energy_wh
    assert result.energy_wh is not None and result.energy_wh > 0
    assert result.carbon_g == pytest.approx(result.energy_wh * 0.475)
    assert sum(stage.energy_wh or 0 for stage in result.stages) < result.energy_wh, "loading counts for the run alone"


def test_without_codecarbon_a_run_goes_on_and_the_log_says_why(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    run = store.submit(tiny()).run
    with caplog.at_level(logging.WARNING, "labcore.runs.energy"):
        assert worker.run_claim(store.claim_run(run), "cpu").state == "complete"
    assert "Energy is not measured" in caplog.text
    result = store.result(run)
    assert (result.energy_wh, result.carbon_g) == (None, None)
    assert [stage.energy_wh for stage in result.stages] == [None, None]


def test_a_tracker_that_does_not_start_is_no_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codecarbon.OfflineEmissionsTracker.start", lambda self: None)
    with energy.metering("cpu") as meter:
        assert meter is None


@pytest.mark.parametrize(
    ("visible", "of_torch", "card"),
    [("", "cuda:1", 1), ("2,3", "cuda:1", 3), ("GPU-ab", "cuda:0", "GPU-ab"), ("2", "cuda:4", 4)],
)
def test_the_card_is_the_one_that_the_driver_counts(
    visible: str, of_torch: str, card: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert energy._gpu(of_torch) == card


# ---- through the loop -----------------------------------------------------------------------------------------------


def test_run_and_stages_count_what_the_meter_tells() -> None:
    meter = Hand()
    events = list(loop.train(tiny(), meter=meter))
    told, result = fold(events), fold(events).result("r", "complete", tiny().model_dump(mode="json"))
    assert told.energy_wh == result.energy_wh == meter.value
    assert [e.energy_method for e in events if isinstance(e, RunStarted)] == ["by hand"]
    stages = [stage.energy_wh for stage in result.stages]
    logged = [sum(isinstance(e, StepLogged) and e.stage == k for e in events) for k in (1, 2)]
    assert stages == [logged[0] + 3, logged[1] + 3], "a reading at each log, two around what the end adds, one last"


def test_without_a_meter_nothing_is_told() -> None:
    events = list(loop.train(tiny()))
    assert fold(events).energy_wh is None
    assert {e.energy_wh for e in events if isinstance(e, RunStarted | StepLogged | StageEnded | RunEnded)} == {None}


def test_a_meter_that_breaks_leaves_no_partial_sum() -> None:
    events = list(loop.train(tiny(), meter=Hand(broken_at=4)))
    assert fold(events).energy_wh is None
    assert [e.energy_wh for e in events if isinstance(e, StageEnded)] == [None, None]


def test_stopped_and_resumed_counts_both_attempts(tmp_path: Path) -> None:
    checkpoint, first, second = tmp_path / "checkpoint", Hand(), Hand()
    asked = iter(range(10**9))
    events = list(loop.train(tiny(), checkpoint=checkpoint, meter=first, should_stop=lambda: next(asked) > 25))
    assert isinstance(events[-1], RunEnded) and events[-1].state == "stopped"
    events += loop.train(tiny(), checkpoint=checkpoint, meter=second)
    assert [event.resumed_from_step is None for event in events if isinstance(event, RunStarted)] == [True, False]
    assert fold(events).energy_wh == first.value + second.value


def test_killed_and_resumed_counts_the_work_that_was_lost(tmp_path: Path) -> None:
    checkpoint, kept, first, second = tmp_path / "checkpoint", tmp_path / "kept", Hand(), Hand()
    events: list[Event] = []
    with contextlib.closing(loop.train(tiny(), checkpoint=checkpoint, checkpoint_seconds=0, meter=first)) as run:
        for event in run:
            events.append(event)
            if event.step == 4 and not kept.exists():
                shutil.copy(checkpoint, kept)
            if isinstance(event, StepLogged) and event.step == 8:
                break
    told = first.value
    events += loop.train(tiny(), checkpoint=kept, meter=second)
    assert fold(events).energy_wh == told + second.value
    ended = next(event for event in events if isinstance(event, StageEnded))
    assert ended.energy_wh is not None and ended.energy_wh < told + second.value


# ---- folded by hand -------------------------------------------------------------------------------------------------


def test_lost_work_stays_spent() -> None:
    assert fold(stories.COMPLETE).energy_wh == 0.25
    until_20 = [*stories.FIRST, *stories.SECOND[:-4]]  # told 0.20
    resumed = [*until_20, stories.opened(resumed=15, images=114, energy_wh=0.15)]
    assert fold(resumed).energy_wh == pytest.approx(0.20)
    assert fold([*resumed, stories.END]).energy_wh == pytest.approx(0.25 + 0.05)
    again = [*until_20, stories.opened(energy_wh=0.0)]
    assert fold(again).energy_wh == pytest.approx(0.20)
    checkpoint_knows_more = [*until_20, stories.opened(resumed=20, images=152, energy_wh=0.22)]
    assert fold(checkpoint_knows_more).energy_wh == pytest.approx(0.22)


def test_an_attempt_that_was_not_measured_makes_the_sum_unknown() -> None:
    blind = [event.model_copy(update={"energy_wh": None}) if "energy_wh" in event.model_fields_set else event
             for event in stories.FIRST]  # fmt: skip
    assert fold(blind).energy_wh is None
    assert fold([*blind, stories.opened(energy_wh=0.0)]).energy_wh is None


# ---- carbon and settings --------------------------------------------------------------------------------------------


def test_the_worlds_average_is_codecarbons_own() -> None:
    folder = Path((find_spec("codecarbon").submodule_search_locations or [""])[0])  # type: ignore[union-attr]
    data = json.loads((folder / "data/private_infra/carbon_intensity_per_source.json").read_bytes())
    assert energy.WORLD.grams_a_kilowatt_hour == data["world_average"]
    assert "iea.org" in data["world_average_source"]


def test_countries_have_names_and_grams() -> None:
    assert len(energy.countries()) > 200
    assert energy.country("FRA").name == "France"
    assert energy.country("FRA").grams(1000) == energy.country("FRA").grams_a_kilowatt_hour
    assert energy.country(None) == energy.country("ZZZ") == energy.WORLD
    names = [country.name for country in energy.countries().values()]
    assert names == sorted(names)


def test_settings_are_kept_and_change_the_grams_of_every_run(store: Store) -> None:
    run = stories.written(store, stories.COMPLETE).finish("complete").run
    assert store.result(run).carbon_g == pytest.approx(0.25 * 0.475)
    store.change_settings(country="FRA")
    assert Store(store.root).settings().country == "FRA"
    result = store.result(run)
    assert (result.energy_wh, result.carbon_country) == (0.25, "FRA")
    assert result.carbon_g == pytest.approx(0.25 / 1000 * energy.country("FRA").grams_a_kilowatt_hour)
    assert store.settings_problem() is None


@pytest.mark.parametrize("country", ["XXX", "", "fr", 7, ["FRA"], "A" * 10_000, "../../x"])
def test_a_country_that_is_none_is_one_sentence(country: object, store: Store) -> None:
    with pytest.raises(ConfigError) as caught:
        store.change_settings(country=country)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("country") and len(str(caught.value)) < 200
    assert not (store.root / "settings.json").exists()


def test_what_is_recorded_of_the_inside_is_one_of_three(store: Store) -> None:
    with pytest.raises(ConfigError, match="maps is 'some'"):
        store.change_settings(maps="some")
    assert store.change_settings(maps="stages").maps == "stages"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'{"country": "FR',
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"country": "XXX"}',
        b'{"colour": 1}',
        b"[" * 50_000,
        b" " * 70_000,
    ],
)
def test_a_file_that_is_not_right_is_told_and_the_defaults_hold(text: bytes, store: Store) -> None:
    (store.root / "settings.json").write_bytes(text)
    assert store.settings().country is None
    problem = store.settings_problem()
    assert problem is not None and "settings.json cannot be used" in problem
    assert "\n" not in problem and len(problem) < 300
    store.change_settings(country="DEU")
    assert store.settings().country == "DEU"


def test_settings_that_cannot_be_read_or_written(store: Store) -> None:
    (store.root / "settings.json").mkdir()
    assert store.settings().country is None
    assert "directory" in (store.settings_problem() or "")
    with pytest.raises(StoreError):
        store.change_settings(country="FRA")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0, "0 Wh"),
        (0.00001, "< 0.0001 Wh"),
        (0.0419, "0.042 Wh"),
        (0.0996, "0.10 Wh"),
        (4.23, "4.2 Wh"),
        (42.3, "42 Wh"),
        (423, "420 Wh"),
        (1234, "1.2 kWh"),
    ],
)
def test_two_figures(value: float | None, shown: str) -> None:
    assert energy.watt_hours(value) == shown
