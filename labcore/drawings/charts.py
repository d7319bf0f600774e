"""A chart as plain data, the way Plotly's JavaScript takes it. No torch, no Streamlit, no plotly.

Plotly's own classes check each property, at five to ten milliseconds a chart, in every tick. Here a chart is two
dictionaries; the tests of the pages have plotly check each that is sent.
"""

from typing import Any

# A share from 0 to 1 as a single hue that fades into white paper; DARK has the one for dark paper.
RAMP = [[0.0, "#F3F6FB"], [0.5, "#8FB0DA"], [1.0, "#17407F"]]
RAMP_TURNS = 0.75  # where words on the ramp change their colour; on either side their contrast is 4.5 : 1 or more
ON_LITTLE, ON_MUCH = "#000001", "#FFFFFE"  # colours that nothing else has
# What these colours become where the page is dark; the browser knows whether it is (pages/parts/assets/live_plot.js).
DARK = {
    **dict(zip((colour for _, colour in RAMP), ("#1A1E28", "#24395F", "#8FB4EC"), strict=True)),
    ON_LITTLE: ON_MUCH,
    ON_MUCH: ON_LITTLE,
}


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
