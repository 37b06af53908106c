"""Files of a CLIP folder: checked before open_clip reads them, so that no code of a model runs.

A config of open_clip may name other models: a text encoder or tokenizer of transformers, or an
image encoder of timm, each on the Hub or in a folder with code of its own. Folders that do are
refused. open_clip's own choice among several files of weights includes pickles, so the file is
chosen here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.models.configs import check_files, check_images, check_values
from diffcls.models.json_files import is_count, read_json, wrong_value
from diffcls.models.weight_files import PICKLES
from diffcls.support.errors import ModelError

if TYPE_CHECKING:
    import torch

CONFIG, CHECKPOINT = "open_clip_config.json", "open_clip_model.safetensors"
CHECKPOINTS = (CHECKPOINT, "open_clip_pytorch_model.safetensors", "model.safetensors")
"""Names of the file of weights, from the first choice to the last, as in open_clip."""
TOKENIZERS = (
    *("CLIPTokenizer", "T5Tokenizer", "BertTokenizer", "GemmaTokenizer", "RobertaTokenizer"),
    *("XLMRobertaTokenizer", "PreTrainedTokenizer", "TokenizersBackend"),
)
"""Tokenizers of transformers that published CLIPs use; the suffix ``Fast`` is the same."""
TOKENIZER_OPTIONS = ("clean", "strip_sep_token")
"""Options of open_clip's own wrapper of a tokenizer; others are given to transformers."""
PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
CHOICES = {
    "interpolation": ("bicubic", "bilinear", "random"),
    "resize_mode": ("shortest", "longest", "squash"),
}


def check_folder(folder: Path) -> Path:
    """Check the configs of a CLIP folder, and choose the file of its weights.

    Raises:
        ModelError: for a config with wrong types, one that names a model of another place, or a
            folder without safetensors.
    """
    check_files(folder)
    path = folder / CONFIG
    config = read_json(path)
    model = _object(path, config, "model_cfg")
    for key, value in _entries(config):
        _check_names(path, key, value)
    _check_model(path, model)
    check_images(path, _object(path, config, "preprocess_cfg", default={}), CHOICES)
    if model["text_cfg"].get("hf_tokenizer_name"):
        _check_tokenizer(folder)
    return _weights(folder)


def _object(
    path: Path, config: Mapping[str, Any], key: str, default: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    value = config.get(key, default)
    if not isinstance(value, dict):
        raise wrong_value(path, key, value, "an object, as open_clip writes it")
    return value


def _entries(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """All keys and values, at any depth."""
    for key, value in config.items():
        yield key, value
        if isinstance(value, dict):
            yield from _entries(value)


def _check_names(path: Path, key: str, value: object) -> None:
    """Raise for a value that makes open_clip load from another place than the folder."""
    if value is None or value == "":
        return
    if key.startswith("hf_") and key != "hf_tokenizer_name":
        raise wrong_value(path, key, value, "no text encoder of another model")
    if key == "hf_tokenizer_name" and not isinstance(value, str):
        raise wrong_value(path, key, value, "a text")
    own = isinstance(value, str) and re.fullmatch(r"[\w.]+", value, re.ASCII)
    if key == "timm_model_name" and not own:
        raise wrong_value(path, key, value, "an architecture of timm, and no place of weights")
    options = value if isinstance(value, dict) else {"": value}
    if key == "tokenizer_kwargs" and not set(options) <= set(TOKENIZER_OPTIONS):
        raise wrong_value(path, key, ", ".join(options), ", ".join(TOKENIZER_OPTIONS))


def _check_model(path: Path, model: Mapping[str, Any]) -> None:
    from open_clip import CLIP, CLIPTextCfg, CLIPVisionCfg

    if not is_count(model.get("embed_dim"), 2**16) or not model["embed_dim"]:
        raise wrong_value(path, "embed_dim", model.get("embed_dim"), "a whole number")
    check_values(path, model, CLIP)
    check_values(path, _object(path, model, "vision_cfg"), CLIPVisionCfg)
    check_values(path, _object(path, model, "text_cfg"), CLIPTextCfg)


def _check_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    if not path.is_file() or not any(
        (folder / f).is_file() for f in ("tokenizer.json", "spiece.model")
    ):
        raise ModelError(
            "a file of the tokenizer is missing",
            given=str(folder),
            allowed="tokenizer_config.json and tokenizer.json",
        )
    name = read_json(path).get("tokenizer_class")
    if not isinstance(name, str) or name.removesuffix("Fast") not in TOKENIZERS:
        raise wrong_value(path, "tokenizer_class", name, ", ".join(TOKENIZERS))


def _weights(folder: Path) -> Path:
    """The file of weights: by one of its usual names, or the only safetensors file."""
    found = {p.name: p for p in folder.glob("*.safetensors") if not p.name.startswith(".")}
    for name in CHECKPOINTS:
        if name in found:
            return found[name]
    if len(found) == 1:
        return next(iter(found.values()))
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
    raise ModelError(
        "the CLIP folder has no file of weights, or several",
        given=", ".join([*sorted(found), *pickles]) or str(folder),
        allowed=f"one of {', '.join(CHECKPOINTS)}; pickles are never opened",
        todo="convert a pickle that you trust with safetensors.torch.save_file"
        if pickles
        else None,
    )


def create(source: str, tag: str | None, dtype: torch.dtype, device: Any) -> tuple[Any, Any]:
    """The network without its weights, and the preprocessing of its images.

    Args:
        source: architecture, or ``local-dir:`` and a folder that `check_folder` accepts.
        tag: name or file of the weights of an architecture.
        dtype, device: precision and device of the network.
    """
    import open_clip

    config = open_clip.get_pretrained_cfg(source, tag) if tag else {}
    shared = preprocessing_of(source) if tag and not config else {}
    model, _, preprocess = open_clip.create_model_and_transforms(
        source,
        pretrained=tag,
        precision={"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}[str(dtype)[6:]],
        device=device,
        load_weights=False,  # open_clip's own choice of the file includes pickles
        pretrained_text=False,
        # these weights need an activation other than the architecture's default
        force_quick_gelu=bool(config.get("quick_gelu")),
        **{f"image_{key}": value for key, value in shared.items()},
    )
    return model, preprocess


def preprocessing_of(architecture: str) -> dict[str, Any]:
    """Preprocessing that all published weights of an architecture share, for a file of weights.

    open_clip itself preprocesses for a file as OpenAI's CLIP does, whatever the architecture:
    SigLIP would get images of another mean, and cropped. Empty where the published weights differ.
    """
    import open_clip

    shared: dict[str, Any] | None = None
    for tag in open_clip.list_pretrained_tags_by_model(architecture):
        config = open_clip.get_pretrained_cfg(architecture, tag)
        entries = {key: config[key] for key in PREPROCESSING if key in config}
        if shared not in (None, entries):
            return {}
        shared = entries
    return shared or {}


def check_bias(model: Any, checkpoint: Path) -> None:
    """Check that the weights of a model with the sigmoid loss have its bias.

    open_clip takes a bias of 0 where there is none, which made every text match every image.

    Raises:
        ModelError: for weights without it.
    """
    from safetensors import safe_open

    if getattr(model, "logit_bias", None) is None:
        return
    with safe_open(checkpoint, framework="pt") as file:
        if not any(name.endswith("logit_bias") for name in file.keys()):  # noqa: SIM118
            raise ModelError(
                "weights of the SigLIP model have no logit_bias",
                given=str(checkpoint),
                allowed="weights trained with the sigmoid loss",
                todo="choose the config of the weights",
            )


def check_padding(model: Any, tokenize: Any) -> None:
    """Check that the tokenizer of a SigLIP model pads on the right.

    The text encoder reads a text at the last of its tokens, so padding on the other side, Gemma's
    default, gives embeddings that the model was not trained for.

    Raises:
        ModelError: if it pads on the left.
    """
    if getattr(model, "logit_bias", None) is None:
        return
    letter = tokenize(["a"])[0]
    if letter[-1] != letter[-2]:  # the end of the text, and no padding behind it
        raise ModelError(
            "tokenizer of the SigLIP model pads on the left",
            allowed="padding on the right, as SigLIP was trained",
            todo='set "padding_side": "right" in tokenizer_config.json',
        )


def download(architecture: str, tag: str) -> Path:
    """The weights of a tag, downloaded unless cached, or the given file.

    Raises:
        ModelError: for weights that are a pickle.
    """
    path = Path(tag)
    if not path.is_file():
        import open_clip
        from open_clip.pretrained import download_pretrained

        path = Path(download_pretrained(open_clip.get_pretrained_cfg(architecture, tag)))
    if path.suffix != ".safetensors":
        raise ModelError(
            "weights of the CLIP model are a pickle, which is never opened: it may run code",
            given=str(path),
            allowed="safetensors",
        )
    return path


def tokenizer_repository(architecture: str) -> str:
    """The Hub's repository of an architecture's tokenizer; empty where open_clip ships it."""
    import open_clip

    return str(open_clip.get_model_config(architecture)["text_cfg"].get("hf_tokenizer_name") or "")


def tokenizer_of(source: str) -> Any:
    """The tokenizer of a source, see `create`: texts -> token ids."""
    import open_clip

    of_transformers = open_clip.get_model_config(source)["text_cfg"].get("hf_tokenizer_name")
    options: dict[str, bool] = {"trust_remote_code": False} if of_transformers else {}
    if of_transformers and source.startswith("local-dir:"):
        options["local_files_only"] = True
    return open_clip.get_tokenizer(source, **options)
