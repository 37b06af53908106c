"""Options that tell how a data set is read: ``data_root``, columns of tables, ``streaming``."""

from __future__ import annotations

from collections.abc import Mapping

from diffcls.data import catalog
from diffcls.data.catalog import DatasetSpec

LOCAL_OPTIONS = frozenset({"data_root", "image_column", "label_column", "streaming"})
COLUMNS = frozenset({"image_column", "label_column"})

READS: Mapping[str, frozenset[str]] = {
    "diffcls.data.sources.digits:load": frozenset(),
    "diffcls.data.scenes.tasks:load": frozenset(),
    "diffcls.data.scenes.many_classes:load": frozenset(),
    "diffcls.data.sources.folder:load": frozenset(),
    "diffcls.data.sources.parquet:load": COLUMNS,
    "diffcls.data.sources.hub:load": COLUMNS | {"streaming"},
    "diffcls.data.sources.webdataset:load": COLUMNS,
}
"""Source of a data set -> options that it reads; the place of its data is in its name, if any."""


def options_read(spec: DatasetSpec) -> frozenset[str]:
    """The options in `LOCAL_OPTIONS` that have an effect on a data set.

    A set without a source of its own is read from local files in any layout, or from the Hub.
    """
    return LOCAL_OPTIONS if spec.source is None else READS.get(spec.source, LOCAL_OPTIONS)


def root_for(dataset: str, data_root: str | None) -> str | None:
    """The folder of local data, where a data set reads one; else None.

    It serves programs that share one ``--data-root`` among several data sets.

    Raises:
        UsageError: for an unknown data set.
    """
    return data_root if "data_root" in options_read(catalog.find(dataset)) else None


def unused_by(spec: DatasetSpec) -> dict[str, str]:
    """Each option of local data that has no effect on a data set -> why."""
    why = f"is not read by the data set {spec.name}"
    return dict.fromkeys(LOCAL_OPTIONS - options_read(spec), why)
