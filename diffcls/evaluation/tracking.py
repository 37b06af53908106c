"""Trackers of an evaluation, ``--log-to``: TensorBoard, Weights & Biases and MLflow.

During the run they get the running accuracy with its interval and the evaluations per image against
the number of images; at its end the figures of its row. How far a tracker has got is kept beside
its files, so a resumed run goes on behind the last point, and a finished one adds none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffcls.evaluation.options import EvaluationOptions
from diffcls.integrations.trackers import TrackerLog, tracker_of_run
from diffcls.metrics.statistics import wilson_interval
from diffcls.runs.record import Record
from diffcls.runs.spec import RunSpec
from diffcls.support.files import write_text
from diffcls.support.notices import warn

FOLDER = "tracking"
POINTS = 200
"""Points of a curve at most: every image, or every n-th of a larger run."""
FINAL = (
    *("accuracy", "ci_low", "ci_high", "top5", "mean_per_class", "ece"),
    *("evaluations_per_image", "seconds_per_image"),
)


@contextmanager
def tracking(
    options: EvaluationOptions,
    spec: RunSpec,
    shard: tuple[int, int],
    total: int,
    stored: Sequence[Record] = (),
) -> Iterator[Trackers]:
    """The trackers of a run while it goes on; they are finished afterwards, whatever happens.

    Args:
        options: their names, ``log_to``, and the output folder.
        spec: specification of the run; with the shard it identifies what is tracked.
        shard: (i, n).
        total: number of images of the shard.
        stored: records from before.
    """
    folder = Path(options.output_dir) / FOLDER
    each = [_Tracker(name, spec, shard, folder) for name in options.log_to]
    trackers = Trackers(each, total, stored)
    try:
        yield trackers
    finally:
        for tracker in each:
            tracker.close()


class Trackers:
    """The trackers of one run, and its running figures.

    Args:
        trackers: one for each name.
        total: number of images.
        stored: records from before.
    """

    def __init__(
        self, trackers: Sequence[_Tracker], total: int, stored: Sequence[Record] = ()
    ) -> None:
        self._trackers, self._total = trackers, total
        self._every = -(-total // POINTS) or 1
        self._images = self._scored = self._right = self._evaluations = 0
        for record in stored:
            self._count(record)

    def add(self, record: Record) -> None:
        """Count the record of one more image, and log a point if it is time."""
        if not self._trackers:
            return
        self._count(record)
        if not self._scored or (self._images % self._every and self._images != self._total):
            return
        low, high = wilson_interval(self._right, self._scored)
        point = {
            "running/accuracy": self._right / self._scored,
            "running/ci_low": low,
            "running/ci_high": high,
            "running/evaluations_per_image": self._evaluations / self._scored,
        }
        for tracker in self._trackers:
            tracker.log(point, self._images)

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Log the figures of the run's row, unless the same ones were logged before."""
        figures = {f"final/{name}": row[name] for name in FINAL if row[name] is not None}
        for tracker in self._trackers:
            tracker.log_final(figures, int(row["n_scored"]))

    def _count(self, record: Record) -> None:
        self._images += 1
        if record.error is None:
            self._scored += 1
            self._right += record.ranking[0] == record.label
            self._evaluations += record.evaluations


class _Tracker:
    """One tracker of a run: it starts at its first value, and a failure ends it, not the run."""

    def __init__(self, name: str, spec: RunSpec, shard: tuple[int, int], folder: Path) -> None:
        self._name, self._spec = name, spec
        self._folder = folder / name
        suffix = "" if shard[1] == 1 else f"-shard-{shard[0]}-of-{shard[1]}"
        self._key = spec.fingerprint + suffix
        self._state_path = self._folder / f"{self._key}.json"
        self._state = _read_state(self._state_path)
        self._log: TrackerLog | None = None
        self._has_failed = False

    def log(self, values: Mapping[str, float], images: int) -> None:
        if images > self._state["images"]:
            self._write(values, images, {**self._state, "images": images})

    def log_final(self, figures: Mapping[str, float], images: int) -> None:
        if figures and figures != self._state["final"]:
            self._write(figures, images, {**self._state, "final": dict(figures)})

    def _write(self, values: Mapping[str, float], step: int, state: dict[str, Any]) -> None:
        if self._has_failed:
            return
        try:
            if self._log is None:
                self._log = self._started()
            self._log(values, step)
            self._state = state
            write_text(self._state_path, json.dumps(state) + "\n")
        except Exception as error:
            self._fail(error)

    def _started(self) -> TrackerLog:
        names = (self._spec.dataset, self._spec.method, self._spec.search, self._key)
        run = "-".join(str(name).replace("/", "-").replace(":", "-") for name in names if name)
        log = tracker_of_run(self._name, run, self._folder, self._key)
        if self._state == _read_state(None):
            log.log_settings({"fingerprint": self._spec.fingerprint, **self._spec.as_dict()})
        return log

    def close(self) -> None:
        try:
            if self._log is not None:
                self._log.close()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Scored images are worth more than their curve: warn, and go on without the tracker."""
        self._has_failed = True
        message = " ".join(str(error).split())
        warn(f"--log-to {self._name} stopped, the run goes on: {type(error).__name__}: {message}")


def _read_state(path: Path | None) -> dict[str, Any]:
    """Number of images at the last point, and the final figures; at the start if unreadable."""
    start: dict[str, Any] = {"images": 0, "final": {}}
    if path is None or not path.exists():
        return start
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        return {"images": int(state["images"]), "final": dict(state["final"])}
    except (OSError, ValueError, TypeError, KeyError):
        return start
