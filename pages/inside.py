"""Inside: where in the network each job lives, now and at any moment before."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from labcore import plugins
from labcore.configs.units import whole
from labcore.drawings import strip
from labcore.drawings.charts import Chart
from labcore.drawings.inside import registry
from labcore.drawings.inside.kind import MapKind
from labcore.drawings.inside.layer import RunSeen, Shown
from labcore.drawings.inside.overview import Overview
from labcore.runs import moments, stored_maps
from labcore.runs.events import MapSaved
from labcore.runs.moments import Book, View
from labcore.runs.results import Fold
from pages.parts import inside_layer, inside_seen, lab, live_plot, markup, news, pictures, player, runs, stages, strips

lab.through_the_shell()
store = lab.store()
TITLE = "Where does each job live?"
LEFT = 400  # px of the choice of a layer: what stands beside it does not move when it changes
OVERVIEW, LEAST = 172, 640  # px of the whole network: its height, and how wide it is at least
MOST_INFOS = 600  # what kinds of map tell of a run at a moment, that are kept
record = runs.from_url(store)
if record is None:
    pictures.nothing_yet(
        TITLE,
        "A network keeps what it learns in its weights. Once a run has begun, this page shows which of them each job "
        "needs, which ones moved, and who owns them, while it learns and at any moment before.",
    )
    st.stop()
head, one, two, switch = st.columns([3.5, 2.9, 2.2, 1.3], vertical_alignment="center")
head.title(TITLE, anchor=False)
explain = switch.toggle("Explain", key="inside-explain", value=True, help="Say below each drawing what it shows.")
markup.style("inside")
markup.style("strip")
query = st.query_params
offered = runs.offered(store, (record.run, query.get("beside", "")))  # whatever the address names, however old


def choose(name: str) -> None:
    """Put what was chosen into the address."""
    value = st.session_state[f"inside-{name}"]
    if name == "run":
        for other in ("layer", "moment", "map", "job", "picture", "block"):
            query.pop(other, None)
    if name == "layer":
        query.pop("block", None)  # that of the layer is shown
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
        label_visibility="collapsed",
    )


run = record.run
with one:
    picker("run", "Run", list(dict.fromkeys([*offered, run])), run)
with two:
    others = ["", *(other for other in offered if other != run)]
    picker("beside", "Beside it", others, query.get("beside", ""), "Beside it: no other run")
beside = st.session_state["inside-beside"]


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


if record.recorded:
    runs.recorded(store, run)
    st.caption("It keeps what its maps say of whole layers; do it yourself to see single weights, too.")
else:
    stages.maps_missing(store, record, runs.follow(store, run))
followed = [name for name in (run, beside) if name]
active = runs.active(store, followed)
by_news = any(active) and news.possible()


@st.fragment(run_every=1 if any(active) and not by_news else None)
@runs.while_there
def figures_now() -> None:
    """All that moves; what has not changed is not made again."""
    runs.say_damage(store, run, runs.follow(store, run))
    told = news.of(store, followed, "maps") if by_news else ""
    fold, shelf = drawn(run), book(run)
    if fold.maps and shelf.layers(fold.maps[-1]):
        whole_and_detail(fold, shelf)
    else:
        nothing_yet(shelf)
    if told:
        news.follow(followed, "maps", told)
    if active != runs.active(store, followed):
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
        st.info("The lab is set to record no maps. Change the setting at the bottom of Runs, and run it again.",
                icon=":material/layers_clear:")  # fmt: skip
        st.page_link("pages/runs.py", label="To the settings", icon=":material/settings:")
    elif learning and recorded == "stages":
        st.info("The lab is set to draw the first maps when the first job is learnt.",
                icon=":material/hourglass_empty:")  # fmt: skip
    elif learning:
        st.info("The first maps are drawn when the first job begins, seconds from now.",
                icon=":material/hourglass_empty:")  # fmt: skip
    else:
        st.info("No maps of this run were recorded. Run it again, and they are drawn while it learns.",
                icon=":material/layers_clear:")  # fmt: skip
        st.page_link("pages/launch.py", label="Run it again", icon=":material/edit:", query_params={"run": run})
    st.caption("Maps show the importance, drift, owners, masks and features of each layer, at many moments of a run.")


def whole_and_detail(fold: Fold, shelf: Book) -> None:
    """The whole network, of one run or two on one scale; below it the chosen layer."""
    kind = kind_and_question(fold, shelf)
    told = Told(kind, moments.album(fold.maps, query.get("moment", "")), [Seen(run, fold, shelf), *beside_it()])
    at = moment_now(told)
    shown = told.shown(at)
    seen = shown[0].seen
    names = [layer.name for layer in seen.layers]
    asked = query.get("layer", "")
    place = names.index(asked) if asked in names else len(names) // 2
    for number, each in enumerate(shown):
        if len(shown) > 1:
            when = moments.words_of(each.seen.fold, each.seen.moment)
            named = f"<b>{html.escape(each.name)}</b> · {html.escape(when)}"
            st.html(f"{chip(each.run)} <span class='lab-term'>{named}</span>")
        overview(told, number, each, at, place)
    for each in shown:
        if kind.remark is not None and (remark := kind.remark(each.seen)):
            st.caption(f"{each.name}: {remark}" if len(shown) > 1 else remark)
    task = layer_and_job(kind, seen, place)
    same = [each for each in shown if [layer.name for layer in each.seen.layers] == names]
    if len(same) < len(shown):
        st.caption("The other run's network has other layers, so only this run's layer is shown.")
    inside_layer.show(kind, Shown(same, place, task), explain)
    inside_seen.show(store, shown, seen.layers[place].block, explain, choose)
    rows = strip.rows(run, fold, [task.title for task in fold.tasks])
    moment = seen.moment.stage, seen.moment.step
    strips.draw(f"inside-{run}", rows, title="What it answered at this moment", moment=moment)
    formula = st.expander("How it is computed", key="inside-formula", on_change="rerun")
    if formula.open:
        formula.markdown(kind.words.formula)
    if shelf.trouble:
        st.caption(markup.literal(shelf.trouble))


@dataclass(frozen=True, slots=True)
class Seen:
    """A run with its maps."""

    run: str
    fold: Fold
    shelf: Book


class Told:
    """What a kind of map tells of runs beside each other, at each of the first one's moments, on one scale for all."""

    def __init__(self, kind: MapKind, album: Sequence[MapSaved], runs: Sequence[Seen]) -> None:
        self.kind, self.runs = kind, runs
        self.album = [[self._tied(each, moment) for moment in album] for each in runs]
        self.infos = [
            [self._info(each, moment) for moment in tied] for each, tied in zip(runs, self.album, strict=True)
        ]
        self.scale = kind.drawing.scale([info for infos in self.infos for info in infos])
        self.version = (kind.name, self.scale, *(tuple(m.path for m in tied) for tied in self.album))

    def _tied(self, each: Seen, moment: MapSaved) -> MapSaved:
        """The moment at which a run was as far as the first one was at this."""
        first = self.runs[0]
        return moment if each is first else moments.tied(first.fold, each.fold, moment) or each.fold.maps[-1]

    def _info(self, each: Seen, moment: MapSaved) -> Overview:
        """The whole network's numbers at a moment, read once."""
        kept: dict[tuple[str, ...], Overview] = st.session_state.setdefault("inside-infos", {})
        key = each.run, self.kind.name, moment.path
        if key not in kept:
            seen = moments.view(each.shelf, each.fold, moment)
            assert seen is not None  # the network's layers are known
            kept[key] = self.kind.read(seen)
            while len(kept) > MOST_INFOS:
                kept.pop(next(iter(kept)))
        return kept[key]

    def shown(self, at: int) -> list[RunSeen]:
        """The runs at a moment, by its number."""
        views = [
            moments.view(each.shelf, each.fold, tied[at]) for each, tied in zip(self.runs, self.album, strict=True)
        ]
        pairs = zip(self.runs, views, strict=True)
        return [RunSeen(each.run, runs.short(store, each.run), seen) for each, seen in pairs if seen is not None]

    def chart(self, number: int, at: int, chosen: int | None = None) -> Chart:
        """What is drawn of a run at a moment, both by their numbers; the last run's chart names the blocks."""
        named = number == len(self.runs) - 1
        return self.kind.overview(self.infos[number][at], self.scale, chosen=chosen, named=named)


def moment_now(told: Told) -> int:
    """The number of the moment that is shown: of the address, or that which the browser plays, else the latest."""
    fold, album = told.runs[0].fold, told.album[0]
    names = [moments.name_of(moment) for moment in album]
    asked = query.get("moment", "")

    def charts() -> dict[str, list[Chart]]:
        every = range(len(album))
        return {
            key(each.run, told.kind): [told.chart(number, at) for at in every] for number, each in enumerate(told.runs)
        }

    words = [(name, moments.words_of(fold, moment)) for name, moment in zip(names, album, strict=True)]
    now = asked if asked in names else names[-1]
    played = player.draw(f"inside-{run}", words, now, charts, version=told.version)
    if played in names and played != now:
        now = played
        if now == names[-1]:
            query.pop("moment", None)  # the last one follows what is new
        else:
            query["moment"] = now
    return names.index(now)


def kind_and_question(fold: Fold, shelf: Book) -> MapKind:
    """The switch between the kinds of map that the run has; beside it what the one that is shown answers."""
    kinds = {kind.name: kind for kind in registry.kinds_of(shelf, fold)}
    leading = next((kind.name for kind in kinds.values() if kind.leads), next(iter(kinds)))
    name = query.get("map", "") if query.get("map", "") in kinds else leading
    st.session_state["inside-map"] = name
    words = kinds[name].words
    # In a row, not in columns, which Streamlit sends one by one in every tick.
    with st.container(horizontal=True, vertical_alignment="center"):
        names = {kind.name: kind.words.name for kind in kinds.values()}
        st.segmented_control("Map", list(kinds), format_func=names.__getitem__, key="inside-map", on_change=choose,
                             args=("map",), label_visibility="collapsed", required=True, width="content")  # fmt: skip
        state = "" if beside else f"{chip(run)} &nbsp;"
        st.html(f"<div class='lab-question'>{state}<b>{words.question}</b></div>")
    caption = f"<div class='lab-caption'>{html.escape(words.caption)}</div>" if explain else ""
    st.html(f"{caption}<div class='lab-term'>{html.escape(words.term)}</div>")
    return kinds[name]


def beside_it() -> list[Seen]:
    """The other run; nothing where none is chosen, or it has no maps."""
    if not beside:
        return []
    fold, shelf = drawn(beside), book(beside)
    return [Seen(beside, fold, shelf)] if fold.maps and shelf.layers(fold.maps[-1]) else []


def key(name: str, kind: MapKind) -> str:
    """Of the chart of a run's whole network."""
    return f"inside-{name}-{kind.name}"


def overview(told: Told, number: int, each: RunSeen, at: int, place: int) -> None:
    """The whole network of a run, the layer at `place` framed; a click chooses a layer, and on a job's row the job."""
    kind, info = told.kind, told.infos[number][at]
    framed, last = info.column_of(place), number == len(told.runs) - 1
    height = OVERVIEW if len(told.runs) == 1 else OVERVIEW - 20 if last else OVERVIEW - 60
    version = (each.seen.moment.path, framed, told.scale, last)
    picked = live_plot.draw(
        lambda: told.chart(number, at, framed),
        key(each.run, kind),
        height,
        called=kind.words.question,
        version=version,
        picks=True,
        least=LEAST,
    )
    if picked is None:
        return
    layer = info.layer_at(round(float(picked.x)))
    row = round(float(picked.y)) + 1 if kind.drawing.rows_are_jobs else 0
    if layer is None or (layer, row) == (place, 0):
        return
    query["layer"] = each.seen.layers[layer].name
    query.pop("block", None)
    if row:
        query["job"] = str(row)
    st.rerun(scope="fragment")


def layer_and_job(kind: MapKind, seen: View, place: int) -> int:
    """The choice of a layer, and of the job that its map speaks of; between them the gauge of a kind that has one."""
    with st.container(horizontal=True, vertical_alignment="center"):
        labels = {layer.name: seen.role(number).capitalize() for number, layer in enumerate(seen.layers)}
        layer = seen.layers[place]
        st.session_state["inside-layer"] = layer.name
        st.selectbox("Layer", list(labels), format_func=labels.__getitem__, key="inside-layer", on_change=choose,
                     args=("layer",), label_visibility="collapsed", width=LEFT)  # fmt: skip
        words = html.escape(layer.words, quote=True)
        st.html(f"<div class='lab-term lab-one-line' title='{words}'>{words}</div>")  # what the row has left
        if kind.gauge is not None and (gauge := kind.gauge(seen)):
            st.html(f"<div class='lab-rest'>{gauge}</div>")
        tasks = kind.tasks(seen)
        task = whole(query.get("job"), tasks[0], tasks[-1]) or kind.task(seen)
        if kind.jobs != "none":
            st.session_state["inside-job"] = task
            st.segmented_control("Job", list(tasks), format_func=lambda number: seen.titles[number - 1],
                                 key="inside-job", on_change=choose, args=("job",), required=True,
                                 label_visibility="collapsed")  # fmt: skip
    return task


figures_now()
for sentence in plugins.problems():  # a kind of map that cannot be drawn, among others
    st.warning(markup.literal(sentence))
st.page_link("pages/watch.py", label="Watch this run", icon=":material/monitoring:", query_params={"run": run})
