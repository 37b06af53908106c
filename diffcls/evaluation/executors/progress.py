"""Progress of a run: running accuracy and evaluations per image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from diffcls.metrics.statistics import wilson_interval
from diffcls.runs.records import Record
from diffcls.support import progress


class Progress:
    """Progress on stderr: running accuracy, evaluations per image, images per second, time left."""

    def __init__(
        self,
        total: int,
        stored: Sequence[Record],
        quiet: bool,
        title: str,
        listener: Callable[[Record], None] | None = None,
    ) -> None:
        self._listener = listener
        self._right = self._scored = self._evaluations = 0
        self._progress = progress.Progress(
            total, title, initial=len(stored), quiet=quiet, details=self._details
        )
        for record in stored:
            self._count(record)

    def add(self, record: Record) -> None:
        """Count one more image."""
        self._count(record)
        self._progress.update()
        if self._listener is not None:
            self._listener(record)

    def _count(self, record: Record) -> None:
        if record.error is None:
            self._scored += 1
            self._right += record.ranking[0] == record.label
            self._evaluations += record.evaluations
            self._progress.set_values(accuracy=f"{self._right / self._scored:.1%}")

    def _details(self) -> list[str]:
        """The figures of the bar: accuracy with its 95 % interval, evaluations per image."""
        right, scored = self._right, self._scored
        if not scored:
            return []
        low, high = wilson_interval(right, scored)
        return [
            f"accuracy {right / scored:.1%} [{100 * low:.1f}, {100 * high:.1f}]",
            f"{self._evaluations / scored:,.1f} evaluations/img",
        ]

    def close(self) -> None:
        """Close the bar; its last state stays visible."""
        self._progress.close()
