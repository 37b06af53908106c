"""Classes that get another name in prompts, or are added to those of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from diffcls.data.class_names import same_name
from diffcls.data.dataset import Dataset
from diffcls.support.errors import UsageError
from diffcls.support.notices import warn


def with_fillings(dataset: Dataset, fillings: Mapping[str, str]) -> Dataset:
    """A data set in whose prompts some classes have other names.

    Args:
        dataset: the data set.
        fillings: label -> text that stands for it in prompts, such as the token of a learned
            concept. A label that the data set does not have is added to its classes.

    Raises:
        UsageError: for a label that several classes have, and for a data set whose images have
            candidates of their own or whose classes are sentences.
    """
    if not fillings:
        return dataset
    if dataset.sentences or dataset.n_candidates != len(dataset.class_names):
        raise UsageError(
            "--concept needs classes that all images share, with names that fill a template",
            given=dataset.name,
            todo="choose another data set, or remove --concept",
        )
    names, prompt_names = (
        list(dataset.class_names),
        list(dataset.prompt_names or dataset.class_names),
    )
    for label, text in fillings.items():
        rows = [k for k, name in enumerate(names) if name == label]
        rows = rows or [k for k, name in enumerate(names) if same_name(name) == same_name(label)]
        if len(rows) > 1:
            raise UsageError(
                "--concept: several classes have the label", given=label, allowed="one class"
            )
        if rows:
            prompt_names[rows[0]] = text
            continue
        warn(f"--concept: the class {label} is added; {dataset.name} has no image of it")
        names.append(label)
        prompt_names.append(text)
    return replace(dataset, class_names=tuple(names), prompt_names=tuple(prompt_names))
