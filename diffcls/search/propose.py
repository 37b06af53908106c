"""Candidates from another model: CLIP names a few classes, the diffusion model decides among them.

Two models have a part in such an answer: its rows are marked ``hybrid``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Conditioning
from diffcls.search.screening import Begin, Look, Narrowing, Screened
from diffcls.support.errors import UsageError
from diffcls.support.types import Float64, Int64

FAR = 1e6
"""Errors are about 1: a class that was not proposed has no chance, and still a place."""


@dataclass(frozen=True)
class Propose(Screened):
    """A race among the classes that CLIP finds likeliest.

    Args:
        proposer: name of the CLIP model, see `diffcls.models.clip.load`.
        revision: of its weights: part of what defines the numbers.
    """

    candidates: int = 5
    proposer: str = ""
    revision: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.proposer:
            raise UsageError(
                "no CLIP model to propose candidates", allowed="a name, ARCHITECTURE/TAG or folder"
            )

    def prepare(self, prompts: PromptSet, cond: Conditioning) -> Begin:
        import torch

        from diffcls.data.transforms import load_image
        from diffcls.models import clip
        from diffcls.search.embeddings import embeddings

        embeddings(cond)  # what has none is no text that CLIP could read
        device = next(iter(cond.values())).device
        model = clip.load(self.proposer, device)
        classifier = model.classifier(prompts.prompts, prompts.class_of)

        def begin(open_image: Any) -> Narrowing:
            pixels = model.preprocess(load_image(open_image()))
            likely = (model.embed(torch.stack([pixels])) @ classifier.T)[0]
            return Proposal(likely.cpu().numpy(), self.candidates)

        return begin

    def most_before(self, classes: int) -> tuple[int, int]:
        return 0, min(classes, self.candidates)


class Proposal(Narrowing):
    """The likeliest classes; no evaluation of the diffusion model is needed to find them."""

    def __init__(self, likely: NDArray[np.floating], candidates: int) -> None:
        order: Int64 = np.argsort(-likely, kind="stable").astype(np.int64)
        self.alive = np.sort(order[:candidates])
        self._left_out = order[candidates:]
        self._classes = len(likely)

    def ask(self) -> list[Look] | None:
        return None

    def tell(self, shown: Sequence[NDArray[np.floating]]) -> None:
        assert not shown  # nothing is ever asked

    def behind(self, leader: int) -> Float64:
        """In the proposer's order, and far behind: it has no errors to tell."""
        found = np.zeros(self._classes)
        found[self._left_out] = FAR * np.arange(1, len(self._left_out) + 1)
        return found
