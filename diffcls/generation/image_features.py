"""Features of real and generated images for fidelity metrics: of a split, a folder, or a model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffcls.data.image_formats import suffixes
from diffcls.data.image_tree import images_below
from diffcls.data.subsets import choose
from diffcls.data.transforms import load_image, to_pixels
from diffcls.generation.gallery import SETTINGS_FILE, image_files
from diffcls.generation.options import Interrupted
from diffcls.support.cache import Arrays, fitted
from diffcls.support.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    from diffcls.data.dataset import Dataset
    from diffcls.generation.classes import Classes
    from diffcls.generation.fidelity_options import FidelityOptions
    from diffcls.generation.sample import Batch
    from diffcls.models.denoiser import Denoiser
    from diffcls.models.feature_extractors import Extractor


def paths_in(folder: str | Path, flag: str, count: int | None = None) -> list[Path]:
    """The images of a folder and its subfolders; of a folder of `generate`, the single images.

    Args:
        folder: path of the folder.
        flag: named in errors.
        count: maximum number, spread evenly over the sorted paths; None: all.

    Raises:
        DataError: for a missing folder, or one without images.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DataError(f"{flag} is not a folder", given=str(folder), allowed="a folder of images")
    if (root / SETTINGS_FILE).is_file():
        paths = image_files(root)
    else:
        paths = images_below(root, Counter())
    if not paths:
        raise DataError(
            f"{flag} contains no image",
            given=str(folder),
            allowed=f"files ending in {' '.join(suffixes())}, also in subfolders",
        )
    if count is None or count >= len(paths):
        return paths
    return [paths[i * len(paths) // count] for i in range(count)]


def of_folder(paths: Sequence[Path], extractor: Extractor, batch_size: int) -> Arrays:
    """``features`` and ``logits`` of image files, in order, each at its own size.

    As in torch-fidelity, only the extractor resizes them. Images of one size share a batch.

    Raises:
        DataError: for a file that cannot be read as an image.
    """
    import torch

    waiting: dict[tuple[int, ...], list[int]] = defaultdict(list)
    pixels: dict[int, NDArray[np.float32]] = {}
    results: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}

    def extract(positions: list[int]) -> None:
        batch = torch.from_numpy(np.stack([pixels.pop(i) for i in positions]))
        features, logits = extractor.extract(batch, batch_size)
        results.update((i, (features[n], logits[n])) for n, i in enumerate(positions))
        positions.clear()

    for i, path in enumerate(paths):
        pixels[i] = _own_size(load_image(path), extractor.square)
        group = waiting[pixels[i].shape]
        group.append(i)
        if len(group) == batch_size or len(pixels) >= 8 * batch_size:
            extract(group)
    for group in waiting.values():
        if group:
            extract(group)
    features, logits = zip(*(results[i] for i in range(len(paths))), strict=True)
    return {"features": np.stack(features), "logits": np.stack(logits)}


def _own_size(image: Image.Image, square: bool) -> NDArray[np.float32]:
    """(3, H, W) in [−1, 1] without resizing; with `square`, the centre of the longer side."""
    if square:
        return to_pixels(image, min(image.size))
    pixels = np.asarray(image, dtype=np.float32).transpose(2, 0, 1)
    return np.ascontiguousarray(pixels / 127.5 - 1)


def of_split(
    options: FidelityOptions,
    data: Dataset,
    extractor: Extractor,
    size: int | None,
    resizing: str = "bicubic",
) -> Arrays:
    """``features`` and ``labels`` of real images of a split, cached under a hash of their origin.

    Args:
        options: see `FidelityOptions`.
        data: the split.
        extractor: the feature extractor.
        size: side in pixels that images are resized to, usually that of the generated images;
            None: no resizing.
        resizing: see `diffcls.data.transforms.to_pixels`.
    """
    import torch

    chosen, subset = choose(data, min(options.count or options.max_default_count, len(data.items)))

    def compute() -> Arrays:
        labels = np.array([item.class_index for item in chosen.items])
        if size is None:
            pixels = [_own_size(load_image(item.open()), extractor.square) for item in chosen.items]
            parts = [extractor.extract(torch.from_numpy(p[None]), 1)[0] for p in pixels]
            return {"features": np.concatenate(parts), "labels": labels}
        pixels = [to_pixels(load_image(item.open()), size, resizing) for item in chosen.items]
        features, _ = extractor.extract(torch.from_numpy(np.stack(pixels)), options.batch_size)
        return {"features": features, "labels": labels}

    if options.cache_dir is None:
        return compute()
    defined_by = {
        "dataset": options.dataset or data.name,
        "split": options.split,
        "data": data.revision,
        "subset": subset,
        "count": len(chosen.items),
        "size": size,
        "extractor": extractor.name,
        "weights": extractor.revision,
    }
    if resizing != "bicubic":  # added later: older fits keep their hash
        defined_by["resizing"] = resizing
    return fitted(options.cache_dir, "real", defined_by, compute)


def of_model(
    options: FidelityOptions,
    extractor: Extractor,
    denoiser: Denoiser,
    classes: Classes,
    guidance: float,
    count: int,
    images: Iterator[Tensor] | None = None,
) -> Arrays:
    """``features``, ``logits`` and ``labels`` of generated images, equally many of each class.

    ``labels`` are missing for an unconditional model.

    Args:
        options: options of the measurement.
        extractor: the feature extractor.
        denoiser: the model.
        classes: its classes.
        guidance: weight of classifier-free guidance.
        count: number of images.
        images: these images in batches, of workers; None: they are generated here.

    Raises:
        diffcls.generation.options.Interrupted: on Ctrl-C, with the features of the images
            generated so far, if any.
    """
    labels = np.arange(count) % len(classes.prompts)
    if images is None:
        images = (one.images for one in sampled(options, denoiser, classes, guidance, count))
    features: list[NDArray[np.float32]] = []
    logits: list[NDArray[np.float32]] = []

    def arrays() -> Arrays:
        result: Arrays = {
            "features": np.concatenate(features),
            "logits": np.concatenate(logits),
        }
        if denoiser.labels != ():
            result["labels"] = labels[: len(result["features"])]
        return result

    with options.progress(count, f"generating, guidance {guidance:g}") as bar:
        try:
            for batch in images:
                pair = extractor.extract(batch, options.batch_size)
                features.append(pair[0])
                logits.append(pair[1])
                bar.update(len(batch))
        except KeyboardInterrupt:
            if not features:
                raise
            raise Interrupted(arrays()) from None
    return arrays()


def sampled(
    options: FidelityOptions,
    denoiser: Denoiser,
    classes: Classes,
    guidance: float,
    count: int,
    starts: Iterable[int] | None = None,
) -> Iterator[Batch]:
    """Batches of `count` generated images, equally many of each class; see `sample`."""
    from diffcls.generation import sample as sampling

    return sampling.sample(
        denoiser,
        [classes.prompts[k] for k in np.arange(count) % len(classes.prompts)],
        range(count),
        seed=options.seed,
        scale=guidance,
        steps=options.steps,
        batch_size=options.batch_size,
        sampler=options.sampler,
        starts=starts,
    )
