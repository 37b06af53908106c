"""Where in time the draws lie: evenly, or more of them where classes were seen to differ.

A search orders its draws evenly over [0, 1); an allocation with density q over the schedule moves
each to the quantile of q at its place. So every prefix is spread as q is, and the score of a class
is the mean of its errors over timesteps drawn from q: minus E_{t ~ q, ε} of the error. The even
allocation is the published rule.

Its density is learned as a weighting is (`diffcls.diffusion.learned_weighting`), on the validation
images of one data set, and used on others. A weight would multiply the errors of draws that were
paid for; a density does not pay for draws of little weight.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffcls.diffusion.learned_weighting import read_weighting
from diffcls.diffusion.parameterization import LEARNED, check_weighting, learned_weight
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.support.errors import UsageError, unknown_name

EVEN = "even"
FOLDER = Path(__file__).parents[1] / "assets" / "allocations"


def names() -> list[str]:
    """The allocations that can be asked for by name."""
    return [EVEN, *sorted(path.stem for path in FOLDER.glob("*.json"))]


def read_allocation(given: str) -> str:
    """The allocation of a name or a file, in the form that the fingerprint holds.

    Args:
        given: one of `names`, a file that ``replay --learn`` wrote, or what this returned earlier.

    Raises:
        UsageError: for an unknown name, or a file or text that holds none.
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


def allocate(
    indices: NDArray[np.int64], allocation: str, schedule: NoiseSchedule
) -> NDArray[np.int64]:
    """(N,) schedule indices of draws that an even order puts at `indices`.

    Args:
        indices: (N,) into the schedule, in the search's even order.
        allocation: what `read_allocation` returned.
        schedule: of the model, T long.

    Raises:
        UsageError: for an allocation that cannot be read.
    """
    if allocation == EVEN:
        return indices
    if not allocation.startswith(LEARNED):
        raise UsageError("not an allocation", given=allocation, allowed=names())
    # Q(u) = the least t with Σ_{s ≤ t} q(s) ≥ u, at the middle u of each index
    cumulative = np.cumsum(learned_weight(allocation, schedule))
    place = (indices + 0.5) / len(schedule) * cumulative[-1]
    return np.searchsorted(cumulative, place).astype(np.int64)
