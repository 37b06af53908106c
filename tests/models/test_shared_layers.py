"""Shared layers: those before the first cross-attention, whose output no prompt changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.tiny_families import FAMILIES, loaded, saved
from torch import Tensor, nn

from diffcls.models import loading
from diffcls.models.denoiser import Denoiser
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.models.shared_layers import SharedLayers, find_shared_layers


@pytest.fixture(scope="module")
def digits() -> Denoiser:
    return loading.load("digits")


def inputs(model: Denoiser, rows: int = 3) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(4)
    x_t = torch.randn(rows, *model.sample_shape, generator=g).to(model.dtype)
    return x_t, torch.tensor([20, 500, 900, 100])[:rows] % len(model.schedule)


def prefix_of(model: Denoiser, *prompts: str) -> SharedLayers | None:
    return find_shared_layers(model, model.encode_prompts(prompts))


def names(model: Any, shared: SharedLayers | None) -> list[str]:
    assert shared is not None
    by_module = {module: name for name, module in model.network.named_modules()}
    return [by_module[layer] for layer in shared.layers]


def test_the_layers_are_those_before_the_first_cross_attention(digits: Denoiser) -> None:
    first = "down_blocks.1.attentions.0"
    assert names(digits, prefix_of(digits, "zero")) == [
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
    attention = 4 * 2 * tokens * d * d  # torch does not count the fused products on a CPU
    by_hand = (
        *(2 * c * 4 * c + 2 * 4 * c * 4 * c, conv(4, c, side), resnet(c, c, side)),
        *(conv(c, c, half), resnet(c, d, half), conv(d, d, half, 1)),  # down, and the projection
        *(attention, 2 * tokens * d * d),  # and the queries of the cross-attention
    )
    whole = 94_924_800  # FLOP of an evaluation, counted by torch
    shared = prefix_of(digits, "zero")
    assert shared is not None and shared.share == pytest.approx(sum(by_hand) / whole, rel=1e-4)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_sharing_changes_no_prediction_of_any_family(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model: Any = loaded(saved(name, tmp_path_factory.getbasetemp()))
    cond = model.encode_prompts(["3", "0"] if model.labels else ["a photo of a 3.", "zero"])
    shared = find_shared_layers(model, cond)
    if shared is None:
        assert name not in ("sd1", "sd2")
        return
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

        def __init__(self, weight: Tensor) -> None:
            super().__init__()
            self.weight = weight

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(torch.nan_to_num(x), self.weight)

    network: Any = digits.network
    attention = network.down_blocks[1].attentions[0].transformer_blocks[0].attn2
    keys = attention.to_k
    attention.to_k = Hidden(keys.weight)
    try:
        assert prefix_of(digits, "zero") is None
    finally:
        attention.to_k = keys


def test_models_whose_first_layers_depend_on_the_class_share_none() -> None:
    analytic = GaussianDenoiser({"a": torch.zeros(1, 2, 2), "b": torch.ones(1, 2, 2)})
    assert prefix_of(analytic, "a", "b") is None
    assert prefix_of(loading.load("digits-pixels"), "3") is None


def test_a_network_of_other_hooks_or_in_compiled_form_is_left_as_it_is(digits: Any) -> None:
    layer = digits.network.conv_in
    layer.forward = layer.forward  # as the hooks of accelerate
    try:
        assert prefix_of(digits, "zero") is None
    finally:
        del layer.forward
    digits.network.compile(dynamic=False)
    try:
        assert prefix_of(digits, "zero") is None
    finally:
        digits.network._compiled_call_impl = None
