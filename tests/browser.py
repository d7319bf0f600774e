"""A server of the lab, or of another script, and a browser that opens it: for tests and benchmarks alike."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from tests.waiting import PATIENCE, until, work

CHROMIUM = Path("/usr/bin/chromium")
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


def end_workers(home: Path) -> None:
    """End the workers of a store, those too that were started a moment ago and have not told it yet."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "worker" in process.cmdline() and process.environ().get("REUSE_LAB_HOME") == str(home):
                process.kill()


@contextlib.contextmanager
def serving(script: str, home: Path) -> Iterator[str]:
    """A server of its own for a script; its address. The workers that it started end with it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", script, "--server.port", str(port)],
        cwd=ROOT,
        env={**os.environ, "REUSE_LAB_HOME": str(home), "REUSE_LAB_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )

    def answers() -> bool:
        assert server.poll() is None, "the server ended"
        with socket.socket() as knock:
            return knock.connect_ex(("localhost", port)) == 0

    try:
        until(answers, work(server))
        yield f"http://localhost:{port}"
    finally:
        server.kill()
        server.wait()
        end_workers(home)


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """A browser of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Browser, *, strict: bool = False) -> Iterator[Page]:
    """A page that remembers nothing of the browser's others.

    Where it is not `strict` it does not hold to the lab's Content-Security-Policy, which forbids what Playwright waits
    by: to evaluate a text in the page.
    """
    window = {"width": 1280, "height": 720}
    with contextlib.closing(browser.new_context(viewport=window, bypass_csp=not strict)) as context:
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        yield page


@contextlib.contextmanager
def browsing() -> Iterator[Page]:
    """A page of a fresh browser."""
    with launched() as browser, opened(browser) as page:
        yield page
