"""``python -m benchmarks.ablations.aggregations``: losses, weightings and votes over the same
error tables.

Every data set is scored once a loss, every class on every draw; all else is replayed. A learned
weighting comes from the validation images of *another* data set, see `tools.learn_allocations`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.core.compare import compare, records_of
from diffcls.cli import Parser, command
from diffcls.diffusion.parameterization import LOSSES
from diffcls.diffusion.timestep_allocation import EVEN
from diffcls.evaluation.replay import replay
from diffcls.search.aggregation import VOTES
from tools.learn_allocations import file_for

IMAGES, DRAWS = 300, 50
DATASETS = ("digits", "fashion_mnist", "cifar10")
WEIGHTINGS = ("uniform", "x0", "v", "truncated-snr", "min-snr", "vlb")
TABLES = "tables"


def main(argv: list[str] | None = None) -> int:
    """Write ``results/aggregations.md``; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    p = Parser(prog="benchmarks.ablations.aggregations", description=__doc__.splitlines()[0])
    p.add_argument("--output-dir", default="results", metavar="DIR")
    p.add_argument("--data-root", metavar="DIR", help="where local data lie")
    p.add_argument("--images", type=int, default=IMAGES, metavar="N", help=f"({IMAGES})")
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    lines = [
        "# Losses, weightings and votes",
        "",
        "Written by `python -m benchmarks.ablations.aggregations`: "
        f"{flags.images} test images a data set, {DRAWS} draws, every class on every draw. p is "
        "McNemar's exact test on the same images: of l1 and huber (uniform, mean) against l2, of "
        "all else against the same loss (uniform, mean). A learned weighting was learned on "
        "validation images of another data set. Nothing here was "
        "chosen by these figures.",
        "",
    ]
    for dataset in DATASETS:
        lines += _section(dataset, output, flags)
    text = "\n".join(lines)
    (output / "aggregations.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def _tables(dataset: str, loss: str, output: Path, flags: Any) -> tuple[Path, dict[str, Any]]:
    """The error tables of a data set, made where they are not there yet, and their run's row."""
    from diffcls.evaluation.run import run_evaluation

    folder = output / TABLES / f"{dataset}-test-{loss}"
    rows = run_evaluation(
        dataset=dataset,
        data_root=flags.data_root,
        limit=flags.images,
        search="exhaustive",
        draws=DRAWS,
        allocation=EVEN,  # the weightings are of time as it is
        loss=loss,
        save_errors=str(folder),
        output_dir=str(output / TABLES),
        command="python -m benchmarks.ablations.aggregations",
    )
    return folder, rows[0]


def _section(dataset: str, output: Path, flags: Any) -> Iterator[str]:
    yield from (f"## {dataset}", "", "| loss | weighting | vote | accuracy | 95 % interval | p |")
    yield "|---|---|---|---|---|---|"
    learned = file_for(dataset)
    for loss in LOSSES:
        folder, row = _tables(dataset, loss, output, flags)
        published = _tables(dataset, "l2", output, flags)[1]
        records = (records_of(output / TABLES, r["fingerprint"]) for r in (row, published))
        against_l2 = compare(*records)[0]
        weighted = replay(folder, ["exhaustive"], [*WEIGHTINGS, learned])
        voted = replay(folder, ["exhaustive"], ["uniform"], list(VOTES))
        for number, found in enumerate([*weighted, *voted[1:]]):
            p = against_l2 if number == 0 else found["p"]
            yield (
                f"| {loss} | {str(found['weighting']).partition(':')[0]} | {found['vote']} | "
                f"{found['accuracy']:.1%} | {found['ci_low']:.1%} to {found['ci_high']:.1%} | "
                f"{p:.3f} |"
            )
    yield ""


if __name__ == "__main__":
    sys.exit(main())
