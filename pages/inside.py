"""Inside: where in the network each job lives, now and at any moment before."""

import html

import streamlit as st

from labcore import plugins
from labcore.configs.units import whole
from labcore.drawings import strip
from labcore.drawings.charts import Chart
from labcore.drawings.inside import registry
from labcore.drawings.inside.kind import MapKind
from labcore.drawings.inside.layer import RunSeen, Shown
from labcore.drawings.inside.overview import Overview, Scale
from labcore.runs import moments, stored_maps
from labcore.runs.moments import Book, View
from labcore.runs.results import Fold
from pages.parts import inside_layer, lab, live_plot, markup, news, pictures, runs, stages, strips

lab.through_the_shell()
store = lab.store()
TITLE = "Where does each job live?"
LEFT = 560  # px of the choices of a map and of a layer: what stands beside them does not move when they change
record = runs.from_url(store)
if record is None:
    pictures.nothing_yet(
        TITLE,
        "A network keeps what it learns in its weights. Once a run has begun, this page shows which of them each job "
        "needs, which moved, and who owns them, while it learns and at any moment before.",
    )
    st.stop()
head, switch = st.columns([4, 1.2], vertical_alignment="center")
head.title(TITLE, anchor=False)
explain = switch.toggle("What am I looking at?", key="inside-explain", value=True)
markup.style("inside")
markup.style("strip")
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
    if name not in books:
        books[name] = Book(store.folder(name))
        stored_maps.looked_at(store, name)
    books[name] = books.pop(name)
    while len(books) > 4:
        books.pop(next(iter(books)))
    return books[name]


def drawn(name: str) -> Fold:
    """The run so far, with the moments whose maps are stored: others made room, perhaps since the last look."""
    return stored_maps.there(runs.follow(store, name), store.folder(name))


def moment_now(fold: Fold) -> int:
    """The moment of the address, else the latest; while playing, the next one each second."""
    names = [moments.name_of(moment) for moment in fold.maps]
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
    names = [moments.name_of(moment) for moment in fold.maps]
    words = {name: moments.words_of(fold, moment) for name, moment in zip(names, fold.maps, strict=True)}

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


stages.maps_missing(store, record, runs.follow(store, run))
followed = [name for name in (run, beside) if name]
active = runs.active(store, followed)
by_news = any(active) and news.possible()


@st.fragment(run_every=1 if playing or (any(active) and not by_news) else None)
@runs.while_there
def figures_now() -> None:
    """All that moves; what has not changed is not made again."""
    runs.say_damage(store, run, runs.follow(store, run))
    told = news.of(store, followed, "maps") if by_news else ""
    fold, shelf = drawn(run), book(run)
    seen = None
    if fold.maps:
        at = moment_now(fold)
        seen = moments.view(shelf, fold, fold.maps[at])
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


def nothing_yet(shelf: Book) -> None:
    """Why there is no map, and what to do."""
    st.html(chip(run))
    learning = store.record(run).active
    if shelf.trouble:
        st.warning(markup.literal(shelf.trouble), icon=":material/broken_image:")
    elif not learning and runs.follow(store, run).maps:
        pass  # they made room, which is said above
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
    kind = kind_and_moment(fold, shelf, at)
    shown = [RunSeen(run, runs.short(store, run), seen), *beside_it(fold, seen)]
    names = [layer.name for layer in seen.layers]
    asked = query.get("layer", "")
    place = names.index(asked) if asked in names else len(names) // 2
    question(kind, seen, alone=len(shown) == 1)
    infos = [kind.read(each.seen) for each in shown]
    scale = kind.drawing.scale(infos)
    for number, (each, info) in enumerate(zip(shown, infos, strict=True), 1):
        if len(shown) > 1:
            when = moments.words_of(each.seen.fold, each.seen.moment)
            named = f"<b>{html.escape(each.name)}</b> · {html.escape(when)}"
            st.html(f"{chip(each.run)} <span class='lab-term'>{named}</span>")
        last = number == len(shown)
        height = 205 if len(shown) == 1 else 185 if last else 145
        overview(kind, each, info, scale, place, height, last)
    for each in shown:
        if kind.remark is not None and (remark := kind.remark(each.seen)):
            st.caption(f"{each.name}: {remark}" if len(shown) > 1 else remark)
    task = layer_and_job(kind, seen, place)
    same = [each for each in shown if [layer.name for layer in each.seen.layers] == names]
    if len(same) < len(shown):
        st.caption("The other run's network has other layers, so only this run's layer is shown.")
    inside_layer.show(kind, Shown(same, place, task), explain)
    rows = strip.rows(run, fold, [task.title for task in fold.tasks])
    moment = seen.moment.stage, seen.moment.step
    strips.draw(f"inside-{run}", rows, title="What it said then", moment=moment)
    formula = st.expander("How it is computed", key="inside-formula", on_change="rerun")
    if formula.open:
        formula.markdown(kind.words.formula)
    if shelf.trouble:
        st.caption(markup.literal(shelf.trouble))


def kind_and_moment(fold: Fold, shelf: Book, at: int) -> MapKind:
    """The switch between the kinds of map that the run has, and beside it all of its moments."""
    kinds = {kind.name: kind for kind in registry.kinds_of(shelf, fold)}
    leading = next((kind.name for kind in kinds.values() if kind.leads), next(iter(kinds)))
    name = query.get("map", "") if query.get("map", "") in kinds else leading
    st.session_state["inside-map"] = name
    # In a row, not in columns, which Streamlit sends one by one in every tick.
    with st.container(horizontal=True, vertical_alignment="bottom"):
        words = {kind.name: kind.words.name for kind in kinds.values()}
        st.segmented_control("Map", list(kinds), format_func=words.__getitem__, key="inside-map", on_change=choose,
                             args=("map",), label_visibility="collapsed", required=True, width=LEFT)  # fmt: skip
        scrubber(fold, at)
    return kinds[name]


def beside_it(fold: Fold, seen: View) -> list[RunSeen]:
    """The other run, at the moment when it was as far; nothing where none is chosen, or it has no maps."""
    if not beside:
        return []
    other = drawn(beside)
    moment = moments.tied(fold, other, seen.moment)
    view = moments.view(book(beside), other, moment) if moment else None
    return [] if view is None else [RunSeen(beside, runs.short(store, beside), view)]


def question(kind: MapKind, seen: View, alone: bool) -> None:
    """What the map answers, of which moment, and in the field's words."""
    state = f"{chip(run)} &nbsp;" if alone else ""
    caption = f"<div class='lab-caption'>{html.escape(kind.words.caption)}</div>" if explain else ""
    # A line each whatever they say: with the run's words in the first, a longer one would push the maps down.
    st.html(
        f"<div>{state}<b>{kind.words.question}</b> &nbsp;{html.escape(moments.words_of(seen.fold, seen.moment))}</div>"
        f"<div class='lab-term'>{html.escape(kind.words.term)}</div>"
        f"{caption}"
    )


def overview(kind: MapKind, each: RunSeen, info: Overview, scale: Scale, place: int, height: int, last: bool) -> None:
    """The whole network of a run, the layer at `place` framed; a click chooses a layer, and where rows are jobs a job.

    The last of those below each other names the blocks.
    """
    framed = info.column_of(place)
    version = (kind.name, each.seen.moment.path, framed, scale, last)

    def make() -> Chart:
        return kind.overview(info, scale, chosen=framed, named=last)

    picked = live_plot.draw(make, f"inside-{each.run}-{kind.name}", height, version=version, picks=True)
    if picked is None:
        return
    layer = info.layer_at(round(float(picked.x)))
    row = round(float(picked.y)) + 1 if kind.drawing.rows_are_jobs else 0
    if layer is None or (layer, row) == (place, 0):
        return
    query["layer"] = each.seen.layers[layer].name
    if row:
        query["job"] = str(row)
    st.rerun(scope="fragment")


def layer_and_job(kind: MapKind, seen: View, place: int) -> int:
    """The choice of a layer, and of the job that its map speaks of; between them the gauge of a kind that has one."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        labels = {layer.name: seen.role(number).capitalize() for number, layer in enumerate(seen.layers)}
        layer = seen.layers[place]
        st.session_state["inside-layer"] = layer.name
        with st.container(width=LEFT, gap=None, key="inside-chosen"):
            st.selectbox("Layer: click one above, or choose", list(labels), format_func=labels.__getitem__,
                         key="inside-layer", on_change=choose, args=("layer",))  # fmt: skip
            st.html(f"<div class='lab-term'>{html.escape(layer.words)}</div>")
        if kind.gauge is not None and (gauge := kind.gauge(seen)):
            # No width of its own: what the row has left.
            st.html(f"<div style='width:0; min-width:100%'>{gauge}</div>")
        tasks = kind.tasks(seen)
        task = whole(query.get("job"), tasks[0], tasks[-1]) or kind.task(seen)
        if kind.jobs != "none":
            st.session_state["inside-job"] = task
            st.segmented_control("Job", list(tasks), format_func=lambda number: seen.titles[number - 1],
                                 key="inside-job", on_change=choose, args=("job",), required=True)  # fmt: skip
    return task


figures_now()
for sentence in plugins.problems():  # a kind of map that cannot be drawn, among others
    st.warning(markup.literal(sentence))
st.page_link("pages/watch.py", label="Watch this run", icon=":material/monitoring:", query_params={"run": run})
