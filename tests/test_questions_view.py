"""A question's card beyond its answer: the ways on."""

from labcore import questions
from labcore.store import Store
from tests import stories
from tests.test_pages import app, nobody_trains, warm_server  # noqa: F401


def test_each_arm_with_a_finished_run_leads_inside(store: Store) -> None:
    experiment = questions.named("q1")
    zero, kept = experiment.arms
    first = stories.told(store, zero.seeded(1), [[0.9], [0.9, 0.8], [0.9, 0.8, 0.7]])
    test = app("compare", view="ask", ask="q1")
    links = {link.proto.label: link.proto.query_string for link in test.get("page_link")}
    assert links[zero.label] == f"run={first}" and kept.label not in links
