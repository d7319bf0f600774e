"""What other packages bring: found by their entry points, and named in a sentence where they are broken."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from labcore import plugins
from pages.parts import markup
from tests.conftest import in_fresh_process

Announce = Callable[..., Path]


@pytest.fixture
def announce(tmp_path: Path) -> Announce:
    """Make a package as pip would install it: one module with this code, and what it announces by entry points."""

    def make(package: str, code: str, **groups: dict[str, str]) -> Path:
        site = tmp_path / "site"
        about = site / f"{package}-1.0.dist-info"
        about.mkdir(parents=True)
        (site / f"{package}.py").write_text(dedent(code))
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines: list[str] = []
        for group, points in groups.items():
            lines += [f"[reuse_lab.{group}]", *(f"{name} = {value}" for name, value in points.items())]
        (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
        return site

    return make


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has not looked for packages yet."""
    monkeypatch.setattr(plugins, "_problems", {})
    plugins._announced.cache_clear()
    yield
    plugins._announced.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_what_is_announced_is_found_by_name(announce: Announce, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(announce("pluginone", "ONE, TWO = 1, 2", things={"two": "pluginone:TWO"}))
    announce("plugintwo", "THREE = 3", things={"three": "plugintwo:THREE"}, others={"one": "pluginone:ONE"})
    assert plugins.load("reuse_lab.things") == {"three": 3, "two": 2}
    assert plugins.load("reuse_lab.nothing") == {}
    assert plugins.problems() == []


@pytest.mark.usefixtures("fresh")
def test_what_is_broken_is_named_and_the_rest_is_found(announce: Announce, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(announce("pluginone", "GOOD, BAD = 1, 2", things={"good": "pluginone:GOOD"}))
    announce("broken1", "import a_module_that_nobody_has", things={"first": "broken1:X"})
    announce("broken2", "raise SystemExit('bye')", things={"second": "broken2:X"})
    announce("broken3", "X = 1", things={"third": "broken3:Y", "good": "broken3:X", "taken": "broken3:X"})
    announce("broken4", "X = 2", things={"even": "broken4:X"})

    def odd(name: str, value: int) -> str:
        if value % 2 == 0:
            raise ValueError("it is even")
        return f"{name} is {value}"

    for _ in range(2):  # each is told once, however often it is asked for
        assert plugins.load("reuse_lab.things", odd, taken=("taken",)) == {"good": "good is 1"}
    assert plugins.problems() == [
        "broken4 1.0 announces 'even' in reuse_lab.things (broken4:X), which is left out: it is even.",
        "broken1 1.0 announces 'first' in reuse_lab.things (broken1:X), which is left out: "
        "No module named 'a_module_that_nobody_has'.",
        "pluginone 1.0 announces 'good' in reuse_lab.things (pluginone:GOOD), which is left out: "
        "the name 'good' is taken already.",
        "broken2 1.0 announces 'second' in reuse_lab.things (broken2:X), which is left out: SystemExit: bye.",
        "broken3 1.0 announces 'taken' in reuse_lab.things (broken3:X), which is left out: "
        "the name 'taken' is taken already.",
        "broken3 1.0 announces 'third' in reuse_lab.things (broken3:Y), which is left out: "
        "AttributeError: module 'broken3' has no attribute 'Y'.",
    ]


# --- a task and a backbone of another package -------------------------------------------------------------------------

RECORDS = """
import numpy as np

from labcore.configs.backbone import BackboneInfo
from labcore.tasks.source import Source


def draw(label, index):
    picture = np.random.default_rng([label, index]).integers(0, 99, (16, 16, 1), dtype=np.uint8)
    picture[:: 2 + label] += 100
    return picture


def load():
    by_class = np.stack([[draw(label, index) for index in range(24)] for label in range(2)])
    return by_class[:, :20], by_class[:, 20:]


STRIPES = Source(
    name="stripes",
    title="Stripes",
    description="How wide are the stripes?",
    classes=("narrow", "wide"),
    load=load,
    picture=draw,
    fingerprint=lambda: "5" * 64,
    images=(20, 4),
)
ONE_LAYER = BackboneInfo(
    title="One layer",
    description="One fully connected layer over the raw pixels.",
    builder="stripes_network:build",
    start="kaiming",
    image_size=16,
    blocks=("layer",),
    weights=12_304,
    has_norm=False,
    smallest_layer=12_288,
)
"""
NETWORK = """
import torch.nn.functional as F
from torch import nn

from labcore.networks.trunk import Trunk


class OneLayer(Trunk):
    block_names, width = ("layer",), 16

    def __init__(self, image_size):
        super().__init__()
        self.owners = {"layer": 0}
        self.layer = nn.Linear(3 * image_size**2, self.width)

    def run_block(self, index, x):
        return F.relu(self.layer(x.flatten(1)))


def build(name, image_size):
    return OneLayer(image_size)
"""


@pytest.fixture
def installed(announce: Announce, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes find a package with a task and a backbone, and one that is broken."""
    good = {"tasks": {"stripes": "stripes:STRIPES"}, "backbones": {"one_layer": "stripes:ONE_LAYER"}}
    site = announce("stripes", RECORDS, **good)
    (site / "stripes_network.py").write_text(NETWORK)
    announce("broken", "X = 1", tasks={"odd": "broken:X"}, backbones={"mlp": "broken:X", "gone": "broken:Y"})
    monkeypatch.setenv("PYTHONPATH", str(site))


PROBLEMS = [
    "broken 1.0 announces 'gone' in reuse_lab.backbones (broken:Y), which is left out: "
    "AttributeError: module 'broken' has no attribute 'Y'.",
    "broken 1.0 announces 'mlp' in reuse_lab.backbones (broken:X), which is left out: the name 'mlp' is taken already.",
    "broken 1.0 announces 'odd' in reuse_lab.tasks (broken:X), which is left out: "
    "it is no labcore.tasks.source.Source but of type int.",
]


def command(*words: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parent.parent
    return subprocess.run([sys.executable, "-m", "labcore", *words], capture_output=True, text=True, cwd=root)


@pytest.mark.usefixtures("installed")
def test_the_command_line_lists_and_trains_what_another_package_brings() -> None:
    for what, name in (("tasks", "stripes"), ("backbones", "one_layer")):
        told = command(what, "--json")
        assert told.returncode == 0
        assert name in [row["name"] for row in json.loads(told.stdout)]
        assert told.stderr.splitlines() == [f"Warning: {problem}" for problem in PROBLEMS]
    settings = ("--backbone", "one_layer", "--tasks", "stripes,digits:0-1", "--set", "training.epochs=1", "--json")
    run = command("run", "--preset", "quick", "--method", "ewc", *settings)
    result = json.loads(run.stdout)
    assert result["state"] == "complete"
    assert result["tasks"] == ["stripes", "digits:0-1"]
    refused = command("run", "--preset", "quick", "--set", "backbone.name=x")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("backbone.name is 'x'; allowed: efficientnet_lite0, small_cnn, ")
    assert refused.stderr.endswith(" or one_layer.\n")


@pytest.mark.usefixtures("installed")
def test_launch_offers_what_another_package_brings() -> None:
    code = """
import json
from streamlit.testing.v1 import AppTest

test = AppTest.from_file("app.py", default_timeout=600)
test.session_state["add-job"] = True
test.run().run()  # a fresh server's first page is a face that waits
(box,) = [box for box in test.selectbox if "backbone" in box.label]
box.select("one_layer").run()
test.button(key="add/stripes").click().run()
assert not test.exception, test.exception
print(json.dumps([test.session_state["draft"], [warning.value for warning in test.warning]]))
"""
    draft, warnings = json.loads(in_fresh_process(code).splitlines()[-1])
    assert draft["backbone"]["name"] == "one_layer"
    assert draft["tasks"][-1]["name"] == "stripes"
    assert warnings == [markup.literal(problem) for problem in PROBLEMS]
