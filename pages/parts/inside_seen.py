"""Inside: what a block of the network makes of a picture, when the picture's job was learnt and since."""

import html
from collections.abc import Callable, Sequence

import streamlit as st

from labcore.drawings.inside import features, representation
from labcore.drawings.inside.features import Sight
from labcore.drawings.inside.layer import RunSeen
from labcore.runs.store import Store
from pages.parts import markup, stages, strips

CAPTION = (
    "Each square is a feature map of the block, as the picture lies: bright where the block finds what this map looks "
    "for. These are the four maps that differed most from place to place when the job was learnt, so they can be "
    "compared at later moments."
)


def show(store: Store, shown: Sequence[RunSeen], block: str, explain: bool, choose: Callable[[str], None]) -> None:
    """The choice of a picture and of a block, at first that which is named; and what each run's block makes of it.

    `choose` puts what was chosen into the address.
    """
    first = shown[0].seen
    title = "What does a block make of a picture?"
    if features.kept_none(first):
        markup.titled(title, "")
        stages.feature_maps_missing(store, store.record(shown[0].run))
        return
    if not any(moment.kind == "stage" for moment in first.fold.maps):
        later = "What blocks make of two pictures of a job is kept when it is learnt."
        markup.titled(title, f"<div class='lab-term'>{later}</div>")
        return
    markup.titled(title, f"<div class='lab-caption'>{CAPTION}</div>" if explain else "")
    job, picture, number = _choices(shown[0], block, choose)
    st.html("".join(_row(each, job, picture, number, named=len(shown) > 1) for each in shown))


def _row(each: RunSeen, job: int, picture: int, block: int, *, named: bool) -> str:
    """HTML of the picture, and of what a run's block makes of it."""
    whose = f"<b>{html.escape(each.name)}</b>" if named else ""
    if job > len(each.seen.titles) or block >= len(representation.blocks_of(each.seen)):
        return f"{whose}<div class='lab-seen'>{_drawn('This run has no such job, or its network no such block.')}</div>"
    asked = html.escape(strips.address(each.run, job, test=[picture]))
    image = f"<img src='{asked}' alt='Picture {picture + 1} of {html.escape(each.seen.titles[job - 1], quote=True)}'>"
    own = f"<figure><figcaption>the picture</figcaption>{image}</figure>"
    return f"{whose}<div class='lab-seen'>{own}{_drawn(features.sights(each.seen, job, picture, block))}</div>"


def _choices(each: RunSeen, block: str, choose: Callable[[str], None]) -> tuple[int, int, int]:
    """The job, the number of its picture and that of the block, as the address has them."""
    query, seen = st.query_params, each.seen
    offered = {f"{job}.{picture + 1}": (job, picture) for job, picture in features.pictures(seen)}
    blocks = representation.blocks_of(seen)
    asked, named = query.get("picture", ""), query.get("block", block)
    st.session_state["inside-picture"] = asked if asked in offered else next(iter(offered))
    st.session_state["inside-block"] = named if named in blocks else blocks[0]
    titles = {name: f"{seen.titles[job - 1]} {picture + 1}" for name, (job, picture) in offered.items()}
    words = {name: f"Block {number} of {len(blocks)} ({name})" for number, name in enumerate(blocks, 1)}
    with st.container(horizontal=True, vertical_alignment="center"):
        st.segmented_control("Picture", list(offered), format_func=titles.__getitem__, key="inside-picture",
                             on_change=choose, args=("picture",), required=True, label_visibility="collapsed",
                             width="content")  # fmt: skip
        st.selectbox("Block", blocks, format_func=words.__getitem__, key="inside-block", on_change=choose,
                     args=("block",), label_visibility="collapsed", width=260)  # fmt: skip
    job, picture = offered[st.session_state["inside-picture"]]
    return job, picture, blocks.index(st.session_state["inside-block"])


def _drawn(found: list[Sight] | str) -> str:
    """HTML of a block's maps at one or two moments, or of the sentence that says why there are none."""
    if isinstance(found, str):
        return f"<div class='lab-none'>{html.escape(found)}</div>"
    groups = []
    for sight in found:
        cells = []
        for channel, look in zip(sight.channels, sight.looks, strict=True):
            drawn = (
                f"<img src='{look}' alt='feature map {channel + 1}'>" if look.startswith("data:") else f"<b>{look}</b>"
            )
            cells.append(f"<span title='feature map {channel + 1} of this block'>{drawn}</span>")
        groups.append(f"<figure><figcaption>{html.escape(sight.when)}</figcaption>{''.join(cells)}</figure>")
    return "".join(groups)
