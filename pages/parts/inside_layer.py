"""Inside: one layer, in a run or in two: the pieces that a kind of map has of it, laid out, and what to look for."""

import contextlib
import html
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import streamlit as st

from labcore.drawings.charts import Chart
from labcore.drawings.inside.kind import MapKind
from labcore.drawings.inside.layer import ChartPiece, Figures, Panel, Pictures, Piece, Shown
from labcore.drawings.inside.pictures import Picture
from pages.parts import live_plot, markup


def show(kind: MapKind, shown: Shown, explain: bool) -> None:
    """The layer in each run: the kind's two panels and its words, and below them what further panels it has.

    With `explain` a sentence under each chart says what it shows.
    """
    moments = [(each.run, each.seen.moment.path) for each in shown.runs]
    look = _Look(shown, explain, (kind.name, shown.place, shown.task, explain, *moments))
    with markup.row("words", "layer"):
        look.panels(kind.layer(shown), apart=explain or len(shown.runs) > 1)
        st.markdown(f"**What to look for**\n\n{kind.words.look}")
    if kind.below is not None:
        with markup.row("even", "overlaps"):
            look.panels(kind.below(shown), apart=explain)


@dataclass(frozen=True, slots=True)
class _Look:
    """How pieces of a layer are shown; what has a `version` is made once and kept."""

    shown: Shown
    explain: bool
    version: Hashable

    def panels(self, panels: Sequence[Panel], apart: bool) -> None:
        """Panels in the row that is open; `apart`, each in a place of its own.

        A place is sent as a piece of its own, so there is one only where several things may stand below each other.
        """
        for panel in panels:
            with st.container() if apart else contextlib.nullcontext():
                for piece in panel:
                    self.piece(piece)

    def piece(self, piece: Piece) -> None:
        """A piece below what is there already."""
        match piece:
            case ChartPiece():
                self.chart(piece)
            case Pictures():
                markup.titled(piece.title, _cached(self.version, lambda: self.pictures(piece)))
            case Figures():
                sentence = f"<div class='lab-term'>{html.escape(piece.sentence)}</div>"
                markup.titled(piece.title, sentence if piece.sentence else markup.figures_row(dict(piece.cells)))

    def pictures(self, piece: Pictures) -> str:
        """HTML of every run's weight map."""
        runs = self.shown.runs
        maps = (_drawn(piece.make(each.seen), each.name if len(runs) > 1 else "", self.explain) for each in runs)
        return f"<div class='lab-maps'>{''.join(maps)}</div>"

    def chart(self, piece: ChartPiece) -> None:
        """A chart and a note on it, or in a frame of its height why there is none."""
        kept: dict[str, tuple[object, bool]] = st.session_state.setdefault("inside-there", {})
        known = kept.get(piece.key)
        chart = None
        if known is None or known[0] != self.version:
            chart = piece.make()
            kept[piece.key] = (self.version, chart is not None)
        if not kept[piece.key][1]:
            none = f"<div class='lab-none' style='height:{piece.height}px'>{html.escape(piece.missing)}</div>"
            markup.titled(piece.title, none)
            return

        def make() -> Chart:
            return chart or piece.make() or Chart()

        live_plot.draw(make, f"inside-{piece.key}", piece.height, title=piece.title, version=self.version)
        if self.explain and piece.note:
            st.caption(piece.note)


def _drawn(picture: Picture | str, name: str, explain: bool) -> str:
    """HTML of a weight map with its axes, scale and what a pixel stands for, at a fixed height.

    `name` is the run's, where another one's stands beside it; a sentence is shown in a frame of the same height.
    """
    whose = f"<b>{html.escape(name)}</b>" if name else ""
    if isinstance(picture, str):
        none = f"<div class='lab-none'>{html.escape(picture)}</div>"
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


def _cached(key: Hashable, make: Callable[[], str]) -> str:
    """HTML made once for a moment and a layer; the oldest is dropped."""
    kept: dict[Hashable, str] = st.session_state.setdefault("inside-html", {})
    if key not in kept:
        kept[key] = make()
        while len(kept) > 24:
            kept.pop(next(iter(kept)))
    return kept[key]
