"""Figures of a run with ``--reject``: separation of known and unknown images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from diffcls.evaluation.plan import Plan
from diffcls.metrics.rejection import (
    auroc,
    best_posterior,
    bootstrap_over_images,
    candidate_log_odds,
    fpr_at_recall,
    margin,
)
from diffcls.metrics.statistics import wilson_interval
from diffcls.runs.metrics_table import PROVENANCE, put
from diffcls.runs.records import RecordStore
from diffcls.support.notices import warn
from diffcls.support.types import Float64

if TYPE_CHECKING:
    from diffcls.classifiers.rejection import RejectingMethod

TABLE = "rejection.csv"
BACKGROUND, POSTERIOR, MARGIN = "odds against the background", "largest posterior", "margin"
"""Statistics of `diffcls.metrics.rejection`: `candidate_log_odds`, `best_posterior`, `margin`."""
RUN_COLUMNS = ("fingerprint", "dataset", "split", "method", "model", "evaluations_per_image")
ACCEPTED, REJECTED = "known images accepted", "unknown images rejected"
"""Metrics of the calibrated answer."""
METRICS: Mapping[str, Callable[[Float64, Float64], float]] = {
    "AUROC": auroc,
    "FPR95": fpr_at_recall,
}


def report_rejection(
    plan: Plan, row: Mapping[str, Any], store: RecordStore, scale: float
) -> list[dict[str, Any]]:
    """Put the figures of a run into its folder's ``rejection.csv``, and print them.

    Args:
        plan: the run.
        row: its leaderboard row.
        store: its records, whose last class is the background.
        scale: scale of the calibrated posterior.

    Returns:
        The rows of the table; none while there are no known or no unknown images.
    """
    records = sorted(store.records(), key=lambda record: record.image_id)
    scored = [record for record in records if record.error is None]
    if not scored or row["status"] != "complete":
        return []
    scores = np.array([[-np.inf if s is None else s for s in r.scores] for r in scored])
    unknown = np.array([r.label == scores.shape[1] - 1 for r in scored])
    candidates, method = scores[:, :-1], cast("RejectingMethod", plan.built.method)
    statistics = {
        BACKGROUND: candidate_log_odds(candidates, scores[:, -1], scale),
        POSTERIOR: best_posterior(candidates, method.candidate_scale),
        MARGIN: margin(candidates),
    }
    common = {
        **{name: row[name] for name in (*RUN_COLUMNS, *PROVENANCE)},
        "background_prompt": plan.options.background_prompt,
        "n_labels": candidates.shape[1],
    }
    found = figures(statistics, unknown, plan.spec.seed)
    if found:
        found += decisions(scores, unknown)
    rows = [{**common, **figure} for figure in found]
    if rows:
        put(Path(plan.options.output_dir) / TABLE, rows)
    if not plan.options.quiet:
        for line in describe(rows):
            warn(line)
    return rows


def figures(
    statistics: Mapping[str, Float64], unknown: np.ndarray, seed: int
) -> list[dict[str, Any]]:
    """AUROC and false-positive rate at 95 % recall of each statistic, with bootstrap intervals.

    Args:
        statistics: name -> (n,), high for known images.
        unknown: (n,) whether the image's class is not among the candidates.
        seed: seed of the resampling; equal for all statistics, so they are resampled alike.

    Returns:
        Rows with the columns ``statistic``, ``metric``, ``value``, ``ci_low``, ``ci_high``, ``n``
        and ``n_none``; none if all images are known, or all unknown.
    """
    if unknown.all() or not unknown.any():
        return []
    rows = []
    for name, values in statistics.items():
        known, other = values[~unknown], values[unknown]
        for metric, figure in METRICS.items():

            def resampled(i: Any, j: Any, of: Any = (figure, known, other)) -> float:
                value: float = of[0](of[1][i], of[2][j])
                return value

            low, high = bootstrap_over_images(resampled, len(known), len(other), seed)
            rows.append(
                {
                    "statistic": name,
                    "metric": metric,
                    "value": figure(known, other),
                    "ci_low": low,
                    "ci_high": high,
                    "n": len(values),
                    "n_none": len(other),
                }
            )
    return rows


def decisions(scores: Float64, unknown: np.ndarray) -> list[dict[str, Any]]:
    """Shares of images that the calibrated answer decides rightly, with Wilson intervals.

    Args:
        scores: (n, K + 1), the background last.
        unknown: (n,) whether the image's class is not among the candidates.

    Returns:
        Two rows: known images whose answer is a candidate, and unknown images whose answer is none.
    """
    none = scores[:, -1] > scores[:, :-1].max(axis=1)
    rows = []
    for metric, right in ((ACCEPTED, ~none[~unknown]), (REJECTED, none[unknown])):
        low, high = wilson_interval(int(right.sum()), len(right))
        row = {"statistic": BACKGROUND, "metric": metric, "value": float(right.mean())}
        counts = {"n": len(unknown), "n_none": int(unknown.sum())}
        rows.append({**row, "ci_low": low, "ci_high": high, **counts})
    return rows


def describe(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Lines for the terminal: the figures of the statistic that decides."""
    return [
        f"{row['dataset']}: {row['metric']} {float(row['value']):.3f} "
        f"[{float(row['ci_low']):.3f}, {float(row['ci_high']):.3f}], "
        f"{row['n']} images, {row['n_none']} of none of the {row['n_labels']} candidates"
        for row in rows
        if row["statistic"] == BACKGROUND
    ]
