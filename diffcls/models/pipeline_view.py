"""View of a pipeline: the same weights in modules of its own, so that the pipeline never changes.

A view shares the memory of all weights, and nothing else: train and eval mode, ``requires_grad``,
hooks, data types, places and the state of the tokenizers are its own. So a model in memory is used
in eval mode on any device while its owner's pipeline stays as it is, whatever happens. (As
`torch.nn.DataParallel` replicates a module on its devices.)
"""

from __future__ import annotations

import copy
import logging
import re
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from diffcls.models.family_table import FAMILY_TABLE, UNUSED, optional_parts
from diffcls.models.model_index import shown
from diffcls.models.unsupported_families import refusal
from diffcls.support.errors import ModelError, UsageError

WRAPPERS = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
}
"""Class around a network, of torch.compile or data parallelism -> attribute with the network."""
PLAIN_TENSORS = (Tensor, nn.Parameter, nn.Buffer)
OF_ACCELERATE = ("_hf_hook", "_original_forward")
"""Attributes of a module whose ``forward`` accelerate has replaced, to move weights or to cast."""
NOT_COPIED = (
    *("forward", "_old_forward", "_compiled_call_impl", *OF_ACCELERATE),
    # transformers registers its hooks again where this is missing
    "_output_capturing_hooks_installed",
)
LIBRARIES = ("transformers", "diffusers", "accelerate", "torch")
"""Libraries whose hooks record outputs or move weights."""
logger = logging.getLogger(__name__)
FROM_PIPE = "call {name}.from_pipe(pipe)"
REMOVE_HOOKS = "call pipe.remove_all_hooks() and pipe.to(DEVICE) first"


def family_of(pipeline: Any) -> str:
    """Name of the class of a diffusers pipeline, checked.

    Raises:
        UsageError: for anything but a pipeline of diffusers.
        ModelError: for a family that is not supported, or a part that is missing or of a class that
            the family does not use.
    """
    kind = type(pipeline)
    if not hasattr(pipeline, "components"):
        raise UsageError(
            "--model is neither the name of a model nor a pipeline",
            given=f"{kind.__module__}.{kind.__qualname__}",
            allowed="a name, path or Hub id, or a pipeline object of diffusers",
        )
    if not kind.__module__.startswith("diffusers.") or kind.__name__ not in FAMILY_TABLE:
        raise refusal("pipeline of a class that is not supported", kind.__name__, FROM_PIPE)
    for name, (library, pattern) in FAMILY_TABLE[kind.__name__].parts.items():
        part = getattr(pipeline, name, None)
        if part is None and name in optional_parts(kind.__name__):
            continue
        if part is None:
            raise ModelError(f"part {name!r} of the pipeline is missing", given=kind.__name__)
        part = unwrapped(part)
        if not any(
            base.__module__.startswith(f"{library}.")
            and re.fullmatch(pattern, base.__name__, re.ASCII)
            for base in type(part).__mro__
        ):
            raise ModelError(
                f"part {name!r} of the pipeline is of a class that this family does not use",
                given=type(part).__name__,
                allowed=f"{shown(pattern)} of {library}",
            )
    return kind.__name__


def unwrapped(part: Any) -> Any:
    """A part without what is wrapped around it by torch.compile, data parallelism or peft."""
    while True:
        name = WRAPPERS.get(type(part).__name__)
        if name is not None and isinstance(getattr(part, name, None), nn.Module):
            part = getattr(part, name)
        elif isinstance(part, nn.Module) and hasattr(part, "get_base_model"):  # PeftModel
            part = part.get_base_model()
        else:
            return part


def modules_of(pipeline: Any) -> dict[str, nn.Module]:
    """The networks of a pipeline by the names of their parts, unwrapped, checked and sorted.

    Raises:
        UsageError, ModelError: see `family_of` and `check_weights`.
    """
    names = sorted(FAMILY_TABLE[family_of(pipeline)].parts)
    parts = {name: unwrapped(getattr(pipeline, name, None)) for name in names}
    networks = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
    for name, network in networks.items():
        check_weights(name, network)
    return networks


def view_of(pipeline: Any) -> Any:
    """A view of a pipeline of a supported family.

    Raises:
        UsageError, ModelError: see `family_of` and `check_weights`.
    """
    networks = modules_of(pipeline)
    view = object.__new__(type(pipeline))
    # not by setattr, with which a pipeline writes to its config
    vars(view).update({name: _own(value) for name, value in vars(pipeline).items()})
    views: dict[int, Any] = {}
    for name in UNUSED:
        if name in vars(view):
            vars(view)[name] = None
    for name, network in networks.items():
        _warn_of_hooks(name, network)
        vars(view)[name] = _module_view(network, views)
    for name in FAMILY_TABLE[type(pipeline).__name__].parts:
        if "tokenizer" in name:  # its limits, and those of its compiled part, are set on each use
            vars(view)[name] = copy.deepcopy(getattr(pipeline, name, None))
    return view


def check_weights(name: str, part: nn.Module) -> None:
    """Check that a view of a part can share its weights and compute what the part does.

    Args:
        name: name of the part, for the message.
        part: the network.

    Raises:
        ModelError: for weights that are not there as plain tensors (quantised, sharded, moved away,
            or computed by a hook), and for a forward pass that was replaced, by diffusers' hooks or
            otherwise.
    """
    if getattr(part, "is_quantized", False) or getattr(part, "hf_quantizer", None) is not None:
        raise ModelError(
            f"the weights of part {name!r} are quantised",
            given=type(part).__name__,
            allowed="float32, bfloat16 or float16",
        )
    for path, module in part.named_modules():
        place = ".".join(filter(None, (name, path)))
        state = vars(module)
        hooks = getattr(state.get("_diffusers_hook"), "hooks", None)
        if hooks:
            raise ModelError(
                "hooks of diffusers change how a part of the pipeline computes",
                given=f"{', '.join(hooks)} of {place}",
                todo="switch off group offloading, layerwise casting and caching first",
            )
        for hook in _hooks(module):
            if _source(hook).startswith("torch.nn.utils."):
                raise ModelError(
                    "weights of the pipeline are computed by a hook",
                    given=f"{type(hook).__name__} of {place}",
                    todo="remove it with torch.nn.utils, for instance remove_weight_norm",
                )
        if "forward" in state and not any(key in state for key in OF_ACCELERATE):
            raise ModelError(
                "the forward pass of a part of the pipeline was replaced",
                given=place,
                todo="restore it with `del module.forward`",
            )
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is None:
                continue
            if tensor.is_meta:
                raise ModelError(
                    "the weights of the pipeline are elsewhere", place, todo=REMOVE_HOOKS
                )
            if type(tensor) not in PLAIN_TENSORS:
                raise ModelError(
                    "weights of the pipeline are quantised or sharded",
                    given=f"{type(tensor).__name__} of {place}",
                    allowed="plain tensors",
                )


def _warn_of_hooks(name: str, part: nn.Module) -> None:
    """Warn of the hooks of a person, which a view does not run."""
    own = {
        ".".join(filter(None, (name, path))): _source(hook)
        for path, module in part.named_modules()
        for hook in _hooks(module)
        if _source(hook).partition(".")[0] not in LIBRARIES
    }
    if own:
        example = "{1} of {0}".format(*next(iter(own.items())))
        logger.warning("hooks of the pipeline are not run: %d, such as %s", len(own), example)


def _hooks(module: nn.Module) -> tuple[Any, ...]:
    return (*module._forward_pre_hooks.values(), *module._forward_hooks.values())


def _source(hook: Any) -> str:
    """Name of the file of Python that a hook comes from."""
    return str(getattr(hook, "__module__", None) or type(hook).__module__)


def _module_view(module: nn.Module, views: dict[int, Any]) -> nn.Module:
    """A module of the same weights; `views` holds those there are, by the id of their source."""
    if id(module) in views:
        known: nn.Module = views[id(module)]
        return known
    view: nn.Module = object.__new__(type(module))
    views[id(module)] = view
    state = {n: _own(v) for n, v in vars(module).items() if n not in NOT_COPIED}
    state.update({n: v for n, v in vars(nn.Module()).items() if "hook" in n})  # none
    state["_parameters"] = {n: _tensor_view(p, views) for n, p in module._parameters.items()}
    state["_buffers"] = {n: _tensor_view(b, views) for n, b in module._buffers.items()}
    state["_modules"] = {
        n: None if child is None else _module_view(child, views)
        for n, child in module._modules.items()
    }
    vars(view).update(state)
    return view


def _tensor_view(tensor: Tensor | None, views: dict[int, Any]) -> Tensor | None:
    if tensor is None:
        return None
    if id(tensor) not in views:
        shared = tensor.detach()
        if shared.device.type == "cpu":  # as weights are read from files: the same last bits
            shared = shared.contiguous()
        is_parameter = isinstance(tensor, nn.Parameter)
        views[id(tensor)] = nn.Parameter(shared, requires_grad=False) if is_parameter else shared
    known: Tensor = views[id(tensor)]
    return known


def _own(value: Any) -> Any:
    """An attribute's value for a view: collections are its own, one level deep."""
    return copy.copy(value) if type(value) in (dict, list, set) else value


def text_config(encoder: Any) -> Any:
    """Config of a text encoder; that of its text part, for an encoder of texts and images."""
    config = encoder.config
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def dtype_of(network: nn.Module) -> torch.dtype:
    """The data type of most of a network's weights."""
    counts: Counter[torch.dtype] = Counter()
    for tensor in network.parameters():
        if tensor.is_floating_point():
            counts[tensor.dtype] += tensor.numel()
    return counts.most_common(1)[0][0] if counts else torch.float32


def cast(network: nn.Module, dtype: torch.dtype) -> None:
    """Convert the weights of a view to a data type, as they are when they are read from files.

    Layers that their library keeps in single precision stay so: T5's in float16.
    """
    kept = set(getattr(network, "_keep_in_fp32_modules", None) or ())
    for name, tensor in network.state_dict(keep_vars=True).items():  # no buffers made by code
        if tensor.is_floating_point():
            keep = dtype == torch.float16 and not kept.isdisjoint(name.split("."))
            tensor.data = tensor.data.to(torch.float32 if keep else dtype)
