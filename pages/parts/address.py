"""What a page's address keeps, so that a link or a reload brings the same page again."""

import contextlib
from collections.abc import Callable, Mapping

import streamlit as st

from pages.parts import markup


def one_of(page: str, name: str, label: str, choices: Mapping[str, str], help: str | None = None) -> str:
    """Let the person choose one of several in a row of buttons. Returns its key, at first that of the first.

    The address keeps the choice under `name`. The label is shown only where there is help, which hangs on it.
    """
    first = next(iter(choices))
    asked = st.query_params.get(name, first)
    chosen = st.segmented_control(
        label,
        list(choices),
        default=asked if asked in choices else first,
        required=True,
        format_func=choices.__getitem__,
        help=help,
        label_visibility="visible" if help else "collapsed",
        key=f"{page}-{name}",
    )
    st.query_params[name] = chosen
    return chosen


def number(name: str, read: Callable[[str], float], low: float, high: float, first: float) -> float:
    """The number that stands in the address, `first` where there is none. Says what is wrong, and goes on without."""
    text = st.query_params.get(name)
    if text is None:
        return first
    with contextlib.suppress(ValueError):
        if low <= (number := read(text)) <= high:  # nan is in no range
            return number
    sentence = f"{name} is {text[:80]!r}; it must be a number from {low:g} to {high:g}."
    st.error(markup.literal(sentence), icon=":material/error:")
    return first
