"""Magnitudes of weights in a run's maps: the Fisher importance that every run has, and what a method measures itself.

A map file holds them for the task of its stage (`labcore.runs.reductions.magnitudes` makes them):

    ARRAY [L]                         the mean over each layer's weights
    ARRAY/NAME uint8 [rows, columns]  the same by filter and input, logarithmic: see `map_files.decode`
    ARRAY_range [2]                   log10 of what codes 1 and 255 stand for
"""

from collections.abc import Iterable

import numpy as np

from labcore.drawings.inside.overview import MOST_DECADES, Scale, log10, unknown
from labcore.drawings.inside.pictures import Picture, magnitude_map
from labcore.runs import map_files
from labcore.runs.map_files import Layer
from labcore.runs.moments import View


def by_task(seen: View, array: str = "importance") -> np.ndarray:
    """log10 of each layer's mean magnitude for every task so far, as it was last told; NaN where nothing matters."""
    values = unknown(seen)
    for task in range(1, seen.moment.stage + 1):
        row = seen.recent(array, task)
        if row is not None and row.shape == (len(seen.layers),):
            values[task - 1] = log10(row)
    return values


def by_weight(seen: View, layer: Layer, task: int, array: str = "importance") -> np.ndarray | None:
    """log10 of a layer's magnitudes for a task, NaN where a magnitude is 0; None where they are not known."""
    codes, log_range = seen.recent(f"{array}/{layer.name}", task), seen.recent(f"{array}_range", task)
    return None if codes is None or log_range is None or codes.ndim != 2 else map_files.decode(codes, log_range)


def layer_scale(views: Iterable[View], layer: Layer, task: int, array: str = "importance") -> Scale:
    """One scale for a layer's magnitudes in all of these runs, at whatever moment: whole decades, six at most."""

    def read(seen: View) -> np.ndarray | None:
        return by_weight(seen, layer, task, array) if seen.moment.stage == task else None

    known = [span for seen in views if (span := seen.span((array, layer.name, task), read)) is not None]
    if not known:
        return -6.0, 0.0
    high = float(np.ceil(max(high for _, high in known)))
    return max(float(np.floor(min(low for low, _ in known))), high - MOST_DECADES), high


def picture(seen: View, layer: Layer, scale: Scale, task: int, array: str = "importance") -> Picture | None:
    """The picture of a layer's magnitudes, filters × inputs, on this scale (see `layer_scale`)."""
    logs = by_weight(seen, layer, task, array)
    return None if logs is None else magnitude_map(layer, logs, scale)
