"""An exploration that was begun: how far it is, what it found, and what can be done next."""

import contextlib
import functools
import html
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from labcore.configs import units
from labcore.configs.base import ConfigError
from labcore.configs.units import count_of, plain
from labcore.drawings import explored
from labcore.drawings.charts import Chart
from labcore.drawings.explored import Rising, Tried
from labcore.runs.errors import UnknownRun
from labcore.studies import experiments, explorations, proposals
from labcore.studies.experiments import Experiment, Findings, Work
from labcore.studies.explorations import Exploration, ExplorationRecord
from labcore.training import worker
from pages.parts import experiment_bar, lab, live_plot, markup, runs

CHART, LEAST = 430, 520  # px: how high the chart is, and how wide at least where it has a place for each combination
SAMPLERS = {"grid": "every combination", "random": "by chance", "tpe": "learning as it goes"}
LOOK_FOR = {
    1: "**● all jobs** at the end, by which the best value (★) is chosen; **◆ new jobs** when they have been learnt; "
    "**■ old jobs** at the end. These are on validation images. ○ is all jobs on test images, which choose nothing. "
    "Where ■ rises and ◆ falls, the network keeps more and learns less.",
    2: "**Strong blue is good**: it is the average accuracy over all jobs in per cent, on validation images. The best "
    "combination is framed.",
    3: "**Each line is a combination**. It leads from its settings to the accuracy that it reached on validation "
    "images. The best is thick.",
}
NEW = {"new": "1"}  # in the address: the form is asked for, whatever is running
RISING = (
    "Hollow: a run that trains now and is not finished. Jobs that it has not begun count as 0 %, so it rises until the "
    "run is over."
)


@dataclass(frozen=True, slots=True)
class Seen:
    """An exploration as it stands, and what it shows: worked out once for all sessions, whenever something changes.

    `done` runs are finished; `spent` is how many seconds its budget of minutes has lost.
    """

    record: ExplorationRecord
    findings: Findings
    tried: list[Tried]
    best: Tried | None
    told: list[str]
    done: int
    work: Work
    spent: float
    table: pd.DataFrame

    @property
    def total(self) -> int | None:
        """How many runs there will be at most; None where nothing but minutes ends it."""
        most = self.record.exploration.most_runs
        return None if most is None else max(len(self.findings.cells), most)

    @property
    def live(self) -> bool:
        """Whether something may change by itself."""
        return self.record.state == "running" or self.findings.live


@st.cache_resource(max_entries=8, show_spinner=False)
def _read(root: str, name: str, stamp: tuple[int, bool]) -> tuple[ExplorationRecord, Experiment]:
    record = explorations.read(lab.store(), name)
    return record, record.experiment()


@st.cache_resource(max_entries=8, show_spinner=False)
def _seen(root: str, name: str, stamp: tuple[int, bool], version: int, _findings: Findings) -> Seen:
    record, _ = _read(root, name, stamp)
    tried = explored.tried_info(_findings, record.exploration.varied)
    return Seen(
        record,
        _findings,
        tried,
        explored.best_of(tried),
        _findings.told(),
        sum(cell.finished is not None for cell in _findings.cells),
        _findings.work,
        record.spent(_findings),
        table(record, _findings),
    )


def follow(name: str) -> Seen:
    """How an exploration stands. Raises ConfigError where there is none."""
    root, stamp = str(lab.store().root), explorations.stamp(lab.store(), name)
    findings = lab.reader().look(_read(root, name, stamp)[1])
    return _seen(root, name, stamp, findings.version, findings)


def still(name: str) -> Seen:
    """As `follow`, on a page that shows it already; where it was forgotten meanwhile, the page begins anew."""
    try:
        return follow(name)
    except ConfigError:
        st.rerun()


def show(name: str) -> None:
    """The whole page of one exploration."""
    try:
        seen = follow(name)
    except ConfigError as error:
        st.error(markup.literal(error), icon=":material/error:")
        st.page_link("pages/explore.py", label="A new exploration", icon=":material/add:", query_params=NEW)
        return
    head, first, second = st.columns([4, 1, 1], vertical_alignment="center")
    head.title("Which settings work best?", anchor=False)
    left, right = st.columns([1, 3.2], gap="medium")
    with left:
        what(seen.record)
    moving(name, seen.live, first, second, right)
    with st.expander("How it is computed"):
        how(seen.record)


def moving(
    name: str,
    live: bool,
    first: st.delta_generator.DeltaGenerator,
    second: st.delta_generator.DeltaGenerator,
    right: st.delta_generator.DeltaGenerator,
) -> None:
    """All that changes while it goes on, looked at each second; when it rests, a part of the page like any other."""

    def press() -> None:
        seen = still(name)
        main_button(seen)
        if seen.live != live:
            st.rerun()  # it goes on, or is over: all of the page must know

    def take() -> None:
        seen = still(name)
        best, kind = seen.best, "primary" if seen.record.state == "complete" else "secondary"
        act = {"type": kind, "icon": ":material/star:", "width": "stretch", "key": "use", "disabled": best is None}
        if st.button("Use the best", **act) and best:
            st.switch_page("pages/launch.py", query_params={"run": best.run})

    def now() -> None:
        seen = still(name)
        line(seen)
        found(seen)
        if seen.live != live:
            st.rerun()

    for place, part in ((first, press), (second, take), (right, now)):
        with place:
            # A click while the page is still being made is lost to a fragment: one that need not tick is none.
            (st.fragment(runs.while_there(part), run_every=1) if live else part)()


# ---- left -----------------------------------------------------------------------------------------------------------


def what(record: ExplorationRecord) -> None:
    """What varies over what, and the way to others."""
    exploration = record.exploration
    base = exploration.base
    st.markdown(f"**{base.method.title}** on {runs.jobs(base)}")
    for varied in exploration.varied:
        if varied.numeric:
            how_many = f", {len(varied.grid(exploration.spec(varied)))} values" if exploration.sampler == "grid" else ""
            factors = ", by equal factors" if varied.log else ""
            st.markdown(f"{varied.name} from **{plain(varied.low)}** to **{plain(varied.high)}**{how_many}{factors}")
        else:
            values = ", ".join(f"**{plain(value)}**" for value in varied.values)
            st.markdown(f"{varied.name}: {values}")
    st.caption(
        f"{SAMPLERS[exploration.sampler].capitalize()}; {count_of(exploration.seeds, 'seed')} each; "
        f"at most {exploration.budget}. All other settings stay the same."
    )
    st.page_link("pages/explore.py", label="New and earlier ones", icon=":material/add:", query_params=NEW)
    deletable(record)


@st.dialog("Delete this exploration?")
def ask_to_delete(name: str) -> None:
    """Its order of trials cannot be brought back, so it asks."""
    st.write("What was asked for, and in what order, will be gone. Its runs stay, with all that they found.")
    keep, delete = st.columns(2)
    if keep.button("Keep it", width="stretch"):
        st.rerun()
    act = {"on_click": delete_now, "args": (name,)}
    if delete.button("Delete", type="primary", width="stretch", **act):
        st.switch_page("pages/explore.py", query_params=NEW)


@lab.told_if_refused
def delete_now(name: str) -> None:
    """Delete it, if nobody else has."""
    with contextlib.suppress(ConfigError):
        explorations.delete(lab.store(), name)


def deletable(record: ExplorationRecord) -> None:
    """The way to delete it, once it is over."""
    live = record.state == "running"
    if st.button("Delete it", icon=":material/delete:", type="tertiary", disabled=live):
        ask_to_delete(record.name)


# ---- the button -----------------------------------------------------------------------------------------------------


@lab.told_if_refused
def go_on(seen: Seen, times: int = 1) -> None:
    """Queue again what was stopped or failed, and let it ask for more; `times` the budget."""
    record, exploration = seen.record, seen.record.exploration
    runs = None if exploration.runs is None else min(explorations.MOST_RUNS, times * exploration.runs)
    minutes = None if exploration.minutes is None else min(explorations.MOST_MINUTES, times * exploration.minutes)
    explorations.go_on(lab.store(), record.name, runs=runs, minutes=minutes)
    experiments.queue(lab.store(), seen.findings, exploration.device)
    worker.ensure(lab.store(), exploration.device)


@lab.told_if_refused
def stop(name: str) -> None:
    """Ask for nothing more, then stop what waits or trains: in this order, as a worker may be asking just now."""
    with contextlib.suppress(ConfigError):
        explorations.stop(lab.store(), name)
        experiments.stop(lab.store(), follow(name).findings)


def main_button(seen: Seen) -> None:
    """Stop, go on, or where the budget is used up a larger one."""
    record, exploration = seen.record, seen.record.exploration
    everything = exploration.sampler == "grid" and len(record.asked) >= exploration.combinations
    if seen.findings.own or record.state == "running":
        act = {"on_click": stop, "args": (record.name,)}
        st.button("Stop", icon=":material/stop:", width="stretch", key="stop", **act)
    elif record.state == "stopped" or record.broken or (everything and seen.findings.missing):
        act = {"on_click": go_on, "args": (seen,)}
        st.button("Go on", type="primary", icon=":material/play_arrow:", width="stretch", key="go-on", **act)
    elif everything:
        st.button("All tried", icon=":material/check:", width="stretch", disabled=True, key="all")
    else:
        full = len(seen.findings.cells) + exploration.seeds > explorations.MOST_RUNS
        words = f"No exploration has more than {explorations.MOST_RUNS} runs." if full else "With twice the budget."
        act = {"on_click": go_on, "args": (seen, 2), "help": words, "disabled": full}
        st.button("Try more", icon=":material/add:", width="stretch", key="more", **act)


# ---- what was found -------------------------------------------------------------------------------------------------


def line(seen: Seen) -> None:
    """How far and how long, in a line of constant height."""
    record, findings = seen.record, seen.findings
    exploration = record.exploration
    progress = experiment_bar.progress_of(findings)
    parts = [record.so_far(findings)]
    if record.state == "running":
        parts.append(time_left(seen, progress))
    elif record.ended:
        parts.append(record.ended.removesuffix("."))
    if seen.work.stages:
        parts.append(seen.work.shared)
    with st.container(height=48, border=False):
        share = share_used(seen, progress)
        st.html(f"{runs.bar(share)}<div class='lab-term'>{html.escape(' · '.join(parts))}</div>")
    if seen.live:
        worker.ensure(lab.store(), exploration.device)  # somebody must train, and ask for the next
    if findings.having("lost"):
        st.caption("A worker is gone. Its run goes on by itself as soon as another one is there.")


def seconds_each(seen: Seen) -> float | None:
    """What a run takes: by the mean of its finished ones, else by this machine's speed; None where it is not known."""
    if seen.done:
        return seen.work.spent / seen.done
    return lab.reader().seconds(seen.record.exploration.base, lab.chosen_device())


def share_used(seen: Seen, progress: dict[str, float]) -> float:
    """How near the end is, 0 to 1: of its runs or of its minutes, whichever are used up first."""
    minutes, shares, training = seen.record.exploration.minutes, [0.0], sum(progress.values())
    if seen.total is not None:
        shares.append((seen.done + training) / max(1, seen.total))
    if minutes is not None:
        shares.append((seen.spent + training * (seconds_each(seen) or 0.0)) / (60 * minutes))
    return min(1.0, max(shares))


def time_left(seen: Seen, progress: dict[str, float]) -> str:
    """To the end of its runs or of its minutes, whichever is first, and of the runs that train now.

    What several runs train at once takes as long as one of them alone.
    """
    minutes, each, training = seen.record.exploration.minutes, seconds_each(seen), sum(progress.values())
    ends = []
    if seen.total is not None and each is not None:
        ends.append(each * (seen.total - seen.done - training) / at_once(seen))
    if minutes is not None:
        ends.append((60 * minutes - seen.spent - (each or 0.0) * training) / at_once(seen))
    if not ends:
        return "how long it takes is being measured"
    left = max(min(ends), (each or 0.0) * (1 - min(progress.values(), default=1.0)))
    return f"at most {units.seconds(left)} left" if each is None else units.left(left)


def at_once(seen: Seen) -> int:
    """How many of its runs are trained at once: as many as its workers have slots for, if so many are open."""
    device, store = seen.record.exploration.device, lab.store()
    slots = sum(worker.slots for worker in store.workers() if worker.slot == 0 and device in ("auto", worker.device))
    active = sum(cell.record is not None and cell.record.active for cell in seen.findings.cells)
    return max(1, min(slots, active))


def found(seen: Seen) -> None:
    """The chart, what it says, what matters, and every run."""
    record, exploration = seen.record, seen.record.exploration
    rising = rising_now(seen.findings)
    points = tuple((one.run, one.percent) for one in rising)
    draw(exploration, seen.tried, (seen.findings.version, record.name, points), rising=rising)
    st.caption(f"{LOOK_FOR[len(exploration.varied)]} {RISING if seen.live else ''}")
    if seen.tried:
        st.markdown("\n".join(f"- {sentence}" for sentence in seen.told))
    elif record.state == "running":
        st.caption("The first point appears as soon as a run begins to learn.")
    for problem in dict.fromkeys(record.refused):
        st.warning(f"This combination was left out: {markup.literal(problem)}", icon=":material/info:")
    if len(exploration.varied) > 1:
        matters(record)
    st.dataframe(
        seen.table,
        hide_index=True,
        width="stretch",
        height=min(360, 38 + 35 * max(1, len(record.asked))),
        placeholder="",
        column_config={
            "run": st.column_config.LinkColumn("run", display_text="open", width="small"),
            **{name: st.column_config.NumberColumn(name, format="%.1f %%") for name in _PERCENT},
            "training": st.column_config.NumberColumn("training", format="%.1f s"),
            "state": st.column_config.MultiselectColumn(
                "state", options=[*_STATES], color=list(_STATES.values()), width="small"
            ),
            **{v.name: st.column_config.NumberColumn(v.name, format="%.4g") for v in exploration.varied if v.numeric},
        },
    )
    experiment_bar.earlier_versions(seen.findings)


def rising_now(findings: Findings) -> list[Rising]:
    """What trains now, as far as each run has told; of more runs than a page follows, the first."""
    folds = {}
    for cell in findings.having("running")[: runs.MOST_FOLLOWED]:
        if cell.record is not None:
            with contextlib.suppress(UnknownRun):  # deleted just now
                folds[cell.record.run] = runs.follow(lab.store(), cell.record.run)
    return explored.rising_info(findings, folds)


def draw(
    exploration: Exploration,
    tried: list[Tried],
    version: Hashable,
    height: int = CHART,
    rising: Sequence[Rising] = (),
) -> None:
    """The chart; a click on a point opens its run."""
    key = f"explore-{len(exploration.varied)}-{exploration.sampler}"
    # A click is on what was drawn before: a run that finished since has moved the others.
    drawn, at_work = st.session_state.get(f"{key}-drawn", ([], ()))
    st.session_state[f"{key}-drawn"] = tried, rising
    least = LEAST if len(exploration.varied) > 1 else 0
    make = functools.partial(chart, exploration, tried, rising)
    called = "What each combination reaches"
    picked = live_plot.draw(make, key, height, called=called, version=version, picks=True, least=least)
    run = None if picked is None else run_at(picked, exploration, drawn, at_work)
    if run is not None:
        st.switch_page("pages/watch.py", query_params={"run": run})


def chart(exploration: Exploration, tried: list[Tried], rising: Sequence[Rising] = ()) -> Chart:
    """A curve, a heat map or parallel coordinates, by how many settings vary."""
    settings = exploration.varied
    match settings:
        case [setting]:
            return explored.curve(explored.curve_info(tried, setting), rising)
        case [across, up] if exploration.sampler == "grid":
            return explored.heat_map(explored.heat_map_info(tried, (across, up), exploration.axes), rising)
        case [across, up]:
            return explored.plane(explored.plane_info(tried, (across, up)), rising)
        case _:
            return explored.parallel(explored.parallel_info(tried, settings), rising)


def run_at(
    picked: live_plot.Picked, exploration: Exploration, tried: list[Tried], rising: Sequence[Rising]
) -> str | None:
    """The run of what was clicked, of those that were drawn: a line of parallel coordinates, a tile, a point."""
    number: int | None
    match exploration.varied:
        case [_, _, _]:
            finished, number = len(tried), picked.trace
        case [across, up] if exploration.sampler == "grid":
            finished, number = 1, None
            if picked.trace == 0:
                row, column = picked.point
                number = explored.heat_map_info(tried, (across, up), exploration.axes).which[row][column]
        case [across, up]:
            finished, number = 1, None
            if picked.trace == 0:
                number = explored.plane_info(tried, (across, up)).which[picked.point[0]]
        case [setting]:
            finished, number = len(explored.curve_info(tried, setting).lines), picked.point[0]
    if picked.trace >= finished:
        at_work = picked.trace - finished if len(exploration.varied) == 3 else picked.point[0]
        return rising[at_work].run if at_work < len(rising) else None
    return tried[number].run if number is not None and number < len(tried) else None


def matters(record: ExplorationRecord) -> None:
    """How much each setting matters, as far as is known."""
    settings = record.exploration.varied
    title = "Which setting matters?"
    if record.importance is None:
        markup.titled(title, "This can be told after four different combinations.")
        return
    importance = record.importance
    version = tuple(importance.items())
    height = 24 + 34 * len(settings)
    live_plot.draw(
        lambda: explored.importance_bars(importance, settings),
        "explore-matters",
        height,
        title=title,
        aside="the share of the differences it explains, estimated",
        version=version,
    )


_STATES = {**runs.words(), "not here": "gray"}
_PERCENT = {shown.title: shown.measure for shown in explored.SHOWN}


def table(record: ExplorationRecord, findings: Findings) -> pd.DataFrame:
    """One line for each combination, in the order in which they were asked for."""
    rows = []
    for arm in findings.experiment.arms:
        cells = findings.of(arm.label)
        states = [cell.state for cell in cells]
        spreads = {name: findings.spread(arm.label, measure) for name, measure in _PERCENT.items()}
        first = next((cell.record.run for cell in cells if cell.record), None)
        row: dict[str, object] = {
            varied.name: value if varied.numeric else plain(value)
            for varied in record.exploration.varied
            for value in [dict(arm.values)[varied.path]]
        }
        row["state"] = list(dict.fromkeys(_state(state) for state in states))
        row |= {name: None if spread.mean is None else 100 * spread.mean for name, spread in spreads.items()}
        row["training"] = findings.spread(arm.label, "train_seconds").mean
        row["run"] = f"watch?run={first}" if first else None
        rows.append(row)
    columns = [varied.name for varied in record.exploration.varied]
    return pd.DataFrame(rows, columns=[*columns, "state", *_PERCENT, "training", "run"])


def _state(state: str) -> str:
    return "not here" if state == "missing" else runs.word(state)


def how(record: ExplorationRecord) -> None:
    """The formula, one click deeper, and the way without a page."""
    exploration = record.exploration
    st.markdown(
        "Every combination is an ordinary run of the configuration below with its settings changed. A run that exists "
        "is used, and stages that several runs share are trained once. Combinations are ranked by ACC, the mean of the "
        "accuracy matrix's last row, on **validation images**. Test images are shown, and choose nothing. With several "
        "seeds the mean over them counts.\n\n"
        f"How the next values are chosen: {SAMPLERS[exploration.sampler]}. "
        + {
            "grid": "The values lie at equal distances, or by equal factors.",
            "random": "Each value is drawn evenly from its range (Optuna's RandomSampler).",
            "tpe": f"The first {proposals.FIRST_BY_CHANCE} are drawn by chance, the next ones where good combinations "
            "are denser than others (tree-structured Parzen estimator, Bergstra et al. 2011, by Optuna's TPESampler).",
        }[exploration.sampler]
        + "\n\nThe share that a setting explains is a functional ANOVA over a random forest (Hutter et al. 2014, by "
        "Optuna): an estimate, rough while runs are few.\n\n"
        "On the command line it goes on in the terminal, and ends with its figures:"
    )
    st.code(f"python -m labcore experiment {record.name}", language="bash")
    st.markdown("The configuration, without what varies:")
    st.code(exploration.base.model_dump_json(indent=2), language="json", height=260)
