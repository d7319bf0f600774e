"""Runs: what there is, and what can be done with it."""

import tempfile
from pathlib import Path

import pandas as pd
import streamlit as st

from labcore import archive
from labcore.configs import BACKBONES, METHOD_TITLES, ConfigError
from labcore.store import Busy, RunRecord, Store
from pages.parts import lab, runs


@st.dialog("Delete this run?")
def ask_to_delete(store: Store, run: str, name: str) -> None:
    """Deleting cannot be undone, so it asks."""
    st.write(f"{name}: its curves, results and stored weights will be gone for good.")
    keep, delete = st.columns(2)
    if keep.button("Keep it", width="stretch"):
        st.rerun()
    if delete.button("Delete", type="primary", width="stretch"):
        try:
            store.delete(run)
        except Busy as error:
            st.error(str(error))
            return
        st.rerun()


def row(store: Store, record: RunRecord) -> dict[str, object] | None:
    """A line of the table; None for a run that this version cannot read."""
    try:
        config = store.config(record.run)
    except ConfigError:
        return None
    percent = lambda value: None if value is None else round(100 * value)  # noqa: E731
    return {
        "run": record.run,
        "state": runs.word(runs.standing(store, record)),
        "jobs": " → ".join(config.task_names),
        "method": METHOD_TITLES[config.method.name],
        "network": BACKBONES[config.backbone.name].title,
        "accuracy": percent(record.average_accuracy),
        "forgotten": percent(record.forgetting),
        "training": None if record.train_seconds is None else lab.seconds(record.train_seconds),
        "from": "elsewhere" if record.imported else "here",
        "started": pd.to_datetime(record.submitted, unit="s", utc=True),
    }


lab.through_the_shell()
store = lab.store()
table = pd.DataFrame([found for record in store.records() if (found := row(store, record)) is not None])

if table.empty:
    st.title("No runs yet", anchor=False)
    st.write("Every run you start is kept here, finished or not: its curves, its figures, its weights.")
    st.page_link("pages/launch.py", label="Start the story", icon=":material/play_arrow:")
    st.stop()

head, open_place, cancel_place, delete_place = st.columns([5, 1, 1, 1], vertical_alignment="center")
head.title("Runs", anchor=False)
choice = st.dataframe(
    table.drop(columns="run"),
    hide_index=True,
    width="stretch",
    height=min(520, 38 + 35 * len(table)),
    on_select="rerun",
    selection_mode="single-row",
    key="runs",
    column_config={
        "accuracy": st.column_config.NumberColumn(
            "accuracy", help="Average accuracy over all jobs, test images", format="%d %%"
        ),
        "forgotten": st.column_config.NumberColumn(
            "forgotten", help="Mean forgetting of the earlier jobs", format="%d %%"
        ),
        "started": st.column_config.DatetimeColumn("started", format="distance"),
    },
)
picked = choice["selection"]["rows"]
run = str(table.iloc[picked[0]]["run"]) if picked and picked[0] < len(table) else None
if run is None:
    st.caption("Click the box at the left of a line to choose a run.")
record = store.record(run) if run else None
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

take_away, bring_back = st.columns(2)
with take_away.container(border=True):
    st.markdown("**Take a run away**")
    if record is None or record.active:
        st.caption("Choose a run that is over: its settings, curves, figures and weights go into one zip.")
    elif st.button("Pack it", icon=":material/archive:", key=f"pack-{run}"):
        with tempfile.TemporaryDirectory(dir=store.cache) as folder:
            path = Path(folder) / f"{run}.zip"
            missing = archive.export_run(store, record.run, path)
            if missing:
                st.caption(f"Without the weights of stages {', '.join(map(str, missing))}, which are no longer stored.")
            st.download_button(f"Download {lab.size(path.stat().st_size)}", path.read_bytes(), path.name)
with bring_back.container(border=True):
    st.markdown("**Bring a run back**")
    upload = st.file_uploader("A zip that a lab has packed", type="zip", label_visibility="collapsed")
    if upload is not None and st.session_state.get("imported") != upload.file_id:
        try:
            with tempfile.NamedTemporaryFile(dir=store.cache, suffix=".zip") as file:
                file.write(upload.getbuffer())
                file.flush()
                archive.import_run(store, Path(file.name))
            st.session_state["imported"] = upload.file_id
            st.rerun()
        except ConfigError as error:
            st.error(str(error).replace(Path(file.name).name, upload.name), icon=":material/error:")
st.caption(f"{len(table)} run{'s' * (len(table) > 1)}, {lab.size(store.bytes_used())} on disk in {store.root}")
