"""Proposed candidates: zero-shot CLIP makes a shortlist, and racing decides among its classes.

Two models contribute to the result, so its rows are marked ``hybrid``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Conditioning
from diffcls.search.screening import Probe, ScreenedSearch, Screening, StartScreening
from diffcls.support.errors import UsageError
from diffcls.support.types import Float64, Int64

UNPROPOSED_ERROR = 1e6
"""Deficit per rank of a class that was not proposed; errors are about 1."""


@dataclass(frozen=True)
class Propose(ScreenedSearch):
    """A race among the classes that CLIP finds most likely.

    Args:
        proposer: name of the CLIP model, see `diffcls.models.clip.load`.
        revision: version of the CLIP weights; part of the run's fingerprint.
    """

    candidates: int = 5
    proposer: str = ""
    revision: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.proposer:
            raise UsageError(
                "--search propose needs a CLIP model",
                allowed="a bundled name, ARCHITECTURE/TAG or folder",
                todo="choose one with --clip-model",
            )

    @property
    def screen(self) -> ProposalScreen:
        return ProposalScreen(self.candidates, self.proposer)


@dataclass(frozen=True)
class ProposalScreen:
    """Zero-shot CLIP as a screen.

    Args:
        candidates: maximum length of the shortlist.
        proposer: name of the CLIP model.
    """

    candidates: int
    proposer: str

    def prepare(self, prompts: PromptSet, cond: Conditioning) -> StartScreening:
        import torch

        from diffcls.data.transforms import load_image
        from diffcls.models import clip
        from diffcls.search.embeddings import embeddings

        embeddings(cond)  # raises for class ids, which CLIP cannot read either
        device = next(iter(cond.values())).device
        model = clip.load(self.proposer, device)
        classifier = model.classifier(prompts.prompts, prompts.class_of)

        def start(open_image: Callable[[], Any]) -> Screening:
            pixels = model.preprocess(load_image(open_image()))
            similarity = (model.embed(torch.stack([pixels])) @ classifier.T)[0]
            return Proposal(similarity.cpu().numpy(), self.candidates)

        return start

    def limits(self, classes: int) -> tuple[int, int]:
        return 0, min(classes, self.candidates)


class Proposal:
    """The most likely classes of one image; found without evaluating the diffusion model.

    Args:
        similarity: (K,) of image and class, higher is more likely.
        candidates: maximum length of the shortlist.
    """

    def __init__(self, similarity: NDArray[np.floating], candidates: int) -> None:
        order: Int64 = np.argsort(-similarity, kind="stable").astype(np.int64)
        self.shortlist = np.sort(order[:candidates])
        self._left_out = order[candidates:]
        self._classes = len(similarity)

    def request(self) -> list[Probe] | None:
        return None

    def receive(self, results: Sequence[NDArray[np.floating]]) -> None:
        """No probe was requested, so there are no results."""

    def deficits(self, leader: int) -> Float64:
        """In the proposer's order, and far behind, as the proposer measures no errors."""
        deficits = np.zeros(self._classes)
        deficits[self._left_out] = UNPROPOSED_ERROR * np.arange(1, len(self._left_out) + 1)
        return deficits
