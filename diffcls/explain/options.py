"""Options of ``python -m diffcls.explain``: one field per flag."""

from __future__ import annotations

from dataclasses import dataclass

from diffcls.models.labelled_image_options import LabelledImageOptions
from diffcls.support.errors import UsageError
from diffcls.support.options import MAX_STEPS, within

DRAWS = 64
"""Default draws: the standard errors fall with their square root."""
MIN_LABELS = 2


@dataclass(frozen=True, kw_only=True)
class ExplainOptions(LabelledImageOptions):
    """The flags of ``python -m diffcls.explain``.

    Of two labels, the evidence is for the first over the second; of more, the image is classified,
    and it is for the best over the runner-up.

    Args:
        draws: (timestep, noise) draws per class.

    Raises:
        UsageError: for a value that is not allowed.
    """

    draws: int = within(2, MAX_STEPS, DRAWS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.labels) < MIN_LABELS:
            raise UsageError(
                "--labels: too few labels", given=list(self.labels), allowed="two or more"
            )
