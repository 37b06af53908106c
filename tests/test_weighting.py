"""Weightings that are learned: what they find, what they refuse, and how they are kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from diffcls.errors import DataError, UsageError
from diffcls.parameterization import check_weighting, loss_weight
from diffcls.schedule import NoiseSchedule
from diffcls.weighting import learn_weighting, read_weighting

T, K, N = 1000, 4, 30
RNG = np.random.default_rng(5)


def schedule() -> NoiseSchedule:
    angle = np.linspace(0.05, 1.5, T)
    return NoiseSchedule(np.cos(angle), np.sin(angle), np.arange(T, dtype=float))


def made(count: int, seed: int, telling: NDArray[np.bool_]) -> tuple[list[NDArray], list[int]]:
    """Tables whose right class is better by 0.4 on the telling draws, all else noise of 1."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(K, size=count).tolist()
    tables = rng.normal(5, 1, (count, K, N)).astype(np.float32)
    for table, label in zip(tables, labels, strict=True):
        table[label] -= 0.4 * telling
    return list(tables), labels


@pytest.mark.parametrize("noisy", [True, False])
def test_weight_goes_where_classes_differ(noisy: bool) -> None:
    s, indices = schedule(), np.linspace(0, T - 1, N).astype(int)
    log_snr = np.log(s.snr)[indices]
    telling = log_snr < np.median(log_snr) if noisy else log_snr > np.median(log_snr)
    learned = learn_weighting(*made(400, 0, telling), log_snr, "made/validation")
    weight = loss_weight(f"learned@{learned['learned_on']}:{learned['knots']}", s)[indices]
    assert weight[telling].mean() > 2 * weight[~telling].mean()
    tables, labels = made(600, 1, telling)
    weighted, plain = (
        np.mean([(t * w).mean(axis=1).argmin() == k for t, k in zip(tables, labels, strict=True)])
        for w in (weight, np.ones(N))
    )
    assert weighted > plain


def test_file_and_option_say_the_same(tmp_path: Path) -> None:
    log_snr = np.linspace(3, -3, N)
    learned = learn_weighting(*made(50, 2, log_snr > 0), log_snr, "made/validation")
    path = tmp_path / "w.json"
    path.write_text(json.dumps(learned))
    weighting = read_weighting(path)
    check_weighting(weighting)
    assert weighting.startswith("learned@made/validation:")
    place, height = np.array([p.split("=") for p in weighting.split(":")[1].split(",")], float).T
    s = schedule()
    expected = np.exp(np.interp(np.log(s.snr), place, height))
    assert np.allclose(loss_weight(weighting, s), expected / expected.mean())


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"learned_on": "x"}', '{"learned_on": "x", "knots": "1=2,0=1"}']
)
def test_file_that_is_no_weighting_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="cannot read a"):
        read_weighting(path)
    with pytest.raises(UsageError, match="cannot read a weighting"):
        read_weighting(tmp_path / "none.json")


def test_tables_with_holes_are_refused() -> None:
    tables, labels = made(5, 3, np.ones(N, dtype=bool))
    tables[2][1, 4] = np.nan
    with pytest.raises(DataError, match="full tables only"):
        learn_weighting(tables, labels, np.linspace(3, -3, N), "made/validation")


def test_truncated_snr_is_that_of_the_paper() -> None:
    s = schedule()
    expected = np.maximum(s.snr, 1) / s.snr  # max(SNR, 1) on x0, as a factor of the noise's error
    assert np.allclose(loss_weight("truncated-snr", s), expected / expected.mean())
