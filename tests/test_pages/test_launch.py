"""Launch in every state."""

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import ButtonGroup

from labcore.cli import configuring
from labcore.cli import main as cli
from labcore.configs import presets
from labcore.configs.reading import parse
from labcore.configs.registry import METHODS
from labcore.runs.stage_cache import StageCache
from labcore.runs.store import Store
from labcore.studies import estimates
from labcore.tasks import catalogue, pictures
from labcore.version import ENGINE_VERSION
from pages.parts import config_form, lab, markup
from tests import stories
from tests.conftest import tiny
from tests.test_pages.conftest import APP, app, asked_workers, button, text, trained


def test_the_first_start_teaches_and_one_button_starts_the_story(store: Store) -> None:
    test = app()
    assert "what it still knows of the old jobs" in text(test)
    assert "Digits" in text(test)
    button(test, "Start: Fine-tuning on digits, clothes, hand fans").click().run()
    (record,) = store.records()
    assert record.state == "queued"
    assert store.config(record.run) == presets.preset("story")


def test_the_head_comes_first_and_a_worker_only_when_it_is_drawn(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("labcore.training.worker.ensure", lambda *arguments, **options: asked.append("a worker"))
    store.tell_devices({"cpu": "A processor"})
    test = AppTest.from_file(APP, default_timeout=60).run()
    assert not test.exception
    assert not test.button(key="start").disabled
    assert not test.selectbox and not asked
    test.run()
    assert len(test.selectbox) >= 3 and asked
    test.button(key="start").click().run()
    assert len(store.records()) == 1


@pytest.mark.parametrize("page", ["watch", "inside", "compare", "runs"])
def test_pages_that_one_reads_start_no_worker(page: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.tell_devices({"cpu": "A processor"})
    stories.told(store, tiny(), [[0.9], [0.4, 0.8]])
    test = app()
    monkeypatch.setattr("labcore.training.worker.ensure", lambda *arguments, **options: pytest.fail("started"))
    test.switch_page(f"pages/{page}.py").run()
    assert not test.exception


def test_a_server_goes_on_with_what_was_begun(store: Store) -> None:
    asked: list[Store] = []
    lab._go_on(store, asked.append)
    assert not asked
    store.submit(tiny())
    lab._go_on(store, asked.append)
    assert asked == [store]


def test_a_server_whose_store_went_away_is_up_all_the_same(store: Store) -> None:
    store.close()
    shutil.rmtree(store.root)
    store.root.write_text("")
    asked: list[Store] = []
    lab._go_on(store, asked.append)
    assert not asked


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


def test_launch_says_how_fast_short_numbers_are_and_offers_others_where_they_are_slower(store: Store) -> None:
    measured = {"step_ms": 1.0, "image_ms": 1.0, "head_step_ms": 0.1, "forward_ms": 0.2, "single_ms": 1.0}
    sizes = {"image_size": 64, "activation_bytes": 1000, "features": 64, "weights": 93_472, "others": 0.0}
    what = {"backbone": "efficientnet_lite0", "engine": ENGINE_VERSION}
    for device, times in (("cuda:0", 0.5), ("cpu", 8.0)):
        estimates.keep(store, estimates.Speed(device=device, bfloat16=times, **what, **measured, **sizes))
    store.tell_devices({"cuda:0": "A card", "cpu": "A processor"})
    test = app()
    assert "On this GPU steps in bfloat16 are 2 times as fast as in float32." in text(test)
    assert not any(button.label == "Use float32" for button in test.button)
    chosen(test, "device", "cpu")
    assert "bfloat16 takes" not in text(test)
    chosen(test, "precision", "bfloat16")
    assert "On this processor a step in bfloat16 takes 8 times as long as in float32." in text(test)
    button(test, "Use float32").click().run()
    assert not test.exception
    assert parse(test.session_state["draft"]).training.precision == "float32"
    assert "bfloat16 takes" not in text(test)
    chosen(test, "device", "auto")
    assert parse(test.session_state["draft"]).training.precision == "float32", "it was chosen"


def test_launch_says_which_device_and_why(store: Store) -> None:
    def said(test: AppTest) -> str:
        (box,) = [box for box in test.selectbox if "device" in box.label]
        return box.help.replace("\\", "")

    assert "a worker is just looking" in said(app())
    store.tell_devices({"cpu": "A processor"})
    assert said(app()) == "It will train on A processor (cpu): there is no GPU here."
    store.tell_devices({"cuda:0": "A card", "cpu": "A processor"})
    test = app()
    assert said(test) == "It will train on A card (cuda:0): the first GPU here."
    chosen(test, "device", "cpu")
    assert said(test) == "It will train on A processor (cpu): chosen by you."


def test_a_run_that_is_run_again_keeps_its_precision(store: Store) -> None:
    store.tell_devices({"cuda:0": "A card", "cpu": "A processor"})
    test = app(run=store.submit(tiny()).run)
    test.button(key="method/joint").click().run()
    assert parse(test.session_state["draft"]).training.precision == "float32"


def test_a_setting_that_cannot_be_is_one_sentence_and_no_start() -> None:
    test = app()
    test.session_state["draft"]["tasks"][0]["name"] = "digits:0-77"
    test.run()
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
    kept = pictures._pictures(catalogue._SOURCES["cifar10"], "samples", store.cache)
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


def preset_of(test: AppTest) -> ButtonGroup:
    (control,) = [group for group in test.button_group if group.label == "Preset"]
    return control


def test_a_removed_job_can_be_put_back_where_it_was(store: Store) -> None:
    test = app()
    before = [dict(task) for task in test.session_state["draft"]["tasks"]]
    test.button(key="remove0").click().run()
    assert "Start: Fine-tuning on clothes, hand fans" in [button.label for button in test.button]
    test.button(key="undo").click().run()
    assert test.session_state["draft"]["tasks"] == before
    for change in (lambda: test.button(key="right0").click(), lambda: preset_of(test).select("quick")):
        test.button(key="remove0").click().run()
        change().run()
        assert not test.exception and not any(button.key == "undo" for button in test.button)


def test_classes_are_picked_by_their_pictures(store: Store) -> None:
    test = app()
    boxes = [box for box in test.checkbox if str(box.key).startswith("class0/")]
    assert [box.label for box in boxes] == [str(digit) for digit in range(10)] and all(box.value for box in boxes)
    boxes[4].uncheck().run()
    assert test.session_state["draft"]["tasks"][0]["name"] == "digits:0-3+5-9"
    test.session_state["draft"]["tasks"][0]["name"] = "digits:0-1"
    test.session_state["generation"] += 1  # as whatever changes the draft does
    test.run()
    (first,) = [box for box in test.checkbox if str(box.key).startswith("class0/0/")]
    first.uncheck().run()  # one class is no job
    assert test.session_state["draft"]["tasks"][0]["name"] == "digits:0-1"
    assert [box.value for box in test.checkbox if str(box.key).startswith("class0/")] == [True] * 2 + [False] * 8


def test_the_preset_is_lit_only_while_nothing_was_changed(store: Store) -> None:
    def lit(test: AppTest) -> object:
        return preset_of(test).value

    test = app()
    assert lit(test) == "story"
    test.button(key="method/joint").click().run()
    assert lit(test) == "story"
    test.button(key="remove2").click().run()
    assert lit(test) is None
    preset_of(test).select("story").run()
    assert lit(test) == "story" and len(test.session_state["draft"]["tasks"]) == 3
    assert test.session_state["draft"]["method"]["name"] == "joint"


def test_one_start_queues_two_methods_which_watch_shows_beside_each_other(store: Store) -> None:
    test = app(preset="quick", method="ewc", beside="lwf")
    assert test.query_params["beside"] == "lwf"
    (start,) = [b for b in test.button if b.label.startswith("Start")]
    assert start.label == "Start: EWC and LwF on clothes, digits, hot dogs"
    start.click().run()
    newer, older = store.records()
    assert [store.config(record.run) for record in (older, newer)] == [
        presets.preset("quick", "ewc"),
        presets.preset("quick", "lwf"),
    ]
    assert (test.query_params["run"], test.query_params["with"]) == (older.run, newer.run)


def test_two_methods_are_estimated_together_at_one_speed_and_at_two(store: Store) -> None:
    measured = {"step_ms": 1.0, "image_ms": 1.0, "head_step_ms": 0.1, "forward_ms": 0.2, "single_ms": 1.0}
    about = {"activation_bytes": 1000, "features": 64, "weights": 93_472, "others": 0.0}
    lite0 = {"device": "cpu", "backbone": "efficientnet_lite0", "engine": ENGINE_VERSION}
    store.tell_devices({"cpu": "A processor"})
    test = app(method="ewc", beside="fine_tuning")
    assert "Measuring the speed here" in text(test)
    speed = estimates.Speed(image_size=64, **lite0, **about, **measured)
    estimates.keep(store, speed)
    assert "≈" in text(test.run()) and not test.exception
    pair = [presets.preset("story", method) for method in ("ewc", "fine_tuning")]
    alone = [estimates.estimate(config, speed).seconds for config in pair]
    assert max(alone) < estimates.together(pair, [speed, speed]).seconds < sum(alone), "the first job is trained once"


def test_what_was_changed_by_hand_is_changed_for_the_second_method_too(store: Store) -> None:
    test = app(method="ewc", beside="packnet")
    test.session_state["draft"]["backbone"]["image_size"] = 96
    test.session_state["draft"]["training"]["epochs"] = 7
    test.run()
    test.button(key="start").click().run()
    first, second = (store.config(record.run) for record in reversed(store.records()))
    assert (first.method.name, second.method.name) == ("ewc", "packnet")
    assert {(one.backbone.image_size, one.training.epochs) for one in (first, second)} == {(96, 7)}
    assert (first.backbone.norm, second.backbone.norm) == ("frozen", "affine_per_task"), "as the preset has each"


def test_a_second_method_that_cannot_train_here_says_why_and_the_first_alone_still_starts(store: Store) -> None:
    test = app(method="ewc", beside="packnet")
    test.session_state["draft"]["tasks"] += [{"name": "digits:0-1"}] * 8  # more than PackNet has room for
    test.run()
    (start,) = [b for b in test.button if b.label.startswith("Start")]
    assert start.disabled
    said = test.error[0].value
    assert "PackNet cannot learn this beside it" in said and "is full after 10 jobs" in said
    (second,) = [box for box in test.selectbox if "beside it" in box.label]
    second.select_index(0).run()  # nothing
    assert not test.error
    (start,) = [b for b in test.button if b.label.startswith("Start")]
    assert not start.disabled and "beside" not in test.query_params


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
    assert configuring.read_config(cli.parser().parse_args(words[3:])) == parse(data)


def test_a_run_can_be_run_again_with_changes(store: Store) -> None:
    run = store.submit(tiny("joint", seed=7)).run
    test = app(run=run)
    assert parse(test.session_state["draft"]) == tiny("joint", seed=7)
    shown = next(block.value for block in test.code if block.value.startswith("python"))
    assert configuring.read_config(cli.parser().parse_args(shlex.split(shown)[3:])) == tiny("joint", seed=7)
    assert "run" not in test.query_params


def test_launch_has_the_speed_measured_on_the_device_that_is_chosen(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = asked_workers(monkeypatch)
    app()
    assert not devices  # nobody knows yet what is here; the first worker comes by itself
    store.tell_devices({"cuda:0": "A card", "cpu": "A processor"})
    stories.worker_told(store, "cuda:0", None)
    test = app()
    devices.clear()
    (device,) = [box for box in test.selectbox if "device" in box.label]
    device.select("cpu").run()
    assert set(devices) == {"cpu"}


def test_a_store_that_cannot_be_used_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REUSE_LAB_HOME", str(tmp_path / "file" / "home"))
    test = app()
    assert markup.literal("REUSE_LAB_HOME") in test.error[0].value


def test_a_fork_says_how_many_stages_are_reused(store: Store) -> None:
    run = trained(store, tiny("ewc"))
    test = app(run=run, fork="1")
    assert parse(test.session_state["draft"]) == tiny("ewc")
    assert "You go on from stage 1 (Digits: 0 to 3)" in text(test)
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
    button(test, "Forget that").click().run()
    assert "You go on from" not in text(test)


@pytest.mark.parametrize("fork", ["0", "3", "x", "", "²", "9" * 5000])
def test_a_fork_that_cannot_be_is_none(fork: str, store: Store) -> None:
    test = app(run=store.submit(tiny()).run, fork=fork)
    assert parse(test.session_state["draft"]) == tiny()
    assert "You go on from" not in text(test)
