"""The article's methods on one sequence: what to expect of them, then what was measured, as a chart and as a table."""

import html
from collections.abc import Sequence

import streamlit as st

from labcore.configs import units
from labcore.configs.base import ConfigError
from labcore.configs.presets import PRESETS
from labcore.configs.registry import of_group
from labcore.configs.units import whole
from labcore.configs.verdicts import ARTICLE, ARTICLE_AT, Mark
from labcore.drawings import trade_off
from labcore.studies import questions
from labcore.studies.criteria import criteria
from labcore.studies.experiments import MOST_SEEDS, Arm, Experiment, Findings
from labcore.studies.groups import groups_of
from labcore.studies.table import TableCell, answer_times_told, table_row
from labcore.tasks import catalogue
from pages.parts import comparison, experiment_bar, lab, markup, runs

NAME_WIDTH = 17  # per cent of the table for the methods' names; the criteria share the rest
# What the marks for new and for old jobs come to, the best last.
NEW: dict[Mark, str] = {"poor": "poorly learnt", "medium": "fairly learnt", "good": "well learnt"}
OLD: dict[Mark, str] = {"good": "kept", "medium": "partly kept", "poor": "forgotten"}


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
        help="How often each method is measured, every time with other random numbers. What differs is chance.",
    )
    default = before if preset == first else jobs_of(preset)
    jobs = middle.multiselect(
        "Jobs, in this order",
        list(dict.fromkeys([*default, *jobs_of(preset), *catalogue.ALL])),
        default=default,
        format_func=lambda name: catalogue.describe(name).title,
        key=f"table-jobs-{preset}",
        help="The preset's own jobs, or others that are taught in the same way.",
    )
    found = preset, tuple(jobs) or jobs_of(preset), seeds
    remember(*found)
    return found


def show() -> None:
    """The whole view: what each method does to new and to old jobs, the table, and further charts."""
    head, action = st.columns([4, 1], vertical_alignment="center")
    head.title("Which way keeps what it knew?", anchor=False)
    count = units.in_words(len(of_group("article")))
    st.write(
        f"The article [{ARTICLE}]({ARTICLE_AT}) rates several ways of reusing one network for a new job. Here {count} "
        "ways are trained on the same jobs, and the lab measures what each one learns and what it forgets."
    )
    try:
        preset, jobs, seeds = chosen()
        experiment = questions.named("table", preset, seeds, jobs)
    except ConfigError as error:
        st.error(markup.literal(error), icon=":material/error:")
        return
    live = lab.reader().look(experiment).live
    with action:
        experiment_bar.button(experiment, f"Measure all {count}", live)
    moving(experiment)
    with st.expander("How it is computed"):
        st.markdown(
            "The words follow from the measured figures, which are means over seeds, by these rules:\n\n"
            + "\n".join(f"- **{criterion.title}**: {criterion.rule}." for criterion in criteria().values())
            + "\n\nThe small word in quotation marks is the article's, whose table is that of the LwF paper (Li & "
            "Hoiem, arXiv 1606.09282). Where the article does not rate a method, it comes from the method's own paper "
            "and definition. ✓ means that both are good, medium or poor alike, and ≠ that they are not. "
            + " ".join(criterion.computed for criterion in criteria().values() if criterion.computed)
        )


def moving(experiment: Experiment) -> None:
    """The part of the view that changes while runs are at work: how far they are, the charts, the table."""
    every = rhythm(lab.reader().look(experiment))

    @st.fragment(run_every=every)
    @runs.while_there
    def now() -> None:
        findings = lab.reader().look(experiment)
        experiment_bar.line(findings)
        groups, key = groups_of(findings), f"table-{experiment.arms[0].config.task_names}"
        if findings.having("failed") or any(cell.finished for cell in findings.cells):
            comparison.trade_off_beside(groups, key, findings.version, findings.told())
        else:
            expected()
        table(findings)
        have_timed(findings)
        experiment_bar.earlier_versions(findings)
        if groups:
            comparison.charts(groups, key, findings.version)
        if rhythm(findings) != every:
            st.rerun()

    now()


def expected() -> None:
    """Before anything is measured: what the literature leads one to expect, and that it is no measurement."""
    found = trade_off.expected_info(of_group("article"))
    with markup.row("wide", "expected"):
        st.html(
            '<div class="lab-title"><b>What to expect</b> (learning the new against keeping the old)</div>'
            + expected_html(found)
        )
        st.html(
            '<p><span class="lab-chip lab-waiting">expected, not measured</span></p>'
            "<p>The best place is the upper right: new jobs are learnt well, and old jobs are kept. Ways that stand "
            "there have their price in time, in memory, or in old pictures that must be kept.</p>"
            '<p><i class="lab-dot lab-good"></i>as the article rates it<br>'
            '<i class="lab-dot"></i>as the method\'s own paper promises</p>'
            "<p>Once they are measured, each stands where this machine found it.</p>"
        )


def expected_html(found: Sequence[trade_off.Expected]) -> str:
    """A table as a picture: new jobs across, old jobs from the bottom up, the methods' names in their places."""
    across = [mark for mark in NEW if any(one.new == mark for one in found)]
    heads = "".join(f'<th scope="col">new jobs<br>{NEW[mark]}</th>' for mark in across)
    rows = ""
    for old, words in OLD.items():
        cells = ""
        for new in across:
            here = [one for one in found if (one.new, one.old) == (new, old)]
            names = (
                f'<li><i class="lab-dot{" lab-good" * one.compared}"></i>{html.escape(one.name)}</li>' for one in here
            )
            cells += f"<td><ul>{''.join(names)}</ul></td>" if here else "<td></td>"
        rows += f'<tr><th scope="row">old jobs {words}</th>{cells}</tr>'
    return f'<table class="lab-expected"><tbody>{rows}</tbody><tfoot><tr><td></td>{heads}</tr></tfoot></table>'


def table(findings: Findings) -> None:
    """The rows of methods that are measured or at work; those of the others are folded, with the literature's words."""
    arms = findings.experiment.arms
    begun = [arm for arm in arms if any(cell.state not in ("missing", "queued") for cell in findings.of(arm.label))]
    progress = experiment_bar.progress_of(findings)
    if begun:
        st.html(table_html(findings, begun, progress))
        st.caption(
            "In each cell the large word and the figure are what was measured here; point at a cell to read its rule. "
            "The small word in quotation marks is the article's, in italics that of the method's own paper. "
            "✓ says that the two agree, ≠ that they do not."
        )
    for sentence in answer_times_told(findings):
        st.markdown(sentence)
    others = [arm for arm in arms if arm not in begun]
    if others:
        with st.expander("Methods that are not measured yet, and what the literature says of them"):
            st.html(table_html(findings, others, progress))


def rhythm(findings: Findings) -> int | None:
    """Seconds between two looks: one also while the runs wait to be timed in turn."""
    return 1 if findings.awaits_turn else experiment_bar.rhythm(findings)


def have_timed(findings: Findings) -> None:
    """Wish that finished runs are timed in turn, and see to it that somebody does it, as for the machine's speed."""
    device = lab.reader().wish_answer_times(findings)
    if device is not None:
        lab.have_measured(device)


def table_html(findings: Findings, arms: Sequence[Arm], progress: dict[str, float]) -> str:
    """The table of these arms; what is not measured yet stands faint, in the literature's word."""
    columns = list(criteria().values())
    share = (100 - NAME_WIDTH) / sum(column.width for column in columns)
    heads = "".join(
        f'<th scope="col" style="width:{share * column.width:g}%">{html.escape(column.title)}</th>'
        for column in columns
    )
    rows = ""
    for arm in arms:
        cells = zip(columns, table_row(findings, arm), strict=True)
        told = "".join(_cell(column.title, cell) for column, cell in cells)
        rows += f'<tr><th scope="row">{_name(findings, arm, progress)}</th>{told}</tr>'
    return f'<table class="lab-table"><thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _name(findings: Findings, arm: Arm, progress: dict[str, float]) -> str:
    title = html.escape(arm.config.method.title)
    cells = findings.of(arm.label)
    states = [cell.state for cell in cells]
    running = [cell.record.run for cell in cells if cell.state == "running" and cell.record]
    if running:
        return f"{title}{runs.bar(max(0.02, progress.get(running[0], 0.0)))}"
    done = states.count("complete")
    some = f"{done} of {len(states)} done" if done else ""
    if "failed" in states:
        reason = next((cell.record.error for cell in cells if cell.state == "failed" and cell.record), "")
        note = f'<span title="{html.escape(reason or "")}">{runs.chip("failed")}</span>'
    elif done == len(states):
        links = (
            f'<a href="watch?run={cell.record.run}" target="_self">seed {cell.seed}</a>'
            for cell in cells
            if cell.record
        )
        note = f"runs: {', '.join(links)}"
    elif "queued" in states:
        note = f"{runs.chip('queued')} {some}"
    else:
        note = some or "not measured"
    return f'{title}<span class="lab-note">{note}</span>'


def _cell(title: str, cell: TableCell) -> str:
    """A cell; on a phone, where it stands below others, its column's title stands before it."""
    sign = "" if cell.agrees is None else ' <b class="lab-yes">✓</b>' if cell.agrees else ' <b class="lab-no">≠</b>'
    literature = html.escape(cell.literature)
    if cell.source is None:
        by = f"<small>{literature}</small>"
    else:
        paper = "" if cell.source == "the article" else ' class="lab-paper"'
        by = f'<small{paper} title="{cell.source} says so">“{literature}”{sign}</small>'
    measured = ""
    if cell.figure:
        word = f'<span class="lab-word lab-none">{html.escape(cell.waits)}</span>' if cell.waits else ""
        if cell.word is not None:
            word = f'<span class="lab-word lab-word-{cell.mark}">{html.escape(cell.word)}</span>'
        measured = f"{word}<i>{html.escape(cell.figure)}</i>"
    return f'<td title="{html.escape(cell.rule)}" data-title="{html.escape(title)}">{measured}{by}</td>'
