"""Reuse Lab: the shell. Page list, page settings, what is served beside them; nothing else."""

from pathlib import Path

import streamlit as st


def draw() -> None:
    """The page that the browser is at."""
    from pages.parts import lab, markup, projector  # not above: the server would be up later

    # A picture of ours: for an emoji Streamlit would read a list of all of them, and the browser ask the internet.
    icon = Path(__file__).parent / "pages/parts/assets/icon.svg"
    st.set_page_config("Reuse Lab", page_icon=icon, layout="wide")
    markup.style()
    projector.begin()
    watch = st.Page("pages/watch.py", title="Watch", icon=":material/monitoring:")
    inside = st.Page("pages/inside.py", title="Inside", icon=":material/layers:")
    pages = [
        st.Page("pages/launch.py", title="Launch", icon=":material/rocket_launch:", default=True),
        watch,
        inside,
        st.Page("pages/compare.py", title="Compare", icon=":material/compare_arrows:"),
        st.Page("pages/explore.py", title="Explore", icon=":material/tune:"),
        st.Page("pages/runs.py", title="Runs", icon=":material/list:"),
    ]
    page = st.navigation(pages, position="hidden")
    # Our own links: they say which run one is at, so that its address is whole and Back takes one click.
    run = lab.run_in_address()
    with projector.menu() if projector.is_on() else st.sidebar:
        for one in pages:
            st.page_link(one, query_params=run if one in (watch, inside) else None, width="stretch")
        if not projector.is_on():
            projector.switch()
    lab.open_or_say_why()
    with lab.refusals_told():
        page.run()


if __name__ == "__main__":  # as a script, whenever a page is drawn
    draw()
else:  # as a module, once, for the server
    from starlette.middleware import Middleware

    from pages.parts import gate, server

    app = st.App(__file__, routes=server.routes(), lifespan=server.lifespan, middleware=[Middleware(gate.Gate)])
