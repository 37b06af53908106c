"""LoRA files that fit a model only in part, or not at all, are refused with names and a count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_families
from helpers.library_pipelines import Folders, folders
from safetensors.torch import save_file
from torch import Tensor

from diffcls.models import loading, lora
from diffcls.support.errors import ModelError, UsageError

__all__ = ["folders"]
Pipelines = Callable[[str], Path]
BLOCK = "mid_block.attentions.0.transformer_blocks.0.attn2"
QUERY, FOREIGN = f"unet.{BLOCK}.to_q", "unet.up_blocks.9.attentions.0.to_q"
TEXT = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"


def pair(module: str, width: int = 32, seed: int = 0) -> dict[str, Tensor]:
    """A module of rank 2 in the format of peft and diffusers."""
    rng = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(*size, generator=rng) for size in ((2, width), (width, 2)))
    return {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}


def write(folder: Path, tensors: dict[str, Tensor]) -> Path:
    path = folder / "mine.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    return path


def merged(pipeline: Path, path: Path, scale: str = "1") -> Any:
    return loading.load(str(pipeline), lora=f"{path}:{scale}")


def test_modules_of_another_model_are_counted_and_named(
    tmp_path: Path, tiny_pipeline: Pipelines
) -> None:
    tensors = pair(QUERY)
    for block in (7, 8, 9):
        tensors |= pair(f"unet.up_blocks.{block}.attentions.0.to_q", seed=block)
    with pytest.raises(ModelError) as caught:
        merged(tiny_pipeline("epsilon"), write(tmp_path, tensors))
    line = str(caught.value)
    assert "3 of 4 modules of the LoRA do not belong to this model" in line
    assert "up_blocks.7" in line and "up_blocks.8" in line and "up_blocks.9" not in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "prefix", ["base_model.model.", "base_model.model.unet.", "diffusion_model.", ""]
)
def test_prefix_of_another_format_is_told(
    tmp_path: Path, tiny_pipeline: Pipelines, prefix: str
) -> None:
    path = write(tmp_path, pair(f"{prefix}{BLOCK}.to_q"))
    with pytest.raises(ModelError, match=r"1 of 1 modules.*begin with a part of the pipeline"):
        merged(tiny_pipeline("epsilon"), path)


def test_part_for_an_encoder_that_the_model_lacks_is_told(
    tmp_path: Path, tiny_pipeline: Pipelines
) -> None:
    foreign = TEXT.replace("text_encoder", "text_encoder_2")
    path = write(tmp_path, pair(QUERY) | pair(foreign, seed=1))
    with pytest.raises(ModelError, match=r"1 of 2 modules.*text_encoder_2\."):
        merged(tiny_pipeline("epsilon"), path)


def test_part_for_t5_is_told(tmp_path: Path, folders: Folders) -> None:
    transformer = pair("transformer.transformer_blocks.0.attn.to_q")
    foreign = pair("text_encoder_3.encoder.block.0.layer.0.SelfAttention.q", seed=1)
    with pytest.raises(ModelError, match=r"1 of 2 modules.*text_encoder_3\."):
        merged(folders("sd3"), write(tmp_path, transformer | foreign))


def kohya(module: str, seed: int = 0) -> dict[str, Tensor]:
    name = module.replace("unet.", "lora_unet_").replace(".", "_")
    a, b = pair("m", seed=seed).values()
    return {
        f"{name}.lora_down.weight": a,
        f"{name}.lora_up.weight": b,
        f"{name}.alpha": torch.tensor(2.0),
    }


def old(module: str, seed: int = 0) -> dict[str, Tensor]:
    a, b = pair("m", seed=seed).values()
    name = module.replace(".to_", ".processor.to_")
    return {f"{name}_lora.down.weight": a, f"{name}_lora.up.weight": b}


@pytest.mark.parametrize("layout", [pair, kohya, old])
def test_every_format_that_fits_is_merged(
    tmp_path: Path, tiny_pipeline: Pipelines, layout: Callable[..., dict[str, Tensor]]
) -> None:
    modules = [QUERY, f"unet.{BLOCK}.to_out"] if layout is old else [QUERY]
    tensors: dict[str, Tensor] = {}
    for seed, module in enumerate(modules):
        tensors |= layout(module, seed=seed)
    model = merged(tiny_pipeline("epsilon"), write(tmp_path, tensors))
    plain: Any = loading.load(str(tiny_pipeline("epsilon")))
    a, b = pair("m").values()
    change = [m.network.get_submodule(f"{BLOCK}.to_q").weight for m in (model, plain)]
    torch.testing.assert_close(change[0], change[1] + b @ a, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("text", [TEXT, TEXT.replace(".text_model", "")])
def test_text_encoder_is_merged_under_its_names_of_all_versions(
    tmp_path: Path, tiny_pipeline: Pipelines, text: str
) -> None:
    path = write(tmp_path, pair(QUERY) | pair(text, seed=1))
    model: Any = merged(tiny_pipeline("epsilon"), path)
    plain: Any = loading.load(str(tiny_pipeline("epsilon")))
    one, two = (m.encode_prompts(["a 3"])["text"] for m in (model, plain))
    assert (one - two).abs().max() > 1e-3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_before_merging(
    tmp_path: Path, tiny_pipeline: Pipelines, value: float
) -> None:
    tensors = pair(QUERY)
    tensors[f"{QUERY}.lora_A.weight"][1, 3] = value
    with pytest.raises(ModelError, match=rf"LoRA .*not finite: '{QUERY}\.lora_A\.weight'"):
        merged(tiny_pipeline("epsilon"), write(tmp_path, tensors))


def test_weights_that_overflow_by_merging_are_refused(
    tmp_path: Path, tiny_pipeline: Pipelines
) -> None:
    path = write(tmp_path, pair(QUERY))
    with pytest.raises(ModelError, match="not finite"):
        merged(tiny_pipeline("epsilon"), path, "3e38")


@pytest.mark.parametrize("scale", ["nan", "inf", "-inf", "1e999"])
def test_scale_that_is_not_finite_is_refused(tmp_path: Path, scale: str) -> None:
    path = write(tmp_path, pair(QUERY))
    with pytest.raises(UsageError, match="--lora: the weight is not finite"):
        lora.parse(f"{path}:{scale}")


def test_scales_that_differ_have_different_revisions(tmp_path: Path) -> None:
    path = write(tmp_path, pair(QUERY))
    scales = ["0.5", "0.1234567", "0.1234568"]
    assert len({lora.revision_of(f"{path}:{scale}") for scale in scales}) == 3
    assert lora.revision_of(f"{path}:0.5").endswith(" x 0.5")


def test_truncated_file_is_refused(tmp_path: Path, tiny_pipeline: Pipelines) -> None:
    path = write(tmp_path, pair(QUERY))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot read the LoRA"):
        merged(tiny_pipeline("epsilon"), path)


# ---- every family -------------------------------------------------------------------------------

WITHOUT_LORA = {
    *("PixArtAlphaPipeline", "PixArtSigmaPipeline", "HunyuanDiTPipeline", "PRXPipeline"),
    *("CogView3PlusPipeline", "LuminaPipeline", "OvisImagePipeline"),
    "Kandinsky3Pipeline",  # its network has no adapters
}
"""Pipelines that diffusers loads no LoRA into."""


def linear_layer(network: torch.nn.Module) -> str:
    """Name of a query projection of the network, the last one."""
    named = [
        name
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and name.endswith(("to_q", "img_qkv_proj"))
    ]
    return named[-1]


@pytest.mark.parametrize("name", sorted(tiny_families.TEXT))
@torch.inference_mode()
def test_lora_of_every_family_is_merged_into_the_weights(
    tmp_path: Path, folders: Folders, name: str
) -> None:
    plain = tiny_families.loaded(folders(name))
    layer = linear_layer(plain.network)
    weight = plain.network.get_parameter(f"{layer}.weight")
    rng = torch.Generator().manual_seed(5)
    a, b = torch.randn(2, weight.shape[1], generator=rng), torch.randn(weight.shape[0], 2)
    prefix = f"{plain.part}.{layer}"
    path = write(tmp_path, {f"{prefix}.lora_A.weight": a, f"{prefix}.lora_B.weight": b})

    def tuned() -> Any:
        return loading.load(str(folders(name)), img_size=plain.image_size, lora=f"{path}:0.5")

    if type(plain.pipeline).__name__ in WITHOUT_LORA:
        with pytest.raises(ModelError, match="--lora is not supported by this model family"):
            tuned()
        return
    model = tuned()
    # W + ½·B·A  (Hu et al. 2021, eq. 3, with alpha equal to the rank)
    wanted = weight + 0.5 * b @ a
    torch.testing.assert_close(model.network.get_parameter(f"{layer}.weight"), wanted)
    for other, tensor in plain.network.named_parameters():
        if other != f"{layer}.weight":
            assert torch.equal(model.network.get_parameter(other), tensor), other
