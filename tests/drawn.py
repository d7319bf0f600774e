"""Charts as plotly's own classes read them: they refuse a property that Plotly does not have."""

import plotly.graph_objects as go

from labcore.drawings.charts import Chart


def drawn(chart: Chart) -> go.Figure:
    """The chart, checked. Raises ValueError."""
    return go.Figure(chart.as_json)
