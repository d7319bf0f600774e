"""Which methods there are, what each must say of itself, and what their versions do to keys."""

import json
import re
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

import labcore.methods
from labcore import plugins
from labcore.configs import presets, registry
from labcore.configs.base import ConfigError
from labcore.configs.method import BASE, About, MethodConfig, MethodError, NotInstalled
from labcore.configs.reading import parse, parse_json, parse_stored, require_installed
from labcore.configs.registry import ABOUT, METHODS, of_group
from labcore.configs.run import RunConfig
from labcore.configs.verdicts import NOT_RATED
from labcore.methods.ewc.about import EWCConfig
from labcore.methods.load import learner
from labcore.runs.stage_keys import shared_stages, stage_keys
from labcore.studies.criteria import criteria
from tests.conftest import in_fresh_process, tiny

# First 16 digits of the keys that runs of the preset `quick` had when methods got versions, and the engine was number
# 3: run, first and last stage.
KEYS = {
    "feature_extraction": ("916cc295670bff81", "54563e799e009602", "9afa27995b1a3135"),
    "fine_tuning": ("16d57269cb443b2d", "9857b1fcdca3ddae", "be3b9f6f06f8a5d3"),
    "separate_copies": ("71699798a88429a9", "229636e13c883e94", "2b644e4e843a9245"),
    "joint": ("f4ada20cc300c800", "5dbaa2046fc93c63", "4bd60b0eb0dd916f"),
    "lwf": ("e3862f5a063d2dd2", "9857b1fcdca3ddae", "64d3d65b8b6c6f40"),
    "ewc": ("b156bfcf664cb8b4", "9857b1fcdca3ddae", "638eb1fa15aa9522"),
    "packnet": ("e9176757ece51ede", "cbceb24652a7adae", "2ab72ea932853414"),
    "piggyback": ("a89a8c2b86e92cbb", "d8271e6b95dc83e2", "667d9c6c1601c8d6"),
}
PARTS: dict[str, Any] = {
    "name": "ewc", "title": "A title", "idea": "An idea.", "settings": EWCConfig, "learner": "EWC",
}  # fmt: skip


def keys_of(config: RunConfig) -> tuple[str, ...]:
    stages = range(1, len(config.tasks) + 1)
    trained, added = [config.stage_config(k) for k in stages], [config.addition_config(k) for k in stages]
    found = stage_keys(config, {}, trained, added)
    return tuple(key[:16] for key in (config.key(), found[0].training, found[-1].training))


def test_the_articles_methods_come_first_in_its_order() -> None:
    names = [about.name for about in of_group("article")]
    assert names == list(KEYS) == list(ABOUT)[: len(KEYS)]
    assert list(METHODS) == list(ABOUT)


@pytest.mark.parametrize("method", KEYS)
def test_keys_are_those_of_before_there_were_versions(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labcore.configs.run.ENGINE_VERSION", "3")
    assert keys_of(presets.preset("quick", method)) == KEYS[method]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_loaded(method: str) -> None:
    assert learner(method).__module__ == f"{ABOUT[method].package}.learn"


@pytest.mark.parametrize("part", ["name", "title", "idea", "settings", "learner"])
def test_a_method_without_a_part_is_refused_in_a_sentence_that_names_both(part: str) -> None:
    with pytest.raises(MethodError, match=part) as error:
        About(**{name: value for name, value in PARTS.items() if name != part})
    assert ("'ewc'" if part != "name" else "without a name") in str(error.value)


def test_settings_of_another_name_are_refused() -> None:
    with pytest.raises(MethodError, match="'other' has no settings of its name"):
        About(**PARTS | {"name": "other"})


def test_a_method_without_a_file_that_learns_is_refused() -> None:
    class Homeless(MethodConfig):
        name: Literal["homeless"] = "homeless"

    with pytest.raises(MethodError, match=r"'homeless' has no learner: no file learn\.py"):
        About(**PARTS | {"name": "homeless", "settings": Homeless})


def test_a_class_that_is_not_there_is_told_when_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ABOUT, "ewc", About(**PARTS | {"learner": "Nobody"}))
    with pytest.raises(MethodError, match="'ewc' has no learner: there is no method Nobody"):
        learner("ewc")


def test_what_is_optional_has_honest_defaults() -> None:
    about = About(**PARTS)
    assert (about.group, about.version, about.presets) == ("today", 1, {})
    assert {about.verdict.of(name) for name in criteria()} == {NOT_RATED}
    run = tiny()
    assert about.cost.epochs(run, 1) == ABOUT["fine_tuning"].cost.epochs(run, 1)


def test_another_version_of_a_method_changes_its_keys_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    ewc, lwf = presets.preset("quick", "ewc"), presets.preset("quick", "lwf")
    before, others = keys_of(ewc), keys_of(lwf)
    monkeypatch.setitem(registry.ABOUT, "ewc", About(**PARTS | {"version": 2}))
    after = keys_of(ewc)
    assert ewc.stage_config(1) == BASE, "in stage 1 there is nothing of the method"
    assert after[1] == before[1], "a stage that depends on nothing of the method stays"
    assert after[0] != before[0] and after[2] != before[2]
    assert keys_of(lwf) == others


def stored(name: str) -> str:
    data = tiny().model_dump(mode="json")
    return json.dumps({**data, "method": {"name": name, "depth": 3}})


def test_a_stored_run_of_a_method_that_is_not_installed_can_be_read_and_written_back() -> None:
    config = parse_json(stored("elsewhere"), stored=True)
    assert isinstance(config.method, NotInstalled)
    assert config.method.title == "elsewhere (not installed)"
    assert config.model_dump(mode="json")["method"] == {"name": "elsewhere", "depth": 3}
    assert parse_json(config.model_dump_json(), stored=True) == config
    with pytest.raises(MethodError, match="'elsewhere' is not installed here"):
        learner(config.method.name)


def test_a_new_run_of_a_method_that_is_not_installed_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method\.name is 'elsewhere'; allowed: feature_extraction"):
        parse_json(stored("elsewhere"))
    with pytest.raises(ConfigError, match="strength"):
        parse_json(stored("ewc").replace('"depth": 3', '"strength": -1'), stored=True)


def lacking(**parts: Any) -> dict[str, Any]:
    return {**tiny("ewc").model_dump(mode="json"), **parts}


NARROW = {"name": "narrow", "start": "pretrained", "image_size": 16, "norm": "frozen"}
STRIPES = [{"name": "stripes:0-2", "images_per_class": 4}, {"name": "digits:0-3", "images_per_class": None}]


def test_a_stored_run_whose_backbone_is_not_installed_can_be_read_and_written_back() -> None:
    config = parse_stored(lacking(backbone=NARROW))
    assert (config.backbone.title, config.method.title) == ("narrow (not installed)", ABOUT["ewc"].title)
    assert config.model_dump(mode="json")["backbone"] == NARROW
    assert parse_json(config.model_dump_json(), stored=True) == config
    assert len(config.key()) == 64
    with pytest.raises(
        ConfigError, match=r"^The backbone 'narrow' is not installed here, .* install what brings it\.$"
    ):
        require_installed(config)


def test_a_stored_run_whose_task_is_not_installed_can_be_read_and_written_back() -> None:
    config = parse_stored(lacking(tasks=STRIPES))
    assert [task.title for task in config.tasks] == ["stripes:0-2 (not installed)", "Digits: 0 to 3"]
    assert config.model_dump(mode="json")["tasks"] == STRIPES
    assert parse_json(config.model_dump_json(), stored=True) == config
    assert len(config.key()) == 64 and shared_stages(config, tiny("ewc")) == 0
    assert isinstance(config.backbone, type(tiny().backbone)) and config.backbone == tiny().backbone
    with pytest.raises(ConfigError, match=r"^The task 'stripes:0-2' is not installed here, "):
        require_installed(config)


def test_all_that_is_not_installed_is_named_in_one_sentence() -> None:
    config = parse_stored(lacking(backbone=NARROW, tasks=STRIPES, method={"name": "leash", "length": 1}))
    told = "The method 'leash', the backbone 'narrow' and the task 'stripes:0-2' are not installed here, so this run"
    with pytest.raises(ConfigError, match=f"^{told}.*install what brings them"):
        require_installed(config)


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"backbone": {**NARROW, "name": "<b>"}}, "backbone.name is '<b>'"),
        ({"backbone": {**NARROW, "depth": 3}}, "backbone.depth is not a known field"),
        ({"backbone": {**NARROW, "image_size": 8}}, "backbone.image_size is 8; it must be from 16"),
        ({"backbone": NARROW, "method": {"name": "ewc", "strength": -1}}, "method.strength is -1; it must be from 0"),
        ({"tasks": [{"name": "<b>"}]}, "tasks.1.name: '<b>' is not a task's name"),
        ({"tasks": [{"name": "stripes"}, {"name": "digits:0-99"}]}, "tasks.2.name: 'digits:0-99' asks for classes"),
        ({"backbone": {"name": "small_cnn", "start": "pretrained"}}, "small_cnn has no trained weights"),
        ({"backbone": {"start": 1}, "method": {"name": "leash"}}, "backbone.start is 1"),
    ],
)
def test_what_else_is_wrong_with_a_stored_run_is_told(parts: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)):
        parse_stored(lacking(**parts))


def test_a_new_run_of_a_backbone_or_a_task_that_is_not_installed_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"backbone\.name is 'narrow'; allowed: efficientnet_lite0"):
        parse(lacking(backbone=NARROW))
    with pytest.raises(ConfigError, match=r"tasks\.1\.name: 'stripes:0-2' is not a task; allowed: digits"):
        parse(lacking(tasks=STRIPES))


def test_a_preset_that_a_method_does_not_know_is_fine_tunings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ABOUT, "ewc", About(**PARTS))
    assert presets.preset("quick", "ewc").training == presets.preset("quick", "fine_tuning").training
    assert parse(presets.preset_data("long", "ewc")).method == EWCConfig()


def test_a_folder_without_an_about_is_no_method() -> None:
    folders = {path.name for path in registry.HOME.iterdir() if path.is_dir()}
    assert "shared" in folders and "shared" not in ABOUT


def test_nothing_of_the_labs_own_is_left_out() -> None:
    code = """from labcore import plugins
from labcore.configs import presets
from labcore.drawings.inside import registry
registry.kinds()
print([sentence for sentence in plugins.problems() if "labcore" in sentence or "preset" in sentence])"""
    assert in_fresh_process(code).strip() == "[]"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("", "The method 'clumsy' has no ABOUT"),
        ("from labcore.configs.method import About\nABOUT = About(name='clumsy')", "The method 'clumsy' has no title"),
        ("ABOUT = Abuot()", "NameError: name 'Abuot' is not defined"),
    ],
)
def test_a_folder_that_lacks_a_part_is_told_and_the_lab_goes_on(
    code: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "methods" / "clumsy"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "about.py").write_text(code)
    monkeypatch.setattr(labcore.methods, "__path__", [*labcore.methods.__path__, str(folder.parent)])
    monkeypatch.setattr(registry, "HOME", folder.parent)
    monkeypatch.setattr(plugins, "_problems", {})
    for module in ("", ".about"):
        monkeypatch.delitem(sys.modules, f"labcore.methods.clumsy{module}", raising=False)
    assert list(registry._built_in()) == []
    (sentence,) = plugins.problems()
    assert sentence.startswith("The method in labcore/methods/clumsy is left out: ")
    assert why in sentence
