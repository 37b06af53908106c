"""Shared layers: those before the first cross-attention, whose output no prompt changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_families import FAMILIES, loaded, saved
from torch import Tensor, nn

from diffcls.models import loading
from diffcls.models.denoiser import Denoiser
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.models.shared_layers import SharedLayers
from diffcls.support.errors import UsageError

CROSS_ATTENTION = {"cogview_3_plus", "hunyuan", "kandinsky_3", "pixart", "sana", "sd1", "sd2"}


@pytest.fixture(scope="module")
def digits() -> Denoiser:
    return loading.load("digits")


def inputs(model: Denoiser, rows: int = 3) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(4)
    x_t = torch.randn(rows, *model.sample_shape, generator=g).to(model.dtype)
    return x_t, torch.tensor([20, 500, 900, 100])[:rows] % len(model.schedule)


def prefix_of(model: Denoiser, prompts: list[str]) -> SharedLayers:
    return SharedLayers(model, model.encode_prompts(prompts))


def names(model: Denoiser, shared: SharedLayers) -> list[str]:
    return [n for layer in shared._layers for n, m in model.network.named_modules() if m is layer]  # type: ignore[union-attr]


def test_the_layers_are_those_before_the_first_cross_attention(digits: Denoiser) -> None:
    first = "down_blocks.1.attentions.0"
    assert names(digits, prefix_of(digits, ["zero"])) == [
        "time_proj",
        "time_embedding",
        "conv_in",
        "down_blocks.0",
        "down_blocks.1.resnets.0",
        f"{first}.norm",
        f"{first}.proj_in",
        *(f"{first}.transformer_blocks.0.{name}" for name in ("norm1", "attn1", "norm2")),
        f"{first}.transformer_blocks.0.attn2.to_q",
    ]


def test_their_share_of_the_operations_is_that_of_a_count_by_hand(digits: Denoiser) -> None:
    side, c, d = 8, 48, 96  # latents of 8 x 8; 48 and 96 channels; time embedding of 4 x 48

    def conv(inputs: int, outputs: int, size: int, kernel: int = 3) -> int:
        return 2 * inputs * outputs * kernel * kernel * size * size

    def resnet(inputs: int, outputs: int, size: int) -> int:
        time = 2 * 4 * c * outputs
        skip = conv(inputs, outputs, size, 1) if inputs != outputs else 0
        return conv(inputs, outputs, size) + conv(outputs, outputs, size) + time + skip

    half, tokens = side // 2, (side // 2) ** 2
    attention = 4 * 2 * tokens * d * d + 2 * 2 * tokens * tokens * d
    by_hand = (
        *(2 * c * 4 * c + 2 * 4 * c * 4 * c, conv(4, c, side), resnet(c, c, side)),
        *(conv(c, c, half), resnet(c, d, half), conv(d, d, half, 1)),  # down, and the projection
        *(attention, 2 * tokens * d * d),  # and the queries of the cross-attention
    )
    whole = 94_924_800  # FLOP of an evaluation, counted by torch
    assert prefix_of(digits, ["zero"]).share == pytest.approx(sum(by_hand) / whole, rel=1e-4)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_sharing_changes_no_prediction_of_any_family_or_is_refused(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model: Any = loaded(saved(name, tmp_path_factory.getbasetemp()))
    texts = ["a photo of a 3.", "zero"] if model.labels is None else ["3", "0"]
    cond = model.encode_prompts(texts)
    try:
        shared = SharedLayers(model, cond)
    except UsageError as error:
        assert name not in CROSS_ATTENTION and "--share-prefix has no effect" in str(error)
        return
    assert name in CROSS_ATTENTION and 0.01 < shared.share < 0.8
    x_t, index = inputs(model)
    rows = torch.tensor([0, 1, 1])
    with torch.inference_mode():
        expected = model.predict(x_t, index, cond.rows(rows))
        outputs = shared.compute(x_t, index, cond.rows(rows[:1].expand(3)))
        with shared.given(outputs):
            # the image is known by its layers' outputs alone
            result = model.predict(torch.zeros_like(x_t), index, cond.rows(rows))
        assert torch.equal(result, expected)
        # afterwards the network is as it was
        assert torch.equal(model.predict(x_t, index, cond.rows(rows)), expected)
    assert all("forward" not in vars(module) for module in model.network.modules())


def test_a_layer_that_hides_nan_is_no_shared_layer(digits: Denoiser) -> None:
    class Hidden(nn.Module):
        """A text-dependent layer whose output is finite whatever it receives."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return torch.nan_to_num(self.inner(x))

    network: Any = digits.network
    attention = network.down_blocks[1].attentions[0].transformer_blocks[0].attn2
    keys = attention.to_k
    attention.to_k = Hidden(keys)
    try:
        with pytest.raises(UsageError, match="--share-prefix has no effect on this model"):
            prefix_of(digits, ["zero"])
    finally:
        attention.to_k = keys


def test_a_model_without_layers_before_the_prompt_is_refused(
    tmp_path: Path,
) -> None:
    analytic = GaussianDenoiser({"a": torch.zeros(1, 2, 2), "b": torch.ones(1, 2, 2)})
    with pytest.raises(UsageError, match=r"0\.0 % of whose operations"):
        prefix_of(analytic, ["a", "b"])
    with pytest.raises(UsageError, match="remove it"):
        prefix_of(loading.load("digits-pixels"), ["3"])
