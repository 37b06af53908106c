"""Mean embeddings and first-order errors: exact where errors are linear, invariant to batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from helpers.fake_cuda import INDICES, on_fake_cuda
from helpers.gaussian_prompts import (
    NAMES,
    OF_CLASS,
    SCALE,
    SET,
    B,
    gaussian,
    latents,
    scorer_of,
)
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diffcls.data.prompts import PromptSet
from diffcls.diffusion.draws import DrawPlan
from diffcls.models import loading
from diffcls.models.denoiser import Conditioning, Denoiser
from diffcls.scoring.scorer import Scorer
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


@pytest.fixture(scope="module")
def v_model(tiny_pipeline: Pipelines) -> Denoiser:
    return loading.load(str(tiny_pipeline("v_prediction")))


# ---- means --------------------------------------------------------------------------------------


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
def test_a_point_is_the_mean_of_its_classes_with_equal_weights(dtype: torch.dtype) -> None:
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_class_of_one_prompt_is_that_prompt_to_the_bit(dtype: torch.dtype) -> None:
    cond = made_cond(dtype)
    (k,) = (k for k in range(3) if OF_CLASS.count(k) == 1)
    row = OF_CLASS.index(k)
    at = Points(SET, cond).at([(k,), (0, 1, 2), (k,)])
    for name, tensor in cond.items():
        assert at[name].dtype == tensor.dtype
        assert torch.equal(at[name][[0, 2]], tensor[[row, row]])


def test_the_error_at_a_class_of_one_prompt_is_that_of_the_prompt(v_model: Denoiser) -> None:
    prompts = PromptSet.from_templates(["a cat", "a dog", "a bird"], ["{}"])
    scorer = scorer_of(v_model, prompts.prompts)
    x0, draws = latents(3, v_model.sample_shape), [1, 5, 2]
    at = Points(prompts, scorer.cond).at([(2,), (0,), (1,)])
    expected = scorer.errors(x0, torch.tensor([2, 0, 1]), draws)
    assert torch.equal(scorer.errors_at(x0, at, draws), expected)


def test_a_mask_is_the_union_of_its_prompts_masks() -> None:
    cond = made_cond()
    at = Points(SET, cond).at([(0,), (1,), (0, 1), (2,)])
    last = torch.tensor([2, 1, 2, 3])  # last position of the mask
    expected = torch.arange(4)[None] <= last[:, None]
    assert torch.equal(at["mask"], expected) and at["mask"].dtype == torch.bool
    assert torch.equal(at["tokens"], expected.long())


def test_cached_means_are_bounded_in_number_and_recomputed_bit_for_bit() -> None:
    prompts = PromptSet.from_templates([f"{k}" for k in range(MAX_CACHED_POINTS + 9)], ["{}"])
    cond = Conditioning(
        {"text": torch.randn(MAX_CACHED_POINTS + 9, 6, generator=torch.Generator())}
    )
    points = Points(prompts, cond)
    groups = [tuple(range(k + 2)) for k in range(MAX_CACHED_POINTS + 7)]
    first = points.at(groups)["text"]
    assert len(points._cache) == MAX_CACHED_POINTS
    assert torch.equal(points.at(groups[::-1])["text"].flip(0), first)


# ---- first-order errors -------------------------------------------------------------------------


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
    result = points.first_order(here, slopes, at)
    assert result.shape == (3, 3) and result.dtype == torch.float32
    means = {name: class_means(cond[name]) for name in slopes}
    for i in range(3):
        expected = [float(error({n: means[n][k] for n in slopes}, i)) for k in range(3)]
        # sums of 27 float32 products of size about 1
        assert result[i].tolist() == pytest.approx(expected, abs=1e-5)


def test_first_order_errors_of_a_gaussian_lack_its_curvature() -> None:
    model = gaussian()
    scorer = scorer_of(model, tuple(NAMES))
    points, x0, draw = Points(SET, scorer.cond), latents(1), 3
    at = points.at([(0, 1, 2)])
    errors, slopes = scorer.gradients(x0, at, [draw])
    result = points.first_order(errors, slopes, at)[0]
    alpha, sigma = (float(g[INDICES[draw]]) for g in (model.schedule.alpha, model.schedule.sigma))
    gain = sigma * alpha / (alpha**2 * SCALE**2 + sigma**2)
    # e(μ) is quadratic: its second-order term is (σα/v)²·‖μ − μ̄‖²/D, and there is no third
    class_mean = class_means(scorer.cond["mean"])
    bend = (gain * (class_mean - at["mean"].double())).pow(2).mean(dim=(1, 2, 3))
    exact = scorer.errors_at(
        x0.expand(3, -1, -1, -1), Conditioning({"mean": class_mean.float()}), [3] * 3
    )
    assert float(bend.min()) > 1e-3  # the term is not negligible
    torch.testing.assert_close(result.double() + bend, exact.double(), rtol=1e-5, atol=1e-5)


def test_probes_do_not_depend_on_the_batch_to_the_bit(v_model: Denoiser) -> None:
    prompts = PromptSet.from_templates([f"{k}" for k in range(5)], ["a photo of a {}.", "{}"])
    scorer = scorer_of(v_model, prompts.prompts)
    points = Points(prompts, scorer.cond)
    rng = np.random.default_rng(2)
    x0 = latents(4, v_model.sample_shape)
    groups = [(0, 1, 2, 3, 4), (0, 2), (1, 3, 4), (4,)]
    probes = [(i, g, d) for i in range(4) for g in range(4) for d in range(2)]

    def evaluate(chosen: list[int]) -> tuple[Tensor, Tensor]:
        """First-order errors and errors of points."""
        image, group, draws = zip(*(probes[i] for i in chosen), strict=True)
        at = points.at([groups[g] for g in group])
        errors, slopes = scorer.gradients(x0[list(image)], at, draws)
        there = scorer.errors_at(x0[list(image)], at, draws)
        return points.first_order(errors, slopes, at), there

    count = len(probes)
    whole = [evaluate(list(range(i, i + B))) for i in range(0, count, B)]
    expected = torch.cat([w[0] for w in whole]), torch.cat([w[1] for w in whole])
    assert len(expected[0].unique()) == 5 * count and len(expected[1].unique()) == count
    shuffled = rng.permutation(count).tolist()
    for parts in ([[i] for i in shuffled], [shuffled[:3], shuffled[3:11], shuffled[11:18]]):
        for part in parts:
            for result, known in zip(evaluate(part), expected, strict=True):
                assert torch.equal(result, known[part])


class Largest(TorchDispatchMode):
    """Records the size of the largest tensor that is allocated; views do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {t.untyped_storage().data_ptr() for t in tree_leaves(args) if torch.is_tensor(t)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if torch.is_tensor(tensor) and tensor.untyped_storage().data_ptr() not in given:
                self.values = max(self.values, tensor.numel())
        return result


def test_prompts_are_never_copied_as_a_whole() -> None:
    count, width, probes = 4 * PROMPTS_PER_CHUNK, 1000, 9
    prompts = PromptSet.from_templates([f"{k}" for k in range(count // 2)], ["{}", "a {}"])
    text = torch.randn(count, width).to(torch.bfloat16)
    cond = Conditioning({"text": text})
    with Largest() as largest:
        points = Points(prompts, cond)
        all_classes = tuple(range(count // 2))
        at = points.at([all_classes] * probes)
        slopes = Conditioning({"text": torch.randn(probes, width)})
        points.first_order(torch.zeros(probes), slopes, at)
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
        result = torch.cat(parts, dim=1)
        torch.testing.assert_close(result.double(), expected, rtol=1e-6, atol=1e-6)


def test_distances_are_those_of_class_embeddings_in_any_number_of_chunks() -> None:
    cond = made_cond()
    means = torch.cat([class_means(cond[name]).flatten(1) for name in ("text", "pooled")], dim=1)
    result = class_distances(SET, cond).between(range(3), range(3))
    assert result.shape == (3, 3) and (result.diagonal() == 0).all()
    np.testing.assert_allclose(result, torch.cdist(means, means).numpy(), rtol=1e-6)
    # wider than a chunk
    wide = Conditioning({"text": torch.randn(6, 3 * COLUMNS_PER_CHUNK + 5)})
    whole = class_means(wide["text"])
    expected = torch.cdist(whole, whole).numpy()
    result = class_distances(SET, wide).between(range(3), range(3))
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_class_ids_have_no_means() -> None:
    ids = Conditioning({"label": torch.arange(6)})
    for function in (
        embeddings,
        lambda c: list(class_embeddings(SET, c, 9)),
        lambda c: Points(SET, c),
    ):
        with pytest.raises(UsageError, match=r"needs text prompts.*choose --search racing"):
            function(ids)


# ---- on a device that knows only shapes ---------------------------------------------------------


def test_probes_mix_no_devices(tiny_pipeline: Pipelines, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(tiny_pipeline("v_prediction"))
    prompts = PromptSet.from_templates(["one", "two", "three"], ["{}", "a {}"])
    # the fake device cannot run a backward pass; its inputs are checked
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
        expanded = points.first_order(errors, slopes, at)
        there = scorer.errors_at(x0, at, [0, 5, 1])
        assert expanded.shape == (3, 3) and there.shape == (3,)
        tensors = [*at.values(), *slopes.values(), errors, expanded, there]
        tensors += class_embeddings(prompts, cond, 9)
        assert {tensor.device.type for tensor in tensors} == {"cuda"}
        for left in ("_share", "_class_of"):  # a tensor left on the CPU is detected
            with monkeypatch.context() as patch, pytest.raises(RuntimeError, match=r"device|Fake"):
                patch.setattr(points, left, getattr(points, left).cpu())
                points.first_order(errors, slopes, points.at([(0, 1, 2), (0, 2), (1,)]))
