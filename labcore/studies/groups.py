"""Groups: runs of one configuration but for the seed, what they are called, and what sets them apart. No torch here."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labcore.configs.run import RunConfig
from labcore.configs.units import plain, setting_name
from labcore.runs.results import RunResult
from labcore.studies.experiments import Findings
from labcore.studies.measures import MEASURES, Finished, Spread


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of one configuration but for the seed. `note` marks what no mean of others may hold: another version."""

    name: str
    config: RunConfig
    runs: tuple[Finished, ...]
    note: str = ""

    def spread(self, measure: str) -> Spread:
        """A measure over its seeds."""
        found = (MEASURES[measure].read(run) for run in self.runs)
        return Spread(tuple(value for value in found if value is not None))


def groups_of(findings: Findings) -> list[Group]:
    """An experiment's arms, as far as they have a finished run."""
    found = []
    for arm in findings.experiment.arms:
        runs = tuple(cell.finished for cell in findings.of(arm.label) if cell.finished)
        if runs:
            found.append(Group(arm.label, arm.config, runs))
    return found


def without_seed(config: RunConfig) -> str:
    """The same text for configurations that differ by seed alone."""
    return config.model_copy(update={"seed": 0}).canonical_json()


def fold_seeds(runs: Sequence[tuple[RunConfig, Finished, str]], *, unfold: bool = False) -> list[Group]:
    """Runs, each with a note, into groups; `unfold` gives every run one of its own. Named by what sets them apart."""
    found: dict[tuple[str, str], list[tuple[RunConfig, Finished]]] = {}
    for number, (config, finished, note) in enumerate(runs):
        key = f"{number}" if unfold else without_seed(config)
        found.setdefault((key, note), []).append((config, finished))
    configs = [members[0][0] for members in found.values()]
    names = names_of(configs, seeds=unfold)
    method = f"{configs[0].method.title}, " if configs else ""
    if len(names) > 1 and all(name.startswith(method) for name in names):  # only the rest tells them apart
        rest = [name.removeprefix(method) for name in names]
        names = [name[:1].upper() + name[1:] for name in rest]
    return [
        Group(name + (f" ({note})" if note else ""), members[0][0], tuple(run for _, run in members), note)
        for name, ((_, note), members) in zip(names, found.items(), strict=True)
    ]


def _flat(config: RunConfig) -> dict[str, Any]:
    data = config.model_dump(mode="json")
    flat = {
        f"{part}.{name}": value for part in ("backbone", "training", "method") for name, value in data[part].items()
    }
    return {"tasks": json.dumps(data["tasks"]), **flat}


def differences(configs: Sequence[RunConfig]) -> dict[str, list[str]]:
    """The settings in which configurations differ, with their values in order; one that some lack is not named."""
    flats = [_flat(config) for config in configs]
    shared = [path for path in flats[0] if all(path in flat for flat in flats)] if flats else []
    values = {path: list(dict.fromkeys(plain(flat[path]) for flat in flats)) for path in shared}
    return {path: found for path, found in values.items() if len(found) > 1}


def differences_line(configs: Sequence[RunConfig]) -> str:
    """What sets the chosen configurations apart, in a line."""
    found = differences(configs)
    if len(configs) < 2:
        return "One configuration: choose another to compare it with."
    if not found:
        return "They have the same settings."
    methods = {config.method.title for config in configs}
    all_are = f"All are {methods.pop()}. " if len(methods) == 1 else ""
    parts = []
    for path, values in found.items():
        name = setting_name(path)
        if path == "tasks":
            parts.append("jobs")
        elif path == "method.name":
            parts.append("method")
        elif path == "backbone.name":
            parts.append(f"network ({', '.join(dict.fromkeys(config.backbone.title for config in configs))})")
        else:
            parts.append(f"{name} ({', '.join(values[:4])}{', …' * (len(values) > 4)})")
    return f"{all_are}They differ in {', '.join(parts)}; all else that they share is the same."


def names_of(configs: Sequence[RunConfig], *, seeds: bool = False) -> list[str]:
    """Short names: the method, and where that is not enough what else differs."""
    names = []
    for config in configs:
        same = [other for other in configs if other.method.name == config.method.name]
        mine = _flat(config)
        more = [_told_apart(config, path, mine[path]) for path in differences(same)]
        parts = [config.method.title, *(part.replace("_", " ") for part in more[:3])]
        names.append(", ".join([*parts, f"seed {config.seed}"] if seeds else parts))
    return names


def _told_apart(config: RunConfig, path: str, value: Any) -> str:
    if path == "tasks":
        return "jobs " + "+".join(config.task_names)
    return config.backbone.title if path == "backbone.name" else f"{path.split('.')[-1]} {plain(value)}"


def reference(groups: Sequence[Group], group: Group, method: str) -> dict[int, RunResult]:
    """Another method's results by seed, on the same sequence and starting network, by the same version of the lab.

    Of several settings the first is taken, with all its seeds, which may be groups of their own. A group is no
    reference to itself.
    """

    def fits(other: Group) -> bool:
        backbone = other.config.backbone.model_copy(update={"norm": group.config.backbone.norm})
        same = (other.config.tasks, backbone, other.note) == (group.config.tasks, group.config.backbone, group.note)
        return other.config.method.name == method and same

    fitting = [(without_seed(other.config), other) for other in groups if fits(other)]
    if not fitting or fitting[0][0] == without_seed(group.config):
        return {}
    results = (run.result for setting, other in fitting if setting == fitting[0][0] for run in other.runs)
    return {result.config["seed"]: result for result in results}
