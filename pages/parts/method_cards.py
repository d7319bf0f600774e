"""A card a method: what it does in a line, and a mark by each criterion for what it costs. The chosen one is framed."""

import html
from collections.abc import Callable

import streamlit as st

from labcore.configs.registry import of_group
from labcore.configs.verdicts import UNRATED, Verdict
from labcore.studies.criteria import criteria


def choose(chosen: str, take: Callable[[str], None]) -> None:
    """Draw all cards; a click on another than the `chosen` one calls `take` with its method's name."""
    st.html(
        f"""<style>
        .st-key-card-{chosen} {{ border-color: #5B78BF !important; box-shadow: 0 0 0 1px #5B78BF; }}
        </style>"""
    )
    _cards("article", take)
    if of_group("today"):
        st.html("<div class='lab-term'>Beyond the article</div>")
        _cards("today", take)
    *others, last = [html.escape(criterion.asks) for criterion in criteria().values()]
    st.html(
        "<div class='lab-term lab-marks-key'><i class='lab-good'></i>good <i class='lab-medium'></i>medium "
        f"<i class='lab-poor'></i>poor: {', '.join(others)}, and {last}, as the literature has it. Rest on a mark for "
        "its word; the lab measures all of them.</div>"
    )


def _cards(group: str, take: Callable[[str], None]) -> None:
    """Draw the cards of a group of methods; assets/lab.css says how many stand in a row."""
    with st.container(key=f"cards-{group}"):
        for about in of_group(group):
            with st.container(border=True, key=f"card-{about.name}", height="stretch", gap="xsmall"):
                # The button's area is the whole card (see assets/lab.css).
                st.button(about.title, type="tertiary", key=f"method/{about.name}", on_click=take, args=(about.name,))
                st.html(f"<div class='lab-card-line'>{html.escape(about.idea)}</div>{_marks(about.verdict)}")


def _marks(verdict: Verdict) -> str:
    """HTML of a mark for each criterion, or of a line where nobody has rated the method."""
    if verdict == UNRATED:
        return '<div class="lab-term">Not rated by anyone yet; the lab measures it.</div>'
    rated = ((html.escape(name), verdict.of(name)) for name in criteria())
    cells = (
        f'<span title="{name}: {html.escape(word)}, {verdict.source}"><i class="lab-{mark}"></i>{name}</span>'
        for name, (word, mark) in rated
        if mark is not None
    )
    return f'<div class="lab-marks">{"".join(cells)}</div>'
