"""What a page at work asks for each second: whether there is a map that it has not drawn."""

from collections.abc import Iterator

import pytest

from labcore.runs.claims import Claim
from labcore.runs.events import MapSaved
from labcore.runs.store import Store
from pages.parts import news
from tests import stories
from tests.conftest import tiny


@pytest.fixture
def claim(store: Store) -> Iterator[Claim]:
    claim = store.claim_run(store.submit(tiny()).run)
    yield claim
    claim.release()


def test_news_are_a_map_another_standing_and_an_end(store: Store, claim: Claim) -> None:
    told = [news.of(store, [claim.run], "maps")]

    def changed() -> bool:
        told.append(news.of(store, [claim.run], "maps"))
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
    before = news.of(store, both, "maps")
    other.append(MapSaved(stage=1, kind="live", path="maps/1/000000005-live.npz", step=5))
    assert news.of(store, both, "maps") != before
    other.release()


@pytest.mark.parametrize("run", ["", "../../etc/passwd", "20261126-000000-abcdef-0000"])
def test_what_is_no_run_has_no_news(store: Store, run: str) -> None:
    assert news.of(store, [run], "maps") == news.of(store, [run], "events") == "gone"


def test_a_point_of_a_curve_is_news_to_who_follows_events(store: Store, claim: Claim) -> None:
    before = news.of(store, [claim.run], "events")
    assert news.of(store, [claim.run], "events") == before
    claim.append(stories.FIRST[0])
    assert news.of(store, [claim.run], "events") != before


def test_who_waits_for_a_worker_is_not_told_of_by_its_news(store: Store, claim: Claim) -> None:
    waiting = store.submit(tiny(seed=1)).run
    assert news.enough(store, [claim.run])
    assert not news.enough(store, [claim.run, waiting])
    claim.finish("complete")
    assert news.enough(store, [claim.run])  # it does nothing any more
