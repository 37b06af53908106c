"""Images of a concept: read from a folder or given in memory, and encoded by the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from diffcls.data.image_tree import images_below
from diffcls.data.seen_images import hash_image
from diffcls.data.transforms import load_image, to_pixels
from diffcls.support.errors import DataError
from diffcls.support.hashing import content_hash, hash_json
from diffcls.support.notices import warn
from diffcls.training.recipes import Augmentation

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from diffcls.models.denoiser import Denoiser

Opener = Callable[[], "Image.Image"]
ENCODED_TOGETHER = 8
MANY_IMAGES = 1000
CHANGES = Augmentation(scale=0.15, shear=0.1, shift=0.06, contrast=0.3, flip=True)
"""Of copies of the images: what a class may look like beside the few images that show it."""


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

    def encode(self, denoiser: Denoiser, changed: int = 0, seed: int = 0) -> Tensor:
        """(N·(1 + changed), C, h, w) float32 on the CPU: what the denoiser makes of the images.

        Args:
            denoiser: the model.
            changed: number of copies of each image, changed at random within `CHANGES`, that follow
                it.
            seed: of the changes.

        Raises:
            DataError: for an image that cannot be read.
        """
        import torch

        parts, pixels = [], self._pixels(denoiser, changed, seed)
        while batch := tuple(islice(pixels, ENCODED_TOGETHER)):
            with torch.inference_mode():
                parts.append(denoiser.encode_images(torch.stack(batch)).cpu())
        whole = torch.cat(parts)
        # a copy: inference tensors take part in no gradient
        return whole.clone(memory_format=torch.contiguous_format)

    def _pixels(self, denoiser: Denoiser, changed: int, seed: int) -> Iterator[Tensor]:
        """(3, H, W) each image and its changed copies, which the seed and its number decide."""
        import torch

        from diffcls.training.augmentation import augment
        from diffcls.training.loop import generator

        for number, open_image in enumerate(self.openers):
            array = to_pixels(open_image(), denoiser.image_size, denoiser.interpolation)
            pixels = torch.from_numpy(array)
            yield pixels
            for copy in range(changed):
                rng = generator("concept", seed, number, copy)
                yield augment(pixels[None], CHANGES, rng)[0]


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
