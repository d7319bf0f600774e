"""What a page says where something went otherwise than wished, or its address is odd."""

import pytest

from labcore.events import RunEnded, Warned
from labcore.store import Store
from tests import stories
from tests.test_pages import app, nobody_trains, text, warm_server  # noqa: F401


def test_a_warning_stands_on_watch_while_the_run_goes_and_after(store: Store) -> None:
    said = "The spring is stiffer than this rate can bear."
    claim = stories.written(store, [*stories.FIRST[:5], Warned(stage=1, text=said, step=5)])
    test = app("watch", run=claim.run)
    assert [warning.value for warning in test.warning] == [said]
    for event in [*stories.FIRST[5:], *stories.SECOND, RunEnded(state="complete", step=20)]:
        claim.append(event)
    claim.finish("complete")
    assert [warning.value for warning in app("watch", run=claim.run).warning] == [said]


@pytest.mark.parametrize("more", ["²", "9" * 5000, "", "-1"])
def test_an_odd_number_in_the_address_of_which_is_the_usual_one(store: Store, more: str) -> None:
    assert app("compare", view="which", preset="quick", more=more).slider[0].value == 2
