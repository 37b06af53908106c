"""Options of commands on one image and its labels: explanations and counterfactuals."""

from __future__ import annotations

from dataclasses import dataclass

from diffcls.models.one_image_options import OneImageOptions
from diffcls.support.options import MAX_ROWS, MAX_SEED, free_text, within


@dataclass(frozen=True, kw_only=True)
class LabelledImageOptions(OneImageOptions):
    """An image, its labels, and the classifier; further arguments are `OneImageOptions`'.

    Args:
        labels: all labels, two or more.
        template: text with one ``{}``.
        seed: seed of the classifier's noise.
        batch_size: rows of a forward pass.

    Raises:
        UsageError: for a value that is not allowed.
    """

    labels: tuple[str, ...] = free_text(())
    template: str | None = free_text()
    seed: int = within(0, MAX_SEED, 0)
    batch_size: int = within(1, MAX_ROWS, 64)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        super().__post_init__()
