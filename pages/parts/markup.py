"""How pages look: their style sheets, and the pieces of HTML that they share."""

import functools
import html
import re
from pathlib import Path
from typing import Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from labcore.configs.units import size
from labcore.drawings import figures


@functools.cache
def _sheet(name: str) -> str:
    """A style sheet as HTML; read once."""
    return f"<style>\n{(Path(__file__).parent / 'assets' / f'{name}.css').read_text(encoding='utf-8')}</style>"


# What means something in Markdown wherever it stands, in Streamlit's a colon before a word too; and at the beginning.
_MARKS = re.compile(r"([\\`*_\[\]<>{}!#$&@|~^]|:(?=[A-Za-z/]))")
_FIRST_MARKS = re.compile(r"^([0-9]*)([-+=.)])")
_CODE = re.compile(r"((?<![`\\])`[^`]+`(?!`))")
MOST_LITERAL = 2000  # letters; what is longer is cut


def literal(text: object) -> str:
    """Markdown that shows a text letter by letter, in one paragraph.

    For every sentence that may hold a stranger's words: an error, a warning, what stands in an address or a file. As
    Markdown such words could make the browser fetch a picture from anywhere. What stands between two backticks, as our
    own sentences put commands, is drawn as code, in which nothing else means anything. A web or mail address
    becomes a link to itself, as in any plain text; nothing is fetched before it is clicked.
    """
    told = " ".join(str(text).split())
    told = told if len(told) <= MOST_LITERAL else told[:MOST_LITERAL] + " …"
    parts = [part if place % 2 else _MARKS.sub(r"\\\1", part) for place, part in enumerate(_CODE.split(told))]
    return _FIRST_MARKS.sub(r"\1\\\2", "".join(parts))


def style(name: str = "lab") -> None:
    """A style sheet of the folder assets: `lab` has the width of a page and the marks that pages share.

    The side bar's width is set there too, as Streamlit ignores the page's own setting on the first page of a fresh
    server.
    """
    st.html(_sheet(name))


def to_come() -> None:
    """Keep the place of what follows a moment later, so that the page has its scroll bar, and its width, at once."""
    st.html('<div class="lab-to-come"></div>')


def row(kind: Literal["even", "wide", "words"], name: str) -> DeltaGenerator:
    """Places side by side: all equal (`even`), the first half as wide again (`wide`), or the last narrower (`words`).

    It looks as columns do, but is sent as one piece, as each piece costs the server a third of a millisecond a tick.
    """
    return st.container(horizontal=True, key=f"row-{kind}-{name}")


def titled(title: str, body: str) -> None:
    """Draw HTML under a title that looks like a chart's."""
    st.html(f"<div class='lab-title'><b>{html.escape(title)}</b></div>{body}")


def figures_row(figures: dict[str, str], notes: dict[str, str] | None = None) -> str:
    """HTML of a row of figures: what it is, and how much. A note is shown while the pointer is on its figure."""
    cells = []
    for what, much in figures.items():
        note = f' title="{html.escape(notes[what])}"' if notes and what in notes else ""
        cells.append(f"<div{note}><span>{html.escape(what)}</span><b>{html.escape(much)}</b></div>")
    return f'<div class="lab-figures">{"".join(cells)}</div>'


# Light and dark in turn, so that neighbours differ in more than hue; none is a task's colour.
_SHADES = ("#5B78BF", "#A9B4CC", "#7C5FA3", "#C3B1DC", "#5B6C94", "#8FA3D9")


def parts_bar(footprint: figures.Footprint) -> str:
    """HTML of what is kept, by purpose: a bar, and in the same order what its parts are and how large."""
    bar, key = [], []
    if not footprint.kept:
        bar, key = (
            ['<div style="flex:1;background:#8A8F9C33"></div>'],
            ["What is kept, and what for, is measured after the first job."],
        )
    for number, part in enumerate(footprint.kept):
        colour, name = _SHADES[number % len(_SHADES)], html.escape(f"{part.purpose} {size(part.count)}")
        bar.append(f'<div style="flex:{part.share:.4f} 0 0;background:{colour}" title="{name}"></div>')
        key.append(f'<span><i style="background:{colour}"></i>{name}</span>')
    key += [f"<span>during a stage: {html.escape(f'{p.purpose} {size(p.count)}')}</span>" for p in footprint.working]
    return f'<div class="lab-parts">{"".join(bar)}</div><div class="lab-parts-key">{"".join(key)}</div>'
