"""``python -m diffcls.train``: train a small model on a data set, from scratch or fine-tuned."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from diffcls.cli import command, parser_of
from diffcls.cli.flags import Add, add_machine, add_output, add_seed
from diffcls.support.options import read

if TYPE_CHECKING:
    from diffcls.training.run import TrainingRun

EPILOG = """The model is written to OUTPUT_DIR:
  DATASET            StableDiffusionPipeline, loaded by diffusers (--model diffusion); with
                     --without it ends with -without-CLASS
  clip-DATASET       CLIP, loaded by open_clip (--model clip)
  DATASET-pixels     DDPMPipeline, loaded by diffusers (--model pixels; DATASET-pixels-unconditional
                     with --no-conditional)
  noisy-DATASET      classifier of noisy images, for classifier guidance (--model classifier)
  DATASET-instruct   StableDiffusionInstructPix2PixPipeline, for edits by an instruction, fine-tuned
                     from a text-to-image model (--model instruct --init MODEL)
  control-DATASET    ControlNetModel of edges, loaded by diffusers (--model control)

An interrupted training resumes from its last checkpoint with the same command, to the same weights.

Data parallel: torchrun --nproc-per-node 4 -m diffcls.train … trains on four devices; a step then
takes four batches. Gradient accumulation (--accumulate 4) takes as many batches on one device.

examples:
  python -m diffcls.train --dataset digits
  python -m diffcls.train --dataset digits --images 100000 --output-dir quick
  python -m diffcls.train --dataset scenes --model clip
  python -m diffcls.train --dataset fashion_mnist --model pixels --objective v_prediction
  python -m diffcls.train --dataset scenes --model instruct --init scenes

exit status: 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""


def parser() -> argparse.ArgumentParser:
    """The command's flags; `diffcls.training.options.TrainingOptions` documents them."""
    p = parser_of(
        "train",
        "Train a small model: a text-to-image diffusion model, a CLIP, a pixel-space diffusion "
        "model, a classifier of noisy images that guides one, an editor by instructions, or a "
        "ControlNet.",
        EPILOG,
        argument_default=argparse.SUPPRESS,
    )
    _add_model(p.add_argument_group("model and data").add_argument)
    _add_recipe(p.add_argument_group("recipe").add_argument)
    add = p.add_argument_group("training").add_argument
    add("--accumulate", type=int, metavar="N", help="gradient accumulation, batches per step (1)")
    add_seed(add, "the initial weights and all random choices")
    add_machine(add, "recipe", "images per batch")
    add = add_output(p, "models", "parent of the model's folder")
    add("--report-to", metavar="R", help="none or tensorboard (none)")
    add("--points", type=int, metavar="N", help="points of the curve (8)")
    return p


def _add_model(add: Add) -> None:
    data = "any data set of diffcls, folder:PATH with one folder per class or a metadata.csv of "
    data += "file_name and text, parquet:PATH, hf:ID, webdataset:PATTERN (digits)"
    add("--dataset", metavar="NAME", help=data)
    kinds = (
        "diffusion, clip, pixels (a DDPM), classifier (of noisy images), instruct (an editor) or "
    )
    kinds += "control (a ControlNet of edges) (diffusion)"
    add("--model", metavar="KIND", help=kinds)
    add("--data-root", metavar="DIR", help="folder of local data")
    left_out = "diffusion, clip: classes whose images are left out (none)"
    add("--without", nargs="+", metavar="CLASS", help=left_out)
    init = "trained model of that kind to fine-tune; instruct: a text-to-image model"
    add("--init", metavar="MODEL", help=init)
    led = "classifier: pixel-space model to guide; control: model to steer by edges (recipe)"
    add("--lead", metavar="MODEL", help=led)


def _add_recipe(add: Add) -> None:
    switch = argparse.BooleanOptionalAction
    add(
        "--recipe", metavar="NAME", help="recipe of the data set, such as long, for a GPU (its own)"
    )
    images = "training images seen, autoencoder included (recipe)"
    add("--images", type=int, metavar="N", help=images)
    add("--learning-rate", type=float, metavar="R", help="peak learning rate (recipe)")
    target = "prediction target: epsilon, v_prediction, sample or flow (recipe)"
    add("--objective", metavar="O", help=target)
    weighting = "weighting of the loss over time: native, epsilon or min-snr (recipe)"
    add("--loss-weighting", metavar="W", help=weighting)
    schedule = "pixels: linear, scaled_linear, squaredcos_cap_v2 or learned (linear)"
    add("--noise-schedule", metavar="S", help=schedule)
    add("--levels", metavar="L", help="pixels: discrete or continuous noise levels (discrete)")
    add("--learned-variance", action=switch, help="pixels: learn the reverse variance (off)")
    add("--conditional", action=switch, help="pixels: condition on the class (on)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    from diffcls.training.options import TrainingOptions, open_training, resolve

    options = read(TrainingOptions, vars(parser().parse_args(arguments)))
    resolve(options)  # refuse before anything heavy is imported

    import torch

    from diffcls.classifiers.validation import validators
    from diffcls.support.environment import denormals_flushed
    from diffcls.training.distributed import join

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    processes = join(options.device)
    callbacks = partial(validators, without=options.without or ())
    training = open_training(options, callbacks, processes)
    if processes.is_main_process and not options.quiet:
        print(cost_line(training), file=sys.stderr)
    with denormals_flushed():
        card = training.run()
        if not processes.is_main_process:
            return 0
        if options.json:
            print(json.dumps(card, indent=2, allow_nan=False))
        else:
            print("\n".join(training.report(card)))
    return 0


def cost_line(training: TrainingRun) -> str:
    """Images and steps of a training, in one line."""
    phases = training.cost()
    per_step = training.processes.size * training.accumulate
    images = sum(phase.images for phase in phases.values())
    steps = sum(max(1, phase.batches // per_step) for phase in phases.values())
    parts = ", ".join(f"{name} {phase.images:,}" for name, phase in phases.items())
    return f"training {training.folder}: {images:,} images seen ({parts}) in {steps:,} steps"


if __name__ == "__main__":
    sys.exit(main())
