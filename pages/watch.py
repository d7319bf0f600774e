"""Watch: one run while it trains, or as it was."""

from collections.abc import Sequence

import streamlit as st

from labcore.configs.units import percent
from labcore.drawings import figures
from labcore.runs import energy
from pages.parts import lab, live_plot, markup, news, pictures, runs, stages, watched
from pages.parts.watched import Watched

lab.through_the_shell()
markup.style("strip")
store = lab.store()
record = runs.from_url(store)
if record is None:
    sentence = "A run is a network learning one job after another. Start one, and it is drawn here as it happens."
    pictures.nothing_yet("Nothing to watch yet", sentence)
    runs.to_recorded()
    st.stop()
run = record.run
if note := st.session_state.pop("note", None):
    st.info(note, icon=":material/history:")


moving = st.container()
others = runs.seen_with(store, record)
followed = [run, *others]
active, by_news = runs.active(store, followed), news.enough(store, followed)


def alone(one: Watched) -> None:
    """One run over the whole width."""
    watched.head(one, runs.title(one.config))
    watched.answers(one)
    with markup.row("wide", "accuracy"):
        if others:
            laid_over(one)
        else:
            watched.accuracy(one)
        watched.remembered(one)
    with markup.row("wide", "loss"):
        watched.losses(one)
        watched.costs(one)
    watched.confusions(one)


def laid_over(one: Watched) -> None:
    """Its curves, and over them those of several other runs; a click on a line opens its run."""
    folds = {"this run": one.fold} | {runs.short(store, other): runs.follow(store, other) for other in others}
    overlay = figures.accuracy_overlay_info(one.titles, folds)
    version = tuple(other.events for other in folds.values())
    with st.container():
        picked = live_plot.draw(
            lambda: figures.accuracy_overlay(overlay),
            f"overlay-{run}-{'-'.join(others)}",
            watched.CHARTS,
            title="How well does it do each job?",
            version=version,
            picks=True,
        )
        names = " · ".join(f"**{chr(ord('A') + i)}** {name}" for i, name in enumerate(folds))
        st.caption(f"{names}. Click a line to open its run.")
    if picked and (number := overlay.lines[picked.trace].run) > 0:
        st.switch_page("pages/watch.py", query_params={"run": others[number - 1], "with": run})


def face_to_face(pair: Sequence[Watched]) -> None:
    """Two runs side by side, part by part, so that what belongs together stands on one line."""
    alike = pair[0].config.method.name == pair[1].config.method.name
    for part in (
        lambda one: watched.head(one, runs.short(store, one.run) if alike else one.config.method.title),
        watched.answers,
        watched.accuracy,
        watched.remembered,
        watched.losses,
        watched.costs,
        watched.confusions,
    ):
        for place, one in zip(st.columns(2, gap="medium"), pair, strict=True):
            with place:
                part(one)


@st.fragment(run_every=1 if any(active) and not by_news else None)
@runs.while_there
def figures_now() -> None:
    """All that moves; it reads and folds only what is new."""
    told = news.of(store, followed, "events") if any(active) and by_news else ""
    if len(others) == 1:
        face_to_face([Watched.now(one) for one in followed])
    else:
        alone(Watched.now(run))
    if told:
        news.follow(followed, "events", told)
    if (active, by_news) != (runs.active(store, followed), news.enough(store, followed)):
        st.rerun()  # once: from here on nothing ticks, or everything does again


with moving:
    figures_now()

record, fold = store.record(run), runs.follow(store, run)
if not record.recorded:
    stages.missing(store, record, fold)
inside, again, explore, fork, keep = st.columns([1, 1.4, 1.1, 1.1, 1.4], vertical_alignment="center")
inside.page_link("pages/inside.py", label="Inside this run", icon=":material/layers:", query_params={"run": run})
with again:
    st.page_link(
        "pages/launch.py", label="Run it again with changes", icon=":material/edit:", query_params={"run": run}
    )
explore.page_link("pages/explore.py", label="Explore its settings", icon=":material/tune:", query_params={"run": run})
if not record.recorded:  # which has no weights
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
