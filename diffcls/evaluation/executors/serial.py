"""Runs a method over images and keeps what it finds: resumable, countable, interruptible."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcls.classifiers.base import Method
from diffcls.data.dataset import Dataset, Item
from diffcls.runs.records import Record, RecordStore
from diffcls.scoring.class_scores import ClassScores
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.files import locked, write_text

ARCHIVE = "run.json"
"""Of a folder of error tables: whose they are."""


class Progress:
    """The progress bar: running accuracy, images a second, time left; on stderr."""

    def __init__(self, total: int, held: Sequence[Record], quiet: bool, title: str) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            total=total,
            initial=len(held),
            desc=title,
            unit="img",
            disable=True if quiet else None,
            dynamic_ncols=True,
        )
        self._right = self._scored = 0
        for record in held:
            self._count(record)

    def add(self, record: Record) -> None:
        """Count one image more."""
        self._count(record)
        self._bar.update()

    def _count(self, record: Record) -> None:
        if record.error is None:
            self._scored += 1
            self._right += record.ranking[0] == record.label
            self._bar.set_postfix(accuracy=f"{self._right / self._scored:.1%}", refresh=False)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


def execute(
    method: Method,
    items: Iterable[Item],
    store: RecordStore,
    progress: Progress | None = None,
    keep: Callable[[ClassScores, Item], None] | None = None,
) -> None:
    """Classify `items` and append a record for each, as soon as it is known.

    Args:
        method: the classifier.
        items: the images, see `waiting`.
        store: where the records go; of an image that it holds already, the record stays.
        progress: told of every new record.
        keep: called with each answer and its image before its record is written.

    Raises:
        KeyboardInterrupt: passed on, after what is known was written.
    """
    in_flight: dict[str, Item] = {}

    def taken() -> Iterator[Item]:
        for item in items:
            in_flight[item.image_id] = item
            yield item

    for answer in method.classify(taken()):
        item = in_flight.pop(answer.image_id)
        if keep is not None and answer.error is None:
            keep(answer, item)
        if answer.image_id in store.done:  # scored once more for its error table
            continue
        record = to_record(answer, item.label, store.fingerprint)
        store.append(record)
        if progress is not None:
            progress.add(record)


def to_record(answer: ClassScores, label: int, fingerprint: str) -> Record:
    """The line that stands for an answer."""
    return Record(
        fingerprint=fingerprint,
        image_id=answer.image_id,
        label=label,
        ranking=tuple(int(k) for k in answer.ranking),
        scores=tuple(float(s) for s in answer.scores),
        evaluations=answer.evaluations,
        seconds=round(answer.seconds, 6),
        error=answer.error,
    )


class ErrorArchive:
    """Error tables on disk: one ``.npz`` an image, its name made from the image id.

    Each holds ``errors`` (K, N) float32 with NaN where not evaluated, ``timesteps`` (N,),
    ``label`` and ``class_names``. A folder is for one run: ``run.json`` in it says which, and what
    `diffcls.replay` must know of it.

    Args:
        folder: where they go; made when missing.
        run: ``fingerprint``, ``spec``, and ``indices``, ``alpha`` and ``sigma`` as in
            `diffcls.classifiers.base.Built.draws`.
        timesteps: (N,) what the network is told at each draw.
        class_names: (K,).

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
                held = json.loads(path.read_text(encoding="utf-8")).get("fingerprint")
        except (OSError, ValueError, AttributeError) as error:
            raise UsageError(
                f"cannot write error tables ({error})",
                given=str(folder),
                todo="choose another --save-errors",
            ) from error
        if held != run["fingerprint"]:
            raise UsageError(
                f"the folder holds the error tables of another run, {held}",
                given=str(folder),
                todo="choose another --save-errors",
            )

    def path(self, image_id: str) -> Path:
        """``test/0`` -> ``FOLDER/test/0.npz``; parts that would lead out are left out."""
        parts = [part for part in image_id.split("/") if part not in ("", ".", "..")]
        return self.folder.joinpath(*parts[:-1], f"{parts[-1]}.npz")

    def __call__(self, answer: ClassScores, item: Item) -> None:
        """Write one table, whole or not at all."""
        names = self.class_names[list(item.candidates)] if item.candidates else self.class_names
        path = self.path(answer.image_id)
        fresh = path.with_name(f".{path.name}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(fresh, "wb") as file:
                np.savez_compressed(
                    file,
                    errors=np.asarray(answer.errors, dtype=np.float32),
                    timesteps=self.timesteps,
                    label=np.int64(item.label),
                    class_names=names,
                )
            fresh.replace(path)
        except OSError as error:
            raise RecordError(
                f"cannot write an error table ({error.strerror})",
                given=str(path),
                todo="make room, then run the same command again: it goes on from here",
            ) from error


def waiting(
    dataset: Dataset,
    store: RecordStore,
    positions: Iterable[int],
    archive: ErrorArchive | None = None,
) -> list[Item]:
    """The items at `positions` that the store, or the archive if any, does not hold yet."""
    done = store.done
    if archive is not None:
        # an image that failed has no table, and would fail again
        done = {
            record.image_id
            for record in store.records()
            if record.error is not None or archive.path(record.image_id).exists()
        }
    items = (dataset.items[i] for i in positions)
    return [item for item in items if item.image_id not in done]
