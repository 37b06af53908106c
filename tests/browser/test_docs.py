"""The documentation site in the browser, on screens and phones, light and dark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.docs_site import KINDS

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Open = Callable[..., "Page"]
Audit = Callable[..., None]
AuditPages = Callable[..., None]


def test_each_kind_of_page_has_no_defect(audit_pages: AuditPages, width: int, scheme: str) -> None:
    audit_pages(KINDS, width, scheme)


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
