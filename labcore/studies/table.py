"""The article's table, measured: its methods on the same jobs, and a word for each figure beside the literature's.

The words ("good", "slow", …) come from the figures by the rules of the criteria, labcore/studies/criteria.py, which are
shown beside them.
"""

from dataclasses import dataclass

from labcore.configs.looking import TIMED_PASSES, TIMED_PICTURES
from labcore.configs.presets import preset_data, with_tasks
from labcore.configs.reading import parse
from labcore.configs.registry import ABOUT, of_group
from labcore.configs.verdicts import Mark
from labcore.studies.criteria import criteria
from labcore.studies.experiments import Arm, Experiment, Findings, take_seeds
from labcore.studies.measures import percents


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
    return Experiment(
        "table", "The article's table, measured", tuple(arms), take_seeds(seeds), _tell_table, in_turn=True
    )


@dataclass(frozen=True, slots=True)
class TableCell:
    """One cell: the figure, the word that its criterion gives, the literature's word, and whether the two agree.

    `word` is None while it cannot be told yet, and so is `agrees`; `waits` then stands in its place where there is a
    figure. They agree where both are good, medium or poor, whatever the words. `source` says whose the literature's
    word is; it is None where nobody has rated the method.
    """

    criterion: str
    figure: str
    word: str | None
    waits: str
    mark: Mark | None
    rule: str
    literature: str
    source: str | None
    agrees: bool | None


def table_row(findings: Findings, arm: Arm) -> list[TableCell]:
    """A method's cells, in the order of the criteria."""
    verdict = ABOUT[arm.config.method.name].verdict
    cells = []
    for name, criterion in criteria().items():
        word, rating = criterion.word(findings, arm.label), verdict.of(name)
        source = None if rating.mark is None else "the article" if verdict.compared else "its paper"
        cells.append(
            TableCell(
                criterion=name,
                figure=criterion.written(findings, arm.label),
                word=word and word.word,
                waits=criterion.waits,
                mark=word and word.mark,
                rule=criterion.rule,
                literature=rating.word,
                source=source,
                agrees=None if word is None or rating.mark is None else word.mark == rating.mark,
            )
        )
    return cells


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
    spreads = {arm.label: findings.spread(arm.label, "accuracy") for arm in findings.experiment.arms}
    if all(spread.n for spread in spreads.values()):  # before, one of the others may be higher
        best = max(spreads, key=lambda label: spreads[label].mean or 0)
        alike = [label for label in spreads if label != best and spreads[best].meets(spreads[label])]
        told = f"{best} has the highest average accuracy, {percents(spreads[best])}"
        lie = "lies" if len(alike) == 1 else "lie"
        said.append(f"{told}; {' and '.join(alike)} {lie} within the spread." if alike else f"{told}.")
        if len(findings.experiment.seeds) == 1:
            said.append("With one seed a difference may be chance. Measure with more seeds to tell.")
    return said


def answer_times_told(findings: Findings) -> list[str]:
    """Which answer times the table shows, in sentences; nothing while no run is finished."""
    if not findings.timed_in_turn:
        if not any(cell.finished for cell in findings.cells):
            return []
        then = "Once all runs are there, they are timed in turn."
        if findings.complete:
            then = "All are there, and they will be timed in turn when the machine has nothing else to do."
        return [
            "**Time to answer** is so far each run's own figure, measured when the run ended. These figures were taken "
            f"at different times, and so they are not compared. {then}"
        ]
    found = [(cell, cell.finished.in_turn) for cell in findings.cells if cell.finished and cell.finished.in_turn]
    timed = [in_turn for _, in_turn in found if in_turn.milliseconds]
    said = []
    if timed:
        threads = ", ".join(str(count) for count in sorted({in_turn.threads for in_turn in timed}))
        each = " of each seed" if len(findings.experiment.seeds) > 1 else ""
        said.append(
            f"**Time to answer**: the runs{each} were timed in turn, in {TIMED_PASSES} rounds of up to "
            f"{TIMED_PICTURES} pictures, one at a time (threads: {threads}). The figure is the median of the rounds; "
            "the middle half of them lies within the range beside it. Methods whose ranges meet are not called "
            "different. What a run measured by itself is shown on Watch."
        )
    said += [
        f"{cell.arm.label}, seed {cell.seed}, was not timed with the others. {in_turn.why}"
        for cell, in_turn in found
        if not in_turn.milliseconds
    ]
    return said
