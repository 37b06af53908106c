"""Names of CLIP models: bundled, a folder, on the Hub, or open_clip's architecture and tag.

Their cards are known without opening the weights.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffcls.data.seen_images import SEEN_FILE
from diffcls.models import hub
from diffcls.models.card import CARD, card_of, read_stored
from diffcls.models.clip_files import CHECKPOINTS, CONFIG
from diffcls.models.denoiser import ModelCard
from diffcls.models.hub_names import HubModel
from diffcls.models.loading import WEIGHTS
from diffcls.models.revision import files_below, revision_of
from diffcls.support.errors import ModelError, UsageError, unknown_name
from diffcls.support.hashing import hash_file
from diffcls.support.hub import ask_hub, cached_commit, repository_cache

_NULL_HANDLER = logging.NullHandler()
INSTALL = 'pip install "diffcls[clip]"'
HUB = "hf-hub:"
"""Prefix of a Hub id, as in open_clip and timm: ``hf-hub:OWNER/NAME[@REVISION]``."""
TOKENIZER_SUFFIXES = (".json", ".txt", ".model")


def bundled() -> list[str]:
    """Names of the bundled CLIP models."""
    return sorted(path.parent.name for path in WEIGHTS.glob(f"*/{CONFIG}"))


def check_name(name: str) -> None:
    """Check a name without opening a model or contacting the Hub.

    Raises:
        UsageError: for a name that is not a bundled model, a folder, ``hf-hub:OWNER/NAME`` or
            ``ARCHITECTURE/TAG``, with a "did you mean".
        ModelError: if open_clip is not installed, or a folder contains no model of it.
    """
    if name in bundled():
        return
    if name.startswith(HUB):
        hub_model(name)
        import_open_clip()
        return
    if Path(name).is_dir():
        if not (Path(name) / CONFIG).is_file():
            raise ModelError(
                "not an open_clip folder", given=name, allowed=f"a folder with {CONFIG}"
            )
        return
    open_clip = import_open_clip()
    architecture, _, tag = name.partition("/")
    if architecture not in open_clip.list_models():
        forms = ["ARCHITECTURE/TAG such as RN50/openai, as open_clip lists them", "PATH"]
        forms.append(f"{HUB}OWNER/NAME")
        known = [f"{model}/{tag}" for model, tag in open_clip.list_pretrained()]
        meant = f"{HUB}{name}" if tag in open_clip.list_models() else None  # timm/ViT-B-16-SigLIP
        raise unknown_name("CLIP model", name, [*bundled(), *known], [*bundled(), *forms], meant)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag not in tags and not Path(tag).is_file():
        raise unknown_name(f"weights of {architecture}", tag, [*tags, "FILE.safetensors"])


def import_open_clip() -> Any:
    """open_clip, whose log messages stay its own.

    Raises:
        ModelError: if it is not installed.
    """
    try:
        import open_clip
    except ImportError as error:
        raise ModelError("CLIP needs open_clip", given=str(error), todo=INSTALL) from None
    # open_clip logs to the root logger, which would add a handler that repeats our messages
    logging.getLogger().addHandler(_NULL_HANDLER)
    return open_clip


def find_card(name: str) -> ModelCard:
    """The card of a model, without opening its weights.

    Raises:
        UsageError, ModelError: see `diffcls.models.clip.load`.
    """
    check_name(name)
    if name.startswith(HUB):
        return hub_folder(name, weights=False)[1]
    folder = folder_of(name)
    if folder is not None:
        return read_card(folder)
    architecture, _, tag = name.partition("/")
    return ModelCard(name, _revision(architecture, tag))


def folder_of(name: str) -> Path | None:
    """Path of a bundled model or a folder, None for any other name."""
    folder = WEIGHTS / name if name in bundled() else Path(name)
    return folder if folder.is_dir() else None


def hub_model(name: str) -> HubModel:
    """The repository of a name ``hf-hub:OWNER/NAME[@REVISION]``.

    Raises:
        UsageError: for a name of another form.
    """
    model_id = name.removeprefix(HUB)
    if not hub.REPOSITORY_ID.fullmatch(model_id):
        raise UsageError("not an id on the Hub", given=name, allowed=f"{HUB}OWNER/NAME[@REVISION]")
    repository, _, revision = model_id.partition("@")
    return HubModel(repository, revision)


def hub_folder(name: str, weights: bool = True) -> tuple[Path, ModelCard]:
    """The folder of a CLIP on the Hub, downloaded unless cached, and its card.

    Args:
        name: see `hub_model`.
        weights: download the weights too, not only configs and tokenizer.

    Raises:
        ModelError: see `diffcls.models.hub.fetch_files`.
    """
    model = hub_model(name)

    def choose(files: list[str], _: hub.Get) -> list[str]:
        if CONFIG not in files:
            raise ModelError("not an open_clip model on the Hub", given=str(model))
        found = [file for file in CHECKPOINTS if file in files]
        if not found:
            raise ModelError(
                "the CLIP model on the Hub has no safetensors; pickles are never opened",
                given=str(model),
                allowed=", ".join(CHECKPOINTS),
            )
        small = [file for file in files if file.endswith(TOKENIZER_SUFFIXES) and "/" not in file]
        return small + found[:1] * weights

    folder, commit = hub.fetch_files(model, choose, "choose a folder: --clip-model PATH")
    return folder, replace(card_of(read_stored(folder), folder, model.id), revision=commit)


def read_card(folder: Path) -> ModelCard:
    """The card in a folder; the revision is a hash of weights, configs and tokenizer."""
    card = card_of(read_stored(folder), folder)
    card = ModelCard(card.name, "", trained_on=card.trained_on, seen_images=card.seen_images)
    files = [path for path in files_below(folder) if path.name not in (CARD, SEEN_FILE)]
    return replace(card, revision=revision_of(files, folder, card))


def _revision(architecture: str, tag: str) -> str:
    """The Hub's commit of a tag's weights, or the hash of a file.

    Raises:
        UsageError: for a file that is not a safetensors file.
        ModelError: if the weights are not cached while the Hub cannot be reached.
    """
    if Path(tag).is_file():
        if Path(tag).suffix != ".safetensors":
            raise UsageError("CLIP weights are not a .safetensors file", given=tag)
        return hash_file(tag)
    config = import_open_clip().get_pretrained_cfg(architecture, tag)
    repository = str(config.get("hf_hub") or "").rstrip("/")
    if not repository:
        return f"{tag} of open_clip"
    return cached_or_reachable(repository, "the CLIP model", f"{architecture}/{tag}")


def cached_or_reachable(repository: str, part: str, name: str) -> str:
    """The commit of a repository, cached or else the newest one on the Hub.

    Args:
        repository: id on the Hub.
        part: what it holds, for the message.
        name: the model's name, for the message.

    Raises:
        ModelError: if it is not cached while the Hub cannot be reached, in seconds: the Hub's own
            libraries would retry for half a minute.
    """
    folder = repository_cache("models", repository)
    cached = cached_commit(folder, "main")

    def request() -> str:
        from huggingface_hub import HfApi

        return str(HfApi().model_info(repository, timeout=3.0).sha)

    commit = cached or ask_hub(request, lambda error: None)
    if commit is None:
        raise ModelError(
            f"the Hub cannot be reached, and {part} is not in the cache",
            given=f"{name} ({repository})",
            allowed=f"a copy in {folder}",
            todo=f"run `hf download {repository}` on a machine with a network, and set "
            "HF_HOME to its cache",
        )
    return commit
