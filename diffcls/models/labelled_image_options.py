"""Options of commands on one image and its labels: explanations and counterfactuals."""

from __future__ import annotations

from dataclasses import dataclass

from diffcls.support.options import MAX_ROWS, MAX_SEED, check_values, free_text, within

MAX_SIDE = 65_536


@dataclass(frozen=True, kw_only=True)
class LabelledImageOptions:
    """An image, its labels, and the classifier.

    Args:
        image: path or ``http(s)://`` address of the image.
        labels: all labels, two or more.
        model: a bundled name, a folder or an id.
        template: text with one ``{}``.
        seed: seed of the classifier's noise.
        img_size: side of the images in pixels; None: the model's.
        device, dtype: as of ``diffcls evaluate``.
        batch_size: rows of a forward pass.

    Raises:
        UsageError: for a value that is not allowed.
    """

    image: str = free_text("")
    labels: tuple[str, ...] = free_text(())
    model: str = "digits"
    template: str | None = free_text()
    seed: int = within(0, MAX_SEED, 0)
    img_size: int | None = within(1, MAX_SIDE)
    device: str | None = None
    dtype: str | None = None
    batch_size: int = within(1, MAX_ROWS, 64)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        check_values(self)
