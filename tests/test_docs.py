"""What the documentation says of the methods is what the lab knows of them."""

from pathlib import Path

import pytest

from labcore.configs.registry import ABOUT

PAGE = (Path(__file__).parent.parent / "docs" / "methods.md").read_text()


def test_the_table_of_methods_is_the_registry() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert rows == [f"| `{about.name}` | {about.title} | {about.group} | {about.idea} |" for about in ABOUT.values()]


@pytest.mark.parametrize("name", ABOUT)
def test_every_method_has_its_section(name: str) -> None:
    (section,) = [part for part in PAGE.split("\n## ") if f"(`{name}`)\n" in part]
    for part in ("**Formula**", "**The lab shows**", "**Source**"):
        assert part in section, part
