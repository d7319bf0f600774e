"""Projector mode, for showing the lab to a room: larger words, and no side bar.

The session holds it, so that every page is shown so, and the address tells it, so that a reload or a link brings it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from pages.parts import markup

SCALE = 1.4  # of charts and their words, as assets/projector.css does for the rest: nothing is smaller than 18 px
_NAME = "projector"  # in the address and in the session


def is_on() -> bool:
    """Whether this session shows its pages for a projector."""
    return bool(st.session_state.get(_NAME))


def high(height: int) -> int:
    """How many px high is here what is elsewhere so high."""
    return round(SCALE * height) if is_on() else height


def begin() -> None:
    """For the shell, ahead of the page: take the mode from the address, or put it there, and style the page for it."""
    if st.query_params.get(_NAME) == "1":
        st.session_state[_NAME] = True
    if is_on():
        if _NAME not in st.query_params:  # a link has led to another page
            st.query_params[_NAME] = "1"
        markup.style("projector")


def switch() -> None:
    """For the side bar: what turns it on."""
    st.toggle("Projector", key="projector-switch", value=False, on_change=_turn, args=(True,),
              help="Larger words and no side bar, for showing the lab to a room.")  # fmt: skip


@contextmanager
def menu() -> Iterator[None]:
    """In place of the side bar: a small menu at the top for the block's links, and for the way back."""
    with st.container(key="projector-menu"), st.popover("Menu", icon=":material/menu:"):
        yield
        st.button("Leave projector mode", icon=":material/close:", on_click=_turn, args=(False,), width="stretch")


def _turn(on: bool) -> None:
    st.session_state[_NAME] = on
    if on:
        st.query_params[_NAME] = "1"
    else:
        st.query_params.pop(_NAME, None)
