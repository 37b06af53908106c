"""Class names in prompts, for data sets read from tables: words, and species of pets."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from diffcls.data.class_names import words_of
from diffcls.data.dataset import Dataset
from diffcls.data.layouts.pets import with_species
from diffcls.data.sources.tables import Table, read_labels
from diffcls.support.errors import DataError


def with_prompt_names(dataset: Dataset, tables: Sequence[Table]) -> Dataset:
    """The data set with the class names of the published prompts; of a person's own, with words.

    Raises:
        DataError: for an ImageNet of other classes.
    """
    if dataset.name == "imagenet":
        from diffcls.data.layouts.imagenet import class_names

        if len(dataset.class_names) != len(class_names()):
            raise DataError(
                "the classes are not those of ImageNet",
                given=f"{len(dataset.class_names)} classes",
                allowed=f"{len(class_names())} classes",
            )
        return replace(dataset, class_names=class_names())
    spaced = tuple(map(words_of, dataset.class_names))
    if dataset.name == "pets":
        names = tuple(name.title() for name in spaced)
        prompts = map(with_species, names, _species(dataset, tables))
        return replace(dataset, class_names=names, prompt_names=tuple(prompts))
    return dataset if spaced == dataset.class_names else replace(dataset, prompt_names=spaced)


def _species(dataset: Dataset, tables: Sequence[Table]) -> list[str]:
    """Species of each class: ``cat``, ``dog``, or empty if unknown."""
    words = _species_of_rows(tables) or [""] * len(dataset)
    of_class = {item.label: word for item, word in zip(dataset.items, words, strict=True)}
    species = [of_class.get(label, "") for label in range(len(dataset.class_names))]
    return [word if word in ("cat", "dog") else "" for word in species]


def _species_of_rows(tables: Sequence[Table]) -> list[str]:
    """Species of each row, from the column of species or the file name; empty without either.

    File names of cats start with a capital letter, those of dogs do not.
    """
    columns = set(tables[0].columns)
    if "label_cat_dog" in columns:
        with suppress(DataError):  # numbers without class names
            numbers, names = read_labels(tables, "label_cat_dog")
            return [names[number].lower() for number in numbers]
    if "image_id" in columns:
        files = [str(value) for table in tables for value in table.values("image_id")]
        return ["cat" if file[:1].isupper() else "dog" for file in files]
    return []
