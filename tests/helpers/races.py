"""Error tables of random races, and every search without a screen, for tests of searches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from diffcls.search.base import Search
from diffcls.search.error_table import Table
from diffcls.search.exhaustive import Exhaustive
from diffcls.search.halving import Halving
from diffcls.search.paper import Paper
from diffcls.search.racing import Racing

# maximum draws per class -> search
MAKE: dict[str, Callable[[int], Search]] = {
    "exhaustive": lambda n: Exhaustive(n),
    "racing": lambda n: Racing(n),
    "racing, low confidence": lambda n: Racing(n, confidence=0.6, start=3, prior=1.0),
    "racing, budget": lambda n: Racing(n, budget=30),
    "halving": lambda n: Halving(n, start=min(4, n)),
    "paper": lambda n: Paper((max(1, n // 6), max(1, n // 2), n), (4, 2, 1)),
    "paper, equal stages": lambda n: Paper((max(1, n // 2), max(1, n // 2), n), (3, 3, 1)),
}
each_search = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
CLASSES, DRAWS, SEEDS = st.integers(2, 8), st.integers(1, 40), st.integers(0, 2**32 - 1)
FEWER = settings(max_examples=40)


def empty(classes: int, draws: int) -> Table:
    return np.full((classes, draws), np.nan, np.float32)


def run(search: Search, truth: Any) -> tuple[Table, int]:
    """The table when the search is done, and the evaluations made; each request is checked."""
    table, made = empty(*truth.shape), 0
    while True:
        table.flags.writeable = False  # the search must not write to it
        requested = search.ask(table)
        again = search.ask(table.copy())
        assert (requested is None) == (again is None)
        if requested is None:
            return table, made
        assert (requested == again).all()
        assert len(requested)  # an empty request would never end
        assert len(np.unique(requested, axis=0)) == len(requested)
        k, draw = requested.T
        assert np.isnan(table[k, draw]).all()
        table = table.copy()
        table[k, draw] = truth[k, draw]
        made += len(requested)


def races(classes: int, draws: int, spread: float, seed: int) -> Any:
    """(K, N) errors: noise common to all classes, noise of each, and means `spread` apart."""
    rng = np.random.default_rng(seed)
    common, gaps = 5 * rng.normal(size=draws), spread * rng.normal(size=(classes, 1))
    return (common + gaps + rng.normal(size=(classes, draws))).astype(np.float32)
