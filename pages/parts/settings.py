"""What a person sets for the lab as a whole; kept in the store."""

import streamlit as st

from labcore import energy
from labcore.configs import ConfigError
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
        room = store.settings().stage_cache_gb
        wanted = st.number_input(
            "Room for trained stages (GB)",
            0.0,
            100_000.0,
            room,
            format="%g",
            help="Weights after each stage let a new run start where an old one was. Above this the least used go.",
            key="stage_cache_gb",
        )
        if (chosen, wanted) != (now, room):
            try:
                store.change_settings(country=chosen, stage_cache_gb=wanted)
            except (ConfigError, StoreError) as error:
                st.error(str(error), icon=":material/error:")
            else:
                st.rerun()
