"""Loading of a data set by name: bundled, from local files, or from the Hugging Face Hub."""

from __future__ import annotations

import importlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from diffcls.data import catalog
from diffcls.data.class_names import check_own_names, rename_classes, words_of
from diffcls.data.dataset import Dataset
from diffcls.data.subsets import hold_out
from diffcls.support.errors import DataError, UsageError
from diffcls.support.paths import expand

# readers of a local folder that does not have the set's original layout
LOCAL_READERS = ("diffcls.data.sources.parquet:find", "diffcls.data.sources.folder:find")

SPLIT_NAME = re.compile(r"\w[\w.-]*")


def load_dataset(
    name: str,
    split: str = "test",
    root: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    streaming: bool = False,
    classnames: str | Path | None = None,
) -> Dataset:
    """The labelled images of a split; images are read when they are opened.

    Args:
        name: a name of the catalog, ``folder:PATH``, ``parquet:PATH``, ``hf:ID[@revision]`` or
            ``webdataset:PATTERN``.
        split: one of the data set's splits.
        root: folder of local data: the set's own folder or its parent; None for the Hub's copy.
        image_column, label_column: columns of tables; None to detect them by name and type.
        streaming: whether files of the Hub are read in place, without a download.
        classnames: file with other names of the classes of a person's own data, see
            `diffcls.data.class_names.read_class_names`.

    Raises:
        UsageError: for an unknown name or split.
        DataError: if the images are missing or cannot be read.
    """
    spec = catalog.find(name)
    if spec.splits and split not in spec.splits:
        raise UsageError(f"unknown split of {spec.name}", given=split, allowed=spec.splits)
    if not SPLIT_NAME.fullmatch(split):  # it becomes part of a path
        raise UsageError("--split: invalid name", given=split, allowed="letters, digits, . - _")
    argument = name.partition(":")[2] if not spec.splits else ""
    given = argument or root
    folder = Path(expand(given)) if given else None
    held_out = bool(spec.validation) and split in ("train", "validation")
    if streaming and folder is not None and not argument:
        raise UsageError(
            "--streaming reads the Hub's copy, and --data-root a local one", todo="remove one"
        )
    query = catalog.Query(
        spec,
        "train" if held_out else split,
        folder,
        image_column,
        label_column,
        expand(argument),
        streaming,
        None if classnames is None else str(classnames),
    )
    dataset = _load(query)
    if held_out:
        rest, part = hold_out(dataset, min(spec.validation, len(dataset) // 5))
        dataset = replace(rest if split == "train" else part, split=split)
    if spec.own:
        dataset = _own(dataset)
    return dataset if classnames is None else rename_classes(dataset, classnames)


class DataOptions(Protocol):
    """Options of a command that tell where its data are, see `load_dataset`."""

    @property
    def dataset(self) -> str: ...
    @property
    def data_root(self) -> str | None: ...
    @property
    def image_column(self) -> str | None: ...
    @property
    def label_column(self) -> str | None: ...
    @property
    def streaming(self) -> bool: ...
    @property
    def classnames(self) -> str | None: ...


def load_split(options: DataOptions, split: str) -> Dataset:
    """A split of the data set that options name, see `load_dataset`."""
    return load_dataset(
        options.dataset,
        split,
        options.data_root,
        options.image_column,
        options.label_column,
        options.streaming,
        options.classnames,
    )


def _own(dataset: Dataset) -> Dataset:
    """A person's own data, with class names in words for the prompts.

    Raises:
        UsageError: for class names that differ in nothing that a prompt shows.
    """
    if dataset.sentences:
        return dataset
    words = tuple(map(words_of, dataset.prompt_names or dataset.class_names))
    check_own_names(words, of="class names")
    return dataset if words == dataset.class_names else replace(dataset, prompt_names=words)


def _load(query: catalog.Query) -> Dataset:
    spec = query.spec
    if spec.source is not None:
        dataset = _call(spec.source, query)
    elif query.root is None:
        dataset = _call("diffcls.data.sources.hub:load", query)
        _check_classes(dataset, spec)
    else:
        dataset = _local(query)
    if dataset is None:
        raise DataError(
            f"--data-root: no {spec.name} found",
            given=str(query.root),
            allowed="the original or torchvision's layout, parquet files, or one folder per class "
            f"(in {query.split}/), in that folder or one below it",
        )
    return _published_names(dataset, spec)


def _published_names(dataset: Dataset, spec: catalog.DatasetSpec) -> Dataset:
    """The data set with the published spelling of its class names, whichever copy was read."""
    if not spec.synonyms:
        return dataset
    class_names, prompt_names = (
        tuple(spec.synonyms.get(name, name) for name in names)
        for names in (dataset.class_names, dataset.prompt_names)
    )
    return replace(dataset, class_names=class_names, prompt_names=prompt_names)


def _check_classes(dataset: Dataset | None, spec: catalog.DatasetSpec) -> None:
    """Raise DataError if a copy on the Hub has another number of classes than the data set."""
    if dataset is None or spec.hub is None or not spec.hub_classes:
        return
    count = len(dataset.class_names)
    if count != spec.hub_classes:
        raise DataError(
            f"the copy on the Hub does not have the classes of {spec.name}",
            given=f"{count} classes in {spec.hub.id}",
            allowed=f"{spec.hub_classes} classes",
            todo="give the original copy with --data-root",
        )


def _local(query: catalog.Query) -> Dataset | None:
    """The result of the first reader that recognises the folder; the original layout comes first.

    Raises:
        DataError: if there is no such folder.
    """
    if query.root is not None and not query.root.is_dir():
        raise DataError("--data-root: folder not found", given=str(query.root))
    for reader in (query.spec.layout, *LOCAL_READERS):
        dataset = _call(reader, query) if reader else None
        if dataset is not None:
            return dataset
    return None


def _call(reader: str, query: catalog.Query) -> Dataset | None:
    module, function = reader.split(":")
    dataset: Dataset | None = getattr(importlib.import_module(module), function)(query)
    return dataset
