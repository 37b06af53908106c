"""Origin of weights in memory: the folder of a model that holds exactly these weights, if any."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffcls.models.card import CARD
from diffcls.models.model_index import INDEX
from diffcls.models.pipeline_revision import weights
from diffcls.models.pipeline_view import modules_of
from diffcls.models.weight_files import variants_of
from diffcls.support.errors import DiffclsError

NETWORKS = ("unet", "transformer")
"""Names of the part that is trained on noisy images."""


def folder_of(pipeline: Any, bundled: Sequence[Path]) -> tuple[Path | None, bool]:
    """The folder of the model whose weights the network of a pipeline has, and whether it has them.

    Args:
        pipeline: of a supported family.
        bundled: folders of the bundled models.

    Returns:
        a folder and True if its network has the same weights; else the folder that the pipeline was
        loaded from, if it is still there, and False: the weights were changed since.
    """
    (network,) = (part for name, part in modules_of(pipeline).items() if name in NETWORKS)
    own = dict(weights(network))
    loaded_from = _loaded_from(pipeline, network)
    places = [*bundled] if loaded_from is None else [*bundled, loaded_from]
    # a copy of a bundled model need not have its card; one that has is described by its own
    places.sort(key=lambda folder: not (folder == loaded_from and (folder / CARD).is_file()))
    for folder in places:
        if any(_holds(folder / name, own) for name in NETWORKS):
            return folder, True
    return loaded_from, False


def _loaded_from(pipeline: Any, network: nn.Module) -> Path | None:
    """The local folder that a pipeline states it was loaded from; for the Hub, its snapshot."""
    config: Any = network.config
    of_network = dict(config).get("_name_or_path")
    stated = (getattr(pipeline, "name_or_path", None), of_network and os.path.dirname(of_network))
    for place in stated:
        if isinstance(place, str) and place and os.path.isfile(os.path.join(place, INDEX)):
            return Path(place)
    return None


def _holds(folder: Path, own: dict[str, Tensor]) -> bool:
    """Whether the safetensors of a part's folder, in any variant, are exactly these tensors."""
    if not folder.is_dir():
        return False
    for names in variants_of(sorted(path.name for path in folder.iterdir())).values():
        try:
            if _equal([folder / name for name in names], own):
                return True
        except (OSError, ValueError, DiffclsError):
            continue  # a file that cannot be read holds no known weights
    return False


def _equal(files: Sequence[Path], own: dict[str, Tensor]) -> bool:
    shapes = {name: shape for path in files for name, shape in _shapes(path)}
    if shapes != {name: list(tensor.shape) for name, tensor in own.items()}:
        return False
    return all(_same(tensor, own[name]) for path in files for name, tensor in _tensors(path))


def _same(stored: Tensor, own: Tensor) -> bool:
    """Equality in the data type of less precision: weights may have been converted on loading."""
    return torch.equal(stored.to(own.dtype), own.cpu()) or torch.equal(
        stored, own.cpu().to(stored.dtype)
    )


def _shapes(path: Path) -> Iterator[tuple[str, list[int]]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # it is no mapping
                yield name, list(file.get_slice(name).get_shape())
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            yield name, file.get_tensor(name)
