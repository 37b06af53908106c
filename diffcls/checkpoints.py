"""``python -m diffcls.checkpoints``: compare checkpoints of a training, or several models."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from diffcls.cli import command, parser_of
from diffcls.cli.flags import add_machine, add_output, keywords

EPILOG = """DIR is a model, a folder of models, a pattern with * of these, or the folder of a
training by `python -m diffcls.train`, which stands for its snapshots. The defaults are those of the
curve in a model's card: 100 validation images, at most 10 draws per class.

change and p compare a checkpoint with the one before, p, last with the last one: McNemar's exact
test on the same images. With many checkpoints some p are small by chance.

examples:
  python -m diffcls.checkpoints models/digits
  python -m diffcls.checkpoints 'out/checkpoint-*' --dataset cifar10 --data-root data --limit 1000
  python -m diffcls.checkpoints models/scenes --metrics accuracy relations counting
  python -m diffcls.checkpoints small large --split test --limit 500 --draws 40 --csv models.csv

exit status: 0 done, 1 failed, 2 bad usage or input, 130 interrupted; rerun to resume."""


def parser() -> argparse.ArgumentParser:
    """The command's flags; `diffcls.evaluation.checkpoint_options` documents them."""
    p = parser_of(
        "checkpoints",
        "Compare checkpoints of a training: accuracy and other metrics, with paired tests.",
        EPILOG,
        argument_default=argparse.SUPPRESS,
    )
    p.add_argument("checkpoints", nargs="+", metavar="DIR", help="models, or folders of models")
    add = p.add_argument_group("data").add_argument
    add("--dataset", metavar="NAME", help="data set (the one in the models' cards)")
    add("--data-root", metavar="DIR", help="folder of local data")
    add("--split", metavar="NAME", help="split of the data set (validation)")
    add("--limit", type=int, metavar="N", help="images, a stratified sample (100)")
    add = p.add_argument_group("measurement").add_argument
    metrics = "one or more of accuracy, relations, counting, bits-per-dim, FID (accuracy)"
    add("--metrics", nargs="+", metavar="M", help=metrics)
    add("--draws", type=int, metavar="N", help="draws per class at most, with racing (10)")
    add("--count", type=int, metavar="N", help="FID: generated images (as many as real ones)")
    add("--extractor", metavar="E", help="FID: feature extractor, see fidelity")
    add("--seed", type=int, metavar="N", help="seed of the noise (the trainings' own, or 0)")
    add("--dtype", metavar="T", help="float32, bfloat16 or float16 (float32)")
    add_machine(add, "64 on a CPU")
    add = add_output(p, "results/checkpoints", "folder of the runs, tables and the plot")
    add("--csv", metavar="FILE", help="write the table, with all its numbers, to a CSV file")
    add("--plot", metavar="FILE", help="the picture (OUTPUT_DIR/checkpoints.png)")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    from diffcls.evaluation.checkpoint_options import CheckpointOptions
    from diffcls.support.options import check_text, read

    flags = parser().parse_args(arguments)
    check_text("--output-dir", flags.output_dir)
    given = keywords(flags, CheckpointOptions)
    read(CheckpointOptions, given)

    from diffcls.evaluation.checkpoints import compare_checkpoints
    from diffcls.reports import checkpoints as report
    from diffcls.support.files import check_output, locked
    from diffcls.support.notices import warn
    from diffcls.support.paths import expand
    from diffcls.support.tables import write_csv

    picture = Path(expand(getattr(flags, "plot", f"{flags.output_dir}/checkpoints.png")))
    check_output(Path(expand(flags.output_dir)))
    if hasattr(flags, "plot"):
        report.check_plot(picture)
    csv = report.csv_path(flags.csv) if hasattr(flags, "csv") else None
    table = compare_checkpoints(**given)
    if csv is not None:
        with locked(csv) as path:
            write_csv(path, report.csv_lines(table.rows))
    if flags.json:
        print(json.dumps(table.rows, indent=2, allow_nan=False))
    else:
        print(report.format_checkpoints(table.rows, table.metrics))
    for note in table.notes:
        warn(note)
    if hasattr(flags, "plot") or report.can_plot():
        report.plot_checkpoints(table.rows, table.metrics, picture)
        warn(f"plot: {picture}")
    else:
        warn('no plot: matplotlib is missing; pip install "diffcls[report]"')
    return 0


if __name__ == "__main__":
    sys.exit(main())
