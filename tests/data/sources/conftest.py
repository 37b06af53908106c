"""Fixtures of a small Hub: an empty cache without network, and a local server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.small_hub import Hub, in_place_of_the_hub


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty cache of the Hub's libraries, without network."""
    constants = pytest.importorskip(
        "huggingface_hub.constants", reason="not in the light environment"
    )
    datasets = pytest.importorskip("datasets", reason="not in the light environment")
    folder = tmp_path / "home" / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "home" / "datasets")
    monkeypatch.delenv("HF_DATASETS_OFFLINE", raising=False)
    return folder


@pytest.fixture
def online(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Local server in place of the Hub."""
    with in_place_of_the_hub(monkeypatch) as hub:
        yield hub
