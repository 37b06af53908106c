"""Runs a method over images and keeps what it finds: resumable, countable, interruptible."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffcls.data.dataset import Dataset, Item
from diffcls.errors import UsageError
from diffcls.method import ClassScores, Method
from diffcls.records import Record, RecordStore


class Progress:
    """The progress bar: running accuracy, images a second, time left; on stderr."""

    def __init__(self, total: int, initial: int, quiet: bool, title: str) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            total=total,
            initial=initial,
            desc=title,
            unit="img",
            disable=True if quiet else None,
            dynamic_ncols=True,
        )
        self._right = self._scored = 0

    def add(self, record: Record) -> None:
        """Count one image more."""
        if record.error is None:
            self._scored += 1
            self._right += record.ranking[0] == record.label
            self._bar.set_postfix(accuracy=f"{self._right / self._scored:.1%}", refresh=False)
        self._bar.update()

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


def execute(
    method: Method,
    items: Iterable[Item],
    store: RecordStore,
    progress: Progress | None = None,
    keep: Callable[[ClassScores, int], None] | None = None,
) -> None:
    """Classify `items` and append a record for each, as soon as it is known.

    Args:
        method: the classifier.
        items: images that the store does not hold yet.
        store: where the records go.
        progress: told of every record.
        keep: called with each answer and the image's label before its record is written.

    Raises:
        KeyboardInterrupt: passed on, after what is known was written.
    """
    labels: dict[str, int] = {}

    def taken() -> Iterator[Item]:
        for item in items:
            labels[item.image_id] = item.label
            yield item

    for answer in method.classify(taken()):
        label = labels.pop(answer.image_id)
        if keep is not None and answer.error is None:
            keep(answer, label)
        record = to_record(answer, label, store.fingerprint)
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
    ``label`` and ``class_names``.

    Args:
        folder: where they go; made when missing.
        timesteps: (N,) what the network is told at each draw.
        class_names: (K,).

    Raises:
        UsageError: when the folder cannot be made.
    """

    def __init__(
        self, folder: Path, timesteps: NDArray[np.float64], class_names: tuple[str, ...]
    ) -> None:
        self.folder, self.timesteps = folder, timesteps
        self.class_names = np.array(class_names)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"cannot write error tables ({error.strerror})",
                given=str(folder),
                todo="choose another --save-errors",
            ) from error

    def path(self, image_id: str) -> Path:
        """``test/0`` -> ``FOLDER/test/0.npz``; parts that would lead out are left out."""
        parts = [part for part in image_id.split("/") if part not in ("", ".", "..")]
        return self.folder.joinpath(*parts[:-1], f"{parts[-1]}.npz")

    def __call__(self, answer: ClassScores, label: int) -> None:
        """Write one table, whole or not at all."""
        path = self.path(answer.image_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.tmp")
        with open(fresh, "wb") as file:
            np.savez_compressed(
                file,
                errors=np.asarray(answer.errors, dtype=np.float32),
                timesteps=self.timesteps,
                label=np.int64(label),
                class_names=self.class_names,
            )
        fresh.replace(path)


def waiting(dataset: Dataset, store: RecordStore, positions: Iterable[int]) -> list[Item]:
    """The items at `positions` that the store does not hold yet."""
    items = (dataset.items[i] for i in positions)
    return [item for item in items if item.image_id not in store.done]


def clock() -> str:
    """Now, in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
