"""What a person sets for the lab as a whole; kept in the store."""

import streamlit as st

from labcore.runs import energy
from labcore.runs.settings import DETAILS, MOST_GB
from labcore.runs.store import Store
from pages.parts import lab, markup

_WORLD = ""  # no country: for a widget, None is that nothing is chosen
_MAPS = {"all": "live and after each job", "stages": "after each job", "none": "nothing"}


def show(store: Store) -> None:
    """The settings in an expander; a change is written at once, and it alone: another tab may have changed the rest."""
    problem = store.settings_problem()
    with st.expander("Settings", icon=":material/settings:", expanded=problem is not None):
        if problem:
            st.warning(markup.literal(problem), icon=":material/error:")
        for name, value in store.settings().model_dump().items():
            st.session_state[name] = value or _WORLD if name == "country" else value
        st.selectbox(
            "Whose electricity?",
            [_WORLD, *energy.countries()],
            format_func=lambda code: energy.country(code or None).text,
            help="Grams of CO₂e follow from it, for old runs too. The figures are codecarbon's.",
            key="country",
            on_change=_change,
            args=(store, "country"),
        )
        st.number_input(
            "Room for weights of trained stages and maps (GB)",
            0.0,
            float(MOST_GB),
            help="Once it is full, what is used least is removed: weights, then live maps, then maps of stages' ends. "
            "Those of runs that you keep are not counted.",
            key="stage_cache_gb",
            on_change=_change,
            args=(store, "stage_cache_gb"),
        )
        st.segmented_control(
            "Look inside the network while it learns",
            DETAILS,
            required=True,
            format_func=_MAPS.__getitem__,
            help="What Inside shows of runs from now on. Live maps cost a run about a tenth of its time.",
            key="maps",
            on_change=_change,
            args=(store, "maps"),
        )


@lab.told_if_refused
def _change(store: Store, name: str) -> None:
    """Write one setting as its widget has it."""
    store.change_settings(**{name: st.session_state[name] or None if name == "country" else st.session_state[name]})
