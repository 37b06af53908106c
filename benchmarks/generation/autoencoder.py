"""Autoencoder benchmark: what is lost of an image before the denoiser sees it.

Encodes and decodes validation images, and classifies them before and after with the small CLIP of
the data set, which has not been trained on decoded images.
Writes ``autoencoder.csv`` and ``AUTOENCODER.md``; rows of other revisions are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.core.flags import add_data_root, add_report_only, entry_point, parser
from benchmarks.core.tables import SIX_DIGITS, read_rows, write_rows
from diffcls.data import catalog
from diffcls.support.files import write_text

if TYPE_CHECKING:
    from torch import Tensor

    from diffcls.models.clip import ClipModel

BENCHMARKS = ("digits", "fashion_mnist", "cifar10", "scenes/attributes", "scenes/relations")
IMAGES = 500
COLUMNS = (
    "model",
    "revision",
    "dataset",
    "n",
    "clip",
    "clip_revision",
    "mse",
    "original",
    "decoded",
)
KEY = ("model", "revision", "dataset", "clip_revision")


def _main(arguments: list[str]) -> int:
    p = parser("autoencoder", __doc__)
    for add in (add_data_root, add_report_only):
        add(p)
    p.add_argument("--models", metavar="DIR", help="folder of other models of the same names")
    flags = p.parse_args(arguments)
    table = Path(flags.output_dir) / "autoencoder.csv"
    rows = {tuple(row[k] for k in KEY): row for row in read_rows(table)} if table.exists() else {}
    if not flags.report_only:
        for dataset in BENCHMARKS:
            row = measure(dataset, flags.models, flags.data_root)
            rows[tuple(row[k] for k in KEY)] = row
            print(row, flush=True)
    ordered = sorted(rows.values(), key=lambda row: BENCHMARKS.index(row["dataset"]))
    write_rows(table, ordered, COLUMNS, SIX_DIGITS)
    write_text(table.with_name("AUTOENCODER.md"), "\n".join(_page(ordered)))
    return 0


main = entry_point(_main)


def measure(dataset: str, models: str | None, data_root: str | None) -> dict[str, Any]:
    """One row of autoencoder.csv.

    Args:
        dataset: name of the benchmark.
        models: folder of models to measure; None: the bundled ones.
        data_root: folder of local data.
    """
    import numpy as np
    import torch

    from diffcls.data.load import load_dataset
    from diffcls.data.subsets import choose
    from diffcls.models import clip
    from diffcls.models.loading import load
    from diffcls.training.stored_images import tensor_of

    name = dataset.partition("/")[0]
    judge = clip.load(catalog.find(dataset).clip)
    denoiser = load(str(Path(models) / name) if models else name)
    data, _ = choose(load_dataset(dataset, "validation", data_root), IMAGES)
    images, labels = tensor_of(data, 32)
    with torch.inference_mode():
        decoded = torch.cat(
            [denoiser.decode_latents(denoiser.encode_images(x)) for x in images.split(50)]
        ).clamp(-1, 1)
    truth = np.array(labels)
    return {
        "model": name,
        "revision": denoiser.card.revision,
        "dataset": dataset,
        "n": len(truth),
        "clip": catalog.find(dataset).clip,
        "clip_revision": judge.card.revision,
        "mse": float((decoded - images).square().mean()),
        "original": float((answers(judge, data, images) == truth).mean()),
        "decoded": float((answers(judge, data, decoded) == truth).mean()),
    }


def answers(judge: ClipModel, data: Any, images: Tensor) -> Any:
    """(N,) class that a CLIP assigns to each image (N, 3, H, W)."""
    import torch
    import torch.nn.functional as F

    from diffcls.data.prompts import benchmark_prompts

    prompts = benchmark_prompts(data.name, data)
    classes = judge.classifier(prompts.prompts, prompts.class_of)
    side = judge.image_size
    if images.shape[-1] != side:
        images = F.interpolate(images, size=(side, side), mode="bicubic").clamp(-1, 1)
    with torch.inference_mode():
        scores = torch.cat([judge.embed(x) for x in images.split(64)]) @ classes.T
    return scores.argmax(dim=1).numpy()


def _page(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from ("# Autoencoder: what is lost before the denoiser sees an image", "")
    yield (
        "Written by `python -m benchmarks.run autoencoder` from `autoencoder.csv`. Validation "
        "images are encoded and decoded, and a CLIP, trained on the originals of the data set, "
        "classifies them before and after. MSE is that of pixels in −1 to 1. The denoiser sees "
        "what is left in the latents. A lower accuracy on decoded images shows that details are "
        "lost by which classes differ; it is no bound, as the CLIP has not seen decoded images."
    )
    yield from (
        "",
        "| data set | revision of the model | images | MSE | accuracy of CLIP | on decoded |",
    )
    yield "|---" * 6 + "|"
    for row in rows:
        yield (
            f"| {row['dataset']} | `{row['revision']}` | {row['n']:.0f} | {row['mse']:.4f} | "
            f"{row['original']:.1%} | {row['decoded']:.1%} |"
        )
    yield ""
