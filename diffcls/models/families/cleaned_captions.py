"""Cleaned captions: prompts as the families after Imagen were trained on them."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence

from diffcls.models.families.base import PipelineDenoiser
from diffcls.models.text_defaults import cleans_captions

logger = logging.getLogger(__name__)


class CleanedCaptions(PipelineDenoiser):
    """A family whose pipeline cleans prompts by default.

    It does so if beautifulsoup4 and ftfy are installed, and else writes prompts in lower case only;
    which of the two is part of a run's specification.
    """

    def _prepare_text(self) -> None:
        super()._prepare_text()
        if not cleans_captions():
            logger.warning(
                'prompts are not cleaned as in the training of %s: pip install "diffcls[captions]"',
                type(self.pipeline).__name__,
            )

    def prompt_keys(self, prompts: Sequence[str]) -> Sequence[Hashable]:
        """The token ids of the cleaned prompts."""
        return super().prompt_keys(self._cleaned(prompts))

    def _cleaned(self, prompts: Sequence[str]) -> list[str]:
        texts: list[str] = self.pipeline._text_preprocessing(
            list(prompts), clean_caption=cleans_captions()
        )
        return texts
