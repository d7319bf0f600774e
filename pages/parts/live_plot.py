"""A chart that keeps the person's view: zoom, hidden traces and hover survive every update.

Streamlit's own chart is built anew on every change of its data. This one is a component over `Plotly.react` with a
constant `uirevision`; colours follow the page's theme in the browser, and words that would stand on others for lack of
room are left out there. Where components of this kind are missing, it falls back to Streamlit's own. What is drawn can
be read as a table, too: by the button Numbers, or the key n.

What is sent is one block of bytes: the length of a JSON head, the head, and all numbers as float32 columns, to which
the head refers by position. NaN may be among the numbers, never in the JSON.
"""

import functools
import json
import struct
from collections.abc import Callable, Hashable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import streamlit as st
from plotly.utils import PlotlyJSONEncoder

from labcore.drawings.charts import DARK, Chart
from pages.parts import projector, served

MOST_POINTS = 500
MOST_REMEMBERED = 16
TITLE = 36  # px, as high as the page's style makes `lab-title`
_TOLD = ("customdata", "text", "hovertext")  # what is told of each point, beside its numbers
_COLUMNS = ("x", "y", "z")
_CODE = f"""
const at = path => new URL(path, document.baseURI).href;
const plotly = at("{served.PLOTLY}");
const chart = import(at("{served.CHART}"));
const given = {{ plotly, numbers: at("{served.NUMBERS}"), dark: {json.dumps(DARK)} }};
"""


def ahead() -> None:
    """On a page without charts: have the browser fetch what draws them in a quiet moment, before another page asks."""
    if _component() is not None:
        with st.container(key="charts-ahead"):
            script = f"<script>{{{_CODE}chart.then(it => it.loadWhenQuiet(plotly));}}</script>"
            st.html(script, unsafe_allow_javascript=True)


@functools.cache
def _component() -> Callable[..., Any] | None:
    """The component; None where Streamlit has no such ones."""
    if not hasattr(st.components, "v2"):
        return None
    module = _CODE + "export default async component => (await chart).default(component, given);"
    return st.components.v2.component("live_plot", js=module, isolate_styles=False)


@dataclass(frozen=True, slots=True)
class Picked:
    """What was clicked: the trace's number from 0, its point (one index, or row and column), and where it lies."""

    trace: int
    point: tuple[int, ...]
    x: float | str
    y: float | str


@dataclass(frozen=True, slots=True)
class Head:
    """What is said of a chart beside its data."""

    id: str
    height: int  # px, without the title
    picks: bool = False
    title: str = ""  # in bold
    called: str = ""  # where it has no title
    aside: str = ""  # after it, in brackets
    least: int = 0  # px; a narrower page lets the chart be scrolled sideways
    scale: float = 1.0  # of its words


def draw(
    make: Callable[[], Chart],
    key: str,
    height: int,
    *,
    title: str = "",
    called: str = "",
    aside: str = "",
    version: Hashable = None,
    picks: bool = False,
    least: int = 0,
) -> Picked | None:
    """Draw or update the chart of this key, `height` px high whatever it holds, below its title where it has one.

    As long as `version` is the same (and not None) the chart is not made again: a tick without news costs nothing. The
    title is the chart's own because each piece that is sent costs the server a third of a millisecond a tick.
    A chart without a title is `called` something, for those who do not see it.
    `least` is how many px wide it is at least; on a narrower page it is scrolled sideways.
    With `picks`, a click on a point is returned by the script run that it causes. Where Streamlit breaks that run off
    for another, it is returned again: what it leads to must bear being done twice.
    """
    mount = _component()
    scale = projector.SCALE if projector.is_on() else 1.0
    height = projector.high(height)
    if mount is None:
        if title:
            st.markdown(f"**{title}**" + (f" ({aside})" if aside else ""))
        st.plotly_chart(make().as_json, width="stretch", height=height, key=key)
        return None
    head = Head(key, height, picks, title, called, aside, least, scale)
    data = remembered(st.session_state.setdefault("charts", {}), make, head, version)
    high = height + (projector.high(TITLE) if title else 0)
    if not picks:
        mount(data=data, key=key, height=high)
        return None
    found = mount(data=data, key=key, height=high, on_picked_change=lambda: None).picked
    return None if found is None else Picked(found["trace"], tuple(found["point"]), found["x"], found["y"])


def remembered(
    charts: dict[str, tuple[Hashable, bytes]], make: Callable[[], Chart], head: Head, version: Hashable
) -> bytes:
    """The packed chart, made only where `charts` holds none of this version; the oldest are dropped."""
    known = charts.pop(head.id, None)
    if known is None or version is None or known[0] != (version, head):
        known = ((version, head), pack(make(), head))
    charts[head.id] = known
    while len(charts) > MOST_REMEMBERED:
        charts.pop(next(iter(charts)))
    return known[1]


def pack(chart: Chart, head: Head) -> bytes:
    """The chart as u32 n, n bytes of JSON padded to a multiple of 4, float32 columns."""
    traces: list[dict[str, Any]] = []
    columns: list[np.ndarray] = []
    for drawn in chart.traces:
        trace = dict(drawn)
        chosen = None if head.picks else _thinned(trace)  # a click names its point by number
        for name in _COLUMNS:
            numbers = _numbers(trace.get(name))
            if numbers is None:
                continue
            if chosen is not None and numbers.ndim == 1:
                numbers = numbers[chosen]
            trace[name] = {"column": len(columns), "shape": list(numbers.shape)}
            columns.append(numbers.astype(np.float32))
        if chosen is not None:
            trace["meta"] = {"of": len(drawn["x"])}
            told = (name for name in _TOLD if isinstance(trace.get(name), list | tuple))
            trace |= {name: [trace[name][place] for place in chosen] for name in told}
        traces.append(trace)
    text = json.dumps(asdict(head) | {"data": traces, "layout": chart.layout}, cls=PlotlyJSONEncoder).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<I", len(text)) + text + b"".join(column.tobytes() for column in columns)


def _numbers(values: Any) -> np.ndarray | None:
    """Numbers as float64 with NaN for None; None where there are words among them."""
    if values is None:
        return None
    try:
        return np.asarray(
            [[np.nan if v is None else v for v in row] if isinstance(row, list | tuple) else row for row in values],
            float,
        )
    except (TypeError, ValueError):
        return None


def _thinned(trace: dict[str, Any]) -> np.ndarray | None:
    """Which points of a long line are sent: evenly chosen, the first and the last among them."""
    count = len(trace.get("x", ())) if trace["type"] == "scatter" else 0
    return np.linspace(0, count - 1, MOST_POINTS).round().astype(int) if count > MOST_POINTS else None
