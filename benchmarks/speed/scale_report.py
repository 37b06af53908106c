"""results/reference/SCALE.md: cost of a run for its driver, and estimates for large data sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.core.tables import environment_of, markdown, read_rows
from benchmarks.speed.scale_estimates import (
    GROWTH,
    JOBS,
    NETWORK,
    PAPER,
    STAGES,
    Assumptions,
    RecordSize,
    estimate,
    searches,
    table_bytes,
    throughput,
)
from diffcls.runs.record import MAX_UNSYNCED_RECORDS
from diffcls.runs.records import MAX_UNSYNCED_SECONDS
from diffcls.search.racing import Racing
from diffcls.support.files import write_text

PAGE = "SCALE.md"
DRIVER_MS = {10: 2.0, 1000: 4.0}
"""Number of classes -> upper limit of the driver's CPU time per image, in milliseconds."""
MEMORY_MIB = 1024.0
RECOVERY_SECONDS = 10.0
Row = dict[str, Any]


def write_page(rows: Sequence[Row], output: Path, given: Assumptions) -> None:
    """Write and print the page.

    Args:
        rows: rows of scale.csv.
        output: folder of the results, with the environment of the benchmark, growth.csv and
            gpu-DEVICE.csv.
        given: what is assumed and not measured.
    """
    growth = read_rows(output / GROWTH) if (output / GROWTH).exists() else []
    text = "\n".join([*_measured(rows, output), "", *_estimated(rows, growth, output, given), ""])
    write_text(output / PAGE, text)
    print(text)


def _measured(rows: Sequence[Row], output: Path) -> Iterator[str]:
    yield "# Scale: what a run costs its driver"
    yield ""
    yield (
        "Written by `python -m benchmarks.run scale` from `scale.csv`; "
        f"{environment_of(output, 'scale')['environment']}. `--executor ray` with its store, "
        "progress and leaderboard row, on workers that sleep instead of computing. Times are CPU "
        "times of the driver, all its threads. Per image: of the whole run, the start included; of "
        "which, while images are scored, and for the row, which reads all records; of making a "
        "record and its line alone, most of which are the digits of the scores; and of opening the "
        "finished run once more. Memory is the peak of the driver, of which importing torch is "
        "about 500 MiB. Throughput is that of the second quarter of the images, and relative to "
        "workers that never wait. Half-way one worker is killed by SIGKILL: recovery is the time "
        "to the first result of its replacement, whose process starts on the same machine, and the "
        "CPU time that this process takes for it. Load is the machine's load average before the "
        "run: where it is above the number of cores, throughput and recovery wait for other work."
    )
    yield ""
    yield from markdown(
        rows,
        {
            "classes": lambda r: f"{r['classes']:,}",
            "workers": lambda r: f"{r['workers']}",
            "images": lambda r: f"{r['images']:,}",
            "sleep per image, s": lambda r: f"{r['seconds_per_image']:g}",
            "images/s": lambda r: _cell(r["images_per_second"], ".1f"),
            "of ideal": lambda r: _cell(r["of_ideal"], ".0%"),
            "load": lambda r: f"{r['load']:.1f}",
            "start, s": lambda r: f"{r['start_seconds']:.1f}",
            "driver, ms per image": lambda r: f"{r['driver_ms']:.2f}",
            "scoring, ms": lambda r: f"{r['loop_ms']:.2f}",
            "row, ms": lambda r: f"{r['row_ms']:.2f}",
            "record, ms": lambda r: f"{r['record_ms']:.2f}",
            "opening again, ms": lambda r: f"{r['resume_ms']:.2f}",
            "memory, MiB": lambda r: f"{max(r['memory_mib'], r['resume_memory_mib']):.0f}",
            "bytes per record": lambda r: f"{r['bytes_per_record']:,.0f}",
            "recovery, s": lambda r: _cell(r["recovery_seconds"], ".1f"),
            "of which CPU, s": lambda r: _cell(r.get("recovery_cpu_seconds"), ".1f"),
            "lost": lambda r: f"{r['lost']}",
            "doubled": lambda r: f"{r['doubled']}",
            "scored twice": lambda r: f"{r['scored_twice']}",
            "of them delivered": lambda r: f"{r['delivered_twice']}",
        },
    )
    yield ""
    yield from targets(rows)


def targets(rows: Sequence[Row]) -> Iterator[str]:
    """The targets, each with the worst measured value and a verdict."""
    for classes, limit in DRIVER_MS.items():
        times = [row["driver_ms"] for row in rows if row["classes"] == classes]
        if times:
            text = f"ms of the driver's CPU per image at {classes:,} classes"
            yield _verdict(max(times), limit, ".2f", text)
    memory = max(max(row["memory_mib"], row["resume_memory_mib"]) for row in rows)
    yield _verdict(memory, MEMORY_MIB, ".0f", "MiB of memory in the driver")
    times = [row["recovery_seconds"] for row in rows]
    measured = [seconds for seconds in times if seconds is not None]
    if measured:
        yield _verdict(max(measured), RECOVERY_SECONDS, ".1f", "s to recover from a killed worker")
    if len(measured) < len(times):
        lost = len(times) - len(measured)
        yield f"- {lost} of {len(times)} runs saw no recovery from a killed worker: missed."
    for name, text in (
        ("lost", "images lost"),
        ("doubled", "images recorded twice"),
        ("delivered_twice", "images scored again whose result had been delivered"),
    ):
        yield _verdict(sum(row[name] for row in rows), 0, ".0f", text)


def _verdict(value: float, limit: float, format: str, text: str) -> str:
    verdict = "met" if value <= limit else "missed"
    return f"- {value:{format}} {text}, at most {limit:g}: {verdict}."


def _estimated(
    rows: Sequence[Row], growth: Sequence[Row], output: Path, given: Assumptions
) -> Iterator[str]:
    rate = throughput(output)
    names = [PAPER, *searches(growth)]
    yield "## Estimates for large data sets"
    yield ""
    yield (
        "Nothing in this section was run. Evaluations of `paper` follow from the published stages "
        f"of ImageNet (samples {_list(STAGES.samples)}, classes kept {_list(STAGES.keep)}); those "
        "of the other searches, fits included, are measured with the small model of the scenes on "
        "up to 1,000 classes ([GROWTH.md](GROWTH.md)), and extrapolated as a power of the number "
        "of classes: another model and other images take more or fewer. GPU hours are at "
        f"{rate.per_second:.1f} evaluations per second of {NETWORK} ({rate.source}). "
        f"Assumed: {given.price:.2f} USD per GPU hour ({given.price_date}; `--price`, "
        f"`--price-date`), and one preemption per GPU in {given.hours_between_preemptions:g} hours "
        "(`--hours-between-preemptions`)."
    )
    for job in JOBS:
        yield ""
        yield f"### {job.name}: {job.images:,} images among {job.classes:,} classes"
        yield ""
        yield from markdown(
            [vars(estimate(job, name, growth, rate, given)) for name in names],
            {
                "search": lambda r: f"`{r['search']}`",
                "evaluations per image": lambda r: f"{r['per_image']:,.0f}",
                "source": lambda r: r["source"],
                "evaluations": lambda r: f"{r['per_image'] * r['job'].images:.2e}",
                "GPU hours": lambda r: f"{r['gpu_hours']:,.0f}",
                f"days on {given.gpus} GPUs": lambda r: f"{r['days']:,.1f}",
                "USD": lambda r: f"{r['cost']:,.0f}",
                "expected preemptions": lambda r: f"{r['preemptions']:,.1f}",
                "images scored again, about": lambda r: f"{r['scored_again']:,.0f}",
                "of all": lambda r: f"{r['lost_share']:.2%}",
            },
        )
        yield ""
        yield from storage(job, rows)
    yield ""
    yield from failures(given)


def storage(job: Any, rows: Sequence[Row]) -> Iterator[str]:
    """The storage of a data set's results."""
    size = RecordSize.through(rows)
    if size is not None:
        each = size.of(job.classes)
        yield (
            f"- Records: {each / 1e3:,.1f} kB per image, {each * job.images / 1e9:,.1f} GB; from "
            "the measured sizes, with one more digit per class index where there are more classes."
        )
    for draws, what in ((Racing().draws, "racing"), (max(STAGES.samples), "paper")):
        each = table_bytes(job.classes, draws)
        yield (
            f"- `--save-errors` of `{what}` ({draws:,} draws): {each / 1e6:,.2f} MB per image, "
            f"{each * job.images / 1e9:,.0f} GB before compression, at most."
        )


def failures(given: Assumptions) -> Iterator[str]:
    """What each kind of failure costs."""
    yield "### What a failure costs"
    yield ""
    yield (
        "- A worker or its node is lost: the images in flight there are scored again by others; no "
        "record is lost. An image is begun only while the requests of those in flight do not fill "
        f"a batch (of {given.batch} assumed above), and an image that is not finished has two "
        "requests or more. Where workers are faster than the driver, as sleeping ones can be, "
        "results that it has not fetched yet are lost with them, too, and a replacement waits "
        "until it has worked off those of the others."
    )
    yield (
        "- The driver is killed: its records are with the operating system, so that none is lost; "
        "the images in flight in all workers are scored again after the same command."
    )
    yield (
        f"- The driver's machine loses power: at most the last {MAX_UNSYNCED_RECORDS} records, or "
        f"those of the last {MAX_UNSYNCED_SECONDS:g} s and one more, are scored again as well."
    )


def _cell(value: float | None, format: str) -> str:
    return "" if value is None else f"{value:{format}}"


def _list(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
