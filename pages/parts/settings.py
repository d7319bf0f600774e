"""What a person sets for the lab as a whole; kept in the store."""

import streamlit as st

from labcore import energy
from labcore.configs import ConfigError
from labcore.settings import DETAILS, MOST_GB
from labcore.store import Store, StoreError

_MAPS = {"all": "live and after each job", "stages": "after each job", "none": "nothing"}


def show(store: Store) -> None:
    """The settings in an expander; a change is written at once."""
    problem = store.settings_problem()
    with st.expander("Settings", icon=":material/settings:", expanded=problem is not None):
        if problem:
            st.warning(problem, icon=":material/error:")
        codes, now = [None, *energy.countries()], store.settings()
        chosen = st.selectbox(
            "Whose electricity?",
            codes,
            index=codes.index(now.country),
            format_func=lambda code: energy.country(code).text,
            help="Grams of CO₂e are counted by it, for old runs too. The figures are codecarbon's.",
            key="country",
        )
        room = st.number_input(
            "Room for the weights of trained stages (GB)",
            0.0,
            float(MOST_GB),
            now.stage_cache_gb,
            help="Above it the least used ones go. Those of runs that you keep are not counted.",
            key="stage_cache_gb",
        )
        maps = st.segmented_control(
            "Look inside the network while it learns",
            DETAILS,
            default=now.maps,
            format_func=_MAPS.__getitem__,
            required=True,
            help="What Inside shows of runs from now on. Live maps cost a run about a tenth of its time.",
            key="maps",
        )
        changes = {"country": chosen, "stage_cache_gb": room, "maps": maps}
        if changes != now.model_dump():
            try:
                store.change_settings(**changes)
            except (ConfigError, StoreError) as error:
                st.error(str(error), icon=":material/error:")
            else:
                st.rerun()
