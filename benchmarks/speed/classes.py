"""Scaling benchmark: cost and memory against the number of classes, images and the batch size.

Writes ``growth.csv``, ``GROWTH.md`` and ``growth.png``, and the predictions of every search into
``growth_answers``. The classes are scenes of one rendering, in any number (``scenes:N``). Each
measurement is a process of its own with one thread: accuracy and evaluations in long runs, which
other work on the machine cannot change; time and memory in short runs, one at a time, for which
a core has to be free. Answers that are stored are reused, so a stopped benchmark resumes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.core.flags import add_jobs, add_report_only, entry_point, parser
from benchmarks.core.processes import output_of
from benchmarks.core.tables import SIX_DIGITS, read_rows, record_environment, write_rows
from benchmarks.speed import classes_answers as stored
from benchmarks.speed.classes_answers import Answers
from benchmarks.speed.classes_measure import measure
from benchmarks.speed.classes_report import write_page
from benchmarks.speed.classes_runs import SEARCH_RUNS, forget, long_run
from diffcls.support.errors import UsageError, unknown_name

CLASSES = (10, 30, 100, 300, 1000)
RACE = "racing"
"""The search that all others are compared with."""
IMAGES = 1000
MIN_IMAGES = 500
"""Images from which on the interval of a difference in accuracy is narrow enough to be of use."""
TIMED_IMAGES, FEW_TIMED_IMAGES = 100, 20
"""Images of the short runs, and of those among more than `MANY_CLASSES`, which last longer."""
MANY_CLASSES = 100
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
    "difference_low",
    "difference_high",
    "fit",
    "fit_evaluations",
)
SPEEDS = ("images_per_second", "evaluations_per_second", "setup_seconds", "memory_mib")
"""Columns that the short runs measure."""


def _main(arguments: list[str]) -> int:
    p = parser("classes", __doc__)
    images = f"in the long runs, {MIN_IMAGES} or more ({IMAGES})"
    p.add_argument("--images", type=int, default=IMAGES, metavar="N", help=images)
    p.add_argument("--classes", type=int, nargs="+", default=CLASSES, metavar="N")
    p.add_argument("--only", nargs="+", metavar="SEARCH", help="measure these searches only")
    p.add_argument("--again", action="store_true", help="measure what is stored again, too")
    p.add_argument("--timing", action="store_true", help="measure time and memory alone, again")
    p.add_argument("--one", metavar="JSON", help=argparse.SUPPRESS)
    add_jobs(p)
    add_report_only(p)
    flags = p.parse_args(arguments)
    if flags.one:
        print(json.dumps(measure(**json.loads(flags.one))))
        return 0
    output = Path(flags.output_dir)
    if not flags.report_only:
        searches = _searches(flags.only)
        if flags.images < MIN_IMAGES:
            allowed = f"{MIN_IMAGES} or more"
            raise UsageError("--images out of range", given=flags.images, allowed=allowed)
        if not flags.timing:
            _make_answers(flags, searches, output)
        _make_times(flags, searches, output)
        save(rows_of(output), output)
    write_page(read_rows(output / TABLE), output)
    return 0


main = entry_point(_main)


def _searches(only: Sequence[str] | None) -> list[str]:
    """The chosen rows, racing first.

    Raises:
        UsageError: for an unknown name.
    """
    for name in only or ():
        if name not in SEARCH_RUNS:
            raise unknown_name("search of this benchmark", name, SEARCH_RUNS)
    return [name for name in SEARCH_RUNS if name in (only or SEARCH_RUNS)]


def _make_answers(flags: argparse.Namespace, searches: Sequence[str], output: Path) -> None:
    """The long runs, which may share the machine."""

    def make(count: int, search: str) -> None:
        if flags.again:
            forget(count, search, output)
        stored.save(long_run(count, search, flags.images, output), output)

    wanted = [
        (count, search)
        for count in flags.classes
        for search in searches
        if SEARCH_RUNS[search].is_for(count)
    ]
    todo = [
        (count, search)
        for count, search in wanted
        if flags.again or not _is_stored(stored.read(count, search, output), flags.images)
    ]
    with ThreadPoolExecutor(flags.jobs) as pool:
        list(pool.map(lambda one: make(*one), todo))


def _is_stored(answers: Answers | None, images: int) -> bool:
    return answers is not None and len(answers.image_ids) == images


def _make_times(flags: argparse.Namespace, searches: Sequence[str], output: Path) -> None:
    """The short runs, one at a time: a second process would change the times of the first."""
    known = stored.read_times(output)
    for arguments in timed_runs(flags.classes, searches, everything=flags.only is None):
        key = json.dumps(arguments, sort_keys=True)
        if key in known and not (flags.timing or flags.again):
            continue
        row = _in_a_process(arguments)
        stored.save_times(key, {k: v for k, v in row.items() if k in COLUMNS}, output)


def timed_runs(
    classes: Sequence[int], searches: Sequence[str], everything: bool
) -> Iterator[dict[str, Any]]:
    """The arguments of `measure` for every short run.

    Args:
        classes: numbers of classes.
        searches: rows of the benchmark.
        everything: whether memory, number of images and batch size are varied, too.
    """
    for count in classes:
        for search in searches:
            if SEARCH_RUNS[search].is_for(count):
                row = {"what": "classes", "classes": count, "search": search}
                images = FEW_TIMED_IMAGES if count > MANY_CLASSES else TIMED_IMAGES
                yield {**row, "images": images}
    if not everything:
        return
    for count in (min(classes), max(classes)):
        yield {"what": "memory", "classes": count, "search": "exhaustive", "images": 2}
    for number in IMAGE_COUNTS:
        yield {"what": "images", "classes": 10, "search": RACE, "images": number}
    for batch in BATCH_SIZES:
        yield {"what": "batch", "classes": 10, "search": RACE, "images": 100, "batch": batch}


def _in_a_process(arguments: dict[str, Any]) -> dict[str, Any]:
    command = ["-m", "benchmarks.run", "classes", "--one", json.dumps(arguments)]
    row: dict[str, Any] = json.loads(output_of(command).splitlines()[-1])
    print(json.dumps({k: v for k, v in row.items() if k in COLUMNS}), file=sys.stderr)
    return row


def rows_of(output: Path) -> list[dict[str, Any]]:
    """The rows of the table, from all stored answers and times."""
    times = [*stored.read_times(output).values()]
    short = {(r["classes"], r["search"]): r for r in times if r["what"] == "classes"}
    all_answers = stored.read_all(output, [*SEARCH_RUNS])
    races = {a.classes: a for a in all_answers if a.search == RACE}
    rows = []
    for answers in all_answers:
        row = row_of(answers, races.get(answers.classes))
        timed = short.get((answers.classes, answers.search), {})
        row |= {name: timed.get(name) for name in ("batch", *SPEEDS)}
        if row["evaluations_per_second"]:  # of the short run, at the cost of the long one
            row["images_per_second"] = row["evaluations_per_second"] / row["evaluations_per_image"]
        rows.append(row)
    return [*rows, *(r for r in times if r["what"] != "classes")]


def row_of(answers: Answers, race: Answers | None) -> dict[str, Any]:
    """The row of one search, compared image by image with racing on the same number of classes.

    ``recall`` is the share of images on which racing's prediction is among the first classes of the
    ranking, as many as may enter the race after a screen.
    ``difference_low`` and ``difference_high`` are Newcombe's 95 % interval of the accuracy minus
    racing's. ``fit_evaluations`` are per image scored.

    Args:
        answers: answers of the search.
        race: racing's answers; None, or answers to other images, give no comparison.
    """
    from diffcls.metrics.statistics import mcnemar_exact, newcombe_interval, wilson_interval

    right, n = answers.correct, len(answers.labels)
    low, high = wilson_interval(sum(right), n)
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {
        "what": "classes",
        "classes": answers.classes,
        "search": answers.search,
        "images": n,
        "accuracy": sum(right) / n,
        "ci_low": low,
        "ci_high": high,
        "evaluations_per_image": sum(answers.evaluations) / n,
        "fit": answers.fit,
        "fit_evaluations": answers.fit_evaluations / n if answers.fit else None,
    }
    if race is None or race.image_ids != answers.image_ids:
        return row
    pairs = [*zip(right, race.correct, strict=True)]
    both, alone, race_alone, neither = (
        pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))
    )
    low, high = newcombe_interval(both, alone, race_alone, neither)
    return row | {
        "recall": answers.recall(race),
        "lost_to_racing": (sum(race.correct) - sum(right)) / n,
        "mcnemar_p_vs_racing": mcnemar_exact(right, race.correct),
        "difference_low": low,
        "difference_high": high,
    }


def save(rows: Sequence[dict[str, Any]], output: Path) -> None:
    """Write the table, and the environment it was measured in."""
    from diffcls.support.environment import set_threads

    set_threads(1)  # as in the processes that measured
    write_rows(output / TABLE, rows, COLUMNS, SIX_DIGITS)
    record_environment(output, "classes")
