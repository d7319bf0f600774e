"""What the pages' tests share: pages as Streamlit runs them, without a browser, on a server where nobody trains."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Button

from labcore.configs.run import RunConfig
from labcore.drawings.charts import Chart
from labcore.runs.store import Store
from labcore.training import worker
from pages.parts import live_plot
from tests import kept
from tests.drawn import drawn

APP = str(Path(__file__).parent.parent.parent / "app.py")


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
    monkeypatch.setattr("labcore.training.worker.ensure", lambda *arguments, **options: None)
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


@pytest.fixture(autouse=True)
def plotly_looks_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every chart that a page sends has only properties that Plotly knows."""
    pack = live_plot.pack

    def checked(chart: Chart, *arguments: Any) -> bytes:
        drawn(chart)
        return pack(chart, *arguments)

    monkeypatch.setattr(live_plot, "pack", checked)


def app(page: str | None = None, **query: str) -> AppTest:
    """The app on a page, all of it; what Launch folds away is opened, as it is made only then."""
    test = AppTest.from_file(APP, default_timeout=60)
    test.session_state["drawn"] = True
    for folded in ("add-job", "more0", "details", "by-hand"):
        test.session_state[folded] = True
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
    others = [*test.get("html"), *test.get("bidi_component")]  # the latter are charts, with their titles
    return "\n".join(str(part.value) for part in parts) + "\n".join(str(other.proto) for other in others)


def played(test: AppTest) -> dict[str, Any]:
    """What the browser has of Inside's moments: `at`, the name of the one that is shown, `moments` and `charts`."""
    sent = [json.loads(other.proto.json) for other in test.get("bidi_component") if other.proto.json]
    (found,) = [data for data in sent if "book" in data]
    return {"at": found["at"], **json.loads(found["book"])}


def button(test: AppTest, label: str) -> Button:
    (found,) = [b for b in test.button if b.label == label]
    return found


def listed(test: AppTest) -> list[dict[str, Any]]:
    """The lines of the table of runs, as they are sent to the browser."""
    (sent,) = [json.loads(one.proto.json) for one in test.get("bidi_component") if '"lines"' in one.proto.json]
    return list(sent["lines"])


def picked(test: AppTest, *lines: int) -> AppTest:
    """Choose lines of the table of runs."""
    test.session_state["picked"] = [listed(test)[line]["run"] for line in lines]
    test.run()
    assert not test.exception, test.exception
    return test


def asked_workers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices that pages want workers for, as they ask. `auto` is left out: Launch asks for it each time."""
    devices: list[str] = []
    monkeypatch.setattr(
        "labcore.training.worker.ensure",
        lambda store, device="auto", **options: None if device == "auto" else devices.append(device),
    )
    return devices


def trained(store: Store, config: RunConfig, **options: Any) -> str:
    """A complete run; one without options is a copy of what the session has trained."""
    if not options:
        return kept.trained(store, config)
    run = store.submit(config, **options).run
    assert worker.run_claim(store.claim_run(run), "cpu").state == "complete"
    return run
