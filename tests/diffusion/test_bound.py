from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence

from diffcls.diffusion import bound
from diffcls.diffusion.process import chain, reverse_variances
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.generation.likelihood import SIMPLE, STEPS, Estimator, estimate
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.support.errors import RecordError, UsageError

S = 0.5
SHAPE = (1, 4, 4)
D = math.prod(SHAPE)


def denoiser(steps: int = 50, prediction_type: str = "epsilon") -> GaussianDenoiser:
    """x0 ~ N(0, S²), in a chain short enough to be summed whole."""
    schedule = NoiseSchedule.linear(steps, 0.1 / steps, 20 / steps)
    return GaussianDenoiser(
        {"": torch.zeros(SHAPE)}, scale=S, schedule=schedule, prediction_type=prediction_type
    )


def exact_variances(schedule: NoiseSchedule) -> np.ndarray:
    """Of p(x_s | x_t) where x0 ~ N(0, S²): β̃ + (weight of x0)²·Var[x0 | x_t]."""
    steps = chain(schedule)
    left = S**2 * schedule.sigma**2 / (schedule.alpha**2 * S**2 + schedule.sigma**2)
    return steps.posterior_variance + steps.of_x0**2 * left


def images(count: int, seed: int = 0) -> tuple[torch.Tensor, list[str]]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(count, *SHAPE, generator=g) * S, [f"image {i}" for i in range(count)]


def found(count: int, model: GaussianDenoiser, **how) -> np.ndarray:
    x0, ids = images(count)
    how = {"decoder": bound.gaussian_decoder, "levels": 10**6, **how}
    return estimate(model, x0, ids, model.encode_prompts([""]), Estimator(**how))


@functools.cache
def terms_of_all_levels(variance: str) -> np.ndarray:
    """Terms of 3,000 images at every level of the chain."""
    return found(3000, denoiser(), variance=variance)


def negative_log_p(x0: torch.Tensor) -> np.ndarray:
    return -norm(0, S).logpdf(x0.double().numpy()).reshape(len(x0), -1).sum(axis=1)


def test_with_the_exact_reverse_step_the_bound_is_the_likelihood():
    # true of a chain of any length: of a short one little is left to chance
    schedule = NoiseSchedule.from_betas(np.array([0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.99]))
    model = GaussianDenoiser({"": torch.zeros(1, 64, 64)}, S, schedule)
    x0 = torch.randn(2000, 1, 64, 64, generator=torch.Generator().manual_seed(3)) * S
    ids = [str(i) for i in range(len(x0))]
    variance = exact_variances(schedule)
    how = Estimator(bound.gaussian_decoder, variance, levels=99)
    terms = estimate(model, x0, ids, model.encode_prompts([""]), how)
    gap = bound.bits_per_dim(terms[:, :SIMPLE].sum(axis=1) - negative_log_p(x0), 64 * 64)
    assert gap.std() / math.sqrt(len(gap)) < 5e-4
    assert abs(gap.mean()) < 1e-3


def expected_kl(schedule: NoiseSchedule, variance: np.ndarray) -> np.ndarray:
    """(T − 1,) E[L_{t−1}] of the exact mean with any variance, in nats a dimension."""
    steps = chain(schedule)
    left = S**2 * schedule.sigma**2 / (schedule.alpha**2 * S**2 + schedule.sigma**2)
    # the means differ by (weight of x0)·(x0 − E[x0 | x_t]), whose variance is `left`
    off = steps.of_x0**2 * left
    own = steps.posterior_variance[1:]
    ratio = (own + off[1:]) / variance[1:]
    return 0.5 * (ratio - 1 - np.log(own / variance[1:]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["small", "large"])
def test_fixed_variances_miss_the_likelihood_by_their_own_closed_form(kind):
    model = denoiser()
    variance = reverse_variances(chain(model.schedule), kind)
    terms = terms_of_all_levels(kind)
    expected = D * expected_kl(model.schedule, variance).sum()
    stderr = terms[:, STEPS].std() / math.sqrt(len(terms))
    assert terms[:, STEPS].mean() == pytest.approx(expected, abs=4 * stderr)
    exact = D * expected_kl(model.schedule, exact_variances(model.schedule)).sum()
    assert expected > exact  # neither is exact


@pytest.mark.slow
def test_terms_agree_with_an_independent_integration():
    # one dimension, one image: E over x_t of the divergence, by quadrature
    schedule = NoiseSchedule.linear(20, 0.005, 0.9)
    model = GaussianDenoiser({"": torch.zeros(1, 1, 1)}, scale=S, schedule=schedule)
    steps, x0 = chain(schedule), 0.35
    variance = reverse_variances(steps, "large")
    total = 0.0
    for t in range(1, len(schedule)):
        alpha, sigma, one = schedule.alpha[t], schedule.sigma[t], steps.rows(t)

        def integrand(x_t, alpha=alpha, sigma=sigma, one=one, t=t):
            guess = alpha * S**2 * x_t / (alpha**2 * S**2 + sigma**2)
            q = Normal(one.posterior_mean(x0, x_t), one.posterior_variance**0.5)
            p = Normal(one.posterior_mean(guess, x_t), variance[t] ** 0.5)
            return float(kl_divergence(q, p)) * norm.pdf(x_t, alpha * x0, sigma)

        total += quad(integrand, alpha * x0 - 9 * sigma, alpha * x0 + 9 * sigma)[0]
    count = 4000
    terms = estimate(
        model,
        torch.full((count, 1, 1, 1), x0),
        [str(i) for i in range(count)],
        model.encode_prompts([""]),
        Estimator(bound.gaussian_decoder, "large", levels=99),
    )
    stderr = terms[:, STEPS].std() / math.sqrt(count)
    assert terms[:, STEPS].mean() == pytest.approx(total, abs=4 * stderr)


def test_the_priors_term_is_what_the_end_of_the_chain_still_knows():
    x0 = torch.tensor([[0.35, -1.0], [0.0, 0.5]])
    found = bound.prior_term(x0, 0.6, 0.8)
    expected = kl_divergence(Normal(0.6 * x0, 0.8), Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(found, expected.double())


def test_few_levels_estimate_the_same_sum():
    whole, few = terms_of_all_levels("large"), found(3000, denoiser(), variance="large", levels=7)
    gap = few[:, STEPS] - whole[:, STEPS]
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(len(gap))
    assert few[:, STEPS].std() > whole[:, STEPS].std()  # and the standard error says so


def test_parts_of_the_chain_make_the_estimate_steadier_than_free_draws():
    values = np.linspace(3.0, 0.0, 100) ** 2
    total = values[1:].sum()
    estimates = []
    for seed in range(400):
        index, weight = bound.stratified(100, 8, np.random.default_rng(seed))
        assert weight.sum() == 99
        estimates.append((values[index] * weight).sum())
    free = np.random.default_rng(0).choice(values[1:], (400, 8)).mean(axis=1) * 99
    assert np.mean(estimates) == pytest.approx(total, rel=0.02)
    assert np.std(estimates) < 0.4 * np.std(free)


def test_all_levels_leave_nothing_to_chance():
    index, weight = bound.stratified(30, 500, np.random.default_rng(0))
    np.testing.assert_array_equal(index, np.arange(1, 30))
    np.testing.assert_array_equal(weight, 1)


def test_an_images_bound_depends_on_neither_batch_nor_company():
    model = denoiser()
    x0, ids = images(9)
    cond = model.encode_prompts([""])
    how = Estimator(bound.gaussian_decoder, levels=5, batch_size=16)
    whole = estimate(model, x0, ids, cond, how)
    order = [4, 0, 8]
    part = estimate(model, x0[order], [ids[i] for i in order], cond, how)
    np.testing.assert_array_equal(part, whole[order])


def test_l_simple_is_the_mean_square_of_the_noises_residual():
    # E‖ε − E[ε | x_t]‖² = 1 − σ²/(α²S² + σ²) a dimension
    s = denoiser().schedule
    expected = (1 - s.sigma**2 / (s.alpha**2 * S**2 + s.sigma**2)).mean()
    assert terms_of_all_levels("large")[:, SIMPLE].mean() == pytest.approx(expected, rel=0.02)


def grid(bins: int = 256) -> torch.Tensor:
    return torch.arange(bins, dtype=torch.float64) / (bins - 1) * 2 - 1


@pytest.mark.parametrize("scale", [0.002, 0.05, 3.0])
@pytest.mark.parametrize("mean", [-1.2, 0.0, 0.31, 1.0])
def test_the_discretised_decoder_is_a_distribution(mean, scale):
    values = grid()
    nats = bound.discretised_decoder()(
        values, torch.full_like(values, mean), torch.full_like(values, scale**2)
    )
    assert float((-nats).exp().sum()) == pytest.approx(1.0, abs=1e-12)


def test_the_discretised_decoder_holds_the_mass_between_middles():
    values, half = grid(), 1 / 255
    nats = bound.discretised_decoder()(values, torch.tensor(0.1), torch.tensor(0.01))
    edges = np.concatenate([[-np.inf], values.numpy()[:-1] + half, [np.inf]])
    mass = np.diff(norm(0.1, 0.1).cdf(edges))
    inside = slice(40, 220)  # where a difference of two cumulatives still has its digits
    np.testing.assert_allclose(np.exp(-nats.numpy())[inside], mass[inside], rtol=1e-6)


def test_the_discretised_decoder_stays_finite_far_from_its_mean():
    values = grid()
    for mean in (-1.0, 1.0):
        nats = bound.discretised_decoder()(values, torch.tensor(mean), torch.tensor(1e-4))
        assert torch.isfinite(nats).all()
    # ten standard deviations off: ½·(d/s)² and a little
    far = bound.discretised_decoder()(torch.tensor(0.0), torch.tensor(-0.1), torch.tensor(1e-4))
    near = 0.5 * ((0.1 - 1 / 255) / 0.01) ** 2
    assert near < float(far) < near + 5


def test_images_of_two_values_have_two_masses():
    values = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    nats = bound.discretised_decoder(2)(values, torch.tensor(0.5), torch.tensor(1.0))
    np.testing.assert_allclose((-nats).exp().numpy(), [norm.cdf(-0.5), norm.cdf(0.5)])
    with pytest.raises(UsageError, match="bins"):
        bound.discretised_decoder(1)


def test_bits_per_dim_of_uniform_bytes_are_eight():
    assert bound.bits_per_dim(3 * 784 * math.log(256), 3 * 784) == pytest.approx(8.0)


def test_the_divergence_agrees_with_torchs():
    g = torch.Generator().manual_seed(0)
    m, mp = torch.randn(2, 50, generator=g)
    v, vp = torch.rand(2, 50, generator=g) + 0.1
    theirs = kl_divergence(Normal(m, v.sqrt()), Normal(mp, vp.sqrt()))
    torch.testing.assert_close(bound.gaussian_kl(m, v, mp, vp), theirs, rtol=1e-4, atol=1e-5)


def test_a_summary_adds_its_terms_up():
    terms = np.array([[1.0, 10.0, 5.0, 0.3], [3.0, 14.0, 7.0, 0.5]])
    found = bound.summarise(terms, 4)
    assert (found.prior, found.steps, found.decoder, found.simple) == (2.0, 12.0, 6.0, 0.4)
    assert found.mean == pytest.approx(20 / (4 * math.log(2)))
    assert found.stderr == pytest.approx(4 / (4 * math.log(2)))  # (24 − 16)/√2/√2


def test_an_image_that_is_not_finite_is_named():
    model = denoiser()
    x0, ids = images(3)
    x0[1] = torch.nan
    with pytest.raises(RecordError, match="image 1"):
        estimate(
            model, x0, ids, model.encode_prompts([""]), Estimator(bound.gaussian_decoder, levels=3)
        )


def test_no_level_is_too_few():
    with pytest.raises(UsageError, match="levels"):
        Estimator(bound.gaussian_decoder, levels=0)
