"""Which should I use? Three questions, and the measured methods in the order of the answers."""

import html
from collections.abc import Sequence

import streamlit as st

from labcore.configs.base import ConfigError
from labcore.configs.presets import PRESETS
from labcore.configs.units import whole
from labcore.studies import advice, questions
from labcore.studies.advice import Wish
from labcore.studies.groups import Group, groups_of
from pages.parts import lab, markup, measured_table

PICTURES = {"no": "No, they are gone", "yes": "Yes"}
CHANGE = {"not at all": "Not at all", "a little": "A little", "freely": "Freely"}
MOST_MORE = 20
MEMORY = {"1.5": "About one network", "4": "A few networks", "any": "As much as it takes"}


def show() -> None:
    """The questions on the left, the ranking on the right."""
    st.title("Which should I use?", anchor=False)
    first, jobs, seeds = measured_table.asked()
    preset = st.segmented_control(
        "Measured on",
        list(PRESETS),
        default=first,
        required=True,
        format_func=lambda name: PRESETS[name].title,
        key="which-preset",
    )
    if preset != first:
        jobs = measured_table.jobs_of(preset)
    measured_table.remember(preset, jobs, seeds)
    try:
        experiment = questions.named("table", preset, seeds, jobs)
    except ConfigError as error:
        st.error(markup.literal(error), icon=":material/error:")
        return
    groups = groups_of(lab.reader().look(experiment))
    left, right = st.columns([1, 1.4], gap="large")
    with left:
        wish = _wish()
    with right:
        if not groups:
            st.info(
                "**Nothing is measured on these jobs yet.** The answer is a ranking of what was measured on this "
                "machine, not of opinions. Choose All methods above, and measure them first.",
                icon=":material/lightbulb:",
            )
            return
        _ranking(groups, wish, len(experiment.arms))
    with st.expander("How it is computed"):
        st.markdown(
            "*Not at all* allows 0.05 points of mean forgetting, and *a little* allows 5. Memory after more jobs is "
            "what is kept now, and for each further job as much as each has added so far (heads, normalisation, "
            "copies, masks, pictures). It is compared with 1.5 or 4 times the network's own bytes. PackNet's room is "
            "counted for the network's smallest layer at its prune ratio."
        )


def _wish() -> Wish:
    """What the person answers to the three questions, and how many jobs will come."""
    pictures = _ask("1. May I keep the old jobs' pictures?", "pictures", PICTURES, "no")
    change = _ask("2. May the old skills change?", "change", CHANGE, "a little")
    memory = _ask("3. How much memory is there?", "memory", MEMORY, "4")
    given = whole(st.query_params.get("more"), 0, MOST_MORE)
    more = st.slider("… and how many more jobs will come?", 0, MOST_MORE, 2 if given is None else given)
    st.query_params["more"] = str(more)
    return Wish(pictures == "yes", change, None if memory == "any" else float(memory), more)  # type: ignore[arg-type]


def _ranking(groups: Sequence[Group], wish: Wish, methods: int) -> None:
    """What was measured of so many methods: those that fit by their rank, then the others and what rules them out."""
    found = advice.rank(groups, wish)
    fits = [entry for entry in found if entry.fits]
    if not fits:
        st.warning("No method that was measured does all of that. Change one of your answers.", icon=":material/info:")
    cells = []
    for number, entry in enumerate(fits, 1):
        cells.append(
            f'<div class="lab-advice"><b>{number}. {html.escape(entry.name)}</b>{html.escape(entry.reason)}</div>'
        )
    for entry in found[len(fits) :]:
        cells.append(
            f'<div class="lab-advice lab-out"><b>{html.escape(entry.name)}</b>no: {html.escape(entry.reason)}</div>'
        )
    st.html("".join(cells))
    unmeasured = methods - len(groups)
    st.caption(
        f"Ranked by measured average accuracy, {len(groups)} of {methods} methods"
        + (f"; {unmeasured} are not measured yet." if unmeasured else ".")
    )


def _ask(question: str, name: str, options: dict[str, str], default: str) -> str:
    given = st.query_params.get(name, default)
    chosen = st.radio(
        question,
        list(options),
        list(options).index(given if given in options else default),
        format_func=options.__getitem__,
        key=f"which-{name}",
    )
    st.query_params[name] = chosen
    return str(chosen)
