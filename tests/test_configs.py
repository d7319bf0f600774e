import math

import pytest

from labcore.configs import presets
from labcore.configs import run as configs
from labcore.configs.base import ConfigError
from labcore.configs.fields import fields
from labcore.configs.reading import apply_setting, parse, parse_json
from labcore.configs.registry import METHODS
from tests.conftest import tiny


def changed(path: str, value: object) -> dict:
    data = presets.preset_data("quick")
    apply_setting(data, path, value)
    return data


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("backbone.name", "resnet999", ["backbone.name", "resnet999", "efficientnet_lite0"]),
        ("backbone.start", "warm", ["backbone.start", "warm", "kaiming"]),
        ("backbone.start", "pretrained", ["small_cnn", "no trained weights", "kaiming"]),
        ("backbone.image_size", 8, ["backbone.image_size", "8", "from 16 and up to 256"]),
        ("training.learning_rate", 0, ["training.learning_rate", "0", "above 0"]),
        ("training.learning_rate", math.nan, ["training.learning_rate", "finite"]),
        ("training.learning_rate", math.inf, ["training.learning_rate", "finite"]),
        ("training.learning_rate", "fast", ["training.learning_rate", "'fast'", "number"]),
        ("training.epochs", "3", ["training.epochs", "'3'", "integer"]),
        ("training.epochs", 2.5, ["training.epochs", "2.5"]),
        ("training.epochs", True, ["training.epochs", "true"]),
        ("training.epoch", 3, ["training.epoch", "not a known field", "epochs"]),
        ("tasks.0.name", "cats", ["tasks.1.name", "cats", "digits"]),
        ("tasks.0.name", "digits:3-3", ["one class only"]),
        ("tasks.0.name", "digits:0-10", ["classes 0 to 9"]),
        ("tasks.0.name", "digits:5-2", ["classes 5 to 2"]),
        ("tasks.0.name", "../digits", ["not a task"]),
        ("tasks.0.name", "", ["not a task"]),
        ("tasks.0.images_per_class", 0, ["tasks.1.images_per_class", "0", "from 1"]),
        ("tasks", [], ["tasks", "empty"]),
        ("method.name", "magic", ["method.name", "magic", "fine_tuning"]),
        ("method.frozen_blocks", 4, ["method.frozen_blocks", "4", "3 blocks"]),
        ("method.frozen_blocks", -1, ["method.frozen_blocks", "-1", "from 0"]),
        ("method.strength", 1, ["method.strength", "not a known field", "frozen_blocks"]),
        ("method", {"name": "ewc", "strength": -1}, ["method.strength", "-1", "from 0 and up to 1e+12"]),
        ("method", {"name": "ewc", "strength": math.nan}, ["method.strength", "finite"]),
        ("method", {"name": "ewc", "fisher_images": 0}, ["method.fisher_images", "0", "from 1"]),
        ("method", {"name": "ewc", "labels": "guessed"}, ["method.labels", "guessed", "sampled"]),
        ("method", {"name": "lwf", "temperature": 0}, ["method.temperature", "0", "above 0"]),
        ("method", {"name": "lwf", "train_old_heads": 1}, ["method.train_old_heads", "1", "boolean"]),
        ("method", {"name": "packnet", "prune_ratio": 0}, ["method.prune_ratio", "0", "above 0"]),
        ("method", {"name": "packnet", "prune_ratio": 1}, ["method.prune_ratio", "1", "below 1"]),
        (
            "method",
            {"name": "packnet", "prune_ratio": 0.001},
            ["method.prune_ratio is 0.001", "full after 1 job", "3"],
        ),
        ("method", {"name": "packnet", "reuse": "some"}, ["method.reuse", "some", "learned"]),
        (
            "method",
            {"name": "piggyback", "initial_score": 0.001},
            ["method.initial_score", "0.001", "method.threshold"],
        ),
        (
            "method",
            {"name": "piggyback", "initial_score": 0.01 + 1e-12, "threshold": 0.01},
            ["method.initial_score is 0.010000000001", "method.threshold (0.01) in 32 bits"],
        ),
        ("method", {"name": "piggyback", "initial_score": 1e-60, "threshold": 0}, ["method.initial_score is 1e-60"]),
        ("method", {"name": "si", "damping": 1e-60}, ["method.damping is 1e-60, which is 0 in 32 bits"]),
        ("seed", -1, ["seed", "-1", "from 0"]),
        ("seed", None, ["seed"]),
    ],
)
def test_bad_input_is_one_sentence_that_names_field_value_and_what_is_allowed(
    path: str, value: object, said: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        parse(changed(path, value))
    sentence = str(error.value)
    assert "\n" not in sentence
    assert all(part in sentence for part in said), sentence


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "3", '{"a": 1}', "\x00", "[" * 100_000])
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_json(text)


def test_shared_norm_is_refused_where_the_trunk_must_stand_still() -> None:
    with pytest.raises(ConfigError, match=r"backbone\.norm is shared"):
        tiny("feature_extraction", backbone__norm="shared")
    tiny("feature_extraction", backbone={"name": "mlp", "start": "kaiming", "image_size": 16, "norm": "shared"})


def test_same_task_twice_is_allowed_with_a_warning() -> None:
    twice = tiny(tasks=[{"name": "digits"}, {"name": "digits"}])
    assert "more than once" in twice.warnings()[0]
    assert tiny().warnings() == []


def test_key_ignores_spelling_and_sees_every_change() -> None:
    data = presets.preset_data("quick")
    base = parse(data).key()
    assert parse(dict(reversed(data.items()))).key() == base
    assert parse_json(parse(data).canonical_json()).key() == base
    for path, value in [
        ("seed", 1),
        ("training.epochs", 7),
        ("tasks.0.name", "fashion:0-3"),
        ("method.trunk_lr_scale", 0.5),
    ]:
        assert parse(changed(path, value)).key() != base


def test_key_sees_changed_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    before = tiny().key()
    monkeypatch.setattr(configs.catalogue, "fingerprint", lambda name: "other pictures")
    assert tiny().key() != before


def test_every_field_has_help_and_its_bounds() -> None:
    spec = {spec.path: spec for spec in fields("training", configs.TrainingConfig)}
    assert spec["training.learning_rate"].bounds == "above 0 and up to 10"
    assert spec["training.epochs"].low == 1
    assert spec["training.optimizer"].choices == ("sgd", "adam", "adamw")
    models = [configs.BackboneConfig, configs.TaskConfig, configs.TrainingConfig, *METHODS.values()]
    assert all(found.help for model in models for found in fields("", model))


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_presets_are_fair(preset: str) -> None:
    found = {method: presets.preset(preset, method) for method in METHODS}
    plain = found["fine_tuning"]
    for method, config in found.items():
        if method in ("fine_tuning", "separate_copies", "joint", "lwf", "ewc"):
            assert (config.backbone, config.tasks, config.training) == (plain.backbone, plain.tasks, plain.training)
        free = {"epochs", "batch_size"}
        assert config.tasks == plain.tasks
        assert config.training.model_dump(exclude=free) == plain.training.model_dump(exclude=free)
        assert config.backbone.model_dump(exclude={"norm"}) == plain.backbone.model_dump(exclude={"norm"})


def test_the_quick_preset_has_three_tasks_of_equal_size() -> None:
    tasks = presets.preset("quick").tasks
    assert [configs.catalogue.counts(task.name, task.images_per_class)[0] for task in tasks] == [680] * 3


def test_unknown_presets_and_methods_are_named() -> None:
    with pytest.raises(ConfigError, match="nope"):
        presets.preset("nope")
    with pytest.raises(ConfigError, match="magic"):
        presets.preset("quick", "magic")
