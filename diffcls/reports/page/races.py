"""Races of a search, from error tables: elimination order, classes alive, shares of timesteps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffcls.search.error_table import Table
from diffcls.support.types import Float64


@dataclass(frozen=True)
class Race:
    """The error table of one image.

    Args:
        table: (K, N) errors, NaN where not evaluated.
        label: index of the image's class.
    """

    table: Table
    label: int


def elimination(table: Table) -> list[tuple[int, list[int]]]:
    """(draws, classes) that dropped out after as many draws, the earliest first.

    The last entry holds the classes with most draws, which were not eliminated. Within an entry,
    the class of the lowest mean error comes last.
    """
    draws = np.isfinite(table).sum(axis=1)
    means = np.array([row[np.isfinite(row)].mean() if n else np.inf for row, n in _pairs(table)])
    order = sorted(range(len(table)), key=lambda k: (draws[k], -means[k], k))
    return [(int(n), [k for k in order if draws[k] == n]) for n in np.unique(draws)]


def _pairs(table: Table) -> list[tuple[Table, int]]:
    return [(row, int(np.isfinite(row).sum())) for row in table]


def classes_alive(races: Sequence[Race]) -> Float64:
    """(N,) mean number of classes evaluated at each draw, over images."""
    return np.mean([np.isfinite(race.table).sum(axis=0) for race in races], axis=0)


@dataclass(frozen=True)
class TimeBin:
    """A part of the timesteps.

    Args:
        low, high: least and greatest timestep in it.
        n: (image, draw) pairs in which the label and its closest rival were both evaluated.
        label_error, rival_error: their mean errors.
        difference: mean of rival's error minus label's: above 0, this part speaks for the label.
        stderr: standard error of `difference`.
        share: part of the summed difference over all timesteps; None where that is 0.
    """

    low: float
    high: float
    n: int
    label_error: float
    rival_error: float
    difference: float
    stderr: float | None
    share: float | None


def by_timestep(races: Sequence[Race], timesteps: Float64, count: int = 8) -> list[TimeBin]:
    """Errors against timestep, of the label and of its closest rival, in parts of equal width.

    The rival of an image is, of the other classes with most draws in common with the label, the one
    of least error: one that dropped out early says little. Only pairs with both errors are counted,
    so a difference is paired.
    """
    if not len(timesteps):
        return []
    edges = np.linspace(0, max(float(np.max(timesteps)), 1e-12), count + 1)
    place = np.clip(np.searchsorted(edges, timesteps, side="left") - 1, 0, count - 1)
    label_errors: list[Float64] = []
    rival_errors: list[Float64] = []
    places = []
    for race in races:
        rival = _rival(race)
        both = np.isfinite(race.table[race.label]) & np.isfinite(race.table[rival])
        label_errors.append(race.table[race.label, both].astype(np.float64))
        rival_errors.append(race.table[rival, both].astype(np.float64))
        places.append(place[both])
    label, rival_error = np.concatenate(label_errors), np.concatenate(rival_errors)
    part, difference = np.concatenate(places), rival_error - label
    total = float(difference.sum())
    return [
        TimeBin(
            low=float(timesteps[place == m].min()),
            high=float(timesteps[place == m].max()),
            n=n,
            label_error=float(label[chosen].mean()),
            rival_error=float(rival_error[chosen].mean()),
            difference=float(difference[chosen].mean()),
            stderr=float(difference[chosen].std(ddof=1) / np.sqrt(n)) if n > 1 else None,
            share=float(difference[chosen].sum()) / total if total else None,
        )
        for m, chosen in ((m, part == m) for m in range(count))
        if (n := int(chosen.sum()))
    ]


def _rival(race: Race) -> int:
    """The label's closest rival: of the other classes with most draws, that of least error."""
    shared = np.isfinite(race.table - race.table[race.label])
    draws = shared.sum(axis=1)
    draws[race.label] = -1
    errors = np.where(shared, race.table, 0.0).sum(axis=1)
    return int(np.argmin(np.where(draws == draws.max(), errors, np.inf)))
