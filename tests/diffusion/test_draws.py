"""Draws: even over time in every prefix, the published stages, noise keyed by seed and draw."""

from __future__ import annotations

import math
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcls.diffusion.draws import nested_order, noise, published_order
from diffcls.search.paper import Paper
from diffcls.support.errors import UsageError
from diffcls.support.seeding import key

SHAPE = (3, 4, 5)
STAGES = st.lists(st.integers(1, 200), min_size=1, max_size=5).map(sorted)

# the published table: classes, samples per stage, kept per stage, evaluations per image
PUBLISHED = {
    "food101": (101, (20, 50, 100, 500), (20, 10, 5, 1), 5_570),
    "cifar10": (10, (50, 500), (5, 1), 2_750),
    "fgvc_aircraft": (100, (20, 50, 100, 500), (20, 10, 5, 1), 5_550),
    "pets": (37, (25, 250), (5, 1), 2_050),
    "flowers102": (102, (20, 50, 100, 500), (20, 10, 5, 1), 5_590),
    "stl10": (10, (100, 500), (5, 1), 3_000),
    "imagenet": (1000, (50, 100, 500, 1000), (500, 50, 10, 1), 124_500),
    "objectnet": (113, (50, 100, 500, 1000), (25, 10, 5, 1), 14_400),
}
each_published = pytest.mark.parametrize(
    ("classes", "samples", "keep", "evaluations"), PUBLISHED.values(), ids=PUBLISHED
)


def star_discrepancy(points: Any) -> float:
    """Niederreiter 1992, theorem 2.6: 1/(2n) + max_i |x_(i) − (2i − 1)/(2n)|."""
    n = len(points)
    return float(1 / (2 * n) + abs(np.sort(points) - (2 * np.arange(1, n + 1) - 1) / (2 * n)).max())


# ---- nested order ------------------------------------------------------------------------------


def test_first_draws_of_a_case_worked_by_hand() -> None:
    assert nested_order(16, 8).tolist() == [8, 4, 12, 2, 10, 6, 14, 1]
    assert nested_order(1000, 4).tolist() == [500, 250, 750, 125]
    assert nested_order(1000, 1).tolist() == [500]


@given(st.integers(1, 2000), st.integers(1, 300), st.integers(1, 300))
def test_fewer_draws_are_a_prefix_of_more(length: int, one: int, other: int) -> None:
    few, many = sorted((one, other))
    assert nested_order(length, many)[:few].tolist() == nested_order(length, few).tolist()


@pytest.mark.parametrize("length", [1024, 1000])
def test_prefix_of_one_less_than_a_power_of_two_is_the_even_grid(length: int) -> None:
    order = nested_order(length, 511)
    for k in range(1, 10):
        grid = [c * length // 2**k for c in range(1, 2**k)]
        assert sorted(order[: 2**k - 1]) == grid


@settings(max_examples=40)
@given(st.integers(1, 600))
def test_any_prefix_is_spread_as_evenly_as_the_sequence_promises(draws: int) -> None:
    length = 1 << 20  # so long that rounding to an index is nothing
    order = nested_order(length, draws) / length
    for n in range(1, draws + 1):
        # with the point 0 before it this is van der Corput's sequence from its start, of which
        # n·D*_n <= log2(n)/3 + 1 (Béjian and Faure 1977); leaving a point out adds one at most
        bound = (math.log2(n + 1) / 3 + 2) / n
        assert star_discrepancy(order[:n]) <= bound + 1e-5


def test_more_draws_than_levels_visit_each_level_alike() -> None:
    assert np.bincount(nested_order(8, 64)).tolist() == [8] * 8
    visits = np.bincount(nested_order(10, 1000), minlength=10)
    assert visits.max() - visits.min() <= 10


@pytest.mark.parametrize(("length", "draws"), [(0, 1), (10, 0), (10, -1)])
def test_nested_order_refuses_what_is_empty(length: int, draws: int) -> None:
    with pytest.raises(UsageError, match="draws out of range"):
        nested_order(length, draws)


# ---- published stages --------------------------------------------------------------------------


def literal_stages(length: int, samples: tuple[int, ...]) -> list[list[int]]:
    """The description in words, word by word: the new timesteps of each stage, N dividing T."""
    last = samples[-1]
    grid = [length // last // 2 + step * (length // last) for step in range(last)]
    seen: list[int] = []
    stages = []
    for n in samples:
        every, offset = last // n, last // n // 2
        taken = [t for place, t in enumerate(grid) if place % every == offset][:n]
        stages.append([t for t in taken if t not in seen])
        seen += stages[-1]
    return stages


@pytest.mark.parametrize(
    ("length", "samples"),
    [
        *((1000, row[1]) for row in PUBLISHED.values()),
        (1000, (7, 30, 200)),
        (1000, (1,)),
        (1000, (3, 3, 4)),
        (50, (2, 5, 50)),
    ],
)
def test_stages_are_those_of_the_description(length: int, samples: tuple[int, ...]) -> None:
    indices, ends = published_order(length, samples)
    stages = literal_stages(length, samples)
    assert ends.tolist() == np.cumsum([len(stage) for stage in stages]).tolist()
    assert indices.tolist() == [t for stage in stages for t in stage]


@pytest.mark.parametrize(
    ("samples", "ends"),
    [
        ((20, 50, 100, 500), [20, 70, 150, 500]),
        ((50, 100, 500, 1000), [50, 150, 550, 1000]),
        ((50, 500), [50, 500]),
        ((25, 250), [25, 250]),
    ],
)
def test_stages_are_not_nested_and_evaluate_more_than_they_say(
    samples: tuple[int, ...], ends: list[int]
) -> None:
    assert published_order(1000, samples)[1].tolist() == ends


@each_published
def test_published_stages_make_the_published_number_of_evaluations(
    classes: int, samples: tuple[int, ...], keep: tuple[int, ...], evaluations: int
) -> None:
    search = Paper(samples, keep)
    truth = np.random.default_rng(classes).exponential(size=(classes, samples[-1]))
    table = np.full(truth.shape, np.nan, np.float32)
    made = 0
    while (wanted := search.ask(table)) is not None:
        k, draw = wanted.T
        assert np.isnan(table[k, draw]).all()
        table[k, draw] = truth[k, draw]
        made += len(wanted)
    assert made == evaluations
    assert len(search.plan(1000)) == samples[-1]


@given(STAGES, st.integers(0, 1200))
def test_all_of_the_grid_is_used_once_and_reaches_both_ends(samples: list[int], more: int) -> None:
    length, last = samples[-1] + more, samples[-1]
    indices, ends = published_order(length, samples)
    assert ends[-1] == len(indices) == last
    assert (np.diff(ends) >= 0).all()
    grid = np.sort(indices)
    # one level in the middle of each N-th of [0, T)
    assert grid == pytest.approx((np.arange(last) + 0.5) * length / last - 0.5, abs=0.5 + 1e-9)
    assert len(np.unique(grid)) == last


def test_grid_that_does_not_divide_the_schedule_still_reaches_its_end() -> None:
    grid = np.sort(published_order(1000, [300])[0])
    assert (grid[0], grid[-1]) == (1, 998)
    assert set(np.diff(grid)) == {3, 4}


@pytest.mark.parametrize("samples", [[], [0], [500, 50], [1001], [-1, 5]])
def test_stages_out_of_range_are_refused(samples: list[int]) -> None:
    with pytest.raises(UsageError, match="samples per stage out of range"):
        published_order(1000, samples)


# ---- keys and noise ----------------------------------------------------------------------------


def test_key_is_the_first_63_bits_of_sha_256_and_fixed_forever() -> None:
    # a changed key would change every number ever published
    assert key("noise", 0, 12) == int(sha256(b"noise\x1f0\x1f12").hexdigest(), 16) >> 193
    assert key("noise", 0, 0) == 5_422_884_101_884_566_507
    assert len({key(a, b) for a in range(50) for b in range(50)}) == 2500


def test_noise_is_standard_normal_and_independent_between_draws_and_seeds() -> None:
    pytest.importorskip("torch", reason="noise is a tensor")
    made = np.stack(
        [noise(seed, draw, (4, 16, 16)).numpy() for seed in (0, 1) for draw in range(8)]
    )
    rows = made.reshape(16, -1).astype(np.float64)  # (16, 1024)
    n = rows.size
    # four standard errors of mean, variance and fourth moment of a standard normal sample
    assert abs(rows.mean()) < 4 / math.sqrt(n)
    assert abs(rows.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((rows**4).mean() - 3) < 4 * math.sqrt(96 / n)
    correlation = np.corrcoef(rows) - np.eye(16)
    assert abs(correlation).max() < 5 / math.sqrt(rows.shape[1])


def test_noise_depends_on_seed_draw_and_shape_alone() -> None:
    torch = pytest.importorskip("torch", reason="noise is a tensor")
    expected = {draw: noise(3, draw, SHAPE) for draw in range(6)}
    assert not torch.equal(expected[0], noise(4, 0, SHAPE))
    torch.manual_seed(99)
    before = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        for draw in (5, 0, 3, 3, 1):
            again = noise(3, draw, list(SHAPE))
            assert again.dtype == torch.float32
            assert torch.equal(again, expected[draw])
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        assert torch.equal(noise(3, 0, SHAPE), expected[0])
    assert torch.equal(torch.get_rng_state(), before)  # and nobody else's numbers are disturbed
