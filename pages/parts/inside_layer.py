"""Inside: one layer, in a run or in two: its map, its numbers, what to look for."""

import contextlib
import html
from collections.abc import Callable, Sequence

import streamlit as st

from labcore.drawings import layer_figures
from labcore.drawings.charts import Chart
from labcore.drawings.layer_figures import Picture
from labcore.runs import map_moments
from labcore.runs.map_moments import View
from pages.parts import lab, live_plot
from pages.parts.inside_words import KINDS, NOTES

HEIGHT = 300


def style() -> None:
    """The marks of this page."""
    st.html(
        f"""<style>
        .st-key-inside-map button {{ flex: none !important; width: auto !important; }}
        .lab-maps {{ display: flex; gap: 1rem; }}
        .lab-map {{ height: {HEIGHT - 20}px; flex: 1 1 0; min-width: 0; display: flex; flex-direction: column; }}
        .lab-map img {{ width: 100%; flex: 1; min-height: 0; border: 1px solid #8A8F9C55; border-radius: 3px; }}
        .lab-map-axes {{ display: flex; flex-wrap: wrap; justify-content: space-between; font-size: .8rem;
                         opacity: .75; }}
        .lab-map-axes b {{ flex: 1 0 100%; }}
        .lab-map-key {{ display: flex; gap: 0 1em; font-size: .875rem; flex-wrap: wrap; align-items: center; }}
        .lab-map-key i {{ display: inline-block; width: .85em; height: .85em; border-radius: 2px; margin-right: .35em;
                          vertical-align: -.08em; }}
        .lab-ramp {{ display: inline-block; width: 130px; height: .8em; border-radius: 2px; margin: 0 .4em;
            vertical-align: -.08em;
            background: linear-gradient(90deg, #440154, #3B528B, #21918C, #5EC962, #FDE725); }}
        .lab-gauge {{ display: flex; height: 26px; border-radius: 4px; overflow: hidden; font-size: .875rem; }}
        .lab-gauge div {{ white-space: nowrap; overflow: hidden; padding: 3px 7px; box-sizing: border-box; }}
        .lab-none {{ height: {HEIGHT - 66}px; border: 1px dashed #8A8F9C88; border-radius: 6px; display: flex;
                     padding: 1em; align-items: center; justify-content: center; text-align: center; opacity: .8;
                     font-size: .95rem; }}
        </style>"""
    )


def _drawn(picture: Picture | None, missing: str, name: str, explain: bool) -> str:
    """HTML of a weight map with its axes, scale and what a pixel stands for, at a fixed height.

    `name` is the run's, where another one's stands beside it.
    """
    whose = f"<b>{html.escape(name)}</b>" if name else ""
    if picture is None:
        none = f"<div class='lab-none'>{html.escape(missing)}</div>"
        return f"<div class='lab-map'><div class='lab-map-axes'>{whose}</div>{none}</div>"
    pixels = "pixelated" if picture.rows * picture.columns < 100_000 else "auto"
    if picture.legend[0][0] == "0":
        low, high = (word for _, word in picture.legend)
        key = f"<span>{low}<span class='lab-ramp'></span>{high}</span>"
    else:
        key = "".join(f"<span><i style='background:{c}'></i>{html.escape(word)}</span>" for c, word in picture.legend)
    axes = f"{whose or '<span>↓ filters · → inputs</span>'}<span>{picture.pixel}</span>"
    if explain:
        axes = (
            f"{whose}<span>↓ row: a filter ({picture.rows:,}) · → column: what it looks at ({picture.columns:,})</span>"
            f"<span>{picture.pixel}</span>"
        )
    return (
        f"<div class='lab-map'><div class='lab-map-axes'>{axes}</div>"
        f"<img src='{picture.address}' style='image-rendering:{pixels}' alt='weight map'>"
        f"<div class='lab-map-key'>{key}</div></div>"
    )


def _cached(key: tuple[object, ...], make: Callable[[], str]) -> str:
    """HTML made once for a moment and a layer; the oldest is dropped."""
    kept: dict[tuple[object, ...], str] = st.session_state.setdefault("inside-html", {})
    if key not in kept:
        kept[key] = make()
        while len(kept) > 24:
            kept.pop(next(iter(kept)))
    return kept[key]


def _picture(seen: View, place: int, kind: str, task: int, scale: tuple[float, float]) -> tuple[Picture | None, str]:
    """The weight map of a kind, and why there is none."""
    layer = seen.layers[place]
    if kind == "owners":
        if seen.recent("owners") is None:
            return None, "No job owns weights here: this run is not PackNet's."
        return layer_figures.owner_picture(seen, layer), "This layer is never pruned: it is fixed after the first job."
    if kind == "masks":
        return (
            layer_figures.mask_picture(seen, layer, task),
            "No mask here: this layer is used as it is, or the network itself learnt this job.",
        )
    return layer_figures.importance_picture(seen, layer, scale, task), "No importance was measured here."


def show(
    views: Sequence[tuple[str, str, View]], place: int, kind: str, task: int, scale: tuple[float, float], explain: bool
) -> None:
    """The layer at `place` in each run (ID, name, view): map left, numbers in the middle, words right.

    With `explain` a sentence under each chart says what it shows.
    """
    words, notes = KINDS[kind], NOTES if explain else {}
    layer = views[0][2].layers[place]
    first = views[0][2]
    if kind == "importance":
        scale = layer_figures.layer_span([seen for _, _, seen in views], layer, task)
    version = (kind, place, task, scale, explain, *((run, seen.moment.path) for run, _, seen in views))
    several = explain or len(views) > 1
    with lab.row("words", "layer"):
        with _place(several):
            if kind in ("drift", "broke"):
                _moves(views, place, kind, version, notes.get(kind))
            elif kind == "representation":
                block = list(dict.fromkeys(each.block for each in first.layers)).index(layer.block)
                _chart(
                    lambda: layer_figures.similarity_over_stages(first, block),
                    f"cka-{views[0][0]}",
                    version,
                    f"Block {layer.block}, stage by stage",
                    note=notes.get("similarity"),
                )
            else:
                whose = "" if kind == "owners" else f": {first.titles[task - 1]}"
                title = f"{'Filter by input' if kind == 'importance' else 'Weight by weight'}{whose}"

                def drawn() -> str:
                    maps = (
                        _drawn(*_picture(seen, place, kind, task, scale), name if len(views) > 1 else "", explain)
                        for _, name, seen in views
                    )
                    return f"<div class='lab-maps'>{''.join(maps)}</div>"

                lab.titled(title, _cached(version, drawn))
        with _place(several):
            if kind in ("importance", "drift", "broke"):
                since = map_moments.drift_task(first, task)
                whose = "" if since is None else f" since {first.titles[since - 1]}"
                title = f"Importance against the move{whose}"
                later = "From the second job on: how far each filter moved, against how much it mattered."
                _chart(lambda: _spring(views, place, task), "spring", version, title, later, note=notes.get("spring"))
            elif kind == "masks":
                _chart(
                    lambda: layer_figures.histogram(first, place, task),
                    "scores",
                    version,
                    f"Scores against the threshold: {first.titles[task - 1]}",
                    "There are no scores in this stage.",
                    note=notes.get("scores"),
                )
            elif kind == "owners":
                lab.titled("Whose weights they are", _owned(first, place))
            else:
                lab.titled("In numbers", _similar(first, layer.block))
        st.markdown(f"**What to look for**\n\n{words.look}")
    if kind == "masks":
        note = notes.get("overlap")
        with lab.row("even", "overlaps"):
            for key, where, title in (("overlap", None, "whole network"), ("overlap-layer", place, layer.name)):
                with _place(explain):
                    _chart(
                        lambda where=where: layer_figures.overlaps(first, where),
                        key,
                        version,
                        f"Shared by two jobs: {title}",
                        height=190,
                        note=note,
                    )


def _place(several: bool) -> contextlib.AbstractContextManager[object]:
    """A place in a row; to be sent as a piece of its own only where several things stand in it, below each other."""
    return st.container() if several else contextlib.nullcontext()


def _moves(views: Sequence[tuple[str, str, View]], place: int, kind: str, version: object, note: str | None) -> None:
    """Filter by filter; of two runs, one below the other on one scale."""
    top = layer_figures.strips_top(layer_figures.strips_info(seen, seen.layers[place], kind) for _, _, seen in views)
    for run, name, seen in views:

        def make(seen: View = seen) -> Chart | None:
            return layer_figures.strips(seen, seen.layers[place], kind, top)

        height = HEIGHT if len(views) == 1 else HEIGHT // 2 + 20
        missing = "The first job has nothing to compare with yet."
        title = "Filter by filter" if len(views) == 1 else f"Filter by filter: {name}"
        last = run == views[-1][0]
        _chart(make, f"strips-{run}", version, title, missing, height=height, note=note if last else None)


def _spring(views: Sequence[tuple[str, str, View]], place: int, task: int) -> Chart | None:
    """Of an earlier job: how much each filter mattered, and how far it moved since."""
    found = []
    for _, name, seen in views:
        since = map_moments.drift_task(seen, task)
        info = None if since is None else layer_figures.filters_info(seen, seen.layers[place], since)
        if info is not None:
            found.append((name, info[0], info[1]))
    return layer_figures.spring(found) if found else None


def _chart(
    make: Callable[[], Chart | None],
    key: str,
    version: object,
    title: str,
    missing: str = "Not known yet.",
    height: int = HEIGHT,
    note: str | None = None,
) -> None:
    """A chart and a note on it, or in a frame of its height why there is none."""
    kept: dict[str, tuple[object, bool]] = st.session_state.setdefault("inside-there", {})
    known = kept.get(key)
    chart = None
    if known is None or known[0] != version:
        chart = make()
        kept[key] = (version, chart is not None)
    if not kept[key][1]:
        lab.titled(title, f"<div class='lab-none' style='height:{height}px'>{html.escape(missing)}</div>")
        return
    live_plot.draw(lambda: chart or make() or Chart(), f"inside-{key}", height, title=title, version=version)  # type: ignore[arg-type]
    if note:
        st.caption(note)


def _owned(seen: View, place: int) -> str:
    counts = seen.read("owners")
    if counts is None or place >= len(counts) or counts[place][0] < 0:
        return "<div class='lab-term'>All jobs use this layer as the first one left it.</div>"
    row = counts[place]
    cells = {"weights": f"{int(row.sum()):,}"}
    for owner in range(1, len(row)):
        cells[seen.titles[owner - 1]] = f"{100 * row[owner] / max(1, row.sum()):.0f} %"
    cells["free"] = f"{100 * row[0] / max(1, row.sum()):.0f} %"
    return lab.figures_row(cells)


def _similar(seen: View, block: str) -> str:
    similar, names = seen.recent("cka"), seen.recent("block_names")
    if similar is None or names is None or block not in list(names):
        return "<div class='lab-term'>Measured when a stage ends.</div>"
    column = similar[:, list(names).index(block)]
    return lab.figures_row({title: f"{value:.3f}" for title, value in zip(seen.titles, column, strict=False)})
