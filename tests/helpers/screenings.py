"""Screenings without a model, driven by synthetic errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st

from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Conditioning
from diffcls.search.clustering import ClassDistances
from diffcls.search.gradient import Gradient, GradientScreening, first_points
from diffcls.search.learned import Learned, ScreenFit
from diffcls.search.screening import Probe, Screening
from diffcls.support.types import Float64

SEEDS = st.integers(0, 2**32 - 1)
CLASSES = st.integers(2, 60)
FEWER = settings(max_examples=60)
GRADIENTS = st.builds(
    Gradient,
    draws=st.integers(1, 12),
    candidates=st.integers(1, 8),
    round_draws=st.integers(1, 4),
    place=st.floats(0, 1),
    density=st.floats(0.01, 3),
    shrink=st.floats(0.05, 0.95),
    width=st.floats(0.01, 5),
)
LEARNED = st.builds(
    Learned, draws=st.integers(1, 12), candidates=st.integers(1, 8), looks=st.integers(1, 40)
)

Results = Callable[[Probe], np.ndarray]


def drive(screening: Screening, results: Results) -> list[Probe]:
    """Run a screening to its end and return its probes; invariants are checked on the way."""
    probes_so_far: list[Probe] = []
    before = set(screening.shortlist.tolist())
    while (probes := screening.request()) is not None:
        assert probes, "an empty request would never end"
        assert len(set(probes)) == len(probes), "a probe is requested twice"
        for probe in probes:
            assert probe.members == tuple(sorted(set(probe.members)))
            assert before.issuperset(probe.members), "an eliminated class is probed"
        screening.receive([results(probe) for probe in probes])
        probes_so_far += probes
        alive = screening.shortlist.tolist()
        assert alive == sorted(set(alive)) and before.issuperset(alive)
        before = set(alive)
    assert screening.request() is None  # the end is final
    return probes_so_far


def cost(probes: list[Probe]) -> int:
    return sum(probe.evaluations for probe in probes)


def noisy(truth: Float64, seed: int, spread: float) -> Results:
    """Errors of all classes for a gradient probe, else that of the group's best class."""

    def results(probe: Probe) -> np.ndarray:
        rng = np.random.default_rng([seed, probe.draw, *probe.members])
        if probe.gradient:
            return (truth + rng.normal(0, spread, len(truth))).astype(np.float32)
        return np.float32(truth[list(probe.members)].min() + rng.normal(0, spread))  # type: ignore[return-value]

    return results


def embeddings(classes: int, seed: int) -> Float64:
    """(K, 3) points, some of them equal."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(classes, 3))
    return points[rng.integers(0, classes, classes)]


def distances(classes: int, seed: int = 0) -> ClassDistances:
    points = embeddings(classes, seed)
    return ClassDistances.from_gram(points @ points.T)


@dataclass(frozen=True)
class Predictor:
    """A stand-in for `ErrorPredictor`: first-order errors with some trust, from 0 to 1."""

    trust: float
    unit: float

    def errors(self, features: np.ndarray, first_order: np.ndarray, at_mean: np.ndarray) -> Float64:
        above = (first_order - at_mean[:, None]).mean(axis=0, dtype=np.float64)
        result: Float64 = self.trust * above / self.unit
        return result


def screen_fit(
    embedding: Float64, trust: float, caution: float, noise: float = 1.0, unit: float = 2.0
) -> ScreenFit:
    """A fit with the prediction of `Predictor`, and a unit covariance along the embedding."""
    covariance, predictor = np.eye(embedding.shape[1]), Predictor(trust, unit)
    return ScreenFit(predictor, embedding, covariance, noise, 0.0, unit, caution, 0.5)  # type: ignore[arg-type]


def start_learned(options: Learned, classes: int, fit: ScreenFit) -> Screening:
    prompts = PromptSet.from_templates([f"{k}" for k in range(classes)], ["{}"])
    cond = Conditioning({"text": torch.zeros(classes, 2)})
    return replace(options.screen, fit=lambda: fit).prepare(prompts, cond)(lambda: None)


def start(options: Gradient | Learned, classes: int, seed: int = 0) -> Screening:
    """A screening; a learned one has a prediction that is useless, or more or less exact."""
    if isinstance(options, Learned):
        rng = np.random.default_rng(seed)
        fit = screen_fit(embeddings(classes, seed), rng.uniform(), rng.choice([0.0, 1.0, np.inf]))
        return start_learned(options, classes, fit)
    among, screen = distances(classes, seed), options.screen
    return GradientScreening(screen, among, first_points(screen, among))
