"""Text, image and group score of Winoground."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike

from diffcls.metrics.compositional import pair_scores
from diffcls.support.errors import UsageError


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([[2, 1], [1, 2]], (True, True, True)),
        ([[2, 1], [3, 4]], (True, False, False)),  # the first text prefers the second image
        ([[2, 3], [1, 4]], (False, True, False)),  # the first image prefers the second text
        ([[1, 2], [2, 1]], (False, False, False)),
        ([[1, 1], [0, 1]], (False, False, False)),  # a tie is no preference
    ],
)
def test_text_image_and_group_score_of_one_pair(
    scores: ArrayLike, expected: tuple[bool, ...]
) -> None:
    assert tuple(bool(score[0]) for score in pair_scores([scores])) == expected


def test_random_scores_reach_a_quarter_a_quarter_and_a_sixth() -> None:
    text, image, group = pair_scores(np.random.default_rng(0).normal(size=(60_000, 2, 2)))
    assert text.mean() == pytest.approx(1 / 4, abs=0.007)
    assert image.mean() == pytest.approx(1 / 4, abs=0.007)
    assert group.mean() == pytest.approx(1 / 6, abs=0.007)


@pytest.mark.parametrize("scores", [np.zeros((0, 2, 2)), np.zeros((3, 2)), [[[1, 2], [np.nan, 1]]]])
def test_invalid_scores_are_refused(scores: ArrayLike) -> None:
    with pytest.raises(UsageError, match="invalid scores of pairs"):
        pair_scores(scores)
