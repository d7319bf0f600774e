"""The article's opening, measured: where weights start, and what it saves to recycle a network.

Each is a function that makes the experiment's arms, and one that says in sentences what they show.
"""

from dataclasses import dataclass
from typing import Any

from labcore.configs.reading import parse
from labcore.studies.experiments import Arm, Experiment, Findings, take_seeds
from labcore.studies.measures import MEASURES, Difference, Spread, percents, with_sd

# Ordinary training of all weights, normalisation included, at one rate; no head warms up, as that would help one start.
_PLAIN_TRAINING = {
    "optimizer": "adam", "learning_rate": 1e-3, "head_learning_rate": 1e-3, "epochs": 6, "batch_size": 32,
    "head_warmup_epochs": 0,
}  # fmt: skip
STARTS_LEVEL, RECYCLE_LEVEL = 0.8, 0.75
_FROM = {
    "far": "far-off random",
    "xavier": "Xavier",
    "kaiming": "Kaiming",
    "fashion": "after clothes",
}
_NETWORKS = {"small_cnn_plain": "plain", "small_cnn": "normalised"}


def starts(seeds: int) -> Experiment:
    """Digits from four starts, on a network without normalisation and on the same one with it."""
    arms = []
    for network, kind in _NETWORKS.items():
        for start, words in _FROM.items():
            data = {
                "backbone": {
                    "name": network, "start": "kaiming" if start == "fashion" else start, "image_size": 28,
                    "norm": "shared",
                },
                "tasks": [*([{"name": "fashion", "images_per_class": 100}] if start == "fashion" else []),
                          {"name": "digits"}],
                "training": _PLAIN_TRAINING,
                "method": {"name": "fine_tuning"},
            }  # fmt: skip
            values = (("backbone.name", network), ("start", start))
            arms.append(Arm(f"{words}, {kind}", parse(data), values))
    return Experiment(
        "starts", "Does it matter where the weights start?", tuple(arms), take_seeds(seeds), _tell_starts, True
    )


def _tell_starts(findings: Findings) -> list[str]:
    said = []
    for network, kind in _NETWORKS.items():
        parts = []
        for arm in findings.experiment.arms:
            if arm.values[0][1] == network:
                parts.append(f"{_FROM[str(arm.values[1][1])]} {_reach(findings, arm.label, STARTS_LEVEL, 0, 'steps')}")
        name = "Without normalisation" if kind == "plain" else "With batch normalisation"
        said.append(f"{name}, steps to {100 * STARTS_LEVEL:.0f} % on digits: {'; '.join(parts)}.")
        ends = (f"{words} {percents(findings.spread(f'{words}, {kind}', 'new'))}" for words in _FROM.values())
        said.append(f"{name}, digits right at the end, test images: {'; '.join(ends)}.")
        a, b = f"after clothes, {kind}", f"Kaiming, {kind}"
        said.append(f"{name}. {findings.difference(a, b, 'new').sentence('after clothes', 'Kaiming')}")
    return said


def _reach(findings: Findings, label: str, level: float, which: int, unit: Any) -> str:
    """Mean and spread of what it took to a level: steps (`which` 0) or seconds (1)."""
    found = findings.crossings(label, level)
    reached = Spread(tuple(pair[which] for pair in found if pair is not None))
    if not found:
        return "not measured yet"
    if reached.mean is None:
        return "never in these runs"
    some = "" if reached.n == len(found) else f" ({reached.n} of {len(found)} seeds)"
    return with_sd(reached, unit) + some


def recycle(seeds: int) -> Experiment:
    """Digits to an equal accuracy, on one network that has seen photographs and on one that has seen nothing."""
    arms = []
    for start, label, epochs in (("pretrained", "recycled", 6), ("kaiming", "from nothing", 16)):
        data = {
            "backbone": {"name": "efficientnet_lite0", "start": start, "image_size": 32, "norm": "frozen"},
            "tasks": [{"name": "digits"}],
            "training": {**_PLAIN_TRAINING, "epochs": epochs},
            "method": {"name": "fine_tuning"},
        }
        arms.append(Arm(label, parse(data), (("backbone.start", start),)))
    return Experiment(
        "recycle", "What does recycling a network save?", tuple(arms), take_seeds(seeds), _tell_recycle, True
    )


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run took to a level: steps and seconds, and by its share of the training time Wh and g CO₂e if known."""

    steps: float
    seconds: float
    energy_wh: float | None
    carbon_g: float | None


def spent(findings: Findings, label: str, level: float) -> dict[int, Spent]:
    """What it took to reach a level, for each finished seed that did."""
    found = {}
    for cell, point in zip(
        [cell for cell in findings.of(label) if cell.finished], findings.crossings(label, level), strict=True
    ):
        if point is not None and cell.finished is not None:
            whole = MEASURES["train_seconds"].read(cell.finished) or 1.0
            share = [MEASURES[name].read(cell.finished) for name in ("energy_wh", "carbon_g")]
            wh, grams = (None if value is None else value * point[1] / whole for value in share)
            found[cell.seed] = Spent(point[0], point[1], wh, grams)
    return found


FIVE_CARS = (
    "The five cars of the headline are not one training: they are the estimate, 284 t of CO₂e, for one automatic "
    "search for an architecture (Strubell et al. 2019, arXiv 1906.02243). The people who ran that search later put it "
    "at 3.2 t (Patterson et al. 2021, arXiv 2104.10350). What recycling saves here is real, and measured in grams."
)


def _tell_recycle(findings: Findings) -> list[str]:
    level = f"{100 * RECYCLE_LEVEL:.0f} %"
    used, new = (spent(findings, label, RECYCLE_LEVEL) for label in ("recycled", "from nothing"))
    said = [
        f"To {level} of digits: {label} seconds of training, {_reach(findings, label, RECYCLE_LEVEL, 1, 's')}"
        + _power(found)
        + "."
        for label, found in (("recycled", used), ("from nothing", new))
    ]
    both = [seed for seed in used if seed in new]
    if both:
        ratios = Spread(tuple(new[seed].seconds / used[seed].seconds for seed in both))
        spread = f" ± {ratios.sd:.1f}" if ratios.sd is not None else ""
        less = Difference("train_seconds", Spread(tuple(new[seed].seconds - used[seed].seconds for seed in both)))
        said.append(
            f"From nothing takes {ratios.mean:.1f}{spread} times as long, over {len(both)} seeds "
            f"({'clear' if less.sure == 'clear' else less.sure}: by the difference in seconds, seed by seed)."
        )
    return [*said, FIVE_CARS]


def _power(found: dict[int, Spent]) -> str:
    parts = []
    for unit, values in (
        ("Wh", [value.energy_wh for value in found.values()]),
        ("g CO₂e", [value.carbon_g for value in found.values()]),
    ):
        known = [value for value in values if value is not None]
        if known and len(known) == len(values):
            parts.append(f"{sum(known) / len(known):.2g} {unit}")
    return f", ≈ {', '.join(parts)} (estimated)" if parts else ""
