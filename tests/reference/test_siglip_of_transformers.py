"""SigLIP through open_clip gives the probabilities of transformers' own SigLIP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small_siglip import siglip_folder
from PIL import Image
from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

from diffcls.models import clip

SIDE, LAYERS = 256, 2
Weights = dict[str, torch.Tensor]
BLOCK = {
    "layer_norm1": ("norm1", "ln_1"),
    "layer_norm2": ("norm2", "ln_2"),
    "self_attn.out_proj": ("attn.proj", "attn.out_proj"),
    "mlp.fc1": ("mlp.fc1", "mlp.c_fc"),
    "mlp.fc2": ("mlp.fc2", "mlp.c_proj"),
}
"""Names of a block's layers in transformers -> in timm, and in open_clip's text encoder."""


def converted(ours: Weights, layers: int) -> Weights:
    """open_clip's names -> transformers', after its convert_siglip_to_hf.py."""
    theirs: Weights = {
        "logit_scale": ours["logit_scale"][None],
        "logit_bias": ours["logit_bias"][None],
    }

    def layer(name: str, source: str) -> None:
        for kind in ("weight", "bias"):
            theirs[f"{name}.{kind}"] = ours[f"{source}.{kind}"]

    vision, text, trunk = "vision_model.", "text_model.", "visual.trunk."
    layer(f"{vision}embeddings.patch_embedding", f"{trunk}patch_embed.proj")
    theirs[f"{vision}embeddings.position_embedding.weight"] = ours[f"{trunk}pos_embed"][0]
    theirs[f"{text}embeddings.token_embedding.weight"] = ours["text.token_embedding.weight"]
    theirs[f"{text}embeddings.position_embedding.weight"] = ours["text.positional_embedding"]
    for tower, depth, blocks, column in (
        (vision, layers, f"{trunk}blocks.", 0),
        (text, LAYERS, "text.transformer.resblocks.", 1),
    ):
        for number in range(depth):
            block, source = f"{tower}encoder.layers.{number}.", f"{blocks}{number}."
            for name, names in BLOCK.items():
                layer(f"{block}{name}", f"{source}{names[column]}")
            for kind in ("weight", "bias"):
                name = f"attn.qkv.{kind}" if tower == vision else f"attn.in_proj_{kind}"
                for part, value in zip("qkv", ours[source + name].chunk(3), strict=True):
                    theirs[f"{block}self_attn.{part}_proj.{kind}"] = value
    layer(f"{vision}post_layernorm", f"{trunk}norm")
    layer(f"{text}final_layer_norm", "text.ln_final")
    layer(f"{text}head", "text.text_projection")
    pool, head = f"{trunk}attn_pool.", f"{vision}head."
    theirs[f"{head}probe"] = ours[f"{pool}latent"]
    for kind in ("weight", "bias"):
        both = torch.cat([ours[f"{pool}q.{kind}"], ours[f"{pool}kv.{kind}"]])
        theirs[f"{head}attention.in_proj_{kind}"] = both
    for name, source in {
        "attention.out_proj": "proj",
        "layernorm": "norm",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }.items():
        layer(f"{head}{name}", f"{pool}{source}")
    return theirs


@pytest.mark.slow  # the published vision encoder has 94 million weights
@pytest.mark.parametrize("second", [False, True], ids=["siglip", "siglip2"])
def test_probabilities_are_those_of_transformers(tmp_path: Path, second: bool) -> None:
    width = 768
    vision = {"timm_model_name": "vit_base_patch32_siglip_256", "timm_pool": "map"}
    vision |= {"image_size": SIDE, "timm_proj": "none"}  # type: ignore[dict-item]
    folder = siglip_folder(tmp_path / "mine", second, embed_dim=width, vision_cfg=vision)
    model = clip.load(str(folder))
    text: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 64, "projection_size": width}
    text |= {"hidden_act": "gelu_pytorch_tanh" if second else "gelu"}
    text |= {"vocab_size": model.model.text.vocab_size, "bos_token_id": None, "eos_token_id": 1}
    image = {"patch_size": 32, "image_size": SIDE}  # ViT-B is the default of the others
    theirs = SiglipModel(SiglipConfig(text_config=text, vision_config=image)).eval()
    theirs.load_state_dict(converted(model.model.state_dict(), 12))
    names = ["zero", "one", "two"]
    ids = model.tokenize([f"This is a photo of {name}." for name in names])
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (300, 280, 3), dtype=np.uint8))]
    pictures += [pictures[0].rotate(90).resize((64, 500))]
    processor = SiglipImageProcessor(size={"height": SIDE, "width": SIDE})
    pixels = processor(pictures, return_tensors="pt").pixel_values
    ours = torch.stack([model.preprocess(picture) for picture in pictures])
    # it resizes by torch, which rounds to another grey level here and there
    assert ours.numpy() == pytest.approx(pixels.numpy(), abs=2.01 / 255)
    with torch.inference_mode():
        logits = theirs(input_ids=ids, pixel_values=ours).logits_per_image
        texts = [f"This is a photo of {name}." for name in names]
        result = model.logits(ours, model.classifier(texts, [0, 1, 2]))
    assert np.ptp(logits.numpy()) > 0.1
    assert result.numpy() == pytest.approx(logits.numpy(), abs=1e-4)
    expected = torch.sigmoid(logits).numpy()
    assert model.probabilities(result).numpy() == pytest.approx(expected, rel=1e-4)
