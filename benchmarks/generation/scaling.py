"""Scaling benchmark: accuracy, likelihood and FID against parameters and training images.

Measures models of several sizes, and their snapshots over training, on the test images of
Fashion-MNIST. Writes ``scaling.csv``, ``SCALING.md`` and ``scaling.png``. The models are folders
that ``python -m diffcls.train --dataset fashion_mnist --recipe R`` wrote, R being long-small,
long-middle or long. Finished runs are kept in ``tables/generative`` and reused.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.core.flags import add_data_root, add_jobs, add_report_only, entry_point, parser
from benchmarks.core.tables import SIX_DIGITS, read_rows, write_rows
from benchmarks.generation.runs import Run, run_command
from benchmarks.generation.scaling_report import write
from diffcls.data import catalog
from diffcls.support.errors import UsageError

DATASET = "fashion_mnist"
CLASSIFIED, LIKELIHOOD_IMAGES, COUNT = 1000, 200, 1000
"""Test images of accuracy and likelihood, and generated images of FID."""
COLUMNS = (
    "model",
    "unet_channels",
    "parameters",
    "mflop",
    "training_images",
    "accuracy",
    "ci_low",
    "ci_high",
    "n",
    "evaluations_per_image",
    "bits_per_dim",
    "bits_stderr",
    "FID",
    "extractor",
)


def _main(arguments: list[str]) -> int:
    p = parser("scaling", __doc__)
    for add in (add_data_root, add_jobs, add_report_only):
        add(p)
    p.add_argument("--models", nargs="+", default=[], metavar="DIR", help="trained models")
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    if not flags.report_only:
        if not flags.models:
            raise UsageError(
                "scaling needs --models",
                given="none",
                allowed="folders of trained models, one per size",
                todo="train them: python -m diffcls.train --dataset fashion_mnist --recipe long",
            )
        folders = [path for model in flags.models for path in snapshots(Path(model))]
        with ThreadPoolExecutor(flags.jobs) as pool:
            rows = list(pool.map(lambda folder: measure(folder, flags), folders))
        write_rows(output / "scaling.csv", rows, COLUMNS, SIX_DIGITS)
    write(read_rows(output / "scaling.csv"), output)
    return 0


main = entry_point(_main)


def snapshots(folder: Path) -> list[Path]:
    """The snapshots of a trained model, by training images, then the model itself."""
    from diffcls.training.run_files import SNAPSHOTS

    found = sorted((folder / "training" / SNAPSHOTS).glob("*"))
    last = f"{_card(folder)['recipe']['images']:08d}"
    return [*(path for path in found if path.name != last), folder]


def measure(folder: Path, flags: argparse.Namespace) -> dict[str, Any]:
    """One row of scaling.csv."""

    def run(command: str, *arguments: str) -> Any:
        return run_command(Run(command, str(folder), arguments), flags)

    (evaluated,) = run("evaluate", "--dataset", DATASET, "--limit", str(CLASSIFIED))
    bound = run("likelihood", "--limit", str(LIKELIHOOD_IMAGES))
    plain = ("--guidance", "1", "--metrics", "FID", "--count", str(COUNT))
    (fid,) = run("fidelity", *plain, "--extractor", catalog.find(DATASET).clip)
    recipe = _card(folder)["recipe"]
    return {
        "model": evaluated["model"],
        "unet_channels": " ".join(map(str, recipe["config"]["unet_channels"])),
        **size_of(folder),
        "training_images": recipe["images"],
        "accuracy": evaluated["accuracy"],
        "ci_low": evaluated["ci_low"],
        "ci_high": evaluated["ci_high"],
        "n": evaluated["n_scored"],
        "evaluations_per_image": evaluated["evaluations_per_image"],
        "bits_per_dim": bound["value"],
        "bits_stderr": bound["stderr"],
        "FID": fid["value"],
        "extractor": fid["extractor"],
    }


def size_of(folder: Path) -> dict[str, float]:
    """Parameters of the U-Net, and floating-point operations of one evaluation, in millions."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from diffcls.models.loading import load

    denoiser = load(str(folder))
    text = denoiser.encode_prompts(["a photo"])
    x_t, index = torch.zeros(1, *denoiser.sample_shape), torch.tensor([500])
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        denoiser.predict(x_t, index, text)
    network: Any = denoiser.network
    count = sum(parameter.numel() for parameter in network.parameters())
    return {"parameters": count, "mflop": counter.get_total_flops() / 1e6}


def _card(folder: Path) -> Any:
    from diffcls.models.json_files import read_json
    from diffcls.models.loading import CARD

    return read_json(folder / CARD)
