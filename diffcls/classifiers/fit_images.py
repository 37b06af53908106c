"""Images of fits: of another split than the images that are scored."""

from __future__ import annotations

from diffcls.classifiers.options import ClassifierOptions
from diffcls.data.dataset import Dataset
from diffcls.data.load import load_split
from diffcls.data.subsets import TRAINING_SPLITS
from diffcls.support.errors import UsageError


def load_for_fit(options: ClassifierOptions, split: str, flag: str) -> Dataset:
    """The images of a split, for a fit.

    Args:
        options: options of the evaluation.
        split: the split of the fit.
        flag: what the fit belongs to, for the error.

    Raises:
        UsageError: where the images that are scored are among them: the data are not divided into
            splits, and all of them are scored.
        DataError: see `diffcls.data.load.load_dataset`.
    """
    data = load_split(options, split)
    if data.undivided and options.split not in TRAINING_SPLITS:
        raise UsageError(
            f"{flag} is fitted on other images than those that are scored, and these data are not "
            "divided into splits",
            given=data.name,
            allowed="folders train, validation and test, or shards of these names",
            todo=f"divide them, or score a part that the fit does not read: --split "
            f"{'validation' if split == 'train' else 'train'}",
        )
    return data
