"""The strip on a page: the network's answers on pictures, a row a job.

What is shown is decided in labcore/drawings/strip.py, and drawn by assets/strip.js. The pictures themselves are served
beside the page, so that a tick sends answers alone.
"""

import functools
import io
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import streamlit as st
from PIL import Image

from labcore.configs.looking import SHOWN_PICTURES
from labcore.drawings import strip
from labcore.runs.store import Store
from labcore.tasks import pictures
from labcore.tasks.source import TaskError
from pages.parts import served

SIDE = 96  # px at most of a picture that a page is sent; the window of one shows it larger


@functools.cache
def _component() -> Callable[..., Any]:
    script = (Path(__file__).parent / "assets" / "strip.js").read_text(encoding="utf-8")
    return st.components.v2.component("strip", js=script, isolate_styles=False)


def draw(key: str, rows: Sequence[strip.Row], *, title: str, step: int | None = None) -> None:
    """Draw rows of pictures with what was said of them last, or what had been said by a step of their run.

    What a person chose in it (the order, the picture that is open) stays through every update.
    """
    data = {
        "id": key,
        "version": [[row.run, len(row.told.looks) if row.told else row.note, row.learnt] for row in rows] + [step],
        "title": title,
        "step": step,
        "rows": [row.document(_address(row)) for row in rows],
    }
    _component()(data=data, key=f"strip-{key}")


def _address(row: strip.Row) -> str:
    return "" if row.told is None else address(row.run, row.position, of=zlib.crc32(repr(row.told.pictures).encode()))


def address(run: str, job: int, *, of: int = 0, test: Sequence[int] = ()) -> str:
    """Where pictures of a run's job are served side by side: those that its answers are about, or these test pictures.

    `of` is another number for another choice of those that the answers are about.
    """
    asked = {"test": ",".join(map(str, test))} if test else {"of": of}
    return f"{served.PICTURES}?{urlencode({'run': run, 'job': job, **asked})}"


def side_by_side(store: Store, run: str, job: int, test: Sequence[int] = ()) -> tuple[bytes, str] | None:
    """Pictures of a run's job as one image file, and its kind: those that answers are about, or these test pictures.

    None where there are none: no such job, no answers kept, or pictures that are not on this machine.

    Raises UnknownRun.
    """
    fold = store.fold(run)
    if fold.started is None or not 1 <= job <= len(fold.stages) or len(test) > SHOWN_PICTURES:
        return None
    config, chosen = fold.started.config, fold.stages[job - 1].pictures
    try:
        task = config.tasks[job - 1]
        data = pictures.load(task.name, config.backbone.image_size, cache=store.cache, downloads=store.root)
        split, places = (data.test, test) if test else (data.validation, chosen.pictures if chosen else ())
        found = [split.images[place] for place in places if place >= 0]
    except (TaskError, IndexError):
        return None
    return _as_one(found) if found else None


def _as_one(found: Sequence[np.ndarray]) -> tuple[bytes, str]:
    """Pictures uint8 [H, W, C] side by side in one file, and its kind: `png` where they are grey, else `jpeg`."""
    colours = found[0].shape[2] == 3
    image = Image.fromarray(np.concatenate([each if colours else each[..., 0] for each in found], axis=1))
    if image.height > SIDE:
        image = image.resize((SIDE * len(found), SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    kind = "jpeg" if colours else "png"
    image.save(file, kind, quality=90)
    return file.getvalue(), kind
