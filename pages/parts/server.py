"""What the server does beside drawing pages: it hands out what draws charts, tells news, and takes the lab in."""

import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from importlib.util import find_spec
from pathlib import Path

import streamlit as st
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

# A browser keeps what it has: Streamlit's own way of serving a component's files would pack, send, unpack and compile
# Plotly's 4.7 MB afresh for every page.
_KEEP = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}


def _package(name: str) -> Path:
    """A package's folder, found without importing it."""
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def _address(path: Path) -> str:
    """Where a file is served, below the app's own address: another place once it has changed."""
    return f"charts/{path.stat().st_mtime_ns:x}/{path.name}"


_PLOTLY = _package("plotly") / "package_data" / "plotly.min.js"
_CHART = Path(__file__).parent / "assets" / "live_plot.js"
PLOTLY, CHART = _address(_PLOTLY), _address(_CHART)
NEWS = "news"


def routes() -> list[Route]:
    """Those of an `st.App` whose pages have charts and follow runs."""

    def route(address: str, answer: Callable[[Request], Response]) -> Route:
        base = st.get_option("server.baseUrlPath").strip("/")
        return Route("/".join(["", *filter(None, [base]), address]), answer)

    def file(path: Path) -> Callable[[Request], Response]:
        return lambda request: FileResponse(path, headers=_KEEP)

    return [route(PLOTLY, file(_PLOTLY)), route(CHART, file(_CHART)), route(NEWS, _news)]


def _news(request: Request) -> Response:
    """Of the runs that the address names; asked by a page that is open, so the lab is there."""
    from pages.parts import lab, news

    asked = request.query_params
    what: news.What = "maps" if asked.get("what") == "maps" else "events"
    return PlainTextResponse(news.of(lab.store(), asked.getlist("run"), what))


@contextlib.asynccontextmanager
async def lifespan(app: st.App) -> AsyncIterator[None]:
    """From when the server is up: a browser is busy with Streamlit for half a second before it asks for a page."""
    threading.Thread(target=_take_in_the_lab, daemon=True).start()
    yield


def _take_in_the_lab() -> None:
    from pages.parts import lab

    lab.make_ready()
