"""Compare: the article's methods measured, any runs beside each other, which method to use, the article's questions."""

from pages.parts import address, comparison, lab, markup, measured_table, questions_view, which

lab.through_the_shell()
markup.style("tables")
VIEWS = {
    "table": "All methods",
    "runs": "Runs side by side",
    "which": "Which should I use?",
    "ask": "The article's questions",
}
match address.one_of("compare", "view", "What to compare", VIEWS):
    case "table":
        measured_table.show()
    case "runs":
        comparison.choose_and_show()
    case "which":
        which.show()
    case _:
        questions_view.show()
