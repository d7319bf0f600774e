"""Which method to use: three answers of a person, and measured groups ranked by them, with the reason in words.

What is asked rules methods out; those left are ranked by their measured average accuracy. No torch here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from labcore.configs.registry import ABOUT
from labcore.studies.groups import Group
from labcore.studies.measures import amount, percents

Change = Literal["not at all", "a little", "freely"]

# Most that earlier jobs may have lost on average, as fractions of 1.
MAY_LOSE: dict[Change, float] = {"not at all": 0.0005, "a little": 0.05, "freely": 1.0}
# What every method keeps for each job rather than once for all of them; a method's own is said by itself.
_KEPT_A_JOB = ("heads", "norm")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person answered.

    `old_pictures`: whether old pictures may be kept. `change`: how far old skills may change. `networks`: how much
    memory there is, in networks; None allows any. `more_jobs`: how many jobs will come beyond those that were measured.
    """

    old_pictures: bool
    change: Change
    networks: float | None
    more_jobs: int


@dataclass(frozen=True, slots=True)
class Advice:
    """A group, whether it does what was asked (`fits`), and the reason why it stands where it does."""

    name: str
    fits: bool
    reason: str


def bytes_ahead(group: Group, more_jobs: int) -> float | None:
    """Bytes kept after so many more jobs, if each adds as much as those so far did on average."""
    total = group.spread("bytes").mean
    if total is None:
        return None
    kept = group.runs[-1].result.footprint_bytes
    own = ABOUT[group.config.method.name].kept_a_job
    growing = sum(count for purpose, count in kept.items() if purpose in (*_KEPT_A_JOB, *own))
    return total + growing / len(group.config.tasks) * more_jobs


def one_network(groups: Sequence[Group]) -> float | None:
    """Bytes of the network itself: what all methods keep at least once."""
    trunks = [group.runs[-1].result.footprint_bytes.get("trunk") for group in groups]
    return min((float(count) for count in trunks if count), default=None)


def rank(groups: Sequence[Group], wish: Wish) -> list[Advice]:
    """Those that fit first, by average accuracy; then the others, each with what rules it out."""
    network = one_network(groups)
    fitting: list[tuple[float, Advice]] = []
    others: list[tuple[float, Advice]] = []
    for group in groups:
        accuracy = group.spread("accuracy")
        if accuracy.mean is None:
            continue
        against = _against(group, wish, network)
        if against:
            others.append((accuracy.mean, Advice(group.name, False, f"{'; '.join(against)}.")))
        else:
            fitting.append((accuracy.mean, Advice(group.name, True, _for(group, wish, network))))
    return [advice for ranked in (fitting, others) for _, advice in sorted(ranked, key=lambda pair: -pair[0])]


def _against(group: Group, wish: Wish, network: float | None) -> list[str]:
    found = []
    if not wish.old_pictures and group.spread("old_data").mean:
        found.append("it reads old pictures again")
    lost = group.spread("forgetting").mean
    if lost is not None and lost > MAY_LOSE[wish.change]:
        found.append(f"its old jobs lost {100 * lost:.1f} points")
    ahead = bytes_ahead(group, wish.more_jobs)
    if wish.networks is not None and ahead is not None and network and ahead > wish.networks * network:
        found.append(f"it would keep {amount('bytes', ahead)}, {ahead / network:.1f} times the network")
    room = group.config.method.room(group.config.backbone)
    if room is not None and len(group.config.tasks) + wish.more_jobs > room:
        found.append(f"it has room for {room} jobs in all")
    return found


def _for(group: Group, wish: Wish, network: float | None) -> str:
    lost, ahead = group.spread("forgetting").mean, bytes_ahead(group, wish.more_jobs)
    kept = "forgets nothing" if not lost or lost < 0.0005 else f"loses {100 * max(0.0, lost):.1f} points of old jobs"
    parts = [f"{percents(group.spread('accuracy'))} right over all jobs", kept]
    if ahead is not None and network:
        parts.append(
            f"keeps {amount('bytes', ahead)} after {wish.more_jobs} more jobs ({ahead / network:.1f} networks)"
        )
    return ", ".join(parts) + "."
