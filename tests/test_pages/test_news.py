"""What a page at work asks for each second: whether there is a map that it has not drawn."""

from collections.abc import Iterator

import pytest

from labcore.events import MapSaved
from labcore.store import Claim, Store
from pages.parts import news
from tests import stories
from tests.conftest import tiny


@pytest.fixture
def claim(store: Store) -> Iterator[Claim]:
    claim = store.claim_run(store.submit(tiny()).run)
    yield claim
    claim.release()


def test_news_are_a_map_another_standing_and_an_end(store: Store, claim: Claim) -> None:
    told = [news.of_maps(store, [claim.run])]

    def changed() -> bool:
        told.append(news.of_maps(store, [claim.run]))
        return told[-1] != told[-2]

    assert not changed()
    for event in stories.FIRST[:6]:
        claim.append(event)
    assert not changed()  # points of a curve are nothing to draw a map for
    claim.append(MapSaved(stage=1, kind="live", path="maps/1/000000005-live.npz", step=5))
    assert changed() and not changed()
    store.request_stop(claim.run)
    assert changed()
    claim.finish("stopped")
    assert changed()
    store.delete(claim.run)
    assert changed() and not changed()


def test_news_of_two_runs_are_those_of_either(store: Store, claim: Claim) -> None:
    other = store.claim_run(store.submit(tiny(seed=1)).run)
    both = [claim.run, other.run]
    before = news.of_maps(store, both)
    other.append(MapSaved(stage=1, kind="live", path="maps/1/000000005-live.npz", step=5))
    assert news.of_maps(store, both) != before
    other.release()


@pytest.mark.parametrize("run", ["", "../../etc/passwd", "20261126-000000-abcdef-0000"])
def test_what_is_no_run_has_no_news(store: Store, run: str) -> None:
    assert news.of_maps(store, [run]) == "gone"
