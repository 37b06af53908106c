"""``python -m benchmarks.figures.scenes``: images of the tasks made of scenes, as a picture."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from diffcls.cli import Parser, command
from diffcls.data.load import load_dataset

TASKS = ("attributes", "held-out", "relations", "counting", "pairs")
A_ROW = 6


def main(argv: list[str] | None = None) -> int:
    """Write ``results/scenes.png``; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    p = Parser(prog="benchmarks.figures.scenes", description=__doc__.splitlines()[0])
    p.add_argument("--output-dir", default="results", metavar="DIR")
    flags = p.parse_args(arguments)

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(TASKS), A_ROW, figsize=(1.9 * A_ROW, 2.1 * len(TASKS)))
    for row, task in zip(axes, TASKS, strict=True):
        data = load_dataset(f"scenes/{task}", "test")
        # pairs stand side by side, all others are taken from the whole set
        step = 1 if task == "pairs" else len(data) // A_ROW + 1
        for axis, item in zip(row, data.items[::step], strict=False):
            axis.imshow(item.open())
            axis.set(xticks=[], yticks=[])
            axis.set_title(textwrap.fill(data.class_names[item.class_index], 24), fontsize=7)
        row[0].set_ylabel(f"scenes/{task}", fontsize=9)
    figure.tight_layout()
    path = Path(flags.output_dir) / "scenes.png"
    figure.savefig(path, dpi=80)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
