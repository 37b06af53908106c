"""Measurements of the scaling benchmark, each in a process of its own with one thread.

Memory is the peak above a baseline: the process with the model loaded and one image scored among
ten classes at batch size 1, with free memory returned to the system. Libraries and kernels are
thus part of the baseline, batches and prompts are not.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffcls.support.errors import DataError, UsageError


def measure(what: str, classes: int, search: str, images: int, batch: int = 64) -> dict[str, Any]:
    """One row: a search on images of `classes` classes, measured in this process.

    Args:
        what: the varied quantity that the row belongs to.
        classes: number of classes.
        search: row of the benchmark, or a value of ``--search``.
        images: number of images.
        batch: batch size.

    Raises:
        DataError: for an image that could not be scored.
    """
    from benchmarks.speed.classes_runs import SEARCH_RUNS
    from benchmarks.speed.classes_searches import Setup, classifier, needs_fit, small_fit
    from diffcls.data.load import load_dataset
    from diffcls.data.subsets import choose
    from diffcls.metrics.statistics import wilson_interval
    from diffcls.models import loading
    from diffcls.support.environment import denormals_flushed, set_threads
    from diffcls.support.free_memory import release_free_memory

    set_threads(1)
    denoiser = loading.load("scenes")
    kind = SEARCH_RUNS[search].search if search in SEARCH_RUNS else search
    few, _ = choose(load_dataset("scenes:10", "test"), 1)
    data, _ = choose(load_dataset(f"scenes:{classes}", "test"), images)
    setup = Setup(denoiser, data, batch)
    with denormals_flushed():
        if needs_fit(kind, classes):
            training = load_dataset(f"scenes:{classes}", "train")
            setup = replace(setup, fit=small_fit(setup, training))
        list(classifier(kind, Setup(denoiser, few, 1, warm_up=True)).classify(few.items))
        release_free_memory()
        loaded = memory("VmRSS")
        reset_peak()
        start = time.perf_counter()
        method = classifier(kind, setup)
        set_up = time.perf_counter() - start
        answers = {answer.image_id: answer for answer in method.classify(data.items)}
        seconds = time.perf_counter() - start - set_up
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
        "setup_seconds": set_up,
        "memory_mib": peak - loaded,
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
