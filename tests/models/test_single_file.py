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
from helpers.tiny_families import save, sd1
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
