"""Intervals and tests of proportions against SciPy, published examples and closed forms."""

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

from diffcls.metrics.statistics import (
    bootstrap_interval,
    holm,
    mcnemar_exact,
    newcombe_interval,
    sign_flip_test,
    wilson_interval,
)
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


COUNTS = st.integers(0, 60)


@pytest.mark.parametrize(
    "counts, low, high",
    [
        # Cavo et al. 2012 and Bentur et al. 2009, in Fagerland, Lydersen and Laake 2017, chapter 8
        # (R package contingencytables, Newcombe_square_and_add_CI_paired_2x2)
        ((59, 6, 16, 80), -0.1186, -0.0046),
        ((1, 1, 7, 12), -0.507, -0.026),
        # Newcombe 1998, method 10
        ((36, 12, 2, 0), 0.0569, 0.3404),
    ],
)
def test_newcombe_interval_is_that_of_published_examples(
    counts: tuple[int, int, int, int], low: float, high: float
) -> None:
    digits = 4 if abs(low) != 0.507 else 3
    assert [round(limit, digits) for limit in newcombe_interval(*counts)] == [low, high]


@given(COUNTS, COUNTS, COUNTS, COUNTS, st.sampled_from([0.5, 0.95, 0.999]))
def test_newcombe_interval_holds_the_difference_and_changes_sign_with_the_order(
    both: int, only_a: int, only_b: int, neither: int, confidence: float
) -> None:
    n = both + only_a + only_b + neither
    if n == 0:
        return
    low, high = newcombe_interval(both, only_a, only_b, neither, confidence)
    assert -1 <= low <= (only_a - only_b) / n + 1e-12 and (only_a - only_b) / n - 1e-12 <= high <= 1
    swapped = newcombe_interval(both, only_b, only_a, neither, confidence)
    assert swapped == pytest.approx((-high, -low), abs=1e-12)


def test_newcombe_interval_covers_the_true_difference_of_correlated_classifiers() -> None:
    probabilities = [0.7, 0.12, 0.06, 0.12]  # both, only a, only b, neither
    tables = np.random.default_rng(0).multinomial(100, probabilities, size=2000)
    limits = np.array([newcombe_interval(*map(int, table)) for table in tables])
    covered = (limits[:, 0] <= 0.06) & (0.06 <= limits[:, 1])
    assert 0.94 < covered.mean() < 0.97


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_rejects_exactly_what_its_step_down_procedure_rejects(p_values: list[float]) -> None:
    corrected = holm(p_values)
    for level in (0.001, 0.01, 0.05, 0.2, 0.8):
        rejected, remaining = set(), sorted(range(len(p_values)), key=lambda i: p_values[i])
        while remaining and p_values[remaining[0]] * len(remaining) <= level:
            rejected.add(remaining.pop(0))
        assert set(np.flatnonzero(corrected <= level)) == rejected


@UNTIMED
@given(st.integers(0, 7), st.integers(0, 6), st.integers(0, 5))
def test_sign_flip_test_of_single_answers_is_mcnemars_exact_test(
    gained: int, lost: int, same: int
) -> None:
    differences = [1] * gained + [-1] * lost + [0] * (same + 1)
    a, b = np.maximum(differences, 0), np.maximum(np.negative(differences), 0)
    assert sign_flip_test(differences, seed=0) == pytest.approx(mcnemar_exact(a, b))


def test_sign_flip_test_of_many_images_is_that_of_scipy() -> None:
    values = np.random.default_rng(2).choice([-1, -0.5, 0, 0.5, 1], 80, p=[0.1, 0.2, 0.3, 0.2, 0.2])
    reference = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=20_000, rng=0
    )
    assert sign_flip_test(values, seed=1, resamples=20_000) == pytest.approx(
        reference.pvalue, abs=0.01
    )


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
    "negative counts": lambda: newcombe_interval(1, -1, 1, 1),
    "no images to pair": lambda: newcombe_interval(0, 0, 0, 0),
    "a p-value above 1": lambda: holm([0.5, 1.5]),
    "a p-value of NaN": lambda: holm([0.5, math.nan]),
    "no p-values": lambda: holm([]),
    "NaN to flip": lambda: sign_flip_test([1.0, math.nan], seed=0),
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
