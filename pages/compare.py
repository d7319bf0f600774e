"""Compare: the article's table measured, any runs beside each other, which method to use, the article's questions."""

import streamlit as st

from pages.parts import comparison, lab, measured_table, questions_view, which

lab.through_the_shell()
VIEWS = {
    "table": "The article's table",
    "runs": "Runs side by side",
    "which": "Which should I use?",
    "ask": "The article's questions",
}
asked = st.query_params.get("view", "table")
view = st.segmented_control(
    "What to compare",
    list(VIEWS),
    default=asked if asked in VIEWS else "table",
    format_func=VIEWS.__getitem__,
    label_visibility="collapsed",
    key="compare-view",
)
view = view or "table"
st.query_params["view"] = view
match view:
    case "table":
        measured_table.show()
    case "runs":
        comparison.choose_and_show()
    case "which":
        which.show()
    case _:
        questions_view.show()
