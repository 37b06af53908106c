"""Options of ``python -m diffcls.counterfactual``: one field per flag."""

from __future__ import annotations

from dataclasses import dataclass

from diffcls.editing.options import MAX_GUIDANCE
from diffcls.support.errors import UsageError
from diffcls.support.options import MAX_ROWS, MAX_SEED, MAX_STEPS, check_values, free_text, within


@dataclass(frozen=True, kw_only=True)
class CounterfactualOptions:
    """The flags of ``python -m diffcls.counterfactual``.

    Args:
        image: path or ``http(s)://`` address of the image.
        target: the other label; of the flag ``--to``.
        labels: all labels, two or more.
        model: a bundled name, a folder or an id.
        template: text with one ``{}``.
        steps: levels of the path to noise and back.
        guidance: scale of classifier-free guidance; 1 is none.
        seed: seed of the classifier's noise.
        img_size: side of the images in pixels; None: the model's.
        device, dtype: as of ``diffcls evaluate``.
        batch_size: rows of a forward pass.

    Raises:
        UsageError: for a value that is not allowed.
    """

    image: str = free_text("")
    target: str = free_text("", flag="to")
    labels: tuple[str, ...] = free_text(())
    model: str = "fashion_mnist"
    template: str | None = free_text()
    steps: int = within(2, MAX_STEPS, 50)
    guidance: float = within(0, MAX_GUIDANCE, 2.0, whole=False)
    seed: int = within(0, MAX_SEED, 0)
    img_size: int | None = within(1, 65_536)
    device: str | None = None
    dtype: str | None = None
    batch_size: int = within(1, MAX_ROWS, 64)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        check_values(self)
        if self.target not in self.labels:
            raise UsageError("--to is none of --labels", given=self.target, allowed=self.labels)
