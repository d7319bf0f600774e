"""The article's table, measured: every method on the same jobs, and a word for each figure beside the literature's.

The words ("good", "slow", …) come from the figures by rules that stand here once, and are shown beside them.
"""

from dataclasses import dataclass

from labcore.configs.presets import preset_data, with_tasks
from labcore.configs.reading import parse
from labcore.configs.registry import ABOUT, of_group
from labcore.configs.verdicts import CRITERIA, Mark
from labcore.studies.experiments import Arm, Experiment, Findings, take_seeds
from labcore.studies.measures import MEASURES, percents, with_sd


def table(preset_name: str, seeds: int, jobs: tuple[str, ...] | None = None) -> Experiment:
    """The article's methods on a preset's sequence, or on other jobs as the preset teaches its own.

    Raises ConfigError.
    """
    arms = []
    for about in of_group("article"):
        data = preset_data(preset_name, about.name)
        if jobs is not None:
            with_tasks(data, jobs)
        arms.append(Arm(about.title, parse(data), (("method.name", about.name),)))
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
    """One cell: the figure, the word that its rule gives, the literature's word, and whether the two agree.

    `word` is None while it cannot be told yet, and so is `agrees`. They agree where both are good, medium or poor,
    whatever the words.
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
    verdict = ABOUT[method].verdict
    cells = []
    for column, rule in enumerate(RULES):
        word, mark = word_of(findings, arm.label, rule)
        told = verdict.marks[column]
        agrees = None if mark is None or told is None else mark == told
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
        base = findings.spread(ABOUT["fine_tuning"].title, rule.measure).mean
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
        if cell.agrees is not None and ABOUT[arm.config.method.name].verdict.compared
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
