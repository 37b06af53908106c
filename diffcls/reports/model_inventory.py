"""Inventory of models for ``python -m diffcls.list models``: bundled ones, and names on the Hub."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffcls.classifiers.model_options import VERSIONS
from diffcls.models.clip_files import CONFIG as CLIP_CONFIG
from diffcls.models.hub_names import MODELS
from diffcls.models.loading import CARD, WEIGHTS
from diffcls.models.model_index import INDEX
from diffcls.support.errors import DiffclsError
from diffcls.support.hub import cached_commit, repository_cache
from diffcls.support.stored_json import parse_json

MAX_HEADER_BYTES = 100_000_000
"""Length of a safetensors header that its format allows."""
LICENCE = re.compile(r"^license:\s*(\S+)\s*$", re.MULTILINE)
WEIGHT_FILES = "**/*.safetensors"


def models() -> list[dict[str, Any]]:
    """Bundled models, then the short names of models on the Hub."""
    folders = sorted(path.parent for path in WEIGHTS.glob(f"*/{CARD}"))
    return [*map(_bundled, folders), *map(_on_hub, MODELS)]


def _aliases(name: str) -> list[str]:
    return [f"--version {version}" for version, model in VERSIONS.items() if model == name]


def _bundled(folder: Path) -> dict[str, Any]:
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    front_matter = text.split("---")[1] if text.startswith("---") else ""
    licence = LICENCE.search(front_matter)
    card = parse_json((folder / CARD).read_bytes())
    return {
        "name": folder.name,
        "aliases": _aliases(folder.name),
        "about": _kind(folder, bool(card.get("labels"))),
        "trained_on": list(card.get("trained_on", ())),
        "licence": licence[1] if licence else None,
        "data_licence": card.get("data", {}).get("licence"),
        "gated": False,
        "parameters": parameters(folder.glob(WEIGHT_FILES)),
        "megabytes": megabytes(folder.glob(WEIGHT_FILES)),
        "where": "bundled",
        "hub_id": None,
    }


def _kind(folder: Path, has_labels: bool) -> str:
    if (folder / INDEX).is_file():
        index = parse_json((folder / INDEX).read_bytes())
        condition = "class-conditional" if has_labels else "unconditional"
        condition = "text-conditional" if "text_encoder" in index else condition
        return f"{index['_class_name']}, {condition}"
    if (folder / CLIP_CONFIG).is_file():
        return "CLIP of open_clip"
    return "classifier of noisy images, for classifier guidance"


def _on_hub(name: str) -> dict[str, Any]:
    model = MODELS[name]
    repository = repository_cache("models", model.id)
    commit = cached_commit(repository, model.revision or "main")
    files = [] if commit is None else list((repository / "snapshots" / commit).glob(WEIGHT_FILES))
    return {
        "name": name,
        "aliases": [str(model), *_aliases(name)],
        "about": model.family,
        "trained_on": [],
        "licence": model.licence or None,
        "data_licence": None,
        "gated": model.gated,
        "parameters": parameters(files) if files else None,
        "megabytes": megabytes(files) if files else None,
        "where": str(repository) if files else "Hub",
        "hub_id": str(model),
    }


def parameters(files: Iterable[Path]) -> int | None:
    """Number of values in the tensors of safetensors files, from their headers alone.

    None without a file, or for a header that cannot be read. A model that stores its weights in
    two precisions counts them twice.
    """
    counts = [_values(path) for path in files]
    return None if not counts or None in counts else sum(filter(None, counts))


def _values(path: Path) -> int | None:
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > MAX_HEADER_BYTES:
                return None
            header = json.loads(file.read(length))
        return sum(math.prod(v["shape"]) for k, v in header.items() if k != "__metadata__")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, DiffclsError):
        return None


def megabytes(files: Iterable[Path]) -> float | None:
    """Size of files in units of 10⁶ bytes; None without a file."""
    sizes = [path.stat().st_size for path in files]
    return round(sum(sizes) / 1e6, 1) if sizes else None
