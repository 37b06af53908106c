"""Prefix cache: the same errors, from fewer computations, in whatever order they are requested."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffcls.diffusion.draws import DrawPlan
from diffcls.models import loading
from diffcls.models.denoiser import Denoiser
from diffcls.models.shared_layers import SharedLayers
from diffcls.scoring import prefix_cache
from diffcls.scoring.scorer import Scorer

B, PROMPTS, DRAWS = 16, [f"a photo of a {digit}." for digit in range(10)], 6
PLAN = DrawPlan(np.linspace(20, 980, DRAWS).astype(np.int64))


@pytest.fixture(autouse=True)
def from_the_first_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_cache, "FIRST_BATCHES", 0)


@pytest.fixture(scope="module")
def digits() -> Denoiser:
    return loading.load("digits")


@pytest.fixture(scope="module")
def latents(digits: Denoiser) -> list[Tensor]:
    g = torch.Generator().manual_seed(1)
    return [torch.randn(digits.sample_shape, generator=g) for _ in range(4)]


Triple = tuple[int, int, int]
ALL: list[Triple] = [
    (image, prompt, draw) for image in range(4) for draw in range(DRAWS) for prompt in range(10)
]


def scorer_of(model: Denoiser, shared: bool = True, batch_size: int = B) -> Scorer:
    cond = model.encode_prompts(PROMPTS)
    return Scorer(model, cond, PLAN, batch_size=batch_size, share_prefix=shared)


@contextmanager
def passes(model: Any) -> Iterator[list[int]]:
    """Rows of each pass of the network's first layer, in the block."""
    rows: list[int] = []
    layer = model.network.conv_in
    convolve = layer._conv_forward

    def counted(x: Tensor, *weights: Any) -> Tensor:
        rows.append(len(x))
        result: Tensor = convolve(x, *weights)
        return result

    layer._conv_forward = counted
    try:
        yield rows
    finally:
        del layer._conv_forward


def errors(scorer: Scorer, latents: list[Tensor], triples: list[Triple]) -> dict[Triple, float]:
    result: dict[Triple, float] = {}
    for first in range(0, len(triples), scorer.batch_size):
        batch = triples[first : first + scorer.batch_size]
        images, prompts, draws = zip(*batch, strict=True)
        x0 = [latents[image] for image in images]
        values = scorer.errors(x0, torch.tensor(prompts), draws).tolist()
        result.update(zip(batch, values, strict=True))
    return result


def array(result: dict[Triple, float]) -> np.ndarray:
    return np.array([result[triple] for triple in ALL])


def test_errors_are_those_of_whole_forward_passes_to_the_bit(
    digits: Denoiser, latents: list[Tensor]
) -> None:
    plain = array(errors(scorer_of(digits, shared=False), latents, ALL))
    with passes(digits) as rows:
        shared = array(errors(scorer_of(digits), latents, ALL))
    assert (shared == plain).all()
    # of 15 batches of 16 rows most pass their images' 24 draws by quarters, and few as a whole
    assert rows.count(B // 4) >= 6 and rows.count(B) <= 3


@pytest.mark.slow
def test_errors_do_not_depend_on_order_or_other_images(
    digits: Denoiser, latents: list[Tensor]
) -> None:
    expected = array(errors(scorer_of(digits), latents, ALL))
    shuffled = [ALL[i] for i in np.random.default_rng(0).permutation(len(ALL))]
    # more images and draws than fit: most batches are computed as a whole, others not
    assert (array(errors(scorer_of(digits), latents, shuffled)) == expected).all()
    by_prompt = sorted(ALL, key=lambda triple: (triple[1], triple[0], triple[2]))
    assert (array(errors(scorer_of(digits), latents, by_prompt)) == expected).all()
    alone = scorer_of(digits)
    for triple in ALL[::7]:
        assert errors(alone, latents, [triple])[triple] == expected[ALL.index(triple)]


def test_an_image_is_never_taken_for_another_one_at_its_place_in_memory(
    digits: Denoiser, latents: list[Tensor]
) -> None:
    scorer, expected = scorer_of(digits), errors(scorer_of(digits), latents, ALL)
    for triple in ALL[::3]:
        copy = latents[triple[0]].clone()  # freed at once, so that its id may be given again
        result = scorer.errors([copy], torch.tensor([triple[1]]), [triple[2]])
        assert result.item() == expected[triple]
        del copy, result


def test_the_prefix_of_a_draw_is_computed_once_for_all_classes(
    digits: Denoiser, latents: list[Tensor]
) -> None:
    scorer = scorer_of(digits)
    errors(scorer, latents, [t for t in ALL if t[0] == 0])  # layers are found and compared
    with passes(digits) as rows:
        errors(scorer, latents, [t for t in ALL if t[0] == 1])
    # 60 evaluations of 6 draws, in passes of four draws; later draws fill the first
    assert rows == [B // 4, B // 4]


def raise_interrupt(*_: Any) -> bool:
    raise KeyboardInterrupt


def test_a_pass_that_is_interrupted_leaves_no_wrong_rows(
    digits: Denoiser, latents: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = errors(scorer_of(digits), latents, ALL)
    scorer = scorer_of(digits)
    with monkeypatch.context() as patch:
        patch.setattr(prefix_cache.PrefixCache, "_is_exact", raise_interrupt)
        with pytest.raises(KeyboardInterrupt):
            errors(scorer, latents, ALL[:B])
    cache: Any = scorer._prefixes
    assert not cache._compared  # the next batch is compared
    for method in ("compute", "put"):
        owner = cache._layers if method == "compute" else cache._pool
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, raise_interrupt)
            with pytest.raises(KeyboardInterrupt):
                errors(scorer, latents, ALL[60 : 60 + B])
    for first in range(0, len(ALL), B):
        part = errors(scorer, latents, ALL[first : first + B])
        assert part == {triple: expected[triple] for triple in part}


def test_nothing_is_shared_where_bits_depend_on_the_rows_of_a_pass(
    digits: Denoiser, latents: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = array(errors(scorer_of(digits, shared=False), latents, ALL))
    compute = SharedLayers.compute

    def inexact(self: SharedLayers, x_t: Tensor, *rest: Any) -> list[Any]:
        outputs = compute(self, x_t, *rest)
        if len(x_t) == B // 4:  # the last bit of one value, as of another kernel
            value = outputs[2][1, 0, 0, 0]
            outputs[2][1, 0, 0, 0] = torch.nextafter(value, value + 1)
        return outputs

    monkeypatch.setattr(SharedLayers, "compute", inexact)
    scorer = scorer_of(digits)
    with passes(digits) as rows:
        assert (array(errors(scorer, latents, ALL)) == plain).all()
    assert rows.count(B // 4) == 1  # the one that was compared


def test_a_short_run_looks_for_no_shared_layers(
    digits: Denoiser, latents: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_cache, "FIRST_BATCHES", 3)
    scorer = scorer_of(digits)
    with passes(digits) as rows:
        errors(scorer, latents, ALL[: 3 * B])
    assert rows == [B, B, B]


def test_another_batch_size_starts_another_cache(digits: Denoiser, latents: list[Tensor]) -> None:
    scorer = scorer_of(digits)
    errors(scorer, latents, ALL[:40])
    scorer.batch_size = B // 2  # as where memory does not suffice
    halved = errors(scorer, latents, ALL[:40])
    assert halved == errors(scorer_of(digits, False, B // 2), latents, ALL[:40])


def test_inputs_that_are_repeated_in_single_precision_run_through_the_whole_network(
    latents: list[Tensor],
) -> None:
    half = loading.load("digits", "cpu", torch.bfloat16)
    shared, plain = scorer_of(half), scorer_of(half, shared=False)
    assert errors(shared, latents, ALL[:32]) == errors(plain, latents, ALL[:32])
    with half.float32():
        assert errors(shared, latents, ALL[:32]) == errors(plain, latents, ALL[:32])
