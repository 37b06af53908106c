"""Revision of a pipeline in memory: a hash of its weights and all else that decides its numbers.

Neither the device, the order of entries, nor anything that the libraries write into configs and
tokenizers of their own accord is in it, so a pipeline has the same revision after it was moved, or
saved and loaded again.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from diffcls.models.family_table import AUTOENCODERS, FAMILY_TABLE
from diffcls.models.pipeline_view import family_of, modules_of, text_config, unwrapped
from diffcls.support.errors import ModelError
from diffcls.support.hashing import DIGEST_LENGTH, canonical_json, hash_json

LIBRARIES = ("torch", "diffusers", "transformers", "peft")
"""Libraries whose classes compute what configs and weights declare."""
OF_FILES = {"architectures", "transformers_version", "dtype", "torch_dtype", "name_or_path"}
"""Entries of a config of transformers that state where and how it was saved."""
OF_CALLS = {"truncation", "padding"}
"""Entries of a compiled tokenizer that each use sets."""
FREE_U = ("b1", "b2", "s1", "s2")
"""Attributes of the blocks of a U-Net that FreeU scales (Si et al. 2023)."""


def revision_of(pipeline: Any) -> str:
    """16 hexadecimal digits: the hash of weights, configs, tokenizers and active adapters.

    Args:
        pipeline: of a supported family; it is only read.

    Raises:
        ModelError: for a weight that is not finite.
    """
    digest = hashlib.sha256(canonical_json(description_of(pipeline)).encode())
    for name, part in modules_of(pipeline).items():
        for path, tensor in weights(part):
            # the autoencoder computes in single precision, whatever its weights are stored in
            values = (
                tensor.float() if name in AUTOENCODERS and tensor.is_floating_point() else tensor
            )
            if not torch.isfinite(values).all():
                raise ModelError(f"weights of part {name!r} are not finite", given=path)
            digest.update(f"{name}.{path} {values.dtype} {tuple(values.shape)}".encode())
            digest.update(_bytes(values))
    return digest.hexdigest()[:DIGEST_LENGTH]


def weights(part: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Name and value of each parameter, and of each buffer that is stored, by name."""
    named = {
        path: tensor.detach() for path, tensor in part.named_parameters(remove_duplicate=False)
    }
    for path, module in part.named_modules():
        for name, buffer in module._buffers.items():
            stored = name not in module._non_persistent_buffers_set
            if buffer is not None and stored and buffer.is_floating_point():
                named[f"{path}.{name}"] = buffer.detach()
    # versions of transformers differ in the names of the layers around a text model
    plain = {path.replace("text_model.", ""): tensor for path, tensor in named.items()}
    yield from sorted(plain.items(), key=lambda entry: entry[0])


def description_of(pipeline: Any, vocabularies: bool = True) -> dict[str, Any]:
    """All that decides the numbers of a pipeline beside its weights, as JSON has it.

    Args:
        pipeline: of a supported family.
        vocabularies: read the rules of tokenizers, which takes a second for a large one; else the
            number of tokens and the object stand for them.
    """
    family = family_of(pipeline)
    parts: dict[str, Any] = {}
    for name in sorted(FAMILY_TABLE[family].parts):
        part = unwrapped(getattr(pipeline, name, None))
        if part is None:
            continue
        if "tokenizer" in name:
            encoder = unwrapped(getattr(pipeline, name.replace("tokenizer", "text_encoder")))
            parts[name] = _of_tokenizer(part, encoder, vocabularies)
        else:
            parts[name] = _of_config(part)
            if isinstance(part, nn.Module):
                parts[name] |= _of_changes(part)
    described: dict[str, Any] = json.loads(
        json.dumps({"family": family, "parts": parts}, default=str)
    )
    return described


def state_of(pipeline: Any) -> tuple[object, ...]:
    """A value that changes with the numbers of a pipeline, found in one reading of its memory.

    What `description_of` has without the vocabularies of tokenizers, and of each tensor its device,
    the version that torch counts, which writing to ``tensor.data`` leaves, and the sum of its bits.
    """
    tensors = [t for part in modules_of(pipeline).values() for _, t in weights(part)]
    versions = tuple(None if t.is_inference() else t._version for t in tensors)
    sums: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        sums.setdefault(tensor.device, []).append(_bits(tensor).sum(dtype=torch.int64))
    totals = tuple((str(place), *torch.stack(part).tolist()) for place, part in sums.items())
    return versions, totals, hash_json(description_of(pipeline, vocabularies=False))


def _bits(tensor: Tensor) -> Tensor:
    """The content of a tensor as whole numbers (n,)."""
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.contiguous().reshape(-1).view(kinds[tensor.element_size()])


def _of_config(part: Any) -> dict[str, Any]:
    """The class of a part, and the entries of its config that differ from their defaults."""
    if hasattr(part.config, "to_diff_dict"):  # of transformers
        entries = part.config.to_diff_dict()
        defaults: Mapping[str, Any] = {}
    else:
        entries = dict(part.config)
        arguments = inspect.signature(type(part).__init__).parameters
        defaults = {name: argument.default for name, argument in arguments.items()}
    config = {
        name: _without_files(value)
        for name, value in entries.items()
        if not name.startswith("_")
        and name not in OF_FILES
        and not (name in defaults and _plain(defaults[name]) == _plain(value))
    }
    return {"class": type(part).__name__, "config": config}


def _without_files(value: Any) -> Any:
    """A value of a config without the entries of `OF_FILES` in configs within it."""
    if not isinstance(value, Mapping):
        return value
    return {name: _without_files(v) for name, v in value.items() if name not in OF_FILES}


def _plain(value: Any) -> Any:
    """A value as it is read from JSON: without the difference of tuples and lists."""
    return json.loads(json.dumps(value, default=str))


def _of_changes(part: nn.Module) -> dict[str, Any]:
    """What has been changed in a network since its config built it; empty as a rule.

    Adapters (LoRA) with their scales and whether they are active, FreeU, and classes that no
    library has.
    """
    changes: dict[str, Any] = {}
    for path, module in part.named_modules():
        kind = type(module)
        change: dict[str, Any] = {}
        if kind.__module__.partition(".")[0] not in LIBRARIES:
            change["class"] = f"{kind.__module__}.{kind.__qualname__}"
        if hasattr(module, "base_layer") and hasattr(module, "active_adapters"):
            change["class"] = kind.__name__
            for name in ("active_adapters", "disable_adapters", "merged_adapters"):
                change[name] = getattr(module, name)
            for name in ("scaling", "use_rslora", "use_dora", "fan_in_fan_out"):
                change[name] = getattr(module, name, None)
        for name in sorted(module._non_persistent_buffers_set):
            # computed in single precision, and converted by `pipeline.to` but not by loading
            dtype = getattr(module._buffers.get(name), "dtype", torch.float32)
            if dtype.is_floating_point and dtype != torch.float32:
                change[name] = str(dtype)
        change |= {n: v for n in FREE_U if isinstance(v := vars(module).get(n), int | float)}
        if change:
            changes[path] = change
    return {"changes": changes} if changes else {}


def _of_tokenizer(tokenizer: Any, encoder: Any, vocabularies: bool) -> dict[str, Any]:
    """Vocabulary, rules, special tokens, side of the padding, and the number of tokens it keeps."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules: Any
    if not vocabularies:
        rules = [id(tokenizer), len(tokenizer)]
    elif backend is not None:
        rules = {k: v for k, v in json.loads(backend.to_str()).items() if k not in OF_CALLS}
    else:
        ranks = getattr(tokenizer, "bpe_ranks", {})
        model = getattr(tokenizer, "sp_model", None)
        rules = {
            "vocabulary": tokenizer.get_vocab(),
            "merges": sorted([list(pair), rank] for pair, rank in ranks.items()),
            "pieces": hashlib.sha256(model.serialized_model_proto()).hexdigest() if model else "",
        }
    limit = getattr(text_config(encoder), "max_position_embeddings", None)
    tokens = int(tokenizer.model_max_length)
    # a template that some pipelines put every prompt into
    template = getattr(tokenizer, "chat_template", None)
    return {
        **({"chat_template": template} if template else {}),
        "rules": hash_json(rules),
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "padding_side": tokenizer.padding_side,
        "truncation_side": tokenizer.truncation_side,
        "max_tokens": tokens if limit is None else min(tokens, int(limit)),
    }


def _bytes(tensor: Tensor) -> memoryview:
    """The content of a tensor, in the order of its indices, wherever and however it lies."""
    flat = tensor.contiguous().reshape(-1).cpu()
    return memoryview(flat.view(torch.uint8).numpy())
