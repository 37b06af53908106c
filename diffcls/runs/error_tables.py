"""Error tables on disk: the writer and the reader of ``--save-errors``."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcls.data.dataset import Item
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.scoring.class_scores import ClassScores
from diffcls.search.error_table import Table
from diffcls.support.cache import read_arrays
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.files import locked, make_folder, write_bytes, write_text

ARCHIVE = "run.json"
"""File in a folder of error tables that identifies their run."""


class ErrorArchive:
    """Writer of error tables: one ``.npz`` file per image, named after the image id.

    Each holds ``errors`` (K, N) float32 with NaN where not evaluated, ``timesteps`` (N,),
    ``label`` and ``class_names``. A folder is for one run: its ``run.json`` identifies the run and
    holds the settings for `diffcls.replay`.

    Args:
        folder: the folder of the tables, created if missing.
        run: ``fingerprint``, ``spec``, and ``indices``, ``alpha`` and ``sigma`` as in
            `diffcls.classifiers.base.Built.draws`.
        timesteps: (N,) timestep that the network receives at each draw.
        class_names: (K,) names of the classes.

    Raises:
        UsageError: when the folder cannot be written, or holds the tables of another run.
    """

    def __init__(
        self,
        folder: Path,
        run: Mapping[str, Any],
        timesteps: NDArray[np.float64],
        class_names: tuple[str, ...],
    ) -> None:
        self.folder, self.timesteps = folder, timesteps
        self.class_names = np.array(class_names)
        try:
            with locked(folder / ARCHIVE) as path:
                if not path.exists():
                    write_text(path, json.dumps(run) + "\n")
                stored = json.loads(path.read_text(encoding="utf-8")).get("fingerprint")
        except (OSError, ValueError, AttributeError) as error:
            raise UsageError(
                f"--save-errors folder cannot be written ({error})",
                given=str(folder),
                todo="choose another folder",
            ) from error
        if stored != run["fingerprint"]:
            raise UsageError(
                f"--save-errors folder holds the error tables of another run, {stored}",
                given=str(folder),
                todo="choose another folder",
            )

    def path(self, image_id: str) -> Path:
        """``test/0`` -> ``FOLDER/test/0.npz``; parts that would leave the folder are dropped."""
        parts = [part for part in image_id.split("/") if part not in ("", ".", "..")]
        return self.folder.joinpath(*parts[:-1], f"{parts[-1]}.npz")

    def __call__(self, result: ClassScores, item: Item) -> None:
        """Write one table, whole or not at all."""
        names = self.class_names[list(item.candidates)] if item.candidates else self.class_names
        path, buffer = self.path(result.image_id), io.BytesIO()
        np.savez_compressed(
            buffer,
            errors=np.asarray(result.errors, dtype=np.float32),
            timesteps=self.timesteps,
            label=np.int64(item.label),
            class_names=names,
        )
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
    """All tables in a folder and its subfolders.

    Raises:
        UsageError: for a folder without tables, or of a run in which the prompts of a class raced:
            only the means over each class are saved.
        RecordError: for a table that cannot be read.
    """
    try:
        run = json.loads((folder / ARCHIVE).read_text(encoding="utf-8"))
        alpha, sigma = (np.array(run[name], dtype=np.float64) for name in ("alpha", "sigma"))
        indices = np.array(run["indices"], dtype=np.int64)
        spec = dict(run["spec"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"not a folder of error tables ({error})",
            given=str(folder),
            allowed="a folder that `python -m diffcls.evaluate --save-errors DIR` wrote",
        ) from error
    if spec.get("aggregate") == "prompts" and len(spec["prompts"]) > len(spec["class_names"]):
        raise UsageError(
            "the prompts of a class raced, and their individual errors were not saved",
            given=str(folder),
            todo="save tables without --aggregate prompts",
        )
    ids, labels, tables = [], [], []
    for path in sorted(folder.rglob("*.npz")):
        table, label = _read_table(path, len(indices))
        tables.append(table)
        labels.append(label)
        ids.append(path.relative_to(folder).with_suffix("").as_posix())
    if not tables:
        raise UsageError("no error table in the folder", given=str(folder))
    schedule = NoiseSchedule(alpha, sigma, np.arange(len(alpha), dtype=np.float64))
    return Saved(spec, indices, schedule, tuple(ids), tuple(labels), tuple(tables))


def _read_table(path: Path, draws: int) -> tuple[Table, int]:
    """(K, N) errors of one image, and its label."""
    stored = read_arrays(path, "error table")
    table: Table = stored.get("errors", np.empty(0))
    if table.ndim != 2 or table.shape[1] != draws or "label" not in stored:
        raise RecordError(
            "not an error table of this run",
            given=str(path),
            allowed=f"errors (K, {draws}) and a label",
            todo="move that file away",
        )
    return table, int(stored["label"])
