"""Maps of generated images: files that a person gives, or edges of images that they give."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.data.control_maps import GIVEN, read_map
from diffcls.data.edges import EDGES, edge_map, open_cv
from diffcls.support.errors import DataError, UsageError
from diffcls.support.hashing import hash_files
from diffcls.support.notices import warn
from diffcls.support.paths import expand

if TYPE_CHECKING:
    from torch import Tensor

    from diffcls.models.denoiser import Denoiser


def files_of(text: str) -> tuple[str, list[Path]]:
    """Kind and files of ``--control [KIND:]PATH``, where PATH is an image or a folder of images.

    Args:
        text: a path of maps, or ``canny:PATH`` or ``soft:PATH`` for the edges of images.

    Raises:
        UsageError: for no path, a folder without images, or edges without OpenCV.
        DataError: for a path that does not exist.
    """
    from diffcls.data.image_formats import is_image_file

    kind, separator, place = text.partition(":")
    if not separator or kind not in {GIVEN, *EDGES}:
        kind, place = GIVEN, text
    if not place:  # "" would be the current folder
        raise UsageError(
            "--control: no path",
            given=text,
            allowed="[KIND:]PATH of an image, or of a folder of images",
        )
    if kind != GIVEN:
        open_cv()
    path = Path(expand(place))
    if not path.exists():
        raise DataError("--control: file not found", given=place, todo="check the path")
    files = sorted(filter(is_image_file, path.iterdir())) if path.is_dir() else [path]
    if not files:
        raise UsageError("--control: no images in the folder", given=place)
    return kind, files


def steered_by(
    denoiser: Denoiser, control: str, model: str | None
) -> tuple[Denoiser, Tensor, dict[str, Any]]:
    """A model with a ControlNet, its encoded maps (M, ...), and what decides the images.

    Args:
        denoiser: the model.
        control: see `files_of`.
        model: name of the ControlNet; None: the bundled one of the model.

    Raises:
        UsageError: for a model without a bundled ControlNet.
        UsageError, DataError, ModelError: see `files_of` and `diffcls.models.control.steered`.
    """
    import numpy as np
    from torch import from_numpy

    from diffcls.data.transforms import load_image, to_pixels
    from diffcls.models import control as controls
    from diffcls.models import control_files

    kind, files = files_of(control)
    name = model or control_files.default_for(denoiser.card.name)
    if name is None:
        controls.control_class(denoiser)  # of a family without any, that is the reason
        raise UsageError(
            "--control needs a ControlNet of the model",
            given=f"{denoiser.card.name}, which no bundled one was trained with",
            todo="choose one with --control-model PATH|ID",
        )
    steered = controls.steered(denoiser, name)
    size, resizing = steered.image_size, steered.interpolation
    if kind == GIVEN:
        maps = [read_map(file, size, resizing) for file in files]
    else:
        maps = [edge_map(kind, to_pixels(load_image(file), size, resizing)) for file in files]
    encoded = controls.encoded(steered, from_numpy(np.stack(maps)))
    facts = {"control": kind, "control_model": control_files.find(name).name}
    return steered, encoded, {**facts, "maps": hash_files(files, files[0].parent)}


def tell_unused(maps: Tensor, images: int) -> None:
    """Say on stderr how many maps (M, ...) no image has: image i has map i modulo M."""
    if len(maps) > images:
        made = f"{images} image{'' if images == 1 else 's'}"
        warn(f"--control: {made} of {len(maps)} maps, in the order of their names; raise --count")
