"""Jobs in pictures, and the face of a page without runs, which shows the story's."""

import base64
import html
import io
from pathlib import Path

import numpy as np
import streamlit as st
from PIL import Image

from labcore.configs.presets import preset
from labcore.drawings import figures
from labcore.tasks import catalogue
from labcore.tasks.pictures import samples
from labcore.tasks.source import TaskError
from pages.parts import lab


def job(position: int, task: str, columns: int = 5, lines: int = 1) -> None:
    """The job at a position from 1: its name under a bar of its colour, its question, and some of its pictures.

    Where there are no pictures it says why, and a name that is no task stands by itself. All is sent in one piece, as
    each piece takes the browser some milliseconds.
    """
    try:
        info = catalogue.describe(task)
        title, question, examples = info.title, info.description, _examples(task, columns, lines)
    except TaskError:
        title, question, examples = task, "", ""
    st.html(
        f'<div class="lab-task" style="border-color:{figures.task_colour(position)}">'
        f"<b>{position}. {html.escape(title)}</b></div>"
        f'<div class="lab-term">{html.escape(question)}</div>{examples}'
    )


def _examples(task: str, columns: int, lines: int) -> str:
    try:
        grid = f"grid-template-columns: repeat({columns}, minmax(0, 1fr))"
        cells = "".join(_captioned(*found) for found in _pictures(task, columns * lines, _kept(task)))
        return f'<div class="lab-pictures" style="{grid}">{cells}</div>'
    except TaskError as error:
        return f'<div class="lab-term">{html.escape(f"Its {error}.")}</div>'


def one_a_class(source: str) -> list[str]:
    """HTML of a picture of each class, without its name; empty where there are none on this machine yet."""
    try:
        found = _pictures(source, len(catalogue.describe(source).classes), _kept(source))
    except TaskError:
        return []
    return [f'<img class="lab-class" src="{address}" alt="">' for address, _ in found]


def _kept(task: str) -> str:
    """Where pictures are kept that were downloaded; what comes with the lab lies in no store."""
    return str(lab.store().cache) if catalogue.files(task) else ""


@st.cache_data(show_spinner=False, max_entries=200)
def _pictures(task: str, count: int, cache: str) -> list[tuple[str, str]]:
    """The address of each picture, which holds it, and the name of its class."""
    return [(_picture(image), name) for image, name in samples(task, count, Path(cache))]


def _captioned(address: str, name: str) -> str:
    caption = html.escape(name)
    return f'<figure title="{caption}"><img src="{address}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def make_ready() -> None:
    """Make the pictures of the story's jobs, which the first page shows: they take a tenth of a second."""
    for task in preset("story").task_names:
        _examples(task, 5, 1)


def _picture(image: np.ndarray) -> str:
    """A picture, uint8 [H, W, C], as a page holds it."""
    picture = drawn(image)
    if picture.width < 56:
        picture = picture.resize((56, 56), Image.Resampling.BICUBIC)
    data, kind = packed(picture)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def drawn(image: np.ndarray) -> Image.Image:
    """A picture, uint8 [H, W, C] where C is 1 (grey) or 3, as PIL has it."""
    return Image.fromarray(image if image.shape[2] == 3 else image[..., 0])


def packed(picture: Image.Image) -> tuple[bytes, str]:
    """A picture as a file, and its kind: a grey one to the pixel (`png`), a coloured one a quarter of that (`jpeg`)."""
    kind = "png" if picture.mode == "L" else "jpeg"
    file = io.BytesIO()
    picture.save(file, kind, quality=92)
    return file.getvalue(), kind


def nothing_yet(title: str, sentence: str) -> None:
    """The face of a page without runs: what will be here, the way to it, and the story's jobs in pictures."""
    head, action = st.columns([3, 1], vertical_alignment="center")
    head.title(title, anchor=False)
    if action.button("To the story", type="primary", icon=":material/rocket_launch:", width="stretch"):
        st.switch_page("pages/launch.py")
    st.write(sentence)
    jobs = preset("story").task_names
    for position, (place, name) in enumerate(zip(st.columns(len(jobs)), jobs, strict=True), 1):
        with place.container(border=True):
            job(position, name, lines=2)
