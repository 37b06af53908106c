"""``python -m diffcls.generate``: images from prompts, with any sampler and guidance."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from diffcls.cli import command, parser_of
from diffcls.cli.flags import (
    add_machine,
    add_output,
    add_sampling,
    add_seed,
    add_source,
    add_workers,
    keywords,
)
from diffcls.generation.images import GenerationOptions, GenerationResult, generate_images
from diffcls.generation.options import Interrupted
from diffcls.generation.samplers import DEFAULT, SAMPLERS

EPILOG = """The images are written into OUTPUT_DIR/MODEL-KEY, KEY a hash of the settings: a PNG per
image, grid.png, and samples.json with the settings. An image depends on its seed and its number
alone.

examples:
  python -m diffcls.generate                          a few images of each of the model's classes
  python -m diffcls.generate --model scenes --prompt "two red circles" "a blue square"
  python -m diffcls.generate --class 7 --count 8 --trajectory
  python -m diffcls.generate --class 7 --guide diffusion --guide-weight 2
  python -m diffcls.generate --model scenes --prompt "a red circle" --control canny:photo.png
  python -m diffcls.generate --interpolate one.png other.png

exit status: 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""


def parser() -> argparse.ArgumentParser:
    """The command's flags; `diffcls.generation.images.GenerationOptions` documents them."""
    p = parser_of(
        "generate",
        "Generate images with a diffusion model.",
        EPILOG,
        argument_default=argparse.SUPPRESS,
    )
    add = p.add_argument_group("what to generate").add_argument
    add_source(add, "digits")
    prompts = "one or more prompts, for a model that reads texts"
    add("--prompt", nargs="+", dest="prompts", metavar="TEXT", help=prompts)
    add("--class", nargs="+", dest="classes", metavar="NAME", help="classes of the data set")
    add("--count", type=int, metavar="N", help="images per prompt or class (4)")
    add("--interpolate", nargs=2, metavar="IMAGE", help="interpolate between two image files")
    add = p.add_argument_group("how to generate it").add_argument
    weight = "weight of classifier-free guidance (2; with --guide 0, which ignores the prompt)"
    add("--guidance", type=float, metavar="W", help=weight)
    kinds = "further guidance: classifier (of noisy images), clip, or diffusion (classifier)"
    add("--guide", metavar="G", help=kinds)
    add("--guide-weight", type=float, metavar="W", help="weight of its gradient (1)")
    model = "classifier or CLIP of --guide (that of the data set)"
    add("--guide-model", metavar="NAME|PATH", help=model)
    maps = "maps for a ControlNet: a file or folder; canny:PATH or soft:PATH for edges of images"
    add("--control", metavar="[KIND:]PATH", help=maps)
    names = "ControlNet that reads them (the model's bundled one)"
    add("--control-model", metavar="NAME|PATH|ID", help=names)
    add_sampling(add, DEFAULT)
    add_seed(add)
    trajectory = "also write the estimates after each step: trajectory.png and trajectory.gif"
    add("--trajectory", action="store_true", help=trajectory)
    add("--dtype", metavar="T", help="float32, bfloat16 or float16 (that of the device)")
    add_machine(add, 32)
    add_workers(add)
    add = add_output(p, "samples", "parent of the folder that is written")
    listing = "print all samplers with their sources, and stop"
    add("--list-samplers", action="store_true", default=False, help=listing)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv, resumes=False)


def _main(arguments: list[str]) -> int:
    flags = parser().parse_args(arguments)
    if flags.list_samplers:
        print("\n".join(f"{name:12} {one.description}" for name, one in SAMPLERS.items()))
        return 0
    try:
        result = generate_images(**keywords(flags, GenerationOptions))
    except Interrupted as stop:
        _print(flags, stop.result)
        return 130
    _print(flags, result)
    return 0


def _print(flags: argparse.Namespace, result: GenerationResult) -> None:
    if flags.json:
        summary = {
            "folder": str(result.folder),
            "asked": result.requested,
            "images": result.images,
            "status": result.status,
        }
        print(json.dumps({**summary, **result.settings}, indent=2))
    elif result.status == "complete":
        print(f"{result.images} images in {result.folder}")
    else:
        print(f"interrupted: {result.images} of {result.requested} images in {result.folder}")


if __name__ == "__main__":
    sys.exit(main())
