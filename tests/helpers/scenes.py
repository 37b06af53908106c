"""Scene data sets and the meaning of their sentences, for tests of scenes."""

from __future__ import annotations

from functools import cache

from diffcls.data import catalog
from diffcls.data.dataset import Dataset
from diffcls.data.load import load_dataset
from diffcls.data.scenes.grammar import (
    KINDS,
    Group,
    Kind,
    Scene,
    parse,
)

SPLITS = [(n, s) for n, row in catalog.SPECS.items() if n.startswith("scenes") for s in row.splits]
TASKS = ["scenes/attributes", "scenes/held-out", "scenes/relations", "scenes/counting"]
CANDIDATES = {"scenes/attributes": 96, "scenes/held-out": 96}  # the others: 24
ALL = tuple(f"a {kind}" for kind in KINDS)

load = cache(load_dataset)


@cache
def scenes_of(name: str, split: str = "test") -> tuple[Scene, ...]:
    """The scene of each class."""
    return tuple(map(parse, load(name, split).class_names))


def shown(dataset: Dataset) -> list[str]:
    """The class of each image."""
    return [dataset.class_names[item.class_index] for item in dataset.items]


def kinds_of(scenes: tuple[Scene, ...]) -> set[Kind]:
    return {kind for scene in scenes for kind in scene.kinds}


def meaning(scene: Scene) -> tuple[Group, str, Group | None]:
    """The scene in a form that is equal for a sentence and its converse."""
    turned = {"to the right of": "to the left of", "below": "above"}
    if scene.second is not None and scene.relation in turned:
        return scene.second, turned[scene.relation], scene.first
    return scene.first, scene.relation, scene.second
