"""Throughput of a training: images per second, for its progress."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Throughput:
    """Images per second between two readings.

    Args:
        images_per_step: of all processes.
        step: number of steps at the reading before.
        seconds: time spent in steps until then, without validation and checkpoints.
    """

    images_per_step: int
    step: int
    seconds: float

    def since(self, step: int, seconds: float) -> float:
        """Images per second since the reading before; this one takes its place."""
        images = (step - self.step) * self.images_per_step
        rate = images / max(seconds - self.seconds, 1e-9)
        self.step, self.seconds = step, seconds
        return rate
