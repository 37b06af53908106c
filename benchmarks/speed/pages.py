"""Speed of the pages: the demo's first answer and live updates, and the opening of the report.

Writes ``pages.csv`` and ``PAGES.md``. Each figure is the median over several processes, of the demo
or of Chromium, on two cores of the machine at most: the browser and the server share them. The
first answer is timed from the click on the page's first example to the end of the race, in the
browser, so that what a visitor waits for is counted: queue, network stack and rendering. Updates
are the states of the race that the page showed. The report is that of a whole results folder; it is
open once its load event is over and its first content is painted.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.core.chromium import chromium, visitor
from benchmarks.core.demo_server import served_demo
from benchmarks.core.flags import REFERENCE, add_data_root, add_report_only, entry_point, parser
from benchmarks.core.processes import output_of
from benchmarks.core.tables import (
    SIX_DIGITS,
    environment_of,
    read_rows,
    record_environment,
    write_rows,
)
from diffcls.support.errors import DiffclsError, UsageError
from diffcls.support.files import write_text

TABLE, PAGE = "pages.csv", "PAGES.md"
COLUMNS = ("measure", "unit", "median", "lowest", "highest", "processes", "limit", "bound")
CORES = 2
START_RACE = Path(__file__).with_name("pages_race.js")
SECONDS_TO_ANSWER = 120.0
UNREAD = ("fits",)
"""Folders of the results that no report reads; they may be large."""
MILLISECONDS_TO_SETTLE = 1000
"""A visitor needs longer to find the first example; the page is loaded by then."""

FIRST_ANSWER, UPDATES, PAUSE = "first answer", "live updates", "longest pause between updates"
COMPLETE = "answer with evidence, samples and CLIP"
OPENING, SIZE, WRITING = "report opens", "size of the report", "report is written"
AT_MOST, AT_LEAST = "at most", "at least"
LIMITS = {
    FIRST_ANSWER: (5.0, AT_MOST),
    UPDATES: (2.0, AT_LEAST),
    OPENING: (2.0, AT_MOST),
    SIZE: (5.0, AT_MOST),
}
"""Measure -> its limit, and on which side of it the median must lie."""
UNITS = {
    FIRST_ANSWER: "s",
    UPDATES: "per second",
    PAUSE: "s",
    COMPLETE: "s",
    OPENING: "s",
    SIZE: "MB",
    WRITING: "s",
}
Samples = dict[str, list[float]]
"""Measure -> one value per process."""

OPENED = """() => {
    const [navigation] = performance.getEntriesByType("navigation");
    const [paint] = performance.getEntriesByName("first-contentful-paint");
    const loaded = navigation.loadEventEnd;
    return paint && loaded ? Math.max(loaded, paint.startTime) : 0;
}"""
"""Milliseconds from the start of the navigation to the later of load event and first paint."""


def answer_figures(race: Mapping[str, Any]) -> dict[str, float]:
    """Figures of one answer.

    Args:
        race: what pages_race.js noted; times in milliseconds.

    Returns:
        Seconds to the answer and to the last panel, updates per second from the click to the
        answer, and the longest time in seconds between two updates.

    Raises:
        DiffclsError: if the race showed no answer.
    """
    updates = race["updates"]
    answers = [one["at"] for one in updates if one["answered"]]
    if not answers:
        raise DiffclsError("the demo's page showed no answer", given=f"{len(updates)} updates")
    until = [one["at"] for one in updates if one["at"] <= answers[0]]
    waited = (answers[0] - race["begun"]) / 1000
    pauses = [b - a for a, b in pairwise(until)]
    return {
        FIRST_ANSWER: waited,
        UPDATES: len(until) / waited,
        PAUSE: max(pauses, default=0.0) / 1000,
        COMPLETE: (race["complete"] - race["begun"]) / 1000,
    }


def measure_demo(processes: int) -> Samples:
    """Figures of the first answer of `processes` demos, each just started."""
    samples: Samples = {}
    for _ in range(processes):
        with served_demo() as address, chromium() as browser:
            page = visitor(browser).new_page()
            page.goto(address)
            page.wait_for_selector(".dc-example")
            page.wait_for_timeout(MILLISECONDS_TO_SETTLE)
            page.evaluate(START_RACE.read_text(encoding="utf-8"))
            page.wait_for_function("race.complete > 0", timeout=1000 * SECONDS_TO_ANSWER)
            _append(samples, answer_figures(page.evaluate("race")))
    return samples


def measure_report(processes: int, results: Path, flags: Sequence[str] = ()) -> Samples:
    """Figures of the report of a results folder, opened by `processes` browsers.

    Args:
        processes: number of browsers.
        results: the folder with leaderboard.csv and the runs.
        flags: further flags of ``python -m diffcls.report``.
    """
    samples: Samples = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "results"
        shutil.copytree(results, copy, ignore=shutil.ignore_patterns(*UNREAD))
        begun = time.perf_counter()
        output_of(["-m", "diffcls.report", "--output-dir", str(copy), *flags])
        _append(samples, {WRITING: time.perf_counter() - begun})
        report = copy / "report.html"
        _append(samples, {SIZE: report.stat().st_size / 1e6})
        for _ in range(processes):
            with chromium() as browser:
                page = visitor(browser).new_page()
                page.goto(report.as_uri())
                page.wait_for_function(f"({OPENED})() > 0")
                _append(samples, {OPENING: page.evaluate(OPENED) / 1000})
    return samples


def _append(samples: Samples, figures: Mapping[str, float]) -> None:
    for name, value in figures.items():
        samples.setdefault(name, []).append(value)


def rows_of(samples: Samples) -> list[dict[str, Any]]:
    """The rows of the table."""
    from statistics import median

    rows = []
    for name in UNITS:
        values = samples.get(name)
        if values:
            limit, bound = LIMITS.get(name, (None, None))
            rows.append(
                {
                    "measure": name,
                    "unit": UNITS[name],
                    "median": median(values),
                    "lowest": min(values),
                    "highest": max(values),
                    "processes": len(values),
                    "limit": limit,
                    "bound": bound,
                }
            )
    return rows


def within_limit(row: Mapping[str, Any]) -> bool | None:
    """Whether the median keeps its limit; None if it has none."""
    if row["limit"] is None:
        return None
    median, limit = row["median"], row["limit"]
    return bool(median <= limit if row["bound"] == AT_MOST else median >= limit)


def _main(arguments: list[str]) -> int:
    p = parser("pages", __doc__)
    add_report_only(p)
    p.add_argument("--processes", type=int, default=5, metavar="N", help="per figure (5)")
    p.add_argument(
        "--results",
        default=REFERENCE,
        metavar="DIR",
        help=f"results of the report, with their runs ({REFERENCE})",
    )
    add_data_root(p)
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    if not flags.report_only:
        results = Path(flags.results)
        if not (results / "runs").is_dir():
            raise UsageError(
                "--results has no runs to report",
                given=str(results),
                todo="run the benchmark leaderboard first, or name a folder of evaluations",
            )
        cores = _take_cores()
        samples = measure_demo(flags.processes)
        samples |= measure_report(
            flags.processes,
            results,
            [] if flags.data_root is None else ["--data-root", flags.data_root],
        )
        from diffcls.support.environment import set_threads

        set_threads(cores)
        write_rows(output / TABLE, rows_of(samples), COLUMNS, SIX_DIGITS)
        record_environment(output, "pages", cores=cores, browser=_browser_version())
    rows = read_rows(output / TABLE)
    write_page(rows, output)
    return int(any(within_limit(row) is False for row in rows))


main = entry_point(_main)


def _take_cores() -> int:
    """Keep this process and its children on `CORES` cores; returns how many they have."""
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or 1
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, cores)
    return len(cores)


def _browser_version() -> str:
    with chromium() as browser:
        return str(browser.version)


def write_page(rows: Sequence[Mapping[str, Any]], output: Path) -> None:
    """Write and print the page.

    Args:
        rows: rows of pages.csv.
        output: folder of the results, with the environment of the benchmark.
    """
    setup = environment_of(output, "pages")
    lines = [
        "# Pages: first answer of the demo, live updates, and the opening of the report",
        "",
        "Written by `python -m benchmarks.run pages` from `pages.csv`; "
        f"{setup['environment']}, Chromium {setup['browser']}, {setup['cores']} cores for server "
        "and browser together. Median over processes that were just started; in brackets the "
        "lowest and the highest. The first answer is timed in the browser, from the click on the "
        "first example to the end of the race; the updates are the states of the race that the "
        "page showed until then. The report is that of the whole leaderboard; it is open once its "
        "load event is over and its first content is painted.",
        "",
        "| measure | median | range | processes | limit | kept |",
        "|---|---|---|---|---|---|",
        *map(_line, rows),
        "",
    ]
    text = "\n".join(lines)
    write_text(output / PAGE, text)
    print(text)


def _line(row: Mapping[str, Any]) -> str:
    unit, kept = row["unit"], within_limit(row)
    limit = "" if kept is None else f"{row['bound']} {row['limit']:g} {unit}"
    verdict = {None: "", True: "yes", False: "no"}[kept]
    return (
        f"| {row['measure']} | {row['median']:.2f} {unit} | "
        f"{row['lowest']:.2f} to {row['highest']:.2f} | {row['processes']} | {limit} | {verdict} |"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
