"""What the documentation says of the methods is what the lab knows of them."""

from pathlib import Path

import pytest

from labcore.configs.registry import ABOUT, of_group

PAGE = (Path(__file__).parent.parent / "docs" / "methods.md").read_text()


# A method that somebody is adding stands in the lab before it stands here.
TOLD = [name for name in ABOUT if f"(`{name}`)\n" in PAGE]


def test_the_table_of_methods_is_the_registry() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    told = [ABOUT[name] for name in TOLD]
    assert rows == [f"| `{about.name}` | {about.title} | {about.group} | {about.idea} |" for about in told]
    assert {about.name for about in of_group("article")} <= set(TOLD)


@pytest.mark.parametrize("name", TOLD)
def test_every_method_has_its_section(name: str) -> None:
    (section,) = [part for part in PAGE.split("\n## ") if f"(`{name}`)\n" in part]
    for part in ("**Formula**", "**The lab shows**", "**Source**"):
        assert part in section, part
