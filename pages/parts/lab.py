"""What every page stands on: the store, a worker for it, and what its machine can do."""

import contextlib
import functools
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import ParamSpec

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from labcore.configs.base import ConfigError
from labcore.configs.run import RunConfig
from labcore.runs.errors import StoreError, UnknownRun, refused
from labcore.runs.files import home
from labcore.runs.store import Store
from labcore.studies import explorations
from labcore.studies.estimates import Speed
from labcore.studies.reader import Reader
from labcore.training import worker
from pages.parts import markup

Parameters = ParamSpec("Parameters")

WORKER_WAITS = 3.0  # seconds
REFUSED = "refused"  # in a session: why what was pressed did not happen, until a page has said it
SOON = 0.1  # seconds; a browser that is still drawing takes longer to ask


@st.cache_resource
def _open(folder: str) -> Store:
    opened = Store()
    # Not at the cost of the first page, which would share the cores.
    threading.Timer(WORKER_WAITS, _go_on, [opened, worker.ensure]).start()
    return opened


def _go_on(store: Store, start: Callable[[Store], None]) -> None:
    """Start a worker where something was begun that is not over, as after the machine was switched off."""
    with contextlib.suppress(StoreError, OSError):  # the page says why
        if store.active() or explorations.marked(store):
            start(store)


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


def is_drawn() -> bool:
    """Whether the browser has drawn the beginning of a page of this session; False in its first script run alone.

    A page may then leave for later what is not needed at once. It begins anew as soon as the browser has time for it:
    the browser's own clock asks, and it waits for what is being drawn.
    """
    if st.session_state.get("drawn"):
        return True
    st.session_state["drawn"] = is_first = True

    @st.fragment(run_every=SOON)
    def ask() -> None:
        nonlocal is_first
        if not is_first:
            st.rerun()
        is_first = False

    ask()
    return False


def have_measured(device: str) -> None:
    """See to it that this device has a worker, as only a worker of its own can measure its speed.

    Which devices there are is told by the first worker, whichever it is for.
    """
    worker.ensure(store(), device if device in store().devices() else "auto", ahead=True)


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
    is_drawn = st.session_state.get("drawn", False)

    @st.fragment(run_every=until_measured(speeds))
    @refusals_told()
    def now() -> None:
        nonlocal is_drawn
        if reader().speeds(configs, device) != speeds:
            st.rerun()
        if None in speeds and is_drawn:
            have_measured(device)
        is_drawn = True  # by the next time, as that is when the browser asks
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


def run_in_address() -> dict[str, str]:
    """The run that one is at, for a link to a page about it: that of the address, or the one that a page showed last.

    Without one, or where it was deleted, the page takes the newest.
    """
    run = st.query_params.get("run") or st.session_state.get("run-here", "")
    try:
        return {"run": store().record(run).run}
    except (UnknownRun, StoreError, OSError):  # where the store cannot be opened, the page says why
        return {}


def open_or_say_why() -> None:
    """Stop the page with one sentence where the store cannot be used; above it, what of the store is damaged.

    And above it, once, why what was pressed just now did not happen.
    """
    if problem := st.session_state.pop(REFUSED, None):
        st.error(markup.literal(problem), icon=":material/error:")
    try:
        warnings = store().warnings()
    except StoreError as error:
        st.error(markup.literal(error), icon=":material/error:")
        st.stop()
    for text in warnings:
        st.warning(markup.literal(text), icon=":material/healing:")


@contextlib.contextmanager
def refusals_told() -> Iterator[None]:
    """For the block: where the store refuses, a file of it, or a full disk, a sentence stands in place of the rest."""
    try:
        yield
    except (ConfigError, StoreError) as error:
        st.error(markup.literal(error), icon=":material/error:")
    except OSError as error:
        st.error(markup.literal(refused(error)), icon=":material/error:")


def told_if_refused(press: Callable[Parameters, object]) -> Callable[Parameters, None]:
    """For what a press of a button does: Streamlit does it before the page is drawn, so the page then says why not.

    Of a run that was deleted meanwhile the page says so by itself.
    """

    @functools.wraps(press)
    def guarded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            with contextlib.suppress(UnknownRun):
                press(*args, **kwargs)
        except (ConfigError, StoreError) as error:
            st.session_state[REFUSED] = str(error)
        except OSError as error:
            st.session_state[REFUSED] = refused(error)

    return guarded
