"""The choice of a method, and of a second one to be trained beside it: a card each, which says what to expect of it."""

import html
from collections.abc import Callable

import streamlit as st

from labcore.configs.method import About
from labcore.configs.registry import ABOUT, of_group
from pages.parts import config_form

QUESTION = "How should it learn them without losing the earlier ones?"


def choose(chosen: str, beside: str | None, take: Callable[[str], None], take_beside: Callable[[str], None]) -> None:
    """Draw all cards, the chosen ones framed.

    A click on a card calls `take` with its method's name. A choice in the box beside the question calls `take_beside`
    with the key of that box, which holds the second method's name or None.
    """
    st.html(
        f"""<style>
        .st-key-card-{chosen} {{ border-color: #5B78BF !important; box-shadow: 0 0 0 1px #5B78BF; }}
        .st-key-card-{beside} {{ border: 2px dashed #5B78BF !important; }}
        </style>"""
    )
    question, second = st.columns([2.4, 1], vertical_alignment="center")
    ideas = "<br>".join(html.escape(_said(ABOUT[name])) for name in (chosen, beside) if name)
    question.html(
        f"<div><b>{QUESTION}</b> <span class='lab-term'>(method)</span></div><div class='lab-term'>{ideas}</div>"
    )
    others: list[str | None] = [None, *(name for name in ABOUT if name != chosen)]
    key = config_form.key(f"beside/{chosen}")
    second.selectbox(
        "and beside it (a second method)",
        others,
        others.index(beside) if beside in others else 0,
        format_func=lambda name: ABOUT[name].title if name else "nothing",
        key=key,
        on_change=take_beside,
        args=(key,),
        help="Both learn the same jobs, and you watch them side by side. What they learn alike is trained once.",
    )
    _cards("article", take)
    if of_group("today"):
        st.html("<div class='lab-term'>Beyond the article</div>")
        _cards("today", take)
    st.html(
        "<div class='lab-term'>The cards say what to expect of a method by its definition. The lab measures it, and "
        "the page Compare shows both.</div>"
    )


def _said(about: About) -> str:
    """`EWC ties down the weights that …`: the idea as a sentence of its own."""
    return f"{about.short} {about.idea[0].lower()}{about.idea[1:]}"


def _cards(group: str, take: Callable[[str], None]) -> None:
    """Draw the cards of a group of methods; assets/lab.css says how many stand in a row."""
    with st.container(key=f"cards-{group}"):
        for about in of_group(group):
            with st.container(border=True, key=f"card-{about.name}", height="stretch", gap=None):
                # The button's area is the whole card (see assets/lab.css).
                st.button(about.title, type="tertiary", key=f"method/{about.name}", on_click=take, args=(about.name,))
                facts = "".join(f"<li>{html.escape(fact)}</li>" for fact in about.facts or (about.idea,))
                st.html(f"<div class='lab-card-line'>{html.escape(about.idea)}</div><ul class='lab-facts'>{facts}</ul>")
