"""Trained stages on a page: how much room they take, keeping them, missing them, going on from them."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from labcore.configs import units
from labcore.configs.base import ConfigError
from labcore.configs.run import RunConfig
from labcore.configs.units import whole
from labcore.runs import stored_maps
from labcore.runs.errors import UnknownRun
from labcore.runs.records import RunRecord
from labcore.runs.results import Fold
from labcore.runs.stage_cache import StageCache
from labcore.runs.stage_keys import shared_stages
from labcore.runs.store import Store
from labcore.training import worker
from pages.parts import lab, markup, runs

# ---- room ------------------------------------------------------------------------------------------------------------


class Stored(NamedTuple):
    """Bytes by what they are for, how many stages are stored, and their bytes."""

    usage: dict[str, int]
    stages: int
    held: int


LOOKED_FOR = 0.5  # seconds that a page waits for what is being counted
COUNTED_AGAIN = 20.0  # seconds, or so many times as long as it takes


def storage(store: Store, count: int) -> None:
    """What lies on the disk, and the button that frees up what stored weights take; `count` runs there are.

    To count means to look at every file, seconds in a store of thousands of runs; so the page goes on meanwhile.
    """
    counted = _counter(str(store.root)).ask(count)
    is_there = counted.done() or bool(wait([counted], LOOKED_FOR).done)

    @st.fragment(run_every=None if is_there else 1)
    @runs.while_there
    def now() -> None:
        if counted.done():
            _stored(store, count, counted.result())
            if not is_there:
                st.rerun()  # nothing is left to look for
        else:
            st.caption("What is stored is being counted.")

    now()


def _stored(store: Store, count: int, found: Stored) -> None:
    usage, stages, held = found
    with st.container(border=True):
        words, action = st.columns([4, 1], vertical_alignment="center")
        with words:
            st.markdown("**What is stored**")
            st.html(
                markup.figures_row(
                    {
                        f"{count} run{'s' * (count > 1)}": units.size(usage["runs"]),
                        f"{stages} stage{'s' * (stages != 1)}": units.size(usage["stages"]),
                        "maps": units.size(usage["maps"]),
                        "pictures": units.size(usage["pictures"]),
                        "downloads": units.size(usage["downloads"]),
                    }
                )
            )
        if action.button("Free up space", icon=":material/delete_sweep:", width="stretch", disabled=not stages):
            _ask_to_empty(store, held)
        st.caption(
            "Weights are stored after each stage, so that a new run can start where an old one was. Once weights and "
            f"maps take more than {units.size(StageCache(store).limit_bytes)}, those that are used least are removed: "
            "first weights, then live maps, then maps of stages' ends. "
            f"{units.size(sum(usage.values()))} are on disk in {store.root}, with records and logs."
        )


@st.dialog("Free up space?")
def _ask_to_empty(store: Store, held: int) -> None:
    """Weights cannot be brought back but by training, so it asks."""
    st.write(
        f"Up to {units.size(held)} of stored weights will be gone for good. New runs then train all their stages, and "
        "you can no longer go on from finished runs. Curves, figures and settings stay, and so do the weights of runs "
        "that are running, or that you chose to keep."
    )
    keep, empty = st.columns(2)
    if keep.button("Keep them", width="stretch"):
        st.rerun()
    if empty.button("Free it up", type="primary", width="stretch", on_click=_empty, args=(store,)):
        st.rerun()


class _Counter:
    """Counts what is stored, one count at a time for all sessions, and not again before it is worth it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="counter")
        self._last: tuple[int, Future[Stored]] | None = None
        self._again = 0.0

    def ask(self, runs: int) -> Future[Stored]:
        """The last count, or one that is under way; `runs` there are."""
        with self._lock:
            stale = self._last is None or self._last[0] != runs or time.monotonic() > self._again
            if self._last is None or (stale and self._last[1].done()):
                self._last = runs, self._thread.submit(self._count)
            return self._last[1]

    def forget(self) -> None:
        """Count again when asked next."""
        with self._lock:
            self._last = None

    def _count(self) -> Stored:
        begun = time.monotonic()
        found = Stored(self._store.usage(), *StageCache(self._store).usage())
        took = time.monotonic() - begun
        self._again = time.monotonic() + COUNTED_AGAIN * max(1.0, took)
        return found


@st.cache_resource
def _counter(root: str) -> _Counter:
    return _Counter(lab.store())


@lab.told_if_refused
def _empty(store: Store) -> None:
    StageCache(store).empty()
    _counter(str(store.root)).forget()


def keep_weights(store: Store, record: RunRecord) -> None:
    """Whether the run's weights and maps stay whatever room they take."""
    key = f"pin-{record.run}"

    @lab.told_if_refused
    def pin() -> None:
        wanted, st.session_state[key] = st.session_state[key], record.pinned
        store.pin(record.run, wanted)
        st.session_state[key] = wanted  # where it is refused, the switch goes back

    st.toggle(
        "Keep its weights",
        record.pinned,
        key=key,
        disabled=not (record.active or record.pinned or store.stages_stored(record.run)),
        help="They and its maps stay until the run is deleted, whatever room they take.",
        on_change=pin,
    )


# ---- missing ---------------------------------------------------------------------------------------------------------


def missing(store: Store, record: RunRecord, fold: Fold) -> None:
    """Say which stages' weights are gone, and offer to train the run again."""
    stored = store.stages_stored(record.run)
    gone = [str(number) for number, stage in enumerate(fold.stages, 1) if stage.ended and number not in stored]
    if record.active or not gone:
        return
    words, action = st.columns([4, 1], vertical_alignment="center")
    words.caption(
        f"The weights after stage{'s' * (len(gone) > 1)} {', '.join(gone)} are no longer stored, to make room. "
        "All curves and figures are still there."
    )
    _train_again(store, record, action)


def _train_again(store: Store, record: RunRecord, place: DeltaGenerator, key: str = "again") -> None:
    """The button that trains a run anew under a new ID, and leads there."""
    if place.button("Train it again", icon=":material/replay:", width="stretch", key=key, help="As a new run"):
        try:
            submission = store.submit(store.config(record.run), device=record.device, use_cache=False)
        except ConfigError as error:  # something of it is not installed here
            st.error(markup.literal(error), icon=":material/error:")
            return
        worker.ensure(store, record.device)
        st.switch_page("pages/watch.py", query_params={"run": submission.run})


def maps_missing(store: Store, record: RunRecord, fold: Fold) -> None:
    """Say which of a run's maps made room, and offer both ways to have them back."""
    gone = stored_maps.gone(fold, store.folder(record.run))
    if record.active or not gone.words:
        return
    ends = sorted(set(gone.ends) & set(store.stages_stored(record.run)))
    both = " Weights are stored, so the maps of stages' ends can be drawn again." if ends else ""
    _bring_back(store, record, gone.words + both, "again", can_draw=bool(ends))


def feature_maps_missing(store: Store, record: RunRecord) -> None:
    """Say of a run of before that no feature maps were kept, and offer both ways to have them."""
    if record.recorded:
        st.caption("A recorded run keeps no feature maps. Do it yourself to see them here.")
        return
    words = "This run's maps were drawn by a version of the lab that kept no feature maps."
    can_draw = not record.active and len(store.config(record.run).tasks) in store.stages_stored(record.run)
    if can_draw:
        words += " Weights are stored, so the maps of stages' ends can be drawn again, with them."
    elif not record.active:
        words += " Train it again to see them here."
    _bring_back(store, record, words, "features-again", can_draw=can_draw)


def _bring_back(store: Store, record: RunRecord, sentence: str, key: str, *, can_draw: bool) -> None:
    """A sentence on maps that are not there, and the buttons that bring them."""
    words, draw, train = st.columns([4, 1.2, 1.2], vertical_alignment="center")
    words.caption(sentence)
    if can_draw and draw.button("Draw them again", icon=":material/layers:", width="stretch", key=f"draw-{key}"):
        with st.spinner("The maps are drawn from the weights…"):
            why = worker.draw_again(store, record.run)
        if why:
            st.error(markup.literal(why), icon=":material/error:")
            return
        st.session_state.get("inside-books", {}).pop(record.run, None)
        st.rerun()
    if not record.active:
        _train_again(store, record, train, key)


# ---- going on from a stage -------------------------------------------------------------------------------------------


def go_on(record: RunRecord, fold: Fold) -> None:
    """Choose a stage of a run that is over, to go on from with other settings or jobs."""
    ended = [number for number, stage in enumerate(fold.stages, 1) if stage.ended]
    if record.active or not ended:
        return
    with st.popover("Go on from here with…", icon=":material/fork_right:", help="Fork: other settings or jobs"):
        stage = st.radio(
            "What stays",
            ended,
            len(ended) - 1,
            format_func=lambda number: f"stages up to {number} · {fold.tasks[number - 1].title}",
            key=f"fork-{record.run}",
        )
        st.page_link(
            "pages/launch.py",
            label="Choose what comes after",
            icon=":material/edit:",
            query_params={"run": record.run, "fork": str(stage)},
        )


def asked_fork(config: RunConfig, run: str, text: str | None) -> dict[str, object] | None:
    """The fork that an address asks for: a run, and the last of its stages that stays; None where it asks for none."""
    stage = whole(text, 1, len(config.tasks))
    return None if stage is None else {"run": run, "stage": stage}


def fork_note(store: Store, draft: RunConfig | None) -> None:
    """On Launch: what the draft goes on from, and how many of its first stages need not be trained."""
    fork = st.session_state.get("fork")
    if fork is None:
        return
    try:
        record, old = store.record(fork["run"]), store.config(fork["run"])
    except (UnknownRun, ConfigError):
        del st.session_state["fork"]
        return
    stage = fork["stage"]
    title = old.tasks[stage - 1].title
    words, action = st.columns([5, 1], vertical_alignment="center")
    words.info(
        f"**You go on from stage {stage} ({title}) of {runs.title(old)}.** "
        f"Change the method, its settings, or the jobs after it. {_reused(store, record, old, draft, stage)}",
        icon=":material/fork_right:",
    )
    if action.button("Forget that", width="stretch", key="forget-fork"):
        del st.session_state["fork"]
        st.rerun()


def _reused(store: Store, record: RunRecord, old: RunConfig, draft: RunConfig | None, stage: int) -> str:
    if draft is None:
        return ""
    same, stored = shared_stages(draft, old), store.stages_stored(record.run)
    here = next((number for number in range(same) if number + 1 not in stored), same)
    if record.imported or (same and not here):
        why = "that run was trained elsewhere" if record.imported else "their weights are no longer stored"
        return f"All stages will be trained: {why}."
    if not same:
        return "As it stands no stage comes out the same, so all will be trained."
    many = f"The first {here} stages come" if here > 1 else "The first stage comes"
    short = "" if here >= stage else " A change before that stage, or in how its stages are trained, costs the others."
    return f"{many} out the same and will be reused.{short}"
