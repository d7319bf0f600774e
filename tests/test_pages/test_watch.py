"""Watch in every state; and what Inside, which follows a run too, does alike."""

import errno
import html
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from labcore.configs.base import ConfigError
from labcore.drawings import figures
from labcore.runs import answers
from labcore.runs.errors import StoreError, refused
from labcore.runs.events import Downloading, RunEnded, Waiting, Warned
from labcore.runs.records import RunRecord
from labcore.runs.stage_cache import StageCache
from labcore.runs.store import Store
from labcore.studies.forecast import forecast
from labcore.tasks import pictures
from pages.parts import markup, news
from tests import stories
from tests.conftest import tiny
from tests.drawn import drawn
from tests.test_pages.conftest import app, asked_workers, button, text, trained


def watched(store: Store, run: str) -> str:
    test = app("watch", run=run)
    return text(test)


def test_watch_without_runs_says_what_to_do() -> None:
    assert "Nothing to watch yet" in text(app("watch"))


@pytest.mark.parametrize("run", ["nope", "../../etc/passwd", "<script>"])
def test_watch_of_no_run_says_so(run: str, store: Store) -> None:
    store.submit(tiny())
    assert "There is no run" in text(app("watch", run=run))


def test_watch_queued(store: Store) -> None:
    assert "waits for the worker" in watched(store, store.submit(tiny()).run)


def test_watch_running_and_stopping(store: Store) -> None:
    claim = stories.written(store, stories.FIRST[:6])
    shown = watched(store, claim.run)
    assert "job 1 of 2" in shown
    assert f"{100 * forecast(store.fold(claim.run), None).share:.0f} %" in shown
    assert "left, estimated" in shown
    test = app("watch", run=claim.run)
    button(test, "Stop").click().run()
    assert claim.stop_requested()
    assert "stopping" in text(test)


def test_watch_shows_a_download(store: Store) -> None:
    claim = stories.written(store, [Downloading(file="net<b>.pth", done=40, total=100)])
    shown = watched(store, claim.run)
    assert "downloading net‹b›.pth, 40 %" in shown
    claim.append(stories.opened())
    assert "loading pictures" in watched(store, claim.run)


def test_a_warning_stands_on_watch_while_the_run_goes_and_after(store: Store) -> None:
    said = "The spring is stiffer than this rate can bear."
    claim = stories.written(store, [*stories.FIRST[:5], Warned(stage=1, text=said, step=5)])
    test = app("watch", run=claim.run)
    assert [warning.value for warning in test.warning] == [said]
    for event in [*stories.FIRST[5:], *stories.SECOND, RunEnded(state="complete", step=20)]:
        claim.append(event)
    claim.finish("complete")
    assert [warning.value for warning in app("watch", run=claim.run).warning] == [said]


def test_watch_lost_offers_resume(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = stories.written(store, stories.FIRST)
    claim.release()
    test = app("watch", run=claim.run)
    assert "worker is gone" in text(test)
    assert "Its worker was lost 1 time." in text(test)
    button(test, "Resume").click().run()
    assert store.record(claim.run).state == "queued"


def test_watch_says_which_device_and_why(store: Store) -> None:
    claim = stories.written(store, stories.FIRST)
    assert "Trains on A processor (cpu, 2 threads): there is no GPU here." in watched(store, claim.run)
    claim.finish("stopped")
    assert "Trained on A processor (cpu, 2 threads): there is no GPU here." in watched(store, claim.run)
    store.tell_devices({"cuda:0": "A card", "cpu": "A processor"})
    assert "(cpu, 2 threads): the first that was free." in watched(store, claim.run)
    store.change(claim.run, device="cpu")
    assert "(cpu, 2 threads): chosen by you." in watched(store, claim.run)


def test_watch_says_what_a_run_waits_for(store: Store) -> None:
    run = store.submit(tiny()).run
    assert "The worker is waking up." in watched(store, run)
    stories.worker_told(store, "cpu", "another-run", slot=1, slots=2, threads=1)
    assert "It begins when there is room beside the runs that train now." in watched(store, run)
    opened = stories.opened().model_copy(update={"threads": 1})
    claim = stories.written(store, [opened, Waiting(stage=1, time=101.0)], tiny(seed=1))
    said = watched(store, claim.run)
    assert "waiting for stage 1, which another run is learning" in said and "(cpu, 1 thread)" in said


def test_two_runs_are_watched_face_to_face_and_the_second_waits_for_the_job_that_both_learn(store: Store) -> None:
    first = stories.written(store, stories.FIRST[:6], tiny("ewc"))
    stories.worker_told(store, "cpu", first.run, slot=0, slots=2, threads=1)
    second = store.submit(tiny("fine_tuning")).run
    test = app("watch", run=first.run, **{"with": second})
    assert [head.value for head in test.subheader] == ["Elastic weights (EWC)", "Fine-tuning"]
    assert "Elastic weights (EWC) learns Digits: 0 to 3 just now in the same way, so that is done once" in text(test)
    assert {f"stop-{first.run}", f"stop-{second}"} <= {button.key for button in test.button}
    test.button(key=f"stop-{second}").click().run()
    assert store.record(second).state == "stopped" and not first.stop_requested()
    store.delete(second)
    test.run()
    assert not test.exception and [head.value for head in test.subheader] == [
        "Elastic weights (EWC) on " + ("Digits: 0 to 3 → Clothes: T-shirt to pullover")
    ]


def test_a_run_gets_a_worker_of_its_own_device(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    stories.worker_told(store, "cuda:0", None)
    run = store.submit(tiny(), device="cpu").run
    devices = asked_workers(monkeypatch)
    assert "No worker yet" in watched(store, run) and set(devices) == {"cpu"}
    store.request_stop(run)
    devices.clear()
    button(app("watch", run=run), "Resume").click().run()
    assert set(devices) == {"cpu"}
    stories.worker_told(store, "cpu", None)
    devices.clear()
    assert "Worker on cpu: ready" in watched(store, run) and not devices


def test_what_is_trained_again_is_so_on_its_device(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(store, tiny(), device="cpu")
    StageCache(store).empty()
    devices = asked_workers(monkeypatch)
    button(app("watch", run=run), "Train it again").click().run()
    assert devices and set(devices) == {"cpu"}


def test_a_run_that_would_fail_again_is_changed_another_resumed(store: Store) -> None:
    for seed, diverged, offered in ((0, True, "Change it"), (1, False, "Resume")):
        failed = stories.written(store, stories.FIRST, tiny(seed=seed))
        failed.append(RunEnded(state="failed", error="No more numbers.", diverged=diverged))
        failed.finish("failed", "No more numbers.")
        there = [item.label for item in app("watch", run=failed.run).button]
        assert [label for label in ("Change it", "Resume") if label in there] == [offered]


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
    assert "It forgot most of it." in shown
    assert "60.0 %" in shown
    assert "1.0 kB" in shown


def test_watch_says_what_was_reused(store: Store) -> None:
    trained(store, tiny(tasks=[{"name": "digits:0-3", "images_per_class": 10}]))
    run = trained(store, tiny())
    shown = watched(store, run)
    assert "of the training reused" in shown
    assert "of the training reused" not in watched(store, trained(store, tiny(seed=1)))
    info = figures.accuracy_curves_info(store.fold(run))
    assert [span.reused for span in info.spans] == [True, False]
    assert "reused" in str(drawn(figures.accuracy_curves(info)).layout.annotations)


def test_watch_offers_to_train_again_what_is_no_longer_stored(store: Store) -> None:
    run = trained(store, tiny())
    assert "no longer stored" not in watched(store, run)
    StageCache(store).empty()
    test = app("watch", run=run)
    assert "after stages 1, 2 are no longer stored" in text(test)
    button(test, "Train it again").click().run()
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


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("state", "press", "asked", "error"),
    [
        ("queued", "Stop", "request_stop", StoreError("The store is full.")),
        ("queued", "Stop", "request_stop", FULL),
        ("stopped", "Resume", "resume", FULL),
        ("stopped", "Resume", "resume", ConfigError("It has no such job.")),
        ("complete", "Keep its weights", "pin", FULL),
    ],
)
def test_a_press_that_is_refused_is_told_once_and_changes_nothing(
    state: str, press: str, asked: str, error: Exception, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = store.submit(tiny()).run if state == "queued" else trained(store, tiny())
    if state == "stopped":
        store.change(run, state="stopped")
    test = app("watch", run=run)

    def refuse(self: Store, *arguments: object) -> None:
        raise error

    monkeypatch.setattr(Store, asked, refuse)
    if press == "Keep its weights":
        test.toggle(key=f"pin-{run}").set_value(True).run()
        assert not test.toggle(key=f"pin-{run}").value
    else:
        button(test, press).click().run()
    assert not test.exception, test.exception
    (told,) = test.error
    assert told.value == markup.literal(refused(error) if isinstance(error, OSError) else error)
    assert not test.run().error


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


# ---- Watch and Inside alike -----------------------------------------------------------------------------------------


def test_runs_that_the_address_names_are_offered_however_old(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pages.parts.runs.MOST_OFFERED", 1)
    oldest, _, mine = (
        stories.written(store, stories.COMPLETE, tiny(seed=seed)).finish("complete").run for seed in range(3)
    )
    test = app("watch", run=mine, **{"with": oldest})
    assert test.multiselect[0].value == [oldest] and len(test.multiselect[0].options) == 2
    test = app("inside", run=mine, beside=oldest)
    assert test.selectbox(key="inside-beside").value == oldest


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The clocks of fragments, as pages make them."""
    fragment = st.fragment
    found: list[float | None] = []

    def ticking(*args: Any, run_every: float | None = None) -> Any:
        found.append(run_every)
        return fragment(*args, run_every=run_every)

    monkeypatch.setattr(st, "fragment", ticking)
    return found


@pytest.mark.parametrize(("page", "name"), [("watch", "with"), ("inside", "beside")])
def test_a_page_follows_any_run_at_work_that_it_shows(
    page: str, name: str, store: Store, ticks: list[float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = stories.written(store, stories.COMPLETE).finish("complete").run
    other = stories.written(store, stories.FIRST, tiny(seed=1))
    test = app(page, run=mine, **{name: other.run})
    follow = news.follow
    told: list[str] = []

    def following(names: list[str], what: news.What, seen: str) -> None:
        told.extend(names)
        follow(names, what, seen)

    def seen() -> tuple[list[float | None], list[str]]:
        ticks.clear()
        told.clear()
        test.run()
        return ticks, told

    monkeypatch.setattr(news, "follow", following)
    assert seen() == ([None], [mine, other.run])
    with monkeypatch.context() as without:
        without.setattr(news, "possible", lambda: False)
        assert seen() == ([1], [])  # by the clock
    other.finish("stopped")
    assert seen() == ([None], [])


def test_who_waits_is_watched_by_the_clock(store: Store, ticks: list[float | None]) -> None:
    """What it waits for, another run's end or a worker, is no news of its own."""
    test = app("watch", run=store.submit(tiny()).run)
    ticks.clear()
    test.run()
    assert ticks == [1]


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


def test_the_side_bar_forgets_a_run_that_was_deleted(store: Store) -> None:
    older = stories.written(store, stories.COMPLETE)
    older.finish("complete")
    newest = stories.written(store, stories.COMPLETE, tiny(seed=1))
    newest.finish("complete")
    older.release()
    test = app("watch", run=older.run)
    assert test.session_state["run-here"] == older.run
    store.delete(older.run)
    test = app("watch")
    assert not test.exception
    assert test.query_params["run"] in (newest.run, [newest.run])


def confused(run: str) -> AppTest:
    """Watch with the part open that asks what is taken for what."""
    test = app("watch", run=run)
    test.session_state[f"confused-{run}-part"] = True
    return test.run()


def test_what_a_job_is_confused_with_is_counted_and_shown_in_pictures(store: Store) -> None:
    run = trained(store, tiny())
    test = confused(run)
    assert not test.exception
    labels = pictures.load("digits:0-3", 16, cache=store.cache).test.labels.tolist()
    now = answers.confusion(store.fold(run), 1, "now", labels)
    assert now is not None
    row, column = max(
        ((row, column) for row in range(4) for column in range(4) if row != column),
        key=lambda cell: now.counts[cell[0]][cell[1]],
    )
    shown = next(part.proto.body for part in test.get("html") if "lab-mistakes" in part.proto.body)
    asked = parse_qs(urlsplit(html.unescape(shown.split('src="')[1].split('"')[0])).query)
    assert asked["job"] == ["1"]
    assert [int(place) for place in asked["test"][0].split(",")] == list(now.pictures[row][column])
    (job,) = [group for group in test.button_group if group.label == "Job"]
    job.select(2).run()
    assert not test.exception and "job=2" in text(test)


def test_a_run_without_answers_or_with_damaged_ones_says_so_in_place_of_pictures(store: Store) -> None:
    run = trained(store, tiny())
    path = store.folder(run) / "events.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    broken = [line.replace('"classes":"', '"classes":"!') if '"event":"predicted"' in line else line for line in lines]
    assert broken != lines
    path.write_text("".join(broken))
    test = confused(run)
    assert not test.exception
    assert any("damage" in warning.value for warning in test.warning)
    before = stories.written(store, stories.COMPLETE, tiny(seed=1)).finish("complete").run
    assert "kept no answers" in text(confused(before))


def test_two_tabs_watch_one_run_each_by_itself(store: Store) -> None:
    run = trained(store, tiny())
    mine, other = app("watch", run=run), app("watch", run=run)
    store.delete(run)
    for test in (mine, other):
        test.run()
        assert not test.exception and "There is no run" in text(test)
