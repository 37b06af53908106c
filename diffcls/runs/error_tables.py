"""Error tables on disk: the writer and the reader of ``--save-errors``."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcls.data.class_names import shorten
from diffcls.data.dataset import Item
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.runs.table_names import OTHER_IDS, TableNames, other_name
from diffcls.scoring.class_scores import ClassScores
from diffcls.search.error_table import Table
from diffcls.support.cache import read_arrays
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.files import locked, make_folder, write_bytes, write_text
from diffcls.support.hashing import hash_json
from diffcls.support.stored_json import (
    OBJECT,
    TEXT,
    Rule,
    first_breach,
    integer,
    list_of,
    parse_json,
)

ARCHIVE = "run.json"
"""File in a folder of error tables that identifies their run."""


class ErrorArchive:
    """Writer of error tables: one ``.npz`` file per image, named after the image id.

    Each holds ``errors`` (K, N) float32 with NaN where not evaluated, ``timesteps`` (N,),
    ``label`` and ``class_names``; and ``image_id`` as a JSON text, where the id is not the file's
    path (see `diffcls.runs.table_names`). A folder is for one run: its ``run.json`` identifies the
    run and holds the settings for `diffcls.replay`.

    Args:
        folder: the folder of the tables, created if missing.
        run: ``fingerprint``, ``spec``, and ``indices``, ``alpha`` and ``sigma`` as in
            `diffcls.classifiers.base.Built.draws`.
        timesteps: (N,) timestep that the network receives at each draw.
        class_names: (K,) names of the classes.
        image_ids: ids of all images of the run.

    Raises:
        UsageError: when the folder cannot be written, or holds the tables of another run.
    """

    def __init__(
        self,
        folder: Path,
        run: Mapping[str, Any],
        timesteps: NDArray[np.float64],
        class_names: tuple[str, ...],
        image_ids: Iterable[str] = (),
    ) -> None:
        self.folder, self.timesteps = folder, timesteps
        self.class_names = np.array(class_names)
        self._names = TableNames(image_ids)
        with locked(folder / ARCHIVE) as path:
            if not path.exists():
                write_text(path, json.dumps(run) + "\n")
            try:
                stored = read_run(path)["fingerprint"]
            except RecordError as error:
                raise UsageError(
                    f"--save-errors folder is not one of error tables ({error})",
                    todo="choose another folder",
                ) from error
        if stored != run["fingerprint"]:
            raise UsageError(
                f"--save-errors folder holds the error tables of another run, {stored}",
                given=str(folder),
                todo="choose another folder",
            )

    def path(self, image_id: str) -> Path:
        """``test/0`` -> ``FOLDER/test/0.npz``; every id has a file of its own below the folder."""
        return self.folder / self._names[image_id]

    def __call__(self, result: ClassScores, item: Item) -> None:
        """Write one table, whole or not at all."""
        names = self.class_names[list(item.candidates)] if item.candidates else self.class_names
        path, buffer = self.path(result.image_id), io.BytesIO()
        arrays: dict[str, Any] = {
            "errors": np.asarray(result.errors, dtype=np.float32),
            "timesteps": self.timesteps,
            "label": np.int64(item.label),
            "class_names": names,
        }
        if path == self.folder / other_name(result.image_id):
            arrays["image_id"] = np.array(json.dumps(result.image_id))
        np.savez_compressed(buffer, **arrays)
        make_folder(path.parent)
        write_bytes(path, buffer.getvalue())


@dataclass(frozen=True)
class Saved:
    """The error tables of a run, as ``--save-errors`` wrote them.

    Args:
        spec: specification of the run, in plain JSON types.
        indices: (N,) schedule index of each draw.
        schedule: the model's noise schedule; its timesteps are their indices.
        image_ids: (n,) in the order of the files' names.
        labels: (n,) class index of each image.
        tables: (n,) tables (K, N), NaN where not evaluated.
    """

    spec: Mapping[str, Any]
    indices: NDArray[np.int64]
    schedule: NoiseSchedule
    image_ids: tuple[str, ...]
    labels: tuple[int, ...]
    tables: tuple[Table, ...] = field(repr=False)


def read_saved(folder: Path) -> Saved:
    """All tables in a folder and its subfolders, but for those of other runs.

    Raises:
        UsageError: for a folder without tables or of several runs, and for a run in which the
            prompts of a class raced: only the means over each class are saved.
        RecordError: for a table that cannot be read.
    """
    others = {path.parent for path in folder.rglob(ARCHIVE)} - {folder}
    if others and not (folder / ARCHIVE).exists():
        raise UsageError(
            "the folder holds the error tables of several runs",
            given=str(folder),
            allowed=shorten(sorted(map(str, others)), 4),
            todo="choose one of them",
        )
    try:
        run = read_run(folder / ARCHIVE)
        indices = np.array(run["indices"], dtype=np.int64)
        alpha, sigma = (np.array(run[name], dtype=np.float64) for name in ("alpha", "sigma"))
        schedule = NoiseSchedule(alpha, sigma, np.arange(len(alpha), dtype=np.float64))
    except (RecordError, UsageError) as error:
        raise UsageError(
            f"not a folder of error tables ({error})",
            given=str(folder),
            allowed="a folder that `python -m diffcls.evaluate --save-errors DIR` wrote",
        ) from error
    spec = run["spec"]
    if spec.get("aggregate") == "prompts" and len(spec["prompts"]) > len(spec["class_names"]):
        raise UsageError(
            "the prompts of a class raced, and their individual errors were not saved",
            given=str(folder),
            todo="save tables without --aggregate prompts",
        )
    # of several runs, each has a folder of its own, which may lie below that of a single one
    own = [path for path in sorted(folder.rglob("*.npz")) if others.isdisjoint(path.parents)]
    stored = [_read_table(path, folder, len(indices)) for path in own]
    if not stored:
        raise UsageError("no error table in the folder", given=str(folder))
    ids, labels, tables = zip(*stored, strict=True)
    for image_id, table in zip(ids, tables, strict=True):
        if len(table) != len(tables[0]):
            raise RecordError(
                "error tables of one folder differ in their number of classes",
                given=f"{len(table)} of {image_id!r}, {len(tables[0])} of {ids[0]!r}",
                todo="move that table away",
            )
    return Saved(spec, indices, schedule, ids, labels, tables)


NUMBERS = list_of(Rule("a number", lambda value: type(value) in (int, float)))
RUN = {
    "fingerprint": TEXT,
    "spec": OBJECT,
    "indices": list_of(integer(0, 10**6)),
    "alpha": NUMBERS,
    "sigma": NUMBERS,
}
SPEC = {
    **dict.fromkeys(("dataset", "split", "search", "weighting"), TEXT),
    "search_options": OBJECT,
    "prompts": list_of(TEXT),
    "class_names": list_of(TEXT),
}
"""Keys of the stored spec that a replay reads, with their allowed values."""
SPEC_OPTIONAL = dict.fromkeys(("aggregate", "vote", "allocation"), TEXT)


def read_run(path: Path) -> dict[str, Any]:
    """The settings of a folder of error tables, from its ``run.json``.

    Raises:
        RecordError: for a file that cannot be read, lacks a key or holds a value that is not
            allowed.
    """
    try:
        run = parse_json(path.read_bytes())
        if type(run) is not dict:
            raise ValueError("not an object")
        missing = sorted(RUN.keys() - run.keys())
        breach = first_breach(run, RUN)
        if not missing and breach is None:
            missing = sorted(SPEC.keys() - run["spec"].keys())
            breach = first_breach(run["spec"], SPEC | SPEC_OPTIONAL)
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
        if breach is not None:
            raise ValueError(f"{breach.key} is {breach.given}; allowed: {breach.allowed}")
        if not run["indices"] or max(run["indices"]) >= len(run["alpha"]):
            raise ValueError("indices lie outside the noise schedule")
        if hash_json(run["spec"]) != run["fingerprint"]:
            raise ValueError("its spec is not the one of its fingerprint")
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path.name} cannot be read: {error}", given=str(path)) from error
    return run


def _read_table(path: Path, folder: Path, draws: int) -> tuple[str, int, Table]:
    """Image id, label and (K, N) errors of one image."""
    stored = read_arrays(path, "error table")
    table: Table = stored.get("errors", np.empty(0))
    label = stored.get("label", np.empty(0))
    fits = (
        table.ndim == 2
        and table.shape[1] == draws
        and table.dtype.kind == "f"
        and not np.isinf(table).any()
        and label.shape == ()
        and label.dtype.kind in "iu"
        and 0 <= label < len(table)
    )
    image_id = _image_id(path.relative_to(folder), stored.get("image_id"))
    if not fits or image_id is None:
        raise RecordError(
            "not an error table of this run",
            given=str(path),
            allowed=f"finite errors (K, {draws}) and the label of one of the K classes",
            todo="move that file away",
        )
    return image_id, int(label), table


def _image_id(path: Path, stored: NDArray[Any] | None) -> str | None:
    """The id of a table's image, None for the table of another one; `path` is relative."""
    if stored is None:
        return None if path.parts[0] == OTHER_IDS else path.with_suffix("").as_posix()
    try:
        image_id = parse_json(str(stored))
    except ValueError:
        return None
    if type(image_id) is not str or path.as_posix() != other_name(image_id):
        return None
    return image_id
