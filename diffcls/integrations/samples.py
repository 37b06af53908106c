"""Images and prompts that a training is measured on: of the catalog, or a person's own."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from diffcls.api.image_openers import IMAGE_COLUMNS, opener, shown
from diffcls.data.dataset import Dataset, Item
from diffcls.data.prompts import PromptSet, check_labels
from diffcls.support.errors import DataError, UsageError
from diffcls.support.seeding import keyed_generator

Prompts = str | Sequence[str] | Mapping[str, str | Sequence[str]]
OWN = "own images"
"""Name of a person's own data."""


def sample_of(
    dataset: Any, prompts: Prompts | None, images: int, split: str, data_root: str | None
) -> tuple[Dataset, PromptSet]:
    """A fixed sample of images, the same in every process, and the prompts of their classes.

    Args:
        dataset: name of a data set of the catalog; or own images, with random access: a list or
            data set of ``(image, label)`` or ``{"image": …, "label": …}``, read once.
        prompts: a template or templates with ``{}``; or one prompt per class, in the order of the
            classes; or class name -> prompt or prompts. None: those of the named data set.
        images: size of the sample.
        split, data_root: of a named data set.

    Raises:
        UsageError: for prompts that do not fit the classes, or own images without prompts.
        DataError: for images or labels that cannot be read.
    """
    if isinstance(dataset, str):
        from diffcls.classifiers.validation import benchmark_sample

        data, own = benchmark_sample(dataset, split, images, data_root)
        return data, own if prompts is None else _given_prompts(prompts, data)
    if prompts is None or isinstance(prompts, str):
        raise UsageError(
            "own images need the prompts of their classes",
            given=prompts,
            allowed='prompts=["a photo of a cat", …] in the order of the labels, or a mapping of '
            "class names",
        )
    names = check_labels(list(prompts))
    if templates := [name for name in names if "{}" in name]:
        raise UsageError(
            "own images need a prompt per class, and templates have no names of classes",
            given=templates,
            todo="give prompts={name: [prompt, …], …}, in the order of the labels",
        )
    named = class_names_of(dataset)
    if isinstance(prompts, Mapping) and set(named) == set(names):
        names = named  # labels that are numbers follow the data set's order, not the mapping's
    data = Dataset(OWN, split, names, _own_items(dataset, names, images), revision="")
    return data, _given_prompts(prompts, data)


def class_names_of(dataset: Any) -> tuple[str, ...]:
    """The class names of a data set of torchvision or `datasets`, in the order of its labels.

    Empty for one without names.
    """
    if hasattr(dataset, "dataset") and not hasattr(dataset, "classes"):  # torch's Subset
        return class_names_of(dataset.dataset)
    names = getattr(dataset, "classes", None)
    features = getattr(dataset, "features", None)
    if names is None and isinstance(features, Mapping):
        names = getattr(features.get("label"), "names", None)
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()


def _given_prompts(prompts: Prompts, data: Dataset) -> PromptSet:
    names, asked = data.class_names, len(data.items[0].candidates)
    if isinstance(prompts, Mapping):
        if set(prompts) != set(names):
            raise UsageError(
                "prompts and class names differ",
                given=sorted(set(prompts) ^ set(names))[:5],
                allowed=f"the names {', '.join(names[:5])}{' …' if len(names) > 5 else ''}",
            )
        each = {k: [v] if isinstance(v, str) else list(v) for k, v in prompts.items()}
        texts = [(text, k) for k, name in enumerate(names) for text in each[name]]
        return PromptSet(names, tuple(t for t, _ in texts), tuple(k for _, k in texts), asked)
    templates = [prompts] if isinstance(prompts, str) else list(prompts)
    if all("{}" in text for text in templates):
        return PromptSet.from_templates(names, templates, data.prompt_names, asked)
    if len(templates) != len(names):
        raise UsageError(
            "prompts and classes differ in number",
            given=f"{len(templates)} prompts",
            allowed=f"one for each of the {len(names)} classes, or templates with {{}}",
        )
    return PromptSet(names, tuple(templates), tuple(range(len(names))), asked)


def _own_items(rows: Any, names: Sequence[str], images: int) -> tuple[Item, ...]:
    if isinstance(rows, Mapping):
        raise DataError(
            "dataset is a mapping, and no sequence of images",
            given=list(rows)[:8],
            allowed="a name, or a list or data set of (image, label)",
            todo="choose one of its splits, or list(zip(images, labels))",
        )
    try:
        count = len(rows)
    except TypeError:
        raise DataError(
            "dataset has no length",
            given=shown(rows),
            allowed="a name, or a list or data set of (image, label) with random access",
            todo="collect the images of a stream in a list first",
        ) from None
    if not count:
        raise DataError("dataset has no images", given=shown(rows))
    order = keyed_generator(count, "sample of a training").permutation(count)[:images]
    return tuple(_item(rows[int(i)], int(i), names) for i in sorted(order))


def _item(row: Any, index: int, names: Sequence[str]) -> Item:
    if isinstance(row, Mapping):
        image = next((row[name] for name in IMAGE_COLUMNS if name in row), None)
        label = row.get("label")
    elif isinstance(row, tuple | list) and len(row) == 2:
        image, label = row
    else:
        raise DataError(
            f"image {index} of the data set cannot be read",
            given=shown(row),
            allowed='(image, label) or {"image": …, "label": …}',
        )
    if label is None or image is None:
        missing = "image" if image is None else "label"
        raise DataError(f"image {index} of the data set has no {missing}", given=shown(row))
    return Item(f"{index}", _label(label, index, names), opener(image, f"image {index}"))


def _label(label: Any, index: int, names: Sequence[str]) -> int:
    if isinstance(label, str):
        if label in names:
            return names.index(label)
    elif not isinstance(label, bool):
        try:
            number = operator.index(label)  # a fraction is no class index
        except TypeError:
            number = -1
        if 0 <= number < len(names):
            return number
    raise DataError(
        f"label of image {index} is none of the classes",
        given=label,
        allowed=f"0 to {len(names) - 1}, or a class name of the prompts",
    )
