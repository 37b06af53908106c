"""SigLIP models with random weights: open_clip's and timm's real classes, small."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from transformers import GemmaTokenizer, T5Tokenizer

CONTEXT = 64
VISION = {"image_size": 160, "timm_model_name": "test_vit2", "timm_pool": "map"}
WIDTH = 64
WORDS = "this is a photo of an image the digit number zero one two three four five six".split()
BIAS, LOG_SCALE = -12.9, 4.76  # about those of the published ViT-B-16


def t5_tokenizer() -> Any:
    """Unigram tokenizer of SigLIP: end of text and padding are the same token."""
    pieces = [f"▁{word}" for word in WORDS] + ["▁", *string.ascii_letters, *string.digits]
    pieces += list(string.punctuation)
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocab += [(piece, -float(len(vocab) + i) / 10) for i, piece in enumerate(pieces)]
    return T5Tokenizer(vocab=vocab, extra_ids=0, pad_token="</s>")


def gemma_tokenizer() -> Any:
    """BPE tokenizer of SigLIP 2: padding is another token than the end of text."""
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁"]
    pieces += [*string.ascii_letters, *string.digits, *string.punctuation]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    options = {"add_bos_token": False, "add_eos_token": True, "padding_side": "right"}
    return GemmaTokenizer(vocab=vocab, merges=[], **options)


def siglip_folder(
    folder: Path, second: bool = False, tokenizer: Any = None, **changes: Any
) -> Path:
    """A folder as open_clip and the Hub's SigLIP repositories lay it out.

    Args:
        folder: where to write.
        second: SigLIP 2: its tokenizer and activation.
        tokenizer: another tokenizer.
        changes: entries of ``model_cfg``.
    """
    if tokenizer is None:
        tokenizer = gemma_tokenizer() if second else t5_tokenizer()
    text = {
        "context_length": CONTEXT,
        "vocab_size": len(tokenizer),
        "hf_tokenizer_name": "timm/ViT-B-16-SigLIP2" if second else "timm/ViT-B-16-SigLIP",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": 32,
        "heads": 2,
        "layers": 2,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
        **({"act_kwargs": {"approximate": "tanh"}} if second else {}),
    }
    vision = {**VISION, "timm_model_pretrained": False, "timm_proj": "none"}
    model = {"embed_dim": WIDTH, "init_logit_bias": -10, "custom_text": True}
    model |= {"vision_cfg": vision, "text_cfg": text, **changes}
    half = [0.5] * 3
    images = {"mean": half, "std": half, "interpolation": "bicubic", "resize_mode": "squash"}
    folder.mkdir(parents=True)
    config = json.dumps({"model_cfg": model, "preprocess_cfg": images})
    (folder / "open_clip_config.json").write_text(config)
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
        with torch.no_grad():
            for parameter in network.parameters():  # some start as zero, or almost
                parameter += torch.randn_like(parameter) * 0.05
            network.logit_scale.fill_(LOG_SCALE)
            network.logit_bias.fill_(BIAS)
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    return folder
