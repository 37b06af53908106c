"""Pages in headless Chromium: `open_page` opens one, `audit` asserts that it has no defect.

    def test_the_report_is_accessible(open_page, audit, width, scheme):
        page = open_page(path, width, scheme)
        audit(page)

`width` and `scheme` run a test at 1280 and 390 px, in light and dark.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.browser import REQUIRED_VARIABLE, Pages, reason_to_skip, unfold
from helpers.docs_site import built_site
from helpers.page_audit import defects

from benchmarks.core.chromium import SCHEMES, WIDTHS, chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

REASON = reason_to_skip()


class NeedsBrowser(pytest.File):
    """A test file that is skipped, with its reason, where there is no browser."""

    def collect(self) -> list[pytest.Item]:
        assert REASON is not None
        if os.environ.get(REQUIRED_VARIABLE) == "1":
            raise pytest.UsageError(REASON)
        pytest.skip(REASON)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> NeedsBrowser | None:
    return None if REASON is None else NeedsBrowser.from_parent(parent, path=module_path)


# of a module, not of the session: playwright's event loop must not outlive its tests
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(params=WIDTHS)
def width(request: pytest.FixtureRequest) -> int:
    """Width of the viewport in CSS pixels."""
    return int(request.param)


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    """The visitor's preferred colour scheme."""
    return str(request.param)


@pytest.fixture
def pages(browser: Browser) -> Iterator[Pages]:
    opened = Pages(browser)
    yield opened
    opened.close()


@pytest.fixture
def open_page(pages: Pages) -> Callable[..., Page]:
    """(url or path, width=1280, scheme="light", javascript=True) -> the loaded page."""
    return pages.open


@pytest.fixture
def audit(pages: Pages) -> Callable[..., None]:
    """(page, exclude=(), ignore=()): asserts that the page has no defect.

    `exclude` has selectors of elements that belong to others, `ignore` has rules of axe.
    """

    def assert_no_defect(
        page: Page, exclude: Sequence[str] = (), ignore: Sequence[str] = ()
    ) -> None:
        found = defects(page, pages.logs[page], exclude, ignore)
        assert not found, "\n".join([f"{len(found)} defects of {page.url}", *found])

    return assert_no_defect


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the documentation site."""
    return built_site(tmp_path_factory.mktemp("docs"))


@pytest.fixture
def audit_pages(
    site: Path, open_page: Callable[..., Page], audit: Callable[..., None]
) -> Callable[[Iterable[str], int, str], None]:
    """(names, width, scheme): asserts that no page of the site has a defect."""

    def assert_no_defect(names: Iterable[str], width: int, scheme: str) -> None:
        found = []
        for name in names:
            page = open_page(site / name, width, scheme)
            unfold(page)
            try:
                audit(page)
            except AssertionError as error:
                found.append(str(error).partition("\nassert ")[0])
            page.close()
        assert not found, "\n".join(found)

    return assert_no_defect
