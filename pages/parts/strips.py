"""The strip on a page: the network's answers on pictures, a row a job.

What is shown is decided in labcore/drawings/strip.py, and drawn by assets/strip.js. The pictures themselves are served
beside the page, so that a tick sends answers alone.
"""

import functools
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import streamlit as st
from PIL import Image

from labcore.configs.looking import SHOWN_PICTURES
from labcore.configs.run import RunConfig
from labcore.drawings import strip
from labcore.runs.store import Store
from labcore.tasks import catalogue, pictures
from labcore.tasks.pictures import TaskData
from labcore.tasks.source import TaskError
from pages.parts import served
from pages.parts.pictures import drawn, packed

MOST_BYTES = 300_000_000  # a page reads no more to show some of a job's pictures
SIDE = 96  # px at most of a picture that a page is sent; the window of one shows it larger


@functools.cache
def _component() -> Callable[..., Any]:
    script = (Path(__file__).parent / "assets" / "strip.js").read_text(encoding="utf-8")
    return st.components.v2.component("strip", js=script, isolate_styles=False)


def draw(key: str, rows: Sequence[strip.Row], *, title: str, moment: tuple[int, int] | None = None) -> None:
    """Draw rows of pictures with what was said of them last, or what had been said by a moment: a stage and a step.

    What a person chose in it (the order, the picture that is open) stays through every update.
    """
    most = max(strip.FEWEST_LOOKS, strip.MOST_LOOKS // max(1, len(rows)))
    data = {
        "id": key,
        "version": [*(row.version for row in rows), moment],
        "title": title,
        "moment": moment,
        "rows": [row.document(_address(row), most) for row in rows],
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
        data = job_pictures(store, config, job)
    except TaskError:
        return None
    split, places = (data.test, test) if test else (data.validation, chosen.pictures if chosen else ())
    if not places or not all(0 <= place < len(split.images) for place in places):
        return None
    return _as_one([split.images[place] for place in places])


def job_pictures(store: Store, config: RunConfig, job: int) -> TaskData:
    """The pictures of a run's job, counted from 1. Raises TaskError where they are not here, or too many for a page."""
    task, size = config.tasks[job - 1], config.backbone.image_size
    if 3 * size**2 * sum(catalogue.counts(task.name, None)) > MOST_BYTES:
        raise TaskError(f"pictures of {task.name} are too many to be looked through by a page")
    return pictures.load(task.name, size, cache=store.cache, downloads=store.root)


def _as_one(found: Sequence[np.ndarray]) -> tuple[bytes, str]:
    """Pictures uint8 [H, W, C] side by side in one file, and its kind."""
    image = drawn(np.concatenate(found, axis=1))
    if image.height > SIDE:
        image = image.resize((SIDE * len(found), SIDE), Image.Resampling.LANCZOS)
    return packed(image)
