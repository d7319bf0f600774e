"""Reuse Lab: the shell. Page list, page settings, what is served beside them; nothing else."""

from pathlib import Path

import streamlit as st


def draw() -> None:
    """The page that the browser is at."""
    from pages.parts import lab, markup  # not above: the server would be up later

    # A picture of ours: for an emoji Streamlit would read a list of all of them, and the browser ask the internet.
    icon = Path(__file__).parent / "pages/parts/assets/icon.svg"
    st.set_page_config("Reuse Lab", page_icon=icon, layout="wide")
    markup.style()
    page = st.navigation(
        [
            st.Page("pages/launch.py", title="Launch", icon=":material/rocket_launch:", default=True),
            st.Page("pages/watch.py", title="Watch", icon=":material/monitoring:"),
            st.Page("pages/inside.py", title="Inside", icon=":material/layers:"),
            st.Page("pages/compare.py", title="Compare", icon=":material/compare_arrows:"),
            st.Page("pages/explore.py", title="Explore", icon=":material/tune:"),
            st.Page("pages/runs.py", title="Runs", icon=":material/list:"),
        ]
    )
    lab.open_or_say_why()
    lab.told_in_a_sentence(page.run)


if __name__ == "__main__":  # as a script, whenever a page is drawn
    draw()
else:  # as a module, once, for the server
    from starlette.middleware import Middleware

    from pages.parts import gate, server

    app = st.App(__file__, routes=server.routes(), lifespan=server.lifespan, middleware=[Middleware(gate.Gate)])
