"""Prefix cache: the same errors, from fewer computations, in whatever order they are requested."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffcls.diffusion.draws import DrawPlan
from diffcls.models import loading
from diffcls.models.denoiser import Denoiser
from diffcls.scoring import prefix_cache
from diffcls.scoring.scorer import Scorer

B, PROMPTS, DRAWS = 16, [f"a photo of a {digit}." for digit in range(10)], 6
PLAN = DrawPlan(np.linspace(20, 980, DRAWS).astype(np.int64))


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


def scorer_of(model: Denoiser, shared: bool = True, **options: Any) -> Scorer:
    cond = model.encode_prompts(PROMPTS)
    return Scorer(model, cond, PLAN, **{"batch_size": B, **options}, share_prefix=shared)


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


def test_errors_are_those_of_whole_forward_passes(digits: Denoiser, latents: list[Tensor]) -> None:
    plain = array(errors(scorer_of(digits, shared=False), latents, ALL))
    shared = array(errors(scorer_of(digits), latents, ALL))
    np.testing.assert_allclose(shared, plain, rtol=1e-6)


def test_errors_do_not_depend_on_order_memory_or_other_images(
    digits: Denoiser, latents: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = array(errors(scorer_of(digits), latents, ALL))
    shuffled = [ALL[i] for i in np.random.default_rng(0).permutation(len(ALL))]
    assert (array(errors(scorer_of(digits), latents, shuffled)) == expected).all()
    alone = scorer_of(digits)
    one_by_one = {triple: errors(alone, latents, [triple])[triple] for triple in ALL[::7]}
    assert all(one_by_one[triple] == expected[ALL.index(triple)] for triple in one_by_one)
    # without memory beyond one batch, rows are dropped and computed again
    monkeypatch.setattr(prefix_cache, "MAX_BYTES", 0)
    small = scorer_of(digits)
    assert (array(errors(small, latents, shuffled)) == expected).all()
    pool: Any = small._prefixes._pool  # type: ignore[union-attr]
    assert pool.capacity == B + B // 4 < 4 * DRAWS


def test_an_image_is_never_taken_for_another_one_at_its_place_in_memory(
    digits: Denoiser, latents: list[Tensor]
) -> None:
    scorer, expected = scorer_of(digits), errors(scorer_of(digits), latents, ALL)
    for triple in ALL[::3]:
        copy = latents[triple[0]].clone()  # freed at once, and its id is given to the next one
        result = scorer.errors([copy], torch.tensor([triple[1]]), [triple[2]])
        assert result.item() == expected[triple]
        del copy, result


def test_the_prefix_of_a_draw_is_computed_once_for_all_classes(
    digits: Denoiser, latents: list[Tensor]
) -> None:
    scorer = scorer_of(digits)
    rows: list[int] = []
    network: Any = digits.network
    hook = network.conv_in.register_forward_hook(lambda _m, args, _o: rows.append(len(args[0])))
    try:
        errors(scorer, latents[:1], [t for t in ALL if t[0] == 0])
    finally:
        hook.remove()
    # 60 evaluations of 6 draws, in passes of a quarter of the batch, the first with four draws
    passes = [count for count in rows if count == B // 4]
    assert len(passes) == 2 and DRAWS == 6


def test_another_batch_size_starts_another_cache(digits: Denoiser, latents: list[Tensor]) -> None:
    scorer = scorer_of(digits)
    errors(scorer, latents, ALL[:40])
    scorer.batch_size = B // 2  # as where memory does not suffice
    halved = errors(scorer, latents, ALL[:40])
    assert halved == errors(scorer_of(digits, batch_size=B // 2), latents, ALL[:40])


def test_inputs_that_are_repeated_in_single_precision_run_through_the_whole_network(
    latents: list[Tensor],
) -> None:
    half = loading.load("digits", "cpu", torch.bfloat16)
    shared, plain = scorer_of(half), scorer_of(half, shared=False)
    np.testing.assert_allclose(
        list(errors(shared, latents, ALL[:32]).values()),
        list(errors(plain, latents, ALL[:32]).values()),
        rtol=0.05,
    )
    with half.float32():
        assert errors(shared, latents, ALL[:32]) == errors(plain, latents, ALL[:32])
