"""Revision of a local model: a hash of all that decides its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from diffcls.models.denoiser import ModelCard
from diffcls.support.hashing import hash_files, hash_json

NEVER_READ = (
    # weights in formats that are not opened
    *(".bin", ".ckpt", ".h5", ".msgpack", ".onnx", ".onnx_data", ".pb", ".pkl", ".pt", ".pth"),
    # documentation
    *(".md", ".png", ".jpg", ".jpeg", ".webp", ".gif"),
)
"""Suffixes of the files beside a model's weights and configs that nothing is read from."""


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder that a model may be read from; hidden ones are left out."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.suffix.lower() not in NEVER_READ:
            yield path


def revision_of(files: Iterable[Path], folder: Path, card: ModelCard) -> str:
    """16 hexadecimal digits: the hash of the files and of what the card adds to the numbers.

    The card adds the temperature of the posterior and the names of the model's classes; its other
    fields decide no number, or are part of a run's specification.

    Args:
        files: weights, configs and tokenizer files below `folder`, without the card.

    Raises:
        OSError: for a file that cannot be read.
    """
    return with_card(hash_files(files, folder), card)


def with_card(revision: str, card: ModelCard) -> str:
    """A revision of weights and configs, together with what the card adds; see `revision_of`."""
    if card.temperature == 1.0 and not card.labels:
        return revision
    return hash_json([revision, card.temperature, list(card.labels or ())])
