"""What other packages bring: found by their entry points, and named in a sentence where they are broken."""

from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from labcore import plugins

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
    assert plugins.load("reuse_lab.things") == ({"three": 3, "two": 2}, [])
    assert plugins.load("reuse_lab.nothing") == ({}, [])
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

    found, problems = plugins.load("reuse_lab.things", odd, taken=("taken",))
    assert found == {"good": "good is 1"}
    assert problems == [
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
    assert plugins.load("reuse_lab.things", odd, taken=("taken",))[1] == problems
    assert plugins.problems() == problems  # each once, however often it is asked for
