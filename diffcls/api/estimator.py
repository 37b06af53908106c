"""Estimator of scikit-learn's interface around the diffusion classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from diffcls.api.inputs import as_list
from diffcls.api.zero_shot import ZeroShotImageClassifier, score_matrix
from diffcls.data.prompts import check_labels
from diffcls.metrics.calibration import fit_temperature, posterior
from diffcls.support.errors import DataError


class DiffusionClassifier(ClassifierMixin, BaseEstimator):
    """A zero-shot classifier with scikit-learn's interface.

    ``fit`` trains no weights: it records the classes and, with `calibration_images`, fits the
    temperature of the posterior (temperature scaling). A fitted estimator is pickled without the
    model's weights, and loads them again.

    Args:
        model: a bundled name, or a diffusers pipeline folder.
        class_names: (K,) name of each class of ``classes_``, in their order; default: the labels
            as text.
        template: prompt template, a text with one ``{}``.
        search, draws, confidence: see `diffcls.search`; None: the search's default.
        seed: seed of the noise.
        calibration_images: number of the images given to ``fit``, evenly spread, on which the
            temperature is fitted; 0: the temperature in the model's card.
        batch_size, device, dtype: see `diffcls.ZeroShotImageClassifier.from_pretrained`.

    Attributes:
        classes_: (K,) sorted labels.
        temperature_: scores, summed over dimensions, are divided by it.
    """

    def __init__(
        self,
        *,
        model: str = "digits",
        class_names: Sequence[str] | None = None,
        template: str = "a photo of a {}.",
        search: str = "racing",
        draws: int | None = None,
        confidence: float | None = None,
        seed: int = 0,
        calibration_images: int = 0,
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
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype

    def fit(self, X: Any, y: Any) -> DiffusionClassifier:
        """Record the classes of `y` and the temperature.

        Args:
            X: n images: a list, series or column of what `diffcls.ZeroShotImageClassifier` takes,
                or an array (n, H, W), (n, H, W, 3) or (n, 3, H, W).
            y: (n,) labels.

        Raises:
            DataError: for labels that differ in number from the images or the class names. It is a
                ValueError.
        """
        images, labels = as_list(X), _labels(y)
        if len(images) != len(labels):
            raise DataError("images and labels differ in number", given=(len(images), len(labels)))
        self.classes_, codes = np.unique(labels, return_inverse=True)
        names = [str(c) for c in self.classes_] if self.class_names is None else self.class_names
        if len(names) != len(self.classes_):
            raise DataError(
                "class_names do not match the labels",
                given=list(names),
                allowed=f"{len(self.classes_)} names, for {list(self.classes_)}",
            )
        options: dict[str, Any] = {"draws": self.draws, "confidence": self.confidence}
        self._classifier = ZeroShotImageClassifier.from_pretrained(
            self.model,
            device=self.device,
            dtype=self.dtype,
            search=self.search,
            seed=self.seed,
            batch_size=self.batch_size,
            **{name: value for name, value in options.items() if value is not None},
        )
        self._prompts = self._classifier.prompts(check_labels(names), [self.template])
        self._method = self._classifier.method(self._prompts)
        self.temperature_ = self._fit_temperature(images, codes)
        return self

    def __getstate__(self) -> dict[str, Any]:
        # encoded prompts are made again from the texts
        return {k: v for k, v in super().__getstate__().items() if k != "_method"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_prompts" in state:
            self._method = self._classifier.method(self._prompts)

    def _fit_temperature(self, images: Sequence[Any], codes: NDArray[np.int64]) -> float:
        stored: float = self._classifier.denoiser.card.temperature
        if self.calibration_images <= 0:
            return stored
        count = min(self.calibration_images, len(images))
        chosen = np.linspace(0, len(images) - 1, count).round().astype(int)
        scores = self._scores([images[i] for i in chosen])
        return float(fit_temperature(scores, codes[chosen], self._method.likelihood_scale * stored))

    def _scores(self, images: Sequence[Any]) -> NDArray[np.float64]:
        return score_matrix(self._classifier.scores(self._method, images))

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """(n, K) scores, minus the mean errors; for two classes (n,), second minus first."""
        check_is_fitted(self)
        scores = self._scores(as_list(X))
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(n, K) posterior probabilities of ``classes_``; rows sum to 1."""
        check_is_fitted(self)
        stored = self._classifier.denoiser.card.temperature
        scale = self._method.likelihood_scale * stored / self.temperature_
        return np.asarray(posterior(self._scores(as_list(X)), scale))

    def predict(self, X: Any) -> NDArray[Any]:
        """(n,) labels of least mean error."""
        check_is_fitted(self)
        best: NDArray[Any] = self.classes_[self._scores(as_list(X)).argmax(axis=1)]
        return best

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags


def _labels(y: Any) -> NDArray[Any]:
    if y is None:
        raise DataError("requires y to be passed, but the target y is None")
    labels = np.asarray(y)
    if labels.ndim != 1:
        raise DataError(
            "y has a wrong shape", given=labels.shape, allowed="(n,), a label per image"
        )
    check_classification_targets(labels)
    return labels
