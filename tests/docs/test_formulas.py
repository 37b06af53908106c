"""Formulas of the pages: the same on the site, which knows `$…$`, and in any reader of Markdown.

A reader that knows no formulas would take `_` or a backslash in them for its own: GitHub's, whose
formulas go through its Markdown first, then shows another formula or none.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
FORMULA = re.compile(r"\$\$[^$]+\$\$|\$[^$\n]+\$")
PLAIN_SYMBOLS = re.compile(r"\b[xεασ]_[t0s]\b|[Σ√‖∇]|[ε]̂|x̂")
"""Parts of formulas in plain text."""


def prose(text: str) -> str:
    """The text without blocks of code and code between backticks."""
    return re.sub(r"`[^`]+`", "", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))


def formulas(text: str) -> list[str]:
    """Formulas of a page with their dollars, in order."""
    return FORMULA.findall(prose(text))


def as_read(text: str) -> str:
    """The text of a page after a reader of CommonMark and tables, without its markup."""
    markdown_it = pytest.importorskip("markdown_it")
    tokens = markdown_it.MarkdownIt("commonmark").enable("table").parse(text)
    leaves = [leaf for token in tokens for leaf in token.children or ()]
    return "".join("\n" if leaf.type == "softbreak" else leaf.content for leaf in leaves)


def test_a_formula_that_markdown_changes_is_found() -> None:
    assert formulas("a $x_t$ `$HOME` $$y$$\n```\n$z$\n```\n") == ["$x_t$", "$$y$$"]
    kept = r"$\hat x_0 + \sigma_{t,s}$"
    assert kept in as_read(f"with {kept} and {kept}")
    for broken in (r"$\hat{x}_0$ and $x_{t}$", r"$a\,b$", r"$\{a\}$"):
        assert not all(formula in as_read(broken) for formula in formulas(broken))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_formulas_pass_through_a_reader_of_markdown_unchanged(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    read = as_read(text)
    assert not [formula for formula in formulas(text) if formula not in read]


@pytest.mark.parametrize(
    ("name", "least"),
    [("how-it-works", 15), ("views", 7), ("architecture", 3), ("rejection", 2), ("explain", 1)],
)
def test_equations_of_a_page_are_formulas(name: str, least: int) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert sum(formula.startswith("$$") for formula in formulas(text)) >= least
    assert not PLAIN_SYMBOLS.findall(FORMULA.sub("", prose(text)))
