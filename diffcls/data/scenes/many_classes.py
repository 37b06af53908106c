"""Scenes with N classes, ``scenes:N``: measures cost as a function of the number of classes.

The first 96 classes are the single objects in random order; scenes of two groups follow. The
classes of a smaller set are a prefix of those of a larger one. ``scenes:A-B`` has classes A to
B − 1, counted from 0: it shares no class with ``scenes:A``.
"""

from __future__ import annotations

import random
from functools import cache

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset
from diffcls.data.scenes.grammar import KINDS, RELATIONS, SEEN, Group, Scene
from diffcls.data.scenes.paraphrases import CONVERSE
from diffcls.data.scenes.tasks import TEST_IMAGES, make_dataset
from diffcls.support.errors import UsageError
from diffcls.support.seeding import key

MAX_CLASSES = 10_000


def load(query: Query) -> Dataset:
    """1,000 images of the classes, in rotation.

    Raises:
        UsageError: if the name has no range of at least 2 and at most 10,000 classes.
    """
    name = query.spec.name
    first, last = _range(name)
    scenes = classes(last)[first:]
    labels = [i % len(scenes) for i in range(TEST_IMAGES)]
    names = tuple(map(str, scenes))
    rendered = [scenes[label] for label in labels]
    return make_dataset(name, query.split, "labels", names, rendered, labels)


def _range(name: str) -> tuple[int, int]:
    """First class and end of the classes of ``scenes:N`` or ``scenes:A-B``."""
    text = name.partition(":")[2]
    start, dash, end = text.rpartition("-")
    numbers = [start, end] if dash else ["0", end]
    if all(number.isdecimal() for number in numbers):
        first, last = map(int, numbers)
        if first + 2 <= last <= MAX_CLASSES:
            return first, last
    raise UsageError(
        "--dataset scenes:N: invalid number of classes",
        given=name,
        allowed=f"N from 2 to {MAX_CLASSES:,}; or scenes:A-B, classes A to B − 1 of these",
    )


@cache
def classes(count: int) -> tuple[Scene, ...]:
    """Scenes of the first `count` classes."""
    rng = random.Random(key("scenes", "labels"))
    scenes = dict.fromkeys(Scene(Group(kind)) for kind in rng.sample(KINDS, len(KINDS)))
    while len(scenes) < count:
        first, second = (Group(rng.choice(SEEN), rng.choice((1, 1, 2))) for _ in range(2))
        scene = Scene(first, rng.choice(RELATIONS), second)
        # "A left of B" and "B right of A" are one class
        converse = Scene(second, CONVERSE[scene.relation], first)
        if scene.fits and first.kind != second.kind and converse not in scenes:
            scenes[scene] = None
    return tuple(scenes)[:count]
