"""``python -m benchmarks.figures.samples``: what a bundled model draws, by plain diffusers, as a
picture.

One row a guidance scale from 1 to 5, one column a class. Nothing of diffcls draws here: the
folder is loaded and sampled by ``diffusers.StableDiffusionPipeline`` alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

from diffcls.cli import Parser, command
from diffcls.data import catalog
from diffcls.data.load import load_dataset
from diffcls.models.loading import find

SCALES = (1.0, 2.0, 3.0, 4.0, 5.0)


def main(argv: list[str] | None = None) -> int:
    """Write ``results/NAME_samples.png``; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    p = Parser(prog="benchmarks.figures.samples", description=__doc__.splitlines()[0])
    p.add_argument("name", nargs="?", default="digits", help="a bundled model (default: digits)")
    p.add_argument("--output-dir", default="results", metavar="DIR")
    p.add_argument("--steps", type=int, default=50)
    flags = p.parse_args(arguments)

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import torch
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(find(flags.name).path)
    pipeline.set_progress_bar_config(disable=True)
    names = load_dataset(flags.name, "test").class_names
    template = catalog.find(flags.name).templates[0]
    figure, axes = plt.subplots(
        len(SCALES), len(names), figsize=(len(names), 1.1 * len(SCALES)), squeeze=False
    )
    for row, scale in zip(axes, SCALES, strict=True):
        images = pipeline(
            [template.replace("{}", name) for name in names],
            num_inference_steps=flags.steps,
            guidance_scale=scale,
            generator=[torch.Generator("cpu").manual_seed(k) for k in range(len(names))],
        ).images
        for axis, image, name in zip(row, images, names, strict=True):
            axis.imshow(image)
            axis.set(xticks=[], yticks=[])
            if scale == SCALES[0]:
                axis.set_title(name)
        row[0].set_ylabel(f"guidance {scale:g}", fontsize=7)
    figure.suptitle(f"“{template}”, {flags.steps} steps, seed = column", fontsize=9)
    figure.tight_layout()
    path = Path(flags.output_dir) / f"{flags.name}_samples.png"
    figure.savefig(path, dpi=100)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
