"""Agreement with the library can fail: a wrong sign, time, latent statistic or mask is seen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.library_pipelines import (
    INDICES,
    Folders,
    encoded_by_hand,
    error_by_hand,
    folders,
    images,
    latents_by_hand,
    opened_by_hand,
)
from helpers.references import REFERENCES
from helpers.tiny_families import TEXT, each, loaded
from torch import Tensor

from diffcls.diffusion.draws import DrawPlan
from diffcls.models.denoiser import Conditioning
from diffcls.scoring.scorer import Scorer

__all__ = ["folders"]  # fixture

PROMPTS = ["a photo of a three", "zero"]
TOLERANCE = 1e-5
DRAWS = range(len(INDICES))
BATCH = 8
"""A multiple of what a processor computes at once, with layers as narrow as these: what is left
over is computed by other instructions, with other last bits."""

pytestmark = pytest.mark.parametrize("name", each(TEXT))


def errors_of(model: Any, cond: Conditioning | None = None) -> Tensor:
    """(prompts, draws) errors of one image, by the package."""
    cond = model.encode_prompts(PROMPTS) if cond is None else cond
    scorer = Scorer(model, cond, DrawPlan(INDICES.numpy()), batch_size=4)
    x0 = model.encode_images(images(model, 1)).expand(len(INDICES), -1, -1, -1)
    rows = [torch.full((len(INDICES),), row) for row in range(len(PROMPTS))]
    return torch.stack([scorer.errors(x0, row, DRAWS) for row in rows])


@torch.inference_mode()
def errors_by_hand(model: Any, pipe: Any) -> Tensor:
    """The same, by the library."""
    noise = Scorer(
        model, model.encode_prompts(PROMPTS), DrawPlan(INDICES.numpy()), batch_size=4
    ).noise
    x0 = latents_by_hand(pipe, images(model, 1))
    encoded = encoded_by_hand(pipe, PROMPTS)
    return torch.tensor(
        [
            [
                error_by_hand(pipe, x0, noise[j][None], int(index), cond)
                for j, index in enumerate(INDICES)
            ]
            for cond in ({k: v[row : row + 1] for k, v in encoded.items()} for row in (0, 1))
        ]
    )


def differs(one: Tensor, other: Tensor, times: float) -> bool:
    """Whether some error differs by more than `times` the tolerance of the agreement."""
    return bool(((one - other).abs() > times * TOLERANCE * other.abs().clamp(min=1e-3)).any())


@torch.inference_mode()
def test_errors_agree_and_prompts_differ_by_far_more(folders: Folders, name: str) -> None:
    model = loaded(folders(name))
    theirs = errors_by_hand(model, opened_by_hand(folders(name)))
    torch.testing.assert_close(errors_of(model), theirs, rtol=TOLERANCE, atol=1e-6)
    assert differs(theirs[0], theirs[1], times=100)


@torch.inference_mode()
def test_a_negated_output_is_seen(
    folders: Folders, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(folders(name))
    right, forward = errors_of(model), model._forward
    monkeypatch.setattr(model, "_forward", lambda *inputs: -forward(*inputs))
    assert differs(errors_of(model), right, times=100)


@torch.inference_mode()
def test_reversed_time_is_seen(
    folders: Folders, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(folders(name))
    right = errors_of(model)
    monkeypatch.setattr(model, "_timesteps", model._timesteps.flip(0))
    assert differs(errors_of(model), right, times=100)


@torch.inference_mode()
def test_missing_statistics_of_the_latents_are_seen(
    folders: Folders, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(folders(name))
    if not model.is_latent:
        pytest.skip("a model of pixels has no latents")
    if name in REFERENCES and not REFERENCES[name].scales_latents:
        pytest.skip("the latents of this family are neither shifted nor scaled")
    right = errors_of(model)
    monkeypatch.setattr(model.autoencoder, "_shift", 0.0)
    monkeypatch.setattr(model.autoencoder, "_scale", 1.0)
    assert differs(errors_of(model), right, times=100)


@torch.inference_mode()
def test_a_dropped_mask_is_seen(folders: Folders, name: str) -> None:
    model = loaded(folders(name))
    cond = model.encode_prompts(PROMPTS)
    masks = {k: torch.ones_like(v) for k, v in cond.items() if k.startswith("mask")}
    if not masks:
        pytest.skip("the network of this family reads no mask")
    dropped = Conditioning({**cond, **masks})
    assert differs(errors_of(model, dropped), errors_of(model), times=10)


@torch.inference_mode()
def test_bits_depend_on_neither_order_nor_company_nor_shard(folders: Folders, name: str) -> None:
    model = loaded(folders(name))
    if name not in REFERENCES:
        pytest.skip("the earlier families are tested in tests/conformance")
    texts = [f"a photo of a {'seven ' * k}" for k in range(10)]  # of ten lengths
    x0, plan = model.encode_images(images(model, 2)), DrawPlan(INDICES[1:3].numpy())
    pairs = [(i, p, j) for i in range(2) for p in range(10) for j in range(2)]

    def scored(order: list[int], chosen: list[tuple[int, int, int]]) -> dict[Any, float]:
        cond = model.encode_prompts([texts[p] for p in order])
        scorer = Scorer(model, cond, plan, batch_size=BATCH)
        place = {p: row for row, p in enumerate(order)}
        found: list[float] = []
        for batch in (chosen[k : k + BATCH] for k in range(0, len(chosen), BATCH)):
            rows = torch.tensor([place[p] for _, p, _ in batch])
            x = x0[[i for i, _, _ in batch]]
            found += scorer.errors(x, rows, [j for _, _, j in batch]).tolist()
        return dict(zip(chosen, found, strict=True))

    usual = scored(list(range(10)), pairs)
    shuffled = [pairs[k] for k in torch.randperm(len(pairs), generator=seeded()).tolist()]
    assert scored(torch.randperm(10, generator=seeded()).tolist(), shuffled) == usual
    halves = [scored(list(range(10)), [q for q in pairs if q[0] == i]) for i in range(2)]
    assert halves[0] | halves[1] == usual


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)
