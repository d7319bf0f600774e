"""Runs: what there is, and what can be done with it."""

import contextlib
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from labcore.configs import units
from labcore.configs.base import ConfigError
from labcore.configs.units import count_of
from labcore.runs import archive, stored_maps
from labcore.runs.errors import StoreError, UnknownRun
from labcore.runs.records import RunRecord
from labcore.runs.store import Store
from pages.parts import lab, live_plot, markup, pictures, runs, runs_table, settings, stages

MOST_LISTED = 100  # lines; a table of thousands would be sent to the browser every other second
MOST_DOWNLOADED = 100_000_000  # bytes; what is downloaded is in this server's memory


@st.dialog("Delete for good?")
def ask_to_delete(store: Store, chosen: Sequence[str]) -> None:
    """Deleting cannot be undone, so it asks."""
    if len(chosen) == 1:
        with lab.refusals_told(), contextlib.suppress(UnknownRun):
            st.write(f"{name_of(store, chosen[0])}: its curves, results and stored weights will be gone for good.")
    else:
        st.write(f"{len(chosen)} runs: their curves, results and stored weights will be gone for good.")
    keep, delete = st.columns(2)
    if keep.button("Keep", width="stretch"):
        st.rerun()
    act = {"on_click": delete_all, "args": (store, chosen)}
    if delete.button("Delete", type="primary", width="stretch", key="delete-now", **act):
        st.rerun()


@lab.told_if_refused
def delete_all(store: Store, chosen: Sequence[str]) -> None:
    """Delete these runs; why some of them cannot be deleted is told once the others are."""
    refused: dict[str, str] = {}
    for run in chosen:
        try:
            store.delete(run)
        except UnknownRun:  # another tab was quicker
            continue
        except StoreError as error:
            refused[run] = str(error)
    st.session_state["picked"] = list(refused)  # what is gone is chosen no more
    if refused:
        raise StoreError(" ".join(refused.values()))


@lab.told_if_refused
def stop_all(store: Store, chosen: Sequence[str]) -> None:
    """Ask these runs to stop."""
    for run in chosen:
        with contextlib.suppress(UnknownRun):  # deleted just now
            store.request_stop(run)


def name_of(store: Store, run: str) -> str:
    """What a run is called, as Markdown. Raises UnknownRun, ConfigError, OSError."""
    return markup.literal(runs.title(store.config(run)))


@st.dialog("Export")
def export(store: Store, chosen: Sequence[str]) -> None:
    """A zip for each run: its settings, curves, figures and weights. What is too large is for the command line."""
    room = MOST_DOWNLOADED
    for run in chosen:
        with lab.refusals_told():
            st.markdown(f"**{name_of(store, run)}**")
            size = runs.bytes_to_pack(store, run)
            if size > room:
                st.caption(f"{units.size(size)} is too much to pass through the browser. On the command line:")
                st.code(f"python -m labcore export {run} {run}.zip", language="bash", wrap_lines=True)
                continue
            room -= size
            pack(store, run)


def pack(store: Store, run: str) -> None:
    """Pack a run, say what is missing in it, and offer it for download. Raises StoreError, OSError."""
    # Not in the store, whose disk may be full or for reading alone.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{run}.zip"
        missing, damaged, maps = archive.export_run(store, run, path)
        if missing:
            st.caption(f"The weights of stages {', '.join(map(str, missing))} are no longer stored, and not in it.")
        if damaged:
            st.caption(f"The weights of stages {', '.join(map(str, damaged))} are damaged, and not in it.")
        if maps:
            st.caption(f"{maps} maps of the network's inside are damaged, and not in it.")
        label = f"Download {units.size(path.stat().st_size)}"
        st.download_button(
            label, path.read_bytes(), path.name, icon=":material/download:", on_click="ignore", key=f"download-{run}"
        )


def bring_in(store: Store) -> None:
    """The button that imports a run from a zip, which a lab has exported."""
    with st.popover("Import", icon=":material/upload:"):
        upload = st.file_uploader("A zip that a lab has exported", type="zip")
        if upload is None or st.session_state.get("imported") == upload.file_id:
            return
        # In the store, which must have the room anyway; the system's own folder may lie in memory.
        with lab.refusals_told(), tempfile.TemporaryDirectory(prefix="import-", dir=store.cache) as folder:
            path = Path(folder) / Path(upload.name).name
            path.write_bytes(upload.getbuffer())
            archive.import_run(store, path)
            st.session_state["imported"] = upload.file_id
            st.rerun()


def lines(store: Store, records: Sequence[RunRecord], named: Mapping[str, runs.Called]) -> list[dict[str, Any]]:
    """The lines of these runs, in their order, and `named` so."""
    waiting = [record.run for record in store.active() if record.state == "queued"]
    places = {run: place for place, run in enumerate(waiting, 1)}
    country = store.country()
    return [runs_table.line(store, record, named[record.run], places.get(record.run), country) for record in records]


def narrowed(store: Store, records: Sequence[RunRecord]) -> tuple[list[RunRecord], list[str]]:
    """The runs that the filters let through, and those of which not even that can be told, as nobody can read them.

    The address keeps the states.
    """
    found, unreadable = [], []
    for record in records:
        try:
            found.append((record, runs.called(store, record), runs.standing(store, record)))
        except UnknownRun:  # deleted just now
            continue
        except (ConfigError, OSError):
            unreadable.append(record.run)
    states, methods, words = st.columns([2, 1.4, 1.4], vertical_alignment="bottom")
    there = {runs.word(state) for _, _, state in found}
    here = [word for word in runs.words() if word in there]
    asked = st.query_params.get_all("state")
    kept = states.pills(
        "State", here, selection_mode="multi", default=[word for word in asked if word in here], key="state"
    )
    named = sorted({called.method for _, called, _ in found})
    method = methods.selectbox("Method", named, index=None, placeholder="all", key="method")
    text = words.text_input("Jobs or network contain", key="contains", placeholder="digits").strip().lower()
    st.query_params["state"] = kept
    alike = [
        record
        for record, called, state in found
        if (not kept or runs.word(state) in kept)
        and (not method or called.method == method)
        and (not text or text in f"{called.jobs} {called.network}".lower())
    ]
    return alike, unreadable


def newest(records: Sequence[RunRecord]) -> tuple[dict[str, runs.Called], list[str]]:
    """What the first runs are called that can be read, as many as are listed; and those that cannot be read."""
    listed: dict[str, runs.Called] = {}
    unreadable: list[str] = []
    for record in records:
        try:
            listed[record.run] = runs.Called.of(lab.reader().config(record.run))
        except UnknownRun:  # deleted just now
            continue
        except (ConfigError, OSError):
            unreadable.append(record.run)
        if len(listed) == MOST_LISTED:
            break
    return listed, unreadable


def chosen(store: Store, here: Collection[str]) -> list[RunRecord]:
    """The runs that were chosen, as far as they are among those listed."""
    found = []
    for run in st.session_state.get("picked", []):
        with contextlib.suppress(UnknownRun):  # deleted just now
            if run in here:
                found.append(store.record(run))
    return found


lab.through_the_shell()
markup.style("tables")
store = lab.store()
everything = store.records()
if not everything:
    sentence = "Every run that you start is kept here, finished or not: its curves, its figures, its weights."
    pictures.nothing_yet("No runs yet", sentence)
    bring_in(store)
    settings.show(store)
    st.stop()

head, place = st.columns([1, 2], vertical_alignment="center")
head.title("Runs", anchor=False)
actions = place.container(horizontal=True, horizontal_alignment="right", key="runs-actions")
alike, unreadable = narrowed(store, everything)
here, others = newest(alike)
if unreadable := sorted(unreadable + others):
    st.warning(
        f"These runs are left out, as their settings cannot be read: {markup.literal(', '.join(unreadable))}. "
        "`python -m labcore check` says why.",
        icon=":material/healing:",
    )
if not here:
    st.caption(f"None of the {len(everything):,} runs is like that. Take a filter away to see more.")
elif len(alike) > MOST_LISTED:
    st.caption(f"The newest {MOST_LISTED} of {len(alike):,} runs. The filters look through all {len(everything):,}.")


@st.fragment(run_every=2 if store.active() else None)
@runs.while_there
def table_now(was_active: bool) -> None:
    """The table; while something runs, its progress and order are read again every other second."""
    records = store.records()
    if len(records) != len(everything) or was_active != bool(store.active()):
        st.rerun()  # a run came or went, or all are over
    there = [record for record in records if record.run in here]
    picked, opened = runs_table.draw(lines(store, there, here), store.country())
    if opened is not None:
        st.switch_page("pages/watch.py", query_params={"run": opened})
    if picked != st.session_state.get("picked", []):
        st.session_state["picked"] = picked
        st.rerun()  # what can be done depends on what is chosen


table_now(bool(store.active()))
picked = chosen(store, here)
active = [record.run for record in picked if record.active]
over = [record.run for record in picked if not record.active]
st.caption(
    f"{count_of(len(picked), 'run')} chosen."
    if picked
    else "A click on a line opens its run. The boxes choose runs to stop, to delete or to export."
)
with actions:
    act = {"on_click": stop_all, "args": (store, active)}
    st.button("Stop", icon=":material/stop:", key="stop-chosen", disabled=not active, **act)
    if st.button("Delete", icon=":material/delete:", key="delete-chosen", disabled=not picked):
        ask_to_delete(store, [record.run for record in picked])
    if st.button("Export", icon=":material/archive:", key="export", disabled=not over, help="Of runs that are over"):
        export(store, over)
    bring_in(store)

if len(picked) == 1:
    stages.keep_weights(store, picked[0])
    if over and (words := stored_maps.gone(runs.follow(store, over[0]), store.folder(over[0])).words):
        st.caption(f"{words} Inside tells how to have them again.")
stages.storage(store, len(everything))
settings.show(store)
live_plot.ahead()
