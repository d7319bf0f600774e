"""What to explore: a configuration, the settings that vary over it, and the budget. The address keeps all of it."""

import contextlib
from collections.abc import Mapping
from typing import Any

import streamlit as st

from labcore.configs.base import ConfigError
from labcore.configs.fields import FieldSpec
from labcore.configs.presets import PRESETS, preset
from labcore.configs.reading import require_installed
from labcore.configs.registry import ABOUT, METHODS
from labcore.configs.run import RunConfig
from labcore.configs.units import plain, setting_name
from labcore.studies import explorations
from labcore.studies.experiments import MOST_SEEDS
from labcore.studies.explorations import Exploration
from labcore.studies.varied import MOST_STEPS, Varied, settings_of, spec_of, suggested
from pages.parts import address, exploring, lab, markup, runs

BUDGETS = {"runs": "runs", "minutes": "minutes", "both": "both"}
RUNS, MINUTES, LEAST_MINUTES = 20, 10.0, 0.5
SAMPLER_HELP = (
    "Every combination suits one or two settings, by chance suits three, and learning as it goes (TPE) a longer search."
)
MINUTES_HELP = "Minutes of training and measuring. A run that trains when they are over is trained to its end."


def text_of(varied: Varied) -> str:
    """How a setting and its range are written in the address: `path~low~high~steps~log`, or `path~value~value`."""
    if varied.numeric:
        return f"{varied.path}~{varied.low:.12g}~{varied.high:.12g}~{varied.steps}{'~log' * varied.log}"
    values = (str(value).lower() if isinstance(value, bool) else value for value in varied.values)
    return "~".join([varied.path, *values])


def varied_of(text: str, method: str, base: RunConfig) -> Varied:
    """Read what `text_of` wrote. A path alone takes a range around what the base has. Raises ConfigError."""
    path, *parts = text.split("~")
    spec = spec_of(path, method)
    if not parts:
        return suggested(spec, base)
    if spec.kind == "switch":
        return Varied(path=path, values=tuple(part == "true" for part in parts))
    if spec.kind == "choice":
        return Varied(path=path, values=tuple(parts))
    try:
        low, high, steps = float(parts[0]), float(parts[1]), int(parts[2])
        return Varied(path=path, low=low, high=high, steps=steps, log="log" in parts[3:])
    except (ValueError, IndexError):
        raise ConfigError(f"vary is {text[:80]!r}; it must be like {path}~1~100~5~log.") from None


def suggest(method: str, vary: tuple[str, ...]) -> None:
    """Fill the form in, on the quick preset."""
    st.query_params.clear()
    st.query_params.update(preset="quick", method=method, vary=list(vary))
    st.session_state["explore-form"] = st.session_state.get("explore-form", 0) + 1


def drop_ranges() -> None:
    """Another method has settings of its own, with bounds of their own."""
    st.query_params["vary"] = [text for text in st.query_params.get_all("vary") if not text.startswith("method.")]


def base_config() -> RunConfig:
    """All that does not vary: the configuration of the run in the address, or else a preset's for a method."""
    again = st.query_params.get("run")
    if again is not None:
        try:
            config = lab.store().config(again)
            require_installed(config)
            st.markdown(f"All other settings are those of [this run](watch?run={again}): {runs.title(config)}.")
            return config
        except ConfigError as error:
            st.error(markup.literal(error), icon=":material/error:")
            del st.query_params["run"]
    asked, method = st.query_params.get("preset", "quick"), st.query_params.get("method", "ewc")
    generation = st.session_state.get("explore-form", 0)
    known = asked if asked in PRESETS else "quick"
    name = st.segmented_control(
        "Jobs (preset)",
        list(PRESETS),
        default=known,
        required=True,
        format_func=lambda name: PRESETS[name].title,
        key=f"explore-preset/{generation}",
    )
    method = st.selectbox(
        "Method",
        list(METHODS),
        list(METHODS).index(method if method in METHODS else "ewc"),
        format_func=lambda name: ABOUT[name].title,
        key=f"explore-method/{generation}",
        on_change=drop_ranges,
    )
    st.query_params.update(preset=name, method=method)
    return preset(name, method)


def settings_to_vary(base: RunConfig) -> list[Varied]:
    """Up to three settings with their ranges. Says what is wrong in the address, and goes on without it."""
    method = base.method.name
    known = settings_of(method)
    asked: dict[str, Varied] = {}
    for text in st.query_params.get_all("vary"):
        try:
            varied = varied_of(text, method, base)
            asked[varied.path] = varied
        except ConfigError as error:
            st.error(markup.literal(error), icon=":material/error:")
    place = f"{method}/{st.session_state.get('explore-form', 0)}"
    own = next(iter(known))
    chosen = st.multiselect(
        "Settings to vary (one to three)",
        list(known),
        list(asked)[: explorations.MOST_SETTINGS] or [ABOUT[method].explore_first or own],
        format_func=setting_name,
        max_selections=explorations.MOST_SETTINGS,
        key=f"explore-vary/{place}",
    )
    first = {path: asked.get(path) or suggested(known[path], base) for path in chosen}
    return [a_range(known[path], varied, place) for path, varied in first.items()]


def a_range(spec: FieldSpec, varied: Varied, place: str) -> Varied:
    """The widgets of one setting: from, to, how many, by equal factors; or its values."""
    key = f"{varied.path}/{place}"
    with st.container(border=True, gap="xsmall"):
        unit = f" ({spec.unit})" if spec.unit else ""
        st.markdown(f"**{varied.name}**{unit}", help=f"{spec.help} Allowed: {spec.bounds or ', '.join(spec.choices)}.")
        if not varied.numeric:
            every: list[Any] = [False, True] if spec.kind == "switch" else list(spec.choices)
            values = st.pills(
                "Values",
                every,
                selection_mode="multi",
                default=[value for value in varied.values if value in every],
                format_func=plain,
                label_visibility="collapsed",
                key=f"values/{key}",
            )
            return Varied(path=varied.path, values=tuple(values))
        low, high, steps = st.columns([1.2, 1.2, 1])
        kind: Mapping[str, Any] = {"format": "%g", "step": None}
        least = low.number_input("from", value=float(varied.low or 0.0), key=f"low/{key}", **kind)
        most = high.number_input("to", value=float(varied.high or 0.0), key=f"high/{key}", **kind)
        count = steps.number_input("values", 1, MOST_STEPS, varied.steps, key=f"steps/{key}")
        log = st.toggle("by equal factors", varied.log, key=f"log/{key}", help="1, 10, 100 rather than 1, 2, 3.")
        return Varied(path=varied.path, low=least, high=most, steps=count, log=log)


def budget() -> dict[str, Any]:
    """How the next values are chosen, and for how long. The address keeps what is hidden, too."""
    sampler = address.one_of("explore", "sampler", "How the next values are chosen", exploring.SAMPLERS, SAMPLER_HELP)
    kind = address.one_of(
        "explore", "budget", "Budget", BUDGETS, "With both, it ends when the first of them is used up."
    )
    places = iter(st.columns(3))
    seeds = whole_number(
        next(places),
        "seeds",
        "seeds",
        1,
        MOST_SEEDS,
        "How often each combination is tried, with other random numbers. What differs is chance.",
    )
    most, minutes = None, None
    if kind != "minutes":
        most = whole_number(next(places), "runs", "runs, at most", RUNS, explorations.MOST_RUNS)
    if kind != "runs":
        first = address.number("minutes", float, LEAST_MINUTES, explorations.MOST_MINUTES, MINUTES)
        bounds: Mapping[str, Any] = {"min_value": LEAST_MINUTES, "max_value": float(explorations.MOST_MINUTES)}
        look: Mapping[str, Any] = {"step": 1.0, "format": "%g", "key": "explore-minutes", "help": MINUTES_HELP}
        minutes = next(places).number_input("minutes, at most", value=first, **bounds, **look)
        st.query_params["minutes"] = f"{minutes:g}"
    return {"sampler": sampler, "seeds": seeds, "runs": most, "minutes": minutes}


def whole_number(
    place: st.delta_generator.DeltaGenerator, name: str, label: str, first: int, most: int, help: str | None = None
) -> int:
    """A number from 1 to `most`; the address keeps it under `name`."""
    asked = int(address.number(name, int, 1, most, first))
    number = place.number_input(label, 1, most, asked, key=f"explore-{name}", help=help)
    st.query_params[name] = str(number)
    return number


def asked() -> tuple[Exploration | None, str | None, int | None]:
    """The form: the exploration that it says, or why it cannot be, and how many runs it is where they are too many."""
    base = base_config()
    varied = settings_to_vary(base)
    data: dict[str, Any] = {"base": base.model_dump(mode="json"), "varied": varied, **budget()}
    st.query_params["vary"] = [text_of(one) for one in varied]
    data["device"] = st.session_state.get("device", "auto")
    try:
        return explorations.parse_exploration(data), None, None
    except ConfigError as error:
        return None, str(error), runs_wanted(data)


def runs_wanted(data: Mapping[str, Any]) -> int | None:
    """How many runs an exploration is, where nothing but its budget of runs forbids it."""
    if data["runs"] is None:
        return None
    with contextlib.suppress(ConfigError):
        found = explorations.parse_exploration({**data, "runs": explorations.MOST_RUNS})
        return found.combinations * found.seeds
    return None


def allow(count: int) -> None:
    """A larger budget of runs."""
    st.session_state["explore-runs"] = count
