"""Images of a concept: read from a folder or given in memory, and encoded by the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffcls.data.image_tree import images_below
from diffcls.data.seen_images import hash_image
from diffcls.data.transforms import load_image, to_pixels
from diffcls.support.errors import DataError
from diffcls.support.hashing import content_hash, hash_json
from diffcls.support.notices import warn

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from diffcls.models.denoiser import Denoiser

Opener = Callable[[], "Image.Image"]
ENCODED_TOGETHER = 8
MANY_IMAGES = 1000


@dataclass(frozen=True)
class ConceptImages:
    """The images of a concept.

    Args:
        openers: functions that open them.
        names: their paths below the folder, or their numbers.
    """

    openers: tuple[Opener, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.openers)

    def hashes(self) -> list[str]:
        """(N,) hexadecimal hashes, see `diffcls.data.seen_images.hash_image`; images of one colour
        have none.
        """
        hashed = [hash_image(open_image()) for open_image in self.openers]
        return [f"{one:010x}" for one in hashed if one is not None]

    def pixel_hash(self) -> str:
        """Hash of the decoded pixels of all images, in their order: equal images are learned alike.

        Raises:
            DataError: for an image that cannot be read.
        """
        opened = (open_image() for open_image in self.openers)
        return hash_json([content_hash(repr(one.size), one.tobytes()) for one in opened])

    def encode(self, denoiser: Denoiser) -> Tensor:
        """(N, C, h, w) float32 on the CPU: what the denoiser makes of the images.

        Raises:
            DataError: for an image that cannot be read.
        """
        import torch

        parts = []
        for start in range(0, len(self), ENCODED_TOGETHER):
            pixels = [
                to_pixels(open_image(), denoiser.image_size, denoiser.interpolation)
                for open_image in self.openers[start : start + ENCODED_TOGETHER]
            ]
            with torch.inference_mode():
                parts.append(denoiser.encode_images(torch.from_numpy(np.stack(pixels))).cpu())
        whole = torch.cat(parts)
        # a copy: inference tensors take part in no gradient
        return whole.clone(memory_format=torch.contiguous_format)


def in_folder(folder: str | Path, flag: str) -> ConceptImages:
    """The images below a folder, sorted by path.

    Args:
        folder: the folder.
        flag: the flag that names it, for messages.

    Raises:
        DataError: for a folder that is missing, or without images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{flag}: folder not found", given=str(folder))
    passed_over: Counter[str] = Counter()
    paths = images_below(folder, passed_over)
    if not paths:
        raise DataError(f"{flag}: no images in the folder", given=str(folder))
    if passed_over:
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(passed_over.items()))
        warn(f"{flag}: not read: {listed}")
    names = tuple(path.relative_to(folder).as_posix() for path in paths)
    return ConceptImages(tuple(_opener(path) for path in paths), names)


def in_memory(openers: Sequence[Opener]) -> ConceptImages:
    """Images that are given as functions that open them."""
    if not openers:
        raise DataError("no images of the concept", allowed="one or more")
    return ConceptImages(tuple(openers), tuple(str(i) for i in range(len(openers))))


def _opener(path: Path) -> Opener:
    return lambda: load_image(path)
