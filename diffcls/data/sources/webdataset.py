"""Shards of tar archives, ``webdataset:PATTERN``, read without extraction.

One pass over the headers of the archives yields names, labels and places of all images; an image
is read from its place when it is opened. Neither memory nor disk ever holds the images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from diffcls.data.catalog import Query
from diffcls.data.class_names import FLAG as CLASSNAMES
from diffcls.data.dataset import Dataset
from diffcls.data.sources.prompt_names import with_prompt_names
from diffcls.data.sources.remote_files import answering
from diffcls.data.sources.shard_set import NAMES, TEMPLATES, ShardSet, find_shards
from diffcls.data.sources.tables import dataset_of_tables
from diffcls.data.sources.tar_table import IMAGE, LABEL, TarTable, read_tables
from diffcls.data.subsets import part_of_whole
from diffcls.support.errors import DataError
from diffcls.support.hashing import content_hash

CLASS_SLOT = "{c}"
"""Place of the class name in a template of CLIP_benchmark."""


def load(query: Query) -> Dataset:
    """A split of ``webdataset:PATTERN``.

    Ids are ``SHARD/KEY``, see `diffcls.data.sources.shard_set.ShardSet`; the order is that of the
    shards' names and, within a shard, of the archive. The revision is a hash of the ids, the
    labels, and of size and first and last bytes of each image.

    Where the shards tell no split, they are the test split, and a fixed, stratified tenth of them
    is held out of ``train`` as ``validation``, as in `diffcls.data.sources.folder`.

    Raises:
        UsageError, DataError: if there are no shards, images, labels or class names, or an archive
            cannot be read.
    """
    passed_over = Counter[str]()
    with answering(query.spec.name):
        found = find_shards(query.argument, query.split, passed_over)
        tables = read_tables(found.shards, query, passed_over)
    names = found.lines_beside(NAMES)
    _check_numbers(tables, names, query)
    query = replace(query, split=found.split, image_column=IMAGE, label_column=LABEL)
    revision = content_hash(*(table.identity for table in tables))
    dataset = dataset_of_tables(query, tables, revision, names)
    dataset = replace(dataset, name=found.name, templates=_templates(found, passed_over))
    if found.whole:
        dataset = part_of_whole(dataset, found.split)
    return replace(with_prompt_names(dataset, tables), passed_over=dict(+passed_over))


def _check_numbers(tables: Sequence[TarTable], names: Sequence[str], query: Query) -> None:
    """Refuse labels of which some are names, and numbers without names."""
    kinds = {type(label): label for table in tables for label in table.values(LABEL)}
    field = f".{tables[0].label_field}"
    if len(kinds) > 1:
        raise DataError(
            f"labels in {field} are numbers and names",
            given=list(kinds.values()),
            allowed="whole numbers, or names of classes",
        )
    if int in kinds and not names and not query.classnames:
        raise DataError(
            f"labels in {field} are numbers, of which no names are known",
            given=f"such as {kinds[int]}",
            allowed=f"{NAMES} beside the shards, one name per line from class 0 on",
            todo=f"write that file, or give {CLASSNAMES} FILE",
        )


def _templates(found: ShardSet, passed_over: Counter[str]) -> tuple[str, ...]:
    """The template beside the shards; several would each be evaluated, which people request."""
    lines = found.lines_beside(TEMPLATES)
    if len(lines) > 1:
        passed_over[f"templates in {TEMPLATES}"] += len(lines)
    if len(lines) != 1:
        return ()
    if lines[0].count(CLASS_SLOT) != 1:
        raise DataError(f"{TEMPLATES}: no template", lines[0], f"a text with one {CLASS_SLOT}")
    return (lines[0].replace(CLASS_SLOT, "{}"),)
