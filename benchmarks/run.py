"""``python -m benchmarks.run NAME``: run a benchmark and write its report.

Every row comes from a run of the evaluate command, resumed where it is already there; the report
is made from the stored records alone. What follows ``--`` goes to each of these commands, as where
the data lie: ``python -m benchmarks.run published_pets --only racing -- --data-root data``.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.core.benchmark import Benchmark, Run
from benchmarks.core.compare import compare, records_of
from diffcls.cli import Parser, command
from diffcls.evaluate import parser as evaluate_parser
from diffcls.support.errors import unknown_name

FOLDER = Path(__file__).parent
AS_EXPECTED = "All figures are as expected."


def names() -> list[str]:
    """Names of all benchmarks: the files that define one."""
    files = FOLDER.glob("*.py")
    return sorted(p.stem for p in files if "\nBENCHMARK = " in p.read_text(encoding="utf-8"))


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status, 1 where a figure misses what is expected."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    p = Parser(prog="benchmarks.run", description=__doc__.splitlines()[0])
    p.formatter_class = argparse.RawDescriptionHelpFormatter
    p.add_argument("name", metavar="NAME", help=", ".join(names()))
    p.add_argument("--only", nargs="+", metavar="LABEL", help="these of its runs")
    p.add_argument("--output-dir", default="results", metavar="DIR")
    p.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time, a core each")
    p.add_argument("--quiet", action="store_true")
    mine, further = _split(arguments)
    flags = p.parse_args(mine)
    if flags.name not in names():
        raise unknown_name("benchmark", flags.name, names())
    benchmark: Benchmark = importlib.import_module(f"benchmarks.{flags.name}").BENCHMARK
    benchmark = select(benchmark, flags.only)
    output = Path(flags.output_dir)
    if flags.jobs > 1:
        together(benchmark, output, flags.jobs, further)
    rows = {run.label: evaluate(run, output, flags.quiet, further) for run in benchmark.runs}
    missed = all_misses(benchmark, rows, output)
    text = (benchmark.write or report)(benchmark, rows, output, missed)
    path = output / (benchmark.file or f"{benchmark.name}.md")
    path.write_text(text, encoding="utf-8")
    print(text)
    return 1 if missed else 0


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What stands before ``--`` and after it."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:end], arguments[end + 1 :]


def select(benchmark: Benchmark, labels: list[str] | None) -> Benchmark:
    """The benchmark cut down to the runs of these labels; without its reference, the first is one.

    Raises:
        UsageError: for a label that no run has.
    """
    if not labels:
        return benchmark
    known = [run.label for run in benchmark.runs]
    for label in labels:
        if label not in known:
            raise unknown_name("run of this benchmark", label, known)
    runs = tuple(run for run in benchmark.runs if run.label in labels)
    reference = benchmark.reference if benchmark.reference in labels else runs[0].label
    return dataclasses.replace(benchmark, runs=runs, reference=reference)


def evaluate(run: Run, output: Path, quiet: bool, further: list[str]) -> dict[str, Any]:
    """The row of one run, with `further` arguments of the evaluate command."""
    from diffcls.evaluation.run import run_evaluation

    asked = [*run.arguments, *further]
    given = [*asked, "--output-dir", str(output)]
    wishes = vars(evaluate_parser().parse_args(given))
    command = shlex.join(["python", "-m", "diffcls.evaluate", *asked])
    return run_evaluation(**wishes, quiet=quiet, command=command)[0]


def misses(run: Run, row: dict[str, Any], reference: dict[str, Any], p: float) -> list[str]:
    """What of a run is not as expected; p is McNemar's against the reference."""
    found = []
    if run.at_least is not None and row["accuracy"] < run.at_least:
        found.append(f"accuracy {row['accuracy']:.3f}, at least {run.at_least:.3f} expected")
    cost = row["evaluations_per_image"]
    if run.most_evaluations is not None and cost > run.most_evaluations:
        found.append(f"{cost:.1f} evaluations, at most {run.most_evaluations:g} expected")
    lost = reference["accuracy"] - row["accuracy"]
    if run.most_lost is not None and lost > run.most_lost:
        found.append(f"loses {lost:.3f} to the reference, at most {run.most_lost:g} expected")
    if run.least_p is not None and p < run.least_p:
        found.append(f"differs from the reference, p = {p:.3f}")
    return found


def together(benchmark: Benchmark, output: Path, jobs: int, further: list[str]) -> None:
    """Make the runs `jobs` at a time, each in a process of its own with one thread.

    Small models keep two processes of one thread busier than one process of two. What a run leaves
    is picked up afterwards; one that failed is then run once more, and says why.
    """

    def make(run: Run) -> None:
        command = [sys.executable, "-m", "diffcls.evaluate", *run.arguments, *further]
        command += ["--output-dir", str(output), "--threads", "1", "--json"]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        print(f"{run.label}: {'done' if done.returncode == 0 else 'failed'}", file=sys.stderr)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(make, benchmark.runs))


def all_misses(benchmark: Benchmark, rows: Mapping[str, Any], output: Path) -> list[str]:
    """What of all runs is not as expected, a line each."""
    first = rows[benchmark.reference]
    reference = records_of(output, first["fingerprint"])
    missed = []
    for run in benchmark.runs:
        row = rows[run.label]
        same_images = row["dataset"] == first["dataset"]
        mine = records_of(output, row["fingerprint"]) if same_images else {}
        p, _ = compare(mine, reference) if mine else (1.0, 0)
        missed += [f"- {run.label}: {m}" for m in misses(run, row, first, p)]
    return missed


def report(
    benchmark: Benchmark, rows: Mapping[str, Any], output: Path, missed: Sequence[str]
) -> str:
    """The report in Markdown."""
    first = rows[benchmark.reference]
    reference = records_of(output, first["fingerprint"])
    lines = [
        f"# {benchmark.title}",
        "",
        f"Written by `python -m benchmarks.run {benchmark.name}`. Intervals are Wilson's at 95 %;"
        f" p is McNemar's exact test, image by image, against “{benchmark.reference}”."
        f" Expectations: {benchmark.source}.",
        "",
        "| run | accuracy | 95 % interval | mean per class | ECE | evaluations an image |"
        " seconds an image | same answer | p | supervision |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in benchmark.runs:
        row = rows[run.label]
        p, same = compare(records_of(output, row["fingerprint"]), reference)
        lines.append(
            f"| {run.label} | {row['accuracy']:.1%} | {row['ci_low']:.1%} to {row['ci_high']:.1%} "
            f"| {row['mean_per_class']:.1%} | {row['ece']:.3f} "
            f"| {row['evaluations_per_image']:.1f} | {row['seconds_per_image']:.3f} "
            f"| {same} of {row['n_scored']} | {p:.3f} | {row['supervision']} |"
        )
    lines += ["", "| run | fingerprint | command |", "|---|---|---|"]
    lines += [
        f"| {run.label} | `{rows[run.label]['fingerprint']}` | `{rows[run.label]['command']}` |"
        for run in benchmark.runs
    ]
    lines += [
        "",
        "What misses expectations:" if missed else AS_EXPECTED,
        *missed,
    ]
    lines += [
        "",
        f"{first['device']}, {first['versions']}, commit {first['commit'] or 'unknown'}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
