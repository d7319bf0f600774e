"""What a run's network takes the test pictures of its jobs for: folded until somebody asks, then a job at a time."""

import html
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import streamlit as st

from labcore.configs.run import RunConfig
from labcore.drawings import confusion
from labcore.runs import answers
from labcore.runs.answers import Confusion
from labcore.runs.results import Fold
from labcore.runs.store import Store
from labcore.tasks.source import TaskError
from pages.parts import live_plot, markup, strips

MOST_KNOWN = 2  # runs, as two are watched face to face
HEIGHT = 380  # px


@dataclass(frozen=True, slots=True)
class Confused:
    """What a job's test pictures are taken for; `why` says why that is not known, and the rest is then empty."""

    why: str = ""
    learnt: Confusion | None = None
    now: Confusion | None = None


def show(store: Store, run: str, fold: Fold) -> None:
    """The part of a page that asks with what a job is confused: two matrices, and pictures of each mistake."""
    part = st.expander("What does it confuse?", key=f"confused-{run}-part", on_change="rerun")
    if not part.open:
        return
    measured = [number for number, stage in enumerate(fold.stages, 1) if number in stage.predicted]
    with part:
        if not measured or fold.started is None:
            st.caption("This appears once the first job is learnt. Runs of earlier versions kept no answers.")
            return
        titles = {number: fold.tasks[number - 1].title for number in measured}
        job = st.segmented_control("Job", list(titles), format_func=titles.__getitem__, default=measured[0],
                                   required=True, key=f"confused-job-{run}", label_visibility="collapsed")  # fmt: skip
        version = (run, job, len(fold.stages), sum(len(stage.predicted) for stage in fold.stages))
        kept: dict[str, tuple[Hashable, Confused]] = st.session_state.setdefault("confused-known", {})
        known = kept.pop(run, None)
        if known is None or known[0] != version:  # a tick without news counts no pictures again
            known = version, _look(store, fold, fold.started.config, job)
        kept[run] = known
        while len(kept) > MOST_KNOWN:
            kept.pop(next(iter(kept)))
        found = known[1]
        if found.learnt is None or found.now is None:
            st.caption(markup.literal(found.why))
            return
        _matrices_and_mistakes(run, job, fold.tasks[job - 1].classes, found.learnt, found.now, version)


def _look(store: Store, fold: Fold, config: RunConfig, job: int) -> Confused:
    if len(fold.tasks[job - 1].classes) > confusion.MOST_CLASSES:
        return Confused(f"A job of more than {confusion.MOST_CLASSES} classes has no room here.")
    try:
        labels = strips.job_pictures(store, config, job).test.labels.tolist()
    except (TaskError, OSError) as error:
        return Confused(f"Its pictures cannot be shown: {error}.")
    learnt, now = (answers.confusion(fold, job, when, labels) for when in ("learnt", "now"))
    if learnt is None or now is None:
        return Confused("Its test pictures are not those by which this run was measured.")
    return Confused("", learnt, now)


def _matrices_and_mistakes(
    run: str, job: int, classes: Sequence[str], learnt: Confusion, now: Confusion, version: Hashable
) -> None:
    live_plot.draw(
        lambda: confusion.matrices(classes, learnt, now),
        f"confused-{run}",
        HEIGHT,
        called="What pictures of each class are taken for",
        version=version,
    )
    found = confusion.mistakes(classes, learnt, now)
    if not found:
        st.caption("Every test picture is taken for what it is.")
        return
    chosen = st.selectbox("A mistake, the most frequent first", found, format_func=lambda one: one.words,
                          key=f"confused-mistake-{run}-{job}")  # fmt: skip
    address = strips.address(run, job, test=chosen.pictures)
    words = html.escape(f"{chosen.shows} taken for {chosen.taken_for}")
    st.html(f'<img src="{address}" alt="Up to three pictures: {words}" class="lab-mistakes">')
