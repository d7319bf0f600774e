"""Launch: choose a network, jobs and a method, and start."""

from typing import Any

import streamlit as st

from labcore import plugins
from labcore.configs import units
from labcore.configs.base import ConfigError
from labcore.configs.catalogue import BACKBONES
from labcore.configs.presets import PRESETS
from labcore.configs.reading import parse
from labcore.configs.run import RunConfig
from labcore.runs.errors import StoreError
from labcore.studies import estimates
from labcore.studies.estimates import Speed
from labcore.tasks import catalogue
from labcore.training import worker
from pages.parts import config_form, lab, live_plot, markup, method_cards, pictures, stages

MOST_ABREAST = 5  # jobs in a row
STARTS = {
    "pretrained": "already trained",
    "kaiming": "untrained (Kaiming)",
    "xavier": "untrained (Xavier)",
    "far": "untrained, far off",
}


def start(data: dict[str, Any]) -> None:
    """Queue the draft for its device, see to it that somebody takes it, and watch it."""
    device = st.session_state.get("device", "auto")
    try:
        submission = lab.store().submit(parse(data), device=device)
        worker.ensure(lab.store(), device)
    except StoreError as error:
        st.error(markup.literal(error))
        st.stop()
    if submission.cached:
        st.session_state["note"] = "You have this run already: here it is."
    st.switch_page("pages/watch.py", query_params={"run": submission.run})


def change_tasks(change: str, position: int = 0, name: str = "") -> None:
    """Move, remove or add a job; positions count from 0."""
    row = st.session_state["draft"]["tasks"]
    match change:
        case "left":
            row[position - 1], row[position] = row[position], row[position - 1]
        case "right":
            row[position + 1], row[position] = row[position], row[position + 1]
        case "remove":
            del row[position]
        case "add":
            row.append({"name": name})
    config_form.renew()


def rename_task(position: int, widget: str) -> None:
    """Another task, or other classes of it."""
    st.session_state["draft"]["tasks"][position]["name"] = st.session_state[widget].strip()


def limit_task(position: int, widget: str) -> None:
    """At most so many training images a class."""
    st.session_state["draft"]["tasks"][position]["images_per_class"] = st.session_state[widget]


def choose_start(widget: str) -> None:
    """Begin from what is known already, or from one of the ways to know nothing."""
    st.session_state["draft"]["backbone"]["start"] = st.session_state[widget]


def choose_device(widget: str) -> None:
    """Another device, before the page is drawn: the estimate and the precision depend on it."""
    st.session_state["device"] = st.session_state[widget]


def choose_method(name: str) -> None:
    """Another method, with the preset's settings for it."""
    if name != st.session_state["draft"]["method"]["name"]:
        config_form.take_method(name)


def cost_ahead(config: RunConfig) -> None:
    """Under the button: what the run will cost on this machine, or that it is here already."""
    store, device = lab.store(), lab.chosen_device()
    known = store.known(config)
    if known is not None and known.state == "complete":
        st.page_link(
            "pages/watch.py",
            label="You have this already: open it",
            icon=":material/history:",
            query_params={"run": known.run},
        )
        return
    goes_on = " · goes on from where it stopped" if known is not None and not known.active else ""

    def say(speeds: set[Speed | None]) -> None:
        (speed,) = speeds
        if speed is None:
            busy = any(one.run for one in store.workers() if one.device == device)
            st.caption("Estimate: when the worker is free" if busy else "Measuring the speed here …")
            return
        found = estimates.estimate(config, speed, store.settings().maps)
        st.caption(f"≈ {units.seconds(found.seconds)}, {units.size(found.memory)}, {lab.estimated(speeds)}{goes_on}")

    lab.with_speeds([config], say)


def precision_ahead(config: RunConfig) -> None:
    """How fast bfloat16 is on this machine, where it was chosen, and the way back where it is slower."""
    if config.training.precision != "bfloat16":
        return
    device = lab.chosen_device()
    (speed,) = lab.reader().speeds([config], device)
    if speed is None or speed.bfloat16 is None:
        return
    sentence = estimates.told_of_bfloat16(device, speed.bfloat16)
    if speed.bfloat16 <= estimates.SLOWER:
        st.caption(sentence)
        return
    words, action = st.columns([5, 1], vertical_alignment="center")
    words.warning(markup.literal(sentence), icon=":material/info:")
    action.button("Use float32", width="stretch", on_click=config_form.take_precision, args=("float32",))


lab.through_the_shell()
data = config_form.draft(lab.store())
try:
    config, problem = parse(data), None
except ConfigError as error:
    config, problem = None, str(error)

# ---- head -----------------------------------------------------------------------------------------------------------

head, action = st.columns([3, 1])
with head:
    st.title("Teach a network several jobs", anchor=False)
with action:
    label = "Start the story" if st.session_state["preset"] == "story" else "Start"
    pressed = st.button(label, type="primary", icon=":material/play_arrow:", width="stretch", disabled=config is None)
    with st.container(key="line-cost"):
        if config is not None:
            cost_ahead(config)
if pressed and config is not None:
    start(data)

if not lab.store().records():
    st.info(
        "**One network learns one job after another, and you watch what happens to the old ones.** "
        "Press **Start the story**: a network that knows photographs learns to read digits, then clothes, then hand "
        "fans. How long it takes here stands under the button; everything below can be changed first.",
        icon=":material/lightbulb:",
    )
if config is not None:
    precision_ahead(config)
stages.fork_note(lab.store(), config)
if problem:
    st.error(markup.literal(problem), icon=":material/error:")
for warning in config.warnings() if config else []:
    st.warning(markup.literal(warning), icon=":material/info:")

if not lab.is_drawn():  # Start works; what follows takes the browser half a second more
    markup.to_come()
    pictures.make_ready()  # while the browser draws
    st.stop()

# ---- the sentence ---------------------------------------------------------------------------------------------------

ready, network, beginning, place = st.columns([1.5, 1, 1, 1])
presets = list(PRESETS)
chosen = ready.segmented_control(
    "Preset",
    presets,
    default=st.session_state["preset"],
    required=True,
    format_func=lambda name: PRESETS[name].title,
    key=config_form.key("preset"),
    help=" ".join(f"**{preset.title}**: {preset.description}" for preset in PRESETS.values()),
)
if chosen != st.session_state["preset"]:
    config_form.take_preset(chosen, data["method"]["name"])
    st.rerun()

with network:
    name = st.selectbox(
        "The network (backbone)",
        list(BACKBONES),
        list(BACKBONES).index(data["backbone"]["name"]),
        format_func=lambda name: BACKBONES[name].title,
        key=config_form.key("backbone"),
        help=BACKBONES[data["backbone"]["name"]].description,
    )
if name != data["backbone"]["name"]:
    config_form.take_backbone(name)
    st.rerun()
with beginning:
    starts = [start for start in STARTS if start != "pretrained" or BACKBONES[name].pretrained]
    key = config_form.key("start")
    st.selectbox(
        "which is (start)",
        starts,
        starts.index(data["backbone"]["start"]),
        format_func=STARTS.__getitem__,
        key=key,
        on_change=choose_start,
        args=(key,),
    )
with place:
    here = lab.store().devices()
    asked = st.session_state.get("device", "auto")
    if asked not in here:
        asked = st.session_state["device"] = "auto"
    key = config_form.key("device")
    st.selectbox(
        "on (device)",
        ["auto", *here],
        index=["auto", *here].index(asked),
        format_func=lambda name: f"{here[name]} ({name})" if name in here else "the fastest here",
        key=key,
        on_change=choose_device,
        args=(key,),
    )
about, where = st.columns([2.5, 2])
about.caption(BACKBONES[name].description)
where.caption(lab.device_ahead(asked))
for sentence in plugins.problems():  # what other packages bring and cannot be used
    st.warning(markup.literal(sentence))

# ---- the jobs -------------------------------------------------------------------------------------------------------
# What is folded away, here and below, is made when it is opened: the page is there sooner without.

count = len(data["tasks"])
abreast = max(3, min(count, MOST_ABREAST))
places = [place for _ in range(0, count, abreast) for place in st.columns(abreast)]
for position, (place, task) in enumerate(zip(places, data["tasks"], strict=False)):
    with place, st.container(border=True, height="stretch", gap="small", key=f"job-{position}"):
        pictures.job(position + 1, task["name"], columns=5 if abreast == 3 else 3)
        with st.container(horizontal=True, gap="xsmall"):
            for sign, change, help, off in (
                ("‹", "left", "Earlier", position == 0),
                ("›", "right", "Later", position == count - 1),
                ("×", "remove", "Remove", count == 1),
            ):
                act = {"on_click": change_tasks, "args": (change, position), "key": f"{change}{position}"}
                st.button(sign, help=help, disabled=off, width="stretch", **act)
            more = st.popover("⋯", help="Classes and images", width="stretch", key=f"more{position}", on_change="rerun")
        if more.open:
            key = config_form.key(f"task{position}")
            act = {"key": key, "on_change": rename_task, "args": (position, key)}
            more.text_input("Task, or some of its classes as in fashion:0-4", task["name"], **act)
            key = config_form.key(f"limit{position}")
            act = {"key": key, "on_change": limit_task, "args": (position, key)}
            now = task.get("images_per_class")
            more.number_input("Training images a class, at most", 1, 100_000, now, placeholder="all", **act)
add = st.popover("Add a job", icon=":material/add:", key="add-job", on_change="rerun")
with add:
    for name in catalogue.ALL if add.open else ():
        info = catalogue.describe(name)
        size = f" Download, {info.download} MB." if info.download else ""
        act = {"on_click": change_tasks, "args": ("add", 0, name), "key": f"add/{name}"}
        st.button(f"{info.title}: {info.description}{size}", type="tertiary", **act)

# ---- how it learns --------------------------------------------------------------------------------------------------

st.markdown("**How should it learn them without losing the earlier ones?** (method)")
method_cards.choose(data["method"]["name"], choose_method)

# ---- everything else ------------------------------------------------------------------------------------------------

details = st.expander("Details: all settings", key="details", on_change="rerun")
if details.open:
    with details:
        config_form.details(data)
by_hand = st.expander("The same on the command line", key="by-hand", on_change="rerun")
if by_hand.open:
    with by_hand:
        line = config_form.command_line(data, st.session_state["preset"], st.session_state["device"])
        st.code(line, language="bash", wrap_lines=True)
        if config:
            st.code(config.model_dump_json(indent=2), language="json", height=260)

live_plot.ahead()
worker.ensure(lab.store(), ahead=True)  # warm by the time somebody presses Start
