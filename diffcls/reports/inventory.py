"""Inventories for ``python -m diffcls.list``: data sets, methods, searches and samplers.

Names come from the registries, so that a new entry is listed without a change here. A value that
the project does not know is None; nothing is downloaded, and no model library is imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffcls.classifiers import METHODS
from diffcls.data.catalog import ALIASES, PREFIXES, SPECS, DatasetSpec
from diffcls.data.dataset_facts import FACTS, UNKNOWN
from diffcls.data.hub_ids import OTHER_IDS
from diffcls.generation.samplers import SAMPLERS
from diffcls.search import SEARCHES
from diffcls.support.hub import repository_cache
from diffcls.support.source_docs import summary_of

Entry = dict[str, Any]
IN_THE_PACKAGE, YOUR_OWN = "in the package", "your own"


def datasets() -> list[Entry]:
    """Every data set of the catalog, then the forms of a person's own data."""
    return [*map(_dataset, SPECS.values()), *map(_form, PREFIXES)]


def _form(prefix: str) -> Entry:
    row = PREFIXES[prefix]
    return {
        "name": f"{prefix}:{row.argument}",
        "aliases": [],
        "about": summary_of(row.source),
        "classes": None,
        "test_images": None,
        "licence": None,
        "gated": None,
        "download_mb": None,
        "where": YOUR_OWN if row.own else IN_THE_PACKAGE,
        "hub_id": None,
        "default_model": row.model or None,
    }


def _dataset(spec: DatasetSpec) -> Entry:
    facts = FACTS.get(spec.name, UNKNOWN)
    place = spec.layout or spec.source
    copies = [f"hf:{id_}" for id_, name in OTHER_IDS.items() if name == spec.name]
    return {
        "name": spec.name,
        "aliases": [alias for alias, name in ALIASES.items() if name == spec.name] + copies,
        "about": facts.title or (summary_of(place) if place else ""),
        "classes": facts.classes,
        "test_images": facts.test_images,
        "licence": facts.licence,
        "gated": spec.hub.gated if spec.hub else False,
        "download_mb": facts.download_mb if spec.hub else 0,
        "where": where_on_hub("datasets", spec.hub.id) if spec.hub else IN_THE_PACKAGE,
        "hub_id": spec.hub.id if spec.hub else None,
        "default_model": spec.model,
    }


def where_on_hub(kind: str, repo_id: str) -> str:
    """Where a repository's files are: ``Hub``, or the folder of the local cache that holds them."""
    folder = repository_cache(kind, repo_id)
    return str(folder) if is_cached(folder) else "Hub"


def is_cached(folder: Path) -> bool:
    """Whether a repository's folder of the cache holds a snapshot with files."""
    return any(path.is_file() for path in folder.glob("snapshots/*/**/*"))


def methods() -> list[Entry]:
    """Every ``--method``, with the options that it reads."""
    return [
        {
            "name": name,
            "about": summary_of(METHODS[name]),
            "options": sorted(METHODS.load(name).reads),
        }
        for name in METHODS
    ]


def searches() -> list[Entry]:
    """Every ``--search``."""
    return [{"name": name, "about": summary_of(SEARCHES[name])} for name in SEARCHES]


def samplers() -> list[Entry]:
    """Every ``--sampler``, with the models that it fits and its cost at 25 steps."""
    fits = {None: "all", True: "rectified flows", False: "variance-preserving"}
    return [
        {
            "name": name,
            "about": sampler.description,
            "schedules": fits[sampler.flow] + (", learned variance" if sampler.learned else ""),
            "forwards_at_25_steps": sampler.forwards(25),
        }
        for name, sampler in SAMPLERS.items()
    ]
