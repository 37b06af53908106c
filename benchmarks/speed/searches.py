"""Search benchmark: accuracy against evaluations of every search on the small benchmarks.

Writes ``speed.csv``, ``SPEED.md``, ``speed.png``, and the predictions of every search on every
image into ``speed_answers``. Each benchmark is scored once with every class on every draw; searches
that need only these errors are replayed from them, all others are run. `paper` is run on a stated
part of the same images, and all searches are compared with it on that part. Finished runs and
tables are reused. Benchmarks that ``--only`` leaves out stay in the report as last measured.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.core.compare import records_of
from benchmarks.core.flags import (
    add_data_root,
    add_datasets,
    add_jobs,
    add_report_only,
    entry_point,
    parser,
    selected,
)
from benchmarks.core.processes import output_of
from benchmarks.speed import answers as speed_answers
from benchmarks.speed.answers import Answers
from benchmarks.speed.points import Point
from benchmarks.speed.report import DEFAULT_DRAWS, write
from diffcls.data.option_use import root_for
from diffcls.evaluation.replay import Setting, predict
from diffcls.runs.error_tables import read_saved
from diffcls.runs.records import Record
from diffcls.search.racing import in_time
from diffcls.search.screening import ScreenedSearch


@dataclass(frozen=True)
class Measured:
    """Size of the measurement on one data set.

    Args:
        dataset: name of the data set.
        images: number of test images for searches that are run.
        tabled: number of them that are scored with every class on every draw.
        draws: draws per class in these tables.
        paper_images: number of them that are scored by the published stages.
    """

    dataset: str
    images: int
    tabled: int
    draws: int
    paper_images: int


BENCHMARKS = (
    Measured("digits", 500, 500, 200, 300),
    Measured("fashion_mnist", 500, 500, 200, 300),
    Measured("cifar10", 500, 500, 200, 300),
    Measured("scenes/attributes", 300, 200, 100, 300),
)
CONFIDENCES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
BUDGETS = (10, 20, 40, 100)
CANDIDATES = (2, 3, 4, 10)
"""Values of ``--candidates`` in addition to the default."""
SCREENED = ("gradient",)
TABLES = "tables"


def _main(arguments: list[str]) -> int:
    p = parser("searches", __doc__)
    for add in (add_datasets, add_data_root, add_jobs, add_report_only):
        add(p)
    flags = p.parse_args(arguments)
    if not flags.report_only:
        _measure_all(selected(flags, BENCHMARKS), flags)
    output = Path(flags.output_dir)
    stored = [speed_answers.read(one.dataset, output) for one in BENCHMARKS]
    measured = [answers for answers in stored if answers]
    environments = dict.fromkeys(answers.environment for answers in measured)
    points = [point for answers in measured for point in answers.points]
    write(points, output, "; ".join(environments))
    return 0


main = entry_point(_main)


def _measure_all(benchmarks: Sequence[Measured], flags: argparse.Namespace) -> None:
    from diffcls.support.environment import set_threads

    set_threads(1)
    output = Path(flags.output_dir)
    commands = [run for one in benchmarks for run in runs(one, output).values()]
    _make_all(commands, output, flags.data_root, flags.jobs)
    for one in benchmarks:
        speed_answers.save(measure(one, output, flags.data_root), output)


def runs(one: Measured, output: Path) -> dict[str, list[str]]:
    """The runs of a benchmark: "search setting" -> arguments of evaluate, longest runs first."""
    all_images = ["--dataset", one.dataset, "--limit", str(one.images)]
    paper_images = ["--dataset", one.dataset, "--limit", str(one.paper_images)]
    tabled = ["--dataset", one.dataset, "--limit", str(one.tabled)]
    tables = str(table_folder(one, output))
    exhaustive = ["--search", "exhaustive", "--draws", str(one.draws), "--save-errors", tables]
    all_runs = {
        f"exhaustive draws={one.draws}": [*tabled, *exhaustive],
        "paper default": [*paper_images, "--search", "paper"],
        "racing default": [*all_images, "--search", "racing"],
    }
    for search in SCREENED:
        all_runs[f"{search} default"] = [*all_images, "--search", search]
    for count in CANDIDATES:
        options = ["--search", "gradient", "--candidates", str(count)]
        all_runs[f"gradient candidates={count}"] = [*all_images, *options]
    return all_runs


def table_folder(one: Measured, output: Path) -> Path:
    """Folder of a benchmark's error tables."""
    return output / TABLES / f"{one.dataset.replace('/', '-')}-{one.tabled}-{one.draws}"


def _make_all(commands: list[list[str]], output: Path, data_root: str | None, jobs: int) -> None:
    """Make all runs, each in a process of one thread, the most that small models use well."""

    def make(arguments: list[str]) -> None:
        options = _with_folders(arguments, output, data_root)
        shown = shlex.join(arguments)
        print(f"started: {shown}", file=sys.stderr)
        output_of(["-m", "diffcls.evaluate", *options, "--threads", "1", "--json"])
        print(f"done: {shown}", file=sys.stderr)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(make, commands))


def _with_folders(arguments: list[str], output: Path, data_root: str | None) -> list[str]:
    root = root_for(arguments[arguments.index("--dataset") + 1], data_root)
    data = ["--data-root", root] if root else []
    return [*arguments, *data, "--output-dir", str(output / TABLES)]


def measure(one: Measured, output: Path, data_root: str | None) -> Answers:
    """The points of a benchmark, from its runs and from replays of its tables."""
    points, environments = [], dict[str, None]()
    for name, run in runs(one, output).items():
        row, records = _records(run, output, data_root)
        environments[f"{row['device']}, {row['versions']}"] = None
        search, _, setting = name.partition(" ")
        points.append(
            Point(
                one.dataset,
                search,
                setting,
                predicted={r.image_id: r.ranking[0] for r in records},
                labels={r.image_id: r.label for r in records},
                evaluations_per_image=float(np.mean([r.evaluations for r in records])),
                images_per_second=len(records) / sum(r.seconds for r in records),
                screened=_screened(search, setting, records),
            )
        )
    saved = read_saved(table_folder(one, output))
    labels = dict(zip(saved.image_ids, saved.labels, strict=True))
    for search, options in _replays(one):
        replayed = predict(saved, Setting(search, "uniform", "mean"), options)
        clear = clear_errors(saved.tables, replayed.predicted, options["draws"])
        points.append(
            Point(
                one.dataset,
                search,
                " ".join(f"{k}={v}" for k, v in options.items()),
                predicted=dict(zip(saved.image_ids, replayed.predicted.tolist(), strict=True)),
                labels=labels,
                evaluations_per_image=float(replayed.evaluations.mean()),
                clear=float(clear.mean()) if search == "racing" else None,
            )
        )
    return Answers("; ".join(environments), tuple(points))


def _screened(search: str, setting: str, records: Sequence[Record]) -> dict[str, tuple[int, ...]]:
    """Image id -> the first classes of its ranking, as many as enter the race."""
    if search not in SCREENED:
        return {}
    _, _, count = setting.partition("candidates=")
    size = int(count or ScreenedSearch.candidates)
    return {record.image_id: record.ranking[:size] for record in records}


def clear_errors(
    tables: Sequence[NDArray[Any]], predicted: NDArray[np.int64], draws: int
) -> NDArray[np.bool_]:
    """(n,) whether the full table favours another class by more than two standard errors.

    The standard error is that of draws spread evenly over time, s²/N of successive differences
    (see `diffcls.search.racing`).

    Args:
        tables: n tables of (K, at least `draws`) errors.
        predicted: (n,) class indices.
        draws: draws of the full table.
    """
    clear = []
    for table, k in zip(tables, predicted, strict=True):
        errors = np.asarray(table, dtype=np.float64)[:, :draws]
        best = int(errors.mean(axis=1).argmin())
        gap = errors[[int(k)]] - errors[[best]]
        error = np.sqrt(in_time(gap)[0] / draws)
        clear.append(bool(gap.mean() > 2 * error))
    return np.array(clear)


def _replays(one: Measured) -> Iterator[tuple[str, dict[str, Any]]]:
    """(search, options) of the searches that are replayed from the tables."""
    for draws in BUDGETS:
        if draws < one.draws:
            yield "exhaustive", {"draws": draws}
            yield "racing", {"draws": draws}
        yield "halving", {"draws": min(draws, one.draws)}
    for confidence in CONFIDENCES:
        for draws in (DEFAULT_DRAWS, one.draws):
            yield "racing", {"confidence": confidence, "draws": draws}


def _records(
    run: list[str], output: Path, data_root: str | None
) -> tuple[dict[str, Any], list[Record]]:
    """The row and the records of a finished run."""
    from diffcls.evaluate import parser as evaluate_parser
    from diffcls.evaluation.run import run_evaluation

    options = vars(evaluate_parser().parse_args(_with_folders(run, output, data_root)))
    row = run_evaluation(**options, quiet=True, command=shlex.join(["diffcls", "evaluate", *run]))[
        0
    ]
    return row, list(records_of(output / TABLES, row["fingerprint"]).values())
