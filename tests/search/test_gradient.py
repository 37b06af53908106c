"""Gradient screening: rounds, draws, first-order expansions and clusters of classes."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.screenings import CLASSES, FEWER, GRADIENTS, SEEDS, cost, drive, embeddings, noisy
from hypothesis import given
from scipy.spatial.distance import pdist, squareform

from diffcls.search.clustering import ClassDistances, Group, Groups, cluster
from diffcls.search.gradient import (
    Expansions,
    Gradient,
    GradientScreening,
    first_points,
    means_over,
    squares_to_mean,
)
from diffcls.search.racing import order_in_time
from diffcls.support.types import Float64

pytestmark = pytest.mark.filterwarnings("error")


def start_distinct(options: Gradient, classes: int, seed: int) -> GradientScreening:
    """A screening of distinct classes."""
    points = np.random.default_rng(seed).normal(size=(classes, 3))
    among, screen = ClassDistances.from_gram(points @ points.T), options.screen
    return GradientScreening(screen, among, first_points(screen, among))


@FEWER
@given(GRADIENTS, CLASSES, SEEDS)
def test_rounds_cost_exactly_the_declared_limit(options: Gradient, classes: int, seed: int) -> None:
    rounds = start_distinct(options, classes, seed)
    probes = drive(rounds, noisy(np.random.default_rng(seed).normal(size=classes), seed, 1.0))
    assert (cost(probes), len(rounds.shortlist)) == options.screen.limits(classes)
    # gradient probes first, then probes of single classes
    kinds = [probe.gradient for probe in probes]
    assert kinds == sorted(kinds, reverse=True)
    assert all(len(probe.members) == 1 for probe in probes if not probe.gradient)
    assert {probe.draw for probe in probes} <= set(options.screen.draws)


def test_cost_grows_as_the_square_root_of_the_classes() -> None:
    options = Gradient(40)
    few, many = (options.screen.limits(classes)[0] for classes in (1000, 100_000))
    assert few < many < 11 * few


def test_each_round_probes_groups_of_the_shortlist() -> None:
    options = Gradient(draws=9, candidates=2, density=0.9, shrink=0.4, width=2.5)
    rounds = start_distinct(options, 16, 0)
    truth = np.arange(16.0)[::-1]  # the last class is the best one
    probes = drive(rounds, noisy(truth, 0, 0.0))
    # ⌈0.9·√16⌉ = 4 points of all; ⌈2.5·√16⌉ = 10 classes are left, one probe each
    groups = [probe.members for probe in probes]
    assert sorted(k for group in groups[:4] for k in group) == list(range(16))
    assert groups[4:] == [(k,) for k in range(6, 16)]
    assert rounds.shortlist.tolist() == [14, 15]


def test_gradient_probes_use_the_draws_at_the_given_place() -> None:
    # the draws of five places in time, from the first to the last
    ordered = order_in_time(9).tolist()
    for place, middle in ((0.0, 0), (0.25, 2), (0.5, 4), (1.0, 8)):
        assert Gradient(draws=9, place=place).screen.draws == (ordered[middle],)
    assert Gradient(draws=9, place=0.25, round_draws=3).screen.draws == tuple(ordered[1:4])
    assert Gradient(draws=9, place=1.0, round_draws=3).screen.draws == tuple(ordered[6:])
    # every draw once
    assert sorted(Gradient(draws=2, round_draws=4).screen.draws) == [0, 1]


def test_expansions_of_a_quadratic_error_are_exact() -> None:
    rng = np.random.default_rng(3)
    classes = rng.normal(size=(30, 4))
    best, steep, curved = rng.normal(size=4), rng.normal(size=4), 0.7

    def error(at: Float64) -> Float64:
        result: Float64 = 2 + at @ steep + curved * ((at - best) ** 2).sum(axis=-1)
        return result

    def first_order(group: Group) -> Float64:
        """e(p) + ⟨∂e/∂c, c_k − p⟩ at the group's mean p."""
        point = classes[list(group)].mean(axis=0)
        slope = steep + 2 * curved * (point - best)
        result: Float64 = error(point) + (classes - point) @ slope
        return result

    among = ClassDistances.from_gram(classes @ classes.T)
    groups = (tuple(range(10)), (3, 11, 12), (20,))
    expansions = Expansions(among)
    expansions.add(groups[:1], np.stack([first_order(groups[0])]))
    # the curvature is not known from one point
    centre = classes[:10].mean(axis=0)
    bend = curved * ((classes - centre) ** 2).sum(axis=1)
    np.testing.assert_allclose(expansions.errors(), error(classes) - bend, rtol=1e-9)
    # a point added twice counts once
    expansions.add(groups, np.stack([first_order(group) for group in groups]))
    np.testing.assert_allclose(expansions.errors(), error(classes), rtol=1e-9)


def test_a_class_that_is_a_point_has_the_error_of_that_point() -> None:
    points = embeddings(8, 4)
    # no two classes are equal
    expansions = Expansions(ClassDistances.from_gram(points @ points.T + np.eye(8)))
    rng = np.random.default_rng(0)
    first_order = rng.normal(size=(3, 8))
    expansions.add(((2,), (0, 1), (3, 4, 5)), first_order)
    assert expansions.errors()[2] == pytest.approx(first_order[0, 2], rel=1e-6)


def test_clusters_contain_neighbouring_classes() -> None:
    places = np.array([0.0, 10.0, 0.1, 10.2, 50.0, 0.3])
    among = pdist(places[:, None])
    assert cluster(among, 3) == ((0, 2, 5), (1, 3), (4,))
    assert cluster(among, 1) == (tuple(range(6)),)
    assert cluster(among, 6) == tuple((k,) for k in range(6))
    assert cluster(np.empty(0), 4) == ((0,),)
    # equal classes are not separated
    assert sum(map(len, cluster(np.zeros(10), 3))) == 5


class DenseExpansions:
    """All values at all classes, and the means from them each time: an independent reference."""

    def __init__(self, distances: Float64) -> None:
        self.distances, self.members = distances, list[Group]()
        self.first_order = self.squares = np.empty((0, len(distances)))

    def add(self, groups: Groups, first_order: Float64) -> None:
        for group, expansion in zip(groups, first_order, strict=True):
            if group in self.members:
                continue
            self.members.append(group)
            square = self.distances[list(group)] ** 2
            away = square.mean(axis=0) - square[:, list(group)].mean() / 2
            self.squares = np.vstack([self.squares, np.maximum(away, 0.0)])
            self.first_order = np.vstack([self.first_order, expansion])

    def errors(self) -> Float64:
        weight = 1 / np.maximum(self.squares, np.finfo(np.float32).tiny)
        errors = (weight * self.first_order).sum(axis=0) / weight.sum(axis=0)
        bend = (weight * self.squares).sum(axis=0) / weight.sum(axis=0)
        expanded, square = (
            np.stack([values[:, list(group)].mean(axis=1) for group in self.members], axis=1)
            for values in (self.first_order, self.squares)
        )
        missed = np.diag(expanded)[None, :] - expanded
        square = np.maximum(square - np.diag(square)[None, :], 0.0)
        length = float((square**2).sum())
        curvature = max(float((square * missed).sum()) / length, 0.0) if length > 0 else 0.0
        result: Float64 = errors + curvature * bend
        return result


@pytest.mark.parametrize("classes", [12, 40, 300])
def test_values_at_classes_screened_out_are_not_needed(classes: int) -> None:
    # to the bit, over rounds on ever fewer classes, with groups of one class and repeated groups
    rng = np.random.default_rng(classes)
    points = rng.normal(size=(classes, 5))
    among = ClassDistances.from_gram(points @ points.T)
    everything = range(classes)
    dense = DenseExpansions(among.between(everything, everything))
    first = tuple(tuple(part.tolist()) for part in np.array_split(np.arange(classes), 4))
    squares = np.stack([squares_to_mean(among, group) for group in first])
    expansions = Expansions(among, squares)
    left, groups = np.arange(classes), first
    for _ in range(3):
        first_order = rng.normal(size=(len(groups), classes))
        for kept in (expansions, dense):
            kept.add(groups, first_order)
        assert np.array_equal(expansions.errors(), dense.errors()[left])
        left = np.sort(rng.permutation(left)[: len(left) // 2])
        expansions.keep(left)
        assert np.array_equal(expansions.errors(), dense.errors()[left])
        groups = (tuple(left.tolist()), (int(left[0]),), (int(left[0]),), tuple(left[1:].tolist()))


def test_the_mean_of_a_row_does_not_depend_on_other_rows() -> None:
    values = np.random.default_rng(0).normal(size=(3, 50))
    groups = [tuple(range(0, 50, 2)), (7,), tuple(range(33))]
    whole = means_over(values, groups)
    assert np.array_equal(np.vstack([means_over(row[None], groups) for row in values]), whole)
    np.testing.assert_allclose(whole[:, 2], values[:, :33].mean(axis=1), rtol=1e-12)


def test_distances_come_from_one_triangle_of_the_gram_matrix() -> None:
    points = np.random.default_rng(3).normal(size=(9, 4))
    points[4] = points[2]
    result = ClassDistances.from_gram(points @ points.T)
    assert len(result) == 9
    expected = squareform(pdist(points))
    np.testing.assert_allclose(result.between(range(9), range(9)), expected, atol=1e-7)
    some = result.between((7, 2), np.array([0, 2, 8]))
    np.testing.assert_allclose(some, expected[np.ix_((7, 2), (0, 2, 8))], atol=1e-7)
    assert some[1, 1] == 0
    np.testing.assert_allclose(result.pairs_among([1, 5, 8]), expected[[1, 1, 5], [5, 8, 8]])
    assert result.pairs_among([3]).shape == (0,)
