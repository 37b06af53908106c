"""Ablation of loss, timestep weighting and aggregation on the same error tables.

Every data set is scored once per loss, with every class on every draw; all else is replayed. The
learned weighting was fitted on validation images of *another* data set (`tools.learn_allocations`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.core.compare import compare, records_of
from benchmarks.core.flags import add_data_root, entry_point, parser
from diffcls.data.option_use import root_for
from diffcls.diffusion.parameterization import LOSSES
from diffcls.diffusion.timestep_allocation import EVEN
from diffcls.evaluation.replay import replay
from diffcls.search.aggregation import VOTES
from tools.learn_allocations import file_for

IMAGES, DRAWS = 300, 50
DATASETS = ("digits", "fashion_mnist", "cifar10")
WEIGHTINGS = ("uniform", "x0", "v", "truncated-snr", "snr-clipped", "vlb")
TABLES = "tables"


def _main(arguments: list[str]) -> int:
    p = parser("aggregations", __doc__)
    add_data_root(p)
    p.add_argument("--images", type=int, default=IMAGES, metavar="N", help=f"({IMAGES})")
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    lines = [
        "# Ablation: loss, timestep weighting and aggregation",
        "",
        "Written by `python -m benchmarks.run aggregations`: "
        f"{flags.images} test images per data set, {DRAWS} draws, every class on every draw. p is "
        "McNemar's exact test on the same images: l1 and huber (uniform, mean) against l2, all "
        "others against the same loss (uniform, mean). The learned weighting was fitted on "
        "validation images of another data set. No default was chosen by these figures.",
        "",
    ]
    for dataset in DATASETS:
        lines += _section(dataset, output, flags)
    text = "\n".join(lines)
    (output / "aggregations.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


main = entry_point(_main)


def _tables(
    dataset: str, loss: str, output: Path, flags: argparse.Namespace
) -> tuple[Path, dict[str, Any]]:
    """Folder of a data set's error tables, which are made if missing, and the row of their run."""
    from diffcls.evaluation.run import run_evaluation

    folder = output / TABLES / f"{dataset}-test-{loss}"
    rows = run_evaluation(
        dataset=dataset,
        data_root=root_for(dataset, flags.data_root),
        limit=flags.images,
        search="exhaustive",
        draws=DRAWS,
        allocation=EVEN,  # weightings are defined for even timesteps
        loss=loss,
        save_errors=str(folder),
        output_dir=str(output / TABLES),
        command="python -m benchmarks.run aggregations",
    )
    return folder, rows[0]


def _section(dataset: str, output: Path, flags: argparse.Namespace) -> Iterator[str]:
    """The table of one data set."""
    yield from (
        f"## {dataset}",
        "",
        "| loss | weighting | aggregation | accuracy | 95 % interval | p |",
    )
    yield "|---|---|---|---|---|---|"
    learned = file_for(dataset)
    for loss in LOSSES:
        folder, row = _tables(dataset, loss, output, flags)
        published = _tables(dataset, "l2", output, flags)[1]
        records = (records_of(output / TABLES, r["fingerprint"]) for r in (row, published))
        against_l2 = compare(*records)[0]
        weighted = replay(folder, ["exhaustive"], [*WEIGHTINGS, learned])
        voted = replay(folder, ["exhaustive"], ["uniform"], list(VOTES))
        for number, result in enumerate([*weighted, *voted[1:]]):
            p = against_l2 if number == 0 else result["p"]
            yield (
                f"| {loss} | {str(result['weighting']).partition(':')[0]} | {result['vote']} | "
                f"{result['accuracy']:.1%} | {result['ci_low']:.1%} to {result['ci_high']:.1%} | "
                f"{p:.3f} |"
            )
    yield ""
