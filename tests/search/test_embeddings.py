"""Errors and gradients between the prompts: closed forms, finite differences, invariance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from helpers.fake_cuda import INDICES, PROMPTS, on_fake_cuda
from helpers.tiny_families import FAMILIES, loaded, saved
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diffcls.data.prompts import PromptSet
from diffcls.diffusion.draws import DrawPlan, noise
from diffcls.diffusion.parameterization import PARAMETERIZATIONS
from diffcls.models import loading
from diffcls.models.denoiser import Conditioning, Denoiser
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.scoring.scorer import GRADIENT_BATCH_PARTS, Scorer, Scoring
from diffcls.search.clustering import COLUMNS_PER_CHUNK, class_distances
from diffcls.search.embeddings import (
    MAX_CACHED_POINTS,
    PROMPTS_PER_CHUNK,
    Points,
    class_embeddings,
    embeddings,
)
from diffcls.support.errors import UsageError

Pipelines = Callable[[str], Path]
B, SCALE, SHAPE = 8, 0.4, (3, 4, 4)
# three classes of one, two and three prompts, not in order
OF_CLASS = (2, 0, 1, 2, 1, 2)
NAMES = [f"prompt {row}" for row in range(len(OF_CLASS))]
SET = PromptSet(("a", "b", "c"), tuple(NAMES), OF_CLASS)


def gaussian(shape: tuple[int, int, int] = SHAPE, **options: Any) -> GaussianDenoiser:
    rng = torch.Generator().manual_seed(0)
    means = {name: torch.randn(shape, generator=rng) for name in NAMES}
    return GaussianDenoiser(means, SCALE, **options)


def latents(count: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(3))


def scorer_of(model: Denoiser, prompts: tuple[str, ...], **options: Any) -> Scorer:
    cond = model.encode_prompts(prompts)
    return Scorer(model, cond, DrawPlan(INDICES), **{"batch_size": B, **options})


@pytest.fixture(scope="module")
def v_model(tiny_pipeline: Pipelines) -> Denoiser:
    return loading.load(str(tiny_pipeline("v_prediction")))


# ---- slopes ------------------------------------------------------------------------------------


def closed_form(
    model: GaussianDenoiser, x0: Tensor, mean: Tensor, draw: int
) -> tuple[Tensor, Tensor]:
    """e = ‖ε̂ − ε‖²/D and ∂e/∂μ = 2(ε̂ − ε)·(−σα/v)/D, with ε̂ = σ(x_t − αμ)/v, v = α²s² + σ²."""
    alpha, sigma = (float(g[INDICES[draw]]) for g in (model.schedule.alpha, model.schedule.sigma))
    eps, x0, mean = noise(0, draw, x0.shape).double(), x0.double(), mean.double()
    v = alpha**2 * SCALE**2 + sigma**2
    residual = sigma * (alpha * x0 + sigma * eps - alpha * mean) / v - eps
    return (residual**2).mean(), -2 * residual * sigma * alpha / v / residual.numel()


@pytest.mark.parametrize("prediction_type", PARAMETERIZATIONS)
def test_slopes_of_a_gaussian_are_its_closed_form(prediction_type: str) -> None:
    model = gaussian(prediction_type=prediction_type)
    scorer, x0 = scorer_of(model, tuple(NAMES)), latents(5)
    points = Conditioning({"mean": latents(5) * 0.7})
    draws = [0, 6, 2, 3, 1]
    errors, gradients = scorer.gradients(x0, points, draws)
    assert list(gradients) == ["mean"] and gradients["mean"].shape == (5, *SHAPE)
    assert gradients["mean"].dtype == errors.dtype == torch.float32
    assert not errors.requires_grad and not gradients["mean"].requires_grad
    for i, draw in enumerate(draws):
        error, slope = closed_form(model, x0[i], points["mean"][i], draw)
        # float32 in a subtraction of numbers about 1; at the first timesteps ε̂ is divided by σ
        torch.testing.assert_close(errors[i].double(), error, rtol=1e-4, atol=1e-5)
        scale = float(slope.abs().max())
        torch.testing.assert_close(
            gradients["mean"][i].double(), slope, rtol=1e-4, atol=1e-4 * scale
        )


@pytest.mark.parametrize("loss", ["l2", "l1", "huber"])
def test_slopes_of_a_network_are_differences_of_errors(v_model: Denoiser, loss: str) -> None:
    scorer = scorer_of(v_model, tuple(PROMPTS), scoring=Scoring(loss, "snr"))
    x0 = v_model.encode_images(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    x0 = x0.expand(2, -1, -1, -1)
    middle = Conditioning({"text": scorer.cond["text"].mean(dim=0, keepdim=True)})
    for draw in (2, 4, 6):
        _, gradients = scorer.gradients(x0[:1], middle, [draw])
        slope = gradients["text"]
        step = 0.05 * slope / slope.norm()
        ends = Conditioning({"text": torch.cat([middle["text"] + step, middle["text"] - step])})
        ahead, back = scorer.errors_at(x0, ends, [draw, draw]).double().tolist()
        found = (ahead - back) / 0.1
        # along itself a slope is as steep as it is long; the third derivative makes the rest
        assert found == pytest.approx(float(slope.norm()), rel=0.02)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_slopes_in_all_that_it_reads_of_a_prompt(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = loaded(saved(name, tmp_path_factory.getbasetemp()))
    if model.labels is not None:
        with pytest.raises(UsageError, match="class ids"):
            Points(PromptSet.from_templates(["0", "1"], ["{}"]), model.encode_prompts(["0", "1"]))
        return
    prompts = PromptSet.from_templates(PROMPTS, ["{}"])
    scorer = scorer_of(model, prompts.prompts, batch_size=2)
    middle = Points(prompts, scorer.cond).at([(0, 1, 2)])
    x0 = latents(1, model.sample_shape)
    errors, slopes = scorer.gradients(x0, middle, [2])
    alone = scorer_of(model, prompts.prompts, batch_size=1)  # the shape of a part of that batch
    assert torch.equal(errors, alone.errors_at(x0, middle, [2]))
    assert set(slopes) == {name for name, v in middle.items() if v.is_floating_point()}
    for key, slope in slopes.items():
        length = float(slope.norm())
        # a step that changes the error by a thousandth, or as far as it stays a small one
        step = min(1e-3 / length, 0.01 * float(middle[key].norm()))
        ends = [middle[key] + sign * step * slope / length for sign in (1, -1)]
        at = {**middle.rows(torch.tensor([0, 0])), key: torch.cat(ends)}
        ahead, back = scorer.errors_at(x0.expand(2, -1, -1, -1), Conditioning(at), [2, 2]).tolist()
        # curvature, and a few roundings of float32 in each of the two errors
        rounding = 8 * torch.finfo(torch.float32).eps * ahead / (2 * step)
        assert rounding < length / 3
        assert (ahead - back) / (2 * step) == pytest.approx(length, rel=0.05, abs=rounding)


def test_errors_of_slopes_are_those_of_points_and_of_prompts(v_model: Denoiser) -> None:
    scorer = scorer_of(v_model, tuple(PROMPTS))
    x0 = latents(5, v_model.sample_shape)
    rows, draws = torch.tensor([0, 2, 1, 1, 0]), [0, 5, 6, 0, 1]
    expected = scorer.errors(x0, rows, draws)
    at = scorer.cond.rows(rows)
    assert len(expected.unique()) == 5
    assert torch.equal(scorer.errors_at(x0, at, draws), expected)
    # what a backward pass remembers changes no kernel of the forward pass of that shape
    part = scorer_of(v_model, tuple(PROMPTS), batch_size=B // GRADIENT_BATCH_PARTS)
    parts = [
        part.errors_at(x0[here], at.rows(torch.arange(5)[here]), draws[here])
        for here in (slice(0, 2), slice(2, 4), slice(4, 5))
    ]
    assert torch.equal(scorer.gradients(x0, at, draws)[0], torch.cat(parts))


def test_half_precision_does_not_lose_small_slopes() -> None:
    # as large as a latent of Stable Diffusion 3: each value's part in the mean is 4e-6, and the
    # least that half precision holds with all its digits is 6e-5
    shape = (16, 128, 128)
    x0, draws = latents(2, shape), [5, 2]
    whole, half = (
        scorer_of(gaussian(shape, dtype=dtype), tuple(NAMES), batch_size=2)
        for dtype in (torch.float32, torch.float16)
    )
    at = Conditioning({"mean": whole.cond["mean"][:2]})
    _, expected = whole.gradients(x0, at, draws)
    _, found = half.gradients(x0, Conditioning({"mean": at["mean"].half()}), draws)
    for one, two in zip(found["mean"], expected["mean"], strict=True):
        # x_t, the output and its slope are each rounded to 11 bits: 2⁻¹¹ of the largest values
        assert float((one - two).norm() / two.norm()) < 3 * 2**-11


def test_numbers_of_points_beyond_a_batch_are_refused() -> None:
    scorer = scorer_of(gaussian(), tuple(NAMES), batch_size=2)
    three = Conditioning({"mean": torch.zeros(3, *SHAPE)})
    for look in (scorer.gradients, scorer.errors_at):
        with pytest.raises(UsageError, match="1 to 2"):
            look(torch.zeros(3, *SHAPE), three, [0, 0, 0])


# ---- means -------------------------------------------------------------------------------------


def made_cond(dtype: torch.dtype = torch.float32) -> Conditioning:
    rng = torch.Generator().manual_seed(5)
    text = torch.randn(len(NAMES), 4, 5, generator=rng)
    mask = torch.arange(4)[None] <= torch.tensor([0, 2, 1, 3, 0, 2])[:, None]
    pooled = torch.randn(len(NAMES), 7, generator=rng)
    return Conditioning(
        {"text": text.to(dtype), "mask": mask, "tokens": mask.long(), "pooled": pooled.to(dtype)}
    )


def class_means(tensor: Tensor) -> Tensor:
    """(K, ...) float64, one class after the other."""
    of_class = torch.tensor(OF_CLASS)
    return torch.stack([tensor[of_class == k].double().mean(dim=0) for k in range(3)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_point_is_the_mean_of_its_classes_each_counting_alike(dtype: torch.dtype) -> None:
    cond = made_cond(dtype)
    groups = [(0, 1, 2), (1, 2), (0,), (2,)]
    at = Points(SET, cond).at(groups)
    assert at.count == 4 and set(at) == set(cond)
    for name in ("text", "pooled"):
        means = class_means(cond[name])
        expected = torch.stack([means[list(group)].mean(dim=0) for group in groups])
        assert at[name].dtype == dtype and at[name].shape == (4, *cond[name].shape[1:])
        # one rounding to the tensor's own type, and float32's of a few terms
        rounding = torch.finfo(dtype).eps / 2 + 4 * torch.finfo(torch.float32).eps
        torch.testing.assert_close(at[name].double(), expected, rtol=rounding, atol=1e-6)
        assert torch.equal(at[name][2], cond[name][1])  # the one prompt of a class, to the bit


def test_a_mask_lets_through_what_any_of_its_prompts_does() -> None:
    cond = made_cond()
    at = Points(SET, cond).at([(0,), (1,), (0, 1), (2,)])
    reaches = torch.tensor([2, 1, 2, 3])  # the last place that is open
    expected = torch.arange(4)[None] <= reaches[:, None]
    assert torch.equal(at["mask"], expected) and at["mask"].dtype == torch.bool
    assert torch.equal(at["tokens"], expected.long())


def test_means_are_kept_within_bounds_and_the_same_when_made_again() -> None:
    prompts = PromptSet.from_templates([f"{k}" for k in range(MAX_CACHED_POINTS + 9)], ["{}"])
    cond = Conditioning(
        {"text": torch.randn(MAX_CACHED_POINTS + 9, 6, generator=torch.Generator())}
    )
    points = Points(prompts, cond)
    groups = [tuple(range(k + 2)) for k in range(MAX_CACHED_POINTS + 7)]
    first = points.at(groups)["text"]
    assert len(points._cache) == MAX_CACHED_POINTS
    assert torch.equal(points.at(groups[::-1])["text"].flip(0), first)


# ---- first-order errors ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_first_order_errors_are_exact_where_errors_are_linear(dtype: torch.dtype) -> None:
    cond, rng = made_cond(dtype), torch.Generator().manual_seed(9)
    points = Points(SET, cond)
    at = points.at([(0, 1, 2), (1, 2), (0,)])
    slopes = Conditioning(
        {name: torch.randn(at[name].shape, generator=rng) for name in ("text", "pooled")}
    )
    offset = torch.tensor([0.5, -2.0, 3.0])

    def error(where: dict[str, Tensor], i: int) -> Tensor:
        """⟨g, c⟩ + a constant, in double."""
        return offset[i].double() + sum(
            (slopes[name][i].double() * where[name].double()).sum() for name in slopes
        )

    here = torch.stack([error({n: at[n][i] for n in slopes}, i) for i in range(3)]).float()
    found = points.first_order(here, slopes, at)
    assert found.shape == (3, 3) and found.dtype == torch.float32
    means = {name: class_means(cond[name]) for name in slopes}
    for i in range(3):
        expected = [float(error({n: means[n][k] for n in slopes}, i)) for k in range(3)]
        # sums of 27 float32 products of size about 1
        assert found[i].tolist() == pytest.approx(expected, abs=1e-5)


def test_first_order_errors_miss_a_gaussians_own_by_its_curvature() -> None:
    model = gaussian()
    scorer = scorer_of(model, tuple(NAMES))
    points, x0, draw = Points(SET, scorer.cond), latents(1), 3
    at = points.at([(0, 1, 2)])
    errors, slopes = scorer.gradients(x0, at, [draw])
    found = points.first_order(errors, slopes, at)[0]
    alpha, sigma = (float(g[INDICES[draw]]) for g in (model.schedule.alpha, model.schedule.sigma))
    gain = sigma * alpha / (alpha**2 * SCALE**2 + sigma**2)
    # e(μ) is quadratic: its second-order term is (σα/v)²·‖μ − μ̄‖²/D, and there is no third
    mine = class_means(scorer.cond["mean"])
    bend = (gain * (mine - at["mean"].double())).pow(2).mean(dim=(1, 2, 3))
    exact = scorer.errors_at(
        x0.expand(3, -1, -1, -1), Conditioning({"mean": mine.float()}), [3] * 3
    )
    assert float(bend.min()) > 1e-3  # so the term is really needed
    torch.testing.assert_close(found.double() + bend, exact.double(), rtol=1e-5, atol=1e-5)


def test_probes_do_not_depend_on_the_batch_to_the_bit(v_model: Denoiser) -> None:
    prompts = PromptSet.from_templates([f"{k}" for k in range(5)], ["a photo of a {}.", "{}"])
    scorer = scorer_of(v_model, prompts.prompts)
    points = Points(prompts, scorer.cond)
    rng = np.random.default_rng(2)
    x0 = latents(4, v_model.sample_shape)
    groups = [(0, 1, 2, 3, 4), (0, 2), (1, 3, 4), (4,)]
    wanted = [(i, g, d) for i in range(4) for g in range(4) for d in range(2)]

    def look(chosen: list[int]) -> tuple[Tensor, Tensor]:
        """First-order errors and errors of points."""
        image, group, draws = zip(*(wanted[i] for i in chosen), strict=True)
        at = points.at([groups[g] for g in group])
        errors, slopes = scorer.gradients(x0[list(image)], at, draws)
        there = scorer.errors_at(x0[list(image)], at, draws)
        return points.first_order(errors, slopes, at), there

    count = len(wanted)
    whole = [look(list(range(i, i + B))) for i in range(0, count, B)]
    expected = torch.cat([w[0] for w in whole]), torch.cat([w[1] for w in whole])
    assert len(expected[0].unique()) == 5 * count and len(expected[1].unique()) == count
    shuffled = rng.permutation(count).tolist()
    for parts in ([[i] for i in shuffled], [shuffled[:3], shuffled[3:11], shuffled[11:18]]):
        for part in parts:
            for found, known in zip(look(part), expected, strict=True):
                assert torch.equal(found, known[part])


class Largest(TorchDispatchMode):
    """Notes how many values the largest tensor made has, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {t.untyped_storage().data_ptr() for t in tree_leaves(args) if torch.is_tensor(t)}
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if torch.is_tensor(tensor) and tensor.untyped_storage().data_ptr() not in given:
                self.values = max(self.values, tensor.numel())
        return made


def test_no_copy_of_all_prompts_is_made() -> None:
    count, width, looks = 4 * PROMPTS_PER_CHUNK, 1000, 9
    prompts = PromptSet.from_templates([f"{k}" for k in range(count // 2)], ["{}", "a {}"])
    text = torch.randn(count, width).to(torch.bfloat16)
    cond = Conditioning({"text": text})
    with Largest() as largest:
        points = Points(prompts, cond)
        everybody = tuple(range(count // 2))
        at = points.at([everybody] * looks)
        slopes = Conditioning({"text": torch.randn(looks, width)})
        points.first_order(torch.zeros(looks), slopes, at)
    assert 0 < largest.values <= PROMPTS_PER_CHUNK * width < text.numel()
    with Largest() as largest:
        for _ in class_embeddings(prompts, cond, PROMPTS_PER_CHUNK):
            pass
    assert 0 < largest.values <= count * PROMPTS_PER_CHUNK < text.numel()


def test_embeddings_of_classes_are_means_of_their_prompts() -> None:
    cond = made_cond(torch.bfloat16)
    expected = torch.cat([class_means(cond[name]).flatten(1) for name in ("text", "pooled")], dim=1)
    for columns in (1, 3, 100):
        parts = list(class_embeddings(SET, cond, columns))
        assert all(part.dtype == torch.float32 and part.shape[1] <= columns for part in parts)
        found = torch.cat(parts, dim=1)
        torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)


def test_distances_are_those_of_classes_whatever_is_seen_to_at_a_time() -> None:
    cond = made_cond()
    means = torch.cat([class_means(cond[name]).flatten(1) for name in ("text", "pooled")], dim=1)
    found = class_distances(SET, cond)
    assert found.shape == (3, 3) and (found.diagonal() == 0).all()
    np.testing.assert_allclose(found, torch.cdist(means, means).numpy(), rtol=1e-6)
    # wider than what is seen to at a time
    wide = Conditioning({"text": torch.randn(6, 3 * COLUMNS_PER_CHUNK + 5)})
    whole = class_means(wide["text"])
    expected = torch.cdist(whole, whole).numpy()
    np.testing.assert_allclose(class_distances(SET, wide), expected, rtol=1e-5)


def test_class_ids_have_no_means() -> None:
    ids = Conditioning({"label": torch.arange(6)})
    for ask in (embeddings, lambda c: list(class_embeddings(SET, c, 9)), lambda c: Points(SET, c)):
        with pytest.raises(UsageError, match=r"prompts that are texts.*choose --search racing"):
            ask(ids)


# ---- on a device that nobody has ---------------------------------------------------------------


def test_looks_mix_no_devices(tiny_pipeline: Pipelines, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(tiny_pipeline("v_prediction"))
    prompts = PromptSet.from_templates(["one", "two", "three"], ["{}", "a {}"])
    # there is no device to run a backward pass on; all that goes into it is there
    flat = lambda of, leaves: [torch.zeros_like(leaf) for leaf in leaves]  # noqa: E731
    monkeypatch.setattr(torch.autograd, "grad", flat)
    with FakeTensorMode() as mode:
        model = on_fake_cuda(pipe, mode, monkeypatch)
        x0 = model.encode_images(torch.zeros(3, 3, 32, 32))
        cond = model.encode_prompts(prompts.prompts)
        scorer = Scorer(model, cond, DrawPlan(INDICES), batch_size=4)
        points = Points(prompts, cond)
        at = points.at([(0, 1, 2), (0, 2), (1,)])
        errors, slopes = scorer.gradients(x0, at, [0, 5, 1])
        shown = points.first_order(errors, slopes, at)
        there = scorer.errors_at(x0, at, [0, 5, 1])
        assert shown.shape == (3, 3) and there.shape == (3,)
        held = [*at.values(), *slopes.values(), errors, shown, there]
        held += class_embeddings(prompts, cond, 9)
        assert {tensor.device.type for tensor in held} == {"cuda"}
        for left in ("_share", "_class_of"):  # and the check would find a tensor left on the CPU
            with monkeypatch.context() as patch, pytest.raises(RuntimeError, match=r"device|Fake"):
                patch.setattr(points, left, getattr(points, left).cpu())
                points.first_order(errors, slopes, points.at([(0, 1, 2), (0, 2), (1,)]))
