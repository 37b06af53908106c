"""Result of one measurement of zero-shot accuracy during a training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ZeroShotResult:
    """Zero-shot accuracy of a model at a step of its training.

    Args:
        step: the step.
        accuracy: top-1 accuracy over the images scored, 0 to 1; None if none could be scored.
        ci_low, ci_high: its 95 % interval (Wilson).
        n_asked: number of images requested.
        n_scored: number of images scored.
        n_failed: number of images that could not be scored.
        dataset, split: the images.
        evaluations_per_image: forward passes of the network per image.
        seconds: time spent, the preparation of the model included.
    """

    step: int
    accuracy: float | None
    ci_low: float | None
    ci_high: float | None
    n_asked: int
    n_scored: int
    n_failed: int
    dataset: str
    split: str
    evaluations_per_image: float
    seconds: float

    @property
    def time_limited(self) -> bool:
        """Whether the time limit ended the measurement before all images were scored."""
        return self.n_scored + self.n_failed < self.n_asked

    def values(self, prefix: str = "zero_shot") -> dict[str, float]:
        """The figures by name, for a logger; those that are not known are missing.

        Args:
            prefix: first part of the names, ``PREFIX/accuracy`` and so on.
        """
        known = {
            "accuracy": self.accuracy,
            "ci_low": self.ci_low,
            "ci_high": self.ci_high,
            "images": self.n_scored,
            "seconds": self.seconds,
        }
        return {f"{prefix}/{name}": v for name, v in known.items() if v is not None}

    def __str__(self) -> str:
        images = f"{self.n_scored} of {self.n_asked} images of {self.dataset} ({self.split})"
        parts = [f"step {self.step}: no zero-shot accuracy on {images}"]
        if self.accuracy is not None:
            shown = [f"{100 * v:.1f}" for v in (self.ci_low, self.ci_high) if v is not None]
            interval = f"[{', '.join(shown)}]"
            parts = [f"step {self.step}: zero-shot accuracy {self.accuracy:.1%} {interval}"]
            parts = [f"{parts[0]} on {images}, {self.seconds:.1f} s"]
        if self.time_limited:
            parts.append("stopped at the time limit")
        if self.n_failed:
            parts.append(f"{self.n_failed} could not be scored")
        return "; ".join(parts)
