"""Launch: choose a network, jobs and a method, and start."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from labcore import plugins
from labcore.configs import units
from labcore.configs.base import ConfigError
from labcore.configs.catalogue import BACKBONES
from labcore.configs.presets import PRESETS
from labcore.configs.reading import parse
from labcore.configs.registry import ABOUT
from labcore.configs.run import RunConfig
from labcore.runs.errors import StoreError
from labcore.studies import estimates
from labcore.studies.estimates import Speed
from labcore.tasks import catalogue
from labcore.tasks.source import TaskError
from labcore.training import worker
from pages.parts import config_form, lab, live_plot, markup, method_cards, pictures, runs, stages

MOST_ABREAST = 5  # jobs in a row
MOST_TOLD = 3  # jobs on the button
MOST_TICKED = 20  # classes that are picked by their pictures; of more there is a list of names
STARTS = {
    "pretrained": "already trained",
    "kaiming": "untrained (Kaiming)",
    "xavier": "untrained (Xavier)",
    "far": "untrained, far off",
}


def start(drafts: Sequence[dict[str, Any]]) -> None:
    """Queue the drafts for their device, see to it that somebody takes them, and watch them beside each other."""
    device = st.session_state.get("device", "auto")
    try:
        submissions = [lab.store().submit(parse(data), device=device) for data in drafts]
        worker.ensure(lab.store(), device)
    except StoreError as error:
        st.error(markup.literal(error))
        st.stop()
    if all(submission.cached for submission in submissions):
        st.session_state["note"] = "You have this already: here it is."
    run, *others = (submission.run for submission in submissions)
    st.switch_page("pages/watch.py", query_params={"run": run} | ({"with": ",".join(others)} if others else {}))


def start_label(configs: Sequence[RunConfig]) -> str:
    """What the button will do: `Start: EWC on digits, clothes, hand fans`."""
    if not configs:
        return "Start"
    methods = " and ".join(ABOUT[config.method.name].short for config in configs)
    titles = [in_a_sentence(task.title.partition(":")[0]) for task in configs[0].tasks]
    more = f" and {len(titles) - MOST_TOLD} more" if len(titles) > MOST_TOLD + 1 else ""
    return f"Start: {methods} on {', '.join(titles[:MOST_TOLD] if more else titles)}{more}"


def in_a_sentence(title: str) -> str:
    """A job's title with a small letter, unless it begins with an abbreviation."""
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]


def change_tasks(change: str, position: int = 0, name: str = "") -> None:
    """Move, remove or add a job; positions count from 0."""
    row = st.session_state["draft"]["tasks"]
    st.session_state["removed"] = (position, row[position]) if change == "remove" else None
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


def put_back() -> None:
    """Put the job back that was removed last."""
    if st.session_state.get("removed") is None:
        return  # a second press
    position, task = st.session_state["removed"]
    st.session_state["draft"]["tasks"].insert(position, task)
    st.session_state["removed"] = None
    config_form.renew()


def pick_classes(position: int, source: str, ticks: Sequence[str]) -> None:
    """Take the classes of a job whose boxes, with these keys, are ticked; fewer than two are no job."""
    chosen = [number for number, key in enumerate(ticks) if st.session_state[key]]
    _take_classes(position, source, chosen)


def list_classes(position: int, source: str, widget: str) -> None:
    """Take the classes of a job that are in the list of their numbers with this key."""
    _take_classes(position, source, sorted(st.session_state[widget]))


def _take_classes(position: int, source: str, chosen: Sequence[int]) -> None:
    if len(chosen) < 2:
        st.toast("A job needs at least two classes to tell apart.", icon=":material/info:")
        config_form.renew()  # the boxes are ticked again; else they stay as they are, and the keyboard where it is
    else:
        st.session_state["draft"]["tasks"][position]["name"] = catalogue.named(source, chosen)


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


def choose_beside(widget: str) -> None:
    """A second method to be trained beside the first, or none."""
    st.session_state["beside"] = st.session_state[widget]


def cost_ahead(configs: Sequence[RunConfig]) -> None:
    """Under the button: what the runs will cost on this machine, or that they are here already."""
    store, device = lab.store(), lab.chosen_device()
    known = [store.known(config) for config in configs]
    if all(record is not None and record.state == "complete" for record in known):
        run, *others = (record.run for record in known if record is not None)
        st.page_link(
            "pages/watch.py",
            label="You have this already: open it",
            icon=":material/history:",
            query_params={"run": run} | ({"with": others[0]} if others else {}),
        )
        return
    to_train = [
        config for config, record in zip(configs, known, strict=True) if not record or record.state != "complete"
    ]
    begun = any(record is not None and not record.active and record.state != "complete" for record in known)
    goes_on = " · goes on from where it stopped" if begun else ""

    def say(speeds: set[Speed | None]) -> None:
        own = [speed for config in to_train if (speed := estimates.known(store, device, config)) is not None]
        if len(own) < len(to_train):
            busy = any(one.run for one in store.workers() if one.device == device)
            st.caption("Estimate: when the worker is free" if busy else "Measuring the speed here …")
            return
        found = estimates.together(to_train, own, store.settings().maps)
        st.caption(f"≈ {units.seconds(found.seconds)}, {units.size(found.memory)}, {lab.estimated(speeds)}{goes_on}")

    lab.with_speeds(to_train, say)


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


def called(name: str) -> str:
    """What a page calls a task; the name itself where there is no such task."""
    try:
        return catalogue.describe(name).title
    except TaskError:
        return name


def choose_pictures(position: int, task: dict[str, Any]) -> None:
    """Which classes of a job are learnt, picked by their pictures, and from how many training images."""
    try:
        source, chosen = catalogue.parse(task["name"])
    except TaskError:  # the page says why
        return
    st.markdown("**Which of these should it learn to tell apart?**")
    if len(source.classes) <= MOST_TICKED:
        keys = [config_form.key(f"class{position}/{number}") for number in range(len(source.classes))]
        found = pictures.one_a_class(source.name)
        with st.container(horizontal=True, gap="small", key=f"classes-{position}"):
            for number, (name, key) in enumerate(zip(source.classes, keys, strict=True)):
                with st.container(width=108, gap="xsmall", key=f"one-class-{position}-{number}"):
                    if found:
                        st.html(found[number])
                    act = {"on_change": pick_classes, "args": (position, source.name, keys)}
                    st.checkbox(markup.literal(name), number in chosen, key=key, **act)
    else:
        key = config_form.key(f"classes{position}")
        act = {"on_change": list_classes, "args": (position, source.name, key), "key": key}
        numbers, name_of = range(len(source.classes)), source.classes.__getitem__
        st.multiselect("Classes", numbers, chosen, format_func=name_of, label_visibility="collapsed", **act)
    key = config_form.key(f"limit{position}")
    act = {"key": key, "on_change": limit_task, "args": (position, key)}
    now = task.get("images_per_class")
    st.number_input("Training images a class, at most", 1, 100_000, now, placeholder="all", **act)


lab.through_the_shell()
data = config_form.draft(lab.store())
beside = st.session_state.get("beside")
drafts = [data, *([config_form.with_method(data, beside)] if beside else [])]
configs, problem = [], None
for draft in drafts:
    try:
        configs.append(parse(draft))
    except ConfigError as error:
        problem = f"{ABOUT[beside].title} cannot learn this beside it: {error}" if beside and configs else str(error)
        configs = []
        break
config = configs[0] if configs else None
as_it_was = config_form.untouched(data)

# ---- head -----------------------------------------------------------------------------------------------------------

head, action = st.columns([1.7, 1], vertical_alignment="top")
with head, st.container(gap="xsmall", key="line-head"):
    st.title("Teach a network several jobs", anchor=False)
    with st.expander("What will happen?", type="compact", expanded=not lab.store().records(), key="what-happens"):
        first = (
            PRESETS[st.session_state["preset"]].description if as_it_was else "A network learns several jobs in turn."
        )
        st.write(f"{first} Meanwhile you see what it still knows of the old jobs. Change anything below first.")
        runs.to_recorded()
with action:
    label, icon = start_label(configs), ":material/play_arrow:"
    pressed = st.button(label, type="primary", icon=icon, width="stretch", disabled=not configs, wrap=True, key="start")
    with st.container(key="line-cost"):
        if configs:
            cost_ahead(configs)
if pressed and configs:
    start(drafts)

if config is not None:
    precision_ahead(config)
stages.fork_note(lab.store(), config)
if problem:
    st.error(markup.literal(problem), icon=":material/error:")
for warning in dict.fromkeys(warning for config in configs for warning in config.warnings()):
    st.warning(markup.literal(warning), icon=":material/info:")

if not lab.is_drawn():  # Start works; what follows takes the browser half a second more
    markup.to_come()
    pictures.make_ready()  # while the browser draws
    st.stop()

# ---- the sentence ---------------------------------------------------------------------------------------------------

ready, network, beginning, place = st.columns([1.45, 1.25, 1.05, 0.95])
presets = list(PRESETS)
lit = st.session_state["preset"] if as_it_was else None
chosen = ready.segmented_control(
    "Preset",
    presets,
    default=lit,
    format_func=lambda name: PRESETS[name].title,
    key=config_form.key(f"preset/{lit}"),
    help=" ".join(f"**{preset.title}**: {preset.description}" for preset in PRESETS.values()),
)
if chosen != lit:
    config_form.take_preset(chosen or st.session_state["preset"], data["method"]["name"])
    st.rerun()

with network:
    name = st.selectbox(
        "Network (backbone)",
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
        help=markup.literal(lab.device_ahead(asked)),
    )
for sentence in plugins.problems():  # what other packages bring and cannot be used
    st.warning(markup.literal(sentence))

# ---- the jobs -------------------------------------------------------------------------------------------------------
# What is folded away, here and below, is made when it is opened: the page is there sooner without.

count = len(data["tasks"])
abreast = max(3, min(count, MOST_ABREAST))
places = []
for _ in range(0, count, abreast):
    *row, beyond = st.columns([*[1] * abreast, 0.115 * abreast])
    places += row
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
            with more:
                choose_pictures(position, task)
with beyond:
    add = st.popover("Add", help="Add a job", icon=":material/add:", key="add-job", on_change="rerun", width="stretch")
    if removed := st.session_state.get("removed"):
        back = f"Put {in_a_sentence(called(removed[1]['name']))} back"
        st.button("Undo", help=back, icon=":material/undo:", on_click=put_back, key="undo", width="stretch")
with add:
    for name in catalogue.ALL if add.open else ():
        info = catalogue.describe(name)
        size = f" Download, {info.download} MB." if info.download else ""
        act = {"on_click": change_tasks, "args": ("add", 0, name), "key": f"add/{name}"}
        st.button(f"{info.title}: {info.description}{size}", type="tertiary", **act)

# ---- how it learns --------------------------------------------------------------------------------------------------

method_cards.choose(data["method"]["name"], beside, choose_method, choose_beside)

# ---- everything else ------------------------------------------------------------------------------------------------

details = st.expander("Details: all settings", key="details", on_change="rerun")
if details.open:
    with details:
        config_form.details(data)
by_hand = st.expander("The same on the command line", key="by-hand", on_change="rerun")
if by_hand.open:
    with by_hand:
        for draft in drafts:
            line = config_form.command_line(draft, st.session_state["preset"], st.session_state["device"])
            st.code(line, language="bash", wrap_lines=True)
        if config:
            st.code(config.model_dump_json(indent=2), language="json", height=260)

live_plot.ahead()
worker.ensure(lab.store(), ahead=True)  # warm by the time somebody presses Start
