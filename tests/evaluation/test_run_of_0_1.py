"""Run folders of version 0.1, where the revision of a model was the hash of its files alone.

Their format is still read: with that revision a run is resumed under its fingerprint, with its
records. With today's revision it is scored again beside them.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import diffcls
from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data.dataset import Item
from diffcls.models.denoiser import ModelCard
from diffcls.scoring.class_scores import ClassScores
from diffcls.support.hashing import hash_files

FOLDER = Path(__file__).parents[1] / "reference" / "run_of_0_1"
FINGERPRINT = "3be83fc7d3c4f6aa"
RECORDS = f"runs/{FINGERPRINT}/records-0-of-1.jsonl"
OPTIONS: dict[str, Any] = {"limit": 3, "draws": 4, "threads": 1, "device": "cpu", "quiet": True}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the output folder of ``--limit 3 --draws 4 --threads 1``."""
    return Path(shutil.copytree(FOLDER, tmp_path / "out"))


@pytest.fixture
def revision_of_0_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Revisions without the temperature and the class names."""

    def of_files(files: Iterable[Path], folder: Path, card: ModelCard) -> str:
        return hash_files(files, folder)

    monkeypatch.setattr("diffcls.models.loading.revision_of", of_files)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the images that are scored from now on."""
    ids: list[str] = []
    classify = DiffusionMethod.classify

    def noted(method: DiffusionMethod, items: Iterable[Item]) -> Iterator[ClassScores]:
        for result in classify(method, items):
            ids.append(result.image_id)
            yield result

    monkeypatch.setattr(DiffusionMethod, "classify", noted)
    return ids


@pytest.mark.usefixtures("revision_of_0_1")
def test_complete_run_is_not_scored_again(folder: Path, scored: list[str]) -> None:
    before = (folder / RECORDS).read_bytes()
    (row,) = diffcls.run_evaluation(**OPTIONS, output_dir=str(folder))
    assert row["fingerprint"] == FINGERPRINT
    assert (row["status"], row["n_scored"], row["accuracy"]) == ("complete", 3, 1.0)
    assert scored == []
    assert (folder / RECORDS).read_bytes() == before
    assert [path.name for path in (folder / "runs").iterdir()] == [FINGERPRINT]
    with open(folder / "leaderboard.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # version 0.1 wrote published rows first
    assert [row["source"] for row in rows] == ["measured", "published"]
    assert rows[0]["fingerprint"] == FINGERPRINT
    stored = json.loads((folder / f"runs/{FINGERPRINT}/run.json").read_text(encoding="utf-8"))
    assert rows[0]["date"] == stored["date"]


@pytest.mark.usefixtures("revision_of_0_1")
def test_interrupted_run_is_resumed_with_the_missing_image_alone(
    folder: Path, scored: list[str]
) -> None:
    lines = (folder / RECORDS).read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / RECORDS).write_text("".join(lines[:-1]), encoding="utf-8")
    (row,) = diffcls.run_evaluation(**OPTIONS, output_dir=str(folder))
    assert row["fingerprint"] == FINGERPRINT and row["status"] == "complete"
    missing = json.loads(lines[-1])
    assert scored == [missing["image_id"]]
    resumed = (folder / RECORDS).read_text(encoding="utf-8").splitlines(keepends=True)
    assert resumed[:-1] == lines[:-1]
    again = json.loads(resumed[-1])
    assert again["ranking"] == missing["ranking"]
    assert again["evaluations"] == missing["evaluations"]
    assert again["scores"] == pytest.approx(missing["scores"], rel=1e-4)


def test_with_todays_revision_it_is_scored_again_beside_the_old_records(
    folder: Path, scored: list[str]
) -> None:
    before = (folder / RECORDS).read_bytes()
    (row,) = diffcls.run_evaluation(**OPTIONS, output_dir=str(folder))
    assert row["fingerprint"] != FINGERPRINT and row["accuracy"] == 1.0
    assert len(scored) == 3
    assert (folder / RECORDS).read_bytes() == before
    with open(folder / "leaderboard.csv", encoding="utf-8") as file:
        sources = [row["source"] for row in csv.DictReader(file)]
    assert sources == ["measured", "measured", "published"]
