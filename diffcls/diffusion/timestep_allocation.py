"""Timestep allocation: the density of draws over time, even or learned (importance sampling).

A search spreads its draws evenly over [0, 1); an allocation with density q moves each draw to the
quantile of q at its position. Every prefix then follows q, and the score of a class is
−E_{t ~ q, ε}[error]. The even allocation is the published rule.

The density is fitted like a weighting (`diffcls.diffusion.learned_weighting`), on the validation
images of one data set, and applied to others. A weighting evaluates draws and then multiplies
their errors by small weights; an allocation does not evaluate them in the first place.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffcls.diffusion.learned_weighting import read_weighting
from diffcls.diffusion.parameterization import LEARNED, check_weighting, learned_weight
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.support.errors import UsageError, unknown_name
from diffcls.support.types import Int64

EVEN = "even"
FOLDER = Path(__file__).parents[1] / "assets" / "allocations"


def names() -> list[str]:
    """Names of the built-in allocations."""
    return [EVEN, *sorted(path.stem for path in FOLDER.glob("*.json"))]


def read_allocation(given: str) -> str:
    """The allocation of a name or a file, as the text that the fingerprint contains.

    Args:
        given: one of `names`, a file written by ``replay --learn``, or an earlier return value.

    Raises:
        UsageError: for an unknown name, or a file or text that contains no allocation.
    """
    if given == EVEN:
        return given
    if given.startswith(LEARNED):
        check_weighting(given)
        return given
    if given.endswith(".json"):
        return read_weighting(given)
    if given not in names():
        raise unknown_name("allocation", given, [*names(), "FILE.json of replay --learn"])
    return read_weighting(FOLDER / f"{given}.json")


def allocate(indices: Int64, allocation: str, schedule: NoiseSchedule) -> Int64:
    """Schedule indices (N,) of draws under an allocation: inverse transform sampling.

        Q(u) = min{t : Σ_{s ≤ t} q(s) ≥ u·Σ_s q(s)},    u = (index + ½)/T

    Args:
        indices: (N,) schedule indices under the even allocation, in the search's order.
        allocation: return value of `read_allocation`.
        schedule: the model's schedule, of T levels.

    Raises:
        UsageError: for an allocation that cannot be read.
    """
    if allocation == EVEN:
        return indices
    if not allocation.startswith(LEARNED):
        raise UsageError("unknown allocation", given=allocation, allowed=names())
    cumulative = np.cumsum(learned_weight(allocation, schedule))
    place = (indices + 0.5) / len(schedule) * cumulative[-1]
    return np.searchsorted(cumulative, place).astype(np.int64)
