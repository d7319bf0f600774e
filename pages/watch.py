"""Watch: one run while it trains, or as it was."""

import html
from collections.abc import Callable, Sequence

import streamlit as st

from labcore.configs import units
from labcore.configs.units import count_of, percent
from labcore.drawings import figures, strip
from labcore.drawings.charts import Chart
from labcore.runs import energy
from labcore.runs.records import RunRecord
from labcore.runs.results import Fold
from labcore.training import worker
from pages.parts import confused, lab, live_plot, markup, news, pictures, runs, stages, strips

BUTTON = 150  # px
CHARTS = 228  # px; so the strip, the curves and the matrix of three jobs are seen at once on a projector

lab.through_the_shell()
markup.style("strip")
store = lab.store()
record = runs.from_url(store)
if record is None:
    sentence = "A run is a network learning one job after another. Start one, and it is drawn here as it happens."
    pictures.nothing_yet("Nothing to watch yet", sentence)
    st.stop()
run, config = record.run, store.config(record.run)
titles = [task.title for task in config.tasks]
if note := st.session_state.pop("note", None):
    st.info(note, icon=":material/history:")


def explain(record: RunRecord, state: str, fold: Fold, rows: Sequence[strip.Row]) -> None:
    """What a state means, what is to be seen in the strip's rows while it trains, and what to do next.

    It fits in its place: nothing below moves from state to state.
    """
    with st.container(key="line-watch"):
        match state:
            case "queued":
                waiting = [other.run for other in store.active()]
                ahead = waiting.index(run) if run in waiting else 0
                st.caption(f"It waits for the worker. {what_before(record, ahead)}")
            case "running" | "stopping":
                stage = f"stage {len(fold.stages)} of {len(config.tasks)}" if fold.stages else "loading pictures"
                held = fold.downloading or fold.waiting
                stage = html.escape(held.text) if held else stage
                forecast = runs.forecast_of(store, fold)
                left = f" · {units.left(forecast.seconds_left)}" if forecast.seconds_left is not None else ""
                shown = (
                    f"{100 * forecast.share:.0f} %{left}"
                    if state == "running"
                    else "it writes down where it is, and stops"
                )
                says = html.escape(strip.sentence(rows)) if fold.stages else ""
                place = f"<div class='lab-term'>{stage} · {shown}</div>"
                st.html(f"{runs.bar(forecast.share)}<div>{says}</div>{place}")
            case "lost":
                st.caption("Its worker is gone. It goes on by itself when a worker is there again, or press Resume.")
            case "stopped":
                st.caption("Stopped. Nothing is lost: Resume goes on from where it was.")
            case "failed":
                st.error(markup.literal(record.error or "It failed without saying why; see the worker's log."))
            case "complete":
                st.markdown(figures.summary(fold))


def what_before(record: RunRecord, ahead: int) -> str:
    """Why a run does not begin yet, which has so many runs before it."""
    if ahead:
        return f"Runs before it: {ahead}."
    if store.at_work(None if record.device == "auto" else record.device):
        return "It begins when there is room beside the runs that train now."
    return "The worker is waking up."


def show_costs(record: RunRecord, fold: Fold) -> None:
    """What the run cost so far, and what of it must be kept."""
    speed, country = fold.images_per_second, store.country()
    result = fold.result(run, record.state, config.model_dump(mode="json"), country=country)
    kept = result.footprint_bytes["total"]
    shown = {
        "training": units.seconds(fold.train_seconds),
        **({"of it reused": units.seconds(fold.reused_seconds)} if fold.reused_seconds else {}),
        "measuring": units.seconds(fold.evaluation_seconds),
        "images a second": f"{speed:,.0f}" if speed else "–",
        "energy": f"≈ {energy.watt_hours(result.energy_wh)}" if result.energy_wh else "–",
        "carbon (CO₂e)": f"≈ {energy.grams(result.carbon_g)}" if result.energy_wh else "–",
        "peak memory": units.size(result.peak_memory_bytes) if result.peak_memory_bytes else "–",
        "an answer takes": f"{result.test_ms_per_image:.1f} ms" if result.test_ms_per_image else "–",
        "old pictures": "needed" if result.needs_old_data else "not needed",
        "kept for all jobs": units.size(kept) if kept else "–",
    }
    how = fold.started.energy_method if fold.started else None
    saved = fold.reused_energy_wh
    notes = {
        "of it reused": "Other runs had trained these stages; the seconds are those measured then.",
        "energy": (f"Estimated by codecarbon {how}." if how else "It was not measured.")
        + (f" Stages that were reused had cost {energy.watt_hours(saved)}, not spent again." if saved else ""),
        "carbon (CO₂e)": f"Estimated: energy × {country.text}. The country is chosen at the foot of Runs.",
    }
    markup.titled(
        "Cost so far" if record.active else "What it cost",
        markup.figures_row(shown, notes)
        + markup.parts_bar(figures.footprint_info(fold))
        + f"<div class='lab-term'>{html.escape(device_line(record, fold))}</div>",
    )


@lab.told_if_refused
def stop() -> None:
    """Ask the run to stop."""
    store.request_stop(run)


@lab.told_if_refused
def resume() -> None:
    """Queue the run again, and see to it that somebody takes it."""
    store.resume(run)
    worker.ensure(store, record.device)


def device_line(record: RunRecord, fold: Fold) -> str:
    """Which device trains it or did, and why that one; while it waits, who will take it."""
    found = fold.started
    if found and record.state != "queued" and not record.lost:
        why = "on another machine" if record.imported else lab.why_device(record.device, found.device)
        verb = "Trains" if record.active else "Trained"
        return f"{verb} on {found.device_name} ({found.device}, {count_of(found.threads, 'thread')}): {why}."
    if not record.active:
        return ""
    workers = [w for w in store.workers() if record.device in ("auto", w.device)]  # others cannot take it
    if not workers:
        worker.ensure(store, record.device)
        return "No worker yet; one is being started."
    busy = next((w for w in workers if w.run == run), workers[0])
    doing = "at this run" if busy.run == run else "at another run" if busy.run else "ready"
    return f"Worker on {busy.device}: {doing}."


moving = st.container()
others = runs.laid_over(store, record)
followed = [run, *others]
active, by_news = runs.active(store, followed), news.enough(store, followed)


@st.fragment(run_every=1 if any(active) and not by_news else None)
@runs.while_there
def figures_now() -> None:
    """All that moves; it reads and folds only what is new."""
    told = news.of(store, followed, "events") if any(active) and by_news else ""
    record = store.record(run)
    fold, state = runs.follow(store, run), runs.standing(store, record)
    with st.container(horizontal=True, vertical_alignment="center", key="watch-head"):
        st.subheader(runs.title(config), anchor=False)
        st.html(runs.chip(state), width="content")
        if state in ("queued", "running", "stopping"):
            icon, off = ":material/stop:", state == "stopping"
            st.button("Stop", icon=icon, width=BUTTON, key="stop", on_click=stop, disabled=off)
        elif state == "failed" and fold.ended and fold.ended.diverged:
            if st.button("Change it", type="primary", icon=":material/edit:", width=BUTTON, key="change"):
                st.switch_page("pages/launch.py", query_params={"run": run})
        elif state != "complete":
            icon = ":material/play_arrow:"
            st.button("Resume", type="primary", icon=icon, width=BUTTON, key="resume", on_click=resume)
    rows = strip.rows(run, fold, titles)
    explain(record, state, fold, rows)
    runs.say_damage(store, run, fold)
    for warning in fold.warnings:
        st.warning(markup.literal(warning.text), icon=":material/warning:")
    if lost := runs.told_lost(record):
        st.caption(markup.literal(lost))

    def draw(make: Callable[[], Chart], name: str, height: int, title: str) -> None:
        live_plot.draw(make, f"{name}-{run}", height, title=title, version=fold.events)

    strips.draw(run, rows, title="What does it say now?")
    with markup.row("wide", "accuracy"):
        question = "How well does it do each job?"
        if others:
            folds = {"this run": fold} | {runs.short(store, other): runs.follow(store, other) for other in others}
            overlay = figures.accuracy_overlay_info(titles, folds)
            version = tuple(other.events for other in folds.values())
            key = f"overlay-{run}-{'-'.join(others)}"
            with st.container():
                picked = live_plot.draw(
                    lambda: figures.accuracy_overlay(overlay), key, CHARTS, title=question, version=version, picks=True
                )
                names = " · ".join(f"**{chr(ord('A') + i)}** {name}" for i, name in enumerate(folds))
                st.caption(f"{names}. Click a line to open its run.")
            if picked and (number := overlay.lines[picked.trace].run) > 0:
                st.switch_page("pages/watch.py", query_params={"run": others[number - 1], "with": run})
        else:
            draw(lambda: figures.accuracy_curves(figures.accuracy_curves_info(fold)), "accuracy", CHARTS, question)
        matrix = "What it remembers"
        draw(lambda: figures.accuracy_matrix(figures.accuracy_matrix_info(fold, titles)), "matrix", CHARTS, matrix)
    with markup.row("wide", "loss"):
        loss = "What it is trying to make small"
        draw(lambda: figures.loss_terms(figures.loss_terms_info(fold)), "loss", 236, loss)
        show_costs(record, fold)
    confused.show(store, run, fold)
    if told:
        news.follow(followed, "events", told)
    if (active, by_news) != (runs.active(store, followed), news.enough(store, followed)):
        st.rerun()  # once: from here on nothing ticks, or everything does again


with moving:
    figures_now()

record, fold = store.record(run), runs.follow(store, run)
stages.missing(store, record, fold)
inside, again, explore, fork, keep = st.columns([1, 1.4, 1.1, 1.1, 1.4], vertical_alignment="center")
inside.page_link("pages/inside.py", label="Inside this run", icon=":material/layers:", query_params={"run": run})
with again:
    st.page_link(
        "pages/launch.py", label="Run it again with changes", icon=":material/edit:", query_params={"run": run}
    )
explore.page_link("pages/explore.py", label="Explore its settings", icon=":material/tune:", query_params={"run": run})
with fork:
    stages.go_on(record, fold)
with keep:
    stages.keep_weights(store, record)
with st.expander("How it is computed"):
    result = store.result(run)
    fold = runs.follow(store, run)
    pictures = figures.accuracy_curves_info(fold).pictures or "some"
    how = fold.started.energy_method if fold.started else None
    st.markdown(
        f"""
The curves show accuracy on {pictures} validation images of each job, which are never trained on: how often the run
looks, and at how many, follows from how much it has to train and for how many jobs, so that looking takes little of its
time. The matrix shows all test images: `R[i, j]` is the accuracy on task *j* after stage *i*.

- **Average accuracy** (ACC): {percent(result.average_accuracy)}, the mean of the last row.
- **Backward transfer** (BWT): {percent(result.backward_transfer)}, the mean of `R[K, k] − R[k, k]` over the earlier
  tasks (Lopez-Paz & Ranzato 2017).
- **Forgetting**: {percent(result.mean_forgetting)}, the mean over earlier tasks of the best accuracy so far
  less the last (Chaudhry et al. 2018).
- **Energy**: {energy.watt_hours(result.energy_wh)}, estimated by codecarbon{f" {how}" if how else ""}; loading and
  measuring count too, and work that was lost when a worker died. **Carbon**: {energy.grams(result.carbon_g)} CO₂e, the
  energy times what a kilowatt-hour emits ({store.country().text}).
"""
    )
