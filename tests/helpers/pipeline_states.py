"""All that can be observed of a diffusers pipeline and of its process, to compare over time."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

import numpy as np
import torch
from helpers.tiny_families import FAMILIES, _strengthen
from torch import Tensor, nn


def built(name: str, seed: int = 0) -> Any:
    """A tiny pipeline of a family in memory, which no file has ever held."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pipeline = FAMILIES[name]()
        with torch.no_grad():
            for part in pipeline.components.values():
                if isinstance(part, nn.Module):
                    _strengthen(part)
    return pipeline


def state_of(pipeline: Any) -> dict[str, Any]:
    """Weights to the byte, and every attribute of every module, of the tokenizers and the rest."""
    state: dict[str, Any] = {
        "attributes": {name: id(value) for name, value in vars(pipeline).items()},
        "config": json.dumps(dict(pipeline.config), default=str, sort_keys=True),
        "random": (
            str(random.getstate()),
            str(np.random.get_state()),  # noqa: NPY002
            torch.get_rng_state().tolist(),
        ),
        "process": (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()),
    }
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module):
            state[name] = {path: _of_module(module) for path, module in part.named_modules()}
        elif "tokenizer" in name and part is not None:
            compiled = part.backend_tokenizer.to_str()
            state[name] = (compiled, part.model_max_length, str(sorted(vars(part))))
        if hasattr(part, "config"):
            config = part.config.to_dict() if hasattr(part.config, "to_dict") else dict(part.config)
            state[f"config of {name}"] = json.dumps(config, default=str, sort_keys=True)
    return state


def _of_module(module: nn.Module) -> dict[str, Any]:
    own = {n: v for n, v in vars(module).items() if n not in ("_parameters", "_buffers")}
    tensors = {**module._parameters, **module._buffers}
    return {
        "class": type(module),
        "training": module.training,
        "attributes": {n: id(v) for n, v in own.items()},
        "collections": {n: list(v) for n, v in own.items() if isinstance(v, dict | list | set)},
        "tensors": {n: None if t is None else _of_tensor(t) for n, t in tensors.items()},
    }


def _of_tensor(tensor: Tensor) -> tuple[Any, ...]:
    content = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    place = (id(tensor), tensor.data_ptr(), tensor.stride(), tensor._version, str(tensor.device))
    gradient = None if tensor.grad is None else id(tensor.grad)
    digest = hashlib.sha256(content).hexdigest()
    return (*place, tensor.dtype, tensor.requires_grad, gradient, digest)
