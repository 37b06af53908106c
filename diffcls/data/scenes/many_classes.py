"""Scenes with any number of classes, ``scenes:N``, to measure how cost grows with that number.

The first 96 classes are the single objects, in an order of their own; then come scenes of two
groups. A smaller set is a prefix of a larger one.
"""

from __future__ import annotations

import random
from functools import cache

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset
from diffcls.data.scenes.grammar import KINDS, RELATIONS, SEEN, Group, Scene
from diffcls.data.scenes.paraphrases import CONVERSE
from diffcls.data.scenes.tasks import TEST, make_dataset
from diffcls.support.errors import UsageError
from diffcls.support.seeding import key

MOST = 10_000


def load(query: Query) -> Dataset:
    """A thousand images of the first N classes, each class in turn.

    Raises:
        UsageError: for anything but a whole number from 2 to 10,000.
    """
    name = query.spec.name
    text = name.partition(":")[2]
    if not (text.isdecimal() and 2 <= int(text) <= MOST):
        raise UsageError(
            "no number of classes", given=name, allowed=f"scenes:N, N from 2 to {MOST:,}"
        )
    scenes = classes(int(text))
    labels = [i % len(scenes) for i in range(TEST)]
    names = tuple(map(str, scenes))
    drawn = [scenes[label] for label in labels]
    return make_dataset(name, query.split, "labels", names, drawn, labels)


@cache
def classes(count: int) -> tuple[Scene, ...]:
    """The first `count` classes."""
    rng = random.Random(key("scenes", "labels"))
    found = dict.fromkeys(Scene(Group(kind)) for kind in rng.sample(KINDS, len(KINDS)))
    while len(found) < count:
        first, second = (Group(rng.choice(SEEN), rng.choice((1, 1, 2))) for _ in range(2))
        scene = Scene(first, rng.choice(RELATIONS), second)
        # "A left of B" and "B right of A" are one class
        converse = Scene(second, CONVERSE[scene.relation], first)
        if scene.fits and first.kind != second.kind and converse not in found:
            found[scene] = None
    return tuple(found)[:count]
