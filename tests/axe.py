"""What axe finds on a page of the lab: whom it shuts out who does not see well, or uses no mouse."""

import json
from pathlib import Path
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

# Findings in what Streamlit draws, as `rule: place`. Exactly these occur.
OF_STREAMLIT = frozenset(json.loads((Path(__file__).parent / "axe_of_streamlit.json").read_text()))
TRIES = 5  # a page that is just being drawn anew, as in another theme, has findings for a moment

# What the lab drew is told by its class and by itself, what Streamlit drew by the name that it gives it for tests.
FIND = """async rules => {
  const what = { exclude: [".js-plotly-plot .main-svg"] }; // its numbers are in a table
  const { violations } = await axe.run(what, { resultTypes: ["violations"], ...(rules && { runOnly: rules }) });
  const place = node => {
    const element = document.querySelector(node.target.flat().at(-1));
    const own = element.closest('[class^="lab-"], [class*=" lab-"]');
    if (own) return `${own.className.match(/lab-[a-z-]+/)[0]} ${element.outerHTML.slice(0, 120)}`;
    return `${element.closest("[data-testid]")?.dataset.testid ?? "body"} ${element.localName}`;
  };
  const words = node => [...node.any, ...node.all, ...node.none].map(check => check.message).join(" ");
  return violations.flatMap(({ id, nodes }) => nodes.map(node => [`${id}: ${place(node)}`, words(node)]));
}"""
REST = """theme => document.querySelector('[data-test-script-state="notRunning"]')
  && getComputedStyle(document.querySelector(".stApp")).colorScheme === theme
  && !document.querySelector('[data-stale="true"], [data-testid="stSkeleton"]')
  && document.querySelectorAll('[data-testid="stMain"] [data-testid="stVerticalBlock"] > *').length > 1"""


def findings(page: Page) -> set[str]:
    """What is found on a page in both themes once it rests, by rule and place: that which is Streamlit's.

    Fails where there is more.
    """
    found: set[str] = set()
    for theme, rules in (("light", None), ("dark", ["color-contrast"])):
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light", reduced_motion="reduce")
        for attempt in range(TRIES):
            page.wait_for_function(REST, arg=theme)
            if not page.evaluate("() => 'axe' in window"):
                page.evaluate(AXE_SCRIPT)
            told: list[list[Any]] = page.evaluate(FIND, rules)
            more = {where: words for where, words in told if where not in OF_STREAMLIT}
            if not more:
                break
            assert attempt + 1 < TRIES, f"{page.url}, {theme}: {more}"
            page.wait_for_timeout(300)
        found |= {where for where, _ in told}
    return found
