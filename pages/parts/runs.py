"""Runs on a page: which one, how it stands, and its events folded as they come."""

import contextlib
import functools
import time
from collections.abc import Callable, Collection
from typing import NamedTuple, ParamSpec

import streamlit as st

from labcore.configs.base import ConfigError
from labcore.configs.recordings import RECORDINGS
from labcore.configs.run import RunConfig
from labcore.configs.units import count_of
from labcore.runs import gallery
from labcore.runs.errors import UnknownRun
from labcore.runs.records import Names, RunRecord
from labcore.runs.results import Fold
from labcore.runs.store import Store
from labcore.studies import estimates
from labcore.studies.forecast import Forecast, forecast
from pages.parts import lab, markup

# The same face everywhere: what the state is called, and its colour's class.
_FACES = {
    "queued": ("waiting", "lab-waiting"),
    "running": ("running", "lab-running"),
    "stopping": ("stopping", "lab-stopped"),
    "lost": ("worker gone", "lab-stopped"),
    "stopped": ("stopped", "lab-stopped"),
    "failed": ("failed", "lab-failed"),
    "complete": ("done", "lab-done"),
    "recorded": ("recorded", "lab-waiting"),
}

Parameters = ParamSpec("Parameters")

SEEN_FIRST = ("gallery-story-fine-tuning", "gallery-story-ewc")  # one that forgets, and one that keeps
MOST_FOLLOWED = 8
MOST_LAID_OVER = 4
MOST_OFFERED = 20


def title(config: RunConfig) -> str:
    """`Fine-tuning on Digits → Clothes`."""
    return f"{config.method.title} on {jobs(config)}"


def jobs(config: RunConfig) -> str:
    """`Digits → Clothes`."""
    return " → ".join(task.title for task in config.tasks)


class Called(NamedTuple):
    """What pages call a run's method, network and jobs."""

    method: str
    network: str
    jobs: str

    @classmethod
    def of(cls, config: RunConfig) -> "Called":
        """What they are called in a configuration."""
        return cls(config.method.title, config.backbone.title, jobs(config))


_called: dict[Names, Called] = {}


def called(store: Store, record: RunRecord) -> Called:
    """What pages call what a run names, as one of the configurations that name the same tells it.

    Raises UnknownRun, ConfigError.
    """
    names = store.names(record)
    if names not in _called:
        _called[names] = Called.of(store.config(record.run))
    return _called[names]


def standing(store: Store, record: RunRecord) -> str:
    """The state as a person sees it: the record's, or `stopping`, or `lost`."""
    if record.lost:
        return "lost"
    if record.recorded:
        return "recorded"
    if record.state == "running" and store.stop_requested(record.run):
        return "stopping"
    return record.state


def recorded(store: Store, run: str) -> None:
    """Of a recorded run say where it comes from, and lead to Launch with exactly that run; nothing for any other."""
    facts = store.recorded(run)
    if facts is None:
        return
    with st.container(horizontal=True, vertical_alignment="center", key=f"recorded-{run}"):
        sentence = f"A run {facts.words}; it ships with the lab."
        st.caption(markup.literal(sentence), width="content", help=f"`{facts.command}` repeats it.")
        st.page_link("pages/launch.py", label="Do it yourself", icon=":material/play_arrow:", query_params={"run": run})


def to_recorded() -> None:
    """The way to two recorded runs, face to face: what there is to see, before anything is trained here."""
    if all((gallery.FOLDER / f"{run}.zip").is_file() for run in SEEN_FIRST):
        run, other = SEEN_FIRST
        label, address = "See a recorded run first", {"run": run, "with": other}
        st.page_link("pages/watch.py", label=label, icon=":material/movie:", query_params=address)


def forecast_of(store: Store, fold: Fold) -> Forecast:
    """How far a run is that this machine trains, and how long it still takes."""
    speed = estimates.kept(store, fold.started.device, fold.started.config) if fold.started else None
    return forecast(fold, speed, store.settings().maps)


def told_lost(record: RunRecord) -> str:
    """How often a run's worker was lost, and what is known of the last time; empty where it never was."""
    times = record.times_lost + record.lost
    if not times:
        return ""
    how = f", the last time by {record.loss.how}" if record.loss and record.loss.how else ""
    memory = " Memory had run out." if record.loss and record.loss.memory else ""
    return f"Its worker was lost {count_of(times, 'time')}{how}.{memory}"


def word(state: str) -> str:
    """What a state is called on a page."""
    return _FACES[state][0]


def words() -> dict[str, str]:
    """What states are called, once each, with the colour of their chip."""
    colours = {"waiting": "gray", "running": "blue", "done": "green", "stopped": "orange", "failed": "red"}
    return {name: colours[face.removeprefix("lab-")] for name, face in _FACES.values()}


def face(state: str) -> str:
    """The class of a state's chip, which gives it its colour."""
    return _FACES[state][1]


def chip(state: str) -> str:
    """HTML of the status chip."""
    name, face = _FACES[state]
    return f'<span class="lab-chip {face}">{name}</span>'


def bar(share: float) -> str:
    """HTML of a progress bar, `share` from 0 to 1."""
    return f'<div class="lab-bar"><div style="width:{100 * share:.1f}%"></div></div>'


def from_url(store: Store) -> RunRecord | None:
    """The run of the address; without one, the run that a page showed last, or the newest.

    That one is in the address from then on. It is None where there are no runs. An address that names no run says so,
    and the page stops.
    """
    asked = st.query_params.get("run")
    if asked is None:
        found = _last(store) or next(iter(store.records()), None)
        if found is not None:
            st.query_params["run"] = st.session_state["run-here"] = found.run
        return found
    try:
        store.config(asked)
        found = store.record(asked)
        st.session_state["run-here"] = found.run
        return found
    except UnknownRun as error:
        is_recorded = asked in RECORDINGS
        sentence = str(error) if is_recorded else f"There is no run {asked[:60]} here. It may have been deleted."
        st.warning(markup.literal(sentence), icon=":material/search_off:")
    except ConfigError as error:
        st.warning(f"This run cannot be read: {markup.literal(error)}", icon=":material/error:")
    st.page_link("pages/runs.py", label="See the runs there are", icon=":material/list:")
    st.stop()


def _last(store: Store) -> RunRecord | None:
    """The run that a page showed last; None where that was none, or it was deleted since."""
    with contextlib.suppress(UnknownRun):
        return store.record(st.session_state.get("run-here", ""))
    return None


def while_there(tick: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """For what a page looks at again and again: where a run was deleted meanwhile, the page begins anew without it.

    Where the store or the disk refuses, it says so in a sentence, and looks again at the next tick.
    """

    @functools.wraps(tick)
    def guarded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        if lab.REFUSED in st.session_state:
            st.rerun()  # a sentence of one's own would be gone with the next tick: the page says it
        try:
            with lab.refusals_told():
                tick(*args, **kwargs)
        except UnknownRun:
            st.rerun()

    return guarded


def seen_with(store: Store, record: RunRecord) -> list[str]:
    """Let the person choose other runs of the same jobs to be seen with this one; the choice is in the address."""
    names = store.names(record).tasks
    asked = st.query_params.get("with", "").split(",")
    options: dict[str, str] = {}
    for other in _begun(store, asked):
        if other.run == record.run or (len(options) >= MOST_OFFERED and other.run not in asked):
            continue
        with contextlib.suppress(ConfigError, UnknownRun):
            if store.names(other).tasks == names:
                config = lab.reader().config(other.run)
                options[other.run] = f"{config.method.title} · {differences(record.run, other, store)}"
    if not options:
        return []
    chosen = st.multiselect(
        "See other runs of these jobs with it",
        list(options),
        [run for run in dict.fromkeys(asked) if run in options][:MOST_LAID_OVER],
        format_func=options.__getitem__,
        max_selections=MOST_LAID_OVER,
        placeholder="Choose one or more",
        key=f"with-{record.run}",
    )
    if chosen:
        st.query_params["with"] = ",".join(chosen)
    else:
        st.query_params.pop("with", None)
    return chosen


def active(store: Store, names: Collection[str]) -> list[bool]:
    """Which of these runs are queued or running."""
    there = {record.run for record in store.active()}
    return [run in there for run in names]


def offered(store: Store, asked: Collection[str]) -> dict[str, str]:
    """The newest runs that have begun, and those that are asked for; by ID, and what they are called in a list."""
    found: dict[str, str] = {}
    for record in _begun(store, asked):
        if len(found) < MOST_OFFERED or record.run in asked:
            with contextlib.suppress(ConfigError):
                found[record.run] = f"{title(lab.reader().config(record.run))} · {record.run.rsplit('-', 1)[-1]}"
    return found


def _begun(store: Store, asked: Collection[str]) -> list[RunRecord]:
    """Runs that have something to show, the newest first, and those that are asked for, recorded ones included."""
    begun = [record for record in store.records() if record.state != "queued" or record.run in asked]
    for run in RECORDINGS.keys() & set(asked):
        with contextlib.suppress(UnknownRun):
            begun.append(store.record(run))
    return begun


def short(store: Store, run: str) -> str:
    """`Joint training, 1a2b3c`: a name that no other run has."""
    return f"{store.config(run).method.title}, {run.rsplit('-', 1)[-1]}"


def differences(run: str, other: RunRecord, store: Store) -> str:
    """What sets another run's settings apart from this one's, in a few words; without any, when it was started."""
    mine, theirs = (store.config(name).model_dump(mode="json") for name in (run, other.run))
    found = [
        f"{name.replace('_', ' ')} {value}"
        for part in ("backbone", "training", "method")
        for name, value in theirs[part].items()
        if not (part == "method" and name == "name") and mine[part].get(name, value) != value
    ]
    if mine["seed"] != theirs["seed"]:
        found.append(f"seed {theirs['seed']}")
    if mine["tasks"] != theirs["tasks"]:
        found.append("other numbers of pictures")
    return ", ".join(found) or f"started {time.strftime('%d %b %H:%M', time.localtime(other.submitted))}"


def follow(store: Store, run: str) -> Fold:
    """The run's events so far, folded. Each call reads only what is new since the last."""
    followed: dict[str, tuple[Fold, int]] = st.session_state.setdefault("followed", {})
    fold, offset = followed.pop(run, None) or store.folded(run)
    events, offset = store.tail(run, offset)
    for event in events:
        fold.add(event)
    followed[run] = (fold, offset)
    while len(followed) > MOST_FOLLOWED:  # the least recently seen goes
        followed.pop(next(iter(followed)))
    return fold


def say_damage(store: Store, run: str, fold: Fold) -> None:
    """Say what of a run's events is damaged, where anything is."""
    if (why := store.damage(run, fold)) is not None:
        st.warning(markup.literal(why), icon=":material/healing:")


def bytes_to_pack(store: Store, run: str) -> int:
    """About how large a zip of the run will be: weights and maps hardly become smaller in one. Raises UnknownRun."""
    folder = store.folder(run)
    found = [*folder.glob("stages/*/*.safetensors"), *folder.glob("maps/*/*.npz")]
    return sum(path.stat().st_size for path in found)
