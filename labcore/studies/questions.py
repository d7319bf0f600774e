"""The experiments that have a name: the article's table, its three questions, and its opening, measured.

Each is a function that makes its arms, and one that says in sentences what they show. The words of the table ("good",
"slow", …) come from the figures by rules that stand here once, and are shown beside them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from labcore.configs.catalogue import BACKBONES
from labcore.configs.presets import PRESETS, preset_data, with_tasks
from labcore.configs.run import METHOD_TITLES, METHODS, ConfigError, parse
from labcore.configs.verdicts import CRITERIA, VERDICTS, Mark
from labcore.studies.experiments import Arm, Experiment, Findings, arm_of, take_seeds
from labcore.studies.measures import MEASURES, Difference, Spread, percents, with_sd

# ---------------------------------------------------------------------------------------------------------------------
# The article's table
# ---------------------------------------------------------------------------------------------------------------------


def table(preset_name: str, seeds: int, jobs: tuple[str, ...] | None = None) -> Experiment:
    """Every method on a preset's sequence, or on other jobs as the preset teaches its own. Raises ConfigError."""
    arms = []
    for name in METHODS:
        data = preset_data(preset_name, name)
        if jobs is not None:
            with_tasks(data, jobs)
        arms.append(Arm(METHOD_TITLES[name], parse(data), (("method.name", name),)))
    return Experiment("table", "The article's table, measured", tuple(arms), take_seeds(seeds), _tell_table)


@dataclass(frozen=True, slots=True)
class Rule:
    """How a column's word comes from a figure: `limits` from the best word on, compared as `text` says."""

    criterion: str
    measure: str
    text: str
    words: tuple[tuple[str, Mark, float], ...]
    against: str  # "best": points below the highest of the table; "fine_tuning": times its figure; "own": the figure


RULES: tuple[Rule, ...] = (
    Rule(
        "new", "new",
        "best: within 1 point of the highest in this table; good: within 5; medium: within 15; bad: further below",
        (("best", "good", 0.01), ("good", "good", 0.05), ("medium", "medium", 0.15), ("bad", "poor", 1e9)), "best",
    ),
    Rule(
        "old", "forgetting",
        "good: lost at most 2 points of what it once knew of the earlier jobs; medium: at most 10; bad: more",
        (("good", "good", 0.02), ("medium", "medium", 0.10), ("bad", "poor", 1e9)), "own",
    ),
    Rule(
        "train", "train_seconds",
        "fast: at most 1.25 times as long as fine-tuning; medium: at most twice as long; slow: longer",
        (("fast", "good", 1.25), ("medium", "medium", 2.0), ("slow", "poor", 1e9)), "fine_tuning",
    ),
    Rule(
        "test", "test_ms",
        "for one job that is named, as the lab always asks. fast: at most 1.25 times as long as fine-tuning; medium: "
        "at most twice; slow: longer. The article counts asking for all jobs, where every copy has to answer",
        (("fast", "good", 1.25), ("medium", "medium", 2.0), ("slow", "poor", 1e9)), "fine_tuning",
    ),
    Rule(
        "memory", "bytes",
        "what is kept to answer all jobs and learn another. medium: up to 1.5 times fine-tuning's, which keeps one "
        "network and a head a job; large: more. As in the article nothing is small: every method keeps a network",
        (("medium", "medium", 1.5), ("large", "poor", 1e9)), "fine_tuning",
    ),
    Rule(
        "old data", "old_data", "whether any later stage read pictures of earlier jobs",
        (("not needed", "good", 0.0), ("needed", "poor", 1e9)), "own",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TableCell:
    """One cell: the figure, the word by its rule (None: not to be told yet), the literature's word, and whether they
    agree (None: one is missing). They agree where both are good, medium or poor, whatever the words.
    """

    criterion: str
    figure: str
    word: str | None
    mark: Mark | None
    rule: str
    literature: str
    source: str
    agrees: bool | None


def table_row(findings: Findings, arm: Arm) -> list[TableCell]:
    """A method's cells, in the order of `CRITERIA`."""
    method = arm.config.method.name
    verdict = VERDICTS[method]
    cells = []
    for column, rule in enumerate(RULES):
        word, mark = word_of(findings, arm.label, rule)
        told = verdict.marks[column]
        agrees = None if mark is None else mark == told
        source = "the article" if verdict.compared else "its paper"
        figure = _figure(findings, arm.label, rule)
        cells.append(TableCell(CRITERIA[column], figure, word, mark, rule.text, verdict.words[column], source, agrees))
    return cells


def word_of(findings: Findings, label: str, rule: Rule) -> tuple[str | None, Mark | None]:
    """The word by the rule, from means over seeds; None while a figure that it needs is missing."""
    mean = findings.spread(label, rule.measure).mean
    if mean is None:
        return None, None
    if rule.against == "best":
        means = [findings.spread(arm.label, rule.measure).mean for arm in findings.experiment.arms]
        known = [other for other in means if other is not None]
        if len(known) < 2:  # the best of one would be said of whichever comes first
            return None, None
        value = max(known) - mean
    elif rule.against == "fine_tuning":
        base = findings.spread(METHOD_TITLES["fine_tuning"], rule.measure).mean
        if not base:
            return None, None
        value = mean / base
    else:
        value = mean
    return next((word, mark) for word, mark, limit in rule.words if value <= limit + 1e-9)


def _figure(findings: Findings, label: str, rule: Rule) -> str:
    spread = findings.spread(label, rule.measure)
    if spread.mean is None:
        return ""
    if rule.criterion == "old data":
        return "read again" if spread.mean else "never read again"
    if rule.criterion == "old":
        was = findings.spread(label, "old_learnt").mean
        return f"{percents(findings.spread(label, 'old'))}, was {100 * (was or 0):.0f}"
    if rule.criterion == "new":
        return percents(spread)
    return with_sd(spread, MEASURES[rule.measure].unit)


def _tell_table(findings: Findings) -> list[str]:
    rows = [(arm, table_row(findings, arm)) for arm in findings.experiment.arms]
    compared = [
        cell
        for arm, cells in rows
        for cell in cells
        if cell.agrees is not None and VERDICTS[arm.config.method.name].compared
    ]
    said = []
    if compared:
        agree = sum(bool(cell.agrees) for cell in compared)
        said.append(f"Of {len(compared)} words of the article's table, {agree} agree with what was measured.")
    kept = [arm for arm in findings.experiment.arms if findings.spread(arm.label, "accuracy").n]
    if len(kept) > 1:
        best = max(kept, key=lambda arm: findings.spread(arm.label, "accuracy").mean or 0)
        said.append(
            f"The highest average accuracy is {best.label}'s: {percents(findings.spread(best.label, 'accuracy'))}."
        )
    return said


# ---------------------------------------------------------------------------------------------------------------------
# The article's questions
# ---------------------------------------------------------------------------------------------------------------------


def q1(preset_name: str, seeds: int) -> Experiment:
    """PackNet: freed weights restart at zero, or keep the little that they learnt."""
    base = preset_data(preset_name, "packnet")
    arms = (
        arm_of(base, {"method.freed_weights": "zero"}, "set to zero"),
        arm_of(base, {"method.freed_weights": "keep"}, "kept"),
    )
    return Experiment(
        "q1", "Why set pruned weights to zero?", arms, take_seeds(seeds), _tell_pairs("kept", "set to zero")
    )


def q2(preset_name: str, seeds: int) -> Experiment:
    """PackNet: a job uses all earlier weights, none, or a choice that it learns."""
    base = preset_data(preset_name, "packnet")
    arms = tuple(
        arm_of(base, {"method.reuse": reuse}, label)
        for reuse, label in (("all", "all of them"), ("none", "none of them"), ("learned", "a learnt choice"))
    )
    tell = _tell_pairs(
        "a learnt choice", "all of them", "none of them", "all of them", "a learnt choice", "none of them"
    )
    return Experiment("q2", "Why use all earlier weights?", arms, take_seeds(seeds), tell)


def q3(preset_name: str, seeds: int) -> Experiment:
    """Piggyback beside fine-tuning and separate copies, from trained and from random weights."""
    arms = []
    for start, words in (("pretrained", "trained weights"), ("kaiming", "random weights")):
        for method in ("piggyback", "fine_tuning", "separate_copies"):
            data = preset_data(preset_name, method)
            if start == "pretrained" and not BACKBONES[data["backbone"]["name"]].pretrained:
                # The story's network on this preset's jobs, taught as the story teaches it.
                data = {**preset_data("story", method), "tasks": data["tasks"]}
            values = {"backbone.start": start, "method.name": method}
            data["backbone"]["start"] = start
            arms.append(Arm(f"{METHOD_TITLES[method]}, {words}", parse(data), tuple(values.items())))
    return Experiment("q3", "Can a mask beat training all weights?", tuple(arms), take_seeds(seeds), _tell_q3)


def _tell_pairs(*pairs: str) -> Callable[[Findings], list[str]]:
    """The short answer from the first pair, a level an arm, then the differences of the pairs named."""

    def tell(findings: Findings) -> list[str]:
        a, b = pairs[:2]
        said = [_short(findings.difference(a, b, "accuracy"), f"“{a}”", f"“{b}”")]
        said.append(_levels(findings, findings.experiment.arms))
        for a, b in zip(pairs[::2], pairs[1::2], strict=True):
            said += [findings.difference(a, b, measure).sentence(a, b) for measure in ("accuracy", "new")]
        return said

    return tell


def _short(difference: Difference, a: str, b: str) -> str:
    """One sentence in bold: whether the one does better than the other, as far as the seeds can show."""
    mean, count = difference.spread.mean, difference.spread.n
    match difference.sure:
        case "nothing":
            return "**Not known yet**: no seed is finished on both sides."
        case "none seen":
            return f"**No difference seen** over {count} seeds between {a} and {b}."
        case sure:
            way = "better" if mean is not None and mean > 0 else "worse"
            how = {"clear": "clearly", "likely": "probably"}.get(sure, "in the one seed so far")
            a = a[0].upper() + a[1:]
            return f"**{a} does {how} {way}** than {b}."


def _levels(findings: Findings, arms: Sequence[Arm], *, drop: str = "") -> str:
    parts = [f"{arm.label.removesuffix(drop)} {percents(findings.spread(arm.label, 'accuracy'))}" for arm in arms]
    return f"Average accuracy over all jobs at the end: {', '.join(parts)}."


def _tell_q3(findings: Findings) -> list[str]:
    short, details = [], []
    for words in ("trained weights", "random weights"):
        drop = f", {words}"
        mask, training, copies = (f"{name}{drop}" for name in ("Piggyback", "Fine-tuning", "Separate copies"))
        answer = _short(findings.difference(mask, training, "new"), "the mask", "fine-tuning on new jobs")
        short.append(f"From {words}: {answer}")
        levels = _levels(findings, [findings.experiment.arm(label) for label in (mask, training, copies)], drop=drop)
        said = [
            levels,
            *(
                findings.difference(mask, other, measure).sentence("Piggyback", other.removesuffix(drop))
                for other in (training, copies)
                for measure in ("new", "accuracy")
            ),
        ]
        details += [f"From {words}: {sentence[0].lower()}{sentence[1:]}" for sentence in said]
    return [*short, *details]


# ---------------------------------------------------------------------------------------------------------------------
# The article's opening
# ---------------------------------------------------------------------------------------------------------------------

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
    """For each finished seed that reached the level."""
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


# ---------------------------------------------------------------------------------------------------------------------
# By name
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Named:
    """An experiment to be made: `preset` is its default, None where it brings its own jobs; so is `seeds`."""

    name: str
    title: str
    question: str
    seeds: int
    preset: str | None
    make: Callable[..., Experiment]


NAMED: dict[str, Named] = {
    named.name: named
    for named in (
        Named(
            "table", "The article's table, measured",
            "The article rates four ways of teaching a network a new job. All eight of the lab's, measured.",
            1, "story", table,
        ),
        Named(
            "q1", "Why set pruned weights to zero?",
            "PackNet frees the weights that a job hardly needs, and sets them to zero. They had learnt a little: would "
            "the next job start better from what they know?",
            3, "quick", q1,
        ),
        Named(
            "q2", "Why use all earlier weights?",
            "A PackNet job sees every weight that earlier jobs own, whether it helps or not. Would it do better with "
            "none of them, or with a choice of its own?",
            3, "quick", q2,
        ),
        Named(
            "q3", "Can a mask beat training all weights?",
            "Piggyback never changes a weight: it only learns which ones to switch off. Can that really be as good as "
            "training all of them?",
            3, "quick", q3,
        ),
        Named(
            "starts", "Does it matter where the weights start?",
            "Before it has seen a picture, a network is random numbers. From which ones does it learn digits quickest, "
            "and is it better still to have learnt clothes before?",
            3, None, starts,
        ),
        Named(
            "recycle", "What does recycling a network save?",
            "One network has seen a million photographs, the same one has seen nothing. What does each spend until it "
            "reads digits equally well?",
            3, None, recycle,
        ),
    )
}  # fmt: skip


@lru_cache(maxsize=64)
def named(
    name: str, preset_name: str | None = None, seeds: int | None = None, jobs: tuple[str, ...] | None = None
) -> Experiment:
    """The experiment of this name, with its own preset and number of seeds where none is given. Raises ConfigError.

    `jobs`: other tasks than the preset's, for the table.
    """
    if name not in NAMED:
        raise ConfigError(f"experiment is {name!r}; allowed: {', '.join(NAMED)}.")
    found = NAMED[name]
    count = found.seeds if seeds is None else seeds
    if jobs is not None and name != "table":
        raise ConfigError(f"{name} has its own jobs; only the table takes others.")
    if found.preset is None:
        if preset_name is not None:
            raise ConfigError(f"{name} brings its own jobs; it takes no preset.")
        return found.make(count)
    if preset_name is not None and preset_name not in PRESETS:
        raise ConfigError(f"preset is {preset_name!r}; allowed: {', '.join(PRESETS)}.")
    return found.make(preset_name or found.preset, count, *([] if jobs is None else [jobs]))
