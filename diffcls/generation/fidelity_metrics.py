"""Metrics of fidelity from the features of real and generated images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffcls.generation.fidelity_options import METRICS

if TYPE_CHECKING:
    from diffcls.support.cache import Arrays


@dataclass(frozen=True)
class Metric:
    """A value and its standard error, NaN where it is not known."""

    name: str
    value: float
    stderr: float = math.nan


def compute(names: Sequence[str], real: Arrays, generated: Arrays) -> tuple[Metric, ...]:
    """Metrics of features.

    Args:
        names: in `METRICS`.
        real: ``features`` (n, d) and, if known, ``labels`` (n,).
        generated: ``features`` (m, d), ``logits`` (m, K), needed for IS alone, and, if known,
            ``labels`` (m,). With labels on both sides, KID compares subsets of equal classes.
    """
    from diffcls.metrics import generative

    x, y = real["features"], generated["features"]
    values: dict[str, Metric] = {}
    if "FID" in names:
        distance = generative.fid(generative.Statistics.of(x), generative.Statistics.of(y))
        values["FID"] = Metric("FID", distance)
    if "IS" in names:
        score = generative.inception_score(generated["logits"], min(10, len(y) // 10))
        values["IS"] = Metric("IS", score.value, score.stderr)
    if "KID" in names:
        size = max(2, min(1000, len(x) // 2, len(y) // 2))
        labelled = "labels" in real and "labels" in generated
        classes = (real["labels"], generated["labels"]) if labelled else None
        kid = generative.kid(x, y, subsets=50, size=size, classes=classes)
        values["KID"] = Metric("KID", kid.value, kid.stderr)
    if {"precision", "recall"} & set(names):
        both = generative.precision_recall(x, y)
        values |= {k: Metric(k, v) for k, v in zip(("precision", "recall"), both, strict=True)}
    return tuple(values[name] for name in METRICS if name in names)
