"""Pages of a store that is damaged, full, or for reading alone: each draws, and says what is the matter."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from labcore.runs.store import Store
from tests import kept
from tests.conftest import tiny
from tests.disks import fill, for_reading_alone, mounted
from tests.test_pages.conftest import app, button, listed, picked, text

PAGES = [path.stem for path in sorted((Path(__file__).parent.parent.parent / "pages").glob("*.py"))]


@pytest.fixture
def full(store: Store) -> Store:
    """A store with a run that was trained, with its maps, one that was stopped, and one that waits."""
    kept.trained(store, tiny())
    stopped = store.submit(tiny("ewc")).run
    store.request_stop(stopped)
    store.submit(tiny("lwf"))
    return store


def done(store: Store) -> str:
    """The run that was trained."""
    return next(record.run for record in store.records() if record.state == "complete")


def plain(test: AppTest) -> str:
    """What a page says, without the marks that keep words of the outside from being read as Markdown."""
    return re.sub(r"\\(?=\W)", "", text(test))


# ---- a disk for reading alone, a full one ---------------------------------------------------------------------------


@pytest.fixture
def read_only(full: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    full.close()
    with mounted(tmp_path / "disk", 24) as disk:
        shutil.copytree(full.root, disk / "home")
        for_reading_alone(disk)
        monkeypatch.setenv("REUSE_LAB_HOME", str(disk / "home"))
        yield Store(disk / "home")


@pytest.fixture
def no_room(full: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    full.close()
    with mounted(tmp_path / "disk", 24) as disk:
        shutil.copytree(full.root, disk / "home")
        (disk / "home" / "reserve").unlink()
        fill(disk)
        monkeypatch.setenv("REUSE_LAB_HOME", str(disk / "home"))
        yield Store(disk / "home")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_a_store_for_reading_alone_draws_and_says_so(page: str, read_only: Store) -> None:
    test = app(page, run=done(read_only))
    assert "cannot be written (Read-only file system); it can be looked at and exported." in plain(test)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_a_store_on_a_full_disk_draws_and_says_so(page: str, no_room: Store) -> None:
    test = app(page, run=done(no_room))
    assert "cannot be written (No space left on device); it can be looked at and exported." in plain(test)


def press(label: str) -> Callable[[AppTest], AppTest]:
    """Press the button of this name."""
    return lambda test: button(test, label).click().run()


def keep_weights(test: AppTest) -> AppTest:
    """Choose that the shown run's weights stay."""
    (toggle,) = [found for found in test.toggle if str(found.key).startswith("pin-")]
    return toggle.set_value(True).run()


def take_country(test: AppTest) -> AppTest:
    """Choose whose electricity is counted by."""
    return test.selectbox(key="country").select("FRA").run()


@pytest.mark.parametrize(
    ("page", "address", "act"),
    [
        ("launch", {}, press("Start: Fine-tuning on digits, clothes, hand fans")),
        ("watch", {}, keep_weights),
        ("compare", {}, press("Measure all eight")),
        ("explore", {}, press("Explore")),
        ("runs", {}, take_country),
    ],
    ids=["launch", "watch", "compare", "explore", "runs"],
)
@pytest.mark.parametrize("disk", ["read_only", "no_room"])
def test_what_cannot_be_done_for_want_of_writing_is_refused_in_a_sentence(
    disk: str, page: str, address: dict[str, str], act: Callable[[AppTest], AppTest], request: pytest.FixtureRequest
) -> None:
    store = request.getfixturevalue(disk)
    run = {"run": done(store)} if page == "watch" else {}
    before = [record.model_dump() for record in store.records()], store.settings()
    test = act(app(page, **address, **run))
    assert not test.exception, test.exception
    why = {"read_only": "Read-only file system", "no_room": "No space left on device"}[disk]
    assert [told for told in test.error if why in told.value]
    assert ([record.model_dump() for record in store.records()], store.settings()) == before


# ---- damage ---------------------------------------------------------------------------------------------------------


def flip(path: Path, before: bytes, after: bytes) -> None:
    """Put other bytes in a place of a file, as a disk may."""
    data = path.read_bytes()
    assert len(before) == len(after) and before in data
    path.write_bytes(data.replace(before, after, 1))


def records(store: Store) -> None:
    (store.root / "records" / "cache.db").write_bytes(b"not a database, not at all" * 100)


def settings(store: Store) -> None:
    (store.root / "settings.json").write_text("{")


def another_setting(store: Store) -> None:
    flip(store.folder(done(store)) / "config.json", b'"learning_rate": 0.002', b'"learning_rate": 0.003')


def no_setting(store: Store) -> None:
    (store.folder(done(store)) / "config.json").write_text("{")


def another_figure(store: Store) -> None:
    flip(store.folder(done(store)) / "events.jsonl", b'"images_seen":0', b'"images_seen":1')


def no_event(store: Store) -> None:
    flip(store.folder(done(store)) / "events.jsonl", b'"event":"stage_started"', b'"event";"stage_started"')


def maps(store: Store) -> None:
    for path in store.folder(done(store)).glob("maps/*/*.npz"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


UNREADABLE = {"watch": "This run cannot be read: ", "inside": "This run cannot be read: ", "runs": "are left out, as"}
EVENTS = {"watch": "is damaged: ", "inside": "is damaged: "}
DAMAGE: dict[Callable[[Store], None], dict[str, str]] = {
    records: dict.fromkeys(PAGES, "The records were damaged ("),
    settings: dict.fromkeys(PAGES, "settings.json cannot be used ("),
    another_setting: UNREADABLE,
    no_setting: UNREADABLE,
    another_figure: EVENTS,
    no_event: EVENTS,
    maps: {},
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("damage", DAMAGE, ids=[damage.__name__ for damage in DAMAGE])
def test_a_page_of_a_damaged_store_draws_and_says_what_of_it_is_damaged(
    damage: Callable[[Store], None], page: str, full: Store
) -> None:
    run = done(full)
    full.close()
    damage(full)
    assert DAMAGE[damage].get(page, "") in plain(app(page, run=run))
    for view in ("runs", "which") if page == "compare" else ():
        app(page, run=run, view=view)


def test_settings_that_are_damaged_once_they_were_shown_are_said(full: Store) -> None:
    test = app("runs")
    test = picked(test, [line["state"] for line in listed(test)].index("done"))
    another_setting(full)
    button(test, "Delete").click().run()
    assert not test.exception, test.exception
    assert "config.json is not what was written" in test.error[0].value
