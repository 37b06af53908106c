"""Generation benchmark: does a better generator classify better?

Measures fidelity, likelihood and accuracy of the small models over guidance and over training, and
classifier guidance of an unconditional model. Writes ``fidelity.csv``, ``guided.csv``,
``FIDELITY.md`` and ``fidelity.png``. The models over training are the snapshots left by
``python -m diffcls.train --dataset fashion_mnist --model pixels``; without them, the rows over
training stay as last measured. The noisy classifier (``--model
classifier``) and the unconditional model (``--model pixels --no-conditional``) are bundled; own
trainings in ``--models`` take precedence. Finished runs are kept in ``tables/generative`` and
reused; ``--only`` leaves the rows of other data sets as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.core.flags import (
    add_data_root,
    add_datasets,
    add_jobs,
    add_report_only,
    entry_point,
    parser,
    selected,
)
from benchmarks.generation import guided
from benchmarks.generation.fidelity_report import write
from benchmarks.generation.runs import Run, cached, identity, run_command
from diffcls.data import catalog
from diffcls.runs import fidelity_table
from diffcls.support.hashing import content_hash

GUIDANCE = (1.0, 1.5, 2.0, 3.0, 5.0)
COUNT = 2000
LIKELIHOOD_IMAGES = 200
OVER_TRAINING = {"count": 512, "bounded": 100, "classified": 300}
"""Images per snapshot for fidelity, likelihood and accuracy: fewer, as pixel models are costly."""


@dataclass(frozen=True)
class Measured:
    """The models measured on one data set.

    Args:
        dataset: name of the data set, and of its text-to-image model.
        pixels: its pixel model, which is measured over training; None: not measured.
        unconditional: its unconditional pixel model, for classifier guidance.
        bundled: further bundled models.
    """

    dataset: str
    pixels: str | None = None
    unconditional: str | None = None
    bundled: tuple[str, ...] = ()


BENCHMARKS = (
    Measured("digits", bundled=("digits-pixels",)),
    Measured("fashion_mnist", "fashion_mnist-pixels", "fashion_mnist-pixels-unconditional"),
    Measured("cifar10"),
)


def _main(arguments: list[str]) -> int:
    p = parser("fidelity", __doc__)
    for add in (add_datasets, add_data_root, add_jobs, add_report_only):
        add(p)
    p.add_argument("--models", default="models", metavar="DIR", help="of own trainings (models)")
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    guided_rows = [] if flags.report_only else _measure(selected(flags, BENCHMARKS), flags)
    rows = fidelity_table.read(output / "fidelity.csv")
    write(rows, guided_rows, output, OVER_TRAINING["classified"])
    return 0


main = entry_point(_main)


def _measure(benchmarks: Sequence[Measured], flags: argparse.Namespace) -> list[dict[str, Any]]:
    """Update fidelity.csv; returns the rows of guided.csv."""
    runs = [run for one in benchmarks for run in _runs(one, flags)]
    with ThreadPoolExecutor(flags.jobs) as pool:
        results = list(pool.map(lambda run: run_command(run, flags), runs))
    table = Path(flags.output_dir) / "fidelity.csv"
    _put(table, runs, results)
    _put_accuracy(table, _accuracies(runs, results))
    return [row for one in benchmarks if one.unconditional for row in _guided(one, flags)]


def _trained(name: str, models: Path) -> str:
    """Folder of an own training of this name, else the name of the bundled model."""
    from diffcls.models.loading import CARD

    return str(models / name) if (models / name / CARD).is_file() else name


def _runs(one: Measured, flags: argparse.Namespace) -> list[Run]:
    guidance = ("--guidance", *map(str, GUIDANCE))
    guidance = (*guidance, "--extractor", catalog.find(one.dataset).clip)
    runs = [
        Run("fidelity", one.dataset, (*guidance, "--count", str(COUNT))),
        Run("evaluate", one.dataset, ("--dataset", one.dataset, "--limit", "500")),
    ]
    for model in (one.dataset, *one.bundled):
        runs.append(Run("likelihood", model, ("--limit", str(LIKELIHOOD_IMAGES))))
    for model in one.bundled:
        runs.append(Run("fidelity", model, (*guidance, "--count", str(COUNT))))
        runs.append(Run("evaluate", model, ("--dataset", one.dataset, "--limit", "500")))
    if one.pixels is None:
        return runs
    final = str(Path(flags.models) / one.pixels)
    folders = _snapshots(Path(final))
    if not folders:
        print(
            f"no snapshots of a training in {final}: the rows over training stay as last measured; "
            "to measure them, first run python -m diffcls.train --model pixels "
            f"--dataset {one.dataset} --output-dir {flags.models}",
            file=sys.stderr,
        )
        return runs
    runs.append(Run("fidelity", final, (*guidance, "--count", str(OVER_TRAINING["count"]))))
    for model in [*folders, final]:
        count = ("--count", str(OVER_TRAINING["count"]), *guidance[-2:])
        runs.append(Run("fidelity", model, (*count, "--metrics", "FID", "KID")))
        bounded = ("--limit", str(OVER_TRAINING["bounded"]))
        runs.append(Run("likelihood", model, bounded))
        limit = ("--limit", str(OVER_TRAINING["classified"]))
        runs.append(Run("evaluate", model, ("--dataset", one.dataset, *limit)))
    return runs


def _snapshots(folder: Path) -> list[str]:
    """Snapshots of a training, averaged and not, after 1, 2, 4, ... parts of it; [] if none."""
    from diffcls.training.run_files import SNAPSHOTS

    of_part: dict[str, list[str]] = {}
    for path in sorted((folder / "training" / SNAPSHOTS).glob("*")):
        of_part.setdefault(path.name.split("-")[0], []).append(str(path))
    parts = list(of_part.values())
    doublings = [2**i - 1 for i in range(len(parts).bit_length())]
    return [path for i in doublings for path in parts[i]]


def _guided(one: Measured, flags: argparse.Namespace) -> Any:
    names = (str(one.unconditional), f"noisy-{one.dataset}")
    model, classifier = (_trained(name, Path(flags.models)) for name in names)
    settings = f"{guided.SAMPLES_PER_CLASS} {guided.WEIGHTS}"

    def measure() -> str:
        rows = guided.measure(one.dataset, model, classifier, flags.data_root, flags.jobs)
        return json.dumps(rows, allow_nan=False)

    return cached(
        Path(flags.output_dir),
        content_hash("led", one.dataset, identity(model), identity(classifier), settings),
        f"guiding {model} by {classifier}",
        measure,
    )


def _put(path: Path, runs: Sequence[Run], results: Sequence[Any]) -> None:
    """Put all results into the table, cached ones of other output folders among them."""
    rows: list[Any] = []
    for run, result in zip(runs, results, strict=True):
        if run.command != "evaluate":
            rows += result if isinstance(result, list) else [result]
    fidelity_table.put(path, rows)


def _accuracies(runs: Sequence[Run], results: Sequence[Any]) -> dict[tuple[str, str], float]:
    """(model, data set), as in fidelity.csv -> accuracy."""
    names = {}
    for run, rows in zip(runs, results, strict=True):
        if run.command != "evaluate":
            row = rows[0] if run.command == "fidelity" else rows
            names[run.model] = (row["model"], row["dataset"])
    return {
        names[run.model]: float(rows[0]["accuracy"])
        for run, rows in zip(runs, results, strict=True)
        if run.command == "evaluate"
    }


def _put_accuracy(path: Path, accuracy: dict[tuple[str, str], float]) -> None:
    rows: list[dict[str, Any]] = []
    for row in fidelity_table.read(path):
        known = accuracy.get((row["model"], row["dataset"]))
        rows.append({**row, "accuracy": f"{known:.6g}" if known is not None else row["accuracy"]})
    fidelity_table.put(path, rows)
