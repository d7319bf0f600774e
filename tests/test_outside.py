"""A stranger's words on every page, in a real browser: nothing is fetched from anywhere but the lab."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from playwright import sync_api

from labcore.configs.reading import parse_json
from labcore.runs import archive
from labcore.runs.events import from_line
from labcore.runs.results import fold
from labcore.runs.store import Store
from labcore.training import worker
from tests.browser import CHROMIUM, launched, opened, serving
from tests.conftest import tiny
from tests.test_archive import changed, zipped

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium (Debian package chromium)")

PICTURE = "![t](http://tracker.example/p.png)"
WORDS = (
    f"{PICTURE} <img src='http://tracker.example/i.png'> [a](http://tracker.example) $x$ **b** http://tracker.example"
)
DRAWN = "[data-testid=stApp][data-test-script-state=notRunning]"
PAGES = ["", "watch", "inside", "compare", "explore", "runs"]


def spoilt(members: dict[str, bytes]) -> None:
    """Let an export say the stranger's words wherever an event has words."""
    events = [json.loads(line) for line in members["events.jsonl"].splitlines()]
    for event in events:
        match event["event"]:
            case "run_started":
                event["device_name"] = event["energy_method"] = WORDS
                for facts in event["tasks"]:
                    facts["title"], facts["classes"] = WORDS, [WORDS, *facts["classes"][1:]]
            case "step_logged":
                event["loss"] = {WORDS: 1.0, **event["loss"]}
            case "footprint_measured":
                event["kept"][WORDS] = event["working"][WORDS] = 1000
            case "run_ended":
                event |= {"state": "failed", "error": WORDS}
    events.insert(-1, {"event": "warned", "stage": 1, "text": WORDS, "step": events[-1]["step"]})
    members["events.jsonl"] = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    members["result.json"] = result_of(members)


def by_a_strange_method(members: dict[str, bytes]) -> None:
    """Let an export be of a method that is not installed here, whose name and settings are the stranger's words."""
    strange = {"name": WORDS, WORDS: WORDS}
    members["config.json"] = json.dumps(json.loads(members["config.json"]) | {"method": strange}).encode()
    events = [json.loads(line) for line in members["events.jsonl"].splitlines()]
    for event in events:
        if event["event"] == "run_started":
            event["config"]["method"] = strange
    members["events.jsonl"] = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    members["result.json"] = result_of(members)


def result_of(members: dict[str, bytes]) -> bytes:
    """The result that the events of an export fold to."""
    config = parse_json(members["config.json"], stored=True)
    folded = fold(map(from_line, members["events.jsonl"].splitlines()))
    run = json.loads(members["result.json"])["run"]
    return folded.result(run, "failed", config.model_dump(mode="json")).model_dump_json().encode()


@pytest.fixture
def page() -> Iterator[sync_api.Page]:
    with launched() as browser, opened(browser, strict=True) as found:
        yield found


def test_no_page_asks_anybody_but_the_lab_whatever_words_it_shows(
    page: sync_api.Page, home: Path, tmp_path: Path
) -> None:
    elsewhere = Store(tmp_path / "elsewhere")
    run = elsewhere.submit(tiny("ewc")).run
    worker.run_claim(elsewhere.claim_run(run), "cpu")
    archive.export_run(elsewhere, run, tmp_path / "run.zip")
    store = Store(home)
    assert archive.import_run(store, changed(tmp_path / "run.zip", spoilt)) == run
    other = archive.import_run(store, changed(tmp_path / "changed.zip", by_a_strange_method))

    asked: list[str] = []
    refused: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    page.on("console", lambda said: refused.append(said.text) if "Content Security Policy" in said.text else None)
    with serving("app.py", home) as address:

        def settled() -> None:
            page.locator(DRAWN).wait_for()
            page.wait_for_timeout(300)  # for what a browser fetches of what was drawn just now

        for name in PAGES:
            page.goto(f"{address}/{name}?run={run}&with={other}")
            settled()
            assert not page.get_by_text("Traceback").count()
        page.goto(f"{address}/watch?run={other}&with={run}")
        settled()
        page.goto(f"{address}/watch?run={run}")
        page.get_by_text("tracker.example/p.png").first.wait_for()  # drawn as it was written, letter by letter
        page.locator(".js-plotly-plot .annotation-text").first.wait_for()
        assert page.locator(".js-plotly-plot a, .js-plotly-plot img").count() == 0
        plot = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
        assert plot is not None
        page.mouse.move(plot["x"] + plot["width"] / 2, plot["y"] + plot["height"] / 2)
        settled()
        for name in ("watch", "inside", "explore", "compare"):
            words = quote(WORDS)
            page.goto(f"{address}/{name}?run={words}&exploration={words}&with={words}&show={words}&strength={words}")
            settled()
        page.goto(f"{address}/runs")
        settled()
        hostile = tmp_path / "hostile.zip"
        page.get_by_role("button", name="Import").click()
        page.locator("input[type=file]").set_input_files(str(zipped(hostile, [(PICTURE, b"")])))
        page.get_by_text("which none of this lab does").wait_for()
        settled()
    lab = urlsplit(address).netloc
    foreign = [url for url in asked if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != lab]
    assert foreign == [] and len(asked) > 50
    assert refused == []  # the policy is the second wall: nothing came so far, and of the lab's own it refuses nothing
