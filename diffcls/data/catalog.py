"""Catalog of data sets: by name (`diffcls.data.specs`), or by prefix as ``folder:PATH``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from diffcls.data.path_names import with_prefix
from diffcls.data.specs import ALIASES, SPECS, DatasetSpec, Repository, Stages
from diffcls.support.errors import unknown_name

__all__ = [
    "ALIASES",
    "PREFIXES",
    "SPECS",
    "DatasetSpec",
    "Prefix",
    "Query",
    "Repository",
    "Stages",
    "find",
]


@dataclass(frozen=True)
class Query:
    """Request for the images of a split, the argument of every source.

    Args:
        spec: the data set's row.
        split: name of the split.
        root: folder or file of local data; None if not given.
        image_column, label_column: columns of tables; None to detect them by name and type.
        argument: what follows the prefix in ``PREFIX:ARGUMENT``; empty for a name of the catalog.
        streaming: whether files of the Hub are read in place, without a download.
        classnames: file with the names of the classes, which replace those of the data.
    """

    spec: DatasetSpec
    split: str
    root: Path | None = None
    image_column: str | None = None
    label_column: str | None = None
    argument: str = ""
    streaming: bool = False
    classnames: str | None = None


@dataclass(frozen=True)
class Prefix:
    """Data sets named ``PREFIX:ARGUMENT``, such as ``folder:PATH``.

    Args:
        argument: placeholder of the argument in messages.
        source: ``"module:function"`` that loads the set.
        model, clip, template: defaults, as in `DatasetSpec`.
        own: see `DatasetSpec`.
    """

    argument: str
    source: str
    model: str = ""
    clip: str = "RN50/openai"
    template: str = "a photo of a {}."
    own: bool = True


PATHS = ("PATH", "PATTERN")
"""Arguments of which the last part is the name of the data."""

# the user's own data, and scenes of any number of classes
PREFIXES: Mapping[str, Prefix] = {
    "folder": Prefix("PATH", "diffcls.data.sources.folder:load"),
    "parquet": Prefix("PATH", "diffcls.data.sources.parquet:load"),
    "hf": Prefix("ID", "diffcls.data.sources.hub:load"),
    "webdataset": Prefix("PATTERN", "diffcls.data.sources.webdataset:load"),
    "scenes": Prefix(
        "N",
        "diffcls.data.scenes.many_classes:load",
        "scenes",
        "clip-scenes",
        "a picture of {}.",
        own=False,
    ),
}


def find(name: str) -> DatasetSpec:
    """The specification of a data set by name, or of ``PREFIX:ARGUMENT`` as in `PREFIXES`.

    Raises:
        UsageError: for an unknown name, with the allowed ones and a "did you mean".
    """
    prefix, _, argument = name.partition(":")
    if prefix in PREFIXES and argument:
        row = PREFIXES[prefix]
        return DatasetSpec(
            name=f"{prefix}:{Path(argument).name if row.argument in PATHS else argument}",
            model=row.model,
            templates=(row.template,),
            clip=row.clip,
            source=row.source,
            hub=_repository(argument) if prefix == "hf" else None,
            splits=(),
            own=row.own,
        )
    name = ALIASES.get(name, name)
    if name not in SPECS:
        prefixed = (f"{prefix}:{row.argument}" for prefix, row in PREFIXES.items())
        raise unknown_name("dataset", name, [*SPECS, *prefixed], meant=with_prefix(name))
    return SPECS[name]


def _repository(argument: str) -> Repository:
    repo_id, _, revision = argument.partition("@")
    return Repository(repo_id, revision)
