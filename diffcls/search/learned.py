"""Learned screening: amortised prediction of all errors, then looks at promising classes.

Two probes at the mean prompt give the network's features and first-order errors of an image. From
these a regression, fitted without labels on errors of other images, predicts the errors of all
classes (`diffcls.search.error_prediction`). Then single classes are measured on one draw, those of
the lowest confidence bound first, and every measurement corrects the prediction of similar classes
(`diffcls.search.belief`). It ends when no other class is within `caution` standard deviations of
the best one, and the best measured classes race.

`caution` is calibrated on further unlabelled images, on which all classes have raced: it is the
smallest value with which the winner of racing survives with the stated probability (split
conformal prediction, Vovk et al. 2005, section 4.3; Angelopoulos and Bates 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Conditioning
from diffcls.search.belief import Belief
from diffcls.search.error_prediction import ErrorPredictor
from diffcls.search.racing import Racing, order_in_time
from diffcls.search.screening import (
    EVALUATIONS_PER_GRADIENT_PROBE,
    Probe,
    ScreenedSearch,
    StartScreening,
    last_differences,
)
from diffcls.support.errors import UsageError
from diffcls.support.invariants import known
from diffcls.support.types import Float64, Int64

OPTIMISM = 1.0
"""Standard deviations below the mean of the bound by which classes are chosen."""
CLASSES_PER_ROUND = 4
"""Classes measured before the prediction of the others is corrected."""
LOOK_DRAW = 1
"""Draw on which single classes are measured: the second of the nested order, at a quarter of the
time. At low noise the error depends on details of the prompt. Every race evaluates it anyway."""
SECOND_PLACE = 0.4
"""Place of the other probed draw among all draws in order of time, in [0, 1]: at higher noise the
features tell what the image shows."""

SCREEN_SHARE = 0.1
"""Share of the allowed probability of an error that is the screen's. Its promise is met closely; a
race errs far less often than it may."""


@dataclass(frozen=True)
class Learned(ScreenedSearch):
    """A learned screen, then a race; see the module.

    `confidence` covers both: `SCREEN_SHARE` of the allowed probability of an error is the screen's,
    the rest the race's.

    Args:
        looks: classes that are measured one by one, at most.
        fit_images: unlabelled images for the fit and its calibration, at least 50.
        fit_classes: random classes whose errors are measured on each of them, at least 10.
    """

    candidates: int = 10
    looks: int = 128
    fit_images: int = 900
    fit_classes: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("looks", 1), ("fit_images", 50), ("fit_classes", 10)):
            if getattr(self, name) < least:
                raise UsageError(
                    f"{name} out of range", given=getattr(self, name), allowed=f"{least} or more"
                )

    @property
    def screen(self) -> LearnedScreen:
        return LearnedScreen(self.candidates, max(self.looks, self.candidates), self.probed)

    @property
    def race(self) -> Racing:
        allowed = (1 - SCREEN_SHARE) * (1 - self.confidence)
        return Racing(self.draws, 1 - allowed, self.start, self.prior)

    @property
    def allowed_loss(self) -> float:
        """Probability that the screen may lose racing's winner."""
        return SCREEN_SHARE * (1 - self.confidence)

    @property
    def probed(self) -> tuple[int, ...]:
        """The probed draws; single classes are measured on the first one."""
        second = order_in_time(self.draws)[round(SECOND_PLACE * (self.draws - 1))]
        return tuple(dict.fromkeys((min(LOOK_DRAW, self.draws - 1), int(second))))


@dataclass(frozen=True)
class ScreenFit:
    """What a learned screen has fitted for one set of classes.

    Args:
        predictor: prediction of errors.
        embedding: (K, R) of every class, for the belief.
        covariance, noise: of the prediction's residual, see `diffcls.search.belief.Belief`.
        shift: mean of the residual.
        unit: standard deviation of the errors over classes on the first probed draw.
        caution: see the module.
        survival: probability that racing's winner is in the shortlist, from the calibration.
    """

    predictor: ErrorPredictor
    embedding: Float64
    covariance: Float64
    noise: float
    shift: float
    unit: float
    caution: float
    survival: float


@dataclass(frozen=True)
class LearnedScreen:
    """Learned screening.

    Args:
        candidates: maximum length of the shortlist.
        looks: classes measured one by one, at most.
        draws: (D,) probed draws; classes are measured on the first.
        fit: makes or reads the fit; None: the screen can only tell its limits.
    """

    candidates: int
    looks: int
    draws: tuple[int, ...]
    fit: Callable[[], ScreenFit] | None = None

    def prepare(self, prompts: PromptSet, cond: Conditioning) -> StartScreening:
        from diffcls.search.embeddings import embeddings

        embeddings(cond)  # raises for class ids
        if prompts.n_classes <= self.candidates:
            return lambda open_image: AllClasses(prompts.n_classes)
        return lambda open_image: LearnedScreening(self, self.fitted())

    def fitted(self) -> ScreenFit:
        """The fit; it is made when the first image is screened."""
        return known(self.fit)()  # `use_screen` of the classifier sets it

    def limits(self, classes: int) -> tuple[int, int]:
        if classes <= self.candidates:
            return 0, classes
        probes = EVALUATIONS_PER_GRADIENT_PROBE * len(self.draws)
        return probes + min(self.looks, classes), self.candidates


class AllClasses:
    """The screening of no more classes than the shortlist may have: all of them race.

    Args:
        classes: K.
    """

    def __init__(self, classes: int) -> None:
        self.shortlist = np.arange(classes, dtype=np.int64)

    def request(self) -> list[Probe] | None:
        return None

    def receive(self, results: Sequence[NDArray[np.floating]]) -> None:
        """No probe was requested, so there are no results."""

    def deficits(self, leader: int) -> Float64:
        return np.zeros(len(self.shortlist))


class LearnedScreening:
    """Screening of one image.

    Args:
        screen: the options.
        fit: the fit of these classes.
        caution: standard deviations that end it; None: those of the fit.

    Attributes:
        looked: classes in the order in which they were measured.
        counts, margins: number of measured classes after each round, and the belief's margin.
    """

    def __init__(self, screen: LearnedScreen, fit: ScreenFit, caution: float | None = None) -> None:
        self._screen, self._fit = screen, fit
        self._caution = fit.caution if caution is None else caution
        self._classes = len(fit.embedding)
        self.shortlist: Int64 = np.arange(self._classes, dtype=np.int64)
        self.looked: list[int] = []
        self.counts: list[int] = []
        self.margins: list[float] = []
        self._belief: Belief | None = None
        self._next: Int64 = np.empty(0, np.int64)
        self._finished = False

    def request(self) -> list[Probe] | None:
        if self._finished:
            return None
        if self._belief is None:
            return [
                Probe(tuple(self.shortlist.tolist()), draw, gradient=True, features=True)
                for draw in self._screen.draws
            ]
        draw = self._screen.draws[0]
        return [Probe((k,), draw, gradient=False, reuse=True) for k in self._next.tolist()]

    def receive(self, results: Sequence[NDArray[np.floating]]) -> None:
        if self._belief is None:
            self._belief = self._prediction(np.stack(results))
        else:
            for k, error in zip(self._next.tolist(), results, strict=True):
                self._belief.measure(k, float(error) / self._fit.unit - self._level)
                self.looked.append(k)
            self.counts.append(len(self.looked))
            self.margins.append(self._belief.margin())
        left = self._screen.looks - len(self.looked)
        enough = len(self.looked) >= self._screen.candidates
        if left <= 0 or (enough and self.margins[-1] > self._caution):
            self._end(self._belief)
            return
        self._next = self._belief.most_promising(min(left, CLASSES_PER_ROUND), OPTIMISM)
        if not len(self._next):
            self._end(self._belief)

    def deficits(self, leader: int) -> Float64:
        belief = known(self._belief)
        believed = np.where(np.isnan(belief.errors), belief.mean, belief.errors)
        return last_differences([believed * self._fit.unit], self.shortlist, leader)

    def _prediction(self, results: NDArray[np.floating]) -> Belief:
        """The belief before any class is measured; results (D, K + F)."""
        first_order = results[:, : self._classes].astype(np.float32)
        features = results[:, self._classes :]
        # the expansion is linear: at the mean of all classes it is the mean of its values
        at_mean = first_order.mean(axis=1, dtype=np.float64).astype(np.float32)
        self._level = float(at_mean[0]) / self._fit.unit
        mean = self._fit.predictor.errors(features.ravel(), first_order, at_mean)
        mean = mean + self._fit.shift
        return Belief(mean, self._fit.embedding, self._fit.covariance, self._fit.noise)

    def _end(self, belief: Belief) -> None:
        """Keep the best measured classes."""
        order = np.argsort(np.where(np.isnan(belief.errors), np.inf, belief.errors), kind="stable")
        kept = order[: min(self._screen.candidates, len(self.looked))]
        self.shortlist = np.sort(kept).astype(np.int64)
        self._finished = True
