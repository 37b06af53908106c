"""Features of a probe: means of block outputs, beside the same errors, in any batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.fake_cuda import INDICES, PROMPTS
from helpers.gaussian_prompts import NAMES, gaussian, latents, scorer_of
from torch import Tensor

from diffcls.diffusion.draws import noise
from diffcls.models import loading
from diffcls.models.denoiser import Conditioning, Denoiser
from diffcls.models.unet_features import blocks, of_image
from diffcls.scoring import network_features
from diffcls.scoring.network_features import NetworkFeatures
from diffcls.scoring.scorer import Scorer

Pipelines = Callable[[str], Path]
DRAWS = [0, 5, 2, 6, 1, 3, 4]


@pytest.fixture(scope="module")
def model(tiny_pipeline: Pipelines) -> Denoiser:
    return loading.load(str(tiny_pipeline("v_prediction")))


def probes(scorer: Scorer, x0: Tensor, rows: list[int]) -> list[Tensor]:
    """Errors, gradients and features of some rows, each at its own point and draw."""
    at = Conditioning({"text": scorer.cond["text"][[row % 3 for row in rows]]})
    draws = [DRAWS[row] for row in rows]
    errors, gradients, features = scorer.gradients_and_features(x0[rows], at, draws)
    assert list(gradients) == ["text"]
    return [errors, gradients["text"], features]


def test_features_are_means_of_the_prediction_and_of_all_blocks(model: Denoiser) -> None:
    assert model.network is not None
    scorer = scorer_of(model, tuple(PROMPTS))
    x0 = latents(2, model.sample_shape)
    at = Conditioning({"text": scorer.cond["text"][:2]})
    *_, features = scorer.gradients_and_features(x0, at, [5, 2])
    kept: list[Tensor] = []
    hooks = [
        block.register_forward_hook(lambda _, given, out: kept.append(of_image(out).double()))
        for block in blocks(model.network).values()
    ]
    index = torch.tensor([INDICES[5], INDICES[2]])
    alpha, sigma = (
        torch.tensor(g[index.numpy()]).view(-1, 1, 1, 1)
        for g in (model.schedule.alpha, model.schedule.sigma)
    )
    eps = torch.stack([noise(0, draw, x0[0].shape) for draw in (5, 2)])
    with torch.no_grad():
        out = model.predict((alpha * x0 + sigma * eps).float(), index, at)
    for hook in hooks:
        hook.remove()

    def means(maps: Tensor, cells: int) -> Tensor:
        """(B, C·cells²): the mean over each of cells × cells equal parts."""
        batch, channels, height, width = maps.shape
        side = (height // cells, width // cells)
        parts = maps.reshape(batch, channels, cells, side[0], cells, side[1])
        return parts.mean(dim=(3, 5)).flatten(1)

    side = min(8, *out.shape[2:])
    expected = means(out.double(), side)
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(features[:, : expected.shape[1]].double(), expected, **close)
    # 4 parts of each channel of each block follow
    channels = [m.shape[1] for m in kept]
    assert features.shape == (2, expected.shape[1] + 4 * sum(channels))
    parts = features[:, expected.shape[1] :].split([4 * count for count in channels], dim=1)
    compared = 0
    for part, m in zip(parts, kept, strict=True):
        if m.shape[2] % 2 == 0:
            torch.testing.assert_close(part.double(), means(m, 2), **close)
            compared += 1
    assert compared >= 2


def test_errors_and_gradients_are_those_without_features(model: Denoiser) -> None:
    scorer, x0 = scorer_of(model, tuple(PROMPTS)), latents(5, model.sample_shape)
    errors, gradients, _ = probes(scorer, x0, [0, 1, 2, 3, 4])
    at = Conditioning({"text": scorer.cond["text"][[0, 1, 2, 0, 1]]})
    plain, slopes = scorer.gradients(x0, at, DRAWS[:5])
    assert torch.equal(errors, plain) and torch.equal(gradients, slopes["text"])
    # no hook is left behind
    assert model.network is not None
    assert not any(module._forward_hooks for module in model.network.modules())


def test_features_do_not_depend_on_the_batch_to_the_bit(model: Denoiser) -> None:
    scorer, x0 = scorer_of(model, tuple(PROMPTS)), latents(7, model.sample_shape)
    expected = probes(scorer, x0, [*range(7)])
    assert len(expected[2].unique(dim=0)) == 7
    for rows in ([6, 5, 4, 3, 2, 1, 0], [3], [5, 0], [1, 1, 4]):
        for result, whole in zip(probes(scorer, x0, rows), expected, strict=True):
            assert torch.equal(result, whole[rows])


def test_an_analytic_model_has_its_prediction_as_features() -> None:
    model = gaussian()
    scorer, x0 = scorer_of(model, tuple(NAMES)), latents(3)
    at = Conditioning({"mean": scorer.cond["mean"][:3]})
    *_, features = scorer.gradients_and_features(x0, at, [1, 2, 3])
    assert features.shape == (3, x0[0].numel()) and features.dtype == torch.float32
    alone = [
        scorer.gradients_and_features(
            x0[i : i + 1], Conditioning({"mean": at["mean"][i : i + 1]}), [i + 1]
        )[2]
        for i in range(3)
    ]
    assert torch.equal(features, torch.cat(alone))


def test_many_channels_are_averaged_over_a_coarser_grid(
    model: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer, x0 = scorer_of(model, tuple(PROMPTS)), latents(1, model.sample_shape)
    fine = probes(scorer, x0, [0])[2]
    side = min(8, *model.sample_shape[1:])
    prediction = model.sample_shape[0] * side**2
    channels = (fine.shape[1] - prediction) // 4
    for most, cells in ((4 * channels, 4), (4 * channels - 1, 1)):
        monkeypatch.setattr(network_features, "MAX_FEATURES", most)
        assert probes(scorer, x0, [0])[2].shape[1] == prediction + cells * channels
    coarse = probes(scorer, x0, [0])[2]
    # the mean over the picture is the mean of its parts, where the parts are equal
    assert torch.equal(coarse[:, :prediction], fine[:, :prediction])
    first = fine[:, prediction : prediction + 4].mean()
    assert float(coarse[0, prediction]) == pytest.approx(float(first), abs=1e-5)


def test_a_network_without_known_blocks_has_its_prediction_as_features() -> None:
    reader = NetworkFeatures(torch.nn.Linear(2, 2))
    prediction = torch.arange(2 * 3 * 16 * 16.0).reshape(2, 3, 16, 16)
    with reader.collected():
        reader.keep_prediction(prediction)
    pooled = prediction.reshape(2, 3, 8, 2, 8, 2).mean(dim=(3, 5)).flatten(1)
    assert torch.equal(reader.result(), pooled)
