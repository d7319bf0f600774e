"""A card a method: what it does in a line, and six marks for what it costs. The chosen one is framed."""

import html
from collections.abc import Callable

import streamlit as st

from labcore.configs.registry import ABOUT
from labcore.configs.verdicts import CRITERIA

CARDS_A_ROW = 4
UNRATED_MARK = "unrated"


def choose(chosen: str, take: Callable[[str], None]) -> None:
    """Draw all cards; a click on another than the `chosen` one calls `take` with its method's name."""
    st.html(
        f"""<style>
        .st-key-card-{chosen} {{ border-color: #5B78BF !important; box-shadow: 0 0 0 1px #5B78BF; }}
        </style>"""
    )
    names = list(ABOUT)
    for first in range(0, len(names), CARDS_A_ROW):
        with st.container(horizontal=True):
            for name in names[first : first + CARDS_A_ROW]:
                with st.container(border=True, key=f"card-{name}", height="stretch", gap="xsmall"):
                    # The button's area is the whole card (see assets/lab.css).
                    st.button(ABOUT[name].title, type="tertiary", key=f"method/{name}", on_click=take, args=(name,))
                    line = html.escape(ABOUT[name].idea)
                    st.html(f"<div class='lab-card-line'>{line}</div>{_marks(name)}")
    st.html(
        "<div class='lab-term lab-marks-key'><i class='lab-good'></i>good <i class='lab-medium'></i>medium "
        "<i class='lab-poor'></i>poor: the new job, the old jobs, time to train and to answer, memory, and whether old "
        "pictures are needed, as the literature has it. Rest on a mark for its word; the lab measures all of them."
        "</div>"
    )


def _marks(method: str) -> str:
    verdict = ABOUT[method].verdict
    cells = (
        f'<span title="{criterion}: {html.escape(word)}, {verdict.source}">'
        f'<i class="lab-{mark or UNRATED_MARK}"></i>{criterion}</span>'
        for criterion, word, mark in zip(CRITERIA, verdict.words, verdict.marks, strict=True)
    )
    return f'<div class="lab-marks">{"".join(cells)}</div>'
