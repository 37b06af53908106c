"""Boundary F1 against its definition on small maps."""

from __future__ import annotations

import numpy as np
import pytest

from diffcls.metrics.edges import boundary_f1
from diffcls.support.errors import UsageError


def line(column: int, size: int = 9) -> np.ndarray:
    edges = np.zeros((size, size), bool)
    edges[:, column] = True
    return edges


def test_a_line_agrees_with_itself_and_with_one_beside_it_within_the_tolerance() -> None:
    assert boundary_f1(line(4), line(4), 0) == 1.0
    assert boundary_f1(line(4), line(5), 1) == 1.0
    assert boundary_f1(line(4), line(6), 1) == 0.0
    assert boundary_f1(line(4), line(5), 0.5) == 0.0


def test_precision_and_recall_are_shares_of_pixels() -> None:
    # all of the given line is found, and as many pixels again far from it: P = 1/2, R = 1
    assert boundary_f1(line(1) | line(7), line(1), 1) == pytest.approx(2 / 3)
    assert boundary_f1(line(1), line(1) | line(7), 1) == pytest.approx(2 / 3)


def test_diagonal_neighbours_are_further_than_one_pixel() -> None:
    one, other = (np.zeros((5, 5), bool) for _ in range(2))
    one[2, 2] = other[3, 3] = True
    assert boundary_f1(one, other, 1.0) == 0.0
    assert boundary_f1(one, other, 1.5) == 1.0


def test_maps_without_edges() -> None:
    none = np.zeros((4, 4), bool)
    assert boundary_f1(none, none) == 1.0
    assert boundary_f1(none, line(1, 4)) == boundary_f1(line(1, 4), none) == 0.0


def test_maps_of_other_shapes_are_refused() -> None:
    with pytest.raises(UsageError, match="one shape"):
        boundary_f1(line(1, 4), line(1, 5))
