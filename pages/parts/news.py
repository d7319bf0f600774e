"""News of runs at work: the browser asks for them each second, and what they change is drawn again only then.

A fragment with a clock is sent whole at every tick, whether or not there is anything new. To ask costs the server a
tenth of that, and what nobody has to draw again keeps the browser's attention free.
"""

import functools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from labcore.events import MapSaved
from labcore.store import Store, UnknownRun
from pages.parts import runs, server

MOST_RUNS = 2  # asked for at once
_MOST_COUNTED = 64
_counted: dict[str, tuple[int, int]] = {}  # by run: how many maps, up to which byte of its events
_counting = threading.Lock()


def of_maps(store: Store, names: Sequence[str]) -> str:
    """Another text as soon as one of these runs has another map, stands otherwise, or is gone."""
    return " ".join(_of(store, run) for run in names[:MOST_RUNS])


def _of(store: Store, run: str) -> str:
    try:
        standing = runs.standing(store, store.record(run))
        with _counting:
            maps, offset = _counted.pop(run, (0, 0))
            events, offset = store.tail(run, offset)
            maps += sum(isinstance(event, MapSaved) for event in events)
            _counted[run] = maps, offset
            while len(_counted) > _MOST_COUNTED:
                _counted.pop(next(iter(_counted)))
    except UnknownRun:
        return "gone"
    return f"{maps} {standing}"


def possible() -> bool:
    """Whether this Streamlit has what it takes."""
    return hasattr(st.components, "v2")


def follow(store: Store, names: Sequence[str]) -> None:
    """In a fragment, before it draws: it runs again as soon as these runs have maps that it has not seen."""
    asked = f"{server.NEWS}?{urlencode([('run', run) for run in names])}"
    data = {"address": asked, "seen": of_maps(store, names)}
    _component()(data=data, key="news", height=0, on_news_change=lambda: None)


@functools.cache
def _component() -> Callable[..., Any]:
    return st.components.v2.component("news", js=(Path(__file__).parent / "assets" / "news.js").read_text())
