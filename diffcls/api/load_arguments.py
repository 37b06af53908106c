"""Arguments that load a classifier: names, device, precision, and those of other libraries.

People bring the arguments of transformers' ``pipeline()`` and of diffusers' ``from_pretrained``.
They are read here, or refused by name with what to do.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any

from diffcls.api.call_arguments import SORTED, Refusal, refuse
from diffcls.api.control import ARGUMENTS
from diffcls.api.image_openers import library
from diffcls.search import SEARCHES
from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    import torch

    from diffcls.models.denoiser import Denoiser

TASK = "zero-shot-image-classification"
NO_PART = "remove it: the parts of a pipeline are those of its folder"
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
LOAD_REFUSALS: Mapping[str, Refusal] = {
    "config": Refusal(NO_PART),
    "tokenizer": Refusal(NO_PART),
    "feature_extractor": Refusal(NO_PART),
    "image_processor": Refusal("give img_size=…: images are resized as in the model's training"),
    "video_processor": Refusal(NO_PART),
    "processor": Refusal(NO_PART),
    "use_fast": Refusal("remove it: tokenizers are fast where the model has such files", (True,)),
    "token": Refusal(LOGIN),
    "use_auth_token": Refusal(LOGIN),
    "device_map": Refusal("give device=…: a classifier runs on one device"),
    "trust_remote_code": Refusal("remove it: no code of a model is run", (False,)),
    "code_revision": Refusal("remove it: no code of a model is run"),
    "custom_pipeline": Refusal("remove it: no code of a model is run"),
    "pipeline_class": Refusal("remove it: the class is that of the model's model_index.json"),
    "model_kwargs": Refusal("give device, dtype and revision as arguments of their own", ({},)),
    "framework": Refusal("remove it: models run in PyTorch", ("pt",)),
    "args_parser": Refusal("remove it: a call has no arguments to parse"),
    "binary_output": Refusal("remove it, and pickle the answer", (False,)),
    "num_workers": Refusal("remove it: a thread reads images one batch ahead", (0,)),
    "local_files_only": Refusal("set HF_HUB_OFFLINE=1: nothing is then downloaded", (False,)),
    "cache_dir": Refusal("set HF_HOME to the folder of the cache"),
    "force_download": Refusal("remove it, and delete the model from the cache", (False,)),
    "subfolder": Refusal("give the folder itself as name_or_path"),
    "variant": Refusal("remove it: half-precision files are chosen by dtype"),
    "use_safetensors": Refusal("remove it: only safetensors are read", (True,)),
    "low_cpu_mem_usage": Refusal("remove it", (True, False)),
    "safety_checker": Refusal("remove it: nothing is generated, so nothing is checked"),
    "candidate_labels": Refusal("give candidate_labels=… to each call"),
    "tokenizer_kwargs": Refusal("remove it: prompts are padded as in the model's training", ({},)),
    "top_k": Refusal(SORTED),
    "assistant_model": Refusal("remove it: no text is generated"),
    "assistant_tokenizer": Refusal("remove it: no text is generated"),
}
LOAD_ARGUMENTS = (
    "name_or_path",
    "model",
    "pretrained_model_name_or_path",
    "task",
    "revision",
    "device",
    "dtype",
    "torch_dtype",
    "search",
    "seed",
    "batch_size",
    "img_size",
    "hypothesis_template",
    "timeout",
    "allow_private_addresses",
    *ARGUMENTS,
)


def build_search(search: str, options: Mapping[str, Any]) -> Any:
    """The search of a name.

    Raises:
        UsageError: for an unknown search, or an option that it does not have.
    """
    if search == "learned":
        raise UsageError(
            "search='learned' is fitted on unlabelled images, which a call has not",
            todo="choose search='gradient', or run python -m diffcls.evaluate --search learned",
        )
    try:
        return SEARCHES.load(search)(**options)
    except TypeError as error:
        raise UsageError(f"the search {search!r} has no such option: {error}") from None


def search_options(search: str, other: dict[str, Any]) -> dict[str, Any]:
    """The options of the search among further arguments; all other ones are refused.

    Raises:
        UsageError: for an unknown search, values that it refuses, and other arguments.
    """
    fields = _options(search)
    options = {name: other.pop(name) for name in fields if name in other}
    # the name of an option of another search is no misspelling
    for name in other:
        having = [one for one in SEARCHES if name in _options(one)]
        if having and name not in LOAD_REFUSALS:
            raise UsageError(
                f"the search {search!r} has no such option: {name}",
                given=other[name],
                allowed=fields,
                todo=f"remove it, or choose search={having[0]!r}",
            )
    refuse(other, LOAD_REFUSALS, (*LOAD_ARGUMENTS, *fields), "from_pretrained")
    build_search(search, options)  # a wrong value is refused before anything heavy is loaded
    return options


def _options(search: str) -> list[str]:
    return [field.name for field in dataclasses.fields(SEARCHES.load(search)) if field.init]


def model_name(name: Any, revision: str | None, other: dict[str, Any]) -> str:
    """The model's name of ``name_or_path``, ``model=`` or transformers' (task, model).

    Args:
        name: the first argument; None if it was not given.
        revision: branch, tag or commit of a model on the Hub.
        other: further arguments; the aliases of the name, and ``task``, are removed.

    Raises:
        UsageError: for another task, two names, a model in memory, or a revision of a model that is
            not on the Hub.
    """
    task = other.pop("task", None)
    aliases = [other.pop(one, None) for one in ("model", "pretrained_model_name_or_path")]
    names = [one for one in (name, *aliases) if one is not None and one != TASK]
    if task not in (None, "", TASK):
        raise UsageError("task is not supported", given=task, allowed=[TASK])
    if len(names) > 1 or (name == TASK and not names):
        allowed = "one name or path, as name_or_path or model"
        raise UsageError("the model is not named once", given=[name, *aliases], allowed=allowed)
    found = names[0] if names else "digits"
    if not isinstance(found, str | os.PathLike):
        raise UsageError(
            "the model is not a name or path",
            given=type(found).__name__,
            todo="for a diffusers pipeline in memory, use from_pipeline(pipe)",
        )
    text = os.fspath(found)
    return text if revision is None else _at_revision(text, revision)


def _at_revision(name: str, revision: str) -> str:
    from diffcls.models import hub

    model = hub.named(name)
    if model is None or os.path.exists(name):
        todo = "remove revision: a bundled or local model has one, the hash of its files"
        raise UsageError("revision of a model that is not on the Hub", given=revision, todo=todo)
    if "@" in name and model.revision != revision:
        raise UsageError("two revisions", given=f"{name}, revision {revision}", todo="give one")
    return f"{model.id}@{revision}"


def device_name(device: Any) -> str | None:
    """The name of a device that is given as text, number or ``torch.device``.

    Numbers are transformers': −1 is the CPU, n the accelerator n.

    Raises:
        UsageError: for any other number, and an accelerator that is not there.
    """
    if device is None or isinstance(device, str):
        return device
    if library(device) == "torch" and hasattr(device, "type"):
        return str(device)
    if not isinstance(device, Integral) or isinstance(device, bool) or device < -1:
        allowed = "auto, cpu, cuda, cuda:N, mps, -1 for the CPU, N for the accelerator N"
        raise UsageError("unknown device", given=device, allowed=allowed)
    if device == -1:
        return "cpu"
    import torch

    if torch.cuda.is_available() and device < torch.cuda.device_count():
        return f"cuda:{int(device)}"
    if device == 0 and torch.backends.mps.is_available():
        return "mps"
    raise UsageError(
        f"accelerator {int(device)} is not available", given=device, todo='use device=-1 or "cpu"'
    )


def dtype_of(dtype: Any, torch_dtype: Any = None) -> torch.dtype | None:
    """The precision of ``dtype`` or its older name ``torch_dtype``; None for ``auto``.

    Raises:
        UsageError: for two that differ, and any but float32, float16 and bfloat16.
    """
    from diffcls.models import devices

    read = [
        None if one is None else devices.resolve_dtype(str(one).removeprefix("torch."))
        for one in (dtype, torch_dtype)
    ]
    if dtype is not None and torch_dtype is not None and read[0] != read[1]:
        given = f"{dtype}, {torch_dtype}"
        raise UsageError("dtype and torch_dtype differ", given=given, todo="remove torch_dtype")
    return read[0] if dtype is not None else read[1]


def placement(
    denoiser: Denoiser, device: Any, dtype: Any, torch_dtype: Any
) -> tuple[str, torch.dtype]:
    """The device and the precision that a model is moved to; what is not given stays.

    Args:
        denoiser: the model as it is.
        device: see `device_name`; or a ``torch.dtype``, as ``torch.nn.Module.to`` takes it.
        dtype, torch_dtype: see `dtype_of`.

    Raises:
        UsageError: as `device_name`, `dtype_of` and `diffcls.models.devices.resolve_device`.
    """
    from diffcls.models import devices

    if library(device) == "torch" and not hasattr(device, "type"):
        device, dtype = None, dtype_of(device, dtype)
    precision = dtype_of(dtype, torch_dtype) or denoiser.dtype
    if device is None:
        return str(denoiser.device), precision
    return devices.resolve_device(device_name(device)), precision
