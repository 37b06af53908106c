"""The documentation site: every local link leads somewhere, and nothing is loaded from the web."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.docs_site import ROOT, built_site, dead_links, read_page, remote_loads

import diffcls
import diffcls.integrations

slow = pytest.mark.slow  # the site is built


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_site(tmp_path_factory.mktemp("docs"))


def text_of(page: Path) -> str:
    return re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))


def test_dead_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<p id="x"><a href="#x"></a><a href="b.html#y"></a></p>')
    (tmp_path / "b.html").write_text('<img src="no.png"><a href="a.html"></a><a href="#z"></a>')
    assert list(dead_links(tmp_path)) == [
        "a.html: 'b.html#y'",
        "b.html: 'no.png'",
        "b.html: '#z'",
    ]


def test_the_workflow_keeps_the_folder_that_tox_builds() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    (kept,) = re.findall(r"name: documentation\n\s+path: (\S+)", workflow)
    assert f"{{toxinidir}}/{kept}" in (ROOT / "tox.ini").read_text(encoding="utf-8")


def test_loads_from_the_web_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="https://e.org">e</a><script src="https://e.org/a.js"></script>'
        '<link rel="stylesheet" href="//e.org/a.css"><img alt="" src="a.png">'
    )
    (tmp_path / "a.css").write_text('@import "https://e.org/b.css"; a { background: url(b.png) }')
    assert len(list(remote_loads(tmp_path))) == 3


@slow
def test_every_local_link_of_the_site_leads_somewhere(site: Path) -> None:
    assert not list(dead_links(site))


@slow
def test_the_site_loads_nothing_from_the_web(site: Path) -> None:
    assert not list(remote_loads(site))


@slow
def test_every_page_of_the_repository_is_a_page_of_the_site(site: Path) -> None:
    folders = ("", "docs", "benchmarks", "results/reference")
    pages = [p for f in folders for p in (ROOT / f).glob("*.md")]
    assert len(pages) > 30
    missing = [p for p in pages if not (site / p.relative_to(ROOT)).with_suffix(".html").is_file()]
    assert not missing


@slow
def test_the_api_page_documents_every_public_name(site: Path) -> None:
    anchors = read_page(site / "docs" / "api.html").anchors
    names = {f"diffcls.{name}" for name in diffcls.__all__ if not name.startswith("_")}
    names |= {f"diffcls.integrations.{name}" for name in diffcls.integrations.__all__}
    assert not names - anchors


@slow
def test_single_backticks_of_docstrings_are_rendered_as_code(site: Path) -> None:
    """Docstrings write code as in Markdown; unrendered, the backticks would stay."""
    assert "`" not in text_of(site / "docs" / "api.html")


@slow
def test_the_entry_leads_to_the_contents(site: Path) -> None:
    (address,) = read_page(site / "index.html").addresses
    assert (site / address).is_file()
