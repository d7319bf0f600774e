"""Runs on a page: which one, how it stands, and its events folded as they come."""

import html

import streamlit as st

from labcore.configs import METHOD_TITLES, ConfigError, RunConfig
from labcore.results import Fold
from labcore.store import RunRecord, Store, UnknownRun

# The same face everywhere: what the state is called, and its colour's class.
_FACES = {
    "queued": ("waiting", "lab-waiting"),
    "running": ("running", "lab-running"),
    "stopping": ("stopping", "lab-stopped"),
    "lost": ("worker gone", "lab-stopped"),
    "stopped": ("stopped", "lab-stopped"),
    "failed": ("failed", "lab-failed"),
    "complete": ("done", "lab-done"),
}


def title(config: RunConfig) -> str:
    """`Fine-tuning on digits → fashion`."""
    return f"{METHOD_TITLES[config.method.name]} on {' → '.join(config.task_names)}"


def standing(store: Store, record: RunRecord) -> str:
    """The state as a person sees it: the record's, or `stopping`, or `lost`."""
    if record.lost:
        return "lost"
    if record.state == "running" and store.stop_requested(record.run):
        return "stopping"
    return record.state


def word(state: str) -> str:
    """What a state is called on a page."""
    return _FACES[state][0]


def chip(state: str) -> str:
    """HTML of the status chip."""
    name, face = _FACES[state]
    return f'<span class="lab-chip {face}">{name}</span>'


def bar(share: float) -> str:
    """HTML of a progress bar, `share` from 0 to 1."""
    return f'<div class="lab-bar"><div style="width:{100 * share:.1f}%"></div></div>'


def from_url(store: Store) -> RunRecord | None:
    """The run of the address; without one the newest, which then is in the address. None where there are no runs.

    An address that names no run says so, and the page stops.
    """
    asked = st.query_params.get("run")
    if asked is None:
        newest = next(iter(store.records()), None)
        if newest is not None:
            st.query_params["run"] = newest.run
        return newest
    try:
        store.config(asked)
        return store.record(asked)
    except UnknownRun:
        st.warning(
            f"There is no run {html.escape(asked[:60])} here. It may have been deleted.", icon=":material/search_off:"
        )
    except ConfigError as error:
        st.warning(f"This run cannot be read: {error}", icon=":material/error:")
    st.page_link("pages/runs.py", label="See the runs there are", icon=":material/list:")
    st.stop()


def follow(store: Store, run: str) -> Fold:
    """The run's events so far, folded. Each call reads only what is new since the last."""
    followed: dict[str, tuple[Fold, int]] = st.session_state.setdefault("followed", {})
    fold, offset = followed.pop(run, (Fold(), 0))
    events, offset = store.tail(run, offset)
    for event in events:
        fold.add(event)
    followed[run] = (fold, offset)
    while len(followed) > 4:  # the least recently seen goes
        followed.pop(next(iter(followed)))
    return fold
