"""The draft of a configuration, and widgets for every setting, from the configuration's own fields."""

import copy
import json
import shlex
from typing import Any

import streamlit as st

from labcore.configs.base import ConfigError
from labcore.configs.fields import FieldSpec, fields
from labcore.configs.presets import DEFAULT_METHOD, PRESETS, preset, preset_data, with_backbone
from labcore.configs.reading import apply_setting, parse, require_installed
from labcore.configs.registry import METHODS
from labcore.configs.run import BackboneConfig, RunConfig, TrainingConfig
from labcore.runs.store import Store
from pages.parts import lab, markup, stages


def draft(store: Store) -> dict[str, Any]:
    """The configuration being made, as plain data.

    At first that of the run in the address, to be run again with changes; else the address's preset and method, or the
    story.
    """
    again, fork = st.query_params.pop("run", None), st.query_params.pop("fork", None)
    if again is not None:
        try:
            config = store.config(again)
            require_installed(config)
            take_config(config)
            st.session_state["fork"] = stages.asked_fork(config, again, fork)
        except ConfigError as error:
            st.warning(markup.literal(error), icon=":material/error:")
    if "draft" not in st.session_state:
        asked, method = st.query_params.get("preset", ""), st.query_params.get("method", "")
        take_preset(asked if asked in PRESETS else "story", method if method in METHODS else DEFAULT_METHOD)
        beside = st.query_params.get("beside")
        st.session_state["beside"] = beside if beside in METHODS else None
    data: dict[str, Any] = st.session_state["draft"]
    if st.session_state.get("beside") == data["method"]["name"]:
        st.session_state["beside"] = None
    st.query_params.update(preset=st.session_state["preset"], method=data["method"]["name"])
    if beside := st.session_state.get("beside"):
        st.query_params["beside"] = beside
    else:
        st.query_params.pop("beside", None)
    suit_device(data["training"])
    return data


def untouched(data: dict[str, Any]) -> bool:
    """Whether the draft is what its preset says for its method, but for the numbers that suit the device."""
    whole = preset(st.session_state["preset"], data["method"]["name"]).model_dump(mode="json")
    try:
        mine = parse(data).model_dump(mode="json")
    except ConfigError:
        return False
    whole["training"]["precision"] = mine["training"]["precision"]
    return bool(mine == whole)


def suit_device(training: dict[str, Any]) -> None:
    """On a GPU its faster, shorter numbers, unless a person has chosen the numbers."""
    default = "bfloat16" if lab.chosen_device().startswith("cuda") else "float32"
    precision = st.session_state.get("chosen-precision") or default
    if training.get("precision", "float32") != precision:
        training["precision"] = precision
        renew()


def take_preset(name: str, method: str) -> None:
    """Start over from a preset, for a method."""
    st.session_state["draft"], st.session_state["preset"] = preset_data(name, method), name
    st.session_state["chosen-precision"] = st.session_state["removed"] = None
    renew()


def take_config(config: RunConfig) -> None:
    """Start from a configuration that was run before; its preset is the nearest: one of the same network."""
    data = config.model_dump(mode="json")
    same = (name for name, known in PRESETS.items() if known.base["backbone"]["name"] == config.backbone.name)
    st.session_state["draft"], st.session_state["preset"] = data, next(same, "quick")
    st.session_state["chosen-precision"], st.session_state["removed"] = config.training.precision, None
    renew()


def take_method(method: str) -> None:
    """The preset's settings for another method, as `with_method` has them."""
    st.session_state["draft"] = with_method(st.session_state["draft"], method)
    renew()


def with_method(draft: dict[str, Any], method: str) -> dict[str, Any]:
    """The preset's configuration for another method.

    Jobs, seed, and whatever of the network and of training is not as the draft's preset has it stay as in the draft.
    Where the draft goes on from a stage of a run, both stay whole: stages are shared by no others.
    """
    before = preset_data(st.session_state["preset"], draft["method"]["name"])
    new = preset_data(st.session_state["preset"], method)
    name = draft["backbone"]["name"]
    if name != new["backbone"]["name"]:
        with_backbone(before, name)
        with_backbone(new, name)
    for part, plain in (("backbone", BackboneConfig()), ("training", TrainingConfig())):
        as_it_was = plain.model_dump(mode="json") | before[part]
        forked = st.session_state.get("fork") is not None
        changed = {name: value for name, value in draft[part].items() if forked or as_it_was.get(name) != value}
        new[part] = {**new[part], **changed}
    new["tasks"], new["seed"] = draft["tasks"], draft["seed"]
    return copy.deepcopy(new)


def take_precision(name: str) -> None:
    """Other numbers for training, as the person has chosen."""
    st.session_state["draft"]["training"]["precision"] = st.session_state["chosen-precision"] = name
    renew()


def take_backbone(name: str) -> None:
    """Another network; its start and picture size are its defaults."""
    with_backbone(st.session_state["draft"], name)
    renew()


def renew() -> None:
    """Make all widgets read the draft afresh."""
    st.session_state["generation"] = st.session_state.get("generation", 0) + 1


def key(name: str) -> str:
    """A widget's key, new whenever the draft was replaced."""
    return f"{name}/{st.session_state.get('generation', 0)}"


def value_at(data: dict[str, Any], path: str, default: Any) -> Any:
    """The draft's value at a dotted path, or the field's default."""
    node: Any = data
    for part in path.split("."):
        node = node[int(part)] if isinstance(node, list) else node.get(part) if isinstance(node, dict) else None
        if node is None:
            return default
    return node


def _store(path: str, widget: str) -> None:
    apply_setting(st.session_state["draft"], path, st.session_state[widget])
    if path == "training.precision":
        st.session_state["chosen-precision"] = st.session_state[widget]


def widget(spec: FieldSpec) -> None:
    """One setting, with its bounds, unit and help."""
    data = st.session_state["draft"]
    now, name = value_at(data, spec.path, spec.default), key(spec.path)
    label = spec.path.rsplit(".", 1)[-1].replace("_", " ") + (f" ({spec.unit})" if spec.unit else "")
    common = {"key": name, "on_change": _store, "args": (spec.path, name)}
    if spec.kind == "choice":
        choices: list[str | None] = [*spec.choices]
        if spec.optional:
            choices = [None, *choices]
        index = choices.index(now) if now in choices else 0
        st.selectbox(
            label, choices, index, help=spec.help, format_func=lambda choice: choice or "as the start asks", **common
        )
    elif spec.kind == "switch":
        st.toggle(label, bool(now), help=spec.help, **common)
    elif spec.kind in ("whole", "number"):
        whole = spec.kind == "whole"
        kind = int if whole else float
        note = f"{spec.help} Allowed: {spec.bounds}."
        st.number_input(
            label,
            min_value=None if spec.low is None else kind(spec.low),
            max_value=None if spec.high is None else kind(spec.high),
            value=None if now is None else kind(now),
            step=1 if whole else max(1e-6, abs(float(now or 0)) / 5),
            format="%d" if whole else "%g",
            placeholder="all" if spec.optional else None,
            help=note,
            **common,
        )


def details(data: dict[str, Any]) -> None:
    """All settings, in the configuration's order."""
    method = METHODS[data["method"]["name"]]
    network, training, own = st.columns(3)
    with network:
        st.markdown("**Network**")
        for spec in fields("backbone", BackboneConfig):
            if spec.path not in ("backbone.name", "backbone.start"):  # they are in the sentence above
                widget(spec)
        widget(FieldSpec("seed", "whole", 0, "Same seed, same numbers.", low=0, high=2**31 - 1))
        st.markdown("**Method**")
        found = list(fields("method", method))
        for spec in found:
            widget(spec)
        if not found:
            st.caption("This method has no settings of its own.")
    specs = list(fields("training", TrainingConfig))
    for column, part in ((training, specs[: len(specs) // 2]), (own, specs[len(specs) // 2 :])):
        with column:
            st.markdown("**Training**" if column is training else "&nbsp;")
            for spec in part:
                widget(spec)


def command_line(data: dict[str, Any], preset_name: str, device: str = "auto") -> str:
    """A line that runs this very configuration: the preset, and a `--set` for all that differs from it."""
    method = data["method"]["name"]
    base = preset_data(preset_name, method)
    parts = ["python -m labcore run", f"--preset {preset_name}", f"--method {method}"]
    for section in ("backbone", "tasks", "training", "method"):
        if data[section] != base[section]:
            if section == "tasks":
                parts.append("--set " + shlex.quote(f"tasks={json.dumps(data['tasks'])}"))
                continue
            whole = getattr(preset(preset_name, method), section).model_dump(mode="json")
            for name, value in data[section].items():
                if whole[name] != value:
                    parts.append("--set " + shlex.quote(f"{section}.{name}={json.dumps(value)}"))
    if data["seed"] != base["seed"]:
        parts.append(f"--seed {data['seed']}")
    if device != "auto":
        parts.append(f"--device {device}")
    return " ".join(parts)
