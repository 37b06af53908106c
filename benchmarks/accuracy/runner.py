"""Runner of accuracy benchmarks: sets of evaluate runs, compared image by image.

Every row comes from a run of the evaluate command, which resumes; the report is made from the
stored records alone. Arguments after ``--`` are passed to each run.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.accuracy.report import write_report
from benchmarks.core.benchmark import Benchmark, Run
from benchmarks.core.compare import compare, records_of
from benchmarks.core.flags import add_jobs, entry_point, parser
from benchmarks.core.processes import run_python
from diffcls.data.option_use import root_for
from diffcls.evaluate import DEFAULTS
from diffcls.evaluate import parser as evaluate_parser
from diffcls.support.errors import unknown_name


def main(benchmark: Benchmark, arguments: Sequence[str]) -> int:
    """Run a benchmark; returns the exit status, 1 if an expectation is missed.

    Args:
        benchmark: its runs.
        arguments: options, then ``--`` and flags of evaluate.
    """
    return entry_point(lambda words: _main(benchmark, words))(arguments)


def _main(benchmark: Benchmark, arguments: list[str]) -> int:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options, evaluate_flags = _parse(benchmark, arguments[:end]), arguments[end + 1 :]
    benchmark = select(benchmark, options.only)
    output = Path(options.output_dir)
    if options.jobs > 1:
        run_in_parallel(benchmark, output, options.jobs, evaluate_flags)
    rows = {
        run.label: evaluate(run, output, options.quiet, evaluate_flags) for run in benchmark.runs
    }
    missed = missed_expectations(benchmark, rows, output)
    text = (benchmark.write or write_report)(benchmark, rows, output, missed)
    path = output / (benchmark.file or f"{benchmark.name}.md")
    path.write_text(text, encoding="utf-8")
    print(text)
    return 1 if missed else 0


def _parse(benchmark: Benchmark, arguments: list[str]) -> argparse.Namespace:
    p = parser(benchmark.name, f"{benchmark.title}. Flags of evaluate follow after --.")
    p.add_argument("--only", nargs="+", metavar="LABEL", help="make these runs only")
    p.add_argument("--quiet", action="store_true", help="show no progress")
    add_jobs(p)
    return p.parse_args(arguments)


def select(benchmark: Benchmark, labels: list[str] | None) -> Benchmark:
    """The benchmark with the runs of these labels only.

    If its reference is not among them, the first run becomes the reference.

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


def flags_for(run: Run, evaluate_flags: list[str]) -> list[str]:
    """The flags of evaluate, without ``--data-root`` for a run on a data set that reads none."""
    dataset = vars(evaluate_parser().parse_args(run.arguments)).get("dataset", DEFAULTS.dataset)
    flags, words = [], iter(evaluate_flags)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in ("--data-root", "--data_root"):
            flags.append(word)
        elif root := root_for(dataset, value if equals else next(words, "")):
            flags += ["--data-root", root]
    return flags


def evaluate(run: Run, output: Path, quiet: bool, evaluate_flags: list[str]) -> dict[str, Any]:
    """The leaderboard row of one run, which is made or resumed."""
    from diffcls.evaluation.run import run_evaluation

    arguments = [*run.arguments, *flags_for(run, evaluate_flags)]
    options = vars(evaluate_parser().parse_args([*arguments, "--output-dir", str(output)]))
    command = shlex.join(["python", "-m", "diffcls.evaluate", *arguments])
    return run_evaluation(**options, quiet=quiet, command=command)[0]


def run_in_parallel(
    benchmark: Benchmark, output: Path, jobs: int, evaluate_flags: list[str]
) -> None:
    """Make the runs in `jobs` parallel processes of one thread each.

    Two processes of one thread use two cores better than one process of two, as the models are
    small. The results are read by `evaluate`, which also repeats a failed run and shows its error.
    """

    def make(run: Run) -> None:
        arguments = ["-m", "diffcls.evaluate", *run.arguments, *flags_for(run, evaluate_flags)]
        done = run_python([*arguments, "--output-dir", str(output), "--threads", "1", "--json"])
        print(f"{run.label}: {'done' if done.returncode == 0 else 'failed'}", file=sys.stderr)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(make, benchmark.runs))


def missed_expectations(benchmark: Benchmark, rows: Mapping[str, Any], output: Path) -> list[str]:
    """A Markdown list of all expectations that are missed."""
    reference = rows[benchmark.reference]
    reference_records = records_of(output, reference["fingerprint"])
    lines = []
    for run in benchmark.runs:
        row = rows[run.label]
        same_images = row["dataset"] == reference["dataset"]
        records = records_of(output, row["fingerprint"]) if same_images else {}
        p, _ = compare(records, reference_records) if records else (1.0, 0)
        lines += [f"- {run.label}: {text}" for text in _missed(run, row, reference, p)]
    return lines


def _missed(run: Run, row: dict[str, Any], reference: dict[str, Any], p: float) -> list[str]:
    """The expectations that one run misses; p is McNemar's against the reference."""
    missed = []
    if run.min_accuracy is not None and row["accuracy"] < run.min_accuracy:
        missed.append(f"accuracy {row['accuracy']:.3f}, at least {run.min_accuracy:.3f} expected")
    cost = row["evaluations_per_image"]
    if run.max_evaluations is not None and cost > run.max_evaluations:
        missed.append(f"{cost:.1f} evaluations, at most {run.max_evaluations:g} expected")
    drop = reference["accuracy"] - row["accuracy"]
    if run.max_drop is not None and drop > run.max_drop:
        missed.append(f"accuracy {drop:.3f} below the reference, at most {run.max_drop:g} expected")
    if run.min_p is not None and p < run.min_p:
        missed.append(f"differs from the reference, p = {p:.3f}")
    return missed
