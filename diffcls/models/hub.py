"""Hugging Face Hub: downloads a model by name or id into the local cache."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from diffcls.models.hub_names import MODELS, HubModel
from diffcls.support.errors import ModelError
from diffcls.support.hub import REQUEST_TIMEOUT_SECONDS, ask_hub, cached_commit, repository_cache

ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
READ = ("*.json", "*.txt", "*.model", "*.safetensors")


def named(name: str) -> HubModel | None:
    """Parse a short name or an id ``owner/name[@revision]``; None for anything else."""
    if name in MODELS:
        return MODELS[name]
    if not ID.fullmatch(name):
        return None
    repo_id, _, revision = name.partition("@")
    return HubModel(repo_id, revision)


def fetch(model: HubModel, half: bool = False, weights: bool = True) -> tuple[Path, str]:
    """The folder of a model's pipeline, downloaded unless cached, and its commit.

    Args:
        model: which.
        half: whether files in half precision will do, where the repository has such.
        weights: whether they are needed, or configs and tokenizers are enough.

    Raises:
        ModelError: for what does not exist, may not be read, or is neither in reach nor cached.
    """
    from huggingface_hub import HfApi

    def ask() -> Any:
        return HfApi().model_info(
            model.id, revision=model.revision or None, timeout=REQUEST_TIMEOUT_SECONDS
        )

    info = ask_hub(ask, lambda error: _refused(model, error))
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
    needed = wanted(files, parts, half)
    if not weights:
        needed = [path for path in needed if ".safetensors" not in path]
    return _get(model, commit, needed), commit


def wanted(files: list[str], parts: dict[str, Any], half: bool) -> list[str]:
    """Files of the parts in a pipeline's index: each weight once, without pickles.

    Args:
        files: all of the repository.
        parts: ``model_index.json``.
        half: prefer ``*.fp16.safetensors``.
    """
    folders = {name for name, place in parts.items() if isinstance(place, list) and place[0]}
    mine = [
        path
        for path in files
        if path == "model_index.json"
        or (path.partition("/")[0] in folders and Path(path).match("*/*"))
    ]
    mine = [path for path in mine if any(Path(path).match(pattern) for pattern in READ)]
    chosen = []
    for path in mine:
        folder, name = path.rpartition("/")[::2]
        is_half = ".fp16" in name
        siblings = [other for other in mine if other.rpartition("/")[0] == folder]
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
    """Whether a file holds weights for other libraries, or moving averages of a training."""
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
            f"could not get all files of the model ({type(error).__name__})",
            given=str(model),
            todo="the same command goes on from here",
        ) from error


def _refused(model: HubModel, error: Exception) -> ModelError | None:
    """The error for a missing or gated model, None for any other failure."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return ModelError(
            "this model of the Hub is gated",
            given=model.id,
            todo="accept its terms on its page, then log in with `hf auth login`",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(f"no such revision of {model.id}", given=model.revision)
    if isinstance(error, errors.RepositoryNotFoundError | errors.DisabledRepoError):
        return ModelError(
            "no such model on the Hub",
            given=model.id,
            todo="check the id; for a private one, log in with `hf auth login`",
        )
    return None


def _out_of_reach(model: HubModel, folder: Path) -> ModelError:
    at = f" --revision {model.revision}" if model.revision else ""
    terms = ", after its terms were accepted" if model.gated else ""
    return ModelError(
        "the Hub cannot be reached, and this model is not in the cache",
        given=str(model),
        allowed=f"a copy in {folder}",
        todo=f"run `hf download {model.id}{at}` where there is a network{terms} and set HF_HOME to "
        "the cache it fills; or give the folder of a pipeline: --model PATH",
    )
