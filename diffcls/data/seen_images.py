"""Training data of a model as hashes: of its images' pixels and of its class names.

A copy of a data set under another name is recognised by them: the benchmarks' hashes are assets of
this package, those of a model trained with it lie beside its card.

An image is hashed after decoding to RGB, as the dense ranks of its pixel values: copies in another
lossless format, or with other gray levels in the same order, are equal; resized images and images
in a new lossy encoding are not.
"""

from __future__ import annotations

import hashlib
import random
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diffcls.data.dataset import Dataset, Item
from diffcls.data.transforms import load_image
from diffcls.support.errors import DataError, ModelError
from diffcls.support.hashing import content_hash
from diffcls.support.seeding import key

if TYPE_CHECKING:
    from PIL import Image

SEEN_FILE = "seen_images.bin"
"""File beside a model's card with the hashes of its training data."""
ASSETS = Path(__file__).parents[1] / "assets" / "seen"
"""Hashes of the benchmarks, one file per data set."""
HASH_BYTES = 5
"""Bytes of a hash: an image that is none of 20,000 is taken for one of them with odds of 2e-8."""
MAX_TRAINING_HASHES = 4_000
"""Maximum number of hashed images of a training set."""
MAX_NAME_HASHES = 20_000
"""Maximum number of hashed class names."""
SAMPLE_IMAGES = 64
"""Images of a data set that are compared with the hashes."""
COPIED_SHARE = 1 / 8
"""Share of training images in a data set from which on it counts as the training data."""
MAX_NAME_WORDS = 4
"""Length in words of the longest class name that is searched for within a prompt."""

Hashes = NDArray[np.uint64]
_HEADER = re.compile(rb"diffcls seen 1: (\d{1,9}) of (\d{1,12}) images, (\d{1,9}) names\n")
_sampled: dict[str, Hashes] = {}


@dataclass(frozen=True)
class SeenImages:
    """Hashes of training images and class names.

    Args:
        images: (n,) increasing hashes of images, see `hash_image`.
        total: number of images that these are a sample of, at least n.
        names: (m,) increasing hashes of class names, see `hash_name`.
    """

    images: Hashes
    total: int
    names: Hashes

    def common_images(self, hashes: Hashes) -> int:
        """The number of `hashes` that are among the training images."""
        return int(np.isin(hashes, self.images).sum())

    def is_copy(self, hashes: Hashes) -> bool:
        """Whether a sample of images shows that a data set is the training data, or contains it.

        It is, if the estimated share of training images is at least `COPIED_SHARE`. Where only a
        part of the training images was hashed, that part of the share is expected to be found.

        Args:
            hashes: (n,) hashes of a random sample of the data set.
        """
        coverage = len(self.images) / max(1, self.total)
        return self.common_images(hashes) >= max(1.0, COPIED_SHARE * coverage * len(hashes))

    def has_name(self, names: Iterable[str]) -> bool:
        """Whether a class name is one that the model was trained on."""
        return bool(np.isin(_sorted(map(hash_name, names)), self.names).any())

    def to_bytes(self) -> bytes:
        """The content of a file that `read` accepts."""
        header = f"diffcls seen 1: {len(self.images)} of {self.total} images, "
        values = np.concatenate([self.images, self.names]).astype(">u8").view(np.uint8)
        packed = values.reshape(-1, 8)[:, -HASH_BYTES:].tobytes()
        return f"{header}{len(self.names)} names\n".encode() + packed

    def union(self, other: SeenImages) -> SeenImages:
        """The hashes of both, as of one training set."""
        images = np.union1d(self.images, other.images)
        return SeenImages(images, self.total + other.total, np.union1d(self.names, other.names))


def collect(
    items: Sequence[Item], names: Iterable[str], limit: int, always: Sequence[Item] = ()
) -> SeenImages:
    """The hashes of a data set; images that cannot be read are left out.

    Args:
        items: images, of which a sample enters; it depends on their ids only.
        names: class names.
        limit: maximum number of hashed images.
        always: images that enter before any of `items`.
    """
    room = max(0, limit - len(always))
    chosen = [*always[:limit], *_sample(items, room)]
    images = _sorted(_hashes(chosen))
    # an image that occurs twice, or cannot be read, does not count as one that was left out
    total = len(images) + len(items) + len(always) - len(chosen)
    return SeenImages(images, total, _sorted(map(hash_name, names))[:MAX_NAME_HASHES])


def hashes_of(data: Dataset) -> SeenImages:
    """The hashes of a training set, of at most `MAX_TRAINING_HASHES` of its images."""
    return collect(data.items, (*data.class_names, *data.prompt_names), MAX_TRAINING_HASHES)


def file_in(folder: Path) -> Path | None:
    """The file of hashes beside a model's card, or None."""
    path = folder / SEEN_FILE
    return path if path.is_file() else None


def read(path: Path) -> SeenImages:
    """Read a file of hashes.

    Raises:
        ModelError: for a file that is missing or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelError(f"cannot read a file of the model ({reason})", given=str(path)) from error
    header = _HEADER.match(content)
    if header is not None:
        images, total, names = map(int, header.groups())
        packed = np.frombuffer(content, np.uint8, offset=header.end())
        if images <= total and packed.size == (images + names) * HASH_BYTES:
            wide = np.zeros((images + names, 8), np.uint8)
            wide[:, -HASH_BYTES:] = packed.reshape(-1, HASH_BYTES)
            values = wide.view(">u8")[:, 0].astype(np.uint64)
            parts = values[:images], values[images:]
            if all((part[1:] > part[:-1]).all() for part in parts):
                return SeenImages(parts[0], total, parts[1])
    raise ModelError(
        "hashes of the training images are damaged",
        given=str(path),
        todo="copy the model again; without that file, nothing is known of its training images",
    )


@lru_cache
def of_benchmark(name: str) -> SeenImages | None:
    """The hashes of a benchmark that a bundled model was trained on; None for other data sets.

    Args:
        name: name of the catalog; a task such as ``scenes/pairs`` belongs to its group.
    """
    path = ASSETS / f"{re.split('[/:]', name)[0]}.bin"
    return read(path) if path.is_file() else None


def sample_hashes(dataset: Dataset) -> Hashes:
    """Hashes of up to `SAMPLE_IMAGES` images of a data set, which are read once per process.

    Images that cannot be read are left out, as are those of a single colour, which are equal in
    unrelated data sets.
    """
    chosen = _sample(dataset.items, SAMPLE_IMAGES)
    ids = (item.image_id for item in chosen)
    known = content_hash(dataset.name, dataset.split, dataset.revision, *ids)
    if known not in _sampled:
        _sampled[known] = _sorted(_hashes(chosen))
    return _sampled[known]


def hash_image(image: Image.Image) -> int | None:
    """Hash of an RGB image's size and of the dense ranks of its values; None for one colour."""
    pixels = np.asarray(image)
    present = np.zeros(256, bool)
    present[pixels] = True
    if not (pixels != pixels[0, 0]).any():
        return None
    ranks = (np.cumsum(present) - 1).astype(np.uint8)[pixels]
    return _hash(f"{image.width}x{image.height}:".encode() + ranks.tobytes())


def hash_name(name: str) -> int:
    """Hash of a class name: of its letters and digits, without case."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return _hash("".join(c for c in plain if c.isalnum()).encode())


def phrases(text: str) -> Iterator[str]:
    """All sequences of one to `MAX_NAME_WORDS` words of a prompt, any of which may name a class."""
    words = re.findall(r"[\w-]+", text)
    for length in range(1, MAX_NAME_WORDS + 1):
        for start in range(len(words) - length + 1):
            yield " ".join(words[start : start + length])


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(data).digest()[:HASH_BYTES], "big")


def _hashes(items: Iterable[Item]) -> Iterator[int]:
    for item in items:
        try:
            value = hash_image(load_image(item.open()))
        except (DataError, OSError, ValueError):
            continue  # the run records it as an image that cannot be read
        if value is not None:
            yield value


def _sorted(values: Iterable[int]) -> Hashes:
    return np.array(sorted(set(values)), np.uint64)


def _sample(items: Sequence[Item], count: int) -> list[Item]:
    """A random sample that depends on the ids only."""
    if len(items) <= count:
        return list(items)
    seed = key("seen images", len(items), items[0].image_id, items[-1].image_id)
    return [items[i] for i in sorted(random.Random(seed).sample(range(len(items)), count))]
