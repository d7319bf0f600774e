"""What every page stands on: the store, a worker, the look."""

import base64
import html
import io
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import streamlit as st
from PIL import Image
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.pages_manager import PagesManager

from labcore.configs.presets import preset
from labcore.configs.run import RunConfig
from labcore.configs.units import seconds as seconds  # pages say lab.seconds, as they say lab.percent
from labcore.configs.units import size as size
from labcore.drawings import figures
from labcore.runs.errors import StoreError
from labcore.runs.files import home
from labcore.runs.store import Store
from labcore.studies.estimates import Speed
from labcore.studies.reader import Reader
from labcore.tasks import catalogue, pictures
from labcore.tasks.source import TaskError
from labcore.training import worker

WORKER_WAITS = 3.0  # seconds


@st.cache_resource
def _open(folder: str) -> Store:
    opened = Store()
    # Warm by the time somebody presses Start, but not at the cost of the first page, which would share the cores.
    threading.Timer(WORKER_WAITS, worker.ensure, [opened]).start()
    return opened


def store() -> Store:
    """The store of this server. Raises StoreError where it cannot be used."""
    return _open(str(home()))


@st.cache_resource
def _reader(folder: str) -> Reader:
    return Reader(store())


def reader() -> Reader:
    """Reads finished runs, each once for all sessions of this server."""
    return _reader(str(home()))


def chosen_device() -> str:
    """The device that the next run will be trained on: the one asked for, or the fastest there is."""
    here, asked = store().devices(), st.session_state.get("device", "auto")
    return asked if asked in here else next(iter(here), "cpu")


def why_device(asked: str, device: str) -> str:
    """Why a run for which `asked` was chosen (`auto`: nothing) is on a device of this machine."""
    if asked != "auto":
        return "chosen by you"
    if device == "cuda:0":
        return "the first GPU here"
    gpus = any(name.startswith("cuda") for name in store().devices())
    return "the first that was free" if gpus else "there is no GPU here"


def device_ahead(asked: str) -> str:
    """Which device the next run will be trained on, and why, in a sentence."""
    device = chosen_device()
    name = store().devices().get(device)
    if name is None:
        return "It will train on the first GPU, else on the processor: a worker is just looking what is here."
    return f"It will train on {name} ({device}): {why_device(asked, device)}."


def have_measured(device: str) -> None:
    """See to it that this device has a worker: no other can measure its speed.

    Which devices are here, the first worker tells; that one comes by itself.
    """
    if device in store().devices():
        worker.ensure(store(), device)


def until_measured(speeds: Collection[Speed | None]) -> int | None:
    """Seconds after which to look again at an estimate from these speeds; None where they are known for sure."""
    if None in speeds:
        return 1
    return 20 if any(speed.disturbed for speed in speeds if speed) else None


def estimated(speeds: Collection[Speed | None]) -> str:
    """What an estimate from these speeds is called, at the end of a phrase."""
    busy = any(speed.disturbed for speed in speeds if speed)
    return "estimated while other programs were busy" if busy else "estimated"


def with_speeds(configs: Sequence[RunConfig], say: Callable[[set[Speed | None]], None]) -> None:
    """Let `say` tell what follows from this machine's speeds for some runs; the page begins anew once it has others."""
    device = chosen_device()
    speeds = reader().speeds(configs, device)

    @st.fragment(run_every=until_measured(speeds))
    def now() -> None:
        if reader().speeds(configs, device) != speeds:
            st.rerun()
        if None in speeds:
            have_measured(device)
        say(speeds)

    now()


def through_the_shell() -> None:
    """Make the address of a page work as the first one that a fresh server is asked for.

    A folder called `pages` makes Streamlit run its files by themselves until `st.navigation` was called once. The flag
    is not public; where it should go away, a first deep link would show a page with a plainer side bar.
    """
    if PagesManager.uses_pages_directory:
        PagesManager.uses_pages_directory = False
        st.rerun()


def open_or_say_why() -> None:
    """Stop the page with one sentence where the store cannot be used."""
    try:
        store()
    except StoreError as error:
        st.error(str(error), icon=":material/error:")
        st.stop()


def style() -> None:
    """The width of a page, and the marks that pages share.

    The side bar's width is set here as Streamlit ignores the page's own setting on the first page of a fresh server.
    """
    st.html(
        """<style>
        .block-container h1 { font-size: 2rem; }
        .block-container :is(h1, h3) { padding: 0 0 1rem; }
        [data-testid="stSidebar"][data-collapsed="false"] { width: 200px !important; min-width: 200px; }
        .block-container { max-width: 1400px; padding: 2.6rem 2.5rem 2rem; }
        .lab-chip { display: inline-flex; align-items: center; gap: .45em; padding: .18em .75em; border-radius: 1em;
                    font-size: .95rem; font-weight: 600; white-space: nowrap;
                    background: color-mix(in srgb, currentColor 14%, transparent); }
        .lab-chip::before { content: ""; width: .6em; height: .6em; border-radius: 50%; background: currentColor; }
        .lab-waiting { color: light-dark(#5F6675, #A9AFBD); }  .lab-running { color: light-dark(#2F6FD0, #7FB0FF); }
        .lab-done { color: light-dark(#1E7F53, #4CC38A); }     .lab-stopped { color: light-dark(#96600F, #E0A94A); }
        .lab-failed { color: light-dark(#C8372D, #FF8A80); }
        .lab-bar { height: 8px; border-radius: 4px; background: #8A8F9C33; overflow: hidden; }
        .lab-bar > div { height: 100%; background: #2F6FD0; }
        .st-key-charts-ahead, .st-key-news { display: none; }
        .st-key-watch-head h3 { padding: 0; }
        .lab-term { font-size: .875rem; opacity: .7; }
        .lab-title { line-height: 26px; margin-bottom: 10px; white-space: nowrap; overflow: hidden;
                     text-overflow: ellipsis; }
        .lab-title b { font-weight: 600; }
        [class*="st-key-row-"] > * { flex: 1 1 0 !important; min-width: 0; }
        [class*="st-key-row-wide-"] > :first-child { flex-grow: 1.5 !important; }
        [class*="st-key-row-words-"] > :last-child { flex-grow: .64 !important; }
        .lab-task { border-top: 5px solid; border-radius: 4px; padding: .35rem 0 .9rem; }
        .lab-pictures { display: grid; gap: 5px; margin-top: .9rem; }
        .lab-pictures figure { margin: 0; text-align: center; font-size: .8rem; line-height: 1.3; }
        .lab-pictures figcaption { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
        .lab-pictures img { width: 100%; border-radius: 4px; image-rendering: auto; }
        [class*="st-key-job-"] button { padding-inline: .2rem; min-width: 0; }
        [class*="st-key-job-"] [data-testid="stPopoverButton"] [aria-hidden] { display: none; }
        [class*="st-key-card-"] { position: relative; transition: border-color .15s; }
        [class*="st-key-card-"]:hover { border-color: #5B78BF; }
        [class*="st-key-card-"] div { position: static; }
        [class*="st-key-card-"] button::after { content: ""; position: absolute; inset: 0; }
        [class*="st-key-card-"] button p { font-weight: 600; font-size: 1.05rem; }
        .lab-card-line { font-size: .94rem; line-height: 1.35; min-height: 4.1em; }
        .lab-marks { display: grid; grid-template-columns: repeat(3, 1fr); gap: .1rem .5rem; margin-top: .5rem; }
        .lab-marks span { position: relative !important; z-index: 1; font-size: .8rem; opacity: .8; cursor: help;
                          white-space: nowrap; }
        .lab-marks i, .lab-marks-key i { display: inline-block; width: .7em; height: .7em; border-radius: 50%;
                      margin: 0 .4em 0 0; border: 1.5px solid #5B78BF; vertical-align: -.04em; }
        .lab-marks-key i:not(:first-child) { margin-left: .5em; }
        .lab-good { background: #5B78BF; }
        .lab-medium { background: linear-gradient(90deg, #5B78BF 50%, transparent 50%); }
        .lab-figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); gap: .6rem .9rem;
                       align-items: end; }
        .lab-figures b { display: block; font-size: 1.25rem; line-height: 1.2; font-weight: 600; }
        .lab-figures span { font-size: .875rem; opacity: .75; }
        .lab-table { width: 100%; border-collapse: collapse; table-layout: fixed; }
        .lab-table th { text-align: left; font-weight: 600; padding: .3rem .6rem .3rem 0; vertical-align: top;
                        line-height: 1.3; }
        .lab-table thead th { font-size: .9rem; opacity: .75; }
        .lab-table tbody tr { border-top: 1px solid #8A8F9C44; height: 4.5rem; }
        .lab-table td { padding: .3rem .6rem .3rem 0; vertical-align: top; cursor: help; line-height: 1.3; }
        .lab-table i { display: block; font-style: normal; font-size: .875rem; }
        .lab-table small { display: block; font-size: .8rem; opacity: .65; }
        .lab-note { display: block; font-weight: 400; font-size: .8rem; opacity: .7; }
        .lab-table .lab-bar { margin-top: .5rem; max-width: 9rem; }
        .lab-word { font-size: 1.05rem; font-weight: 600; }
        .lab-word::before { content: ""; display: inline-block; width: .6em; height: .6em; border-radius: 50%;
                            margin-right: .4em; border: 1.5px solid #5B78BF; }
        .lab-word-good::before { background: #5B78BF; }
        .lab-word-medium::before { background: linear-gradient(90deg, #5B78BF 50%, transparent 50%); }
        .lab-paper { font-style: italic; } .lab-none { opacity: .35; } .lab-none::before { display: none; }
        .lab-yes { color: #1E8A5A; } .lab-no { color: #B7791F; }
        .lab-legend { display: flex; flex-wrap: wrap; gap: 1.4rem; font-size: .95rem; }
        .lab-advice { padding: .55rem .8rem; border-left: 4px solid #5B78BF; margin-bottom: .55rem; }
        .lab-advice b { display: block; font-size: 1.05rem; }
        .lab-out { border-color: #8A8F9C66; opacity: .65; }
        .lab-figures [title] { cursor: help; }
        .lab-parts { display: flex; gap: 1px; height: 10px; margin: .8rem 0 .4rem; }
        .lab-parts > div { min-width: 4px; border-radius: 2px; }
        .lab-parts-key { display: flex; flex-wrap: wrap; gap: 0 .9rem; font-size: .875rem; min-height: 3em; }
        .lab-parts-key i { display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin-right: .4em; }
        </style>"""
    )


def job(position: int, task: str, columns: int = 5) -> None:
    """The job at a position from 1: its name under a bar of its colour, its question, and some of its pictures.

    It says why where there are none; what is no task has but its name. In one piece, as each takes the browser some
    milliseconds.
    """
    try:
        info = catalogue.describe(task)
        title, question, examples = info.title, info.description, _examples(task, columns)
    except TaskError:
        title, question, examples = task, "", ""
    st.html(
        f'<div class="lab-task" style="border-color:{figures.task_colour(position)}">'
        f"<b>{position}. {html.escape(title)}</b></div>"
        f'<div class="lab-term">{html.escape(question)}</div>{examples}'
    )


def _examples(task: str, columns: int) -> str:
    try:
        grid = f"grid-template-columns: repeat({columns}, minmax(0, 1fr))"
        cache = str(store().cache) if catalogue.files(task) else ""  # what comes with the lab lies in no store
        return f'<div class="lab-pictures" style="{grid}">{_pictures(task, 10, cache)}</div>'
    except TaskError as error:
        return f'<div class="lab-term">{html.escape(f"Its {error}.")}</div>'


@st.cache_data(show_spinner=False)
def _pictures(task: str, count: int, cache: str) -> str:
    cells = []
    for image, name in pictures.samples(task, count, Path(cache)):
        caption = html.escape(name)
        picture = f'<img src="{_picture(image)}" alt="{caption}">'
        cells.append(f'<figure title="{caption}">{picture}<figcaption>{caption}</figcaption></figure>')
    return "".join(cells)


def make_ready() -> None:
    """Make what the first page shows and takes a while: the pictures of the story's jobs."""
    for task in preset("story").task_names:
        _examples(task, 5)


def _picture(image: np.ndarray) -> str:
    """A picture as a page holds it: grey ones to the pixel, coloured ones as photographs, a quarter of the bytes."""
    colours = image.shape[2] == 3
    picture = Image.fromarray(image if colours else image[..., 0])
    if picture.width < 56:
        picture = picture.resize((56, 56), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    picture.save(data, "JPEG" if colours else "PNG", quality=92)
    return f"data:image/{'jpeg' if colours else 'png'};base64,{base64.b64encode(data.getvalue()).decode()}"


def row(kind: Literal["even", "wide", "words"], name: str) -> DeltaGenerator:
    """Places side by side: equally wide, the first half as wide again, or the last, of words, narrower.

    As columns are, but sent as one piece: each costs the server a third of a millisecond a tick.
    """
    return st.container(horizontal=True, key=f"row-{kind}-{name}")


def titled(title: str, body: str) -> None:
    """HTML under a title that looks as a chart's does."""
    st.html(f"<div class='lab-title'><b>{html.escape(title)}</b></div>{body}")


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
            job(position, name)


def one_of(page: str, name: str, label: str, choices: Mapping[str, str], help: str | None = None) -> str:
    """One of several by its key, the first where none is chosen, in a row of buttons; the address keeps it as `name`.

    The label is shown where there is help, which hangs on it.
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


def percent(share: float | None) -> str:
    """`60.0 %` of a fraction of 1."""
    return "–" if share is None else f"{100 * share:.1f} %"
