"""Tree screening: groups of classes, their splits, and races among them."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.screenings import CLASSES, FEWER, SEEDS, distances, drive, noisy, start
from hypothesis import given
from hypothesis import strategies as st

from diffcls.search.tree import Group, Tree, grow

pytestmark = pytest.mark.filterwarnings("error")


@FEWER
@given(CLASSES, st.integers(2, 9), SEEDS)
def test_every_group_is_split_into_its_branches(classes: int, branches: int, seed: int) -> None:
    splits = grow(distances(classes, seed), branches)
    waiting: list[Group] = [tuple(range(classes))]
    visited = set()
    while waiting:
        group = waiting.pop()
        visited.add(group)
        parts = splits[group]
        assert sorted(k for part in parts for k in part) == list(group)
        assert len(parts) == min(branches, len(group))
        assert list(parts) == sorted(parts)
        waiting += [part for part in parts if len(part) > 1]
    assert visited == set(splits)


def test_neighbouring_classes_are_grouped() -> None:
    places = np.array([0.0, 10.0, 0.1, 10.2, 50.0, 0.3])
    splits = grow(np.abs(places[:, None] - places[None]), 3)
    assert splits[(0, 1, 2, 3, 4, 5)] == ((0, 2, 5), (1, 3), (4,))
    assert splits[(0, 2, 5)] == ((0,), (2,), (5,))
    assert splits[(1, 3)] == ((1,), (3,))
    assert grow(np.zeros((1, 1)), 3) == {}


def test_equal_classes_are_split_into_as_many_branches() -> None:
    splits = grow(np.zeros((9, 9)), 3)
    assert {len(parts) for group, parts in splits.items() if len(group) >= 3} == {3}


def test_a_level_races_on_draws_that_no_earlier_level_used() -> None:
    options = Tree(draws=40, candidates=1, branches=2, level_draws=2, beam=1)
    truth = np.arange(8.0)
    probes = drive(start(options, 8), noisy(truth, 0, 0.0))
    draws_of: dict[int, set[int]] = {}  # by the number of classes of a level's pair of groups
    levels = [probes[i : i + 4] for i in range(0, len(probes), 4)]  # two groups, two draws each
    for n, level in enumerate(levels):
        draws_of[n] = {probe.draw for probe in level}
        assert len({probe.members for probe in level}) == 2
        assert not any(probe.gradient for probe in level)
    assert [sorted(draws) for draws in draws_of.values()] == [
        [2 * n, 2 * n + 1] for n in range(len(levels))
    ]
    assert len(levels) > 1


def test_more_groups_than_candidates_are_never_left() -> None:
    # the beam would leave five classes
    options = Tree(draws=6, candidates=2, branches=6, beam=5)
    descent = start(options, 6)
    drive(descent, noisy(np.array([4.0, 3.0, 3.0, 0.0, 0.0, 9.0]), 0, 1e-6))
    assert len(descent.shortlist) <= 2
    assert set(descent.shortlist.tolist()) <= {3, 4}
