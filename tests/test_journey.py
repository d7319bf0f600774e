"""A person's way through the lab, in a real browser, with a real server and a real worker."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright import sync_api

from labcore.drawings import strip
from labcore.runs.store import Store
from labcore.studies import explorations
from labcore.training import worker
from tests import axe, stories
from tests.browser import CHROMIUM, launched, opened, serving
from tests.conftest import tiny
from tests.waiting import PATIENCE, growth, until

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium (Debian package chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with launched() as found:
        yield found


@pytest.fixture
def page(browser: sync_api.Browser) -> Iterator[sync_api.Page]:
    with opened(browser) as found:
        yield found


@pytest.fixture
def address(home: Path) -> Iterator[str]:
    with serving("app.py", home) as found:
        yield found


def press(page: sync_api.Page, name: str, came: Callable[[], bool]) -> None:
    """Press a button until what it brings has come."""
    press_on(page, page.get_by_role("button", name=name, exact=True), came)


def press_on(page: sync_api.Page, what: sync_api.Locator, came: Callable[[], bool]) -> None:
    """Press it until what it brings has come: a page that is just being drawn anew loses a press.

    One that cannot be pressed at all is loaded again, as a person would.
    """

    def pressed() -> bool:
        try:
            what.click(timeout=30_000)
        except sync_api.TimeoutError:
            page.reload()
        with contextlib.suppress(sync_api.TimeoutError, AssertionError):
            until(came, patience=30, pause=lambda: page.wait_for_timeout(50))
        return came()

    until(pressed, patience=4 * PATIENCE)


def quick_look(page: sync_api.Page) -> None:
    """Choose the preset of that name, whose jobs are told then."""
    card = page.get_by_role("radio", name="Quick look").or_(page.get_by_role("button", name="Quick look")).first
    press_on(page, card, page.get_by_role("button", name="hot dogs").is_visible)  # Start tells the jobs
    page.get_by_text("Hot dogs").first.wait_for()


def started(page: sync_api.Page, *others: str) -> str:
    """Press Start; the run that is begun, which is none of the others."""
    start = page.get_by_role("button", name="Start:")
    press_on(page, start, lambda: "/watch?run=" in page.url and not any(other in page.url for other in others))
    return page.url.split("run=")[1].split("&")[0]


def over(page: sync_api.Page, store: Store, run: str) -> None:
    """Wait until the page says of a run that it is done: as long as the run has something new to tell."""
    until(lambda: store.record(run).state == "complete", growth(store.root))
    page.get_by_text("done", exact=True).wait_for()


CURVE = ".js-plotly-plot"
POINTS = "() => { const plot = document.querySelector('.js-plotly-plot'); return plot?.data?.[0]?.x?.length ?? 0 }"


def test_launch_watch_stop_resume_face_to_face_delete(address: str, page: sync_api.Page, home: Path) -> None:
    # A deep link is the first thing that this server is asked for; it shows the lab's own side bar all the same.
    page.goto(f"{address}/watch")
    page.get_by_text("Nothing to watch yet").wait_for()
    page.wait_for_function("document.querySelector('[data-testid=stSidebar]').offsetWidth === 200")
    page.get_by_role("link", name="Launch").click()

    page.get_by_text("what it still knows of the old jobs").wait_for()
    page.wait_for_function("window.Plotly")  # fetched before a chart asks for it
    quick_look(page)
    # The first two jobs change places.
    press_on(page, page.get_by_role("button", name="›").first, page.get_by_text("1. Digits").is_visible)
    page.get_by_text("Details: all settings").click()
    page.get_by_label("epochs (passes)", exact=True).wait_for()
    page.get_by_text("estimated").wait_for()
    run = started(page)

    page.locator(".lab-answer").first.wait_for()  # what it guesses before its first step
    page.locator(CURVE).first.wait_for()
    page.wait_for_function(f"({POINTS})() >= 2")
    before = page.evaluate(POINTS)
    page.wait_for_function(f"({POINTS})() > {before}")

    press(page, "Stop", page.get_by_text("Nothing is lost").is_visible)
    store = Store(home)
    assert store.record(run).state == "stopped"
    assert store.config(run).task_names == ["digits", "fashion:0-4", "hotdogs"]

    page.reload()
    page.get_by_text("Nothing is lost").wait_for()
    page.wait_for_function(f"({POINTS})() >= {before}")
    assert page.url.endswith(run)

    press(page, "Resume", lambda: store.record(run).state != "stopped")
    page.wait_for_function(f"({POINTS})() > {before} + 1")
    over(page, store, run)

    # A second method beside the first, by keyboard: the first is there already, the second trains, both are seen.
    page.get_by_role("link", name="Run it again with changes").press("Enter")
    page.get_by_text("You have this already").wait_for()
    second = page.get_by_role("combobox", name="beside it")
    press_on(page, second, lambda: second.get_attribute("aria-expanded") == "true")
    second.press_sequentially("Feature")
    page.keyboard.press("Enter")
    start = page.get_by_role("button", name="Start: Fine-tuning and Feature extraction")
    start.press("Enter")
    page.wait_for_url(lambda url: f"run={run}&with=" in url)
    other = page.url.split("with=")[1]
    until(lambda: store.record(other).state == "complete", growth(store.root))
    page.get_by_text("done", exact=True).nth(1).wait_for()
    heads = [head for head in page.get_by_role("heading", level=3).all_text_contents() if "?" not in head]
    assert heads[:2] == ["Fine-tuning", "Feature extraction"]
    assert [store.config(one).method.name for one in (run, other)] == ["fine_tuning", "feature_extraction"]
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length >= 4")
    page.locator(".lab-answer").nth(30).wait_for(state="attached")

    page.get_by_role("link", name="Runs").click()
    page.get_by_text("2 runs", exact=True).wait_for()
    page.get_by_role("row", name="Fine-tuning").get_by_role("cell").last.click()  # a click on a line opens its run
    page.wait_for_url(f"**/watch?run={run}")
    page.get_by_role("link", name="Runs").click()
    page.get_by_role("checkbox", name="Choose Feature extraction").check()  # the other
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_text("1 run", exact=True).wait_for()
    assert [found.run for found in store.records()] == [run] != [other]


PAGES = ("Launch", "Watch", "Inside", "Compare", "Explore", "Runs")


def test_every_page_is_for_everyone(address: str, page: sync_api.Page, home: Path) -> None:
    page.goto(address)
    found = axe.findings(page)
    for name in PAGES[1:]:
        found |= shown_to_axe(page, name)
    store = Store(home)
    run = store.submit(tiny()).run
    assert worker.run_claim(store.claim_run(run), "cpu").state == "complete"
    for name in PAGES:
        found |= shown_to_axe(page, name)
    page.get_by_role("button", name="Import").click()
    page.get_by_test_id("stFileUploaderDropzone").wait_for()
    found |= axe.findings(page)
    page.keyboard.press("Escape")
    assert found == axe.OF_STREAMLIT

    page.goto(f"{address}/watch?run={run}")
    answers_by_keyboard(page, store, run)
    numbers_by_keyboard(page, store, run)
    plays_inside(page, address, run)
    page.get_by_text("Projector", exact=True).click()
    page.wait_for_url("**projector=1**")
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("link", name="Runs").click()
    page.wait_for_url("**/runs?projector=1")
    page.get_by_text("1 run", exact=True).wait_for()
    page.reload()
    page.get_by_text("1 run", exact=True).wait_for()
    assert not page.get_by_test_id("stSidebar").is_visible()
    assert axe.findings(page) <= axe.OF_STREAMLIT
    page.goto(f"{address}/watch?run={run}&projector=1")
    page.locator(".lab-answer").first.wait_for()
    page.wait_for_function(f"({POINTS})() > 0")
    assert page.evaluate(SMALL) == []
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("button", name="Leave projector mode").click()
    page.get_by_test_id("stSidebar").get_by_role("link", name="Runs").wait_for()
    assert "projector" not in page.url


def shown_to_axe(page: sync_api.Page, name: str) -> set[str]:
    """Go to a page by the side bar; what is found there."""
    page.get_by_test_id("stSidebar").get_by_role("link", name=name, exact=True).click()
    page.wait_for_url(lambda url: ("/" + name.lower() in url) == (name != "Launch"))
    return axe.findings(page)


# Words on the page that are smaller than a projector needs, with their size in px.
SMALL = """() => [...document.querySelectorAll(".stApp *")].filter(it => it.getClientRects().length
    && !it.closest("style, script")
    && [...it.childNodes].some(child => child.nodeType === 3 && child.textContent.trim())
    && parseFloat(getComputedStyle(it).fontSize) < 17.9).map(it => it.textContent + getComputedStyle(it).fontSize)"""


def answers_by_keyboard(page: sync_api.Page, store: Store, run: str) -> None:
    """The strip shows the answers; a picture opens large, and what is forgotten is picked out."""
    (job, *_) = strip.rows(run, store.fold(run), ["the first job"])
    assert job.told is not None and job.told.now is not None
    cells = page.locator(".lab-strip-pictures").first.locator(".lab-answer")
    cells.first.wait_for()
    assert cells.count() == len(job.told.labels)
    said = [job.told.classes[guesses[0].label] for guesses in job.told.now]
    right = [guesses[0].label == label for guesses, label in zip(job.told.now, job.told.labels, strict=True)]
    found = [cell.split() for cell in cells.locator("span").all_text_contents()]
    assert found == [["✓" if good else "✗", *words.split()] for good, words in zip(right, said, strict=True)]
    source = cells.first.locator("i").evaluate("it => getComputedStyle(it).backgroundImage.slice(5, -2)")
    assert page.request.get(source).headers["content-type"] == "image/png"

    cells.first.focus()
    page.keyboard.press("Enter")
    window = page.get_by_role("dialog")
    window.get_by_role("heading", name=f"it is {job.told.classes[job.told.labels[0]]}").wait_for()
    onwards = window.get_by_role("button", name="Next picture")
    onwards.focus()
    page.keyboard.press("Enter")
    assert onwards.evaluate("it => document.activeElement === it"), "the keyboard is where it was"
    window.get_by_role("heading", name=f"it is {job.told.classes[job.told.labels[1]]}").wait_for()
    window.get_by_text("The numbers").focus()
    page.keyboard.press("Enter")
    window.get_by_role("row").nth(len(job.told.over_time(1))).wait_for()
    page.keyboard.press("Escape")
    window.wait_for(state="hidden")
    assert cells.first.evaluate("it => document.activeElement === it"), "the keyboard is where it was"

    forgotten = page.get_by_role("button", name="Only forgotten pictures")
    forgotten.press("Enter")
    assert forgotten.get_attribute("aria-pressed") == "true"
    shown = "document.querySelector('.lab-strip-row').querySelectorAll('.lab-answer').length"
    assert "strip=forgotten" in page.url
    assert job.told.learnt is not None
    lost = [
        then[0].label == label != now[0].label
        for label, then, now in zip(job.told.labels, job.told.learnt, job.told.now, strict=True)
    ]
    page.wait_for_function(f"{shown} === {sum(lost)}")

    # A link, and a reload, show what was chosen and the picture that was open.
    page.goto(f"{page.url}&open={run}-1:2")
    window.get_by_role("heading", name=f"it is {job.told.classes[job.told.labels[2]]}").wait_for()
    page.wait_for_function(f"{shown} === {sum(lost)}")
    page.keyboard.press("Escape")
    page.wait_for_function("!location.search.includes('open=')")


def numbers_by_keyboard(page: sync_api.Page, store: Store, run: str) -> None:
    """The accuracy matrix as a table, by a key; it closes by another, and the keyboard is where it was."""
    chart = page.get_by_role("group", name="What it remembers")
    chart.focus()
    page.keyboard.press("n")
    window = page.get_by_role("dialog")
    window.get_by_role("table").wait_for()
    rows = window.get_by_role("row").all_inner_texts()
    percent = [[f"{100 * value:.4g} %" for value in row if value is not None] for row in store.fold(run).matrix("test")]
    assert [row.split("\t")[1 : 2 + number] for number, row in enumerate(rows[1:])] == percent
    assert axe.findings(page) <= axe.OF_STREAMLIT
    page.keyboard.press("Escape")
    window.wait_for(state="detached")
    assert chart.evaluate("it => document.activeElement === it")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Numbers"
    page.keyboard.press("Enter")
    window.get_by_role("button", name="Close").press("Enter")


def plays_inside(page: sync_api.Page, address: str, run: str) -> None:
    """Inside plays what it has, whichever map is chosen meanwhile; where nothing may move, a press is a step."""
    words = "document.querySelector('.lab-player span').textContent"
    page.emulate_media(reduced_motion="no-preference")
    page.goto(f"{address}/inside?run={run}&map=importance")
    page.locator(".lab-player").wait_for()
    page.evaluate(
        """() => {
            const words = document.querySelector('.lab-player span'), seen = window.momentsSeen = [words.textContent];
            const note = () => words.textContent !== seen.at(-1) && seen.push(words.textContent);
            new MutationObserver(note).observe(words, { childList: true, characterData: true, subtree: true });
        }"""
    )
    page.locator(".lab-player").get_by_role("button", name="Play").press("Enter")
    page.wait_for_function(f"{words}.startsWith('learning')")
    page.get_by_text("Drift", exact=True).click()
    page.get_by_text("How far have weights moved since?").wait_for()
    page.wait_for_function("window.momentsSeen.length > 2 && window.momentsSeen.at(-1) === window.momentsSeen[0]")
    played = page.evaluate("window.momentsSeen")[1:]
    assert len(played) == len(set(played)) > 3, "it went on from where it was, once through, to the end"
    page.emulate_media(reduced_motion="reduce")
    page.goto(f"{address}/inside?run={run}&map=drift")
    page.locator(".lab-player").get_by_role("button", name="Step").press("Enter")
    page.wait_for_function(f"{words}.includes('learning') && {words}.includes(' 0 %')")
    page.wait_for_url("**moment=1.0*")


def test_the_view_stays_while_the_chart_is_updated(address: str, page: sync_api.Page, home: Path) -> None:
    page.goto(address)
    quick_look(page)
    started(page)
    page.wait_for_function(f"({POINTS})() >= 2")
    view = "() => document.querySelector('.js-plotly-plot')._fullLayout.xaxis.range.map(Math.round)"
    whole = page.evaluate(view)
    box = page.locator(f"{CURVE} .nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    zoomed = page.evaluate(view)
    assert zoomed[1] - zoomed[0] < 0.7 * (whole[1] - whole[0])
    page.locator(".js-plotly-plot .legendtoggle").first.click(force=True)  # the legend of the loss hides its term
    hidden = (
        "() => [...document.querySelectorAll('.js-plotly-plot')].some(p => p._fullData[0].visible === 'legendonly')"
    )
    page.wait_for_function(hidden)
    seen = page.evaluate(POINTS)
    page.wait_for_function(f"({POINTS})() >= {seen} + 3")
    colour = "document.querySelector('.js-plotly-plot')._fullLayout.font.color"
    light = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"{colour} !== '{light}'")
    assert page.evaluate(view) == zoomed
    assert page.evaluate(hidden)


def test_a_browser_fetches_what_draws_charts_once(page: sync_api.Page, home: Path) -> None:
    def received() -> int:
        """Bytes of Plotly that came from the server."""
        page.goto(address)
        page.locator(".js-plotly-plot").first.wait_for()
        entries = "performance.getEntriesByType('resource')"
        size: int = page.evaluate(f"{entries}.find(it => it.name.endsWith('plotly.min.js')).transferSize")
        return size

    with serving("tests/live_page.py", home) as address:
        assert [received() > 1_000_000, received()] == [True, 0]


def test_inside_draws_what_is_new_of_a_run_at_work_and_else_nothing(page: sync_api.Page, home: Path) -> None:
    store = Store(home)
    finished = store.submit(tiny()).run
    assert worker.run_claim(store.claim_run(finished), "cpu").state == "complete"
    claim = store.claim_run(store.submit(tiny(seed=1)).run)
    maps = stories.map_by_map(store, finished, claim)
    next(maps)
    with serving("app.py", home) as address:
        asked: list[float] = []  # when the page asked the server for something, but for its news
        page.on("websocket", lambda socket: socket.on("framesent", lambda frame: asked.append(time.monotonic())))
        page.goto(f"{address}/inside?run={claim.run}")
        page.get_by_text("learning Digits: 0 to 3, 0 %").first.wait_for()
        # Sooner or later it asks for nothing for three seconds; by the clock, as it once did, it asked each second.
        until(lambda: time.monotonic() - asked[-1] > 3, pause=lambda: page.wait_for_timeout(50))
        while next(maps).kind != "stage":
            pass
        page.get_by_text("after Digits: 0 to 3").first.wait_for()
        page.get_by_text("running", exact=True).wait_for()
        for _ in maps:
            pass
        claim.finish("stopped")
        claim.release()
        page.get_by_text("after Clothes: T-shirt to pullover").first.wait_for()
        page.get_by_text("stopped", exact=True).wait_for()


def test_a_live_page_does_not_grow(page: sync_api.Page, home: Path) -> None:
    """In 120 updates of a chart the browser's memory and elements stay where they were after the first."""
    with serving("tests/live_page.py", home) as address:
        page.goto(address)
        count = "() => Number(document.querySelector('.updates')?.textContent ?? 0)"
        devtools = page.context.new_cdp_session(page)
        devtools.send("Performance.enable")

        def measured() -> dict[str, float]:
            devtools.send("HeapProfiler.collectGarbage")
            return {found["name"]: found["value"] for found in devtools.send("Performance.getMetrics")["metrics"]}

        page.wait_for_function(f"({count})() >= 60")
        before = measured()
        page.wait_for_function(f"({count})() >= 180")

        def as_before() -> bool:
            after = measured()
            return after["JSHeapUsedSize"] < 1.15 * before["JSHeapUsedSize"] and after["Nodes"] < 1.1 * before["Nodes"]

        # What a busy machine has received and not yet drawn is drawn at last; what leaks stays.
        until(as_before, pause=lambda: page.wait_for_timeout(500))
        # And a click comes back, to one script run; to two where Streamlit breaks the first off for the next update.
        plot = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
        assert plot is not None
        page.mouse.click(plot["x"] + plot["width"] / 2, plot["y"] + plot["height"] / 2)
        page.wait_for_function("() => document.querySelector('.clicks')?.textContent !== '0'")
        told = page.evaluate(count)
        page.wait_for_function(f"({count})() >= {told} + 10")
        assert page.locator(".clicks").inner_text() in ("1", "2")


def test_an_exploration_fills_by_itself_and_its_points_open_their_runs(
    address: str, page: sync_api.Page, home: Path
) -> None:
    store = Store(home)
    page.goto(f"{address}/runs")  # the first page of a fresh server, and one that has no speed measured
    page.get_by_text("No runs yet").wait_for()
    strength = {"path": "method.strength", "low": 1.0, "high": 1e4, "steps": 3, "log": True}
    exploration = explorations.parse_exploration({"base": tiny("ewc").model_dump(), "varied": [strength], "runs": 3})
    name = explorations.create(store, exploration)
    explorations.stop(store, name)
    page.goto(f"{address}/explore?exploration={name}")
    page.get_by_role("button", name="Go on").click()
    until(page.get_by_text("3 of 3 runs").is_visible, growth(store.root), pause=lambda: page.wait_for_timeout(50))
    page.get_by_role("button", name="All tried").wait_for()
    page.wait_for_function(f"({POINTS})() > 0")  # drawn a moment after it is told
    assert page.evaluate(POINTS) == 3
    middle = page.locator(f"{CURVE} .scatterlayer .trace").first.locator(".point").nth(1)
    middle.wait_for()
    box = middle.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.locator(".hoverlayer .hovertext").first.wait_for()  # Plotly takes a click only of what it hovers over
    page.mouse.down()
    page.mouse.up()
    page.wait_for_url("**/watch?run=*")
    run = page.url.split("run=")[1]
    assert store.config(run).method.model_dump()["strength"] == 100
    page.goto(f"{address}/explore?exploration={name}")
    page.get_by_role("button", name="Use the best").click()
    page.get_by_text("How should it learn them").wait_for()


def test_the_side_bar_goes_to_the_run_one_is_at_and_back_takes_one_click(
    address: str, page: sync_api.Page, home: Path
) -> None:
    store = Store(home)
    older = stories.written(store, stories.FIRST)
    older.finish("stopped")
    newest = stories.written(store, stories.COMPLETE, tiny(seed=1))
    newest.finish("complete")
    page.goto(f"{address}/watch?run={older.run}")
    page.get_by_text("Nothing is lost").wait_for()
    for name, there in (("Inside", "/inside"), ("Compare", "/compare"), ("Watch", "/watch")):
        page.locator("[data-testid=stSidebar]").get_by_role("link", name=name, exact=True).click()
        page.wait_for_url(lambda url, there=there: there in url)
        page.locator("[data-testid=stSidebar]").get_by_role("link", name="Runs", exact=True).wait_for()
        if there != "/compare":
            assert page.url.endswith(f"{there}?run={older.run}")
    page.get_by_text("Nothing is lost").wait_for()
    page.go_back()
    page.wait_for_url(lambda url: "/compare" in url)
