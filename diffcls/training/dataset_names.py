"""Names of data sets to train on: the full name, and the one in the name of the model's folder."""

from __future__ import annotations

import os

from diffcls.data import catalog
from diffcls.support.errors import UsageError
from diffcls.support.files import safe_name
from diffcls.training.kinds import KINDS


def full_name(dataset: str, kind: str) -> str:
    """The full name of a data set; user data keep the name that was given.

    Raises:
        UsageError: for an unknown name, or a data set without the splits that a kind of model
            needs.
    """
    spec = catalog.find(dataset)
    if spec.name.startswith(("scenes/", "scenes:")):
        # their training splits contain the held-out combinations
        raise UsageError(
            "--dataset names one task of the scenes; a model trains on all of them",
            given=dataset,
            allowed="scenes",
        )
    splits = KINDS[kind].splits
    if spec.splits and not {*splits} <= {*spec.splits}:
        raise UsageError(
            f"--model {kind} needs the splits {' and '.join(splits)}",
            given=f"{dataset}, which has {', '.join(spec.splits)}",
            todo="provide them as folders: --dataset folder:PATH",
        )
    return spec.name if spec.name in catalog.SPECS else dataset


def short_name(dataset: str) -> str:
    """Name of a data set in the name of a folder: never one that leads elsewhere."""
    kind, _, place = dataset.partition(":")
    if kind == "folder":  # of X/.. the name is that of the folder it stands for
        dataset = os.path.abspath(os.path.expanduser(place or "."))
    return safe_name(dataset.rstrip("/").rpartition("/")[2].rpartition(":")[2].partition("@")[0])
