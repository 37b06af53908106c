"""Scaling benchmark: its order of models, its page and its plot."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.generation import scaling, scaling_report
from diffcls.models.loading import CARD


def row(channels: str, parameters: int, images: int, accuracy: float) -> dict[str, object]:
    return {
        "unet_channels": channels,
        "parameters": parameters,
        "mflop": parameters / 1e4,
        "training_images": images,
        "accuracy": accuracy,
        "ci_low": accuracy - 0.02,
        "ci_high": accuracy + 0.01,
        "evaluations_per_image": 61.5,
        "bits_per_dim": 1.25,
        "bits_stderr": 0.015,
        "FID": 0.75,
        "extractor": "clip-fashion_mnist-128",
    }


def test_snapshots_come_before_the_model_and_the_last_of_them_is_the_model(tmp_path: Path) -> None:
    for images in (2048, 512, 4096):
        (tmp_path / "training" / "snapshots" / f"{images:08d}").mkdir(parents=True)
    (tmp_path / CARD).write_text(json.dumps({"recipe": {"images": 4096}}), encoding="utf-8")
    names = [path.name for path in scaling.snapshots(tmp_path)]
    assert names == ["00000512", "00002048", tmp_path.name]


def test_page_shows_sizes_and_training_in_order(tmp_path: Path) -> None:
    rows = [row("40 80", 900_000, 700, 0.9), row("24 48", 300_000, 700, 0.85)]
    rows.append(row("40 80", 900_000, 100, 0.75))
    scaling_report.write(rows, tmp_path)
    lines = (tmp_path / "SCALING.md").read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if line.startswith(("| 24", "| 40"))]
    assert table == [
        "| 24 48 | 300,000 | 30 | 700 | 85.0% | 83.0% to 86.0% | 61.5 | 1.250 ± 0.015 | 0.750 |",
        "| 40 80 | 900,000 | 90 | 100 | 75.0% | 73.0% to 76.0% | 61.5 | 1.250 ± 0.015 | 0.750 |",
        "| 40 80 | 900,000 | 90 | 700 | 90.0% | 88.0% to 91.0% | 61.5 | 1.250 ± 0.015 | 0.750 |",
    ]
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


def test_size_of_a_bundled_model_is_below_what_it_may_cost() -> None:
    from diffcls.models.loading import WEIGHTS

    size = scaling.size_of(WEIGHTS / "fashion_mnist")
    assert size["mflop"] <= 130
    assert 1e6 < size["parameters"] < 8e6
