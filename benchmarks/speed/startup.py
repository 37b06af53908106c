"""Start-up benchmark: CPU time until a finished run answers, and until the first record.

Writes ``startup.csv`` and ``STARTUP.md``. Each figure is the minimum over several processes, in
seconds of CPU (user and system): on a busy machine it varies less than wall-clock time. The
processes take turns, so that other load affects all figures alike. The reference of the first
record is a process that only imports torch and the classes of diffusers and transformers that the
run uses.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.core.flags import add_report_only, entry_point, parser
from benchmarks.core.tables import (
    SIX_DIGITS,
    environment_of,
    read_rows,
    record_environment,
    write_rows,
)
from diffcls.support.errors import DiffclsError
from diffcls.support.files import write_text

TABLE, PAGE = "startup.csv", "STARTUP.md"
COLUMNS = ("measure", "cpu_seconds", "median_cpu_seconds", "processes", "against_imports", "limit")
FINISHED, FIRST_RECORD, IMPORTS = "finished run", "first record", "imports alone"
FINISHED_LIMIT_SECONDS = 2.0
FIRST_RECORD_LIMIT = 1.2
"""Upper limit of the first record's time, relative to the imports alone."""
FLAGS = ("--limit", "5", "--draws", "6", "--threads", "1", "--quiet")
"""Flags of the measured run of ``python -m diffcls.evaluate``."""

# both end without the interpreter's teardown, which is no part of the start-up
IMPORTS_CODE = """
import os
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer
os._exit(0)
"""
FIRST_RECORD_CODE = """
import os, sys
from diffcls import evaluate
from diffcls.runs.records import RecordStore

append = RecordStore.append

def then_end(store, record):
    append(store, record)
    os._exit(0)

RecordStore.append = then_end
sys.exit(evaluate.main(sys.argv[1:]) or "no record was written")
"""


def cpu_seconds(arguments: Sequence[str]) -> float:
    """User and system time of a Python process and its own subprocesses, in seconds.

    Raises:
        DiffclsError: if the process fails.
    """
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise DiffclsError(
            "a measured process failed; its error is printed above",
            given=f"exit status {process.returncode}",
            todo="rerun the benchmark once python -m diffcls.evaluate works",
        )
    return usage.ru_utime + usage.ru_stime


def measure(processes: int) -> list[dict[str, Any]]:
    """The rows of the table, from `processes` processes per figure."""
    seconds: dict[str, list[float]] = {FINISHED: [], FIRST_RECORD: [], IMPORTS: []}
    with tempfile.TemporaryDirectory() as folder:
        finished = ["-m", "diffcls.evaluate", *FLAGS, "--output-dir", f"{folder}/finished"]
        cpu_seconds(finished)  # scores the images that the measured processes find finished
        for i in range(processes):
            first = ["-c", FIRST_RECORD_CODE, *FLAGS, "--output-dir", f"{folder}/{i}"]
            seconds[FINISHED].append(cpu_seconds(finished))
            seconds[IMPORTS].append(cpu_seconds(["-c", IMPORTS_CODE]))
            seconds[FIRST_RECORD].append(cpu_seconds(first))
    return rows_of(seconds)


def rows_of(seconds: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """The rows of the table.

    Args:
        seconds: CPU seconds of every process, by measure.
    """
    from statistics import median

    imports = min(seconds[IMPORTS])
    limits = {FINISHED: FINISHED_LIMIT_SECONDS, FIRST_RECORD: FIRST_RECORD_LIMIT * imports}
    return [
        {
            "measure": name,
            "cpu_seconds": min(values),
            "median_cpu_seconds": median(values),
            "processes": len(values),
            "against_imports": min(values) / imports,
            "limit": limits.get(name),
        }
        for name, values in seconds.items()
    ]


def _main(arguments: list[str]) -> int:
    p = parser("startup", __doc__)
    add_report_only(p)
    p.add_argument("--processes", type=int, default=5, metavar="N", help="per figure (5)")
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    if not flags.report_only:
        rows = measure(flags.processes)
        from diffcls.support.environment import set_threads

        set_threads(1)
        write_rows(output / TABLE, rows, COLUMNS, SIX_DIGITS)
        record_environment(output, "startup", run=" ".join(FLAGS))
    write_page(read_rows(output / TABLE), output)
    return 0


main = entry_point(_main)


def write_page(rows: list[dict[str, Any]], output: Path) -> None:
    """Write and print the page.

    Args:
        rows: rows of startup.csv.
        output: folder of the results, with the environment of the benchmark.
    """
    setup = environment_of(output, "startup")
    lines = [
        "# Start-up: CPU time of a finished run and of the first record",
        "",
        "Written by `python -m benchmarks.run startup` from `startup.csv`: "
        f"`python -m diffcls.evaluate {setup['run']}`, minimum (median) of user and system time "
        f"over {rows[0]['processes']} processes that take turns; {setup['environment']}. The "
        "imports alone are torch and the classes of diffusers and transformers that the run uses. "
        f"Limits: {FINISHED_LIMIT_SECONDS:g} s of CPU for a finished run, and {FIRST_RECORD_LIMIT} "
        "times the imports alone for the first record.",
        "",
        "| measure | CPU seconds | relative to the imports alone | limit in seconds | within it |",
        "|---|---|---|---|---|",
        *map(_line, rows),
        "",
    ]
    text = "\n".join(lines)
    write_text(output / PAGE, text)
    print(text)


def _line(row: Mapping[str, Any]) -> str:
    limit, seconds = row["limit"], row["cpu_seconds"]
    verdict = "| |" if limit is None else f"{limit:.2f} | {'yes' if seconds <= limit else 'no'} |"
    return (
        f"| {row['measure']} | {seconds:.2f} ({row['median_cpu_seconds']:.2f}) | "
        f"{row['against_imports']:.2f}× | {verdict}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
