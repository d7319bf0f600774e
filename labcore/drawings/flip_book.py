"""A flip book: a chart at several moments, of which each page holds only what is not the same on all of them.

A browser that has it once shows one moment after the other without asking (pages/parts/assets/player.js).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from labcore.drawings.charts import Chart

_DIGITS = 5  # significant ones, of a number: more cannot be seen


def frames(charts: Sequence[Chart]) -> list[dict[str, Any]]:
    """A frame for each chart, as plain JSON.

    Put upon any of the charts, property by property, a frame makes the chart that it is of: `layout` upon the layout,
    and `data` upon the traces, one by one. Where the charts have different traces, `whole` is true: then `data` are all
    of a chart's traces. NaN becomes null.
    """
    traces = [chart.traces for chart in charts]
    whole = len({tuple(trace["type"] for trace in one) for one in traces}) > 1
    if whole:
        data = [_plain(one) for one in traces]
    else:
        kept = [_varying(same) for same in zip(*traces, strict=True)]
        data = [[_only(trace, names) for trace, names in zip(one, kept, strict=True)] for one in traces]
    names = _varying([chart.layout for chart in charts])
    layouts = [_only(chart.layout, names) for chart in charts]
    return [{"whole": whole, "data": one, "layout": layout} for one, layout in zip(data, layouts, strict=True)]


def _varying(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The properties that are not the same in all of these."""
    names = dict.fromkeys(name for part in parts for name in part)
    first = parts[0] if parts else {}
    return [name for name in names if not all(_same(part.get(name), first.get(name)) for part in parts)]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return (
            isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and np.array_equal(one, other, equal_nan=True)
        )
    try:
        return bool(one == other)
    except ValueError:  # arrays within
        return bool(_plain(one) == _plain(other))


def _only(part: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: _plain(part.get(name)) for name in names}


def _plain(value: Any) -> Any:
    """A value of a chart as JSON has it."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple | range):
        return [_plain(part) for part in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
