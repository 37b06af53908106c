"""Extensions of the documentation site: tables of contents, formulas, places in the code."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from diffcls.diffusion import schedule

EXTENSIONS = Path(__file__).parents[2] / "docs" / "extensions"


def extension(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(EXTENSIONS))
    return importlib.import_module(name)


def test_a_list_of_links_becomes_a_table_of_contents(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = extension("contents", monkeypatch)
    text = (
        "# A\n\n- [x](x.md)\n\n## B\n\n- [One](one.md): 1\n- [Two](../TWO.md)\n\n## C\n\nno list\n"
    )
    tables = contents.with_tables(text)
    assert tables.count("{toctree}") == 1
    assert ":caption: B\n\nOne <one.md>\nTwo <../TWO.md>\n```" in tables
    assert tables.index("{toctree}") < tables.index("## C")


def test_a_formula_becomes_mathml(monkeypatch: pytest.MonkeyPatch) -> None:
    mathml = extension("mathml", monkeypatch)
    from docutils import nodes

    inline = mathml.markup(nodes.math("", r"x_t = \alpha x_0"), as_block=False)
    assert inline.startswith("<math") and "<msub>" in inline and "α" in inline
    assert 'display="block"' in mathml.markup(nodes.math_block("", "1"), as_block=True)


def leaves(element: ElementTree.Element) -> list[str]:
    return [part.text or "" for part in element.iter() if not len(part)]


def test_a_subscript_stands_beside_an_accented_symbol(monkeypatch: pytest.MonkeyPatch) -> None:
    """TeX puts it there; below the symbol it would read as a limit."""
    mathml = extension("mathml", monkeypatch)
    from docutils import nodes

    for symbol, letter in ((r"\hat x", "x"), (r"\hat{x}", "x"), (r"\bar\varepsilon", "ε")):
        root = ElementTree.fromstring(mathml.markup(nodes.math("", f"{symbol}_0"), False))
        (beside,) = root
        assert beside.tag.endswith("}msub")
        above, subscript = beside
        assert above.tag.endswith("}mover") and leaves(above)[0] == letter
        assert leaves(subscript) == ["0"]
    (limits,) = ElementTree.fromstring(mathml.markup(nodes.math("", r"\sum_a^b"), True))
    assert limits.tag.endswith("}munderover") and leaves(limits) == ["∑", "a", "b"]


def test_a_function_stands_apart_from_its_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    mathml = extension("mathml", monkeypatch)
    from docutils import nodes

    assert "rspace" in mathml.markup(nodes.math("", r"\log p"), as_block=False)
    assert "rspace" not in mathml.markup(nodes.math("", r"\log(p)"), as_block=False)


def test_an_unknown_command_of_a_formula_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    mathml = extension("mathml", monkeypatch)
    from docutils import nodes

    with pytest.raises(mathml.MathError, match="nosuch"):
        mathml.markup(nodes.math("", r"\nosuch"), as_block=False)


def test_a_place_is_the_line_of_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines are those that Python's own inspection gives, decorators passed over."""
    source_pages = extension("source_pages", monkeypatch)
    source = Path(schedule.__file__).read_text(encoding="utf-8")
    lines = {name: line for line, name in source_pages.places(source).items()}
    method = schedule.NoiseSchedule.from_betas
    code, first = inspect.getsourcelines(method)
    offset = next(i for i, line in enumerate(code) if line.lstrip().startswith("def "))
    assert lines["NoiseSchedule.from_betas"] == first + offset


def test_each_line_of_a_listing_has_an_anchor(monkeypatch: pytest.MonkeyPatch) -> None:
    source_pages = extension("source_pages", monkeypatch)
    markup = "<div><pre><span></span>a = 1\n\nb = 2\n</pre></div>"
    page = source_pages.listing("a = 1\n\nb = 2\n", markup, {1: "a", 3: "b"})
    assert [page.count(f'id="{name}"') for name in ("a", "L2", "b")] == [1, 1, 1]
    assert page.endswith("</pre></div>")
