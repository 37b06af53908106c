"""Comparison of stored runs, image by image: accuracies, paired differences and tests."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diffcls.metrics.statistics import holm, mcnemar_exact, newcombe_interval, wilson_interval
from diffcls.runs.comparable import SharedImages, shared_images
from diffcls.runs.comparison_result import (
    ClassChange,
    Comparison,
    Difference,
    ImageAnswers,
    RunFigures,
)
from diffcls.runs.seed_groups import compare_groups
from diffcls.runs.selection import select
from diffcls.runs.stored import read_runs
from diffcls.support.errors import UsageError

Flags = NDArray[np.bool_]


def compare_runs(
    *runs: str, output_dir: str | os.PathLike[str] = "results", against: str | None = None
) -> Comparison:
    """Compare the stored runs of one data set on the images that all of them scored.

    Args:
        runs: fingerprints, their first digits, or filters such as ``method=diffusion``, see
            `diffcls.runs.selection.select`; at least two runs must result.
        output_dir: the output folder of the evaluations.
        against: the run that all others are compared with, as in `runs`; None: the first one.

    Returns:
        Accuracies with Wilson's interval; differences to one run with Newcombe's paired score
        interval (1998, method 10) and McNemar's exact test, corrected by Holm's method; classes and
        images on which the runs differ.

    Raises:
        UsageError: for runs that do not exist, are fewer than two, or cannot be compared: another
            data set, another split, other classes or labels, or no image in common.
        RecordError: for records or a leaderboard that cannot be read.
    """
    for name, texts in (("RUN", runs), ("--against", [against] if against is not None else [])):
        if isinstance(texts, str) or not all(isinstance(t, str) and t.strip() for t in texts):
            raise UsageError(
                f"{name} is not a text", given=texts, allowed="a fingerprint or filter"
            )
    stored = read_runs(output_dir)
    chosen = select(stored, runs)
    if against is not None:
        baseline = select(stored, [against])
        if len(baseline) != 1:
            raise UsageError(
                f"--against selects {len(baseline)} runs", given=against, allowed="one run"
            )
        chosen = [*baseline, *(run for run in chosen if run != baseline[0])]
    if len(chosen) < 2:
        raise UsageError(
            "a comparison needs two runs or more",
            given=[run.fingerprint for run in chosen],
            todo="name more runs; `python -m diffcls.list runs` lists them",
        )
    return compare(shared_images(chosen))


def compare(shared: SharedImages) -> Comparison:
    """Compare runs on the images that all of them scored.

    Args:
        shared: runs with their results; all others are compared with the first one.
    """
    correct = shared.correct  # (R, n)
    spec = shared.runs[0].run.spec
    return Comparison(
        dataset=str(spec["dataset"]),
        split=str(spec["split"]),
        n_classes=shared.n_classes,
        n_shared=len(shared.image_ids),
        n_images=shared.n_images,
        runs=[_figures(shared, r, correct[r]) for r in range(len(shared.runs))],
        differences=with_holm([difference_of(shared, r) for r in range(1, len(shared.runs))]),
        groups=compare_groups(shared),
        images=_answers(shared),
    )


def with_holm(differences: Sequence[Difference]) -> list[Difference]:
    """The differences with their p-values corrected for their number."""
    if not differences:
        return []
    corrected = holm([one.p_value for one in differences])
    return [one.with_correction(float(p)) for one, p in zip(differences, corrected, strict=True)]


def _figures(shared: SharedImages, r: int, correct: Flags) -> RunFigures:
    results = shared.runs[r]
    run, n_correct, n = results.run, int(correct.sum()), len(correct)
    low, high = wilson_interval(n_correct, n)
    return RunFigures(
        fingerprint=run.fingerprint,
        method=run.column("method"),
        search=run.column("search"),
        model=run.column("model"),
        setting=run.column("setting"),
        seed=run.column("seed"),
        status=results.status,
        n_asked=run.n_asked,
        n_scored=results.n_scored,
        n_failed=results.n_failed,
        n_correct=n_correct,
        accuracy=n_correct / n,
        ci_low=low,
        ci_high=high,
        evaluations_per_image=float(shared.evaluations[r].mean()),
        differs_in=shared.differs_in(r),
    )


def difference_of(shared: SharedImages, r: int) -> Difference:
    """Run `r` against the first one, its p-value not corrected."""
    before, after = shared.correct[0], shared.correct[r]
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    both, n = int((before & after).sum()), len(before)
    low, high = newcombe_interval(both, gained, lost, n - both - gained - lost)
    changes = _class_changes(shared, r)
    before_cost, after_cost = (float(shared.evaluations[i].sum()) for i in (0, r))
    return Difference(
        fingerprint=shared.runs[r].run.fingerprint,
        against=shared.runs[0].run.fingerprint,
        difference=(gained - lost) / n,
        ci_low=low,
        ci_high=high,
        n_gained=gained,
        n_lost=lost,
        n_same_answer=int((shared.answers[0] == shared.answers[r]).sum()),
        p_value=mcnemar_exact(after, before),
        cost_ratio=after_cost / before_cost if before_cost and after_cost else None,
        classes_gained=[one for one in changes if one.change > 0],
        classes_lost=[one for one in reversed(changes) if one.change < 0],
    )


def _class_changes(shared: SharedImages, r: int) -> list[ClassChange]:
    """Each class whose number of correct images changes; the greatest gain comes first."""
    if not shared.class_names:
        return []  # each image has candidates of its own
    size = len(shared.class_names)
    totals = np.bincount(shared.labels, minlength=size)
    before, after = (
        np.bincount(shared.labels[flags], minlength=size)
        for flags in (shared.correct[0], shared.correct[r])
    )
    changes = [
        ClassChange(k, shared.class_names[k], int(totals[k]), int(before[k]), int(after[k]))
        for k in np.flatnonzero(before != after).tolist()
    ]
    return sorted(changes, key=lambda one: (-one.change, one.index))


def _answers(shared: SharedImages) -> list[ImageAnswers]:
    """The images on which the answers of two runs differ, by image id."""
    differ = (shared.answers != shared.answers[0]).any(axis=0)
    return [
        ImageAnswers(
            image_id=shared.image_ids[i],
            label=int(shared.labels[i]),
            answers=[int(k) for k in shared.answers[:, i]],
            probabilities=[
                results.scored[shared.image_ids[i]].probability for results in shared.runs
            ],
            names=shared.class_names,
        )
        for i in np.flatnonzero(differ).tolist()
    ]
