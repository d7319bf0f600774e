"""A person's way through the lab, in a real browser, with a real server and a real worker."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labcore.store import Store

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium (Debian package chromium)")
ROOT = Path(__file__).parent.parent
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def address(home: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)],
        cwd=ROOT,
        env={**os.environ, "REUSE_LAB_HOME": str(home), "REUSE_LAB_THREADS": "1"},
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as knock:
                if knock.connect_ex(("localhost", port)) == 0:
                    break
            assert time.monotonic() < deadline, "the server did not come up"
            time.sleep(0.1)
        yield f"http://localhost:{port}"
    finally:
        server.kill()
        server.wait()
        for worker in Store(home).workers():
            os.kill(worker.process.pid, signal.SIGKILL)


@pytest.fixture
def page(address: str) -> Iterator["sync_api.Page"]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


CURVE = ".js-plotly-plot"
POINTS = "() => { const plot = document.querySelector('.js-plotly-plot'); return plot?.data?.[0]?.x?.length ?? 0 }"


def test_start_watch_stop_reload_find_again(address: str, page: "sync_api.Page", home: Path) -> None:
    # A deep link is the first thing that this server is asked for; it shows the lab's own side bar all the same.
    page.goto(f"{address}/watch")
    page.get_by_text("Nothing to watch yet").wait_for()
    page.get_by_role("link", name="Launch").click()

    page.get_by_text("what happens to the old ones").wait_for()
    page.get_by_role("radio", name="Quick look").or_(page.get_by_role("button", name="Quick look")).first.click()
    page.get_by_text("Hot dogs").first.wait_for()
    page.get_by_role("button", name="Start", exact=True).click()

    page.wait_for_url("**/watch?run=*")
    page.locator(CURVE).first.wait_for()
    page.wait_for_function(f"({POINTS})() >= 2")
    before = page.evaluate(POINTS)
    page.wait_for_function(f"({POINTS})() > {before}")

    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Nothing is lost").wait_for()
    run = page.url.split("run=")[1]
    record = Store(home).record(run)
    assert record.state == "stopped"

    page.reload()
    page.get_by_text("Nothing is lost").wait_for()
    page.wait_for_function(f"({POINTS})() >= {before}")
    assert page.url.endswith(run)

    page.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Stop").wait_for()
    page.wait_for_function(f"({POINTS})() > {before} + 1")
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Nothing is lost").wait_for()

    page.get_by_role("link", name="Runs").click()
    page.get_by_text("1 run,").wait_for()
    assert [found.run for found in Store(home).records()] == [run]


def test_the_view_stays_while_the_chart_is_updated(address: str, page: "sync_api.Page", home: Path) -> None:
    page.goto(address)
    page.get_by_role("radio", name="Quick look").or_(page.get_by_role("button", name="Quick look")).first.click()
    page.get_by_text("Hot dogs").first.wait_for()
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_function(f"({POINTS})() >= 2")
    box = page.locator(f"{CURVE} .nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    view = "() => document.querySelector('.js-plotly-plot')._fullLayout.xaxis.range.map(Math.round)"
    zoomed = page.evaluate(view)
    assert zoomed[1] - zoomed[0] < 12_000
    seen = page.evaluate(POINTS)
    page.wait_for_function(f"({POINTS})() >= {seen} + 3")
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(1500)
    assert page.evaluate(view) == zoomed
