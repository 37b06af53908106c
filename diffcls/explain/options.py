"""Options of ``python -m diffcls.explain``: one field per flag."""

from __future__ import annotations

from dataclasses import dataclass

from diffcls.support.errors import UsageError
from diffcls.support.options import MAX_ROWS, MAX_SEED, MAX_STEPS, check_values, free_text, within

DRAWS = 64
"""Default draws: the standard errors fall with their square root."""
MIN_LABELS = 2


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """The flags of ``python -m diffcls.explain``.

    Args:
        image: path or ``http(s)://`` address of the image.
        labels: two or more labels. Of two, the evidence is for the first over the second; of more,
            the image is classified, and it is for the best over the runner-up.
        model: a bundled name, a folder or an id.
        template: text with one ``{}``.
        draws: (timestep, noise) draws per class.
        seed: seed of the noise.
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
    draws: int = within(2, MAX_STEPS, DRAWS)
    seed: int = within(0, MAX_SEED, 0)
    img_size: int | None = within(1, 65_536)
    device: str | None = None
    dtype: str | None = None
    batch_size: int = within(1, MAX_ROWS, 64)

    def __post_init__(self) -> None:
        check_values(self)
        if len(self.labels) < MIN_LABELS:
            raise UsageError(
                "--labels: too few labels", given=list(self.labels), allowed="two or more"
            )
