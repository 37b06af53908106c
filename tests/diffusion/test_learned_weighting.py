"""Weightings that are learned: what they find, what they refuse, and how they are kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, special

from diffcls.diffusion.learned_weighting import learn_weighting, read_weighting
from diffcls.diffusion.parameterization import check_weighting, loss_weight
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.support.errors import DataError, UsageError

T, K, N = 1000, 4, 30


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


def test_learned_knots_are_the_optimum_of_the_likelihood_and_its_prior() -> None:
    log_snr = np.linspace(4, -4, N)
    tables, labels = made(200, 4, log_snr < 0)
    knots = learn_weighting(tables, labels, log_snr, "made/validation")["knots"]
    place, theta = np.array([knot.split("=") for knot in knots.split(",")], float).T
    errors = np.array(tables, dtype=float)
    errors -= errors.mean(axis=1, keepdims=True)

    def loss(theta: NDArray[np.float64]) -> float:
        weight = np.exp([np.interp(x, place, theta) for x in log_snr])
        likely = special.log_softmax(-(errors * weight).sum(axis=2) / errors.std(), axis=1)
        held = ((theta - theta.mean()) ** 2).sum() / 10
        return float(held / 2 - sum(row[k] for row, k in zip(likely, labels, strict=True)))

    found = optimize.minimize(loss, np.zeros(len(theta))).x  # its slopes are differences
    assert np.ptp(theta) > 1
    assert theta == pytest.approx(found - found.mean(), abs=0.02)


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


@pytest.mark.parametrize(
    "knots", ["", "1", "1=a", "1=2=3", "0=1,0=2", "1=0,0=1", "0=nan", "inf=0", "0=1,"]
)
def test_knots_that_say_no_weights_are_refused(knots: str) -> None:
    for weighting in (f"learned@here:{knots}", f"learned@here{knots}"):
        with pytest.raises(UsageError, match="cannot read a learned weighting"):
            check_weighting(weighting)
        with pytest.raises(UsageError, match="cannot read a learned weighting"):
            loss_weight(weighting, schedule())


def test_weight_is_level_beyond_the_knots_and_has_no_size_of_its_own() -> None:
    angle = np.linspace(0.05, np.pi / 2, T)
    to_the_end = NoiseSchedule(np.cos(angle).clip(0), np.sin(angle), np.arange(T, dtype=float))
    weight = loss_weight("learned@here:-1=0.5,1=-0.5", to_the_end)
    snr = to_the_end.snr
    assert weight.mean() == pytest.approx(1)
    assert len(set(weight[snr < np.exp(-1)])) == len(set(weight[snr > np.exp(1)])) == 1
    assert weight[-1] / weight[0] == pytest.approx(np.e)
    assert weight == pytest.approx(loss_weight("learned@here:-1=7.5,1=6.5", to_the_end))


def test_incomplete_tables_are_refused() -> None:
    tables, labels = made(5, 3, np.ones(N, dtype=bool))
    tables[2][1, 4] = np.nan
    with pytest.raises(DataError, match="error tables are incomplete"):
        learn_weighting(tables, labels, np.linspace(3, -3, N), "made/validation")


@pytest.mark.parametrize(
    ("tables", "levels"),
    [
        (np.ones((3, K, N)), np.linspace(3, -3, N)),  # classes that never differ
        (np.eye(K)[None, :, :1].repeat(3, axis=0), np.zeros(1)),  # one draw for seven knots
    ],
)
def test_tables_that_teach_nothing_are_refused(
    tables: NDArray[np.float64], levels: NDArray[np.float64]
) -> None:
    with pytest.raises(DataError, match="do not determine a weighting"):
        learn_weighting(list(tables), [0, 1, 0], levels, "made/validation")


def test_name_of_the_data_set_may_have_a_colon(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text('{"learned_on": "folder:my photos/validation", "knots": "-1=0,1=2"}')
    weighting = read_weighting(path)
    # what stands in tables is all that is before the first colon
    assert weighting.partition(":")[0] == "learned@folder/my photos/validation"
    assert loss_weight(weighting, schedule())[0] > loss_weight(weighting, schedule())[-1]


def test_truncated_snr_is_that_of_the_paper() -> None:
    s = schedule()
    expected = np.maximum(s.snr, 1) / s.snr  # max(SNR, 1) on x0, as a factor of the noise's error
    assert np.allclose(loss_weight("truncated-snr", s), expected / expected.mean())
