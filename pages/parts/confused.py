"""What a run's network takes the test pictures of its jobs for: folded until somebody asks, then a job at a time."""

import functools
import html
from pathlib import Path

import streamlit as st

from labcore.drawings import confusion
from labcore.runs import answers
from labcore.runs.results import Fold
from labcore.runs.store import Store
from labcore.tasks import pictures
from labcore.tasks.source import TaskError
from pages.parts import live_plot, strips

HEIGHT = 380  # px


@functools.lru_cache(maxsize=16)
def _labels(task: str, size: int, cache: Path, downloads: Path) -> tuple[int, ...]:
    """The true class of each test picture. Raises TaskError where the pictures are not on this machine."""
    return tuple(pictures.load(task, size, cache=cache, downloads=downloads).test.labels.tolist())


def show(store: Store, run: str, fold: Fold) -> None:
    """The part of a page that asks with what a job is confused: two matrices, and pictures of each mistake."""
    part = st.expander("What does it confuse?", key="confused", on_change="rerun")
    if not part.open:
        return
    measured = [number for number, stage in enumerate(fold.stages, 1) if number in stage.predicted]
    with part:
        if not measured or fold.started is None:
            st.caption(
                "It is known from the end of the first job on, of runs that keep what each picture is taken for."
            )
            return
        titles = {number: fold.tasks[number - 1].title for number in measured}
        job = st.segmented_control("Job", list(titles), format_func=titles.__getitem__, default=1, required=True,
                                   key="confused-job", label_visibility="collapsed")  # fmt: skip
        task, size = fold.started.config.tasks[job - 1].name, fold.started.config.backbone.image_size
        try:
            labels = _labels(task, size, store.cache, store.root)
        except TaskError as error:
            st.caption(f"Its pictures are not on this machine: {html.escape(str(error))}.")
            return
        learnt, now = (answers.confusion(fold, job, when, labels) for when in ("learnt", "now"))
        if learnt is None or now is None:
            st.caption("Its test pictures are not those by which this run was measured.")
            return
        _matrices_and_mistakes(run, job, fold, learnt, now)


def _matrices_and_mistakes(run: str, job: int, fold: Fold, learnt: answers.Confusion, now: answers.Confusion) -> None:
    classes = fold.tasks[job - 1].classes
    version = (job, len(fold.stages), sum(len(stage.predicted) for stage in fold.stages))
    live_plot.draw(lambda: confusion.matrices(classes, learnt, now), f"confused-{run}", HEIGHT, version=version)
    found = confusion.mistakes(classes, learnt, now)
    if not found:
        st.caption("Every test picture is taken for what it is.")
        return
    chosen = st.selectbox("A mistake, the most frequent first", found, format_func=lambda one: one.words,
                          key=f"confused-mistake-{job}")  # fmt: skip
    address = strips.address(run, job, test=chosen.pictures)
    words = html.escape(f"{chosen.shows} taken for {chosen.taken_for}")
    st.html(f'<img src="{address}" alt="Up to three pictures: {words}" class="lab-mistakes">')
