"""Options of ``python -m diffcls.counterfactual``: one field per flag."""

from __future__ import annotations

from dataclasses import dataclass

from diffcls.editing.options import MAX_GUIDANCE
from diffcls.models.labelled_image_options import LabelledImageOptions
from diffcls.support.errors import UsageError
from diffcls.support.options import MAX_STEPS, free_text, within


@dataclass(frozen=True, kw_only=True)
class CounterfactualOptions(LabelledImageOptions):
    """The flags of ``python -m diffcls.counterfactual``.

    Args:
        target: the other label; of the flag ``--to``.
        model: a bundled name, a folder or an id.
        steps: levels of the path to noise and back.
        guidance: scale of classifier-free guidance; 1 is none.

    Raises:
        UsageError: for a value that is not allowed.
    """

    target: str = free_text("", flag="to")
    model: str = "fashion_mnist"
    steps: int = within(2, MAX_STEPS, 50)
    guidance: float = within(0, MAX_GUIDANCE, 2.0, whole=False, is_open=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target not in self.labels:
            raise UsageError("--to is none of --labels", given=self.target, allowed=self.labels)
