"""Which values an exploration tries next, and which of its settings matter, by what was tried so far. No torch here.

Every combination in order, by chance, or by what was learnt from those before: Optuna's samplers, asked and told. They
know only what they are told, so the same history always leads to the same proposal.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labcore.studies.explorations import Exploration, Told

if TYPE_CHECKING:
    import optuna

# The first combinations by chance, before what was learnt from them says where to look.
FIRST_BY_CHANCE = 5
# Random draws from a small space repeat themselves; so many new draws are tried before it counts as tried out.
_DRAWS = 20


def ask(exploration: Exploration, told: Sequence[Told]) -> dict[str, Any] | None:
    """The next combination to try, the same for the same history; None where there is no other.

    Source of `tpe`: Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization, section 4, as in Optuna.
    """
    tried = {_place(one.values) for one in told}
    if exploration.sampler == "grid":
        return next((values for values in exploration.grid() if _place(values) not in tried), None)
    study = _study(exploration, told, seed=len(told))
    for _ in range(_DRAWS):
        values = _cleaned(exploration, study.ask(_distributions(exploration)).params)
        if _place(values) not in tried:
            return values
    return None


def importance(exploration: Exploration, told: Sequence[Told]) -> dict[str, float] | None:
    """Which share of the differences in accuracy each setting explains, by path; None where too little is known.

    Source: functional ANOVA over a random forest, Hutter, Hoos & Leyton-Brown 2014, as in Optuna.
    """
    scores = [one.score for one in told if one.score is not None]
    if len(exploration.varied) < 2 or len(scores) < 4 or len(set(scores)) < 2:
        return None
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    found = get_param_importances(_study(exploration, told, 0), evaluator=FanovaImportanceEvaluator(seed=0))
    return {path: float(found.get(path, 0.0)) for path in exploration.paths}


def _place(values: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(values.items()))


def _study(exploration: Exploration, told: Sequence[Told], seed: int) -> "optuna.Study":
    """Optuna's study, made anew from what is known: it keeps nothing that the store does not."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    by_chance = exploration.sampler != "tpe"
    sampler = (
        optuna.samplers.RandomSampler(seed=seed)
        if by_chance
        else optuna.samplers.TPESampler(seed=seed, n_startup_trials=FIRST_BY_CHANCE)
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    states, distributions = optuna.trial.TrialState, _distributions(exploration)
    for one in told:
        state = states.RUNNING if one.open else states.FAIL if one.score is None else states.COMPLETE
        value = one.score if state == states.COMPLETE else None
        study.add_trial(
            optuna.create_trial(params=dict(one.values), distributions=distributions, value=value, state=state)
        )
    return study


def _distributions(exploration: Exploration) -> "dict[str, optuna.distributions.BaseDistribution]":
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for varied in exploration.varied:
        if varied.low is None or varied.high is None:
            found[varied.path] = CategoricalDistribution(varied.values)
        elif exploration.spec(varied).kind == "whole":
            found[varied.path] = IntDistribution(round(varied.low), round(varied.high), log=varied.log)
        else:
            found[varied.path] = FloatDistribution(varied.low, varied.high, log=varied.log)
    return found


def _cleaned(exploration: Exploration, params: Mapping[str, Any]) -> dict[str, Any]:
    paths = exploration.paths
    return {
        path: varied.rounded(params[path], exploration.spec(varied)) if varied.numeric else params[path]
        for path, varied in paths.items()
    }
