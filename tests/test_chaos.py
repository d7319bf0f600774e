"""Random commands with random faults on a store of real small runs: see `chaos.py` for what is tried, and the laws."""

import json
import random
from pathlib import Path

import pytest

from labcore.runs.store import Store
from tests import chaos, stories
from tests.conftest import in_fresh_process, tiny

RUN = "import sys; from tests import chaos; sys.exit(chaos.main(sys.argv[1:]))"


@pytest.mark.parametrize(
    ("first", "seeds"), [(1, 2), *(pytest.param(first, 2, marks=pytest.mark.heavy) for first in range(3, 21, 2))]
)
def test_every_law_holds(first: int, seeds: int) -> None:
    told = in_fresh_process(RUN, "--seed", str(first), "--seeds", str(seeds), "--operations", "40")
    assert "seeds in which a law broke: 0" in told


# ---- the laws can break ---------------------------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path: Path, home: Path) -> chaos.Lab:
    """A store with one complete run, which chaos has looked at once."""
    store = Store(home)
    run = stories.told(store, tiny(), [[0.9], [0.4, 0.8]])
    events = [json.loads(line) for line in (store.folder(run) / "events.jsonl").read_bytes().splitlines()]
    oracle = {tiny().key(): chaos._figures(events)}
    store.close()
    lab = chaos.Lab(tmp_path, home.parent, oracle, small_disk=False)
    lab.look()
    assert lab.there == [run]
    return lab


def test_a_run_that_is_gone_breaks_a_law(lab: chaos.Lab) -> None:
    Store(lab.home).delete(lab.there[0])
    with pytest.raises(chaos.Broken, match="is gone"):
        lab.look()


def test_another_figure_breaks_a_law(lab: chaos.Lab) -> None:
    Store(lab.home).change(lab.there[0], average_accuracy=0.7)
    with pytest.raises(chaos.Broken, match="was Facts"):
        lab.look()


def test_what_is_not_found_undisturbed_breaks_a_law(lab: chaos.Lab) -> None:
    lab.oracle[tiny().key()]["after stage 2"] = [0.4, 0.7]
    lab.complete.clear()
    with pytest.raises(chaos.Broken, match="undisturbed"):
        lab.look()


def test_two_writers_break_a_law(lab: chaos.Lab) -> None:
    path = lab.home / "runs" / lab.there[0] / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], *lines[2:]]))
    with pytest.raises(chaos.Broken, match="are numbered"):
        lab.look()


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda: 1 // 0, "Traceback"),
        (lambda: 3, "ends with 3"),
        (lambda: 2, "ends with 2 and says ''"),
        (lambda: print("Half a result") or 2, "stdout: 'Half a result"),
    ],
)
def test_an_end_without_a_sentence_breaks_a_law(act: chaos.Act, told: str, lab: chaos.Lab) -> None:
    with pytest.raises(chaos.Broken, match=told):
        lab.do(act)


# ---- and faults do happen -------------------------------------------------------------------------------------------


def test_a_command_is_killed_at_each_failpoint_in_turn_and_no_run_is_lost(lab: chaos.Lab) -> None:
    places = []
    while True:
        act = chaos.prepared(lab, "pin", random.Random(0)).act
        ended = chaos.Process(lab, act, "kill", len(places) + 1).ended()
        lab.look()
        if ended.status is not None:
            break
        places.append(ended.failpoint)
    assert ended.status == 0
    assert "replace home/runs/*/record.jsonl" in places
    assert places.count("about to write home/records/cache.db") == 2


def test_a_command_on_a_full_disk_says_so(lab: chaos.Lab) -> None:
    ended = chaos.Process(lab, chaos.prepared(lab, "pin", random.Random(0)).act, "full", 1).ended()
    assert ended.status == 2
    assert "No space left on device" in ended.err


def test_damage_changes_a_file_and_is_put_down_to_its_run(lab: chaos.Lab) -> None:
    pick = random.Random(0)
    told = {lab.damage(pick).split(": ")[1] for _ in range(20)}
    assert told == {"a bit is flipped", "the end is torn off", "all is gone"}
    assert lab.harmed == {lab.there[0]}


def test_a_seed_says_the_same_again(lab: chaos.Lab) -> None:
    def texts() -> list[str]:
        pick = random.Random(7)
        return [chaos.prepared(lab, name, pick).text for name in chaos.OPERATIONS for _ in range(3)]

    assert texts() == texts()
