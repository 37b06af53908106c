"""``python -m diffcls.train``: train a small model on a data set, from nothing."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffcls.cli import command, parser_of
from diffcls.support.errors import UsageError, unknown_name
from diffcls.support.registry import Registry

EPILOG = """The model is a StableDiffusionPipeline folder, OUTPUT_DIR/DATASET, that diffusers loads,
OUTPUT_DIR/clip-DATASET, that open_clip loads, OUTPUT_DIR/DATASET-pixels (-unconditional where it
is told no class), a DDPMPipeline, or OUTPUT_DIR/noisy-DATASET.
A run that was stopped goes on from its last checkpoint with the same command, to the same weights.

Several devices share a training: torchrun --nproc-per-node 4 -m diffcls.train …; each takes batches
of its own, so a step is of four.

examples:
  python -m diffcls.train --dataset digits
  python -m diffcls.train --dataset digits --images 100000 --output-dir quick
  python -m diffcls.train --dataset scenes --model clip
  python -m diffcls.train --dataset fashion_mnist --model pixels --objective v_prediction

exit status: 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""


MODELS = Registry(
    "kind of model to train",
    {
        "diffusion": "diffcls.training.latent_diffusion:Training",
        "clip": "diffcls.training.clip:ClipTraining",
        "pixels": "diffcls.training.pixel_diffusion:PixelTraining",
        "classifier": "diffcls.training.noisy_classifier:NoisyTraining",
    },
)
# kind of model -> recipes by data set, and that of every other
RECIPES = {
    "diffusion": ("RECIPES", "ANY_RECIPE"),
    "clip": ("CLIP_RECIPES", "ANY_CLIP_RECIPE"),
    "pixels": ("PIXEL_RECIPES", "ANY_PIXEL_RECIPE"),
    "classifier": ("NOISY_RECIPES", "ANY_NOISY_RECIPE"),
}
# kind of model -> splits of its data; accuracy is measured on validation images
SPLITS = {
    "diffusion": ("train", "validation"),
    "clip": ("train", "validation"),
    "pixels": ("train",),
    "classifier": ("train", "validation"),
}
FOLDERS = {
    "diffusion": "{}",
    "clip": "clip-{}",
    "pixels": "{}-pixels",
    "classifier": "noisy-{}",
}
OBJECTIVES = {
    "epsilon": "epsilon",
    "v_prediction": "v_prediction",
    "sample": "sample",
    "flow": "flow_prediction",
}
TRACKERS = ("none", "tensorboard")
LOCAL = ("data_root", "output_dir", "device", "report_to", "threads", "json", "quiet")
"""Flags that decide nothing of the weights but their last bits."""
# flags that change a field of the recipe -> that field, of the recipe or of its config
CHANGES = {
    "images": "images",
    "batch_size": "batch",
    "learning_rate": "learning_rate",
    "objective": "prediction_type",
    "loss_weighting": "loss_weighting",
    "noise_schedule": "noise_schedule",
    "levels": "levels",
    "learned_variance": "learned_variance",
    "conditional": "conditional",
    "lead": "model",
}


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    p = parser_of(
        "train",
        "Train a small model from nothing: a text-to-image diffusion model, a CLIP, a "
        "diffusion model of pixels, or the classifier that leads one.",
        EPILOG,
    )
    p.add_argument(
        "--dataset",
        default="digits",
        metavar="NAME",
        help="what it learns (digits): any data set of diffcls, folder:PATH with a folder a class "
        "or a metadata.csv of file_name and text, parquet:PATH, hf:ID",
    )
    p.add_argument(
        "--model",
        default="diffusion",
        metavar="KIND",
        help="diffusion (default), clip, pixels (a DDPM), or classifier (of noisy pixels)",
    )
    p.add_argument("--data-root", metavar="DIR", help="where local data lie")
    p.add_argument("--output-dir", default="models", metavar="DIR", help="(default: models)")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="(default: 0)")
    p.add_argument("--images", type=int, metavar="N", help="training images seen (the recipe's)")
    p.add_argument("--batch-size", type=int, metavar="N", help="images a step (the recipe's)")
    p.add_argument("--learning-rate", type=float, metavar="R", help="at its peak (the recipe's)")
    p.add_argument(
        "--objective",
        metavar="O",
        help="what a denoiser predicts: epsilon, v_prediction, sample or flow (the recipe's)",
    )
    p.add_argument(
        "--loss-weighting",
        metavar="W",
        help="of the loss over time: native, epsilon or min-snr (the recipe's)",
    )
    p.add_argument(
        "--noise-schedule",
        metavar="S",
        help="of pixels: linear, scaled_linear, squaredcos_cap_v2 or learned (linear)",
    )
    p.add_argument("--levels", metavar="L", help="of pixels: discrete or continuous (discrete)")
    p.add_argument(
        "--learned-variance",
        action=argparse.BooleanOptionalAction,
        help="of pixels: learn the variance of the reverse step, too (off)",
    )
    p.add_argument(
        "--conditional",
        action=argparse.BooleanOptionalAction,
        help="of pixels: tell the class (on)",
    )
    p.add_argument("--lead", metavar="MODEL", help="of classifier: the model that it is to lead")
    p.add_argument("--accumulate", type=int, default=1, metavar="N", help="batches a step (1)")
    p.add_argument("--device", metavar="D", help="cpu, cuda, cuda:N (an accelerator, if any)")
    p.add_argument("--report-to", default="none", metavar="R", help="none (default) or tensorboard")
    p.add_argument("--threads", type=int, metavar="N", help="CPU threads (torch's choice)")
    p.add_argument("--init", metavar="MODEL", help="go on from a finished model of that kind")
    p.add_argument("--json", action="store_true", help="the card on stdout")
    p.add_argument("--quiet", action="store_true", help="no progress")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    flags = parser().parse_args(arguments)
    if flags.model not in MODELS:
        raise unknown_name("kind of model to train", flags.model, MODELS)
    flags.dataset = full_name(flags.dataset, flags.model)
    recipe = changed(recipe_of(flags.model, flags.dataset), flags)
    if flags.report_to not in TRACKERS:
        raise unknown_name("tracker", flags.report_to, TRACKERS)
    if flags.init:
        _check_init(flags.model, flags.init)
    for name in ("images", "batch_size", "threads", "learning_rate", "accumulate"):
        value = getattr(flags, name)
        if value is not None and not value > 0:
            raise UsageError(f"--{name.replace('_', '-')} out of range", value, "above 0")
    if flags.model == "classifier" and not recipe.model:
        raise UsageError("a classifier leads a model of pixels", todo="name it: --lead MODEL")

    import torch

    from diffcls.support.environment import denormals_flushed
    from diffcls.training.distributed import join

    if flags.threads is not None:
        torch.set_num_threads(flags.threads)
    folder = Path(flags.output_dir) / FOLDERS[flags.model].format(_short(flags.dataset))
    if flags.model == "pixels" and not recipe.conditional:  # another model of the same data set
        folder = folder.with_name(f"{folder.name}-unconditional")
    team = join(flags.device)
    if flags.model == "clip" and (team.size > 1 or flags.accumulate > 1):
        raise UsageError(
            "a contrastive loss compares the whole batch",
            given="several processes or --accumulate",
            todo="train a CLIP in one process, with a larger --batch-size",
        )
    training = MODELS.load(flags.model)(
        flags.dataset,
        recipe,
        flags.seed,
        folder,
        flags.data_root,
        flags.quiet,
        flags.init,
        flags.report_to,
        flags.accumulate,
        team,
        command=said(flags),
    )
    with denormals_flushed():
        card = training.run()
        if not team.leads:
            return 0
        if flags.json:
            print(json.dumps(card, indent=2, allow_nan=False))
        else:
            print("\n".join(training.report(card)))
    return 0


def said(flags: argparse.Namespace) -> str:
    """The command that trains the same model elsewhere: what decides nothing is left out."""
    usual = vars(parser().parse_args([]))
    words = ["python", "-m", "diffcls.train"]
    for name, value in vars(flags).items():
        if name in LOCAL or (value == usual[name] and name != "dataset"):
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    return shlex.join(words)


def full_name(dataset: str, kind: str) -> str:
    """A data set as the harness names it; data of a person's own as they were given.

    Args:
        dataset: its name.
        kind: of the model.

    Raises:
        UsageError: for an unknown name, or a data set that such a model cannot be trained on.
    """
    from diffcls.data import catalog

    spec = catalog.find(dataset)
    if spec.name.startswith(("scenes/", "scenes:")):
        # their own training splits hold the combinations that are held out
        raise UsageError("all scenes are learned as one", given=dataset, allowed="scenes")
    if spec.splits and not {*SPLITS[kind]} <= {*spec.splits}:
        raise UsageError(
            f"such a model needs the splits {' and '.join(SPLITS[kind])}",
            given=f"{dataset}, which has {', '.join(spec.splits)}",
            todo="give them as folders: --dataset folder:PATH",
        )
    return spec.name if spec.name in catalog.SPECS else dataset


def _short(dataset: str) -> str:
    """What a data set is called in the name of a folder."""
    return dataset.rstrip("/").rpartition("/")[2].rpartition(":")[2].partition("@")[0]


def recipe_of(kind: str, dataset: str) -> Any:
    """The recipe of a data set, or the one for all that have none of their own."""
    from diffcls.training import recipes

    own, other = (getattr(recipes, name) for name in RECIPES[kind])
    return own.get(dataset, other)


def changed(recipe: Any, flags: argparse.Namespace) -> Any:
    """The recipe with what the flags say in place of its own.

    Raises:
        UsageError: for a flag that such a recipe has no choice for, or an unknown objective or
            weighting.
    """
    own, of_config = {}, {}
    known = {field.name for field in dataclasses.fields(recipe)}
    for flag, field in CHANGES.items():
        value = getattr(flags, flag)
        if value is None:
            continue
        if flag == "objective":
            if value not in OBJECTIVES:
                raise unknown_name("objective", value, OBJECTIVES)
            value = OBJECTIVES[value]
        if flag == "loss_weighting" and field in known:
            from diffcls.training.losses import check_weighting

            check_weighting(value)
        if field in known:
            own[field] = value
        elif hasattr(getattr(recipe, "config", None), field):
            of_config[field] = value
        else:
            raise UsageError(
                f"--{flag.replace('_', '-')} is no choice of this kind of model",
                given=f"--model {flags.model}",
                todo="leave it out",
            )
    if of_config:
        own["config"] = dataclasses.replace(recipe.config, **of_config)
    return dataclasses.replace(recipe, **own)


def _check_init(kind: str, name: str) -> None:
    """Raises UsageError or ModelError for what is no model of that kind."""
    from diffcls.models import clip, loading, noisy_classifier

    places = {"clip": clip, "classifier": noisy_classifier}
    places.get(kind, loading).check_name(name)


if __name__ == "__main__":
    sys.exit(main())
