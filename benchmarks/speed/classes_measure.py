"""Measurements of the scaling benchmark, each in a process of its own with one thread.

Memory is the peak above a baseline: the process with the model loaded and one image scored among
ten classes at batch size 1. Libraries and kernels are thus part of the baseline, batches and
prompts are not.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from diffcls.support.errors import DataError, UsageError


def measure(what: str, classes: int, search: str, images: int, batch: int = 64) -> dict[str, Any]:
    """One row: a search on images of `classes` classes, measured in this process.

    Args:
        what: the varied quantity that the row belongs to.
        classes: number of classes.
        search: name of the row in `benchmarks.speed.classes_searches`.
        images: number of images.
        batch: batch size.

    Returns:
        The row without its comparison with racing; and, by image id, ``predicted``, ``labels``,
        ``evaluations`` and ``raced``, the shortlist that a screen passed to its race (None without
        a screen).

    Raises:
        DataError: for an image that could not be scored.
    """
    from benchmarks.speed.classes_searches import OTHERS, SEARCHES, Setup
    from diffcls.data.load import load_dataset
    from diffcls.data.subsets import choose
    from diffcls.metrics.statistics import wilson_interval
    from diffcls.models import loading
    from diffcls.support.environment import denormals_flushed, set_threads

    set_threads(1)
    denoiser = loading.load("scenes")
    build = {**SEARCHES, **OTHERS}[search]
    few, _ = choose(load_dataset("scenes:10", "test"), 1)
    data, _ = choose(load_dataset(f"scenes:{classes}", "test"), images)
    with denormals_flushed():
        list(build(Setup(denoiser, few, 1, warm_up=True)).method.classify(few.items))
        loaded = memory("VmRSS")
        reset_peak()
        start = time.perf_counter()
        fitted = build(Setup(denoiser, data, batch))
        setup = time.perf_counter() - start
        answers = {answer.image_id: answer for answer in fitted.method.classify(data.items)}
        seconds = time.perf_counter() - start - setup
        peak = memory("VmHWM")
    for answer in answers.values():
        if answer.error is not None:
            raise DataError(f"{answer.image_id} was not scored: {answer.error}")
    right = sum(answers[item.image_id].ranking[0] == item.label for item in data.items)
    evaluations = sum(answer.evaluations for answer in answers.values())
    low, high = wilson_interval(int(right), len(answers))
    return {
        "what": what,
        "classes": classes,
        "search": search,
        "images": len(answers),
        "batch": batch,
        "accuracy": int(right) / len(answers),
        "ci_low": low,
        "ci_high": high,
        "evaluations_per_image": evaluations / len(answers),
        "images_per_second": len(answers) / seconds,
        "evaluations_per_second": evaluations / seconds,
        "setup_seconds": setup,
        "memory_mib": peak - loaded,
        "fit": fitted.fit,
        "fit_evaluations": fitted.fit_evaluations,
        "predicted": {i: int(a.ranking[0]) for i, a in answers.items()},
        "evaluations": {i: int(a.evaluations) for i, a in answers.items()},
        "raced": {i: None if a.raced is None else a.raced.tolist() for i, a in answers.items()},
        "labels": {item.image_id: item.label for item in data.items},
    }


def memory(field: str) -> float:
    """A field of this process's status, in MiB.

    Raises:
        UsageError: on a system without /proc.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise UsageError(
            "memory cannot be measured", given=str(error), allowed="Linux, which has /proc"
        ) from error
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def reset_peak() -> None:
    """Reset the peak of this process's memory."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
