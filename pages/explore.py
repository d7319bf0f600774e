"""Explore: settings that vary, tried on a budget, and what each try reached, drawn as it comes."""

import contextlib
import itertools
import math

import streamlit as st

from labcore.configs.base import ConfigError
from labcore.configs.registry import ABOUT
from labcore.configs.run import RunConfig
from labcore.configs.units import count_of, plain, seconds_between
from labcore.runs.errors import StoreError
from labcore.studies import estimates, explorations
from labcore.studies.estimates import Speed
from labcore.studies.explorations import Exploration
from labcore.training import worker
from pages.parts import explore_form, exploring, lab, markup

MOST_LISTED, MOST_ESTIMATED = 12, 40
# What in an address asks for an exploration, for the form, or for what stands in it.
ASKED = {"exploration", "run", "preset", "method", "vary", *exploring.NEW}


def begin(exploration: Exploration) -> None:
    """Let it begin, see to it that somebody trains its runs, and watch it."""
    try:
        name = explorations.create(lab.store(), exploration)
        worker.ensure(lab.store(), exploration.device)
    except StoreError as error:
        st.error(markup.literal(error), icon=":material/error:")
        st.stop()
    st.query_params.clear()
    st.query_params["exploration"] = name
    st.rerun()


def cost_ahead(exploration: Exploration) -> None:
    """How many runs, and how long they take on this machine."""
    configs = some_of(exploration)

    def say(speeds: set[Speed | None]) -> None:
        found = [lab.reader().seconds(config, lab.chosen_device()) for config in configs]
        known = [seconds for seconds in found if seconds is not None]
        if len(known) == len(found):
            st.caption(in_words(exploration, sum(known) / len(known), lab.estimated(speeds)))
            return
        most = exploration.most_runs
        runs = exploration.budget if most is None else count_of(most, "run")
        st.caption(f"{runs}; this machine's speed is being measured …")

    lab.with_speeds(configs, say)


def some_of(exploration: Exploration) -> list[RunConfig]:
    """What its runs are estimated by: its base, or some combinations of a grid, which epochs and sizes set apart."""
    configs = []
    if exploration.sampler == "grid":
        for values in itertools.islice(exploration.grid(), 0, None, max(1, exploration.combinations // MOST_ESTIMATED)):
            with contextlib.suppress(ConfigError):  # it will be left out
                configs.append(exploration.arm(values).config)
    return configs or [exploration.base]


def in_words(exploration: Exploration, each: float, estimated: str) -> str:
    """What a budget will come to, at `each` seconds a run."""
    most, points, minutes = exploration.most_runs, exploration.most_points, exploration.minutes
    allowed = points if minutes is None else min(points, math.ceil(60 * minutes / (each * exploration.seeds)))
    if allowed == points and most is not None:
        time = seconds_between(each * most, estimates.PROMISED * each * most)
        return f"{count_of(most, 'run')}, ≈ {time}, {estimated}; less where runs share a beginning"
    runs = count_of(allowed * exploration.seeds, "run")
    if exploration.sampler == "grid":
        runs = f"{allowed} of {count_of(points, 'combination')}"
    elif most is not None:
        runs = f"{allowed * exploration.seeds} of {count_of(most, 'run')}"
    return f"≈ {runs} in {plain(minutes)} min, {estimated}; more where runs share a beginning"


def earlier() -> None:
    """Explorations that were begun before, the newest first."""
    known = explorations.names(lab.store())[:MOST_LISTED]
    if known:
        st.markdown("**Earlier explorations**")
    for name in known:
        try:
            record = explorations.read(lab.store(), name)
        except ConfigError as error:
            st.caption(markup.literal(error))
            continue
        going = " · running" if record.state == "running" else ""
        done = sum(one.refused is None for one in record.asked)
        st.page_link(
            "pages/explore.py",
            label=f"{record.title} · {count_of(done, 'combination')}{going}",
            query_params={"exploration": name},
            icon=":material/query_stats:",
        )


def running_first() -> None:
    """Where nothing else is asked for, go to the exploration that runs, the newest of several."""
    running = explorations.marked(lab.store())
    if running and not ASKED & set(st.query_params):
        st.query_params["exploration"] = running[-1]


lab.through_the_shell()
running_first()
opened = st.query_params.get("exploration")
if opened is not None:
    exploring.show(opened)
    st.stop()

head, action = st.columns([5, 1], vertical_alignment="center")
head.title("Which settings work best?", anchor=False)
left, right = st.columns([1, 1.4], gap="large")
with left, st.container(gap="xsmall"):  # all of it at once, on a projector
    exploration, problem, wanted = explore_form.asked()
with action:
    pressed = st.button(
        "Explore", type="primary", icon=":material/play_arrow:", width="stretch", disabled=exploration is None
    )
if pressed and exploration is not None:
    begin(exploration)

with right:
    if problem:
        st.error(markup.literal(problem), icon=":material/error:")
    if wanted is not None:
        act = {"on_click": explore_form.allow, "args": (wanted,)}
        st.button(f"Allow {wanted} runs", icon=":material/add:", **act)
    if exploration is not None:
        with st.container(key="line-explore"):
            cost_ahead(exploration)
    st.info(
        "**Every method has knobs, and their best values depend on the jobs.** Choose one to three of them and press "
        "**Explore**. Each try becomes a point here that says how well all jobs are done, new ones and old ones. You "
        "can leave at any time, and it goes on by itself.",
        icon=":material/lightbulb:",
    )
    if exploration is not None:
        exploring.draw(exploration, [], exploration.model_dump_json(), height=260)
    st.markdown("**Or begin with one of these**")
    offered = [(about.name, about.suggestion) for about in ABOUT.values() if about.suggestion]
    for method, suggestion in sorted(offered, key=lambda pair: pair[1].place):
        act = {"on_click": explore_form.suggest, "args": (method, suggestion.vary), "key": f"suggest-{method}"}
        st.button(suggestion.question, type="tertiary", icon=":material/arrow_forward:", **act)
    earlier()
