"""The documentation site in the browser, on screens and phones, light and dark."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.browser import unfold
from helpers.docs_site import built_site

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Open = Callable[..., "Page"]
Audit = Callable[..., None]

KINDS = [
    "README.html",
    "docs/api.html",
    "docs/index.html",
    "docs/python.html",
    "docs/scikit-learn.html",
    "docs/views.html",
    "results/reference/SPEED.html",
    "search.html",
    "source/diffcls/diffusion/process.py.html",
]
"""One page of each kind: code, signatures, pictures, wide tables, formulas, listings."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_site(tmp_path_factory.mktemp("docs"))


def pages_of(site: Path) -> list[str]:
    """All pages but listings of source files, which are one kind of page, and the entry."""
    names = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    left_out = {"source", "index.html"}
    return [name for name in names if name.partition("/")[0] not in left_out]


def audit_all(
    site: Path, names: Iterable[str], open_page: Open, audit: Audit, width: int, scheme: str
) -> None:
    defects = []
    for name in names:
        page = open_page(site / name, width, scheme)
        unfold(page)
        try:
            audit(page)
        except AssertionError as error:
            defects.append(str(error).partition("\nassert ")[0])
        page.close()
    assert not defects, "\n".join(defects)


def test_each_kind_of_page_has_no_defect(
    site: Path, open_page: Open, audit: Audit, width: int, scheme: str
) -> None:
    audit_all(site, KINDS, open_page, audit, width, scheme)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_no_page_of_the_site_has_a_defect(
    site: Path, open_page: Open, audit: Audit, width: int, scheme: str
) -> None:
    names = [name for name in pages_of(site) if name not in KINDS]
    assert len(names) > 40
    audit_all(site, names, open_page, audit, width, scheme)


def test_wide_tables_take_the_keyboards_focus_where_they_scroll(
    site: Path, open_page: Open
) -> None:
    page = open_page(site / "results/reference/SPEED.html", 390)
    boxes = page.locator(".table-wrapper")
    for box in boxes.all():
        scrolls = box.evaluate("box => box.scrollWidth > box.clientWidth + 1")
        assert box.evaluate("box => box.tabIndex === 0") == scrolls
    box = boxes.first
    box.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("box => box.scrollLeft > 0", arg=box.element_handle())


def test_pages_are_read_without_scripts(site: Path, open_page: Open, audit: Audit) -> None:
    page = open_page(site / "docs/search.html", 390, javascript=False)
    assert page.get_by_role("heading", name="Searches").first.is_visible()
    # only scripts know which tables scroll
    audit(page, ignore=["scrollable-region-focusable"])


def test_the_entry_leads_to_the_contents(site: Path, open_page: Open) -> None:
    page = open_page(site / "index.html", javascript=False)
    page.wait_for_url("**/docs/index.html")
    assert page.get_by_role("heading", name="diffcls").first.is_visible()


def test_a_search_finds_a_page(site: Path, open_page: Open) -> None:
    page = open_page(site / "search.html")
    page.goto(f"{page.url}?q=gradient")
    page.wait_for_selector("#search-results a[href$='search.html']")


def test_a_place_in_the_code_is_shown_at_its_line(site: Path, open_page: Open) -> None:
    page = open_page(site / "docs/views.html")
    page.get_by_role("link", name="diffusion/process.py:Step.forward").click()
    line = page.locator(".line:target")
    assert "def forward" in line.inner_text()
    assert line.is_visible()
