"""The article's table: every method on one sequence, a figure and a word in each cell, filling as runs finish."""

import html

import streamlit as st

from labcore.configs import units
from labcore.configs.base import ConfigError
from labcore.configs.presets import PRESETS
from labcore.configs.registry import of_group
from labcore.configs.units import whole
from labcore.studies import questions
from labcore.studies.criteria import criteria
from labcore.studies.experiments import MOST_SEEDS, Arm, Experiment, Findings
from labcore.studies.groups import groups_of
from labcore.studies.questions import NAMED
from labcore.studies.table import TableCell, answer_times_told, table_row
from labcore.tasks import catalogue
from pages.parts import comparison, experiment_bar, lab, markup, runs

NAME_WIDTH = 17  # per cent of the table for the methods' names; the criteria share the rest


def asked() -> tuple[str, tuple[str, ...], int]:
    """Preset, jobs and number of seeds of the address, where it names such; else the story, its jobs, and one."""
    query = st.query_params
    preset = query.get("preset", "story") if query.get("preset") in PRESETS else "story"
    own = jobs_of(preset)
    known = {*catalogue.ALL, *own}
    jobs = tuple(name for name in query.get("tasks", "").split(",") if name in known) or own
    return preset, jobs, whole(query.get("seeds"), 1, MOST_SEEDS) or 1


def jobs_of(preset: str) -> tuple[str, ...]:
    """The jobs of a preset's own sequence."""
    return tuple(task["name"] for task in PRESETS[preset].base["tasks"])


def remember(preset: str, jobs: tuple[str, ...], seeds: int) -> None:
    """Write the choice into the address; the jobs are written only where they differ from the preset's."""
    st.query_params.update(preset=preset, seeds=str(seeds))
    if jobs != jobs_of(preset):
        st.query_params["tasks"] = ",".join(jobs)
    else:
        st.query_params.pop("tasks", None)


def chosen() -> tuple[str, tuple[str, ...], int]:
    """Preset, jobs and number of seeds, from the address; widgets change them."""
    first, before, count = asked()
    left, middle, right = st.columns([1.6, 2.2, 1.1], vertical_alignment="bottom")
    preset = left.segmented_control(
        "Preset",
        list(PRESETS),
        default=first,
        required=True,
        format_func=lambda name: PRESETS[name].title,
        help=" ".join(f"**{preset.title}**: {preset.description}" for preset in PRESETS.values()),
        key="table-preset",
    )
    seeds = right.segmented_control(
        "Seeds",
        list(range(1, MOST_SEEDS + 1)),
        default=count,
        required=True,
        key="table-seeds",
        help="Each run again with other random numbers: what differs between them is chance.",
    )
    default = before if preset == first else jobs_of(preset)
    jobs = middle.multiselect(
        "Jobs, in this order",
        list(dict.fromkeys([*default, *jobs_of(preset), *catalogue.ALL])),
        default=default,
        format_func=lambda name: catalogue.describe(name).title,
        key=f"table-jobs-{preset}",
        help="Those of the preset, or others that are taught in the same way.",
    )
    found = preset, tuple(jobs) or jobs_of(preset), seeds
    remember(*found)
    return found


def show() -> None:
    """The whole view: head, table, and the same methods as charts."""
    head, action = st.columns([4, 1], vertical_alignment="center")
    head.title("Which way keeps what it knew?", anchor=False)
    st.write(f"{NAMED['table'].question} Press the button, and it fills in as they learn; leave whenever you like.")
    try:
        preset, jobs, seeds = chosen()
        experiment = questions.named("table", preset, seeds, jobs)
    except ConfigError as error:
        st.error(markup.literal(error), icon=":material/error:")
        return
    live = lab.reader().look(experiment).live
    with action:
        experiment_bar.button(experiment, f"Measure all {units.in_words(len(of_group('article')))}", live)
    moving(experiment)
    with st.expander("How it is computed"):
        st.markdown(
            "The words come from the measured figures, means over seeds, by these rules:\n\n"
            + "\n".join(f"- **{criterion.title}**: {criterion.rule}." for criterion in criteria().values())
            + "\n\nThe small word below is the article's, or for methods that it does not rate that of the method's "
            "own paper. ✓ means that both are good, medium or poor alike; ≠ that they are not. "
            + " ".join(criterion.computed for criterion in criteria().values() if criterion.computed)
        )


def moving(experiment: Experiment) -> None:
    """The part of the view that changes while runs are at work: how far they are, the table, the charts."""
    every = rhythm(lab.reader().look(experiment))

    @st.fragment(run_every=every)
    @runs.while_there
    def now() -> None:
        findings = lab.reader().look(experiment)
        experiment_bar.line(findings)
        st.html(table_html(findings, experiment_bar.progress_of(findings)))
        st.caption(
            "Large: the word for what was measured here, and the figure; rest on it for the rule. Small: “the "
            "article's word”, in italics that of the method's own paper; ✓ where they agree, ≠ where they differ."
        )
        have_timed(findings)
        for sentence in [*answer_times_told(findings), *findings.told()]:
            st.markdown(sentence)
        experiment_bar.earlier_versions(findings)
        groups = groups_of(findings)
        if groups:
            comparison.charts(groups, f"table-{experiment.arms[0].config.task_names}", findings.version)
        if rhythm(findings) != every:
            st.rerun()

    now()


def rhythm(findings: Findings) -> int | None:
    """Seconds between two looks: one also while the runs wait to be timed in turn."""
    return 1 if findings.awaits_turn else experiment_bar.rhythm(findings)


def have_timed(findings: Findings) -> None:
    """Wish that finished runs are timed in turn, and see to it that somebody does it, as for the machine's speed."""
    device = lab.reader().wish_answer_times(findings)
    if device is not None:
        lab.have_measured(device)


def table_html(findings: Findings, progress: dict[str, float]) -> str:
    """The table at its full size from the start; what is not measured yet stands faint, in the article's word."""
    columns = list(criteria().values())
    share = (100 - NAME_WIDTH) / sum(column.width for column in columns)
    heads = "".join(
        f'<th style="width:{share * column.width:g}%">{html.escape(column.title)}</th>' for column in columns
    )
    rows = "".join(
        f"<tr><th>{_name(findings, arm, progress)}</th>"
        + "".join(_cell(cell) for cell in table_row(findings, arm))
        + "</tr>"
        for arm in findings.experiment.arms
    )
    return f'<table class="lab-table"><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _name(findings: Findings, arm: Arm, progress: dict[str, float]) -> str:
    title = html.escape(arm.config.method.title)
    states = [cell.state for cell in findings.of(arm.label)]
    running = [cell for cell in findings.of(arm.label) if cell.state == "running" and cell.record]
    if running and running[0].record:
        return f"{title}{runs.bar(max(0.02, progress.get(running[0].record.run, 0.0)))}"
    done = states.count("complete")
    waits = "queued" in states
    if "failed" in states:
        reason = next((c.record.error for c in findings.of(arm.label) if c.state == "failed" and c.record), "")
        note = f'<span title="{html.escape(reason or "")}">{runs.chip("failed")}</span>'
    elif done == len(states):
        links = [
            f'<a href="watch?run={c.record.run}" target="_self">{c.seed}</a>'
            for c in findings.of(arm.label)
            if c.record
        ]
        note = f"run {' '.join(links)}" if len(links) == 1 else f"seeds {' '.join(links)}"
    elif waits:
        note = runs.chip("queued") + (f" {done} of {len(states)} done" if done else "")
    else:
        note = f"{done} of {len(states)} done" if done else "not measured"
    return f'{title}<span class="lab-note">{note}</span>'


def _cell(cell: TableCell) -> str:
    rule = html.escape(cell.rule)
    sign = "" if cell.agrees is None else ' <b class="lab-yes">✓</b>' if cell.agrees else ' <b class="lab-no">≠</b>'
    paper = "" if cell.source == "the article" else ' class="lab-paper"'
    by = f'<small{paper} title="{cell.source} says so">“{html.escape(cell.literature)}”{sign}</small>'
    if cell.source is None:
        by = f"<small>{html.escape(cell.literature)}</small>"
    word = '<span class="lab-word lab-none">·</span>'
    if cell.figure and cell.waits:
        word = f'<span class="lab-word lab-none">{html.escape(cell.waits)}</span>'
    if cell.word is not None:
        word = f'<span class="lab-word lab-word-{cell.mark}">{html.escape(cell.word)}</span>'
    return f'<td title="{rule}">{word}<i>{html.escape(cell.figure) or "&nbsp;"}</i>{by}</td>'
