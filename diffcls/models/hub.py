"""Hugging Face Hub: downloads a model by name or id into the local cache."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from diffcls.models.hub_names import MODELS, HubModel
from diffcls.support.errors import ModelError
from diffcls.support.hub import REQUEST_TIMEOUT_SECONDS, ask_hub, cached_commit, repository_cache

REPOSITORY_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
FILE_PATTERNS = ("*.json", "*.txt", "*.model", "*.safetensors")
"""Files that a pipeline is loaded from; pickles are left out."""


def named(name: str) -> HubModel | None:
    """Parse a short name or an id ``owner/name[@revision]``; None for anything else."""
    if name in MODELS:
        return MODELS[name]
    if not REPOSITORY_ID.fullmatch(name):
        return None
    repo_id, _, revision = name.partition("@")
    return HubModel(repo_id, revision)


def fetch(model: HubModel, half: bool = False, weights: bool = True) -> tuple[Path, str]:
    """The folder of a model's pipeline, downloaded unless cached, and its commit.

    Args:
        model: the model.
        half: prefer weights in half precision, if the repository has them.
        weights: download the weights too, not only configs and tokenizers.

    Raises:
        ModelError: for a model that does not exist or is gated, or that is not cached while the Hub
            cannot be reached.
    """
    from huggingface_hub import HfApi

    def request() -> Any:
        return HfApi().model_info(
            model.id, revision=model.revision or None, timeout=REQUEST_TIMEOUT_SECONDS
        )

    info = ask_hub(request, lambda error: _refused(model, error))
    if info is None:
        folder = repository_cache("models", model.id)
        commit = cached_commit(folder, model.revision or "main")
        if commit is None:
            raise _out_of_reach(model, folder)
        return folder / "snapshots" / commit, commit
    files = [str(file.rfilename) for file in info.siblings or ()]
    commit = str(info.sha)
    if "model_index.json" not in files:
        raise ModelError("not a diffusers pipeline on the Hub", given=str(model))
    index = _get(model, commit, ["model_index.json"]) / "model_index.json"
    parts = json.loads(index.read_text(encoding="utf-8"))
    needed = required_files(files, parts, half)
    if not weights:
        needed = [path for path in needed if ".safetensors" not in path]
    return _get(model, commit, needed), commit


def required_files(files: list[str], parts: dict[str, Any], half: bool) -> list[str]:
    """Paths of the files that a pipeline needs: each weight in one precision, and no pickles.

    Args:
        files: paths of all files of the repository.
        parts: content of ``model_index.json``, the list of the components of the pipeline.
        half: whether to prefer ``*.fp16.safetensors``.
    """
    folders = {name for name, place in parts.items() if isinstance(place, list) and place[0]}
    of_parts = [
        path
        for path in files
        if path == "model_index.json"
        or (path.partition("/")[0] in folders and Path(path).match("*/*"))
    ]
    readable = [
        path for path in of_parts if any(Path(path).match(pattern) for pattern in FILE_PATTERNS)
    ]
    chosen = []
    for path in readable:
        folder, name = path.rpartition("/")[::2]
        is_half = ".fp16" in name
        siblings = [other for other in readable if other.rpartition("/")[0] == folder]
        weights = [other for other in siblings if ".safetensors" in other]
        halves = [other for other in weights if ".fp16" in other]
        wholes = [other for other in weights if other not in halves and not _foreign(other)]
        if ".safetensors" in name and (
            _foreign(path) or is_half != _use_half(half, halves, wholes)
        ):
            continue
        chosen.append(path)
    return chosen


def _foreign(path: str) -> bool:
    """Whether a file holds weights for other libraries, or weights without moving average."""
    name = path.rpartition("/")[2]
    return "non_ema" in name or "openvino" in name or name.startswith("flax")


def _use_half(half: bool, halves: list[str], wholes: list[str]) -> bool:
    return bool(halves) and (half or not wholes)


def _get(model: HubModel, commit: str, files: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model.id, revision=commit, allow_patterns=files))
    except Exception as error:  # network errors have no common base class
        raise _refused(model, error) or ModelError(
            f"download of the model is incomplete ({type(error).__name__})",
            given=str(model),
            todo="rerun the command to resume the download",
        ) from error


def _refused(model: HubModel, error: Exception) -> ModelError | None:
    """The error for a missing or gated model, None for any other failure."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return ModelError(
            "the model on the Hub is gated",
            given=model.id,
            todo="accept its terms on its page, then log in with `hf auth login`",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(f"no such revision of {model.id}", given=model.revision)
    if isinstance(error, errors.RepositoryNotFoundError | errors.DisabledRepoError):
        return ModelError(
            "no such model on the Hub",
            given=model.id,
            todo="check the id; for a private model, log in with `hf auth login`",
        )
    return None


def _out_of_reach(model: HubModel, folder: Path) -> ModelError:
    at = f" --revision {model.revision}" if model.revision else ""
    terms = ", after its terms were accepted" if model.gated else ""
    return ModelError(
        "the Hub cannot be reached, and the model is not in the cache",
        given=str(model),
        allowed=f"a copy in {folder}",
        todo=f"run `hf download {model.id}{at}` on a machine with a network{terms} and set HF_HOME "
        "to its cache; or choose the folder of a pipeline: --model PATH",
    )
