"""The article's questions and its opening: why each is asked, one button, and the answer with its spread."""

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from labcore.drawings import answers, comparisons, panels
from labcore.studies import questions
from labcore.studies.experiments import Experiment, Findings
from labcore.studies.groups import Group, groups_of
from labcore.studies.opening import RECYCLE_LEVEL, STARTS_LEVEL
from labcore.studies.questions import NAMED
from pages.parts import address, comparison, experiment_bar, lab, live_plot, runs

SHORT = {
    "q1": "Zero or keep?",
    "q2": "All, none, some?",
    "q3": "Mask or train?",
    "starts": "Where to start",
    "recycle": "Recycling",
}
# What stands behind each question, in the article's spirit, and how it is asked here.
WHY = {
    "q1": "PackNet shares one suitcase among many travellers. The first one packs, then takes out what it hardly "
    "needs, and the next one packs into the room that is left. Before that, the weights that were freed are set to "
    "zero. The article asks why, as they had learnt a little. Here the next job finds the freed weights at zero, or "
    "as they were; everything else is the same.",
    "q2": "The second traveller may use everything that the first one packed, and has to: its answers go through all "
    "of it. The article asks why it does not use a chosen part. Here a job uses all earlier weights, none of them, or "
    "those that it chooses by a mask that it learns.",
    "q3": "A hand fan becomes a fly swatter when some of its holes are covered, without bending a single slat. "
    "Piggyback works like that: it lays a 0/1 mask over weights that never change. The article doubts that this can "
    "beat training all of them. Here it stands beside fine-tuning, which forgets, and a separate copy for each job, "
    "which cannot forget.",
    "starts": "Whoever looks for the lowest valley does better from a good place to start. The article begins far off, "
    "comes nearer with Xavier Glorot's rule, and ends where another network has already been. Here one small network "
    "learns digits from each of these places, once without and once with batch normalisation, which forgives a bad "
    "start.",
    "recycle": "The article opens with a number: training a network costs as much carbon as five cars in their lives. "
    "So it says: reduce, reuse, recycle. Here the same network learns digits twice, from what it knows of photographs "
    "and from nothing, until both read them equally well.",
}


# Where docs/questions.md tells what was found when the lab was made.
RECORDED = Path(__file__).parents[2] / "docs" / "questions.md"
SECTIONS = {
    "q1": "Q1:",
    "q2": "Q2:",
    "q3": "Q3:",
    "starts": "The opening: does it matter",
    "recycle": "The opening: what does",
}


def recorded(name: str) -> str:
    """The answer that was found elsewhere, as Markdown; empty where the document is not there."""
    try:
        text = RECORDED.read_text(encoding="utf-8")
    except OSError:
        return ""
    sections = (section.partition("\n") for section in text.split("\n## ")[1:])
    return next((body.strip() for title, _, body in sections if title.startswith(SECTIONS[name])), "")


def show() -> None:
    """A question's card: chosen in the address."""
    name = address.one_of("compare", "ask", "Question", SHORT)
    experiment = questions.named(name)
    live = lab.reader().look(experiment).live
    head, action = st.columns([4, 1], vertical_alignment="center")
    head.title(NAMED[name].title, anchor=False)
    st.write(WHY[name])
    moving(name, experiment, live, action)
    if found := recorded(name):
        with st.expander("What was found on another machine (recorded, not measured here)"):
            st.markdown(found)
    with st.expander("How it is computed"):
        st.markdown(
            f"""
{len(experiment.arms)} settings with the same {len(experiment.seeds)} seeds:
{", ".join(arm.label for arm in experiment.arms)}
Runs that are here already are used. A difference is taken
seed by seed. It is called *clear* where it is beyond Student's 95 % interval, *likely* where it is beyond twice its
standard error only, and otherwise *no difference seen*. On the command line:
"""
        )
        st.code(f"python -m labcore experiment {name} --seeds {len(experiment.seeds)}", language="bash")


def moving(name: str, experiment: Experiment, live: bool, action: st.delta_generator.DeltaGenerator) -> None:
    """All that moves: the button, how far it is, the answer."""

    every = experiment_bar.rhythm(lab.reader().look(experiment))

    @st.fragment(run_every=every)
    @runs.while_there
    def now() -> None:
        findings = lab.reader().look(experiment)
        experiment_bar.line(findings)
        answer(findings)
        draw(name, findings)
        experiment_bar.earlier_versions(findings)
        if experiment_bar.rhythm(findings) != every:
            st.rerun()

    with action:
        experiment_bar.button(experiment, "Find out", live)
    now()


def answer(findings: Findings) -> None:
    """The sentences, or what will stand here."""
    if not any(cell.finished for cell in findings.cells):
        st.info(
            "Nobody knows yet. Press the button, and the answer appears here as runs finish.", icon=":material/help:"
        )
        return
    st.markdown("\n".join(f"- {sentence}" for sentence in findings.told()))


def draw(name: str, findings: Findings) -> None:
    """The question's own chart, and for several jobs the matrices."""
    version = findings.version
    if name == "starts":
        kinds = {"plain": "Without normalisation", "normalised": "With batch normalisation"}
        panel_of = {arm.label: kinds[arm.label.split(", ")[1]] for arm in findings.experiment.arms}
        curves = answers.learning_curves_info(findings, "steps", panel_of)
        live_plot.draw(
            lambda: answers.learning_curves(curves, list(kinds.values()), "steps", STARTS_LEVEL),
            "ask-starts",
            380,
            title="How many digits it reads rightly, step by step",
            aside="validation images",
            version=version,
        )
        return
    if name == "recycle":
        curves = answers.learning_curves_info(findings, "seconds", {})
        live_plot.draw(
            lambda: answers.learning_curves(curves, [""], "seconds of training", RECYCLE_LEVEL),
            "ask-recycle",
            380,
            title="How many digits it reads rightly, second by second of training",
            aside="validation images",
            version=version,
        )
        return
    dots = answers.seed_dots_info(findings)
    live_plot.draw(
        lambda: answers.seed_dots(dots),
        f"ask-{name}",
        80 + 42 * len(dots.names),
        title="Accuracy: a dot for each seed, a bar at the mean",
        aside="test images",
        version=version,
        least=comparison.LEAST,
    )
    groups = groups_of(findings)
    if groups:
        found = comparisons.matrices_info(groups)
        live_plot.draw(
            lambda: comparisons.matrices(found),
            f"ask-matrices-{name}",
            20 + 210 * panels.panel_rows(len(findings.experiment.arms)),
            title="What it remembers",
            aside="accuracy matrix, mean over seeds",
            version=version,
            least=comparison.LEAST,
        )
        _inside(groups)


def _inside(groups: Sequence[Group]) -> None:
    """For each arm the way into the first of its finished runs, laid out as the matrices are."""
    st.markdown("**See inside** (what became of the weights, in one run of each)")
    places = st.columns(panels.PANELS_A_ROW)
    for number, group in enumerate(groups):
        places[number % len(places)].page_link(
            "pages/inside.py", label=group.name, icon=":material/layers:", query_params={"run": group.runs[0].run}
        )
