"""Scaling benchmark: cost and memory against the number of classes, images and the batch size.

Writes ``growth.csv``, ``GROWTH.md`` and ``growth.png``. The classes are scenes of one rendering,
in any number (``scenes:N``). Each measurement is a process of its own with one thread. Its memory
is the peak above a baseline: the process with the model loaded and one image scored among ten
classes at batch size 1. Libraries and kernels are thus part of the baseline, batches and prompts
are not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.core.flags import add_jobs, add_report_only, entry_point, parser
from benchmarks.core.processes import output_of
from benchmarks.core.tables import SIX_DIGITS, read_rows, record_environment, write_rows
from benchmarks.speed.classes_report import write_page
from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    from diffcls.data.dataset import Dataset

CLASSES = (10, 30, 100, 300, 1000)
SEARCHES = ("racing", "gradient")
IMAGES = 100
BATCH_SIZES = (8, 16, 32, 64, 128, 256)
IMAGE_COUNTS = (50, 200, 800)
TABLE = "growth.csv"
COLUMNS = (
    "what",
    "classes",
    "search",
    "images",
    "batch",
    "accuracy",
    "ci_low",
    "ci_high",
    "evaluations_per_image",
    "images_per_second",
    "evaluations_per_second",
    "setup_seconds",
    "memory_mib",
    "recall",
    "lost_to_racing",
    "mcnemar_p_vs_racing",
)


def _main(arguments: list[str]) -> int:
    p = parser("classes", __doc__)
    p.add_argument("--images", type=int, default=IMAGES, metavar="N", help=f"({IMAGES})")
    p.add_argument("--classes", type=int, nargs="+", default=CLASSES, metavar="N")
    p.add_argument("--one", metavar="JSON", help=argparse.SUPPRESS)
    add_jobs(p)
    add_report_only(p)
    flags = p.parse_args(arguments)
    if flags.one:
        print(json.dumps(measure(**json.loads(flags.one))))
        return 0
    output = Path(flags.output_dir)
    if not flags.report_only:
        measurements = [*_measurements(flags.classes, flags.images)]
        with ThreadPoolExecutor(flags.jobs) as pool:
            rows = list(pool.map(_in_a_process, measurements))
        save(compare_with_racing(rows), output)
    write_page(read_rows(output / TABLE), output)
    return 0


main = entry_point(_main)


def save(rows: Sequence[dict[str, Any]], output: Path) -> None:
    """Write the table, and the environment it was measured in."""
    from diffcls.support.environment import set_threads

    set_threads(1)  # as in the processes that measured
    write_rows(output / TABLE, rows, COLUMNS, SIX_DIGITS)
    record_environment(output, "classes")


def _measurements(classes: Sequence[int], images: int) -> Iterator[dict[str, Any]]:
    """The arguments of `measure` for every row."""
    for count in classes:
        for search in SEARCHES:
            yield {"what": "classes", "classes": count, "search": search, "images": images}
    for count in (min(classes), max(classes)):
        yield {"what": "memory", "classes": count, "search": "exhaustive", "images": 2}
    for number in IMAGE_COUNTS:
        yield {"what": "images", "classes": 10, "search": "racing", "images": number}
    for batch in BATCH_SIZES:
        yield {"what": "batch", "classes": 10, "search": "racing", "images": 100, "batch": batch}


def _in_a_process(arguments: dict[str, Any]) -> dict[str, Any]:
    command = ["-m", "benchmarks.run", "classes", "--one", json.dumps(arguments)]
    row: dict[str, Any] = json.loads(output_of(command).splitlines()[-1])
    print(json.dumps({k: v for k, v in row.items() if k in COLUMNS}), file=sys.stderr)
    return row


def measure(what: str, classes: int, search: str, images: int, batch: int = 64) -> dict[str, Any]:
    """One row: a search on images of `classes` classes, measured in this process.

    Args:
        what: the varied quantity that the row belongs to.
        classes: number of classes.
        search: value of ``--search``.
        images: number of images.
        batch: batch size.

    Returns:
        The row without its comparison with racing; and, by image id, ``predicted``, ``labels`` and
        ``raced``, the shortlist that a screen passed to its race (None without a screen).
    """
    from diffcls.classifiers.diffusion import DiffusionMethod
    from diffcls.data import catalog
    from diffcls.data.load import load_dataset
    from diffcls.data.prompts import PromptSet
    from diffcls.data.subsets import choose
    from diffcls.metrics.statistics import wilson_interval
    from diffcls.models import loading
    from diffcls.search import SEARCHES as KINDS
    from diffcls.search.screening import ScreenedSearch
    from diffcls.support.environment import denormals_flushed, set_threads

    set_threads(1)
    denoiser = loading.load("scenes")
    kind = KINDS.load(search)

    def method_on(data: Dataset, batch: int, **options: int) -> DiffusionMethod:
        templates = catalog.find(data.name).templates
        prompts = PromptSet.from_templates(data.class_names, templates, data.prompt_names)
        allocation = denoiser.card.allocation
        return DiffusionMethod(
            denoiser,
            prompts,
            kind(**options),
            batch_size=batch,
            encode_batch=min(batch, 16),
            allocation=allocation,
        )

    few, _ = choose(load_dataset("scenes:10", "test"), 1)
    data, _ = choose(load_dataset(f"scenes:{classes}", "test"), images)
    with denormals_flushed():
        # fewer candidates than classes, so that a screen runs at all
        screened = {"candidates": 2} if issubclass(kind, ScreenedSearch) else {}
        list(method_on(few, 1, **screened).classify(few.items))
        loaded = _memory("VmRSS")
        _reset_peak()
        start = time.perf_counter()
        method = method_on(data, batch)
        setup = time.perf_counter() - start
        answers = {answer.image_id: answer for answer in method.classify(data.items)}
        seconds = time.perf_counter() - start - setup
        peak = _memory("VmHWM")
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
        "predicted": {i: int(a.ranking[0]) for i, a in answers.items()},
        "raced": {i: None if a.raced is None else a.raced.tolist() for i, a in answers.items()},
        "labels": {item.image_id: item.label for item in data.items},
    }


def compare_with_racing(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, compared image by image with racing on the same number of classes.

    ``recall`` is the share of images on which racing's prediction is in the screen's shortlist.

    Args:
        rows: rows of `measure`.
    """
    from diffcls.metrics.statistics import mcnemar_exact

    races = {row["classes"]: row for row in rows if _compared(row) and row["search"] == "racing"}
    compared = []
    for row in rows:
        result = {name: row.get(name) for name in COLUMNS}
        race = races.get(row["classes"])
        if race is not None and _compared(row):
            predicted, labels = race["predicted"], race["labels"]
            correct = [row["predicted"][i] == k for i, k in labels.items()]
            correct_of_race = [predicted[i] == k for i, k in labels.items()]
            kept = [row["raced"][i] is None or k in row["raced"][i] for i, k in predicted.items()]
            result["recall"] = sum(kept) / len(kept)
            result["lost_to_racing"] = (sum(correct_of_race) - sum(correct)) / len(correct)
            result["mcnemar_p_vs_racing"] = mcnemar_exact(correct, correct_of_race)
        compared.append(result)
    return compared


def _compared(row: dict[str, Any]) -> bool:
    return bool(row["what"] == "classes")


def _memory(field: str) -> float:
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


def _reset_peak() -> None:
    """Reset the peak of this process's memory."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
