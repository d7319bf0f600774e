"""Every page in every state, as Streamlit runs it, without a browser."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest

from labcore import cli, estimates, explorations, figures, presets, questions, tasks, worker
from labcore.configs import METHODS, RunConfig, parse
from labcore.events import Downloading
from labcore.experiments import Reader
from labcore.stages import StageCache
from labcore.store import Process, RunRecord, Store
from pages.parts import config_form, exploring, runs
from tests import stories
from tests.conftest import tiny

APP = str(Path(__file__).parent.parent / "app.py")


@pytest.fixture(autouse=True)
def warm_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a server that has shown a page before; the first page of a fresh one is in the browser's journey."""
    original = PagesManager.__init__

    def init(self: PagesManager, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        PagesManager.uses_pages_directory = False

    monkeypatch.setattr(PagesManager, "__init__", init)


@pytest.fixture(autouse=True)
def nobody_trains(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("labcore.worker.ensure", lambda store, device="auto": None)
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


def app(page: str | None = None, **query: str) -> AppTest:
    test = AppTest.from_file(APP, default_timeout=60)
    for name, value in query.items():
        test.query_params[name] = value
    test.run()
    if page:
        for name, value in query.items():
            test.query_params[name] = value
        test.switch_page(f"pages/{page}.py").run()
    assert not test.exception, test.exception
    return test


def text(test: AppTest) -> str:
    parts = [*test.title, *test.subheader, *test.markdown, *test.caption, *test.info, *test.warning, *test.error]
    return "\n".join(str(part.value) for part in parts) + "\n".join(str(html.proto) for html in test.get("html"))


def button(test: AppTest, label: str) -> object:
    (found,) = [b for b in test.button if b.label == label]
    return found


def test_the_first_start_teaches_and_one_button_starts_the_story(store: Store) -> None:
    test = app()
    assert "what happens to the old ones" in text(test)
    assert "Digits" in text(test)
    button(test, "Start the story").click().run()  # type: ignore[attr-defined]
    (record,) = store.records()
    assert record.state == "queued"
    assert store.config(record.run) == presets.preset("story")


def test_presets_methods_and_order_make_the_configuration(store: Store) -> None:
    test = app()
    test.button(key="method/joint").click().run()
    test.button(key="right0").click().run()
    assert not test.exception
    draft = test.session_state["draft"]
    assert draft["method"]["name"] == "joint"
    names = [task["name"] for task in presets.preset_data(test.session_state["preset"])["tasks"]]
    assert [task["name"] for task in draft["tasks"]] == [names[1], names[0], names[2]]
    test.button(key="remove2").click().run()
    test.button(key="add/faces").click().run()
    assert [task["name"] for task in test.session_state["draft"]["tasks"]] == [names[1], names[0], "faces"]
    (start,) = [b for b in test.button if b.label.startswith("Start")]
    start.click().run()
    assert store.config(store.records()[0].run).method.name == "joint"


def test_another_backbone_takes_its_own_start_and_size() -> None:
    test = app()
    (backbone,) = [box for box in test.selectbox if "backbone" in box.label]
    backbone.select("small_cnn").run()
    assert not test.exception
    assert test.session_state["draft"]["backbone"] == {
        "name": "small_cnn",
        "start": "kaiming",
        "image_size": 28,
        "norm": "frozen",
    }
    assert not test.error


def test_another_start_is_in_all_that_the_page_shows_at_once(store: Store) -> None:
    config = presets.preset("quick")
    start = config.backbone.model_copy(update={"start": "xavier"})
    stories.told(store, config.model_copy(update={"backbone": start}), [[0.9], [0.4, 0.8], [0.4, 0.6, 0.8]])
    test = app(preset="quick")
    (box,) = [box for box in test.selectbox if "start" in box.label]
    box.select("xavier").run()
    assert any('"start": "xavier"' in block.value for block in test.code)
    assert "You have this already" in str([link.proto.label for link in test.get("page_link")])


def chosen(test: AppTest, label: str, value: str) -> None:
    """Choose a value in the box of this label."""
    (box,) = [box for box in test.selectbox if label in box.label]
    box.select(value).run()
    assert not test.exception, test.exception


def test_short_numbers_are_the_default_on_a_gpu_alone_and_a_choice_stays(store: Store) -> None:
    store.tell_devices({"cuda:0": "A card", "cpu": "A processor"})
    test = app()
    precision = lambda: parse(test.session_state["draft"]).training.precision  # noqa: E731
    assert precision() == "bfloat16"
    chosen(test, "device", "cpu")
    assert precision() == "float32"
    assert next(box for box in test.selectbox if box.label == "precision").value == "float32"
    chosen(test, "device", "auto")
    assert precision() == "bfloat16"
    chosen(test, "precision", "float32")
    test.button(key="method/joint").click().run()
    assert test.session_state["draft"]["method"]["name"] == "joint" and precision() == "float32"
    chosen(test, "device", "cpu")
    chosen(test, "precision", "bfloat16")
    chosen(test, "start", "kaiming")
    assert precision() == "bfloat16"


def test_launch_says_which_device_and_why(store: Store) -> None:
    assert "a worker is just looking" in text(app())
    store.tell_devices({"cpu": "A processor"})
    assert "It will train on A processor (cpu): there is no GPU here." in text(app())
    store.tell_devices({"cuda:0": "A card", "cpu": "A processor"})
    test = app()
    assert "It will train on A card (cuda:0): the first GPU here." in text(test)
    chosen(test, "device", "cpu")
    assert "It will train on A processor (cpu): chosen by you." in text(test)


def test_watch_says_which_device_and_why(store: Store) -> None:
    claim = stories.written(store, stories.FIRST)
    assert "Trains on A processor (cpu, 2 threads): there is no GPU here." in watched(store, claim.run)
    claim.finish("stopped")
    assert "Trained on A processor (cpu, 2 threads): there is no GPU here." in watched(store, claim.run)
    store.tell_devices({"cuda:0": "A card", "cpu": "A processor"})
    assert "(cpu, 2 threads): the first that was free." in watched(store, claim.run)
    store._change(claim.run, device="cpu")
    assert "(cpu, 2 threads): chosen by you." in watched(store, claim.run)


def test_a_run_that_is_run_again_keeps_its_precision(store: Store) -> None:
    store.tell_devices({"cuda:0": "A card", "cpu": "A processor"})
    test = app(run=store.submit(tiny()).run)
    test.button(key="method/joint").click().run()
    assert parse(test.session_state["draft"]).training.precision == "float32"


def test_a_setting_that_cannot_be_is_one_sentence_and_no_start() -> None:
    test = app()
    (name,) = [box for box in test.text_input if box.value == "digits"]
    name.input("digits:0-77").run()
    assert not test.exception
    assert "classes 0 to 9" in test.error[0].value
    (start,) = [b for b in test.button if b.label.startswith("Start")]
    assert start.disabled


def test_a_full_set_says_what_it_costs_and_downloads_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("a page downloads"))
    test = app()
    assert "Download, 170 MB" in test.button(key="add/cifar10").label
    test.button(key="add/cifar10").click().run()
    assert not test.exception and not test.error
    assert "Its pictures appear after the first run" in text(test)
    (store.cache / "pictures").mkdir()
    kept = tasks._pictures(tasks._SOURCES["cifar10"], "samples", store.cache)
    np.savez(kept, train=np.zeros((10, 5, 32, 32, 3), np.uint8))
    assert "Its pictures appear" not in text(test.run())


def test_jobs_that_do_not_fit_in_a_row_go_into_the_next() -> None:
    test = app()
    for name in ("faces", "hotdogs", "swatters"):
        test.button(key=f"add/{name}").click().run()
    assert not test.exception
    assert "6. Fly swatters" in text(test)
    test.button(key="left5").click().run()
    assert test.session_state["draft"]["tasks"][4] == {"name": "swatters"}


def test_the_same_task_twice_is_a_warning() -> None:
    test = app()
    test.button(key="add/digits").click().run()
    assert "more than once" in test.warning[0].value


def test_a_run_that_is_there_is_opened(store: Store) -> None:
    stories.written(store, stories.COMPLETE, presets.preset("story")).finish("complete")
    test = app()
    (start,) = [b for b in test.button if b.label.startswith("Start")]
    start.click().run()
    assert not test.exception
    assert len(store.records()) == 1
    assert "already" in text(test)


@pytest.mark.parametrize("preset", presets.PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_the_command_line_shown_makes_the_same_configuration(
    preset: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = presets.preset_data(preset, method)
    data["training"]["weight_decay"] = 0.25
    data["tasks"].append({"name": "fashion:0-2", "images_per_class": 7})
    data["backbone"]["norm"] = "affine_per_task"
    data["seed"] = 9
    words = shlex.split(config_form.command_line(data, preset))
    assert words[:4] == ["python", "-m", "labcore", "run"]
    assert cli.read_config(cli._parser().parse_args(words[3:])) == parse(data)


def test_a_run_can_be_run_again_with_changes(store: Store) -> None:
    run = store.submit(tiny("joint", seed=7)).run
    test = app(run=run)
    assert parse(test.session_state["draft"]) == tiny("joint", seed=7)
    shown = next(block.value for block in test.code if block.value.startswith("python"))
    assert cli.read_config(cli._parser().parse_args(shlex.split(shown)[3:])) == tiny("joint", seed=7)
    assert "run" not in test.query_params


def test_watch_without_runs_says_what_to_do() -> None:
    assert "Nothing to watch yet" in text(app("watch"))


@pytest.mark.parametrize("run", ["nope", "../../etc/passwd", "<script>"])
def test_watch_of_no_run_says_so(run: str, store: Store) -> None:
    store.submit(tiny())
    assert "There is no run" in text(app("watch", run=run))


def watched(store: Store, run: str) -> str:
    test = app("watch", run=run)
    return text(test)


def test_watch_queued(store: Store) -> None:
    assert "waits for the worker" in watched(store, store.submit(tiny()).run)


def test_watch_running_and_stopping(store: Store) -> None:
    claim = stories.written(store, stories.FIRST[:6])
    shown = watched(store, claim.run)
    assert "stage 1 of 2" in shown
    assert "26 %" in shown
    assert "left, estimated" in shown
    test = app("watch", run=claim.run)
    button(test, "Stop").click().run()  # type: ignore[attr-defined]
    assert claim.stop_requested()
    assert "stopping" in text(test)


def test_watch_shows_a_download(store: Store) -> None:
    claim = stories.written(store, [Downloading(file="net<b>.pth", done=40, total=100)])
    shown = watched(store, claim.run)
    assert "downloading net&lt;b&gt;.pth, 40 %" in shown
    claim.append(stories.opened())
    assert "loading pictures" in watched(store, claim.run)


def test_watch_lost_offers_resume(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = stories.written(store, stories.FIRST)
    store._change(claim.run, owner=Process(pid=2**22 + 5, created=1.0))
    claim.release()
    test = app("watch", run=claim.run)
    assert "worker is gone" in text(test)
    button(test, "Resume").click().run()  # type: ignore[attr-defined]
    assert store.record(claim.run).state == "queued"


def asked_workers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices that pages want workers for, as they ask. `auto` is left out: a timer asks for it in every test."""
    devices: list[str] = []
    monkeypatch.setattr(
        "labcore.worker.ensure", lambda store, device="auto": None if device == "auto" else devices.append(device)
    )
    return devices


def test_a_run_gets_a_worker_of_its_own_device(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.tell_worker("cuda:0", None)
    run = store.submit(tiny(), device="cpu").run
    devices = asked_workers(monkeypatch)
    assert "No worker yet" in watched(store, run) and set(devices) == {"cpu"}
    store.request_stop(run)
    devices.clear()
    button(app("watch", run=run), "Resume").click().run()  # type: ignore[attr-defined]
    assert set(devices) == {"cpu"}
    store.tell_worker("cpu", None)
    devices.clear()
    assert "Worker on cpu: ready" in watched(store, run) and not devices


def test_what_is_trained_again_is_so_on_its_device(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(store, tiny(), device="cpu")
    StageCache(store).empty()
    devices = asked_workers(monkeypatch)
    button(app("watch", run=run), "Train it again").click().run()  # type: ignore[attr-defined]
    assert devices and set(devices) == {"cpu"}


def test_launch_has_the_speed_measured_on_the_device_that_is_chosen(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = asked_workers(monkeypatch)
    app()
    assert not devices  # nobody knows yet what is here; the first worker comes by itself
    store.tell_devices({"cuda:0": "A card", "cpu": "A processor"})
    store.tell_worker("cuda:0", None)
    test = app()
    devices.clear()
    (device,) = [box for box in test.selectbox if "device" in box.label]
    device.select("cpu").run()
    assert set(devices) == {"cpu"}


def test_runs_that_the_address_names_are_offered_however_old(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pages.parts.runs.MOST_OFFERED", 1)
    oldest, _, mine = (
        stories.written(store, stories.COMPLETE, tiny(seed=seed)).finish("complete").run for seed in range(3)
    )
    test = app("watch", run=mine, **{"with": oldest})
    assert test.multiselect[0].value == [oldest] and len(test.multiselect[0].options) == 2
    test = app("inside", run=mine, beside=oldest)
    assert test.selectbox(key="inside-beside").value == oldest


@pytest.mark.parametrize(("page", "name"), [("watch", "with"), ("inside", "beside")])
def test_a_page_ticks_while_any_run_that_it_shows_does(
    page: str, name: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = stories.written(store, stories.COMPLETE).finish("complete").run
    other = stories.written(store, stories.FIRST, tiny(seed=1))
    test = app(page, run=mine, **{name: other.run})
    fragment, ticks = st.fragment, []

    def noted(*args: Any, run_every: float | None = None) -> Any:
        ticks.append(run_every)
        return fragment(*args, run_every=run_every)

    monkeypatch.setattr(st, "fragment", noted)
    test.run()
    assert ticks == [1]
    other.finish("stopped")
    ticks.clear()
    test.run()
    assert ticks == [None]


@pytest.mark.parametrize("page", ["watch", "inside"])
def test_a_run_that_is_deleted_in_another_tab_is_no_error_at_the_next_tick(
    page: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stories.written(store, stories.COMPLETE).finish("complete").run
    test = app(page, run=run)
    look, looks = Store.record, []

    def look_and_delete(self: Store, run: str) -> RunRecord:
        looks.append(run)
        if len(looks) == 2:  # the page has found it, and what ticks looks for it
            store.delete(run)
        return look(self, run)

    monkeypatch.setattr(Store, "record", look_and_delete)
    test.run()
    assert not test.exception, test.exception
    assert "There is no run" in text(test)


def test_watch_stopped_failed_and_complete(store: Store) -> None:
    stopped = stories.written(store, stories.FIRST)
    stopped.finish("stopped")
    assert "Nothing is lost" in watched(store, stopped.run)
    failed = stories.written(store, stories.FIRST, tiny(seed=1))
    failed.fail("At step 3 the loss became nan. Try a smaller step.")
    assert "Try a smaller step" in watched(store, failed.run)
    done = stories.written(store, stories.COMPLETE, tiny(seed=2))
    done.finish("complete")
    shown = watched(store, done.run)
    assert "it forgot 77 %" in shown
    assert "60.0 %" in shown
    assert "1.0 kB" in shown


def test_runs_without_runs_teaches() -> None:
    assert "No runs yet" in text(app("runs"))


def test_runs_shows_all(store: Store) -> None:
    stories.written(store, stories.COMPLETE).finish("complete")
    store.submit(tiny(seed=1))
    test = app("runs")
    table = test.dataframe[0].value
    assert list(table["state"]) == ["waiting", "done"]
    assert list(table["accuracy"])[1] == 60
    assert "2 runs" in text(test)


def picked(test: AppTest, line: int) -> AppTest:
    """Choose a line of the table of runs."""
    test.session_state[test.dataframe[0].key] = {"selection": {"rows": [line], "columns": [], "cells": []}}
    test.run()
    assert not test.exception, test.exception
    return test


def test_the_chosen_run_stays_the_chosen_one_when_others_come_and_go(store: Store) -> None:
    mine, other = (store.submit(tiny(method)).run for method in ("ewc", "joint"))
    test = picked(app("runs"), 1)  # the newest stands first
    newest = store.submit(tiny("lwf")).run
    test.run()
    assert len(test.dataframe[0].value) == 3
    button(test, "Cancel").click().run()  # type: ignore[attr-defined]
    states = {run: store.record(run).state for run in (mine, other, newest)}
    assert states == {mine: "stopped", other: "queued", newest: "queued"}
    store.delete(newest)
    button(test.run(), "Delete").click().run()  # type: ignore[attr-defined]
    assert f"{runs.title(store.config(mine))}: its curves" in text(test)


def test_a_small_run_is_packed_and_a_large_one_named_for_the_command_line(store: Store) -> None:
    run = stories.written(store, stories.COMPLETE).finish("complete").run
    test = picked(app("runs"), 0)
    button(test, "Pack it").click().run()  # type: ignore[attr-defined]
    assert not test.exception
    (download,) = test.get("download_button")
    assert download.proto.label.startswith("Download ")
    weights = store.stage_folder(run, 1) / "network.safetensors"
    weights.parent.mkdir(parents=True)
    with weights.open("wb") as file:
        file.truncate(120_000_000)
    test.run()
    assert not [found for found in test.button if found.label == "Pack it"]
    assert "120 MB, too much" in text(test)
    shown = next(block.value for block in test.code if "export" in block.value)
    options = cli._parser().parse_args(shlex.split(shown)[3:])
    assert (options.run, str(options.file)) == (run, f"{run}.zip")


def test_a_chosen_run_that_is_gone_leaves_none_chosen(store: Store) -> None:
    store.submit(tiny(seed=1))
    gone = store.submit(tiny(seed=2)).run
    test = picked(app("runs"), 0)
    assert not button(test, "Delete").disabled  # type: ignore[attr-defined]
    store.delete(gone)
    test.run()
    assert not test.exception
    assert button(test, "Delete").disabled  # type: ignore[attr-defined]


def test_a_store_that_cannot_be_used_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REUSE_LAB_HOME", str(tmp_path / "file" / "home"))
    test = app()
    assert "REUSE_LAB_HOME" in test.error[0].value


def trained(store: Store, config: RunConfig, **options: Any) -> str:
    run = store.submit(config, **options).run
    assert worker.run_claim(store.claim_run(run), "cpu").state == "complete"
    return run


def test_watch_says_what_was_reused(store: Store) -> None:
    trained(store, tiny(tasks=[{"name": "digits:0-3", "images_per_class": 10}]))
    run = trained(store, tiny())
    shown = watched(store, run)
    assert "of it reused" in shown
    assert "of it reused" not in watched(store, trained(store, tiny(seed=1)))
    spans = figures.accuracy_curves_info(store.fold(run)).spans
    assert [span.reused for span in spans] == [True, False]
    assert "reused" in str(figures.accuracy_curves(figures.accuracy_curves_info(store.fold(run))).layout.annotations)


def test_watch_offers_to_train_again_what_is_no_longer_stored(store: Store) -> None:
    run = trained(store, tiny())
    assert "no longer stored" not in watched(store, run)
    StageCache(store).empty()
    test = app("watch", run=run)
    assert "after stages 1, 2 are no longer stored" in text(test)
    button(test, "Train it again").click().run()  # type: ignore[attr-defined]
    assert not test.exception
    (fresh,) = [record for record in store.records() if record.state == "queued"]
    assert fresh.fresh
    assert store.config(fresh.run) == tiny()


def test_a_run_whose_weights_are_to_be_kept_keeps_them(store: Store) -> None:
    run = trained(store, tiny())
    test = app("watch", run=run)
    test.toggle(key=f"pin-{run}").set_value(True).run()
    assert store.record(run).pinned
    StageCache(store).empty()
    assert store.stages_stored(run) == [1, 2]
    test.toggle(key=f"pin-{run}").set_value(False).run()
    assert not store.record(run).pinned


def test_runs_says_what_is_stored_and_asks_before_it_empties(store: Store) -> None:
    run = trained(store, tiny())
    test = app("runs")
    assert "2 stages" in text(test)
    button(test, "Empty the stage store").click().run()  # type: ignore[attr-defined]
    assert "Curves, figures and settings stay" in text(test)
    assert store.stages_stored(run) == [1, 2]
    button(test, "Empty").click().run()  # type: ignore[attr-defined]
    assert not test.exception
    assert store.stages_stored(run) == []
    assert store.result(run).average_accuracy is not None


def test_a_fork_says_how_many_stages_are_reused(store: Store) -> None:
    run = trained(store, tiny("ewc"))
    test = app(run=run, fork="1")
    assert parse(test.session_state["draft"]) == tiny("ewc")
    assert "You go on from stage 1 (Digits 0 to 3)" in text(test)
    assert "The first 2 stages come out the same" in text(test)
    test.session_state["draft"]["method"]["strength"] = 7.0
    assert "The first stage comes out the same" in text(test.run())
    test.button(key="method/lwf").click().run()
    assert "The first stage comes out the same" in text(test)
    test.session_state["draft"]["training"]["epochs"] = 3
    assert "no stage comes out the same" in text(test.run())
    test.session_state["draft"]["training"]["epochs"] = 2
    StageCache(store).empty()
    assert "their weights are no longer stored" in text(test.run())
    button(test, "Forget that").click().run()  # type: ignore[attr-defined]
    assert "You go on from" not in text(test)


@pytest.mark.parametrize("fork", ["0", "3", "x", "", "²", "9" * 5000])
def test_a_fork_that_cannot_be_is_none(fork: str, store: Store) -> None:
    test = app(run=store.submit(tiny()).run, fork=fork)
    assert parse(test.session_state["draft"]) == tiny()
    assert "You go on from" not in text(test)


# ---- Compare --------------------------------------------------------------------------------------------------------


def measured(store: Store, *methods: str, seeds: int = 1) -> None:
    for seed in range(seeds):
        for place, method in enumerate(methods):
            config = presets.preset("quick", method).model_copy(update={"seed": seed})
            kept = 0.5 + place / 20
            stories.told(store, config, [[0.9], [kept, 0.8], [kept, 0.6, 0.85 + seed / 100]], seconds=2.0 + place)


@pytest.mark.parametrize("seeds", ["12", "0", "9", "", "x", "²"])
def test_compare_takes_no_number_of_seeds_that_it_does_not_offer(seeds: str, store: Store) -> None:
    test = app("compare", preset="quick", seeds=seeds)
    assert not test.exception
    assert test.query_params["seeds"] in ("1", ["1"])


def test_compare_without_runs_teaches_and_one_button_queues_all_eight(store: Store) -> None:
    test = app("compare")
    assert "0 of 8 runs measured" in text(test)
    assert "“bad”" in text(test)
    button(test, "Measure all eight").click().run()  # type: ignore[attr-defined]
    assert not test.exception
    assert [store.config(record.run).method.name for record in store.active()] == list(METHODS)
    assert "waiting" in text(test)
    button(test, "Stop").click().run()  # type: ignore[attr-defined]
    assert not test.exception and not store.active()


def test_the_table_fills_and_goes_on(store: Store) -> None:
    measured(store, "fine_tuning", "joint", seeds=2)
    test = app("compare", preset="quick", seeds="2")
    shown = text(test)
    assert "4 of 16 runs measured" in shown
    assert "80.5" not in shown and "82.8 ± 0.4 %" in shown
    assert "≠" in shown and "✓" in shown
    button(test, "Go on").click().run()  # type: ignore[attr-defined]
    assert len(store.active()) == 12


def test_the_table_is_measured_on_jobs_of_ones_own(store: Store) -> None:
    test = app("compare", preset="quick", tasks="hotdogs,nonsense,digits", seeds="1")
    assert test.multiselect(key="table-jobs-quick").value == ["hotdogs", "digits"]
    assert test.query_params["tasks"] == "hotdogs,digits"
    button(test, "Measure all eight").click().run()  # type: ignore[attr-defined]
    assert {tuple(store.config(record.run).task_names) for record in store.active()} == {("hotdogs", "digits")}
    assert {store.config(record.run).tasks[1].images_per_class for record in store.active()} == {68}, "the preset's"
    test.multiselect(key="table-jobs-quick").set_value([]).run()
    assert "tasks" not in test.query_params and "0 of 8 runs measured" in text(test)
    which = app("compare", view="which", preset="quick", tasks="hotdogs,digits")
    assert which.query_params["tasks"] == "hotdogs,digits"


def test_a_failed_method_is_named_and_the_others_stay(store: Store) -> None:
    measured(store, "fine_tuning")
    claim = store.claim_run(store.submit(presets.preset("quick", "ewc")).run)
    claim.fail("The loss became nan.")
    shown = text(app("compare", preset="quick", seeds="1"))
    assert "Failed, and so not counted" in shown and "The loss became nan." in shown
    assert "1 of 8 runs measured" in shown


def test_runs_of_an_earlier_version_are_marked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("labcore.configs.ENGINE_VERSION", "0")
        measured(store, "fine_tuning")
    test = app("compare", preset="quick", seeds="1")
    assert "0 of 8 runs measured" in text(test)
    assert [e.label for e in test.expander if "earlier version" in e.label]
    test = app("compare", view="runs")
    assert "earlier version" in str(test.multiselect[0].options)


def test_runs_side_by_side_fold_unfold_and_survive_deletion(store: Store) -> None:
    assert "Nothing to compare yet" in text(app("compare", view="runs"))
    measured(store, "fine_tuning", "joint", "separate_copies", seeds=2)
    test = app("compare", view="runs")
    assert "They differ in method" in text(test)
    assert len(test.multiselect[0].value) == 6
    test.toggle(key="compare-unfold").set_value(True).run()
    assert not test.exception
    gone = store.records()[0].run
    asked = ",".join(record.run for record in store.records())
    store.delete(gone)
    test = app("compare", view="runs", runs=asked)
    assert "no longer here" in test.warning[0].value
    assert len(test.multiselect[0].value) == 5


def test_which_to_use_ranks_what_was_measured(store: Store) -> None:
    assert "Nothing is measured" in text(app("compare", view="which", preset="quick"))
    measured(store, "fine_tuning", "joint")
    test = app("compare", view="which", preset="quick", change="freely", memory="any")
    assert "1. Joint training" in text(test)
    test = app("compare", view="which", preset="quick", change="not at all")
    assert "None that was measured does all of that" in text(test)


@pytest.mark.parametrize("name", ["q1", "q2", "q3", "starts", "recycle"])
def test_a_question_is_explained_asked_and_answered(store: Store, name: str) -> None:
    test = app("compare", view="ask", ask=name)
    assert "Nobody knows yet" in text(test)
    assert any("recorded, not measured here" in expander.label for expander in test.expander)
    button(test, "Find out").click().run()  # type: ignore[attr-defined]
    assert not test.exception
    experiment = questions.named(name)
    assert len(store.active()) == len(experiment.configs())
    for record in store.active():
        store.request_stop(record.run)
    for record in store.records():
        store.delete(record.run)
    for _, _, config in experiment.configs():
        stories.told(store, config, [[0.9 + config.seed / 100] * (k + 1) for k in range(len(config.tasks))])
    test = app("compare", view="ask", ask=name)
    assert [b for b in test.button if b.label == "All measured"]
    assert "Nobody knows yet" not in text(test)


def test_a_strange_address_is_no_error(store: Store) -> None:
    for query in (
        {"view": "x"},
        {"preset": "x", "seeds": "99"},
        {"view": "ask", "ask": "x"},
        {"view": "runs", "runs": "x"},
        {"view": "which", "preset": "x", "seeds": "x", "more": "-3", "memory": "x", "change": "x"},
    ):
        app("compare", **query)


def test_energy_carbon_and_what_is_kept_are_on_watch(store: Store) -> None:
    run = stories.written(store, stories.COMPLETE).finish("complete").run
    shown = watched(store, run)
    assert "≈ 0.25 Wh" in shown and "≈ 0.12 g" in shown
    assert stories.METHOD in shown and "world average" in shown
    assert "weights 1.0 kB" in shown and "heads 20 B" in shown and "during a stage: outputs 5 B" in shown
    store.change_settings(country="FRA")
    assert "≈ 0.014 g" in watched(store, run) and "France" in watched(store, run)


def test_watch_of_a_run_that_was_not_measured(store: Store) -> None:
    claim = stories.written(store, [])
    assert "It was not measured" in watched(store, claim.run)


def test_runs_counts_carbon_by_the_country_in_the_settings(store: Store) -> None:
    stories.written(store, stories.COMPLETE).finish("complete")
    test = app("runs")
    assert test.dataframe[0].value[["energy", "carbon"]].iloc[0].tolist() == pytest.approx([0.25, 0.11875])
    test.selectbox(key="country").select("FRA").run()
    assert not test.exception
    assert store.settings().country == "FRA"
    assert test.dataframe[0].value["carbon"].iloc[0] == pytest.approx(0.25 / 1000 * 56.039)
    (store.root / "settings.json").write_text("{")
    assert "defaults hold" in text(app("runs"))


# ---- explore --------------------------------------------------------------------------------------------------------


def explored(store: Store, *varied: dict[str, Any], **changes: Any) -> str:
    """An exploration around a tiny run; nobody advances it but the test."""
    data = {"base": tiny("ewc").model_dump(mode="json"), "varied": varied, "runs": 40, **changes}
    return explorations.create(store, explorations.parse_exploration(data))


STRENGTH = {"path": "method.strength", "low": 1.0, "high": 1e4, "steps": 3, "log": True}
LABELS = {"path": "method.labels", "values": ("sampled", "exact")}
EPOCHS = {"path": "training.epochs", "low": 1.0, "high": 3.0, "steps": 2}


def advanced(store: Store, name: str, times: int = 1) -> None:
    """Let a worker ask, and tell what came of it."""
    for _ in range(times):
        explorations.advance(store, Reader(store))
        findings = Reader(store).look(explorations.read(store, name).experiment())
        for number, cell in enumerate(findings.cells):
            if cell.state == "queued":
                stories.told(store, cell.config, [[0.9], [0.4 + number / 50, 0.8]])


def test_explore_teaches_and_one_button_begins(store: Store) -> None:
    test = app("explore")
    assert "Every method has knobs" in text(test) and "5 runs" in text(test)
    button(test, "How much should a job give back?").click().run()
    assert test.query_params["vary"] == "method.prune_ratio~0.3~0.9~4"
    assert test.selectbox[0].value == "packnet"
    button(test, "Explore").click().run()
    assert not test.exception
    (name,) = explorations.names(store)
    assert test.query_params["exploration"] in (name, [name])
    record = explorations.read(store, name)
    assert record.going and record.exploration.varied[0].steps == 4
    assert "0 of 4 runs" in " ".join(element.proto.body for element in test.get("html"))


@pytest.mark.parametrize(
    ("vary", "sentence"),
    [
        ("method.temperature", "method.temperature is not a setting of ewc"),
        ("method.strength~0~10~3~log", "cannot pass zero"),
        ("method.strength~10~1~3", "empty range"),
        ("method.strength~1~10~30", "These are 30 runs, and the budget is 20"),
        ("method.strength~x", "it must be like method.strength~1~100~5~log"),
        ("method.labels~loud", "what is tried is empty"),
    ],
)
def test_explore_tells_what_cannot_be_in_one_sentence(vary: str, sentence: str, store: Store) -> None:
    test = app("explore", preset="quick", method="ewc", vary=vary)
    assert sentence in text(test)
    begin = button(test, "Explore")
    assert begin.disabled or "not a setting" in sentence or "must be like" in sentence  # it goes on with a default


def test_explore_asks_where_there_are_more_combinations_than_the_budget(store: Store) -> None:
    test = app("explore", preset="quick", method="ewc", vary="method.strength~1~10~30")
    button(test, "Allow 30 runs").click().run()
    assert "budget is" not in text(test) and not button(test, "Explore").disabled


def test_explore_keeps_the_budget_in_its_address(store: Store) -> None:
    test = app("explore", preset="quick", method="ewc", vary="method.strength~1~10~3")  # of before budgets were kept
    assert [test.query_params[name] for name in ("sampler", "seeds", "budget", "runs")] == ["grid", "1", "runs", "20"]
    asked = {"sampler": "random", "seeds": "2", "budget": "minutes", "minutes": "2.5"}
    test = app("explore", preset="quick", method="ewc", vary="method.strength~1~10~3", **asked)
    assert not test.error and {name: test.query_params[name] for name in asked} == asked
    button(test, "Explore").click().run()
    exploration = explorations.read(store, explorations.names(store)[0]).exploration
    assert (exploration.sampler, exploration.seeds) == ("random", 2)
    assert (exploration.runs, exploration.minutes) == (None, 2.5)
    both = {**asked, "budget": "both", "runs": "8"}
    test = app("explore", preset="quick", method="ewc", vary="method.strength~1~10~3", **both)
    button(test, "Explore").click().run()
    budgets = {explorations.read(store, name).exploration.budget for name in explorations.names(store)}
    assert budgets == {"2.5 minutes", "8 runs or 2.5 minutes"}


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"runs": "0"}, "runs is '0'; it must be a number from 1 to 1000."),
        ({"runs": "-2"}, "runs is '-2'"),
        ({"runs": "2.5"}, "runs is '2.5'"),
        ({"seeds": "many"}, "seeds is 'many'; it must be a number from 1 to 5."),
        ({"budget": "minutes", "minutes": "0"}, "minutes is '0'; it must be a number from 0.5 to 100000."),
        ({"budget": "minutes", "minutes": "-1"}, "minutes is '-1'"),
        ({"budget": "minutes", "minutes": "nan"}, "minutes is 'nan'"),
        ({"budget": "both", "minutes": "inf"}, "minutes is 'inf'"),
        ({"budget": "neither"}, None),
        ({"sampler": "luck"}, None),
    ],
)
def test_explore_goes_on_with_what_it_knows_where_an_address_is_wrong(
    asked: dict[str, str], sentence: str | None, store: Store
) -> None:
    test = app("explore", preset="quick", method="ewc", vary="method.strength~1~10~3", **asked)
    assert [error.value.startswith(sentence) for error in test.error if sentence] == [True] * bool(sentence)
    assert not button(test, "Explore").disabled


def speed_known(store: Store, others: float = 0.0) -> None:
    """As if the small network's speed had been measured: a run of the quick preset takes some seconds."""
    measured = {"step_ms": 1.0, "image_ms": 1.0, "head_step_ms": 0.1, "forward_ms": 0.2, "single_ms": 1.0}
    sizes = {"image_size": 28, "activation_bytes": 1000, "features": 64, "weights": 93_472}
    estimates.keep(store, estimates.Speed(device="cpu", backbone="small_cnn", others=others, **sizes, **measured))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "^30 runs, ≈ .* min, estimated; less"),
        ({"budget": "minutes", "minutes": "0.5"}, r"^≈ \d+ of 30 combinations in 0.5 min, estimated; more"),
        ({"budget": "minutes", "minutes": "900"}, "^30 runs, ≈ .* min, estimated; less"),
        ({"budget": "minutes", "minutes": "0.5", "sampler": "random"}, r"^≈ \d+ runs in 0.5 min, estimated; more"),
        ({"budget": "both", "minutes": "0.5", "sampler": "tpe"}, r"^≈ \d+ of 30 runs in 0.5 min, estimated; more"),
    ],
)
def test_explore_tells_what_a_budget_comes_to(asked: dict[str, str], words: str, store: Store) -> None:
    speed_known(store)
    test = app("explore", preset="quick", method="ewc", vary="method.strength~1~10~30", runs="30", **asked)
    assert [caption.value for caption in test.caption if re.search(words, caption.value)]


def test_explore_says_when_other_programs_were_busy_as_launch_and_compare_do(store: Store) -> None:
    speed_known(store, others=0.9)
    busy = "estimated while other programs were busy"
    assert f"{busy}; less" in text(app("explore", preset="quick", method="ewc"))
    assert f"{busy}; more" in text(app("explore", preset="quick", method="ewc", budget="minutes", minutes="0.5"))
    assert f"{busy}; less" in text(app("compare", preset="quick"))
    test = app()
    (network,) = [box for box in test.selectbox if "backbone" in box.label]
    network.select("small_cnn").run()
    assert busy in text(test)
    (store.cache / "speeds" / "cpu_small_cnn_28.json").unlink()
    speed_known(store)
    assert "estimated; less" in text(app("explore", preset="quick", method="ewc"))


@pytest.mark.parametrize(("sampler", "words"), [("grid", "30 runs; the"), ("random", "10 minutes; the")])
def test_explore_tells_the_budget_before_the_speed_is_known(sampler: str, words: str, store: Store) -> None:
    vary = "method.strength~1~10~30"
    test = app("explore", preset="quick", method="ewc", vary=vary, sampler=sampler, budget="minutes")
    assert f"{words} speed here is being measured" in text(test)


def test_explore_around_a_run(store: Store) -> None:
    run = stories.told(store, tiny("lwf"), [[0.9], [0.5, 0.8]])
    test = app("explore", run=run)
    assert "All else as in" in text(test)
    button(test, "Explore").click().run()
    exploration = explorations.read(store, explorations.names(store)[0]).exploration
    assert exploration.base == tiny("lwf") and list(exploration.paths) == ["method.strength"]


@pytest.mark.parametrize("varied", [(STRENGTH,), (STRENGTH, LABELS), (STRENGTH, LABELS, EPOCHS)])
def test_explore_live_stopped_and_done(varied: tuple[dict[str, Any], ...], store: Store) -> None:
    name = explored(store, *varied)
    total = explorations.read(store, name).exploration.combinations
    test = app("explore", exploration=name)
    assert button(test, "Use the best").disabled and "first point appears" in text(test)
    advanced(store, name)
    test = app("explore", exploration=name)
    assert "The best on validation images is" in text(test) and not button(test, "Use the best").disabled
    button(test, "Stop").click().run()
    assert explorations.read(store, name).state == "stopped"
    button(test, "Go on").click().run()
    assert explorations.read(store, name).going
    advanced(store, name, total)
    test = app("explore", exploration=name)
    assert explorations.read(store, name).state == "complete" and button(test, "All tried").disabled
    assert len(test.dataframe[0].value) == total
    if len(varied) > 1:
        assert "Which setting matters?" in text(test)
    best = test.dataframe[0].value.sort_values("all jobs", ascending=False).iloc[0]
    button(test, "Use the best").click().run()
    assert test.session_state["draft"]["method"]["strength"] == best["strength"]


def test_explore_by_chance_goes_on_with_a_larger_budget(store: Store) -> None:
    name = explored(store, STRENGTH, sampler="random", runs=2)
    advanced(store, name, 3)
    test = app("explore", exploration=name)
    assert "The budget of 2 runs is used" in " ".join(element.proto.body for element in test.get("html"))
    button(test, "Try more").click().run()
    record = explorations.read(store, name)
    assert record.going and record.exploration.runs == 4


def test_explore_out_of_minutes_goes_on_with_twice_as_many(store: Store) -> None:
    name = explored(store, STRENGTH, minutes=0.01)
    advanced(store, name, 2)
    assert explorations.read(store, name).ended == "The budget of 0.01 minutes is used."
    test = app("explore", exploration=name)
    button(test, "Try more").click().run()
    record = explorations.read(store, name)
    assert record.going and record.exploration.minutes == 0.02


def test_explore_in_minutes_alone_tells_time_rather_than_runs(store: Store) -> None:
    name = explored(store, STRENGTH, sampler="random", runs=None, minutes=0.1)  # a run of these is told to take 3 s
    test = app("explore", exploration=name)
    shown = text(test)
    assert "at most 0.1 minutes" in shown and "0 runs · 0.0 s of 0.1 min used · at most 6.0 s left" in shown
    advanced(store, name)
    seen = exploring.follow(name)
    assert exploring.share_used(seen, {}) == pytest.approx(seen.spent / 6) and seen.total is None
    advanced(store, name, 3)
    test = app("explore", exploration=name)
    assert "The budget of 0.1 minutes is used" in text(test)
    button(test, "Try more").click().run()
    record = explorations.read(store, name)
    assert record.going and (record.exploration.runs, record.exploration.minutes) == (None, 0.2)


def test_explore_of_as_many_runs_as_can_be_offers_no_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorations, "MOST_RUNS", 2)
    name = explored(store, STRENGTH, sampler="random", runs=None, minutes=100.0)
    advanced(store, name, 3)
    test = app("explore", exploration=name)
    assert "2 runs were tried, as many as can be" in text(test) and button(test, "Try more").disabled


def test_another_method_on_explore_has_ranges_of_its_own(store: Store) -> None:
    test = app("explore", preset="quick", method="ewc", vary="method.strength~10~100000~5~log")
    test.selectbox[0].set_value("lwf").run()
    assert not test.error and test.query_params["vary"] in (
        "method.strength~0.01~100~5~log",
        ["method.strength~0.01~100~5~log"],
    )


def test_explore_shows_what_it_has_when_runs_go(store: Store) -> None:
    name = explored(store, STRENGTH)
    advanced(store, name, 4)
    store.delete(store.records()[0].run)
    test = app("explore", exploration=name)
    assert "not here" in {word for words in test.dataframe[0].value["state"] for word in words}
    assert not button(test, "Go on").disabled


@pytest.mark.parametrize("name", ["../runs", "nope", "20260101-000000-abcd"])
def test_explore_of_none_says_so(name: str, store: Store) -> None:
    assert "There is no exploration" in text(app("explore", exploration=name))


def test_explorations_are_listed_and_forgotten(store: Store) -> None:
    name = explored(store, STRENGTH)
    advanced(store, name, 4)
    assert "Elastic weights (EWC): strength · 3 combinations" in str(
        [link.proto.label for link in app("explore").get("page_link")]
    )
    test = app("explore", exploration=name)
    button(test, "Forget it").click().run()
    button(test, "Forget").click().run()
    assert explorations.names(store) == [] and len(store.records()) == 3
