"""docs/extending.md: every example on it is whole, is found where it should be, and works."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"^```(?:python|toml)\n# (file: \S+|notebook)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

Python = Callable[..., str]


def example(name: str) -> str:
    """The code of the page's example of this name."""
    (code,) = [code for called, code in BLOCKS if called == name]
    return code


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's package, as pip would leave it: its files, and what it announces."""
    site = tmp_path_factory.mktemp("site")
    for name, code in BLOCKS:
        if name.startswith("file: my_lab/"):
            path = site / name.removeprefix("file: ")
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.write_text(code)
    project = tomllib.loads(example("file: pyproject.toml"))["project"]
    facts = site / f"{project['name']}-{project['version']}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines: list[str] = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (facts / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return site


@pytest.fixture(scope="module")
def python(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Python:
    """Python with the package installed and a store of its own; gives what it prints."""
    environment = os.environ | {
        "PYTHONPATH": str(installed),
        "REUSE_LAB_HOME": str(tmp_path_factory.mktemp("extended") / "home"),
        "REUSE_LAB_THREADS": "1",
    }

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


# The commands train both methods; what follows them looks at their runs.
TRAINED = """
import json, sys
from labcore.cli.main import main
settings = ["backbone.image_size=16", "training.epochs=3", "training.batch_size=8", "training.head_warmup_epochs=1"]
for method, own in (("fine_tuning", []), ("leash", ["method.length=0.001"])):
    told = [part for setting in settings + own for part in ("--set", setting)]
    names = ["--method", method, "--backbone", "narrow", "--tasks", "stripes,digits:0-1"]
    assert main(["run", "--preset", "quick", *names, *told, "--json"]) == 0
"""


@pytest.fixture(scope="module")
def trained(python: Python) -> list[dict[str, object]]:
    """The results of fine-tuning and of the example's method, on its backbone and its task."""
    text, found = python("-c", TRAINED), []
    while text.strip():
        result, end = json.JSONDecoder().raw_decode(text.lstrip())
        found.append(result)
        text = text.lstrip()[end:]
    return found


def test_the_page_has_all_that_it_promises() -> None:
    names = {name.removeprefix("file: my_lab/") for name, _ in BLOCKS}
    assert names == {
        "file: pyproject.toml",
        *(f"leash/{part}.py" for part in ("about", "learn", "maps")),
        *("narrow_about.py", "narrow.py", "stripes.py", "overall.py"),
        "notebook",
    }


def test_everything_is_found_by_name(python: Python) -> None:
    for kind, name in (("methods", "leash"), ("backbones", "narrow"), ("tasks", "stripes")):
        assert name in [row["name"] for row in json.loads(python("-m", "labcore", kind, "--json"))]


def test_the_package_says_the_truth_of_its_backbone(python: Python) -> None:
    code = """
from labcore.configs.catalogue import BACKBONES
from my_lab.narrow import build
trunk, info = build("narrow", 16), BACKBONES["narrow"]
print(sum(p.numel() for p in trunk.parameters()) == info.weights, trunk.block_names == info.blocks)
print(min(p.numel() for p in trunk.parameters() if p.ndim > 1) == info.smallest_layer)
"""
    assert python("-c", code).split() == ["True"] * 3


def test_the_method_learns_on_the_backbone_and_the_task(trained: list[dict[str, object]]) -> None:
    free, held = trained
    assert [result["state"] for result in trained] == ["complete", "complete"]
    assert held["tasks"] == ["stripes", "digits:0-1"]
    assert held["stages"][0]["reused"], "its first stage is fine-tuning's"  # type: ignore[index]
    assert free["accuracy_matrix"][0][0] > 0.8  # type: ignore[index]
    assert free["accuracy_matrix"] != held["accuracy_matrix"]


def test_the_leash_holds_and_a_run_that_stops_goes_on(python: Python, tmp_path: Path) -> None:
    code = """
import sys
import torch
from pathlib import Path
from safetensors.torch import load_file
from labcore.configs.reading import parse
from labcore.training.loop import train
config = parse({
    "backbone": {"name": "narrow", "start": "kaiming", "image_size": 16},
    "tasks": [{"name": "stripes", "images_per_class": 16}, {"name": "digits:0-1", "images_per_class": 16}],
    "training": {"epochs": 3, "batch_size": 8, "learning_rate": 5e-3}, "method": {"name": "leash", "length": 0.004},
})
home = Path(sys.argv[1])
list(train(config, stages=lambda k: home / "whole" / str(k)))
def trained(**more):
    *_, last = train(config, stages=lambda k: home / "parts" / str(k), checkpoint=home / "checkpoint", **more)
    return last.state
asked = iter(range(10_000))
print(trained(should_stop=lambda: next(asked) == 60), trained())
files = [f"{k}/network.safetensors" for k in (1, 2)]
one, other = ([load_file(home / way / file) for file in files] for way in ("whole", "parts"))
print(all(torch.equal(a[n], b[n]) for a, b in zip(one, other) for n in a))
moved = [(one[1][n] - one[0][n]).abs().max().item() for n in one[0] if n.startswith("trunk/")]
print(0.003 < max(moved) <= 0.004 + 1e-7)
"""
    assert python("-c", code, str(tmp_path)).split() == ["stopped", "complete", "True", "True"]


def test_pages_offer_all_of_it(python: Python, trained: list[dict[str, object]]) -> None:
    code = """
import sys
from labcore.training import worker
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest
worker.ensure = lambda *arguments, **options: None
original = PagesManager.__init__
def as_on_a_warm_server(self, *arguments, **named):
    original(self, *arguments, **named)
    PagesManager.uses_pages_directory = False
PagesManager.__init__ = as_on_a_warm_server
def shown(page, **query):
    test = AppTest.from_file("app.py", default_timeout=300)
    for folded in ("add-job", "more0", "details", "by-hand"):
        test.session_state[folded] = True
    test.run()
    for name, value in query.items():
        test.query_params[name] = value
    test.switch_page(f"pages/{page}.py").run()
    assert not test.exception, test.exception
    return " ".join(str(part.proto) for part in [*test.main, *test.sidebar] if hasattr(part, "proto"))
print(*(word in shown("launch") for word in ("Leash", "Narrow", "Stripes")))
print("Which weights pull at their leash?" in shown("inside", run=sys.argv[1], map="leash"))
table = shown("compare")
print(*(part in table for part in (">all jobs</th>", "**all jobs**: best: within 1 point", "<small>not rated</small>")))
"""
    assert python("-c", code, str(trained[1]["run"])).split() == ["True"] * 7


def test_the_notebook_runs(python: Python, trained: list[dict[str, object]]) -> None:
    told = python("-c", example("notebook")).splitlines()
    assert told[0].startswith("((") and "None" in told[0]
    assert "'1.weight'" in told[1]
    assert str(trained[0]["run"]) in told[2]


@pytest.mark.usefixtures("trained")
def test_the_criterion_has_a_word_for_what_was_measured(python: Python) -> None:
    code = """
from labcore.runs.store import Store
from labcore.studies.criteria import criteria
from labcore.studies.experiments import Arm, Experiment
from labcore.studies.reader import Reader
from labcore.studies.table import table_row
store = Store()
configs = [store.config(record.run) for record in store.records()]
arms = tuple(Arm(config.method.title, config) for config in configs)
findings = Reader(store).look(Experiment("mine", "Mine", arms, (0,)))
print(list(criteria())[-1])
for arm in arms:
    *_, cell = table_row(findings, arm)
    print(arm.label, cell.figure, cell.word, cell.mark, cell.literature)
"""
    name, *told = python("-c", code).splitlines()
    assert name == "overall"
    assert {line.split()[0] for line in told} == {"Leash", "Fine-tuning"}
    assert any(" % best good not rated" in line for line in told)
