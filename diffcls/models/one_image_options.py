"""Options of commands on one image, whatever they do with it."""

from __future__ import annotations

from dataclasses import dataclass

from diffcls.support.options import check_values, free_text, within

MAX_SIDE = 65_536


@dataclass(frozen=True, kw_only=True)
class OneImageOptions:
    """An image, and the model that it is given to.

    Args:
        image: path or ``http(s)://`` address of the image.
        model: a bundled name, a folder or an id.
        img_size: side of the images in pixels; None: the model's.
        device, dtype: as of ``diffcls evaluate``.

    Raises:
        UsageError: for a value that is not allowed.
    """

    image: str = free_text("")
    model: str = "digits"
    img_size: int | None = within(1, MAX_SIDE)
    device: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_values(self)
