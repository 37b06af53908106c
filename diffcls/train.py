"""``python -m diffcls.train``: train a small model on a data set's captions, from nothing."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffcls.cli import Parser, guarded
from diffcls.registry import Registry

EPILOG = """The model is a StableDiffusionPipeline folder, OUTPUT_DIR/DATASET, that diffusers loads,
or OUTPUT_DIR/clip-DATASET, that open_clip loads.
A run that was stopped goes on from its last checkpoint with the same command, to the same weights.

examples:
  python -m diffcls.train --dataset digits
  python -m diffcls.train --dataset digits --images 100000 --output-dir quick
  python -m diffcls.train --dataset scenes --model clip

exit status: 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""


MODELS = Registry(
    "kind of model to train",
    {
        "diffusion": "diffcls.trainer:Training",
        "clip": "diffcls.clip_trainer:ClipTraining",
    },
)


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    p = Parser(
        prog="diffcls train",
        description="Train a small text-to-image diffusion model, or a small CLIP, from nothing.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("--dataset", default="digits", metavar="NAME", help="what it learns (digits)")
    p.add_argument(
        "--model", default="diffusion", metavar="KIND", help="diffusion (default), or clip"
    )
    p.add_argument("--data-root", metavar="DIR", help="where local data lie")
    p.add_argument("--output-dir", default="models", metavar="DIR", help="(default: models)")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="(default: 0)")
    p.add_argument("--images", type=int, metavar="N", help="training images seen (the recipe's)")
    p.add_argument("--batch-size", type=int, metavar="N", help="images a step (the recipe's)")
    p.add_argument("--learning-rate", type=float, metavar="R", help="at its peak (the recipe's)")
    p.add_argument("--threads", type=int, metavar="N", help="CPU threads (torch's choice)")
    p.add_argument("--init", metavar="MODEL", help="go on from a finished model of that kind")
    p.add_argument("--json", action="store_true", help="the card on stdout")
    p.add_argument("--quiet", action="store_true", help="no progress")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _main(arguments))


def _main(arguments: list[str]) -> int:
    from diffcls.data.captions import GRAMMARS
    from diffcls.errors import UsageError, unknown_name

    flags = parser().parse_args(arguments)
    if flags.model not in MODELS:
        raise unknown_name("kind of model to train", flags.model, MODELS)
    if flags.dataset not in GRAMMARS:
        raise unknown_name("data set to train on", flags.dataset, GRAMMARS)
    if flags.init:
        from diffcls.models import clip, loading

        (loading if flags.model == "diffusion" else clip).check_name(flags.init)
    for name in ("images", "batch_size", "threads", "learning_rate"):
        value = getattr(flags, name)
        if value is not None and not value > 0:
            raise UsageError(f"--{name.replace('_', '-')} out of range", value, "above 0")

    import torch

    from diffcls import recipes
    from diffcls.provenance import denormals_flushed

    if flags.threads is not None:
        torch.set_num_threads(flags.threads)
    changes: dict[str, Any] = {
        "images": flags.images,
        "batch": flags.batch_size,
        "learning_rate": flags.learning_rate,
    }
    known = recipes.RECIPES if flags.model == "diffusion" else recipes.CLIP_RECIPES
    recipe: Any = dataclasses.replace(
        known[flags.dataset],
        **{k: v for k, v in changes.items() if v is not None},
    )
    prefix = "" if flags.model == "diffusion" else f"{flags.model}-"
    folder = Path(flags.output_dir) / f"{prefix}{flags.dataset}"
    training = MODELS.load(flags.model)(
        flags.dataset, recipe, flags.seed, folder, flags.data_root, flags.quiet, flags.init
    )
    with denormals_flushed():
        card = training.run()
        if flags.json:
            print(json.dumps(card, indent=2, allow_nan=False))
        else:
            print("\n".join(training.report(card)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
