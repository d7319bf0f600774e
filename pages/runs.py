"""Runs: what there is, and what can be done with it."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import streamlit as st

from labcore.configs import units
from labcore.configs.base import ConfigError
from labcore.runs import archive
from labcore.runs.energy import Country
from labcore.runs.errors import StoreError, UnknownRun, refused
from labcore.runs.records import RunRecord
from labcore.runs.store import Store
from pages.parts import lab, live_plot, markup, pictures, runs, settings, stages

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


def row(store: Store, record: RunRecord, place: int | None, country: Country) -> dict[str, object] | None:
    """A line of the table; None for a run whose configuration cannot be read. `place` in the queue counts from 1."""
    try:
        config = store.config(record.run)
        progress = runs.forecast_of(store, runs.follow(store, record.run)).share if record.state == "running" else None
    except (ConfigError, OSError):
        return None
    percent = lambda value: None if value is None else round(100 * value)  # noqa: E731
    state = runs.standing(store, record)
    return {
        "run": record.run,
        "state": [runs.word(state)],
        "progress": 100 * progress if progress is not None else 100.0 if state == "complete" else None,
        "queue": place,
        "jobs": runs.jobs(config),
        "method": config.method.title,
        "network": config.backbone.title,
        "accuracy": percent(record.average_accuracy),
        "forgotten": percent(record.forgetting),
        "training": record.train_seconds,
        "energy": record.energy_wh,
        "carbon": country.grams(record.energy_wh),
        "from": "elsewhere" if record.imported else "here",
        "started": pd.to_datetime(record.submitted, unit="s", utc=True),
    }


def lines(store: Store) -> pd.DataFrame:
    """All runs, the newest first."""
    waiting = [record.run for record in store.active() if record.state == "queued"]
    places = {run: place for place, run in enumerate(waiting, 1)}
    country = store.country()
    found = {record.run: row(store, record, places.get(record.run), country) for record in store.records()}
    table = pd.DataFrame([line for line in found.values() if line is not None])
    table.attrs["unreadable"] = [run for run, line in found.items() if line is None]
    return table


def shown(table: pd.DataFrame, column: str) -> bool:
    """Whether a column has something to say: somebody waits, something is half done, or came from elsewhere."""
    match column:
        case "from":
            return bool((table[column] == "elsewhere").any())
        case "progress":
            return bool((table[column] < 100).any())
    return bool(table[column].notna().any())


def narrowed(table: pd.DataFrame) -> pd.DataFrame:
    """The lines that the filters let through; the address keeps the filters."""
    states, methods, words = st.columns([2, 1.4, 1.4], vertical_alignment="bottom")
    here = [word for word in runs.words() if word in set(table["state"].str[0])]
    asked = st.query_params.get_all("state")
    kept = states.pills(
        "State", here, selection_mode="multi", default=[word for word in asked if word in here], key="state"
    )
    method = methods.selectbox("Method", sorted(set(table["method"])), index=None, placeholder="all", key="method")
    text = words.text_input("Jobs or network contain", key="contains", placeholder="fashion").strip().lower()
    st.query_params["state"] = kept
    if kept:
        table = table[table["state"].str[0].isin(kept)]
    if method:
        table = table[table["method"] == method]
    if text:
        table = table[(table["jobs"] + " " + table["network"]).str.lower().str.contains(text, regex=False)]
    return table


def chosen(store: Store, table: pd.DataFrame) -> RunRecord | None:
    """The run that was chosen, where it is among those listed."""
    for run in st.session_state.get("picked", []):
        with contextlib.suppress(UnknownRun):  # deleted just now
            if run in set(table["run"]):
                return store.record(run)
    return None


@contextlib.contextmanager
def told_here() -> Iterator[None]:
    """For the block, say on the spot what keeps a run from being packed or taken in."""
    with lab.refusals_told():
        try:
            yield
        except ConfigError as error:
            st.error(markup.literal(error), icon=":material/error:")


lab.through_the_shell()
store = lab.store()
table = lines(store)
if unreadable := table.attrs["unreadable"]:
    st.warning(
        f"Left out, as their settings cannot be read: {markup.literal(', '.join(unreadable))}. "
        "`python -m labcore check` says why.",
        icon=":material/healing:",
    )
if table.empty:
    sentence = "Every run you start is kept here, finished or not: its curves, its figures, its weights."
    pictures.nothing_yet("No runs yet", sentence)
    settings.show(store)
    st.stop()

head, open_place, cancel_place, delete_place = st.columns([5, 1, 1, 1], vertical_alignment="center")
head.title("Runs", anchor=False)
everything = len(table)
table = narrowed(table)
if table.empty:
    st.caption(f"None of the {everything} runs is like that; take a filter away.")


@st.fragment(run_every=2 if store.active() else None)
@runs.while_there
def table_now(was_active: bool) -> None:
    """The table; while something runs, its progress and order are read again every other second."""
    now = lines(store)
    if len(now) != everything or was_active != bool(store.active()):
        st.rerun()  # a run came or went, or all are over
    now = now[now["run"].isin(table["run"])]
    listed = list(now["run"])
    # A choice is a line's number. So the table's key names its lines: where they change, a new table takes the old
    # one's place, with the same run chosen, wherever its line is now.
    kept = [line for line, run in enumerate(listed) if run in st.session_state.get("picked", [])]
    choice = st.dataframe(
        now.drop(columns=["run", *(name for name in ("progress", "queue", "from") if not shown(now, name))]),
        hide_index=True,
        width="stretch",
        height=min(520, 38 + 35 * max(1, len(now))),
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
    if picked != st.session_state.get("picked", []):
        st.session_state["picked"] = picked
        st.rerun()  # what can be done depends on what is chosen


table_now(bool(store.active()))
record = chosen(store, table)
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
        with told_here(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{run}.zip"
            missing, damaged = archive.export_run(store, record.run, path)
            if missing:
                st.caption(f"Without the weights of stages {', '.join(map(str, missing))}, which are no longer stored.")
            if damaged:
                st.caption(f"Without the weights of stages {', '.join(map(str, damaged))}, which are damaged.")
            st.download_button(f"Download {units.size(path.stat().st_size)}", path.read_bytes(), path.name)
with bring_back.container(border=True, height="stretch"):
    st.markdown("**Bring a run back**")
    upload = st.file_uploader("A zip that a lab has packed", type="zip", label_visibility="collapsed")
    if upload is not None and st.session_state.get("imported") != upload.file_id:
        # In the store, which must have the room anyway; the system's own folder may lie in memory.
        with told_here(), tempfile.TemporaryDirectory(prefix="import-", dir=store.cache) as folder:
            path = Path(folder) / Path(upload.name).name
            path.write_bytes(upload.getbuffer())
            archive.import_run(store, path)
            st.session_state["imported"] = upload.file_id
            st.rerun()
stages.storage(store, everything)
settings.show(store)
live_plot.ahead()
