"""Soak benchmark: memory, open handles and speed over a long run, and the gain of a second process.

Writes ``soak.csv`` and ``SOAK.md``. The command runs as always on many images, in one process, on
two Ray workers, or in two shards side by side, with one thread each; its processes are watched from
outside. The images are those of the digits, in copies that are shifted by a few pixels, each with
an id of its own. A second kind of run, of many more images, has a classifier that only sleeps. Rows
that are stored are kept, so a stopped benchmark resumes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.core.flags import add_report_only, entry_point, parser
from benchmarks.core.tables import SIX_DIGITS, read_rows, record_environment, write_rows
from benchmarks.speed.soak_images import write_images
from benchmarks.speed.soak_report import write_page
from benchmarks.speed.soak_watch import Sample, watch
from diffcls.data import catalog
from diffcls.support.errors import UsageError

TABLE = "soak.csv"
EMBEDDED, SLEEPING = "embedded", "sleeping"
IMAGES = {EMBEDDED: 20_000, SLEEPING: 200_000}
DRAWS = 2
"""Draws per class of the embedded model: a small budget, so that 20,000 images take minutes."""
SECONDS = 0.001
"""Time that the sleeping classifier takes per image."""
POINTS = 20
FIRST = 1000
"""Images before the first point: until then, memory is still being allocated."""
KEY = ("model", "mode", "images")
COLUMNS = (*KEY, "done", "seconds", "memory_mib", "handles", "worker_memory_mib")


@dataclass(frozen=True)
class Mode:
    """How a run is started.

    Args:
        flags: further flags of the command, one list for each process.
    """

    flags: tuple[tuple[str, ...], ...]


MODES = {
    "serial": Mode(((),)),
    "ray, 2 workers": Mode((("--executor", "ray", "--workers", "2"),)),
    "2 shards": Mode((("--shard", "0/2"), ("--shard", "1/2"))),
}
MODELS = {EMBEDDED: tuple(MODES), SLEEPING: ("serial", "ray, 2 workers")}
"""Model -> the modes that it is measured in."""


def _main(arguments: list[str]) -> int:
    p = parser("soak", __doc__)
    for model, count in IMAGES.items():
        p.add_argument(
            f"--{model}-images", type=int, default=count, metavar="N", help=f"({count:,})"
        )
    p.add_argument("--only", nargs="+", choices=[*MODELS], metavar="MODEL", help="these alone")
    p.add_argument("--scratch", metavar="DIR", help="for images and records, removed afterwards")
    p.add_argument("--again", action="store_true", help="measure what is stored again, too")
    p.add_argument("--sleep", metavar="JSON", help=argparse.SUPPRESS)
    add_report_only(p)
    flags = p.parse_args(arguments)
    if flags.sleep:
        _sleep(**json.loads(flags.sleep))
        return 0
    output = Path(flags.output_dir)
    if not flags.report_only:
        counts = {model: getattr(flags, f"{model}_images") for model in MODELS}
        for model, count in counts.items():
            if count < 2 * POINTS:
                flag = f"--{model}-images out of range"
                raise UsageError(flag, given=count, allowed=f"{2 * POINTS} or more")
        for model in flags.only or MODELS:
            _measure(model, counts[model], output, flags)
    write_page(read_rows(output / TABLE), output)
    return 0


main = entry_point(_main)


def _measure(model: str, images: int, output: Path, flags: argparse.Namespace) -> None:
    """Measure a model in those of its modes that are not stored."""
    path = output / TABLE
    stored = {_key(row) for row in read_rows(path)} if path.exists() else set()
    todo = [m for m in MODELS[model] if flags.again or (model, m, images) not in stored]
    if not todo:
        return
    with tempfile.TemporaryDirectory(prefix="diffcls-soak-", dir=flags.scratch) as folder:
        if model == EMBEDDED:
            write_images(Path(folder) / "images", images)
        for mode in todo:
            results = Path(folder) / mode.replace(" ", "-").replace(",", "")
            commands = commands_of(model, mode, images, Path(folder) / "images", results)
            samples = watch(commands, results, points_of(images))
            _store(model, mode, images, samples, output)


def points_of(images: int) -> list[int]:
    """Numbers of images at which the processes are looked at: the first, then evenly to the end."""
    first = min(FIRST, images // POINTS)
    step = (images - first) / (POINTS - 1)
    return [first + round(i * step) for i in range(POINTS)]


def commands_of(
    model: str, mode: str, images: int, data: Path, results: Path
) -> list[Sequence[str]]:
    """Arguments of Python for each process of a run."""
    if model == SLEEPING:
        workers = 0 if mode == "serial" else 2
        settings = {"images": images, "workers": workers, "output": str(results)}
        return [["-m", "benchmarks.run", "soak", "--sleep", json.dumps(settings)]]
    common = ["-m", "diffcls.evaluate", "--dataset", f"folder:{data}", "--model", "digits"]
    common += ["--draws", str(DRAWS), "--threads", "1", "--device", "cpu", "--batch-size", "64"]
    common += ["--template", *catalog.find("digits").templates]
    common += ["--quiet", "--output-dir", str(results)]
    return [[*common, *more] for more in MODES[mode].flags]


def _sleep(images: int, workers: int, output: str, seconds: float = SECONDS) -> None:
    """A run of the sleeping classifier, in this process or on workers."""
    from benchmarks.speed.scale_measure import on_workers
    from benchmarks.speed.sleeping import (
        SleepingMethod,
        SleepingTask,
        sleeping_images,
        sleeping_plan,
    )
    from diffcls.evaluation.one_run import run

    task = SleepingTask(classes=10, seconds=seconds)
    dataset = sleeping_images(images, task.classes)
    if not workers:
        run(sleeping_plan(SleepingMethod(task), dataset, Path(output)))
        return
    with on_workers(task, workers, dataset) as (method, _):
        run(sleeping_plan(method, dataset, Path(output)))


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def _store(model: str, mode: str, images: int, samples: Iterable[Sample], output: Path) -> None:
    """Put the samples of a run into the table, in the place of earlier ones."""
    path = output / TABLE
    new = [{"model": model, "mode": mode, "images": images, **vars(one)} for one in samples]
    others = [
        row for row in (read_rows(path) if path.exists() else []) if _key(row) != _key(new[0])
    ]
    write_rows(path, [*others, *new], COLUMNS, SIX_DIGITS)
    load = f"{os.getloadavg()[0]:.1f}"
    settings: dict[str, Any] = {"draws": DRAWS, "seconds": SECONDS, "load": load}
    record_environment(output, "soak", keeps_rows=bool(others), **settings)
    print(f"{model}, {mode}: {new[-1]}", file=sys.stderr)
