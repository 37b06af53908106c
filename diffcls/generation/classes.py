"""Classes of a data set as prompts of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffcls.data import catalog
from diffcls.data.class_ids import class_prompts
from diffcls.data.load import load_dataset
from diffcls.models.denoiser import Denoiser
from diffcls.support.errors import UsageError
from diffcls.support.registry import position

if TYPE_CHECKING:
    from diffcls.data.dataset import Dataset


@dataclass(frozen=True)
class Classes:
    """The classes of a data set and a model's prompts for them.

    Args:
        names: (K,) names in the data set.
        prompts: (K,) prompts of the model: texts, class ids in decimal digits, or empty strings
            for an unconditional model.
        texts: (K,) sentences about the classes, for CLIP, whatever the model reads.
        dataset: name of the data set.
    """

    names: tuple[str, ...]
    prompts: tuple[str, ...]
    texts: tuple[str, ...]
    dataset: str

    def index(self, name: str) -> int:
        """Index of the class of that name, ignoring case.

        Raises:
            UsageError: for an unknown name.
        """
        return position("class", name, self.names)


def dataset_of(denoiser: Denoiser, given: str | None) -> str:
    """The given data set, or else the first one that the model was trained on.

    Raises:
        UsageError: if neither is known.
    """
    if given is not None:
        return given
    if not denoiser.card.trained_on:
        raise UsageError(
            "the card of the model names no training data set",
            given=denoiser.card.name,
            todo="add --dataset NAME",
        )
    return denoiser.card.trained_on[0]


def classes_of(
    denoiser: Denoiser,
    dataset: str,
    data_root: str | None = None,
    data: Dataset | None = None,
    streaming: bool = False,
) -> Classes:
    """The classes of a data set, with prompts for a model.

    Args:
        denoiser: the model.
        dataset: name of the data set.
        data_root: folder of local data.
        data: a split, whose order of classes is taken. None: the classes in the model's card, or
            else those of the data set's first split.
        streaming: whether files of the Hub are read in place.

    Raises:
        UsageError: for a class that the model does not know.
        DataError: if the data cannot be found.
    """
    spec = catalog.find(dataset)
    names: tuple[str, ...] = denoiser.card.labels
    if data is None and (not names or denoiser.card.trained_on[:1] != (dataset,)):
        split = spec.splits[0] if spec.splits else "test"
        data = load_dataset(dataset, split, data_root, streaming=streaming)
    if data is None:
        texts = tuple(spec.templates[0].replace("{}", name) for name in names)
    else:
        names, texts = tuple(data.class_names), texts_of(dataset, data)
    if denoiser.labels is None:
        prompts = texts
    elif denoiser.labels:
        prompts = class_prompts(names, denoiser.labels).prompts
    else:
        prompts = ("",) * len(names)
    return Classes(names, prompts, texts, dataset)


def texts_of(dataset: str, data: Dataset) -> tuple[str, ...]:
    """(K,) sentences about the classes of a data set: its first template with each name."""
    template = data.templates_or(catalog.find(dataset).templates)[0]
    words = data.prompt_names or data.class_names
    return tuple(template.replace("{}", word) for word in words)
