"""Figure of images of the scene benchmarks, scenes.png."""

from __future__ import annotations

import textwrap
from pathlib import Path

from benchmarks.core.flags import entry_point, parser
from diffcls.data.load import load_dataset

TASKS = ("attributes", "held-out", "relations", "counting", "pairs")
IMAGES_PER_ROW = 6


def _main(arguments: list[str]) -> int:
    p = parser("scenes", __doc__)
    flags = p.parse_args(arguments)

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(TASKS), IMAGES_PER_ROW, figsize=(1.9 * IMAGES_PER_ROW, 2.1 * len(TASKS))
    )
    for row, task in zip(axes, TASKS, strict=True):
        data = load_dataset(f"scenes/{task}", "test")
        # the images of a pair side by side; other tasks spread over the whole set
        step = 1 if task == "pairs" else len(data) // IMAGES_PER_ROW + 1
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


main = entry_point(_main)
