"""Summary of a run: its leaderboard row, computed from its records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple, cast

from diffcls.metrics import calibration, classification, statistics
from diffcls.runs.row import COLUMNS, MEASURED, Row
from diffcls.support.errors import RecordError, UsageError

TOP = 5


def summarise(
    records: Iterable[Any],
    metadata: Mapping[str, Any],
    *,
    n_asked: int,
    posterior_scale: float | None,
) -> Row:
    """The leaderboard row of a run, from its records.

    Args:
        records: at most one per image; mappings or objects with the fields `label`, `ranking` (K,)
            best first, `scores` (K,) by class index (None for a class never scored),
            `evaluations`, `seconds` and `error` (None unless the image failed). Each is read once
            and reduced to a few numbers: the scores of many classes would fill the memory.
        metadata: the columns that are not computed from records, `n_classes` among them.
        n_asked: number of images of the run.
        posterior_scale: see `diffcls.metrics.calibration.posterior`; None leaves `ece` empty.

    Returns:
        A row of all columns. Failed images are counted in `n_asked` but not in `n_scored`; every
        figure is over the scored ones, and None if there are none. `status` is ``complete`` once
        every image has a record and at least one is scored.

    Raises:
        UsageError: for metadata of an unknown or computed column, or without `n_classes`.
        RecordError: for more records than images, or a ranking of other classes.
    """
    n_classes = _check_metadata(metadata)
    count, scored = 0, []
    for record in records:
        count += 1
        if _field(record, "error") is None:
            scored.append(_outcome(record, n_classes, posterior_scale))
    if count > n_asked:
        raise RecordError("more records than images", given=count, allowed=f"at most {n_asked}")
    scored.sort(key=lambda outcome: outcome.image_id)  # sums have their last bits by order
    done = count == n_asked and bool(scored)
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | dict(metadata)
    row.update(source=MEASURED, n_asked=n_asked, n_scored=len(scored))
    row.update(status="complete" if done else "partial")
    if scored:
        row.update(_figures(scored, n_classes))
    return cast(Row, row)


# the columns that `summarise` fills itself
# fmt: off
_COMPUTED = frozenset((
    "source", "n_asked", "n_scored", "accuracy", "ci_low", "ci_high", "top5", "mean_per_class",
    "ece", "evaluations_per_image", "seconds_per_image", "status",
))
# fmt: on


def _check_metadata(metadata: Mapping[str, Any]) -> int:
    allowed = [name for name in COLUMNS if name not in _COMPUTED]
    for name in metadata:
        if name not in allowed:
            raise UsageError("metadata given for an unknown or computed column", name, allowed)
    n_classes = metadata.get("n_classes")
    if not isinstance(n_classes, Integral) or n_classes < 1:
        raise UsageError("n_classes out of range", given=n_classes, allowed="an int, at least 1")
    return int(n_classes)


class _Outcome(NamedTuple):
    """What the figures need of a scored image.

    Args:
        image_id: the image; empty for a mapping without it.
        label: its class index.
        best: the `TOP` classes that are ranked first, or all.
        confidence: the largest posterior probability, and whether it is that of the label; None
            without a posterior.
        evaluations, seconds: see `diffcls.runs.record.Record`.
    """

    image_id: str
    label: int
    best: tuple[int, ...]
    confidence: tuple[float, bool] | None
    evaluations: int
    seconds: float


def _outcome(record: Any, n_classes: int, scale: float | None) -> _Outcome:
    _check_record(record, n_classes)
    label, confidence = _field(record, "label"), None
    if scale is not None:
        p = calibration.posterior(_scores(record), scale)
        confidence = float(p.max()), bool(p.argmax() == label)
    return _Outcome(
        _field(record, "image_id", ""),
        label,
        tuple(_field(record, "ranking")[:TOP]),
        confidence,
        _field(record, "evaluations"),
        _field(record, "seconds"),
    )


def _figures(scored: Sequence[_Outcome], n_classes: int) -> dict[str, Any]:
    labels = [outcome.label for outcome in scored]
    best = [outcome.best for outcome in scored]
    accuracy = classification.top_k_accuracy(best, labels)
    low, high = statistics.wilson_interval(round(accuracy * len(scored)), len(scored))
    ece = None
    confidences = [one.confidence for one in scored if one.confidence is not None]
    if confidences:
        ece = calibration.calibration_error_of(
            [confidence for confidence, _ in confidences], [correct for _, correct in confidences]
        )
    return {
        "accuracy": accuracy,
        "ci_low": low,
        "ci_high": high,
        "top5": classification.top_k_accuracy(best, labels, k=TOP) if n_classes > TOP else None,
        "mean_per_class": classification.mean_per_class([one[0] for one in best], labels),
        "ece": ece,
        "evaluations_per_image": math.fsum(one.evaluations for one in scored) / len(scored),
        "seconds_per_image": math.fsum(one.seconds for one in scored) / len(scored),
    }


def _check_record(record: Any, n_classes: int) -> None:
    label, ranking = _field(record, "label"), _field(record, "ranking")
    fits = 0 <= label < n_classes and sorted(ranking) == list(range(n_classes))
    if not fits or len(_field(record, "scores")) != n_classes:
        raise RecordError(
            "record does not fit the run's classes",
            given={"label": label, "ranking": ranking},
            allowed=f"a label, a ranking and scores of the {n_classes} classes",
            todo="choose another --output-dir and rerun",
        )


def _scores(record: Any) -> list[float]:
    # a class that was never scored has no share in the posterior
    return [-math.inf if score is None else score for score in _field(record, "scores")]


def _field(record: Any, name: str, default: Any = None) -> Any:
    if isinstance(record, Mapping):
        return record[name] if default is None else record.get(name, default)
    return getattr(record, name) if default is None else getattr(record, name, default)
