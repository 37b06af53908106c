"""Calibration of a learned screen: the caution with which racing's winner survives.

On unlabelled images that the fit has not seen, all classes race. The caution is the quantile, by
split conformal prediction (Vovk et al. 2005, section 4.3; Angelopoulos and Bates 2023), of what
these images need.
"""

from __future__ import annotations

import math

import numpy as np

from diffcls.classifiers.screen_fit import warn_of_losses
from diffcls.classifiers.screen_measurement import ScreenMeasurement, finite_rows
from diffcls.data.dataset import Item
from diffcls.search.learned import Learned, LearnedScreen, LearnedScreening, ScreenFit
from diffcls.support.cache import Arrays
from diffcls.support.types import Float64


def calibrate(
    measurement: ScreenMeasurement,
    search: Learned,
    items: tuple[Item, ...],
    fit: ScreenFit,
) -> Arrays:
    """Caution with which racing's winner survives with the allowed probability of a loss.

    For each image the least caution is found that keeps the winner: the screening must not end
    before it is measured. The caution is the quantile of these of split conformal prediction.

    Returns:
        ``caution``, ``survival``: the probability that the winner survives, and
        ``calibration_images``.
    """
    winners = _winners(measurement, search, items)
    items = tuple(item for item in items if item.image_id in winners)
    screen = search.screen
    screenings = _run(measurement, screen, fit, items)
    needed = [
        caution_needed(screening, winners[item.image_id], screen.candidates)
        for screening, item in zip(screenings, items, strict=True)
        if screening is not None
    ]
    caution, survival = conformal(np.array(needed), search.allowed_loss)
    return {
        "caution": np.asarray(caution),
        "survival": np.asarray(survival),
        "calibration_images": np.asarray(len(needed)),
    }


def caution_needed(screening: LearnedScreening, winner: int, candidates: int) -> float:
    """The least caution with which a class survives; infinite if it does with none.

    Args:
        screening: finished, without an end before its last look.
        winner: the class.
        candidates: classes measured before the screening may end.
    """
    if winner not in screening.shortlist:
        return math.inf
    looks = screening.looked.index(winner)
    # margins before the round in which the winner was measured
    before = [
        margin
        for count, margin in zip(screening.counts, screening.margins, strict=True)
        if candidates <= count <= looks
    ]
    return max(before, default=-math.inf)


def conformal(needed: Float64, allowed_loss: float) -> tuple[float, float]:
    """Caution and probability of survival by split conformal prediction.

    With n calibration images, a new image needs at most the ⌈(1 − δ)(n + 1)⌉-th smallest caution
    with a probability of 1 − δ or more (Vovk et al. 2005). If that is infinite, the largest finite
    one is chosen, and the probability is that of its rank: (rank / (n + 1)).

    Args:
        needed: (n,) the least caution of each image.
        allowed_loss: δ.
    """
    ordered, n = np.sort(needed), len(needed)
    rank = math.ceil((1 - allowed_loss) * (n + 1))
    finite = int(np.isfinite(ordered).sum() + np.isneginf(ordered).sum())
    rank = min(rank, finite)
    if rank < 1:
        return math.inf, 0.0
    return max(float(ordered[rank - 1]), 0.0), rank / (n + 1)


def _winners(
    measurement: ScreenMeasurement, search: Learned, items: tuple[Item, ...]
) -> dict[str, int]:
    """Image id -> racing's winner; images that cannot be scored are left out."""
    winners: dict[str, int] = {}
    reason = ""
    for scores in measurement.method.with_search(search.race).classify(items):
        measurement.count(scores.evaluations)
        if scores.error is None:
            winners[scores.image_id] = int(scores.ranking[0])
        else:
            reason = scores.error
    if reason:
        warn_of_losses(len(items) - len(winners), len(items), reason)
    return winners


def _run(
    measurement: ScreenMeasurement, screen: LearnedScreen, fit: ScreenFit, items: tuple[Item, ...]
) -> list[LearnedScreening | None]:
    """Screenings run to their end, side by side, so that batches are full.

    Returns:
        (N,) None for an image with an error that is not finite.
    """
    x0 = measurement.latents(items)
    probes = measurement.at_mean(x0, screen.draws)
    running: dict[int, LearnedScreening] = {}
    whole = finite_rows(probes.first_order, probes.features)
    for i in np.flatnonzero(whole).tolist():
        running[i] = screening = LearnedScreening(screen, fit, caution=math.inf)
        screening.request()
        features = probes.features[i].reshape(len(screen.draws), -1)
        screening.receive([*np.concatenate([probes.first_order[i], features], axis=1)])
    while requests := {i: some for i, one in running.items() if (some := one.request())}:
        classes = [np.array([p.members[0] for p in some], np.int64) for some in requests.values()]
        measured = measurement.errors(x0[[*requests]], classes, screen.draws[:1])
        for i, errors in zip(requests, measured, strict=True):
            if np.isfinite(errors).all():
                running[i].receive([*errors[:, 0]])
            else:
                del running[i]
    if len(running) < len(items):
        lost = len(items) - len(running)
        warn_of_losses(lost, len(items), "its errors are not finite")
    return [running.get(i) for i in range(len(items))]
