"""A chart as plain data, the way Plotly's JavaScript takes it. No torch, no Streamlit, no plotly.

Plotly's own classes check each property, at five to ten milliseconds a chart, in every tick. Here a chart is two
dictionaries; the tests of the pages have plotly check each that is sent.
"""

from typing import Any


class Chart:
    """Traces and a layout, their properties named as in Plotly's reference.

    It has no colours of its own where light and dark differ: text, grid and paper are the page's.
    """

    def __init__(self) -> None:
        self.traces: list[dict[str, Any]] = []
        self.layout: dict[str, Any] = {
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"size": 13},
            "hoverlabel": {"font": {"size": 13}},
            "xaxis": {"zeroline": False},
            "yaxis": {"zeroline": False},
        }

    def set(self, **layout: Any) -> None:
        """Change the layout; what is said of an axis is added to what was said of it before."""
        for name, value in layout.items():
            self.layout[name] = {**self.layout.get(name, {}), **value} if "axis" in name else value

    def trace(self, kind: str, **what: Any) -> None:
        """Add a `scatter`, `bar` or `heatmap`. Where a number is missing, a list holds None and an array NaN."""
        self.traces.append({"type": kind, **what})

    def note(self, **what: Any) -> None:
        """Add words at a place, without an arrow unless one is asked for."""
        self.layout.setdefault("annotations", []).append({"showarrow": False, **what})

    def shape(self, **what: Any) -> None:
        """Add a line or a rectangle."""
        self.layout.setdefault("shapes", []).append(what)

    @property
    def as_json(self) -> dict[str, Any]:
        """The whole chart, as Plotly's JSON has it."""
        return {"data": self.traces, "layout": self.layout}
