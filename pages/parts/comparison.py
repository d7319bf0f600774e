"""Any runs beside each other: chosen by a person or by an experiment, one group for all seeds, drawn on one scale."""

import contextlib
import html
from collections.abc import Hashable, Sequence

import streamlit as st

from labcore.configs.base import ConfigError
from labcore.configs.registry import ABOUT
from labcore.configs.run import RunConfig
from labcore.drawings import comparisons, figures, panels, strip, trade_off
from labcore.runs.errors import UnknownRun
from labcore.runs.records import RunRecord
from labcore.studies.groups import Group, differences_line, fold_seeds, names_of
from labcore.studies.measures import REFERENCES
from pages.parts import lab, live_plot, markup, runs, strips

MOST_COMPARED, MOST_OFFERED = 40, 500
MOST_ROWS = 8  # of pictures, a row a method
PLANE, LEAST = 310, 680  # px: how high the plane is, and how wide at least what has names beside each other
HOW = """
`R[i, j]` is the accuracy on job *j* after stage *i*, on all its test images; means and sample standard deviations are
over runs that differ by seed alone.

- **Forgetting** of job *j*: the best of the earlier rows less the last row (Chaudhry et al. 2018).
- **Intransigence** of job *k*: joint training's `R[k, k]` on the same sequence less this method's (Chaudhry et al.
  2018), seed by seed.
- **Gap to separate copies**: the same against a network of its own for job *k*, which saw no other job.
"""


def charts(groups: Sequence[Group], key: str, version: Hashable) -> None:
    """How each job went, what remains of it, and what it costs; heights follow the number of groups."""
    version = _version(groups, version)
    first = groups[0].config
    if all(group.config.task_names == first.task_names for group in groups):
        st.html(_legend(first))
    _panels(groups, key, version)
    _lines(groups, key, version)
    with st.expander("How these are computed"):
        st.markdown(HOW)


def _version(groups: Sequence[Group], version: Hashable) -> Hashable:
    return version, tuple((group.name, len(group.runs)) for group in groups)


def trade_off_beside(groups: Sequence[Group], key: str, version: Hashable, told: Sequence[str] = ()) -> None:
    """Each group as a point, learning the new against keeping the old, and beside it how to read it, and what is told.

    Where no group has learnt two jobs there are no such points, and a sentence says so.
    """
    title = "Learning the new against keeping the old"
    points = trade_off.plane_info(groups)
    if not points:
        markup.titled(title, "This chart needs finished runs of two jobs or more.")
        _tell(told)
        return
    with markup.row("wide", "plane"):
        live_plot.draw(
            lambda: trade_off.plane(points),
            f"plane-{key}",
            PLANE,
            title=title,
            aside="plasticity against stability",
            version=_version(groups, version),
        )
        with st.container():
            names = "".join(f"<li>{html.escape(point.name)}</li>" for point in points)
            st.html(f'<ol class="lab-plane-names">{names}</ol>')
            st.caption(
                "The best place is the upper right. A point is filled where no other is better in both, and the dotted "
                "line joins these (the Pareto front)."
            )
            _tell(told)


def _tell(sentences: Sequence[str]) -> None:
    if sentences:
        st.markdown("\n".join(f"- {sentence}" for sentence in sentences))


def _panels(groups: Sequence[Group], key: str, version: Hashable) -> None:
    """A panel for each group: how it went along the sequence, and the accuracy matrix."""
    rows = panels.panel_rows(len(groups))
    found = comparisons.matrices_info(groups)
    live_plot.draw(
        lambda: comparisons.sequences(found),
        f"sequence-{key}",
        40 + 170 * rows,
        title="How well it does each job as the jobs go by",
        aside="accuracy over the sequence",
        version=version,
        least=LEAST,
    )
    live_plot.draw(
        lambda: comparisons.matrices(found),
        f"matrices-{key}",
        20 + 210 * rows,
        title="What it remembers",
        aside="accuracy matrix: a row after each job that was learnt, a column for each job that is asked",
        version=version,
        least=LEAST,
    )


def _lines(groups: Sequence[Group], key: str, version: Hashable) -> None:
    """A line for each group: what it lost, what it never reached, and what it costs."""
    by_task = comparisons.by_task_info(groups)
    height = panels.lines_height(len(groups))
    live_plot.draw(
        lambda: comparisons.by_task(by_task),
        f"by-task-{key}",
        height,
        title="What it lost, and what it never reached, in points",
        aside="further right is worse",
        version=version,
        least=LEAST,
    )
    for column, against in zip(by_task.columns[1:], REFERENCES, strict=True):
        if not any(value is not None for row in column.values for value in row):
            title = f"{column.title[0].upper()}{column.title[1:]}"
            needed = ABOUT[against.method].title.lower()
            st.caption(f"{title} can be told once {needed} is measured on the same jobs and seeds, too.")
    costs = comparisons.costs_info(groups)
    live_plot.draw(
        lambda: comparisons.costs(costs),
        f"costs-{key}",
        height,
        title="What it costs",
        aside="shorter is cheaper",
        version=version,
        least=LEAST,
    )


def _legend(config: RunConfig) -> str:
    cells = [
        f'<span><b style="color:{figures.task_colour(number)}">■</b> {number} {html.escape(task.title)}</span>'
        for number, task in enumerate(config.tasks, 1)
    ]
    return f'<div class="lab-legend">{"".join(cells)}</div>'


def offered() -> dict[str, tuple[RunRecord, RunConfig]]:
    """Complete runs that this version can read, the newest first."""
    reader = lab.reader()
    found = {}
    for record in lab.store().records():
        if record.state == "complete":
            with contextlib.suppress(ConfigError, OSError):
                found[record.run] = (record, reader.config(record.run))
        if len(found) == MOST_OFFERED:
            break
    return found


def choose_and_show() -> None:
    """Choose runs, fold them over seeds or not, and see what differs."""
    st.title("Runs side by side", anchor=False)
    markup.style("strip")
    here = offered()
    if not here:
        st.info(
            "**There is nothing to compare yet.** A comparison needs finished runs. Measure the article's methods, or "
            "start runs of your own on Launch.",
            icon=":material/lightbulb:",
        )
        st.page_link("pages/launch.py", label="Start a run", icon=":material/play_arrow:")
        return
    asked = [run for run in st.query_params.get("runs", "").split(",") if run]
    gone = [run for run in asked if run not in here]
    default = [run for run in asked if run in here] or _alike(here)
    names = dict(zip(here, names_of([config for _, config in here.values()]), strict=True)) if len(here) <= 60 else {}
    place, switch = st.columns([5, 1], vertical_alignment="bottom")
    chosen = place.multiselect(
        "Finished runs",
        list(here),
        default[:MOST_COMPARED],
        format_func=lambda run: _label(run, here, names),
        max_selections=MOST_COMPARED,
        key="compare-runs",
    )
    unfold = switch.toggle("Every seed by itself", st.query_params.get("unfold") == "1", key="compare-unfold")
    st.query_params["runs"] = ",".join(chosen)
    st.query_params["unfold"] = "1" if unfold else "0"
    if gone:
        st.warning(f"{len(gone)} of the runs in this address are no longer here.", icon=":material/search_off:")
    members = []
    for run in chosen:
        with contextlib.suppress(UnknownRun):  # deleted just now
            record, config = here[run]
            members.append((config, lab.reader().finished(record), lab.reader().note(record)))
    if not members:
        st.caption("Choose runs above. Runs that differ by their seed alone are shown as one, by mean ± sd.")
        return
    groups = fold_seeds(members, unfold=unfold)
    st.markdown(differences_line(list({group.name: group.config for group in groups}.values())))
    trade_off_beside(groups, "chosen", (tuple(chosen), unfold))
    _answers(groups)
    charts(groups, "chosen", (tuple(chosen), unfold))


def _answers(groups: Sequence[Group]) -> None:
    """What each says of the same pictures of one job; of runs that differ by seed alone, what the first says."""
    jobs = groups[0].config.task_names
    alike = [group for group in groups if group.config.task_names == jobs][:MOST_ROWS]
    if len(alike) < 2:
        return
    titles = {position: task.title for position, task in enumerate(groups[0].config.tasks, 1)}
    job = st.segmented_control("Job", list(titles), format_func=titles.__getitem__, key="compare-job", default=1)
    folds = {}
    for group in alike:
        with contextlib.suppress(UnknownRun):  # deleted just now
            folds[group.name] = (run := group.runs[0].run), runs.follow(lab.store(), run)
    strips.draw("compare", strip.beside(folds, job or 1), title="Who still knows these pictures?")


def _alike(here: dict[str, tuple[RunRecord, RunConfig]]) -> list[str]:
    """The newest run's companions: those on the same jobs, one or more a method."""
    first = next(iter(here.values()))[1].tasks
    return [run for run, (_, config) in here.items() if config.tasks == first][:12]


def _label(run: str, here: dict[str, tuple[RunRecord, RunConfig]], names: dict[str, str]) -> str:
    record, config = here[run]
    note = ""
    with contextlib.suppress(UnknownRun):  # deleted just now
        note = lab.reader().note(record)
    parts = [
        names.get(run) or config.method.title,
        "→".join(config.task_names),
        f"seed {config.seed}",
        f"{100 * record.average_accuracy:.0f} %" if record.average_accuracy is not None else "",
        note,
    ]
    return " · ".join(part for part in parts if part)
