"""Benchmarks of scenes, and the training set of models of scenes.

============================  ========================================  ==========================
``scenes``                    one to three objects                      training only
``scenes/attributes``         one object of a combination seen          all 96 combinations
``scenes/held-out``           one object of a combination never seen    all 96 combinations
``scenes/relations``          two objects in one of four relations      6 pairs × 4 relations
``scenes/counting``           one to three objects of a kind            8 kinds × 3 numbers
``scenes/pairs``              two images, two sentences of one stock    the pair's two sentences
                              of words (Thrush et al. 2022, Winoground)
============================  ========================================  ==========================

The splits ``train`` of the benchmarks are labelled images for methods that learn from labels, of
all classes, those never shown to the models of scenes included.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset, Item
from diffcls.data.scenes.grammar import HELD_OUT, KINDS, RELATIONS, SEEN, Group, Kind, Scene
from diffcls.data.scenes.render import draw
from diffcls.support.hashing import content_hash
from diffcls.support.seeding import key

TEST, VALIDATION, PAIRS = 1000, 500, 500
TRAINING = 60_000
LABELLED = 19_200
"""Images of a labelled training split: 200 a combination, 800 a relation or number."""

ALL = tuple(str(Group(kind)) for kind in KINDS)


def load(query: Query) -> Dataset:
    """A split of the data set that the query names; nothing is read, images are drawn when opened.

    An image depends on its task, split and number alone.
    """
    name, split = query.spec.name, query.split
    task = name.removeprefix("scenes").removeprefix("/")
    if not task:
        return _training(name, split)
    if task == "pairs":
        return _pairs(name, split)
    names, tested = _classes(task)
    if split == "train":  # of all classes, and the same for both tasks on single objects
        kind = "labelled" if names == ALL else task
        labels: Sequence[int] = [i % len(names) for i in range(LABELLED)]
    else:
        kind = task
        count = TEST if split == "test" else VALIDATION
        labels = [names.index(tested[i % len(tested)]) for i in range(count)]
    scenes = _scenes(task)
    drawn = [scenes[names[label]] for label in labels]
    return make_dataset(name, split, kind, names, drawn, labels)


def _classes(task: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All candidates of a task, and those that its test images show."""
    if task == "attributes":
        return ALL, tuple(str(Group(kind)) for kind in SEEN)
    if task == "held-out":
        return ALL, tuple(str(Group(kind)) for kind in HELD_OUT)
    names = tuple(_scenes(task))
    return names, names


def _scenes(task: str) -> dict[str, Scene]:
    """The scene of each candidate of a task."""
    if task == "relations":
        rng = random.Random(key("scenes", task))
        pairs = [_unlike_pair(rng) for _ in range(6)]
        scenes = [Scene(Group(a), r, Group(b)) for (a, b), r in product(pairs, RELATIONS)]
    elif task == "counting":
        rng = random.Random(key("scenes", task))
        kinds = rng.sample([kind for kind in SEEN if kind.size == "small"], 8)
        scenes = [Scene(Group(kind, n)) for kind, n in product(kinds, (1, 2, 3))]
    else:
        scenes = [Scene(Group(kind)) for kind in KINDS]
    return {str(scene): scene for scene in scenes}


def _unlike_pair(rng: random.Random) -> tuple[Kind, Kind]:
    """Two combinations seen, of different colour and shape, that fit beside each other."""
    return _first_good(rng, lambda a, b: a.colour != b.colour and a.shape != b.shape and _fit(a, b))


def _fit(a: Kind, b: Kind) -> bool:
    return Scene(Group(a), RELATIONS[0], Group(b)).fits


def _first_good(rng: random.Random, good: Callable[[Kind, Kind], bool]) -> tuple[Kind, Kind]:
    """The first two random combinations seen that are good together."""
    while True:
        a, b = rng.choice(SEEN), rng.choice(SEEN)
        if good(a, b):
            return a, b


# ---- what a model is trained on ----------------------------------------------------------------


def _training(name: str, split: str) -> Dataset:
    """Scenes of combinations seen: 55 % single objects, 15 % of two or three, 30 % relations."""
    rng = random.Random(key("scenes", "training", split))
    count = TRAINING if split == "train" else VALIDATION
    scenes = [_random_scene(rng) for _ in range(count)]
    sentences = [str(scene) for scene in scenes]
    names = tuple(sorted(set(sentences)))
    index = {sentence: i for i, sentence in enumerate(names)}
    return make_dataset(name, split, "training", names, scenes, [index[s] for s in sentences])


def _random_scene(rng: random.Random) -> Scene:
    """A scene of combinations seen that fits."""
    what = rng.random()
    while True:
        a, b = Group(rng.choice(SEEN)), Group(rng.choice(SEEN))
        if what < 0.55:
            scene = Scene(a)
        elif what < 0.70:
            scene = Scene(Group(a.kind, rng.choice((2, 3))))
        else:
            a, b = Group(a.kind, rng.choice((1, 1, 1, 2))), Group(b.kind, rng.choice((1, 1, 1, 2)))
            scene = Scene(a, rng.choice(RELATIONS), b)
        if scene.fits and (scene.second is None or a.kind != b.kind):
            return scene


# ---- pairs -------------------------------------------------------------------------------------


def _pairs(name: str, split: str) -> Dataset:
    """Image 2m shows sentence 2m, image 2m + 1 sentence 2m + 1; each is asked about both."""
    rng = random.Random(key("scenes", "pairs", split))
    scenes: list[Scene] = []
    for m in range(PAIRS if split == "test" else VALIDATION // 2):
        scenes.extend(_minimal_pair(rng, ("order", "colour", "size", "shape")[m % 4]))
    names = tuple(str(scene) for scene in scenes)
    labels = [i % 2 for i in range(len(scenes))]
    candidates = [(i - i % 2, i - i % 2 + 1) for i in range(len(scenes))]
    return make_dataset(name, split, "pairs", names, scenes, labels, candidates)


def _minimal_pair(rng: random.Random, what: str) -> tuple[Scene, Scene]:
    """Two scenes whose sentences have the same words: objects or one attribute change places."""

    def swapped(a: Kind, b: Kind) -> tuple[Kind, Kind]:
        if what == "order":
            return b, a
        parts_a, parts_b = vars(a).copy(), vars(b).copy()
        parts_a[what], parts_b[what] = parts_b[what], parts_a[what]
        return Kind(**parts_a), Kind(**parts_b)

    def good(a: Kind, b: Kind) -> bool:
        # without the swap nothing but the place tells both apart: all attributes differ
        unlike = all(vars(a)[part] != vars(b)[part] for part in vars(a))
        return unlike and all(k in SEEN for k in swapped(a, b)) and _fit(a, b)

    a, b = _first_good(rng, good)
    relation = rng.choice(RELATIONS)
    c, d = swapped(a, b)
    return Scene(Group(a), relation, Group(b)), Scene(Group(c), relation, Group(d))


# ---- items -------------------------------------------------------------------------------------


def make_dataset(
    name: str,
    split: str,
    kind: str,
    names: tuple[str, ...],
    scenes: Sequence[Scene],
    labels: Sequence[int],
    candidates: Sequence[tuple[int, ...]] | None = None,
) -> Dataset:
    """A data set of drawn scenes.

    Args:
        name, split: of the data set.
        kind: with the split and an image's number it keys all that is random in that image.
        names: (K,) of the classes.
        scenes, labels: of each image.
        candidates: of each image, see `diffcls.data.dataset.Item`.
    """
    keys = [key("scene", kind, split, i) for i in range(len(scenes))]
    items = tuple(
        Item(
            f"{split}/{i}",
            labels[i],
            partial(draw, scenes[i], keys[i]),
            candidates[i] if candidates else (),
        )
        for i in range(len(scenes))
    )
    # what the drawing makes of the first images stands for all of them
    pixels = [item.open().tobytes() for item in items[:24]]
    revision = content_hash(*names, *map(str, labels), *map(str, scenes), *pixels)
    return Dataset(name, split, names, items, revision)
