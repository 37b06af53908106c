"""MNIST in its original layout: idx files, plain or gzipped.

LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document Recognition".
"""

from __future__ import annotations

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset
from diffcls.data.layouts import idx


def load(query: Query) -> Dataset | None:
    """The split ``test`` (10,000 gray images of 28×28) or ``train`` (60,000).

    The folder is ``MNIST/raw``, ``raw`` or ``mnist`` below the root, or the root itself. The
    classes are named by their digits, as in the published prompts.

    Raises:
        DataError: see `diffcls.data.layouts.idx.load`.
    """
    return idx.load(query, ("MNIST/raw", "raw"), class_names, balanced=False)


def class_names() -> tuple[str, ...]:
    """The digits 0 to 9 as texts."""
    return tuple(map(str, range(10)))
