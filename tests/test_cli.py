import io
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labcore.cli import configuring
from labcore.cli import main as cli
from labcore.configs.base import ConfigError
from labcore.configs.presets import PRESETS, preset
from labcore.configs.registry import METHODS
from labcore.runs import files
from labcore.runs.claims import Claim
from labcore.runs.errors import Busy
from labcore.runs.events import RunEnded
from labcore.runs.records import RunRecord
from labcore.runs.store import Store
from labcore.studies import advancing, estimates, explorations, proposals, questions
from labcore.studies.experiments import Arm, Experiment
from labcore.studies.reader import Reader
from labcore.tasks import catalogue
from labcore.training import worker
from tests import stories, test_estimates
from tests.conftest import tiny

ROOT = Path(__file__).parent.parent


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.json"
    path.write_text(tiny().model_dump_json())
    return str(path)


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.main(arguments)
    out, err = capsys.readouterr()
    return status, out, err


def good(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    status, out, _ = call(capsys, *arguments, "--json")
    assert status == 0
    return json.loads(out)


def test_run_prints_the_contracts_result_and_the_second_time_at_once(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = good(capsys, "run", config)
    assert {
        "run",
        "state",
        "cached",
        "config",
        "device",
        "tasks",
        "error",
        "accuracy_matrix",
        "validation_matrix",
        "average_accuracy",
        "validation_average_accuracy",
        "backward_transfer",
        "forgetting",
        "stages",
        "footprint_bytes",
        "needs_old_data",
        "test_ms_per_image",
        "peak_memory_bytes",
        "energy_wh",
        "carbon_g",
        "carbon_country",
    } <= result.keys()
    assert (result["state"], result["cached"], result["device"], result["error"]) == ("complete", False, "cpu", None)
    assert result["tasks"] == ["digits:0-3", "fashion:0-2"]
    matrix = result["accuracy_matrix"]
    assert matrix[0][1] is None
    assert result["average_accuracy"] == pytest.approx(sum(matrix[1]) / 2)
    assert result["backward_transfer"] == pytest.approx(matrix[1][0] - matrix[0][0])
    assert result["forgetting"] == [pytest.approx(matrix[0][0] - matrix[1][0]), None]
    assert {"task", "train_seconds", "reused", "images_seen", "steps", "weights"} <= result["stages"][0].keys()
    assert all(stage["weights"] and not stage["reused"] for stage in result["stages"])
    again = good(capsys, "run", config)
    assert (again["run"], again["cached"]) == (result["run"], True)
    assert good(capsys, "show", result["run"])["accuracy_matrix"] == matrix
    fresh = good(capsys, "run", config, "--no-cache")
    assert fresh["run"] != result["run"]
    assert not fresh["cached"]
    assert fresh["accuracy_matrix"] == matrix


def test_the_life_of_a_queued_run(config: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    submitted = good(capsys, "submit", config)
    assert (submitted["state"], submitted["cached"]) == ("queued", False)
    run = submitted["run"]
    assert good(capsys, "submit", config)["run"] == run
    assert good(capsys, "cancel", run)["state"] == "stopped"
    assert good(capsys, "resume", run)["state"] == "queued"
    worker.run_claim(Store().claim_run(run), "cpu")
    assert [row["run"] for row in good(capsys, "list")] == [run]
    assert good(capsys, "events", run)[-1]["event"] == "run_ended"
    status, out, _ = call(capsys, "events", run)
    assert status == 0
    assert [json.loads(line)["seq"] for line in out.splitlines()] == list(range(len(out.splitlines())))
    assert good(capsys, "export", run, str(tmp_path / "out.zip"))["missing_stages"] == []
    assert good(capsys, "delete", run)["deleted"]
    assert good(capsys, "import", str(tmp_path / "out.zip"))["run"] == run
    assert good(capsys, "show", run)["state"] == "complete"


def test_settings_apply_in_order(config: str) -> None:
    def read(*arguments: str) -> Any:
        return configuring.read_config(cli.parser().parse_args(["submit", *arguments]))

    assert read() == preset("story")
    assert read("--preset", "quick", "--method", "feature_extraction") == preset("quick", "feature_extraction")
    changed = read("--preset", "story", "--backbone", "mlp", "--tasks", "fashion,faces", "--seed", "3")
    assert (changed.backbone.name, changed.backbone.start, changed.backbone.image_size) == ("mlp", "kaiming", 28)
    assert [(task.name, task.images_per_class) for task in changed.tasks] == [("fashion", 60), ("faces", None)]
    assert changed.seed == 3
    last = read(
        "--preset",
        "quick",
        "--seed",
        "3",
        "--set",
        "seed=4",
        "--set",
        "tasks.0.name=fashion:0-2",
        "--set",
        "training.optimizer=sgd",
    )
    assert (last.seed, last.tasks[0].name, last.training.optimizer) == (4, "fashion:0-2", "sgd")
    assert read(config, "--method", "joint").method.name == "joint"


def test_a_sweep_trains_every_combination_and_shares_what_comes_out_the_same(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    vary = ("--vary", "method.strength=1,100", "--vary", "seed=0,1")
    results = good(capsys, "sweep", config, "--method", "ewc", *vary)
    assert [(r["config"]["method"]["strength"], r["config"]["seed"]) for r in results] == [
        (1, 0), (1, 1), (100, 0), (100, 1),
    ]  # fmt: skip
    assert [[stage["reused"] for stage in r["stages"]] for r in results] == [[False] * 2] * 2 + [[True, False]] * 2
    status, out, _ = call(capsys, "sweep", config, "--method", "ewc", *vary)
    assert status == 0
    head, *lines = out.splitlines()
    assert head.split() == ["method.strength", "seed", "accuracy", "forgotten", "training", "run"]
    assert [line.split()[-1] for line in lines] == [result["run"] for result in results]
    fresh = good(capsys, "sweep", config, "--method", "ewc", "--vary", "method.strength=100", "--no-cache")
    assert fresh[0]["run"] not in {result["run"] for result in results}
    assert [stage["reused"] for stage in fresh[0]["stages"]] == [False, False]
    assert fresh[0]["accuracy_matrix"] == results[2]["accuracy_matrix"]


# ---- experiments ----------------------------------------------------------------------------------------------------

STRENGTH = {"path": "method.strength", "low": 10.0, "high": 1000.0, "steps": 2, "log": True}


def explored(store: Store, **changes: Any) -> str:
    base = tiny("ewc", training__epochs=1).model_dump(mode="json")
    data = {"base": base, "varied": [STRENGTH], "runs": 4, **changes}
    return explorations.create(store, explorations.parse_exploration(data))


def test_an_exploration_is_trained_to_its_end_by_its_name(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    name = explored(store)
    explorations.stop(store, name)
    status, out, err = call(capsys, "experiment", name, "--json")
    assert status == 0
    assert "run 1: strength 10, seed 0: complete" in err and "run 2: strength 1000, seed 0: complete" in err
    document = json.loads(out)
    assert (document["experiment"], document["title"]) == (name, "Elastic weights (EWC): strength")
    assert document["complete"] and document["state"] == "complete"
    assert (document["ended"], document["refused"]) == ("Every combination was tried.", [])
    assert [arm["values"] for arm in document["arms"]] == [{"method.strength": 10.0}, {"method.strength": 1000.0}]
    assert document["arms"][0]["measures"]["accuracy"]["n"] == 1 and document["work"]["reused"] == 1
    assert document["findings"][0].startswith("The best on validation images is strength")
    again = good(capsys, "experiment", name)
    assert again == document and len(store.records()) == 2
    status, out, _ = call(capsys, "experiment", name)
    assert status == 0 and out.splitlines()[-1] == "2 of 2 runs · Every combination was tried."


def test_an_exploration_trains_again_what_was_deleted(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    name = explored(store)
    good(capsys, "experiment", name)
    store.delete(store.records()[0].run)
    document = good(capsys, "experiment", name)
    assert document["complete"] and len(store.records()) == 2


def interrupting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ctrl-C as soon as a run is being trained, which is put back as a worker does that is told to end."""
    trained: list[str] = []

    def run_claim(claim: Claim, *_: Any, shut_down: Callable[[], bool], **__: Any) -> RunRecord:
        trained.append(claim.run)
        os.kill(os.getpid(), signal.SIGINT)
        while not shut_down():
            time.sleep(0.01)
        return claim.put_back()

    monkeypatch.setattr("labcore.training.worker.run_claim", run_claim)
    return trained


def test_an_interrupted_exploration_goes_on_with_the_same_command(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = explored(store, sampler="random", runs=2)
    with monkeypatch.context() as patch:
        trained = interrupting(patch)
        status, out, err = call(capsys, "experiment", name, "--json")
    assert status == 1 and "Stopped; the same command goes on." in err
    document = json.loads(out)
    assert (document["complete"], document["state"]) == (False, "stopped")
    assert {run["state"] for arm in document["arms"] for run in arm["runs"]} == {"stopped"}
    assert not advancing.advance(store, Reader(store))  # nor does a worker
    document = good(capsys, "experiment", name)
    assert document["complete"] and document["arms"][0]["runs"][0]["run"] == trained[0]
    assert len(document["arms"]) == 2


def test_a_worker_that_has_the_device_trains_what_the_command_queues(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, queued = explored(store), []

    def work(*_: Any, **__: Any) -> None:  # what the worker does meanwhile, one run at a time
        advancing.advance(store, Reader(store))
        for record in store.active():
            queued.append(record.run)
            stories.told(store, store.config(record.run), [[0.9], [0.4, 0.8]])
        raise Busy("cpu has a worker already.")

    monkeypatch.setattr(worker, "work", work)
    status, _, err = call(capsys, "experiment", name, "--json")
    assert status == 0 and len(queued) == 2
    assert "run 1: strength 10, seed 0: complete" in err and "run 2: strength 1000, seed 0: complete" in err


def test_an_experiment_does_not_wait_for_a_device_that_nobody_serves(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = [Arm("here", tiny()), Arm("elsewhere", tiny("ewc"))]
    stories.told(store, tiny(), [[0.9], [0.4, 0.8]])
    store.submit(tiny("ewc"), device="cuda:7")
    monkeypatch.setattr(questions, "named", lambda *_: Experiment("q1", "Tiny", tuple(arms), (0,)))
    monkeypatch.setattr(worker, "work", lambda *_, **__: pytest.fail("there is nothing to train here"))
    status, out, err = call(capsys, "experiment", "q1", "--json")
    assert status == 1 and not json.loads(out)["complete"]
    assert "Some runs wait for cuda:7: start `python -m labcore worker --device cuda:7`." in err


def test_a_device_that_is_not_here_queues_nothing(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(capsys, "experiment", "q1", "--device", "cuda:7", "--json")
    assert (status, out) == (2, "") and "cuda:7" in err and err.count("\n") == 1
    assert store.records() == []


def test_a_failed_run_of_an_exploration_is_status_one_and_tried_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, tried = explored(store), []

    def run_claim(claim: Claim, *_: Any, **__: Any) -> RunRecord:
        tried.append(claim.run)
        return claim.fail("The loss became nan.")

    monkeypatch.setattr("labcore.training.worker.run_claim", run_claim)
    status, out, _ = call(capsys, "experiment", name, "--json")
    assert status == 1 and len(tried) == 2
    document = json.loads(out)
    assert (document["complete"], document["state"]) == (False, "complete")
    assert "Nothing is finished yet." in document["findings"]


def test_an_exploration_that_breaks_is_status_one(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(*_: Any) -> None:
        raise RuntimeError("no idea")

    monkeypatch.setattr(proposals, "ask", breaks)
    status, out, _ = call(capsys, "experiment", explored(store), "--json")
    assert status == 1
    assert json.loads(out)["ended"] == "It broke off: RuntimeError: no idea"


def test_what_experiments_there_are_and_how_far(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert good(capsys, "experiments")["explorations"] == []
    name = explored(store)
    advancing.advance(store, Reader(store))
    stories.told(store, store.config(store.active()[0].run), [[0.9], [0.4, 0.8]])
    explorations.stop(store, name)
    (store.root / "explorations" / "20260101-000000-abcd.json").write_text("{")
    status, out, err = call(capsys, "experiments", "--json")
    assert status == 0 and "The exploration 20260101-000000-abcd cannot be read" in err and err.count("\n") == 1
    found = json.loads(out)
    assert [row["name"] for row in found["named"]] == list(questions.NAMED)
    assert found["named"][0]["title"] == "The article's table, measured"
    (row,) = found["explorations"]
    assert (row["name"], row["state"], row["finished"], row["runs"], row["minutes"]) == (name, "stopped", 1, 2, None)
    line = call(capsys, "experiments")[1].splitlines()[-1]
    assert line == f"{name} Elastic weights (EWC): strength · stopped · 1 of 2 runs"


def test_an_unknown_experiment_names_the_newest_explorations(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    known = [explored(store) for _ in range(7)]
    status, out, err = call(capsys, "experiment", "20260101-000000-abcd", "--json")
    assert (status, out) == (2, "")
    assert err.startswith("There is no experiment '20260101-000000-abcd'; known: table, q1,")
    assert max(known) in err and err.endswith(" and 2 older.\n")


@pytest.mark.parametrize("option", [["--preset", "quick"], ["--tasks", "digits"], ["--seeds", "2"]])
def test_an_exploration_has_its_own_jobs_and_seeds(
    option: list[str], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    name = explored(store)
    status, out, err = call(capsys, "experiment", name, *option, "--json")
    assert (status, out) == (2, "") and "is an exploration and has its own" in err


def test_an_exploration_that_cannot_be_read_is_bad_input(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    name = explored(store)
    (store.root / "explorations" / f"{name}.json").write_text("{")
    status, out, err = call(capsys, "experiment", name, "--json")
    assert (status, out) == (2, "") and f"The exploration {name} cannot be read" in err


def test_values_to_vary_are_json_or_text(config: str) -> None:
    def read(*vary: str) -> list[Any]:
        options = cli.parser().parse_args(["sweep", config, *(part for v in vary for part in ("--vary", v))])
        return [list(chosen.values()) for chosen, _ in configuring.read_sweep(options)]

    assert read("training.optimizer=sgd,adam") == [["sgd"], ["adam"]]
    assert read("training.epochs=1,2", "tasks.0.images_per_class=3,null") == [[1, 3], [1, None], [2, 3], [2, None]]
    assert read('tasks=[{"name":"digits"}],[{"name":"faces"},{"name":"fans"}]') == [
        [[{"name": "digits"}]], [[{"name": "faces"}, {"name": "fans"}]],
    ]  # fmt: skip


def test_a_sweep_in_which_one_fails_is_status_one(
    config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(config: Any, **options: Any) -> Any:
        yield RunEnded(state="failed" if config.seed == 1 else "complete", error="It broke." if config.seed else None)

    monkeypatch.setattr("labcore.training.loop.train", train)
    status, out, _ = call(capsys, "sweep", config, "--vary", "seed=1,0", "--json")
    assert status == 1
    assert [row["state"] for row in json.loads(out)] == ["failed", "complete"]


def test_a_sweep_is_read_whole_before_anything_is_trained(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(capsys, "sweep", config, "--vary", "training.epochs=1,many", "--json")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert Store().records() == []


BAD = [
    ["sweep"],
    ["sweep", "--vary", ""],
    ["sweep", "--vary", "training.epochs"],
    ["sweep", "--vary", "training.epochs="],
    ["sweep", "--vary", "training.epochs=1,2,"],
    ["sweep", "--vary", "nope=1"],
    ["sweep", "--vary", "training.nope=1"],
    ["sweep", "--vary", "tasks.9.name=digits"],
    ["sweep", "--vary", "seed=1", "--vary", "seed=2"],
    ["sweep", "--vary", "training.learning_rate=NaN"],
    ["sweep", "--vary", "seed=" + ",".join(map(str, range(1001)))],
    ["sweep", "--vary", "seed=1", "--checkpoint-seconds", "soon"],
    ["submit", "--vary", "seed=1"],
    ["run", "absent.json"],
    ["run", "."],
    ["run", "--preset", "nope"],
    ["run", "--preset", ""],
    ["run", "--method", ""],
    ["run", "--method", "magic"],
    ["run", "--backbone", ""],
    ["run", "--backbone", "vgg999"],
    ["run", "--tasks", ""],
    ["run", "--tasks", "digits,,fashion"],
    ["run", "--tasks", "digits:3-3"],
    ["run", "--seed", "one"],
    ["run", "--seed", ""],
    ["run", "--seed", "-1"],
    ["run", "--set", "training.epochs"],
    ["run", "--set", "=3"],
    ["run", "--set", "training.epochs=many"],
    ["run", "--set", "training.learning_rate=NaN"],
    ["run", "--set", "training.nope=1"],
    ["run", "--set", "nope=1"],
    ["run", "--set", "tasks.9.name=digits"],
    ["run", "--set", "seed.a.b=1"],
    ["run", "--set", "backbone.start=pretrained", "--backbone", "mlp"],
    ["run", "--device", "cuda:77"],
    ["run", "--checkpoint-seconds", "soon"],
    ["submit", "--device", "tpu"],
    ["show", "nope"],
    ["show", "../../etc/passwd"],
    ["show", ""],
    ["events", "nope"],
    ["cancel", "nope"],
    ["resume", "nope"],
    ["delete", "nope"],
    ["export", "nope", "out.zip"],
    ["import", "absent.zip"],
    ["worker", "--executor", "cloud"],
    ["worker", "--slots", "0"],
    ["worker", "--slots", "many"],
    ["worker", "--slots", ""],
    ["worker", "--slots", "-1"],
    ["worker", "--slots", "1.5"],
    ["worker", "--slots", "9999"],
    ["nope"],
    [],
    ["run", "--nope"],
]


@pytest.mark.parametrize("arguments", BAD, ids=lambda words: " ".join(words)[:60])
def test_bad_input_is_one_line_and_status_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(capsys, *arguments, *(["--json"] if arguments else []))
    assert status == 2
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.strip()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe\x00", b"{}", b'{"a": 1}', b"null"])
def test_a_file_that_is_no_configuration(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    status, out, err = call(capsys, "run", str(path), "--json")
    assert (status, out, len(err.splitlines())) == (2, "", 1)


def test_a_store_that_cannot_be_written(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REUSE_LAB_HOME", str(tmp_path / "config.json" / "home"))
    status, out, err = call(capsys, "submit", config, "--json")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert "REUSE_LAB_HOME" in err


def test_a_failed_run_is_status_one(
    config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "labcore.training.loop.train", lambda config, **options: iter([RunEnded(state="failed", error="It broke.")])
    )
    status, out, _ = call(capsys, "run", config, "--json")
    assert status == 1
    assert json.loads(out)["error"] == "It broke."


def test_a_warning_does_not_stop_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(capsys, "submit", "--preset", "quick", "--tasks", "digits,digits", "--json")
    assert status == 0
    assert "more than once" in err
    assert json.loads(out)["state"] == "queued"


def test_before_training_in_bfloat16_run_says_how_fast_that_is(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = RunEnded(state="failed", error="It broke.")
    monkeypatch.setattr("labcore.training.loop.train", lambda config, **options: iter([broken]))
    measured: list[tuple[str, int, str]] = []
    monkeypatch.setattr("labcore.training.speed.times_in_bfloat16", lambda *what: measured.append(what) or 8.0)
    (path := tmp_path / "short.json").write_text(tiny(training__precision="bfloat16").model_dump_json())
    _, _, err = call(capsys, "run", str(path))
    assert err.startswith(
        "Note: On this processor a step in bfloat16 takes 8 times as long as in float32. "
        "Change it by --set training.precision=float32.\n"
    )
    assert measured == [("small_cnn", 16, "cpu")]
    estimates.keep(store, test_estimates.ROUND.model_copy(update={"bfloat16": 0.5}))
    _, _, err = call(capsys, "sweep", str(path), "--vary", "seed=1,2")
    assert err.startswith("Note: On this processor steps in bfloat16 are 2 times as fast as in float32.\n1 of 2\n")
    assert err.count("bfloat16") == 1
    assert len(measured) == 1, "what the store knows is not measured again"
    _, _, err = call(capsys, "run", str(path), "--set", "training.precision=float32")
    assert "bfloat16" not in err


def test_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert {row["name"] for row in good(capsys, "methods")} == set(METHODS)
    assert {row["name"] for row in good(capsys, "presets")} == set(PRESETS)
    found = {row["name"]: row["download_megabytes"] for row in good(capsys, "tasks")}
    assert {"digits", "fashion", "faces", "hotdogs", "fans", "swatters"} == {
        name for name in found if name in catalogue.EMBEDDED
    }
    assert found["digits"] == 0 and found["cifar10"] == 170
    networks = {row["name"]: row["download_megabytes"] for row in good(capsys, "backbones")}
    assert networks["efficientnet_lite0"] == 0 and networks["resnet18"] == 47
    assert call(capsys, "tasks")[1].count("Download, ") >= 4


def test_as_a_program_it_keeps_stdout_clean_and_survives_a_closed_pipe(config: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "labcore", "run", config, "--json"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["state"] == "complete"
    assert "stage 1" in done.stderr
    run = json.loads(done.stdout)["run"]
    piped = subprocess.run(
        f"{sys.executable} -m labcore events {run} | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert "Traceback" not in piped.stderr


def test_show_tells_energy_and_carbon_as_estimates(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run = stories.written(store, stories.COMPLETE).finish("complete").run
    store.change_settings(country="FRA")
    assert cli.main(["show", run]) == 0
    assert "≈ 0.25 Wh, 0.014 g CO₂e (France, 56 g CO₂e/kWh (2023)), estimated by codecarbon" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["fine_tuning", "small_cnn", "digits:0-3"])
def test_a_run_of_something_that_is_not_installed_is_seen_and_moved_but_not_trained(
    part: str, store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    claim = stories.written(store, stories.COMPLETE)
    run, file = claim.run, str(tmp_path / "out.zip")
    for name in ("config.json", "events.jsonl"):
        path = claim.folder / name
        path.write_text(path.read_text().replace(f'"{part}"', '"elsewhere"'))
    store.change(run, names=None, config_digest=files.digest_of(claim.folder / "config.json"))
    claim.finish("complete")
    config = store.config(run)
    titles = [config.method.title, config.backbone.title, *(task.title for task in config.tasks)]
    assert titles.count("elsewhere (not installed)") == 1
    (row,) = good(capsys, "list")
    result = good(capsys, "show", run)
    assert [row["method"], result["config"]["backbone"]["name"], *row["tasks"]].count("elsewhere") == 1
    assert good(capsys, "events", run)[0]["config"] == result["config"] == config.model_dump(mode="json")
    assert good(capsys, "export", run, file)["run"] == run
    good(capsys, "delete", run)
    assert good(capsys, "import", file)["run"] == run
    assert good(capsys, "show", run)["accuracy_matrix"] == result["accuracy_matrix"]
    assert store.check() == []
    with pytest.raises(ConfigError, match="'elsewhere' is not installed here"):
        store.submit(store.config(run))
    store.change(run, state="stopped")
    good(capsys, "resume", run)
    record = worker.run_claim(store.claim_run(run), "cpu")
    assert record.state == "failed" and "'elsewhere' is not installed here" in (record.error or "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_every_command_ends_in_its_own_result_whatever_letters_the_terminal_has(
    store: Store, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    run = stories.told(store, tiny(), [[0.9], [0.5, 0.8]])
    for command, status in (
        (["list"], 0),
        (["show", run], 0),
        (["events", run], 0),
        (["tasks"], 0),
        (["methods"], 0),
        (["presets"], 0),
        (["backbones"], 0),
        (["experiments"], 0),
        (["check"], 0),
        (["show", "naïve → 網"], 2),
    ):
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            assert cli.main(command) == status, command
        out.flush()
        raw = out.buffer
        assert isinstance(raw, io.BytesIO)
        assert bool(raw.getvalue()) == (status == 0) or command == ["check"], command


def test_a_home_that_cannot_be_found_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("REUSE_LAB_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    status, out, err = call(capsys, "list")
    assert (status, out) == (2, "")
    assert err == (
        "There is no home folder for ~/.local/share/reuse-lab; set REUSE_LAB_HOME to the whole path of a folder for "
        "the lab.\n"
    )
    monkeypatch.setenv("REUSE_LAB_HOME", "~nobody-of-this-name/lab")
    assert call(capsys, "list")[0] == 2
