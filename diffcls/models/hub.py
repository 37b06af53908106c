"""Hugging Face Hub: downloads a model by name or id into the local cache."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffcls.models.hub_names import MODELS, HubModel
from diffcls.models.model_index import INDEX, read_index
from diffcls.models.weight_files import choose_variant, variants_of
from diffcls.support.errors import ModelError
from diffcls.support.hub import (
    REQUEST_TIMEOUT_SECONDS,
    ask_hub,
    busy_error,
    busy_status,
    cached_commit,
    repository_cache,
)

REPOSITORY_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
FILE_PATTERNS = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors")
"""Files that a pipeline is loaded from; pickles are left out."""
Get = Callable[[list[str]], Path]
"""Paths of files of a repository -> the folder they are downloaded to."""


def named(name: str) -> HubModel | None:
    """Parse a short name or an id ``owner/name[@revision]``; None for anything else."""
    if name in MODELS:
        return MODELS[name]
    if not REPOSITORY_ID.fullmatch(name):
        return None
    repo_id, _, revision = name.partition("@")
    return HubModel(repo_id, revision)


def fetch(
    model: HubModel,
    half: bool = False,
    weights: bool = True,
    variant: str | None = None,
    without: str = "",
    editor: bool = False,
) -> tuple[Path, str]:
    """The folder of a model's pipeline, downloaded unless cached, and its commit.

    Args:
        model: the model.
        half: prefer weights in half precision, if the repository has them.
        weights: download the weights too, not only configs and tokenizers.
        variant: see `diffcls.models.weight_files.choose_variant`.
        without: part of which only the config is needed.
        editor: see `diffcls.models.model_index.read_index`.

    Raises:
        ModelError: for a model that does not exist or is gated, or that is not cached while the Hub
            cannot be reached.
    """

    def choose(files: list[str], get: Get) -> list[str]:
        if INDEX not in files:
            raise ModelError("not a diffusers pipeline on the Hub", given=str(model))
        # a family or part that is not supported is refused before its weights are downloaded
        parts = read_index(get([INDEX]), editor).parts
        return required_files(files, parts, half, weights, variant, without)

    return fetch_files(model, choose, "choose the folder of a pipeline: --model PATH")


def fetch_files(
    model: HubModel, choose: Callable[[list[str], Get], list[str]], local: str
) -> tuple[Path, str]:
    """The folder of chosen files of a model, downloaded unless cached, and its commit.

    Args:
        model: the model.
        choose: (paths of all files, download of some of them) -> paths of the files needed.
        local: what to do without the Hub, for the message.

    Raises:
        ModelError: see `fetch`.
    """
    from huggingface_hub import HfApi

    def request() -> Any:
        return HfApi().model_info(
            model.id, revision=model.revision or None, timeout=REQUEST_TIMEOUT_SECONDS
        )

    folder = repository_cache("models", model.id)

    def copy() -> str | None:
        return cached_commit(folder, model.revision or "main")

    info = ask_hub(request, lambda error: _refused(model, error), lambda: copy() is not None)
    if info is None:
        commit = copy()
        if commit is None:
            raise _out_of_reach(model, folder, local)
        return folder / "snapshots" / commit, commit
    files = [str(file.rfilename) for file in info.siblings or ()]
    commit = str(info.sha)

    def get(names: list[str]) -> Path:
        return _get(model, commit, names)

    return get(choose(files, get)), commit


def required_files(
    files: list[str],
    parts: Mapping[str, Any],
    half: bool,
    weights: bool = True,
    variant: str | None = None,
    without: str = "",
) -> list[str]:
    """Paths of the files that a pipeline needs: each part's weights in one variant, no pickles.

    Args:
        files: paths of all files of the repository.
        parts: the parts of the pipeline that are used, by name; None for others.
        half: whether to prefer variants in half precision.
        weights: whether weights are needed, and not only configs and tokenizers.
        variant, without: see `fetch`.

    Raises:
        ModelError: for a part whose weights are not stored as safetensors.
    """
    chosen = [INDEX]
    for part in (name for name, place in parts.items() if place and place[0]):
        folder = [p.rpartition("/")[2] for p in files if p.rpartition("/")[0] == part]
        readable = [n for n in folder if any(Path(n).match(pattern) for pattern in FILE_PATTERNS)]
        needed = [n for n in readable if ".safetensors" not in n]
        if weights and part != without and "config.json" in folder:  # the part is a network
            chosen_variant = choose_variant(part, folder, half, variant)
            indexes = [n for n in readable if n.endswith(".json") and n not in needed]
            needed += variants_of(folder)[chosen_variant]
            needed += [n for n in indexes if _index_variant(n) == chosen_variant]
        chosen += [f"{part}/{name}" for name in needed]
    return [path for path in files if path in chosen]


def _index_variant(name: str) -> str:
    """The variant in the name of an index of sharded weights; empty for none."""
    words = name.removesuffix(".json").replace(".safetensors", "").split(".")
    return ".".join(word for word in words[1:] if word != "index")


def _get(model: HubModel, commit: str, files: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model.id, revision=commit, allow_patterns=files))
    except Exception as error:  # network errors have no common base class
        busy = busy_status(error)
        if busy is not None:
            raise busy_error(busy) from error
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


def _out_of_reach(model: HubModel, folder: Path, local: str) -> ModelError:
    at = f" --revision {model.revision}" if model.revision else ""
    terms = ", after its terms were accepted" if model.gated else ""
    return ModelError(
        "the Hub cannot be reached, and the model is not in the cache",
        given=str(model),
        allowed=f"a copy in {folder}",
        todo=f"run `hf download {model.id}{at}` on a machine with a network{terms} and set HF_HOME "
        f"to its cache; or {local}",
    )
