"""Estimator of scikit-learn's interface around the diffusion classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from diffcls.api.parameters import check_parameters
from diffcls.api.tables import (
    check_same_kind,
    check_same_number,
    names_of,
    table_images,
    target_labels,
)
from diffcls.api.zero_shot import ZeroShotImageClassifier, score_matrix
from diffcls.data.prompts import check_labels
from diffcls.metrics.calibration import check_weights, fit_temperature, log_posterior
from diffcls.support.errors import UsageError


class DiffusionClassifier(ClassifierMixin, BaseEstimator):
    """A zero-shot classifier with scikit-learn's interface.

    ``fit`` trains no weights: it records the classes and, with `calibration_images`, fits the
    temperature of the posterior (temperature scaling). A fitted estimator is pickled without the
    model's weights, and loads them again. docs/scikit-learn.md lists the whole interface.

    Args:
        model: a bundled name, or a diffusers pipeline folder.
        class_names: (K,) name of each class of ``classes_``, in their order, or a dictionary from
            label to name, which may have more labels; default: the labels as text.
        template: prompt template, a text with one ``{}``; of several, the errors are averaged.
        search, draws, confidence: see `diffcls.search`; None: the search's default.
        seed: seed of the noise.
        calibration_images: greatest number of the images given to ``fit``, evenly spread, on which
            the temperature is fitted by `diffcls.fit_temperature`; 0: none.
        temperature: temperature of the posterior, above 0; None: fitted, or without
            `calibration_images` the one in the model's card.
        batch_size, device, dtype: see `diffcls.ZeroShotImageClassifier.from_pretrained`.

    Attributes:
        classes_: (K,) sorted labels.
        temperature_: scores, summed over dimensions, are divided by it.
    """

    def __init__(
        self,
        *,
        model: str = "digits",
        class_names: Sequence[str] | Mapping[Any, str] | None = None,
        template: str | Sequence[str] = "a photo of a {}.",
        search: str = "racing",
        draws: int | None = None,
        confidence: float | None = None,
        seed: int = 0,
        calibration_images: int = 0,
        temperature: float | None = None,
        batch_size: int = 64,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.model = model
        self.class_names = class_names
        self.template = template
        self.search = search
        self.draws = draws
        self.confidence = confidence
        self.seed = seed
        self.calibration_images = calibration_images
        self.temperature = temperature
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> DiffusionClassifier:
        """Record the classes of `y` and the temperature.

        Args:
            X: n images: a list, series or column of what `diffcls.ZeroShotImageClassifier` takes,
                or an array (n, H, W), (n, H, W, 3) or (n, 3, H, W).
            y: (n,) labels, numbers or texts.
            sample_weight: (n,) weights of the images in the fit of the temperature, 0 or more.

        Raises:
            DataError: for labels that differ in number from the images or the class names. It is a
                ValueError.
            UsageError: for a parameter or weight out of range. It is a ValueError.
        """
        check_parameters(self.get_params(deep=False))
        images, labels = table_images(X), target_labels(y)
        check_same_number(images, labels)
        weights = check_weights(sample_weight, len(images))
        classes, codes = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise UsageError(
                "y has only one class", given=classes.tolist()[0], allowed="two labels or more"
            )
        names = check_labels(names_of(classes, self.class_names))
        classifier = self._load()
        templates = [self.template] if isinstance(self.template, str) else list(self.template)
        prompts = classifier.prompts(names, templates)
        # a fit that fails leaves the estimator as it was
        method = classifier.method(prompts)
        temperature = self._temperature(classifier, method, images, codes, weights)
        self._classifier, self._prompts, self._method = classifier, prompts, method
        self.classes_, self.temperature_ = classes, temperature
        return self

    def _load(self) -> ZeroShotImageClassifier:
        options: dict[str, Any] = {"draws": self.draws, "confidence": self.confidence}
        return ZeroShotImageClassifier.from_pretrained(
            self.model,
            device=self.device,
            dtype=self.dtype,
            search=self.search,
            seed=self.seed,
            batch_size=self.batch_size,
            **{name: value for name, value in options.items() if value is not None},
        )

    def _temperature(
        self,
        classifier: ZeroShotImageClassifier,
        method: Any,
        images: Sequence[Any],
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
    ) -> float:
        if self.temperature is not None:
            return float(self.temperature)
        if not self.calibration_images:
            stored: float = classifier.denoiser.card.temperature
            return stored
        counted = np.flatnonzero(weights)  # an image of weight 0 is as good as not there
        count = min(self.calibration_images, len(counted))
        chosen = counted[np.linspace(0, len(counted) - 1, count).round().astype(int)]
        scores = score_matrix(classifier.scores(method, [images[i] for i in chosen]))
        return fit_temperature(scores, codes[chosen], _dimensions(classifier), weights[chosen])

    def __getstate__(self) -> dict[str, Any]:
        # encoded prompts are made again from the texts
        return {k: v for k, v in super().__getstate__().items() if k != "_method"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_prompts" in state:
            self._method = self._classifier.method(self._prompts)

    def _scores(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self)
        return score_matrix(self._classifier.scores(self._method, table_images(X)))

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """(n, K) scores, minus the mean errors; for two classes (n,), second minus first."""
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """(n, K) logarithms of `predict_proba`, finite where a probability underflows."""
        scores = self._scores(X)
        return log_posterior(scores, _dimensions(self._classifier) / self.temperature_)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(n, K) posterior probabilities of ``classes_``; rows sum to 1."""
        return np.asarray(np.exp(self.predict_log_proba(X)))

    def predict(self, X: Any) -> NDArray[Any]:
        """(n,) labels of least mean error."""
        best = self._scores(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy on n images.

        Args:
            X: as in `fit`.
            y: (n,) labels, of the kind of ``classes_``; one that is not among them counts as wrong.
            sample_weight: (n,) weights of the images, 0 or more.

        Raises:
            DataError, UsageError: as `fit`, before an image is scored.
        """
        check_is_fitted(self)
        images, labels = table_images(X), target_labels(y)
        check_same_number(images, labels)
        check_same_kind(labels, self.classes_)
        weights = None if sample_weight is None else check_weights(sample_weight, len(images))
        return float(accuracy_score(labels, self.predict(images), sample_weight=weights))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True  # of paths or images
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags


def _dimensions(classifier: ZeroShotImageClassifier) -> float:
    """Number of dimensions over which errors are averaged: scores times it are summed errors."""
    return float(np.prod(classifier.denoiser.sample_shape))
