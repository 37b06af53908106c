"""Wilson and bootstrap intervals and the McNemar test against SciPy and closed forms."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from diffcls.metrics.statistics import bootstrap_interval, mcnemar_exact, wilson_interval
from diffcls.support.errors import UsageError

UNTIMED = settings(deadline=None)  # the first example includes a lazy import


@UNTIMED
@given(st.integers(1, 2000), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_wilson_interval_agrees_with_scipy(n: int, fraction: float, confidence: float) -> None:
    successes = round(fraction * n)
    reference = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    ours = wilson_interval(successes, n, confidence)
    assert ours == pytest.approx((reference.low, reference.high), abs=1e-12)
    assert 0 <= ours[0] <= successes / n <= ours[1] <= 1


def test_wilson_interval_ends_at_exactly_0_and_1() -> None:
    assert wilson_interval(0, 30)[0] == 0.0
    assert wilson_interval(30, 30)[1] == 1.0


def test_bootstrap_interval_of_a_large_normal_sample_is_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=1000)
    low, high = bootstrap_interval(values, seed=1)
    half = stats.norm.ppf(0.975) * values.std(ddof=1) / math.sqrt(1000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


def test_bootstrap_interval_of_a_skewed_sample_is_corrected_for_bias_and_skew() -> None:
    values = np.random.default_rng(5).exponential(size=25) ** 2
    means = np.random.default_rng(9).choice(values, (50_000, 25)).mean(axis=1)
    left_out = (values.sum() - values) / 24
    skew = left_out.mean() - left_out
    # Efron 1987: quantiles Φ(z0 + (z0 + z)/(1 − a·(z0 + z))), a from the jackknife
    z0 = stats.norm.ppf((means < values.mean()).mean())
    a = (skew**3).sum() / (6 * (skew**2).sum() ** 1.5)
    shifted = z0 + stats.norm.ppf([0.025, 0.975])
    expected = np.quantile(means, stats.norm.cdf(z0 + shifted / (1 - a * shifted)))
    interval = bootstrap_interval(values, seed=0, resamples=20_000)
    assert interval == pytest.approx(expected, abs=0.03)
    assert np.quantile(means, [0.025, 0.975]) != pytest.approx(expected, abs=0.05)


def test_bootstrap_interval_depends_only_on_seed_and_values() -> None:
    values = np.random.default_rng(0).random(40)
    first = bootstrap_interval(values, seed=7, resamples=500)
    np.random.seed(0)  # noqa: NPY002 -- the global state must not matter
    assert bootstrap_interval(values, seed=7, resamples=500) == first
    assert bootstrap_interval(values, seed=8, resamples=500) != first


def test_bootstrap_interval_of_equal_values_is_that_value() -> None:
    assert bootstrap_interval([0.25] * 10, seed=0, resamples=99) == (0.25, 0.25)


def test_bootstrap_falls_back_where_no_image_changes_the_statistic() -> None:
    values = [0.0] * 30 + [1.0] * 3
    low, high = bootstrap_interval(values, seed=0, statistic=np.median, resamples=200)
    assert (low, high) == (0.0, 0.0)


@UNTIMED
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 5))
def test_mcnemar_is_twice_the_smaller_binomial_tail(only_a: int, only_b: int, both: int) -> None:
    a = [1] * only_a + [0] * only_b + [1] * both + [0]
    b = [0] * only_a + [1] * only_b + [1] * both + [0]
    discordant = only_a + only_b
    tail = sum(math.comb(discordant, i) for i in range(min(only_a, only_b) + 1)) / 2**discordant
    p = mcnemar_exact(a, b)
    assert p == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar_exact(b, a) == pytest.approx(p)


INVALID: dict[str, Callable[[], object]] = {
    "no images": lambda: wilson_interval(0, 0),
    "more successes than images": lambda: wilson_interval(3, 2),
    "negative successes": lambda: wilson_interval(-1, 2),
    "confidence of 1": lambda: wilson_interval(1, 2, 1.0),
    "one value to resample": lambda: bootstrap_interval([1.0], seed=0),
    "NaN to resample": lambda: bootstrap_interval([1.0, math.nan], seed=0),
    "no resamples": lambda: bootstrap_interval([1.0, 2.0], seed=0, resamples=0),
    "a statistic of NaN": lambda: bootstrap_interval(
        [1.0, 2.0], seed=0, statistic=lambda x, axis: np.full(x.shape[:-1], np.nan), resamples=9
    ),
    "neither right nor wrong": lambda: mcnemar_exact([0, 2], [0, 1]),
    "right, wrong and NaN": lambda: mcnemar_exact([0, math.nan], [0, 1]),
    "flags of other lengths": lambda: mcnemar_exact([0, 1], [1]),
    "no flags": lambda: mcnemar_exact([], []),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_input_is_refused(case: str) -> None:
    with pytest.raises(UsageError):
        INVALID[case]()


@pytest.mark.parametrize("module", ["classification", "statistics", "calibration", "generative"])
def test_importing_a_metric_loads_neither_torch_nor_scipy(module: str) -> None:
    code = (
        f"import sys, diffcls.metrics.{module}; "
        "sys.exit(bool({'torch', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
