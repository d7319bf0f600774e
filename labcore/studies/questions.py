"""The experiments that have a name: the article's table, its three questions, and its opening, measured.

The questions stand here: each is a function that makes its arms, and one that says in sentences what they show. The
table is in labcore/studies/table.py, the opening in labcore/studies/opening.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from labcore.configs import units
from labcore.configs.base import ConfigError
from labcore.configs.catalogue import BACKBONES
from labcore.configs.presets import PRESETS, preset_data
from labcore.configs.reading import parse
from labcore.configs.registry import ABOUT, of_group
from labcore.studies.experiments import Arm, Experiment, Findings, arm_of, take_seeds
from labcore.studies.measures import Difference, percents
from labcore.studies.opening import recycle, starts
from labcore.studies.table import table

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
            arms.append(Arm(f"{ABOUT[method].title}, {words}", parse(data), tuple(values.items())))
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
# By name
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Named:
    """An experiment with a name. `preset` and `seeds` are its defaults; `preset` is None where it brings its jobs."""

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
            "The article rates several ways of teaching a network a new job. Here "
            f"{units.in_words(len(of_group('article')))} of them are measured on the same jobs.",
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
