"""A run that is watched: its head, what its state means, its pictures with answers, its charts and its cost."""

import contextlib
import html
from collections.abc import Callable
from typing import NamedTuple

import streamlit as st

from labcore.configs import units
from labcore.configs.base import ConfigError
from labcore.configs.run import RunConfig
from labcore.configs.units import count_of
from labcore.drawings import figures, strip
from labcore.drawings.charts import Chart
from labcore.runs import energy
from labcore.runs.errors import UnknownRun
from labcore.runs.records import RunRecord
from labcore.runs.results import Fold
from labcore.runs.stage_keys import shared_stages
from labcore.training import worker
from pages.parts import confused, lab, live_plot, markup, runs, strips

BUTTON = 150  # px
CHARTS = 228  # px; so the strip, the curves and the matrix of three jobs are seen at once on a projector


class Watched(NamedTuple):
    """A run as it stands at a tick; `rows` are its pictures with answers."""

    record: RunRecord
    config: RunConfig
    fold: Fold
    state: str
    rows: list[strip.Row]

    @classmethod
    def now(cls, run: str) -> "Watched":
        """How it stands now; only its new events are read. Raises UnknownRun."""
        store = lab.store()
        record, config, fold = store.record(run), store.config(run), runs.follow(store, run)
        rows = strip.rows(run, fold, [task.title for task in config.tasks])
        return cls(record, config, fold, runs.standing(store, record), rows)

    @property
    def run(self) -> str:
        """Its ID."""
        return self.record.run

    @property
    def titles(self) -> list[str]:
        """What its jobs are called."""
        return [task.title for task in self.config.tasks]


def head(one: Watched, title: str) -> None:
    """Its title and state, the button that fits the state, and what is to be seen."""
    with st.container(horizontal=True, vertical_alignment="center", key=f"watch-head-{one.run}"):
        st.subheader(title, anchor=False)
        st.html(runs.chip(one.state), width="content")
        press = {"width": BUTTON, "args": (one.record,)}
        if one.state in ("queued", "running", "stopping"):
            off = one.state == "stopping"
            st.button("Stop", icon=":material/stop:", key=f"stop-{one.run}", on_click=_stop, disabled=off, **press)
        elif one.state == "failed" and one.fold.ended and one.fold.ended.diverged:
            if st.button("Change it", type="primary", icon=":material/edit:", width=BUTTON, key=f"change-{one.run}"):
                st.switch_page("pages/launch.py", query_params={"run": one.run})
        elif one.state not in ("complete", "recorded"):
            icon = ":material/play_arrow:"
            st.button("Resume", type="primary", icon=icon, key=f"resume-{one.run}", on_click=_resume, **press)
    _explain(one)
    runs.recorded(lab.store(), one.run)
    runs.say_damage(lab.store(), one.run, one.fold)
    for warning in one.fold.warnings:
        st.warning(markup.literal(warning.text), icon=":material/warning:")
    if lost := runs.told_lost(one.record):
        st.caption(markup.literal(lost))


def answers(one: Watched) -> None:
    """Its pictures with the network's answers."""
    strips.draw(one.run, one.rows, title="What does it say now?")


def accuracy(one: Watched) -> None:
    """The curves of its jobs."""
    info = figures.accuracy_curves_info
    draw(one, lambda: figures.accuracy_curves(info(one.fold)), "accuracy", "How well does it do each job?")


def remembered(one: Watched) -> None:
    """Its accuracy matrix."""
    info = figures.accuracy_matrix_info
    draw(one, lambda: figures.accuracy_matrix(info(one.fold, one.titles)), "matrix", "What it remembers")


def losses(one: Watched) -> None:
    """The terms of its loss."""
    info = figures.loss_terms_info
    draw(one, lambda: figures.loss_terms(info(one.fold)), "loss", "What it is trying to make small")


def confusions(one: Watched) -> None:
    """What its jobs are confused with."""
    confused.show(lab.store(), one.run, one.fold)


def draw(one: Watched, make: Callable[[], Chart], name: str, title: str) -> None:
    """A chart of the run, which is drawn anew where its events are new."""
    live_plot.draw(make, f"{name}-{one.run}", CHARTS, title=title, version=one.fold.events)


# ---- what a state means ---------------------------------------------------------------------------------------------


def _explain(one: Watched) -> None:
    """What a state means, what is to be seen in the pictures while it trains, and what to do next.

    It fits in its place: nothing below moves from state to state.
    """
    with st.container(key=f"line-watch-{one.run}"):
        match one.state:
            case "queued":
                st.caption(markup.literal(f"It waits for the worker. {_what_before(one)}"))
            case "running" | "stopping":
                st.html(_progress(one))
            case "lost":
                st.caption("Its worker is gone. It goes on by itself when a worker is there again, or press Resume.")
            case "stopped":
                st.caption("Stopped. Nothing is lost: Resume goes on from where it was.")
            case "failed":
                st.error(markup.literal(one.record.error or "It failed without saying why; see the worker's log."))
            case "complete" | "recorded":
                st.markdown(figures.summary(one.fold))


def _progress(one: Watched) -> str:
    """HTML of how far the run is, and of what is to be seen in its pictures."""
    fold = one.fold
    held = fold.downloading or fold.waiting
    begun = f"job {len(fold.stages)} of {len(one.config.tasks)}" if fold.stages else "loading pictures"
    forecast = runs.forecast_of(lab.store(), fold)
    left = f" · {units.left(forecast.seconds_left)}" if forecast.seconds_left is not None else ""
    far = f"{100 * forecast.share:.0f} %{left}" if one.state == "running" else "it writes down where it is, and stops"
    says = html.escape(strip.sentence(one.rows)) if fold.stages else ""
    place = html.escape(held.text) if held else begun
    return f"{runs.bar(forecast.share)}<div>{says}</div><div class='lab-term'>{place} · {far}</div>"


def _what_before(one: Watched) -> str:
    """Why a run does not begin yet."""
    store = lab.store()
    for other in store.at_work(None if one.record.device == "auto" else one.record.device):
        with contextlib.suppress(UnknownRun, ConfigError):
            config, begun = store.config(other.run or ""), len(runs.follow(store, other.run or "").stages)
            if 1 <= begun <= shared_stages(one.config, config):
                job = config.tasks[begun - 1].title
                return f"{config.method.title} learns {job} just now in the same way, so that is done once for both."
    waiting = [other.run for other in store.active()]
    ahead = waiting.index(one.run) if one.run in waiting else 0
    if ahead:
        return f"Runs before it: {ahead}."
    if store.at_work(None if one.record.device == "auto" else one.record.device):
        return "It begins when there is room beside the runs that train now."
    return "The worker is waking up."


@lab.told_if_refused
def _stop(record: RunRecord) -> None:
    """Ask the run to stop."""
    lab.store().request_stop(record.run)


@lab.told_if_refused
def _resume(record: RunRecord) -> None:
    """Queue the run again, and see to it that somebody takes it."""
    lab.store().resume(record.run)
    worker.ensure(lab.store(), record.device)


# ---- what it costs --------------------------------------------------------------------------------------------------


def costs(one: Watched) -> None:
    """What the run cost so far: time, memory and energy; one click deeper all the rest, and what must be kept."""
    fold, country = one.fold, lab.store().country()
    config = one.config.model_dump(mode="json")
    result = fold.result(one.run, one.record.state, config, country=country)
    kept, speed, saved = result.footprint_bytes["total"], fold.images_per_second, fold.reused_energy_wh
    how = fold.started.energy_method if fold.started else None
    first = {
        "training": units.seconds(fold.train_seconds),
        "peak memory": units.size(result.peak_memory_bytes) if result.peak_memory_bytes else "–",
        "energy": f"≈ {energy.watt_hours(result.energy_wh)}" if result.energy_wh else "–",
    }
    rest = {
        **({"of the training reused": units.seconds(fold.reused_seconds)} if fold.reused_seconds else {}),
        "measuring": units.seconds(fold.evaluation_seconds),
        "images a second": f"{speed:,.0f}" if speed else "–",
        "carbon (CO₂e)": f"≈ {energy.grams(result.carbon_g)}" if result.energy_wh else "–",
        "an answer takes": f"{result.test_ms_per_image:.1f} ms" if result.test_ms_per_image else "–",
        "old pictures": "needed" if result.needs_old_data else "not needed",
        "kept for all jobs": units.size(kept) if kept else "–",
    }
    notes = {
        "of the training reused": "Other runs had trained these stages; the seconds are those measured then.",
        "energy": (f"Estimated by codecarbon {how}." if how else "It was not measured.")
        + (f" Stages that were reused had cost {energy.watt_hours(saved)}, not spent again." if saved else ""),
        "carbon (CO₂e)": f"Estimated: energy × {country.text}. The country is chosen at the foot of Runs.",
    }
    markup.titled(
        "Cost so far" if one.record.active else "What it cost",
        markup.figures_row(first, notes),
    )
    with st.expander("All costs", type="compact", key=f"costs-{one.run}"):
        st.html(
            markup.figures_row(rest, notes)
            + markup.parts_bar(figures.footprint_info(fold))
            + f"<div class='lab-term'>{html.escape(_device_line(one))}</div>"
        )


def _device_line(one: Watched) -> str:
    """Which device trains it or did, and why that one; while it waits, who will take it."""
    store, record, found = lab.store(), one.record, one.fold.started
    if found and record.state != "queued" and not record.lost:
        why = (
            "on another machine" if record.imported or record.recorded else lab.why_device(record.device, found.device)
        )
        verb = "Trains" if record.active else "Trained"
        return f"{verb} on {found.device_name} ({found.device}, {count_of(found.threads, 'thread')}): {why}."
    if not record.active:
        return ""
    workers = [w for w in store.workers() if record.device in ("auto", w.device)]  # others cannot take it
    if not workers:
        worker.ensure(store, record.device)
        return "No worker yet; one is being started."
    busy = next((w for w in workers if w.run == record.run), workers[0])
    doing = "at this run" if busy.run == record.run else "at another run" if busy.run else "ready"
    return f"Worker on {busy.device}: {doing}."
