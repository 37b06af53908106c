"""Runs over several seeds of one setting, compared as groups; images are the unit of sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from diffcls.metrics.statistics import (
    bootstrap_interval,
    holm,
    sign_flip_test,
    wilson_interval,
)
from diffcls.runs.comparable import SharedImages
from diffcls.runs.comparison_result import SeedGroup
from diffcls.support.hashing import hash_json
from diffcls.support.types import Float64

RESAMPLING_SEED = 0


def compare_groups(shared: SharedImages) -> list[SeedGroup]:
    """The settings with their seeds; the others are compared with the first run's setting.

    The seeds of a setting score the same images, so that their results are not independent: a
    resample takes an image with its results of all seeds (cluster bootstrap, Davison and Hinkley
    1997, section 3.8). The intervals hold for other images and these seeds.

    Returns:
        A group per setting in the order of its first run; empty if each has a single seed.
    """
    members: dict[str, list[int]] = {}
    for r, results in enumerate(shared.runs):
        spec = {name: value for name, value in results.run.spec.items() if name != "seed"}
        members.setdefault(hash_json(spec), []).append(r)
    if max(map(len, members.values())) < 2:
        return []
    first, *others = members.values()
    baseline = shared.correct[first].mean(axis=0)  # (n,) over seeds
    differences = [shared.correct[rows].mean(axis=0) - baseline for rows in others]
    p_values = [sign_flip_test(values, RESAMPLING_SEED) for values in differences]
    corrected = holm(p_values).tolist() if p_values else []
    groups = [_group(shared, first)]
    for rows, values, p, p_holm in zip(others, differences, p_values, corrected, strict=True):
        low, high = _interval(values)
        groups.append(
            replace(
                _group(shared, rows),
                difference=float(values.mean()),
                difference_low=low,
                difference_high=high,
                p_value=p,
                p_holm=p_holm,
            )
        )
    return groups


def _group(shared: SharedImages, rows: Sequence[int]) -> SeedGroup:
    correct = shared.correct[rows]
    accuracies = correct.mean(axis=1)
    low, high = _interval(correct.mean(axis=0))
    if low is None and accuracies.mean() in (0, 1):
        low, high = wilson_interval(int(correct[0].sum()), correct.shape[1])
    return SeedGroup(
        fingerprints=[shared.runs[r].run.fingerprint for r in rows],
        seeds=[shared.runs[r].run.column("seed") for r in rows],
        accuracy=float(accuracies.mean()),
        ci_low=low,
        ci_high=high,
        lowest=float(accuracies.min()),
        highest=float(accuracies.max()),
    )


def _interval(values: Float64) -> tuple[float | None, float | None]:
    """The bootstrap interval of a mean; None where all values are equal: it would be a point."""
    if np.ptp(values) == 0:
        return None, None
    return bootstrap_interval(values, RESAMPLING_SEED)
