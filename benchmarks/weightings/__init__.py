"""Weightings over time, each learned on the validation images of one data set.

``python -m benchmarks.weightings`` makes the files anew. On the data set that it was learned on, a
weighting is not used: see `OF`.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
OF = {"fashion_mnist": "cifar10", "cifar10": "fashion_mnist"}
"""Data set -> where the weighting that is used on it comes from; of all others `ELSE`."""
ELSE = "cifar10"


def file_for(dataset: str) -> str:
    """The file of the weighting that is used on a data set, as an argument of the command."""
    return f"benchmarks/weightings/{OF.get(dataset, ELSE)}.json"
