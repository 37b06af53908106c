"""Every page of the documentation site in the browser, in a worker of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.docs_site import KINDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def pages_of(site: Path) -> list[str]:
    """All pages but listings of source files, which are one kind of page, and the entry."""
    names = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    left_out = {"source", "index.html"}
    return [name for name in names if name.partition("/")[0] not in left_out]


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_no_page_of_the_site_has_a_defect(
    site: Path, audit_pages: Callable[..., None], width: int, scheme: str
) -> None:
    names = [name for name in pages_of(site) if name not in KINDS]
    assert len(names) > 40
    audit_pages(names, width, scheme)
