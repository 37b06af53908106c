"""Classifiers that answer what would have to change: counterfactuals of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from diffcls.api.call_arguments import labels_of
from diffcls.api.control import check_without
from diffcls.api.image_openers import opener
from diffcls.api.prompt_scorer import PromptScorer
from diffcls.metrics.calibration import posterior
from diffcls.support.errors import UsageError
from diffcls.support.options import read
from diffcls.support.types import Float64

if TYPE_CHECKING:
    from torch import Tensor

    from diffcls.editing.counterfactual import Counterfactual


class WithCounterfactuals(PromptScorer):
    """A classifier that edits images until it says another class."""

    def counterfactual(
        self,
        image: Any,
        label: str,
        candidate_labels: Sequence[str] | None = None,
        hypothesis_template: str | Sequence[str] | None = None,
        *,
        steps: int = 50,
        guidance: float = 2.0,
    ) -> Counterfactual:
        """The smallest edit of an image after which this classifier says another label.

        The image is edited from the label that it has now towards the other one, with growing
        strength; where both agree about the image, it stays as it is::

            classifier(image, ["sneaker", "sandal", "boot"])
            found = classifier.counterfactual(image, "boot")
            print(found.is_convincing, found.strength)
            found.save("boot.png")

        Args:
            image: one image, in any form that a call takes.
            label: the other label.
            candidate_labels: all labels; default: those of the latest call.
            hypothesis_template: as of a call; default: with the labels of the latest call also its
                templates. Of several templates, the first one is edited with.
            steps: levels of the path to noise and back.
            guidance: scale of classifier-free guidance; 1 is none.

        Returns:
            An object with ``image``, ``is_convincing``, ``strength``, the ``steps`` on the way with
            their posteriors, and ``save(path)``.

        Raises:
            UsageError: for a label that is no candidate, one that the image has already, without
                candidates, or for a classifier with a ``control``.
            DataError: for an image that cannot be read.
            ModelError: for a model whose prompts do not enter by cross-attention.
        """
        import torch

        from diffcls.data.transforms import to_image
        from diffcls.editing.attention import check_network
        from diffcls.editing.counterfactual import counterfactual
        from diffcls.editing.options import EditSettings

        check_without(self.control, "counterfactuals")
        settings = read(EditSettings, {"steps": steps, "guidance": guidance})
        labels, templates = self._candidates(candidate_labels, hypothesis_template)
        if label not in labels:
            raise UsageError("label is no candidate", given=label, allowed=labels)
        with self._lock:
            self._follow()
            check_network(self.denoiser.network, self.denoiser.card.name)
            method = self._method(labels, templates)

            def judge(pixels: Tensor) -> Float64:
                (result,) = self.scores(method, [to_image(pixels)])
                return posterior(result.scores, method.likelihood_scale)

            pixels = torch.from_numpy(method.pixels(opener(image, "image", self.web_access)()))
            present, target = int(np.argmax(judge(pixels))), labels.index(label)
            if present == target:
                raise UsageError(
                    "the image has this label already",
                    given=label,
                    allowed=[one for one in labels if one != label],
                )
            prompts = method.prompts
            texts = [prompts.prompts[prompts.rows_of(k)[0]] for k in range(prompts.n_classes)]
            return counterfactual(
                self.denoiser, pixels, texts, labels, present, target, judge, settings
            )

    def _candidates(
        self, labels: Sequence[str] | None, template: str | Sequence[str] | None
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Labels and templates; without labels, those of the latest call."""
        own = self._templates(template)
        if labels is not None:
            return labels_of(labels), own
        latest = next(iter(self._methods), None)
        if latest is None:
            raise UsageError(
                "a counterfactual needs candidate labels",
                todo="give candidate_labels, or classify an image before",
            )
        asked, templates, *_ = latest
        return asked, templates if template is None else own
