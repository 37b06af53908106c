"""Calibration of a learned screen: the promise on exchangeable images, and what an image needs."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from diffcls.classifiers.screen_calibration import caution_needed, conformal

# ---- the promise --------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [20, 39, 40, 100])
@pytest.mark.parametrize("allowed", [0.025, 0.1, 0.3])
def test_a_new_image_needs_no_more_caution_with_the_promised_probability(
    images: int, allowed: float
) -> None:
    rng = np.random.default_rng(images)
    repeats, kept, promised = 4000, 0, 0.0
    for _ in range(repeats):
        # an image is exchangeable with those of the calibration; needs may be below 0
        needed = np.round(rng.standard_t(2, size=images + 1), 1)
        caution, survival = conformal(needed[:-1], allowed)
        kept += bool(needed[-1] <= caution)
        promised += survival / repeats
    # P(at least so many) at the promised probability: false alarms 1 in 10,000
    assert binom.cdf(kept, repeats, promised) > 1e-4
    if images + 1 >= 1 / allowed:
        assert promised >= 1 - allowed - 1e-9
        assert kept / repeats >= 1 - allowed - 4 * math.sqrt(allowed / repeats)


def test_with_distinct_needs_the_probability_is_the_rank_of_the_caution() -> None:
    # 99 images, δ = 0.1: the 90th smallest, of which a new one is at most with 90 of 100
    needed = np.random.default_rng(0).permutation(np.arange(1.0, 100.0))
    assert conformal(needed, 0.1) == (90.0, 0.9)
    assert conformal(needed, 0.05) == (95.0, 0.95)
    # δ = 0.001 would need the 100th of 99: the largest, with 99 of 100
    assert conformal(needed, 0.001) == (99.0, 0.99)


def test_images_whose_winner_is_lost_with_any_caution_lower_the_probability() -> None:
    needed = np.array([1.0, 2.0, 3.0, math.inf, math.inf, math.inf, math.inf, math.inf, math.inf])
    assert conformal(needed, 0.1) == (3.0, 0.3)
    assert conformal(needed, 0.75) == (3.0, 0.3)
    assert conformal(needed, 0.8) == (2.0, 0.2)
    assert conformal(np.full(9, math.inf), 0.1) == (math.inf, 0.0)


def test_images_that_need_no_caution_are_kept_without_one() -> None:
    needed = np.full(9, -math.inf)
    assert conformal(needed, 0.1) == (0.0, 0.9)
    assert conformal(np.array([-2.0] * 9), 0.1) == (0.0, 0.9)


@pytest.mark.parametrize("images", [1, 2, 5])
def test_few_images_promise_little(images: int) -> None:
    caution, survival = conformal(np.arange(1.0, images + 1), 0.025)
    assert (caution, survival) == (images, images / (images + 1))


# ---- what one image needs -----------------------------------------------------------------------


def screening(looked: list[int], counts: list[int], margins: list[float], kept: int) -> Any:
    """A finished one that measured `looked` and kept the first classes of it."""
    return SimpleNamespace(
        looked=looked, counts=counts, margins=margins, shortlist=np.sort(looked[:kept])
    )


def test_an_image_needs_the_largest_margin_before_its_winner_is_measured() -> None:
    looked = [5, 2, 7, 0, 1, 3, 4, 6]
    one = screening(looked, [2, 4, 6, 8], [9.0, 1.5, 0.5, math.inf], kept=8)
    # with two candidates it could end after the first round, where the margin was 9
    assert caution_needed(one, 7, candidates=2) == 9.0
    # with three it could not; class 1 is measured after the round of four, class 4 after six
    assert caution_needed(one, 1, candidates=3) == 1.5
    assert caution_needed(one, 4, candidates=3) == 1.5
    assert caution_needed(one, 4, candidates=5) == 0.5
    # measured before any end is possible
    assert caution_needed(one, 7, candidates=3) == -math.inf
    assert caution_needed(one, 5, candidates=2) == -math.inf


def test_a_winner_that_is_measured_in_the_round_after_an_end_is_lost() -> None:
    # the fourth class belongs to the second round: the end after the first loses it
    one = screening([5, 2, 7, 0], [2, 4], [3.0, -1.0], kept=4)
    assert caution_needed(one, 0, candidates=1) == 3.0


def test_a_winner_out_of_the_shortlist_needs_infinite_caution() -> None:
    one = screening([5, 2, 7, 0], [2, 4], [3.0, -1.0], kept=2)
    assert caution_needed(one, 7, candidates=1) == math.inf
    assert caution_needed(one, 9, candidates=1) == math.inf
