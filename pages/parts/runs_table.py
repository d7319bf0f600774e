"""The table of runs: a click on a line opens its run, and boxes choose the runs that something is done with.

Streamlit's own table opens nothing by a click on a line, and cuts what does not fit. This one is a component drawn by
assets/runs_table.js. A tick sends the lines; those that did not change are left as they are.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from labcore.configs.units import seconds
from labcore.runs import energy
from labcore.runs.energy import Country
from labcore.runs.records import RunRecord
from labcore.runs.store import Store
from pages.parts import runs

# The columns beside the run and its state, and what their names say when the pointer is on them.
COLUMNS = {
    "network": "The network it started from",
    "accuracy": "Average accuracy over all jobs, on test images",
    "forgotten": "How much it forgot of the earlier jobs, on average",
    "training": "Time of training",
    "energy": "Estimated by codecarbon",
    "carbon": "Grams of CO₂e, estimated",
    "from": "Where it was trained",
    "started": "When it was started",
}


@functools.cache
def _component() -> Callable[..., Any]:
    script = (Path(__file__).parent / "assets" / "runs_table.js").read_text(encoding="utf-8")
    return st.components.v2.component("runs_table", js=script, isolate_styles=False)


def draw(lines: Sequence[Mapping[str, Any]], country: Country) -> tuple[list[str], str | None]:
    """Draw the lines. Returns the runs that are chosen, and the one that was clicked just now."""
    names = [name for name in COLUMNS if name == "started" or any(name in line["cells"] for line in lines)]
    told = {**COLUMNS, "carbon": f"{COLUMNS['carbon']}: {country.text}"}
    data = {
        "lines": lines,
        "columns": [{"name": name, "help": told[name]} for name in names],
        "picked": st.session_state.get("picked", []),
    }
    act = {"on_picked_change": lambda: None, "on_opened_change": lambda: None}
    found = _component()(data=data, key="runs-table", **act)
    picked = st.session_state.get("picked", []) if found.picked is None else found.picked
    here = {line["run"] for line in lines}
    return [run for run in picked if run in here], found.opened if found.opened in here else None


def line(store: Store, record: RunRecord, called: runs.Called, place: int | None, country: Country) -> dict[str, Any]:
    """A line of the table; `place` in the queue counts from 1. `cells` are words, and sorted by `values`."""
    share = runs.forecast_of(store, runs.follow(store, record.run)).share if record.state == "running" else None
    state = runs.standing(store, record)
    grams = country.grams(record.energy_wh)
    values = {
        "accuracy": record.average_accuracy,
        "forgotten": record.forgetting,
        "training": record.train_seconds,
        "energy": record.energy_wh,
        "carbon": grams,
    }
    write = {
        "accuracy": _percent, "forgotten": _percent, "training": seconds,
        "energy": energy.watt_hours, "carbon": energy.grams,
    }  # fmt: skip
    known = {name: value for name, value in values.items() if value is not None}
    cells = {name: write[name](value) for name, value in known.items()}
    return {
        "run": record.run,
        "method": called.method,
        "jobs": called.jobs,
        "state": runs.word(state),
        "face": runs.face(state),
        "note": f"number {place} in the queue" if place else "",
        "share": share,
        "cells": {"network": called.network, **cells, **({"from": "elsewhere"} if record.imported else {})},
        "values": {**known, "started": record.submitted},
    }


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
