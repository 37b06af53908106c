"""``python -m benchmarks.speed.searches``: accuracy against evaluations, of every search on every
benchmark.

Writes ``results/speed.csv``, ``results/SPEED.md`` and ``results/speed.png``, and what every search
said of every image into ``results/speed_answers``. Each benchmark is scored once with every class
on every draw; what needs only these errors is replayed from them, all else is run. `paper` is run
on a stated part of the same images, and everything is compared with it on that part. Runs and
tables are resumed where they are already there; benchmarks that ``--only`` leaves out stand in the
report as they were last measured.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.core import flags as asked
from benchmarks.core.compare import records_of
from benchmarks.speed import answers as speed_answers
from benchmarks.speed.answers import Answers
from benchmarks.speed.report import DEFAULT_DRAWS, Point, write
from diffcls.cli import command
from diffcls.evaluation.replay import Setting, answer
from diffcls.runs.error_tables import read_saved
from diffcls.runs.records import Record
from diffcls.search.racing import in_time
from diffcls.search.screening import Screened


@dataclass(frozen=True)
class Measured:
    """One benchmark's share of the work.

    Args:
        dataset: name of the data set.
        images: test images that every search is run on.
        tabled: of these, scored with every class on every draw.
        draws: of each class, of the saved tables.
        paper_images: of these, scored by the published stages.
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
"""Beside the default."""
SCREENED = ("tree", "gradient")
TABLES = "tables"


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    p = asked.parser("speed", __doc__.splitlines()[0])
    flags = p.parse_args(arguments)
    chosen = asked.chosen(flags, BENCHMARKS)
    output = Path(flags.output_dir)

    from diffcls.support.environment import set_threads

    set_threads(1)
    commands = [run for one in chosen for run in runs(one, output).values()]
    _make_all(commands, output, flags.data_root, flags.jobs)
    for one in chosen:
        speed_answers.keep(measure(one, output, flags.data_root), output)
    kept = [speed_answers.read(one.dataset, output) for one in BENCHMARKS]
    measured = [answers for answers in kept if answers]
    places = dict.fromkeys(answers.where for answers in measured)
    write([point for found in measured for point in found.points], output, "; ".join(places))
    return 0


def runs(one: Measured, output: Path) -> dict[str, list[str]]:
    """What is run of a benchmark: (search, setting) in words -> arguments of the evaluate command.

    The longest come first.
    """
    every = ["--dataset", one.dataset, "--limit", str(one.images)]
    part = ["--dataset", one.dataset, "--limit", str(one.paper_images)]
    tabled = ["--dataset", one.dataset, "--limit", str(one.tabled)]
    tables = str(table_folder(one, output))
    exhaustive = ["--search", "exhaustive", "--draws", str(one.draws), "--save-errors", tables]
    found = {
        f"exhaustive draws={one.draws}": [*tabled, *exhaustive],
        "paper default": [*part, "--search", "paper"],
        "racing default": [*every, "--search", "racing"],
    }
    for search in ("tree", "gradient"):
        found[f"{search} default"] = [*every, "--search", search]
    for count in CANDIDATES:
        wish = ["--search", "gradient", "--candidates", str(count)]
        found[f"gradient candidates={count}"] = [*every, *wish]
    return found


def table_folder(one: Measured, output: Path) -> Path:
    """Where a benchmark's error tables lie."""
    return output / TABLES / f"{one.dataset.replace('/', '-')}-{one.tabled}-{one.draws}"


def _make_all(commands: list[list[str]], output: Path, data_root: str | None, jobs: int) -> None:
    """Make all runs, each in a process of one thread: small models keep no more busy."""

    def make(arguments: list[str]) -> None:
        command = [sys.executable, "-m", "diffcls.evaluate", *_wishes(arguments, output, data_root)]
        shown = shlex.join(arguments)
        print(f"begun: {shown}", file=sys.stderr)
        asked.said_by([*command, "--threads", "1", "--json"])
        print(f"done: {shown}", file=sys.stderr)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(make, commands))


def _wishes(arguments: list[str], output: Path, data_root: str | None) -> list[str]:
    place = ["--data-root", data_root] if data_root else []
    return [*arguments, *place, "--output-dir", str(output / TABLES)]


def measure(one: Measured, output: Path, data_root: str | None) -> Answers:
    """The points of a benchmark, from its runs and from replays of its tables."""
    points, places = [], dict[str, None]()
    for name, run in runs(one, output).items():
        row, records = _records(run, output, data_root)
        places[f"{row['device']}, {row['versions']}"] = None
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
        found = answer(saved, Setting(search, "uniform", "mean"), options)
        clear = clear_errors(saved.tables, found.predicted, options["draws"])
        points.append(
            Point(
                one.dataset,
                search,
                " ".join(f"{k}={v}" for k, v in options.items()),
                predicted=dict(zip(saved.image_ids, found.predicted.tolist(), strict=True)),
                labels=labels,
                evaluations_per_image=float(found.evaluations.mean()),
                clear=float(clear.mean()) if search == "racing" else None,
            )
        )
    return Answers("; ".join(places), tuple(points))


def _screened(search: str, setting: str, records: Sequence[Record]) -> dict[str, tuple[int, ...]]:
    """Image id -> the first classes of its ranking, as many as are left to the race."""
    if search not in SCREENED:
        return {}
    _, _, count = setting.partition("candidates=")
    left = int(count or Screened.candidates)
    return {record.image_id: record.ranking[:left] for record in records}


def clear_errors(
    tables: Sequence[NDArray[Any]], predicted: NDArray[np.int64], draws: int
) -> NDArray[np.bool_]:
    """(n,) whether the full table knows better: by more than two standard errors of its own.

    The error is that of draws spread evenly over time, as racing takes it: s²/N of successive
    differences (see `diffcls.search.racing`).

    Args:
        tables: n of (K, at least `draws`) errors.
        predicted: (n,) class indices.
        draws: of the table that knows.
    """
    found = []
    for table, mine in zip(tables, predicted, strict=True):
        errors = np.asarray(table, dtype=np.float64)[:, :draws]
        best = int(errors.mean(axis=1).argmin())
        gap = errors[[int(mine)]] - errors[[best]]
        error = np.sqrt(in_time(gap)[0] / draws)
        found.append(bool(gap.mean() > 2 * error))
    return np.array(found)


def _replays(one: Measured) -> Iterator[tuple[str, dict[str, Any]]]:
    """(search, options) of what is read from the tables alone."""
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
    """The row and the records of a run that is complete."""
    from diffcls.evaluate import parser
    from diffcls.evaluation.run import run_evaluation

    wishes = vars(parser().parse_args(_wishes(run, output, data_root)))
    row = run_evaluation(**wishes, quiet=True, command=shlex.join(["diffcls", "evaluate", *run]))[0]
    return row, list(records_of(output / TABLES, row["fingerprint"]).values())


if __name__ == "__main__":
    sys.exit(main())
