"""Strangers' words as Markdown, and that no page draws a sentence of theirs in another way."""

import ast
from pathlib import Path

import pytest

from labcore.configs.base import plain
from pages.parts import markup

PAGES = sorted((Path(__file__).parent.parent.parent / "pages").rglob("*.py"))


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("![t](http://a.b/p.png)", r"\!\[t\](http\://a.b/p.png)"),
        ("<img src=x> `a` **b** _c_ ~d~ $e$", r"\<img src=x\> `a` \*\*b\*\* \_c\_ \~d\~ \$e\$"),
        (":red[x] :material/face: at 10:30", r"\:red\[x\] \:material/face: at 10:30"),
        ("- a list", r"\- a list"),
        ("12. a list", r"12\. a list"),
        ("# a title\n\n    code\n| a | b |", r"\# a title code \| a \| b \|"),
        ("`check --repair` mends it_", r"`check --repair` mends it\_"),
        ("`![t](a)` ![t](a)", r"`![t](a)` \!\[t\](a)"),
        ("a ` ![t](a) `` *b* `", r"a \` \!\[t\](a) \`\` \*b\* \`"),
        ("\\`*a*`", r"\\\`\*a\*\`"),
        ("``` *a*", r"\`\`\` \*a\*"),
        ("a \\* b", r"a \\\* b"),
        ("It broke: training.batch_size is 3.", r"It broke: training.batch\_size is 3."),
    ],
)
def test_a_strangers_words_are_drawn_letter_by_letter(text: str, drawn: str) -> None:
    assert markup.literal(text) == drawn


def test_what_is_too_long_to_read_is_cut() -> None:
    assert len(markup.literal("x" * 10**6)) < 1.01 * markup.MOST_LITERAL


def test_a_name_holds_no_marks_and_is_short() -> None:
    assert plain("![t](http://a.b) <b>c</b> {d} `e` $f$ \\g\n\x00") == "!(t)(http:/a.b) ‹b›c‹/b› (d) 'e' SfS /g  "
    assert plain("Hot dogs, 0 to 3: 50 % & more") == "Hot dogs, 0 to 3: 50 % & more"
    assert len(plain("x" * 10**6)) == 200


@pytest.mark.parametrize("path", PAGES, ids=[path.stem for path in PAGES])
def test_every_error_and_warning_is_drawn_literally_or_is_a_pages_own(path: Path) -> None:
    """A page's own words stand in it; whatever else is shown as an error or warning has come from elsewhere."""
    for call in ast.walk(ast.parse(path.read_text())):
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") in ("error", "warning"):
            shown = call.args[0]
            for part in shown.values if isinstance(shown, ast.JoinedStr) else [shown]:
                value = part.value if isinstance(part, ast.FormattedValue) else part
                told = ast.unparse(value)
                own = isinstance(value, ast.Constant) or told.startswith(("markup.literal(", "len("))
                assert own, ast.unparse(call)
