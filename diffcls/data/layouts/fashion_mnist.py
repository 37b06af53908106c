"""Fashion-MNIST in its original layout: idx files, plain or gzipped.

Xiao, Rasul and Vollgraf 2017 (arXiv:1708.07747).
"""

from __future__ import annotations

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset
from diffcls.data.layouts import idx
from diffcls.data.layouts.files import torchvision_classes


def load(query: Query) -> Dataset | None:
    """The split ``test`` (10,000 gray images of 28×28) or ``train`` (60,000).

    The folder is ``FashionMNIST/raw``, ``raw`` or ``fashion_mnist`` below the root, or the root
    itself. The files contain no class names; these are torchvision's.

    Raises:
        DataError: see `diffcls.data.layouts.idx.load`; or if torchvision is not installed.
    """
    return idx.load(query, ("FashionMNIST/raw", "raw"), class_names, balanced=True)


def class_names() -> tuple[str, ...]:
    """The ten class names, from torchvision.

    Raises:
        DataError: if torchvision is not installed.
    """
    return tuple(torchvision_classes("FashionMNIST", "Fashion-MNIST"))
