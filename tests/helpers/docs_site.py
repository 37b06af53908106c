"""The documentation site: its build, and what its pages link to."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
SITE_VARIABLE = "DIFFCLS_SITE"
"""Environment variable: a folder with the site that has been built already."""
NEEDED = ("sphinx", "furo", "myst_nb", "myst_parser")
KINDS = (
    "README.html",
    "docs/api.html",
    "docs/index.html",
    "docs/python.html",
    "docs/scikit-learn.html",
    "docs/views.html",
    "results/reference/SPEED.html",
    "search.html",
    "source/diffcls/diffusion/process.py.html",
)
"""One page of each kind: code, signatures, pictures, wide tables, formulas, listings."""

LOADS = (
    re.compile(
        r"<(?:script|img|iframe|source|object|embed)\b[^>]*(?:src|data)=\"(?:https?:)?//[^>]*>"
    ),
    re.compile(r"<link\b(?=[^>]*rel=\"(?:stylesheet|icon|preload|preconnect)\")[^>]*//[^>]*>"),
    re.compile(r"(?:@import\s+|url\()[\"']?(?:https?:)?//[^)\"']*"),
)
"""Markup and style rules that load something from another host."""


def built_site(folder: Path) -> Path:
    """The folder of the site, built into `folder` unless it has been built already."""
    existing = os.environ.get(SITE_VARIABLE)
    if existing:
        return Path(existing)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: pip install 'diffcls[docs]'")
    if not (ROOT / "docs" / "conf.py").is_file():
        pytest.skip("the documentation is not part of this installation")
    site = folder / "site"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", "docs"]
    done = subprocess.run(
        [*command, "-d", str(folder / "doctrees"), str(ROOT), str(site)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return site


@dataclass
class Links(HTMLParser):
    """Anchors and addresses of a page, in order.

    Args:
        anchors: values of ``id``.
        addresses: values of ``href``, ``src``, ``srcset`` and ``data``.
    """

    anchors: set[str] = field(default_factory=set)
    addresses: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            if name in {"href", "src", "srcset"} or (tag == "object" and name == "data"):
                self.addresses.append(value or "")


def read_page(path: Path) -> Links:
    links = Links()
    links.feed(path.read_text(encoding="utf-8"))
    return links


def dead_links(site: Path) -> Iterator[str]:
    """Each local link of the site that leads to no file or no anchor, with its page."""
    pages = {path: read_page(path) for path in sorted(site.rglob("*.html"))}
    for page, links in pages.items():
        for address in dict.fromkeys(links.addresses):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            anchor = unquote(parts.fragment)
            known = pages[target].anchors if target in pages else {anchor}
            if not target.is_file() or (anchor and anchor not in known):
                yield f"{page.relative_to(site)}: {address!r}"


def remote_loads(site: Path) -> Iterator[str]:
    """Each script, style, image or font that a page or style sheet of the site loads by network."""
    for path in sorted([*site.rglob("*.html"), *site.rglob("*.css"), *site.rglob("*.js")]):
        text = path.read_text(encoding="utf-8")
        for mark in LOADS:
            for match in mark.finditer(text):
                yield f"{path.relative_to(site)}: {match.group(0)[:120]}"
