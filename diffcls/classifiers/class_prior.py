"""Class priors of a diffusion classifier: a class bias, and a combination with zero-shot CLIP.

A prior enters Bayes' rule as log P(k | x) = λ·s_k(x) + log π_k(x) + const, with λ the likelihood
scale and s_k minus the mean error. Each class's error is therefore lowered by log π_k / λ before
the search sees it, so that racing races the posterior and drops what a prior makes hopeless sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.classifiers.wrapping import WrappingMethod
from diffcls.data.dataset import Item
from diffcls.metrics.class_prior import PRIOR_STRENGTH, fit_product, match_prior
from diffcls.scoring.class_scores import ClassScores
from diffcls.scoring.image_state import ClassPrior
from diffcls.support.cache import Arrays
from diffcls.support.errors import DataError
from diffcls.support.progress import Progress
from diffcls.support.types import Float64


@dataclass(frozen=True)
class Fitted:
    """A fitted class prior.

    Args:
        prior: of each image, see `diffcls.scoring.image_state.ClassPrior`.
        scale: the posterior is ``softmax(scale * scores)``.
    """

    prior: ClassPrior
    scale: float


class PriorMethod(WrappingMethod):
    """A diffusion classifier whose classes have a prior.

    Its scores are minus the mean error plus the prior in the error's units: times the posterior
    scale they are logarithms of the posterior, but for a constant of each image.

    Args:
        method: the classifier.
        fit: fits the prior; it is called once, when it is first needed.
    """

    def __init__(self, method: DiffusionMethod, fit: Callable[[], Fitted]) -> None:
        super().__init__(method)
        self._fit = fit

    @cached_property
    def fitted(self) -> Fitted:
        """The prior and the scale of the posterior."""
        return self._fit()

    @property
    def posterior_scale(self) -> float:
        """Factor from score to log-posterior."""
        return self.fitted.scale

    def check(self, items: Sequence[Item]) -> None:
        """See `diffcls.classifiers.base.Method`."""
        self.method.check(items)

    def classify(self, items: Iterable[Item]) -> Iterator[ClassScores]:
        """Scores with the prior, see the class."""
        prior = self.fitted.prior
        self.method.class_prior = prior
        try:
            yield from self.method.classify(items)
        finally:
            self.method.class_prior = None


def scored(
    method: DiffusionMethod, items: Sequence[Item], quiet: bool = True
) -> tuple[list[Item], Float64, int]:
    """Images that can be scored, their (n, K) scores without a prior, and the evaluations.

    In the order of the images, whatever order they complete in.

    Raises:
        DataError: if no image can be scored.
    """
    found: dict[str, ClassScores] = {}
    with Progress(len(items), "fitting the class prior", quiet=quiet) as progress:
        for result in method.classify(items):
            progress.update()
            if result.error is None:
                found[result.image_id] = result
    kept = [item for item in items if item.image_id in found]
    if not kept:
        raise DataError("no image of the class prior can be scored", todo="check its split")
    scores = np.stack([found[item.image_id].scores for item in kept]).astype(np.float64)
    return kept, scores, sum(result.evaluations for result in found.values())


def fit_bias(
    method: DiffusionMethod,
    items: Sequence[Item],
    quiet: bool = True,
    strength: float = PRIOR_STRENGTH,
) -> Arrays:
    """The (K,) log-prior ``bias`` of classes on unlabelled images, and the ``evaluations`` spent.

    See `diffcls.metrics.class_prior.match_prior`; the images' labels are not read.
    """
    _, scores, evaluations = scored(method, items, quiet)
    bias = match_prior(method.likelihood_scale * scores, strength)
    return {"bias": bias, "evaluations": np.array(evaluations)}


def fit_combination(
    method: DiffusionMethod,
    log_other: Callable[[Item], Float64],
    items: Sequence[Item],
    quiet: bool = True,
) -> Arrays:
    """The exponents ``own`` and ``other`` of a product, and the ``evaluations`` spent.

    See `diffcls.metrics.class_prior.fit_product`.

    Args:
        method: the classifier.
        log_other: (K,) log-probabilities of an image under the other model.
        items: labelled images.
        quiet: whether no progress is shown.
    """
    kept, scores, evaluations = scored(method, items, quiet)
    other = np.stack([log_other(item) for item in kept])
    labels = [item.label for item in kept]
    product = fit_product(method.likelihood_scale * scores, other, labels)
    numbers = {"own": product.own, "other": product.other, "evaluations": evaluations}
    return {name: np.array(value) for name, value in numbers.items()}


def biased(method: DiffusionMethod, bias: Float64) -> Fitted:
    """The same log-prior (K,) for every image."""
    prior = bias / method.likelihood_scale
    return Fitted(lambda _: prior, method.likelihood_scale)


def combined(
    method: DiffusionMethod,
    log_other: Callable[[Callable[[], Any]], Float64],
    own: float,
    other: float,
) -> Fitted:
    """The prior P'(k | x)^w of the product exp(a·λ·s_k)·P'(k | x)^w, in the error's units."""
    scale = own * method.likelihood_scale

    def prior(open_image: Callable[[], Any]) -> Float64:
        return other / scale * log_other(open_image)

    return Fitted(prior, scale)
