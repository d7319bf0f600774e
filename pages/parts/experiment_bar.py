"""An experiment's head: one button that queues or stops it, how far it is, and how long it still takes."""

import contextlib

import streamlit as st

from labcore.configs import units
from labcore.configs.units import count_of, percent, seconds_between
from labcore.runs.errors import UnknownRun
from labcore.studies import estimates, experiments
from labcore.studies.experiments import Experiment, Findings
from labcore.training import worker
from pages.parts import lab, runs


def progress_of(findings: Findings) -> dict[str, float]:
    """How far each run that trains now is, by run, 0 to 1."""
    found = {}
    for cell in findings.having("running"):
        if cell.record is not None:
            with contextlib.suppress(UnknownRun):
                fold = runs.follow(lab.store(), cell.record.run)
                found[cell.record.run] = runs.forecast_of(lab.store(), fold).share
    return found


@lab.told_if_refused
def queue(findings: Findings) -> None:
    """Queue what is missing, and see to it that somebody takes it."""
    device = st.session_state.get("device", "auto")
    experiments.queue(lab.store(), findings, device)
    worker.ensure(lab.store(), device)


def button(experiment: Experiment, label: str, live: bool) -> None:
    """The one button, looked at each second while something runs. The page begins anew once `live` has changed."""

    @st.fragment(run_every=1 if live else None)
    @runs.while_there
    def now() -> None:
        findings = lab.reader().look(experiment)
        _button(experiment, findings, label)
        if findings.live != live:
            st.rerun()  # pressed, or over: all of the page must know

    now()


def rhythm(findings: Findings) -> int | None:
    """Seconds between two looks: one while runs are at work, more while the machine's speed is to be measured."""
    if findings.live:
        return 1
    return lab.until_measured(lab.reader().speeds(findings.unfinished, lab.chosen_device()))


def _button(experiment: Experiment, findings: Findings, label: str) -> None:
    """Start, go on, or stop what it started; nothing where all is done, or is being done anyway."""
    if findings.own:
        stop = {"on_click": lab.told_if_refused(experiments.stop), "args": (lab.store(), findings)}
        st.button("Stop", icon=":material/stop:", width="stretch", key=f"stop-{experiment.name}", **stop)
    elif findings.complete:
        st.button("All measured", icon=":material/check:", width="stretch", disabled=True, key=f"all-{experiment.name}")
    elif not findings.missing:
        words = "These runs were started elsewhere. They count here once they are done. You can stop them on Runs."
        st.button("Being trained", width="stretch", disabled=True, key=f"others-{experiment.name}", help=words)
    else:
        word = "Go on" if any(cell.finished for cell in findings.cells) else label
        act = {"on_click": queue, "args": (findings,), "key": f"queue-{experiment.name}"}
        st.button(word, type="primary", icon=":material/play_arrow:", width="stretch", **act)


def line(findings: Findings) -> None:
    """How far and how long, in a line of constant height."""
    progress = progress_of(findings)
    total = len(findings.cells)
    done = sum(cell.finished is not None for cell in findings.cells)
    with st.container(key="line-experiment"):
        if findings.complete:
            work = findings.work
            words = f"{count_of(total, 'run')}, {units.seconds(work.spent)} of training and measuring; {work.shared}."
            st.html(f'<div class="lab-term">{words}</div>')
            return
        left = lab.reader().seconds_left(findings, lab.chosen_device(), progress)
        if left is None:
            device = lab.chosen_device()  # whose worker will measure it, where there is one: a page to read starts none
            there = any(one.device == device for one in lab.store().workers())
            time = f"how long it takes is {'being measured' if there else 'not known yet'}"
        elif findings.live:
            time = units.left(left)
        else:
            estimated = lab.estimated(lab.reader().speeds(findings.unfinished, lab.chosen_device()))
            promised = seconds_between(left, estimates.PROMISED * left)
            time = f"≈ {promised}, {estimated}; less where runs share a beginning"
        failed = len(findings.having("failed"))
        parts = [f"{done} of {count_of(total, 'run')} measured", time, f"{failed} failed" if failed else ""]
        words = " · ".join(part for part in parts if part)
        share = (done + sum(progress.values())) / total
        st.html(f"{runs.bar(share)}<div class='lab-term'>{words}</div>")
    lost = {cell.record.device for cell in findings.having("lost") if cell.record}
    for device in lost:
        worker.ensure(lab.store(), device)
    if lost:
        st.caption("A worker is gone. Its run goes on by itself as soon as another one is there.")


def earlier_versions(findings: Findings) -> None:
    """Runs of an earlier engine are shown and marked, but count in no mean."""
    older = [(cell, run) for cell in findings.cells for run in cell.older]
    if not older:
        return
    with st.expander(f"{count_of(len(older), 'run')} of an earlier version of the lab, which are not counted above"):
        for cell, run in older:
            try:
                found = lab.reader().finished(lab.store().record(run)).result
            except UnknownRun:  # deleted since
                continue
            accuracy = percent(found.average_accuracy)
            label = f"{cell.arm.label}, seed {cell.seed}: {accuracy} then"
            st.page_link("pages/watch.py", label=label, query_params={"run": run})
