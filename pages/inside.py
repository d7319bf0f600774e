"""Inside: where in the network each job lives, now and at any moment before."""

import html

import streamlit as st

from labcore.configs.run import PackNetConfig
from labcore.configs.units import whole
from labcore.drawings import map_figures
from labcore.drawings.charts import Chart
from labcore.drawings.map_figures import Overview
from labcore.runs import map_files, map_moments
from labcore.runs.map_moments import Book, View
from labcore.runs.results import Fold
from pages.parts import inside_layer, lab, live_plot, news, runs
from pages.parts.inside_words import KINDS

lab.through_the_shell()
store = lab.store()
TITLE = "Where does each job live?"
LEFT = 560  # px of the choices of a map and of a layer: what stands beside them does not move when they change
record = runs.from_url(store)
if record is None:
    lab.nothing_yet(
        TITLE,
        "A network keeps what it learns in its weights. Once a run has begun, this page shows which of them each job "
        "needs, which moved, and who owns them, while it learns and at any moment before.",
    )
    st.stop()
head, switch = st.columns([4, 1.2], vertical_alignment="center")
head.title(TITLE, anchor=False)
explain = switch.toggle("What am I looking at?", key="inside-explain")
inside_layer.style()
query = st.query_params
offered = runs.offered(store, (record.run, query.get("beside", "")))  # whatever the address names, however old


def choose(name: str) -> None:
    """Put what was chosen into the address."""
    value = st.session_state[f"inside-{name}"]
    if name == "run":
        for other in ("layer", "moment", "map", "job"):
            query.pop(other, None)
    if value is None or value == "":
        query.pop(name, None)
    else:
        query[name] = str(value)


def picker(name: str, label: str, options: list[str], now: str, empty: str = "") -> None:
    """A choice that is in the address."""
    st.session_state[f"inside-{name}"] = now if now in options else options[0]
    names = {**offered, "": empty}
    st.selectbox(
        label,
        options,
        format_func=lambda run: names.get(run, run),
        key=f"inside-{name}",
        on_change=choose,
        args=(name,),
    )


run = record.run
one, two, three = st.columns([2.2, 2.2, 0.8], vertical_alignment="bottom")
with one:
    picker("run", "Run", list(dict.fromkeys([*offered, run])), run)
with two:
    picker(
        "beside", "Beside it", ["", *(other for other in offered if other != run)], query.get("beside", ""), "no other"
    )
beside = st.session_state["inside-beside"]
playing = st.session_state.get("inside-playing", False)


def play() -> None:
    """Go through all moments, one a second; from the start where the last is shown."""
    st.session_state["inside-playing"] = not st.session_state.get("inside-playing", False)
    if st.session_state["inside-playing"] and "moment" not in query:
        query["moment"] = "first"


with three:
    st.button("Pause" if playing else "Play", icon=":material/pause:" if playing else ":material/play_arrow:",
              on_click=play, width="stretch", key="inside-play")  # fmt: skip


def book(name: str) -> Book:
    """The run's maps, opened."""
    books: dict[str, Book] = st.session_state.setdefault("inside-books", {})
    books[name] = books.pop(name, None) or Book(store.folder(name))
    while len(books) > 4:
        books.pop(next(iter(books)))
    return books[name]


def moment_now(fold: Fold) -> int:
    """The moment of the address, else the latest; while playing, the next one each second."""
    names = [map_moments.name_of(moment) for moment in fold.maps]
    asked = query.get("moment", "")
    at = 0 if asked == "first" else names.index(asked) if asked in names else len(names) - 1
    if st.session_state.get("inside-playing") and asked:
        at = at if asked == "first" else at + 1
        if at >= len(names) - 1:
            st.session_state["inside-playing"] = False
            query.pop("moment", None)
            return len(names) - 1
        query["moment"] = names[at]
    return at


def scrubber(fold: Fold, at: int) -> None:
    """All moments of the run; the last one follows what is new."""
    names = [map_moments.name_of(moment) for moment in fold.maps]
    words = {name: map_moments.words_of(fold, moment) for name, moment in zip(names, fold.maps, strict=True)}

    def take() -> None:
        chosen = st.session_state["inside-moment"]
        st.session_state["inside-playing"] = False
        if chosen == names[-1]:
            query.pop("moment", None)
        else:
            query["moment"] = chosen

    if len(names) > 1:
        st.session_state["inside-moment"] = names[at]
        st.select_slider("Moment", names, format_func=words.__getitem__, key="inside-moment", on_change=take,
                         label_visibility="collapsed")  # fmt: skip


def capacity(seen: View) -> None:
    """The gauge, and how many more jobs fit."""
    config = store.config(run)
    if not isinstance(config.method, PackNetConfig):
        return
    info = map_figures.capacity_info(seen, config.method.prune_ratio)
    if info is None:
        return
    when = "" if info.pruned else "; this job holds all that was free until it is pruned"
    more = "no more job" if not info.more else "1 more job" if info.more == 1 else f"{info.more} more jobs"
    # No width of its own: what the row has left.
    st.html(
        f"<div style='width:0; min-width:100%'>{map_figures.gauge(info, seen.titles)}<div class='lab-term'>of "
        f"{info.weights:,} weights · room for {more} at a prune ratio of {config.method.prune_ratio:g}, as the fullest "
        f"layer has it{when}</div></div>"
    )


followed = [name for name in (run, beside) if name]
active = runs.active(store, followed)
by_news = any(active) and news.possible()


@st.fragment(run_every=1 if playing or (any(active) and not by_news) else None)
@runs.while_there
def figures_now() -> None:
    """All that moves; what has not changed is not made again."""
    told = news.of(store, followed, "maps") if by_news else ""
    fold, shelf = runs.follow(store, run), book(run)
    seen = None
    if fold.maps:
        at = moment_now(fold)
        seen = map_moments.view(shelf, fold, fold.maps[at])
    if seen is None:
        nothing_yet(shelf)
    else:
        whole_and_detail(fold, shelf, seen, at)
    if told:
        news.follow(followed, "maps", told)
    if active != runs.active(store, followed) or playing != st.session_state.get("inside-playing", False):
        st.rerun()


def chip(name: str) -> str:
    """How a run stands, as on every page."""
    return runs.chip(runs.standing(store, store.record(name)))


def job(kind: str, seen: View) -> int:
    """Which job the layer's map speaks of: the one of the address, else the latest that has one."""
    last = seen.moment.stage if kind in ("importance", "masks") else max(1, seen.moment.stage - 1)
    now = whole(query.get("job"), 1, last) or (1 if kind in ("drift", "broke") else last)
    if kind in ("importance", "masks", "drift", "broke"):
        st.session_state["inside-job"] = now
        st.segmented_control("Job", list(range(1, last + 1)), format_func=lambda number: seen.titles[number - 1],
                             key="inside-job", on_change=choose, args=("job",), required=True)  # fmt: skip
    return now


def nothing_yet(shelf: Book) -> None:
    """Why there is no map, and what to do."""
    st.html(chip(run))
    learning = store.record(run).active
    if shelf.trouble:
        st.warning(shelf.trouble, icon=":material/broken_image:")
    elif (recorded := store.settings().maps) == "none":
        st.info("Runs that begin now record no maps: the lab is set so. Choose otherwise at the foot of "
                "Runs, and run it again.", icon=":material/layers_clear:")  # fmt: skip
        st.page_link("pages/runs.py", label="To the settings", icon=":material/settings:")
    elif learning and recorded == "stages":
        st.info("Runs that begin now draw their first maps after the first job: the lab is set so.",
                icon=":material/hourglass_empty:")  # fmt: skip
    elif learning:
        st.info("The first maps are drawn when the first job begins to be learnt: seconds from now.",
                icon=":material/hourglass_empty:")  # fmt: skip
    else:
        st.info("No maps were recorded of this run. Run it again, and they are drawn while it learns.",
                icon=":material/layers_clear:")  # fmt: skip
        st.page_link("pages/launch.py", label="Run it again", icon=":material/edit:", query_params={"run": run})
    st.caption("Maps show importance, drift, owners, masks and features of each layer, at every live point of a run.")


def whole_and_detail(fold: Fold, shelf: Book, seen: View, at: int) -> None:
    """The whole network, of one run or two on one scale; below it the chosen layer."""
    kinds = map_moments.kinds_of(shelf, fold)
    kind = query.get("map", "") if query.get("map", "") in kinds else "owners" if "owners" in kinds else kinds[0]
    st.session_state["inside-map"] = kind
    # In a row, not in columns, which Streamlit sends one by one in every tick.
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.segmented_control("Map", kinds, format_func=lambda k: KINDS[k].name, key="inside-map", on_change=choose,
                             args=("map",), label_visibility="collapsed", required=True, width=LEFT)  # fmt: skip
        scrubber(fold, at)
    words = KINDS[kind]
    views = [(run, runs.short(store, run), seen)]
    if beside:
        other, other_shelf = runs.follow(store, beside), book(beside)
        moment = map_moments.tied(fold, other, seen.moment)
        other_view = map_moments.view(other_shelf, other, moment) if moment else None
        if other_view is not None:
            views.append((beside, runs.short(store, beside), other_view))
    names = [layer.name for layer in seen.layers]
    infos = [map_figures.overview_info(each, kind) for _, _, each in views]
    scale = map_figures.span(kind, infos)
    asked = query.get("layer", "")
    place = names.index(asked) if asked in names else len(names) // 2
    state = f"{chip(run)} &nbsp;" if len(views) == 1 else ""
    # Two lines whatever they say: with the run's words in the first, a longer one would push the maps down.
    st.html(
        f"<div>{state}<b>{words.question}</b> &nbsp;{html.escape(map_moments.words_of(fold, seen.moment))}</div>"
        f"<div class='lab-term'>{html.escape(words.term)}</div>"
    )
    for number, ((name, title, each), info) in enumerate(zip(views, infos, strict=True), 1):
        if len(views) > 1:
            when = map_moments.words_of(each.fold, each.moment)
            named = f"<b>{html.escape(title)}</b> · {html.escape(when)}"
            st.html(f"{chip(name)} <span class='lab-term'>{named}</span>")
        blocks = list(dict.fromkeys(layer.block for layer in each.layers))
        framed = (
            place if kind != "representation" else blocks.index(each.layers[min(place, len(each.layers) - 1)].block)
        )
        version = (kind, each.moment.path, framed, explain, scale)
        last = number == len(views)

        def make(info: Overview = info, framed: int = framed, named: bool = last) -> Chart:
            return map_figures.overview(info, scale, chosen=framed, explain=explain, named=named)

        height = 205 if len(views) == 1 else 185 if last else 145
        picked = live_plot.draw(make, f"inside-{name}-{kind}", height, version=(*version, last), picks=True)
        if picked is not None:
            column = round(float(picked.x))
            found = (
                next((layer.name for layer in each.layers if layer.block == blocks[column]), None)
                if kind == "representation" and column < len(blocks)
                else each.layers[column].name
                if column < len(each.layers)
                else None
            )
            row = round(float(picked.y)) + 1 if kind in ("importance", "drift", "broke") else 0
            if found is not None and (found, row) != (names[place], 0):
                query["layer"] = found
                if row:
                    query["job"] = str(row)
                st.rerun(scope="fragment")
    if kind in ("drift", "broke"):
        for _, title, each in views:
            if missing := map_moments.unkept(each):
                whose = f"{title}: " if len(views) > 1 else ""
                st.caption(
                    f"{whose}no map since {', '.join(missing)}. To measure moves, a run keeps earlier weights in "
                    f"memory, up to {map_files.LARGEST_KEPT >> 30} GiB; those of this network would be more."
                )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.session_state["inside-layer"] = names[place]
        labels = {layer.name: layer.words for layer in seen.layers}
        st.selectbox("Layer: click one above, or choose", names, format_func=labels.__getitem__, key="inside-layer",
                     on_change=choose, args=("layer",), width=LEFT)  # fmt: skip
        if kind == "owners":
            capacity(seen)
        task = job(kind, seen)
    same = [view for view in views if [layer.name for layer in view[2].layers] == names]
    if len(same) < len(views):
        st.caption("The other run's network has other layers, so only this run's layer is shown.")
    inside_layer.show(same, place, kind, task, scale, explain)
    formula = st.expander("How it is computed", key="inside-formula", on_change="rerun")
    if formula.open:
        formula.markdown(words.formula)
    if shelf.trouble:
        st.caption(shelf.trouble)


figures_now()
st.page_link("pages/watch.py", label="Watch this run", icon=":material/monitoring:", query_params={"run": run})
