"""A page with a chart that is updated ten times a second: what the browser test of its memory opens."""

import streamlit as st

from labcore.drawings.charts import Chart
from pages.parts import live_plot, server


@st.fragment(run_every=0.1)
def chart() -> None:
    st.session_state["updates"] = updates = st.session_state.get("updates", 0) + 1
    heat = Chart()
    heat.trace("heatmap", z=[[(row + column + updates) % 7 for column in range(20)] for row in range(20)])
    if live_plot.draw(lambda: heat, "chart", 300, picks=True) is not None:
        st.session_state["clicks"] = st.session_state.get("clicks", 0) + 1
    lines = Chart()
    for line in range(3):
        lines.trace("scatter", y=[(i * updates) % 11 for i in range(300)], name=str(line))
    live_plot.draw(lambda: lines, "lines", 300)
    st.html(f"<span class='updates'>{updates}</span> <span class='clicks'>{st.session_state.get('clicks', 0)}</span>")


if __name__ == "__main__":
    chart()
else:
    app = st.App(__file__, routes=server.routes())
