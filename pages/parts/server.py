"""What the server does beside drawing pages: it hands out what pages draw with, tells news, and takes the lab in."""

import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import streamlit as st
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from pages.parts import served

# A browser keeps what it has: Streamlit's own way of serving a component's files would pack, send, unpack and compile
# Plotly's 4.7 MB afresh for every page.
_KEEP = {"Cache-Control": "public, max-age=31536000, immutable"}


def routes() -> list[Route]:
    """The routes of an `st.App` whose pages have charts and follow runs."""

    def route(address: str, answer: Callable[[Request], Response]) -> Route:
        base = st.get_option("server.baseUrlPath").strip("/")
        return Route("/".join(["", *filter(None, [base]), address]), answer)

    def file(path: Path) -> Callable[[Request], Response]:
        return lambda request: FileResponse(path, headers=_KEEP)

    return [
        route(served.PLOTLY, file(served.PLOTLY_FILE)),
        route(served.CHART, file(served.CHART_FILE)),
        route(served.NUMBERS, file(served.NUMBERS_FILE)),
        route(served.NEWS, _news),
        route(served.PICTURES, _pictures),
    ]


def _news(request: Request) -> Response:
    """The news of the runs that the address names. A page that is open asks for them, so the lab is loaded by then."""
    from pages.parts import lab, news

    asked = request.query_params
    what: news.What = "maps" if asked.get("what") == "maps" else "events"
    return PlainTextResponse(news.of(lab.store(), asked.getlist("run"), what))


def _pictures(request: Request) -> Response:
    """The pictures of a run's job side by side, which the address names. Another choice of them has another address."""
    from labcore.configs.base import ConfigError
    from labcore.runs.errors import StoreError
    from pages.parts import lab, strips

    try:
        asked = request.query_params
        test = [int(place) for place in asked.get("test", "").split(",") if place]
        found = strips.side_by_side(lab.store(), asked.get("run", ""), int(asked.get("job", "")), test)
    except (StoreError, ConfigError, ValueError, OSError):
        found = None
    if found is None:
        return Response(status_code=404)
    return Response(found[0], media_type=f"image/{found[1]}", headers=_KEEP)


@contextlib.asynccontextmanager
async def lifespan(app: st.App) -> AsyncIterator[None]:
    """Take the lab in once the server is up: a browser is busy with Streamlit for half a second before it asks."""
    threading.Thread(target=_take_in_the_lab, daemon=True).start()
    yield


def _take_in_the_lab() -> None:
    from pages.parts import config_form, live_plot, method_cards, pictures, stages  # noqa: F401  # what Launch needs
