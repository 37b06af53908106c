"""Random predictions of a classifier, for tests of metrics."""

from __future__ import annotations

from typing import Any

import numpy as np


def some_probabilities(seed: int, n: int = 200, k: int = 7) -> tuple[Any, Any]:
    """(n, k) random distributions over classes, and (n,) random labels."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(k, 0.3), size=n)
    return p, rng.integers(0, k, size=n)
