"""What a person sets for the lab as a whole; kept in the store."""

import streamlit as st

from labcore import energy
from labcore.configs import ConfigError
from labcore.settings import MOST_GB
from labcore.store import Store, StoreError


def show(store: Store) -> None:
    """The settings in an expander; a change is written at once."""
    problem = store.settings_problem()
    with st.expander("Settings", icon=":material/settings:", expanded=problem is not None):
        if problem:
            st.warning(problem, icon=":material/error:")
        codes = [None, *energy.countries()]
        now = store.settings().country
        chosen = st.selectbox(
            "Whose electricity?",
            codes,
            index=codes.index(now),
            format_func=lambda code: energy.country(code).text,
            help="Grams of CO₂e are counted by it, for old runs too. The figures are codecarbon's.",
            key="country",
        )
        room = st.number_input(
            "Room for the weights of trained stages (GB)",
            0.0,
            float(MOST_GB),
            store.settings().stage_cache_gb,
            help="Above it the least used ones go. Those of runs that you keep are not counted.",
            key="stage_cache_gb",
        )
        if chosen != now or room != store.settings().stage_cache_gb:
            try:
                store.change_settings(country=chosen, stage_cache_gb=room)
            except (ConfigError, StoreError) as error:
                st.error(str(error), icon=":material/error:")
            else:
                st.rerun()
