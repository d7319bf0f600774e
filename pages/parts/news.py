"""News of runs at work: the browser asks for them each second, and what they change is drawn again only then.

A fragment with a clock is sent whole at every tick, whether or not there is anything new. To ask costs the server a
tenth of that, and what nobody has to draw again keeps the browser's attention free.
"""

import functools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

import streamlit as st

from labcore.runs.errors import UnknownRun
from labcore.runs.events import MapSaved
from labcore.runs.store import Store
from pages.parts import runs, served

What = Literal["events", "maps"]
MOST_RUNS = 1 + runs.MOST_LAID_OVER  # asked for at once
_MOST_COUNTED = 64
_counted: dict[str, tuple[int, int]] = {}  # by run: how many maps, up to which byte of its events
_counting = threading.Lock()


def of(store: Store, names: Sequence[str], what: What) -> str:
    """A text that changes as soon as one of these runs has a new event (or map), changes its state, or is gone."""
    return " ".join(_of(store, run, what) for run in names[:MOST_RUNS])


def _of(store: Store, run: str, what: What) -> str:
    try:
        said = _maps(store, run) if what == "maps" else store.bytes_said(run)
        return f"{said} {runs.standing(store, store.record(run))}"
    except UnknownRun:
        return "gone"


def _maps(store: Store, run: str) -> int:
    with _counting:
        maps, offset = _counted.pop(run, (0, 0))
        events, offset = store.tail(run, offset)
        maps += sum(isinstance(event, MapSaved) for event in events)
        _counted[run] = maps, offset
        while len(_counted) > _MOST_COUNTED:
            _counted.pop(next(iter(_counted)))
    return maps


def possible() -> bool:
    """Whether this Streamlit has what it takes."""
    return hasattr(st.components, "v2")


def enough(store: Store, names: Sequence[str]) -> bool:
    """Whether the news tell all that these runs do: no run waits for a worker, each that is active is at work."""
    active = [store.record(run) for run, busy in zip(names, runs.active(store, names), strict=True) if busy]
    return possible() and all(runs.standing(store, record) in ("running", "stopping") for record in active)


def follow(names: Sequence[str], what: What, seen: str) -> None:
    """Let a fragment run again as soon as the runs' news differ from what was `seen` at its start.

    To be called at the fragment's end, as what comes and goes at its start would move all the rest.
    """
    asked = f"{served.NEWS}?{urlencode([('what', what), *(('run', run) for run in names)])}"
    data = {"address": asked, "seen": seen}
    _component()(data=data, key="news", height=0, on_news_change=lambda: None)


@functools.cache
def _component() -> Callable[..., Any]:
    return st.components.v2.component("news", js=(Path(__file__).parent / "assets" / "news.js").read_text("utf-8"))
