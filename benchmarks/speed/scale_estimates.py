"""Estimates for data sets that are too large to be measured here, from measured figures.

Evaluations of the published procedure follow from its stages; those of the other searches are
measured on up to 1,000 classes (`benchmarks.speed.classes`) and extrapolated as a power of their
number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy.published import A100_EVALUATIONS_PER_SECOND, stage_evaluations
from benchmarks.core.tables import read_rows
from diffcls.data.catalog import SPECS

NETWORK = "SD-2-base"
PAPER = "paper"
GROWTH = "growth.csv"
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Assumptions:
    """What is assumed and not measured.

    Args:
        price: US dollars per GPU hour.
        price_date: month of that price.
        hours_between_preemptions: mean time between two preemptions of one GPU.
        gpus: number of GPUs, for the duration.
        batch: rows of a forward pass.
    """

    price: float = 2.5
    price_date: str = "2026-05"
    hours_between_preemptions: float = 24.0
    gpus: int = 8
    batch: int = 64


@dataclass(frozen=True)
class Job:
    """A data set that is estimated.

    Args:
        name: its name on the page.
        images: number of images.
        classes: number of classes.
    """

    name: str
    images: int
    classes: int


JOBS = (Job("ImageNet", 50_000, 1_000), Job("20,000 classes", 100_000, 20_000))
STAGES = SPECS["imagenet"].stages


@dataclass(frozen=True)
class Throughput:
    """Evaluations per second of one GPU.

    Args:
        per_second: evaluations per second.
        source: where the figure is from.
    """

    per_second: float
    source: str


def throughput(output: Path) -> Throughput:
    """The fastest measured evaluation of Stable Diffusion 2's network; else the published one."""
    rows = [
        row
        for path in sorted(output.glob("gpu-*.csv"))
        for row in read_rows(path)
        if row["network"] == NETWORK and row.get("evaluations_per_second")
    ]
    if not rows:
        return Throughput(A100_EVALUATIONS_PER_SECOND, "published: 2,750 evaluations in 30 s, A100")
    best = max(rows, key=lambda row: float(row["evaluations_per_second"]))
    measure = f"{best['measure']}, {best['dtype']}, batches of {best['batch']}"
    return Throughput(
        float(best["evaluations_per_second"]), f"measured: {best['device']}, {measure}"
    )


def power_law(x1: float, y1: float, x2: float, y2: float, x: float) -> float:
    """y at x, of the power law through two points."""
    if x == x2:
        return y2
    return y2 * (x / x2) ** (math.log(y2 / y1) / math.log(x2 / x1))


def searches(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The searches that were measured on two numbers of classes or more, in their order."""
    names = dict.fromkeys(row["search"] for row in rows if row["what"] == "classes")
    return [name for name in names if len(_points(rows, name)) > 1]


def evaluations_per_image(
    rows: Sequence[Mapping[str, Any]], search: str, job: Job
) -> tuple[float, str]:
    """Evaluations per image, those of a fit included, and their source.

        e(K) + fit(K) / images of the job

    Args:
        rows: rows of growth.csv.
        search: `PAPER`, or one of `searches`.
        job: the data set.
    """
    if search == PAPER:
        return stage_evaluations(STAGES, job.classes), "exact, from its stages"
    points = _points(rows, search)
    value = _at(points, job.classes)
    # a fit is made once, whatever the number of images
    fits = [
        (row["classes"], row["fit_evaluations"] * row["images"])
        for row in _rows_of(rows, search)
        if row.get("fit_evaluations")
    ]
    if len(fits) > 1:
        value += _at(fits, job.classes) / job.images
    if job.classes in dict(points):
        return value, f"measured on scenes of {job.classes:,} classes"
    (x1, _), (x2, _) = points[-2:]
    return value, f"extrapolated from {x1:,} and {x2:,} classes"


def _at(points: Sequence[tuple[int, float]], x: int) -> float:
    """y at x: of the point there, else of the power law through the last two points."""
    if (same := dict(points).get(x)) is not None:
        return same
    return power_law(*points[-2], *points[-1], x)


def _points(rows: Sequence[Mapping[str, Any]], search: str) -> list[tuple[int, float]]:
    """(classes, evaluations per image without those of a fit), by number of classes."""
    return [(row["classes"], row["evaluations_per_image"]) for row in _rows_of(rows, search)]


def _rows_of(rows: Sequence[Mapping[str, Any]], search: str) -> list[Mapping[str, Any]]:
    """The rows of a search, by number of classes."""
    found = [row for row in rows if row["what"] == "classes" and row["search"] == search]
    return sorted(found, key=lambda row: int(row["classes"]))


@dataclass(frozen=True)
class Estimate:
    """What scoring a data set takes.

    Args:
        job: the data set.
        search: the search.
        per_image: evaluations per image.
        source: source of that figure.
        gpu_hours: hours of one GPU.
        days: duration on the assumed number of GPUs.
        cost: US dollars.
        preemptions: expected number of them.
        scored_again: about how many images they make score again.
        lost_share: about which share of the evaluations they cost.
    """

    job: Job
    search: str
    per_image: float
    source: str
    gpu_hours: float
    days: float
    cost: float
    preemptions: float
    scored_again: float
    lost_share: float


def estimate(
    job: Job, search: str, rows: Sequence[Mapping[str, Any]], rate: Throughput, given: Assumptions
) -> Estimate:
    """What scoring a data set takes.

        hours = images·evaluations / rate / 3600;  preemptions = hours / mean time between two

    Args:
        job: the data set.
        search: see `evaluations_per_image`.
        rows: rows of growth.csv.
        rate: evaluations per second.
        given: what is assumed.
    """
    per_image, source = evaluations_per_image(rows, search, job)
    hours = job.images * per_image / rate.per_second / 3600
    preemptions = hours / given.hours_between_preemptions
    again = preemptions * in_flight(search, job.classes, given.batch)
    return Estimate(
        *(job, search, per_image, source, hours, hours / given.gpus / 24, hours * given.price),
        *(preemptions, again, again / job.images),
    )


def in_flight(search: str, classes: int, batch: int) -> int:
    """About how many images a worker has in flight.

    An image is begun while fewer requests than a batch wait (`diffcls.classifiers.diffusion`), and
    an unfinished one has at least those of a stage of `paper`, or of a race's last two classes. A
    single request, as a background prompt's last one, makes it more.

    Args:
        search: `PAPER`, or another search, which ends with a race.
        classes: number of classes.
        batch: rows of a forward pass.
    """
    requests = 2
    if search == PAPER:
        alive = (classes, *STAGES.keep)
        draws = [b - a for a, b in zip((0, *STAGES.samples), STAGES.samples, strict=False)]
        requests = min(k * n for k, n in zip(alive, draws, strict=False))
    return -(-batch // requests) + 1


@dataclass(frozen=True)
class RecordSize:
    """Bytes of a record: a part per record, and a part per class beside the digits of its index.

    Args:
        per_record: bytes of everything else.
        per_class: bytes of a score with its commas.
    """

    per_record: float
    per_class: float

    @classmethod
    def through(cls, rows: Sequence[Mapping[str, Any]]) -> RecordSize | None:
        """From rows of scale.csv of the fewest and of the most classes; None for one number."""
        sizes = {row["classes"]: row["bytes_per_record"] for row in rows}
        few, many = min(sizes), max(sizes)
        if few == many:
            return None
        rest_few, rest_many = (sizes[n] - index_digits(n) for n in (few, many))
        per_class = (rest_many - rest_few) / (many - few)
        return cls(rest_few - few * per_class, per_class)

    def of(self, classes: int) -> float:
        """Bytes of a record among this number of classes."""
        return self.per_record + classes * self.per_class + index_digits(classes)


def index_digits(classes: int) -> int:
    """Digits of all class indices, which a ranking lists."""
    return sum(len(str(k)) for k in range(classes))


def table_bytes(classes: int, draws: int) -> int:
    """Bytes of one image's error table before compression: (classes, draws) float32."""
    return classes * draws * FLOAT_BYTES
