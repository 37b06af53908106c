"""Single-file checkpoints: the same weights as the folder that they were converted from."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_families import flux, save, sd1
from safetensors.torch import load_file, save_file

from diffcls.models import loading
from diffcls.support.errors import ModelError

LEVELS, BLOCKS = 2, 2  # of the tiny U-Net: resolutions, and blocks a resolution on the way up
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}

Rule = tuple[str, Callable[[re.Match[str]], str]]


def inner(kind: str, rest: str) -> str:
    """Name of a layer in a residual block, numbered in the original layout."""
    if kind != "resnets":
        return f"1.{rest}"
    head, _, tail = rest.partition(".")
    return f"0.{RESNET[head]}.{tail}"


UNET: list[Rule] = [
    (
        r"down_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.*)",
        lambda m: f"input_blocks.{1 + LEVELS * int(m[1]) + int(m[3])}.{inner(m[2], m[4])}",
    ),
    (
        r"down_blocks\.(\d)\.downsamplers\.0\.conv\.(.*)",
        lambda m: f"input_blocks.{LEVELS * (1 + int(m[1]))}.0.op.{m[2]}",
    ),
    (
        r"mid_block\.resnets\.(\d)\.(.*)",
        lambda m: f"middle_block.{2 * int(m[1])}.{inner('resnets', m[2])[2:]}",
    ),
    (r"mid_block\.attentions\.0\.(.*)", lambda m: f"middle_block.1.{m[1]}"),
    (
        r"up_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.*)",
        lambda m: f"output_blocks.{BLOCKS * int(m[1]) + int(m[3])}.{inner(m[2], m[4])}",
    ),
    # the first way up has attention between the block and its upsampler
    (r"up_blocks\.0\.upsamplers\.0\.conv\.(.*)", lambda m: f"output_blocks.1.2.conv.{m[1]}"),
]
VAE: list[Rule] = [
    (
        r"encoder\.down_blocks\.(\d)\.resnets\.(\d)\.(.*)",
        lambda m: f"encoder.down.{m[1]}.block.{m[2]}.{m[3]}",
    ),
    (
        r"encoder\.down_blocks\.(\d)\.downsamplers\.0\.(.*)",
        lambda m: f"encoder.down.{m[1]}.downsample.{m[2]}",
    ),
    (
        r"decoder\.up_blocks\.(\d)\.resnets\.(\d)\.(.*)",
        lambda m: f"decoder.up.{LEVELS - 1 - int(m[1])}.block.{m[2]}.{m[3]}",
    ),
    (
        r"decoder\.up_blocks\.(\d)\.upsamplers\.0\.(.*)",
        lambda m: f"decoder.up.{LEVELS - 1 - int(m[1])}.upsample.{m[2]}",
    ),
    (
        r"(\w+)\.mid_block\.resnets\.(\d)\.(.*)",
        lambda m: f"{m[1]}.mid.block_{int(m[2]) + 1}.{m[3]}",
    ),
    (
        r"(\w+)\.mid_block\.attentions\.0\.(group_norm|to_q|to_k|to_v|to_out\.0)\.(.*)",
        lambda m: f"{m[1]}.mid.attn_1.{ATTENTION[m[2]]}.{m[3]}",
    ),
]


def renamed(name: str, rules: list[Rule]) -> str:
    for pattern, rule in rules:
        match = re.fullmatch(pattern, name)
        if match:
            return rule(match)
    return name


def original(pipeline: Path) -> dict[str, torch.Tensor]:
    """A tiny pipeline's weights under the names of the original Stable Diffusion code."""
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(pipeline / "unet/diffusion_pytorch_model.safetensors").items():
        for ours, theirs in UNET_ENDS.items():
            name = re.sub(rf"^{ours}\b", theirs, name)
        tensors[f"model.diffusion_model.{renamed(name, UNET)}"] = tensor
    for name, tensor in load_file(pipeline / "vae/diffusion_pytorch_model.safetensors").items():
        theirs = renamed(name, VAE).replace("conv_norm_out", "norm_out")
        convolved = ".attn_1." in theirs and tensor.ndim == 2  # theirs are 1×1 convolutions
        tensors[f"first_stage_model.{theirs.replace('conv_shortcut', 'nin_shortcut')}"] = (
            tensor[:, :, None, None] if convolved else tensor
        )
    for name, tensor in load_file(pipeline / "text_encoder/model.safetensors").items():
        inside = name if name.startswith("text_model.") else f"text_model.{name}"
        tensors[f"cond_stage_model.transformer.{inside}"] = tensor
    return tensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("single") / "folder"
    save(sd1, made)
    return made


def test_checkpoint_has_the_weights_and_predictions_of_its_folder(
    folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.safetensors"
    save_file({name: t.contiguous() for name, t in original(folder).items()}, path)
    whole: Any = loading.load(str(folder))
    single: Any = loading.load(str(path), model_config=str(folder))
    for part in ("unet", "vae", "text_encoder"):
        theirs = getattr(single.pipeline, part).state_dict()
        for name, tensor in getattr(whole.pipeline, part).state_dict().items():
            assert torch.equal(theirs[name], tensor), f"{part}.{name}"
    x_t, index = torch.ones(1, *whole.sample_shape), torch.tensor([700])
    outs = [m.predict(x_t, index, m.encode_prompts(["zero"])) for m in (whole, single)]
    # another memory layout may change the order of sums
    torch.testing.assert_close(*outs, rtol=1e-5, atol=1e-5)
    assert single.card.name == "mine" and len(single.card.revision) == 16
    # schedule and tokenizer are those of the folder, and so part of the revision
    config = Path(shutil.copytree(folder, tmp_path / "other")) / "scheduler/scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "beta_end": 0.02}))
    other = loading.load(str(path), model_config=str(tmp_path / "other"))
    assert other.card.revision != single.card.revision


@pytest.mark.parametrize("gone", ["middle_block.1.proj_in.weight", "decoder.conv_out.weight"])
def test_incomplete_checkpoint_is_refused(folder: Path, tmp_path: Path, gone: str) -> None:
    tensors = {name: t.contiguous() for name, t in original(folder).items()}
    (name,) = [name for name in tensors if name.endswith(gone)]
    del tensors[name]
    save_file(tensors, tmp_path / "mine.safetensors")
    with pytest.raises(ModelError):
        loading.load(str(tmp_path / "mine.safetensors"), model_config=str(folder))


# ---- a network alone ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flux_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("network") / "flux"
    save(flux, made)
    return made


def predictions(model: Any) -> torch.Tensor:
    x_t = torch.randn(2, *model.sample_shape, generator=torch.Generator().manual_seed(2))
    cond = model.encode_prompts(["zero", "a photo of a three"])
    out: torch.Tensor = model.predict(x_t, torch.tensor([300, 700]), cond)
    return out


def network_weights(pipeline: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(pipeline / "transformer/diffusion_pytorch_model.safetensors"))


def opened(path: Path, config: Path) -> Any:
    return loading.load(str(path), model_config=str(config), img_size=32)


@torch.inference_mode()
def test_network_alone_is_completed_by_all_other_parts(flux_folder: Path, tmp_path: Path) -> None:
    changed = {name: 1.5 * tensor for name, tensor in network_weights(flux_folder).items()}
    save_file(changed, tmp_path / "mine.safetensors")
    tuned = Path(shutil.copytree(flux_folder, tmp_path / "tuned"))
    save_file(changed, tuned / "transformer/diffusion_pytorch_model.safetensors")
    single = opened(tmp_path / "mine.safetensors", flux_folder)
    wanted = predictions(loading.load(str(tuned), img_size=32))
    assert torch.equal(predictions(single), wanted)
    assert not torch.equal(wanted, predictions(loading.load(str(flux_folder), img_size=32)))


def test_network_with_a_missing_tensor_is_refused(flux_folder: Path, tmp_path: Path) -> None:
    tensors = network_weights(flux_folder)
    del tensors["proj_out.weight"]
    save_file(tensors, tmp_path / "mine.safetensors")
    with pytest.raises(ModelError, match=r"proj_out\.weight|cannot load model file"):
        opened(tmp_path / "mine.safetensors", flux_folder)


def write_gguf(path: Path, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Write a GGUF file of 8-bit blocks of 32 where these fit; returns what it holds."""
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    writer, held = gguf.GGUFWriter(path, "flux"), {}
    kind = gguf.GGMLQuantizationType.Q8_0
    for name, tensor in tensors.items():
        array = tensor.numpy()
        if array.ndim == 2 and array.shape[1] % 32 == 0:
            blocks = gguf.quantize(array, kind)
            writer.add_tensor(name, blocks, raw_dtype=kind)
            values = torch.from_numpy(gguf.dequantize(blocks, kind).reshape(array.shape))
            held[name] = values.half().float()  # diffusers multiplies codes and scales in float16
        else:
            writer.add_tensor(name, array)
            held[name] = tensor
    for write in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{write}_to_file")()
    writer.close()
    return held


@torch.inference_mode()
def test_quantised_file_computes_with_its_dequantised_weights(
    flux_folder: Path, tmp_path: Path
) -> None:
    held = write_gguf(tmp_path / "mine.gguf", network_weights(flux_folder))
    plain = Path(shutil.copytree(flux_folder, tmp_path / "plain"))
    save_file(held, plain / "transformer/diffusion_pytorch_model.safetensors")
    single = opened(tmp_path / "mine.gguf", flux_folder)
    wanted = predictions(loading.load(str(plain), img_size=32))
    torch.testing.assert_close(predictions(single), wanted, rtol=1e-5, atol=1e-5)
    exact = predictions(loading.load(str(flux_folder), img_size=32))
    assert (exact - wanted).abs().max() > 1e-3
    weights = {str(tensor.dtype) for tensor in single.network.parameters()}
    assert "torch.uint8" in weights  # they stay quantised


@torch.inference_mode()
def test_quantised_network_retries_in_single_precision(flux_folder: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "mine.gguf", network_weights(flux_folder))
    single = opened(tmp_path / "mine.gguf", flux_folder)
    half: Any = loading.load(
        str(tmp_path / "mine.gguf"), "cpu", torch.bfloat16, 32, model_config=str(flux_folder)
    )
    before = half.predict(*_inputs(half, torch.bfloat16))
    with half.float32():
        retried = half.predict(*_inputs(half, torch.float32))
    assert retried.dtype == torch.float32
    wanted = single.predict(*_inputs(single, torch.float32))
    assert (retried - wanted).abs().max() < 0.05 * wanted.std()
    assert torch.equal(half.predict(*_inputs(half, torch.bfloat16)), before)


def _inputs(model: Any, dtype: torch.dtype) -> tuple[Any, ...]:
    x_t = torch.randn(1, *model.sample_shape, generator=torch.Generator().manual_seed(2))
    return x_t.to(dtype), torch.tensor([500]), model.encode_prompts(["zero"])


def test_damaged_quantised_file_is_refused(flux_folder: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "mine.gguf", network_weights(flux_folder))
    whole = (tmp_path / "mine.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot load model file"):
        opened(tmp_path / "cut.gguf", flux_folder)


def test_quantised_file_without_its_library_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r'pip install "diffcls\[gguf\]"'):
        loading.load(str(tmp_path / "mine.gguf"))


def test_file_that_is_not_recognised_is_no_stable_diffusion(
    flux_folder: Path, tmp_path: Path
) -> None:
    renamed = {f"own.{name}": tensor for name, tensor in network_weights(flux_folder).items()}
    save_file(renamed, tmp_path / "mine.safetensors")
    with pytest.raises(ModelError, match=r"not recognised.*--model-config"):
        loading.load(str(tmp_path / "mine.safetensors"))


def test_quantised_file_with_a_scale_that_is_not_finite_is_refused(
    flux_folder: Path, tmp_path: Path
) -> None:
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    write_gguf(tmp_path / "mine.gguf", network_weights(flux_folder))
    reader = gguf.GGUFReader(tmp_path / "mine.gguf", "r+")
    (blocks,) = [t.data for t in reader.tensors if t.name == "context_embedder.weight"]
    blocks[0, :2] = [0x00, 0x7E]  # float16's NaN, the scale of the first block
    reader.data.flush()
    with pytest.raises(ModelError, match=r"not finite.*context_embedder"):
        opened(tmp_path / "mine.gguf", flux_folder)
