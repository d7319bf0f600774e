"""Runs: what there is, and what can be done with it."""

import contextlib
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import streamlit as st

from labcore.configs import units
from labcore.configs.base import ConfigError
from labcore.runs import archive, stored_maps
from labcore.runs.energy import Country
from labcore.runs.errors import StoreError, UnknownRun, refused
from labcore.runs.records import RunRecord
from labcore.runs.store import Store
from pages.parts import lab, live_plot, markup, pictures, runs, settings, stages

MOST_LISTED = 100  # lines; a table of thousands would be sent to the browser every other second
MOST_DOWNLOADED = 100_000_000  # bytes; what is downloaded is in this server's memory


@st.dialog("Delete this run?")
def ask_to_delete(store: Store, run: str, name: str) -> None:
    """Deleting cannot be undone, so it asks."""
    st.write(f"{name}: its curves, results and stored weights will be gone for good.")
    keep, delete = st.columns(2)
    if keep.button("Keep it", width="stretch"):
        st.rerun()
    if delete.button("Delete", type="primary", width="stretch"):
        try:
            with contextlib.suppress(UnknownRun):  # another tab was quicker
                store.delete(run)
        except (StoreError, OSError) as error:
            st.error(markup.literal(refused(error) if isinstance(error, OSError) else error), icon=":material/error:")
            return
        st.rerun()


# The columns of the table. As Arrow has them, they go to the browser as they are.
_COLUMNS = pa.schema(
    {
        "state": pa.list_(pa.string()),
        "progress": pa.float64(),
        "queue": pa.int64(),
        "jobs": pa.string(),
        "method": pa.string(),
        "network": pa.string(),
        "accuracy": pa.int64(),
        "forgotten": pa.int64(),
        "training": pa.float64(),
        "energy": pa.float64(),
        "carbon": pa.float64(),
        "from": pa.string(),
        "started": pa.timestamp("ms", "UTC"),
    }
)


def row(store: Store, record: RunRecord, called: runs.Called, place: int | None, country: Country) -> dict[str, object]:
    """A line of the table; `place` in the queue counts from 1."""
    progress = runs.forecast_of(store, runs.follow(store, record.run)).share if record.state == "running" else None
    percent = lambda value: None if value is None else round(100 * value)  # noqa: E731
    state = runs.standing(store, record)
    return {
        "state": [runs.word(state)],
        "progress": 100 * progress if progress is not None else 100.0 if state == "complete" else None,
        "queue": place,
        "jobs": called.jobs,
        "method": called.method,
        "network": called.network,
        "accuracy": percent(record.average_accuracy),
        "forgotten": percent(record.forgetting),
        "training": record.train_seconds,
        "energy": record.energy_wh,
        "carbon": country.grams(record.energy_wh),
        "from": "elsewhere" if record.imported else "here",
        "started": round(1000 * record.submitted),
    }


def lines(store: Store, records: list[RunRecord], named: Mapping[str, runs.Called]) -> pa.Table:
    """The lines of these runs, in their order, and `named` so; only those columns that have something to say."""
    waiting = [record.run for record in store.active() if record.state == "queued"]
    places = {run: place for place, run in enumerate(waiting, 1)}
    country = store.country()
    found = [row(store, record, named[record.run], places.get(record.run), country) for record in records]
    silent = {
        "progress": all(line["progress"] in (None, 100.0) for line in found),
        "queue": not any(line["queue"] for line in found),
        "from": not any(record.imported for record in records),
    }
    return pa.Table.from_pylist(found, _COLUMNS).drop_columns([name for name, is_silent in silent.items() if is_silent])


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
    text = words.text_input("Jobs or network contain", key="contains", placeholder="fashion").strip().lower()
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


def chosen(store: Store, here: Collection[str]) -> RunRecord | None:
    """The run that was chosen, where it is among those listed."""
    for run in st.session_state.get("picked", []):
        with contextlib.suppress(UnknownRun):  # deleted just now
            if run in here:
                return store.record(run)
    return None


lab.through_the_shell()
store = lab.store()
everything = store.records()
if not everything:
    sentence = "Every run you start is kept here, finished or not: its curves, its figures, its weights."
    pictures.nothing_yet("No runs yet", sentence)
    settings.show(store)
    st.stop()

head, open_place, cancel_place, delete_place = st.columns([5, 1, 1, 1], vertical_alignment="center")
head.title("Runs", anchor=False)
alike, unreadable = narrowed(store, everything)
here, others = newest(alike)
if unreadable := sorted(unreadable + others):
    st.warning(
        f"Left out, as their settings cannot be read: {markup.literal(', '.join(unreadable))}. "
        "`python -m labcore check` says why.",
        icon=":material/healing:",
    )
if not here:
    st.caption(f"None of the {len(everything):,} runs is like that; take a filter away.")
elif len(alike) > MOST_LISTED:
    st.caption(f"The newest {MOST_LISTED} of {len(alike):,} runs; the filters look through all {len(everything):,}.")


@st.fragment(run_every=2 if store.active() else None)
@runs.while_there
def table_now(was_active: bool) -> None:
    """The table; while something runs, its progress and order are read again every other second."""
    records = store.records()
    if len(records) != len(everything) or was_active != bool(store.active()):
        st.rerun()  # a run came or went, or all are over
    there = [record for record in records if record.run in here]
    listed = [record.run for record in there]
    # A choice is a line's number. So the table's key names its lines: where they change, a new table takes the old
    # one's place, with the same run chosen, wherever its line is now.
    chosen_now = st.session_state.get("picked", [])
    kept = [line for line, run in enumerate(listed) if run in chosen_now]
    choice = st.dataframe(
        lines(store, there, here),
        hide_index=True,
        width="stretch",
        height=min(520, 38 + 35 * max(1, len(listed))),
        on_select="rerun",
        selection_mode="single-row",
        selection_default={"selection": {"rows": kept}},
        key=f"runs-{hash(tuple(listed))}",
        placeholder="",
        column_config={
            "state": st.column_config.MultiselectColumn(
                "state", options=list(runs.words()), color=list(runs.words().values()), width="small"
            ),
            "progress": st.column_config.ProgressColumn(
                "progress", format="%d %%", min_value=0, max_value=100, width="small"
            ),
            "queue": st.column_config.NumberColumn("queue", help="Its place among those that wait", width="small"),
            "accuracy": st.column_config.NumberColumn(
                "accuracy", help="Average accuracy over all jobs, test images", format="%d %%"
            ),
            "forgotten": st.column_config.NumberColumn(
                "forgotten", help="Mean forgetting of the earlier jobs", format="%d %%"
            ),
            "training": st.column_config.NumberColumn("training", help="Seconds of training", format="%.0f s"),
            "energy": st.column_config.NumberColumn("energy", help="Estimated by codecarbon", format="%.2g Wh"),
            "carbon": st.column_config.NumberColumn(
                "carbon", help=f"Grams of CO₂e, estimated: {store.country().text}", format="%.2g g"
            ),
            "started": st.column_config.DatetimeColumn("started", format="distance"),
        },
    )
    picked = [listed[line] for line in choice["selection"]["rows"] if line < len(listed)]
    if picked != chosen_now:
        st.session_state["picked"] = picked
        st.rerun()  # what can be done depends on what is chosen


table_now(bool(store.active()))
record = chosen(store, here)
run = record.run if record else None
if run is None:
    st.caption("Click the box at the left of a line to choose a run.")
if open_place.button("Open", type="primary", icon=":material/monitoring:", width="stretch", disabled=run is None):
    st.switch_page("pages/watch.py", query_params={"run": run})
if (
    cancel_place.button("Cancel", icon=":material/stop:", width="stretch", disabled=record is None or not record.active)
    and run
):
    store.request_stop(run)
    st.rerun()
if delete_place.button("Delete", icon=":material/delete:", width="stretch", disabled=run is None) and run:
    ask_to_delete(store, run, runs.title(store.config(run)))

if record is not None:
    stages.keep_weights(store, record)
    if not record.active and (
        words := stored_maps.gone(runs.follow(store, record.run), store.folder(record.run)).words
    ):
        st.caption(f"{words} Inside tells how to have them again.")

take_away, bring_back = st.columns(2)
with take_away.container(border=True, height="stretch"):
    st.markdown("**Take a run away**")
    if record is None or record.active:
        st.caption("Choose a run that is over: its settings, curves, figures and weights go into one zip.")
    elif (size := runs.bytes_to_pack(store, record.run)) > MOST_DOWNLOADED:
        st.caption(f"{units.size(size)}, too much to pass through the browser. On the command line:")
        st.code(f"python -m labcore export {run} {run}.zip", language="bash", wrap_lines=True)
    elif st.button("Pack it", icon=":material/archive:", key=f"pack-{run}"):
        # Not in the store, whose disk may be full or for reading alone.
        with lab.refusals_told(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{run}.zip"
            missing, damaged, maps = archive.export_run(store, record.run, path)
            if missing:
                st.caption(f"Without the weights of stages {', '.join(map(str, missing))}, which are no longer stored.")
            if damaged:
                st.caption(f"Without the weights of stages {', '.join(map(str, damaged))}, which are damaged.")
            if maps:
                st.caption(f"Maps of the network's inside that are damaged, left out: {maps}.")
            st.download_button(f"Download {units.size(path.stat().st_size)}", path.read_bytes(), path.name)
with bring_back.container(border=True, height="stretch"):
    st.markdown("**Bring a run back**")
    upload = st.file_uploader("A zip that a lab has packed", type="zip", label_visibility="collapsed")
    if upload is not None and st.session_state.get("imported") != upload.file_id:
        # In the store, which must have the room anyway; the system's own folder may lie in memory.
        with lab.refusals_told(), tempfile.TemporaryDirectory(prefix="import-", dir=store.cache) as folder:
            path = Path(folder) / Path(upload.name).name
            path.write_bytes(upload.getbuffer())
            archive.import_run(store, path)
            st.session_state["imported"] = upload.file_id
            st.rerun()
stages.storage(store, len(everything))
settings.show(store)
live_plot.ahead()
