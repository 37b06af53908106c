"""Exhaustive search: every class on every draw, the reference for all other searches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffcls.search.error_table import Table, counts, pairs
from diffcls.search.unscreened import NestedSearch, check_draws
from diffcls.support.types import Int64


@dataclass(frozen=True)
class Exhaustive(NestedSearch):
    """All K · N evaluations.

    Args:
        draws: N, draws per class.
    """

    draws: int = 100

    def __post_init__(self) -> None:
        check_draws(self.draws)

    def ask(self, errors: Table) -> Int64 | None:
        if counts(errors).min() == errors.shape[1]:
            return None
        return pairs(np.arange(errors.shape[0]), np.arange(errors.shape[1]))
