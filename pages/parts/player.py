"""The moments of charts that a page has drawn, to be gone through in the browser: by a slider, or played.

The charts are those of live_plot.py, by their keys. All moments are sent at once, as a flip book; the browser shows one
after the other, eight a second, and tells the page now and then which one it is at (assets/player.js).
"""

import functools
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from labcore.drawings import flip_book
from labcore.drawings.charts import Chart
from pages.parts import projector, served

HEIGHT = 44  # px
_REMEMBERED = 6


@functools.cache
def _component() -> Callable[..., Any]:
    chart = f'const chart = import(new URL("{served.CHART}", document.baseURI).href);\n'
    script = (Path(__file__).parent / "assets" / "player.js").read_text(encoding="utf-8")
    return st.components.v2.component("player", js=chart + script, isolate_styles=False)


def draw(
    key: str,
    moments: Sequence[tuple[str, str]],
    at: str,
    charts: Callable[[], Mapping[str, Sequence[Chart]]],
    *,
    version: Hashable,
) -> str | None:
    """Draw what goes through moments.

    What is played goes on through every update, and where it stands stays, as long as the key is the same.

    Args:
        key: Of this player.
        moments: Each moment's name and what a person calls it, in the order of time.
        at: The name of the moment that the page shows.
        charts: Makes, for the key of each chart, what it is at each moment. It is asked only where `version` is new.
        version: What the charts follow from.

    Returns:
        The name of the moment that the browser has come to, in the script run that this causes; else None.
    """
    kept: dict[str, tuple[Hashable, str]] = st.session_state.setdefault("players", {})
    known = kept.pop(key, None)
    if known is None or known[0] != version:
        frames = [{"id": name, "frames": flip_book.frames(made)} for name, made in charts().items()]
        told = [{"name": name, "words": words} for name, words in moments]
        known = version, json.dumps({"moments": told, "charts": frames}, allow_nan=False)
    kept[key] = known
    while len(kept) > _REMEMBERED:
        kept.pop(next(iter(kept)))
    data = {"id": key, "at": at, "book": known[1]}
    moment: str | None = _component()(
        data=data, key=f"player-{key}", height=projector.high(HEIGHT), on_moment_change=lambda: None
    ).moment
    return moment
