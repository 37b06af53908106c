"""The README of a package index: all its links and pictures are absolute, the rest is the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import absolute_readme

ROOT = Path(__file__).parents[2]
ADDRESS = "https://example.org/owner/name"


def test_links_lead_to_pages_of_the_tag_and_pictures_to_its_files() -> None:
    text = (
        "[a](docs/a.md#b) ![p](docs/p.png) [w](https://e.org) [h](#h) `[c](d)`\n```\n[e](f)\n```\n"
    )
    assert absolute_readme.absolute(text, ADDRESS + "/", "v1.2") == (
        f"[a]({ADDRESS}/blob/v1.2/docs/a.md#b) ![p]({ADDRESS}/raw/v1.2/docs/p.png) "
        "[w](https://e.org) [h](#h) `[c](d)`\n```\n[e](f)\n```\n"
    )


def test_no_relative_link_of_the_readme_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert absolute_readme.main([ADDRESS, "v1.2"]) == 0
    written = (tmp_path / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", written)
    assert len(targets) > 30 and all(re.match(r"https?://", target) for target in targets)
    assert f"{ADDRESS}/raw/v1.2/docs/images/report-images-1280-light.png" in targets
    paths = re.findall(rf"{ADDRESS}/(?:blob|raw)/v1\.2/([^)#\s]+)", written)
    assert all((ROOT / path).exists() for path in paths)
    assert re.sub(rf"{ADDRESS}/(?:blob|raw)/v1\.2/", "", written) == text


def test_an_address_without_its_scheme_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_readme.main(["owner/name", "v1.2"]) == 2
    assert "https://" in capsys.readouterr().err
