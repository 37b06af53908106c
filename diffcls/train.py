"""``python -m diffcls.train``: train a small text-to-image model on a data set, from nothing."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffcls.cli import Parser, guarded

EPILOG = """The model is a StableDiffusionPipeline folder, OUTPUT_DIR/DATASET, that diffusers loads.
A run that was stopped goes on from its last checkpoint with the same command, to the same weights.

examples:
  python -m diffcls.train --dataset digits
  python -m diffcls.train --dataset digits --images 100000 --output-dir quick

exit status: 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""


TESTED = 500
"""Test images that the finished model is shown; the evaluate command scores all of them."""


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    p = Parser(
        prog="diffcls train",
        description="Train a small text-to-image diffusion model on a data set, from nothing.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("--dataset", default="digits", metavar="NAME", help="what it learns (digits)")
    p.add_argument("--data-root", metavar="DIR", help="where local data lie")
    p.add_argument("--output-dir", default="models", metavar="DIR", help="(default: models)")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="(default: 0)")
    p.add_argument("--images", type=int, metavar="N", help="training images seen (the recipe's)")
    p.add_argument("--batch-size", type=int, metavar="N", help="images a step (the recipe's)")
    p.add_argument("--learning-rate", type=float, metavar="R", help="at its peak (the recipe's)")
    p.add_argument("--threads", type=int, metavar="N", help="CPU threads (torch's choice)")
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
    if flags.dataset not in GRAMMARS:
        raise unknown_name("data set to train on", flags.dataset, GRAMMARS)
    for name in ("images", "batch_size", "threads", "learning_rate"):
        value = getattr(flags, name)
        if value is not None and not value > 0:
            raise UsageError(f"--{name.replace('_', '-')} out of range", value, "above 0")

    import torch

    from diffcls.provenance import denormals_flushed
    from diffcls.recipes import RECIPES
    from diffcls.trainer import Training

    if flags.threads is not None:
        torch.set_num_threads(flags.threads)
    changes: dict[str, Any] = {
        "images": flags.images,
        "batch": flags.batch_size,
        "learning_rate": flags.learning_rate,
    }
    recipe = dataclasses.replace(
        RECIPES[flags.dataset], **{k: v for k, v in changes.items() if v is not None}
    )
    folder = Path(flags.output_dir) / flags.dataset
    training = Training(flags.dataset, recipe, flags.seed, folder, flags.data_root, flags.quiet)
    with denormals_flushed():
        card = training.run()
        if flags.json:
            print(json.dumps(card, indent=2, allow_nan=False))
        else:
            _report(training, card)
    return 0


def _report(training: Any, card: dict[str, Any]) -> None:
    from diffcls.models.loading import load
    from diffcls.search.racing import Racing

    folder = training.folder
    print(f"samples of {folder}:")
    for line in samples(folder, training.benchmark):
        print(line)
    _, accuracy, labels = training.classify(load(str(folder)), "test", Racing(), TESTED)
    print(f"validation accuracy {card['validation_accuracy']:.1%} (chosen on)")
    print(f"test accuracy {accuracy:.1%} on {len(labels)} held-out images")
    print(
        f"evaluate it: python -m diffcls.evaluate --dataset {training.benchmark} --model {folder}"
    )


def samples(folder: Path, dataset: str, a_row: int = 5) -> list[str]:
    """One sample of each of the first ten classes, drawn in characters."""
    import torch
    from diffusers import StableDiffusionPipeline

    from diffcls.data import sources, specs
    from diffcls.trainer import draw_text
    from diffcls.training import generator

    spec = specs.find(dataset)
    names = sources.load(dataset, "validation").class_names[:10]
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    with torch.inference_mode():
        images = pipeline(
            [spec.templates[0].replace("{}", name) for name in names],
            num_inference_steps=50,
            guidance_scale=2.0,
            generator=[generator("sample", name) for name in names],
            output_type="np",
        ).images  # (K, H, W, 3) in 0–1
    lines: list[str] = []
    for start in range(0, len(names), a_row):
        drawn = [draw_text(image.mean(axis=-1)) for image in images[start : start + a_row]]
        lines.append("  ".join(f"{name:^14.14}" for name in names[start : start + a_row]))
        lines.extend("  ".join(parts) for parts in zip(*drawn, strict=True))
    return lines


if __name__ == "__main__":
    sys.exit(main())
