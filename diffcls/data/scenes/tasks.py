"""Scene benchmarks, and the training set of the models of scenes.

============================  ========================================  ==========================
data set                      images                                    candidates
============================  ========================================  ==========================
============================  ========================================  ==========================
``scenes``                    one to three objects                      training only
``scenes/attributes``         one object of a seen combination          all 96 combinations
``scenes/held-out``           one object of a held-out combination      all 96 combinations
``scenes/relations``          two objects in one of four relations      6 pairs × 4 relations
``scenes/counting``           one to three objects of a kind            8 kinds × 3 counts
``scenes/pairs``              minimal pairs: two sentences of the same  the pair's two sentences
                              words (Thrush et al. 2022, Winoground)
============================  ========================================  ==========================

The ``train`` splits of the benchmarks are labelled images for methods trained on labels. They cover
all classes, including the combinations held out of the training of the models of scenes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset, Item
from diffcls.data.scenes.grammar import HELD_OUT, KINDS, RELATIONS, SEEN, Group, Kind, Scene
from diffcls.data.scenes.render import render_scene
from diffcls.support.hashing import content_hash
from diffcls.support.seeding import key

TEST_IMAGES, VALIDATION_IMAGES, TEST_PAIRS = 1000, 500, 500
TRAINING_IMAGES = 60_000
LABELLED_IMAGES = 19_200
"""Images of a labelled ``train`` split: 200 per combination, 800 per relation or count."""

REVISION_IMAGES = 24
"""Images whose pixels enter the revision of a data set."""

SINGLE_OBJECTS = tuple(str(Group(kind)) for kind in KINDS)


def load(query: Query) -> Dataset:
    """A split of a scene data set; each image is rendered when it is opened.

    An image depends only on its task, split and index.
    """
    name, split = query.spec.name, query.split
    task = name.removeprefix("scenes").removeprefix("/")
    if not task:
        return _training(name, split)
    if task == "pairs":
        return _pairs(name, split)
    names, tested = _classes(task)
    if split == "train":  # all classes; the two tasks on single objects share their images
        seed_name = "labelled" if names == SINGLE_OBJECTS else task
        labels: Sequence[int] = [i % len(names) for i in range(LABELLED_IMAGES)]
    else:
        seed_name = task
        count = TEST_IMAGES if split == "test" else VALIDATION_IMAGES
        labels = [names.index(tested[i % len(tested)]) for i in range(count)]
    scenes = _scenes(task)
    rendered = [scenes[names[label]] for label in labels]
    return make_dataset(name, split, seed_name, names, rendered, labels)


def _classes(task: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All candidates of a task, and the classes of its test images."""
    if task == "attributes":
        return SINGLE_OBJECTS, tuple(str(Group(kind)) for kind in SEEN)
    if task == "held-out":
        return SINGLE_OBJECTS, tuple(str(Group(kind)) for kind in HELD_OUT)
    names = tuple(_scenes(task))
    return names, names


def _scenes(task: str) -> dict[str, Scene]:
    """Scene of each candidate of a task, by its sentence."""
    if task == "relations":
        rng = random.Random(key("scenes", task))
        pairs = [_sample_unlike_pair(rng) for _ in range(6)]
        scenes = [Scene(Group(a), r, Group(b)) for (a, b), r in product(pairs, RELATIONS)]
    elif task == "counting":
        rng = random.Random(key("scenes", task))
        kinds = rng.sample([kind for kind in SEEN if kind.size == "small"], 8)
        scenes = [Scene(Group(kind, n)) for kind, n in product(kinds, (1, 2, 3))]
    else:
        scenes = [Scene(Group(kind)) for kind in KINDS]
    return {str(scene): scene for scene in scenes}


def _sample_unlike_pair(rng: random.Random) -> tuple[Kind, Kind]:
    """Two seen combinations of different colour and shape that fit into one image."""

    def unlike(a: Kind, b: Kind) -> bool:
        return a.colour != b.colour and a.shape != b.shape and _fit_together(a, b)

    return _sample_pair(rng, unlike)


def _fit_together(a: Kind, b: Kind) -> bool:
    return Scene(Group(a), RELATIONS[0], Group(b)).fits


def _sample_pair(rng: random.Random, accept: Callable[[Kind, Kind], bool]) -> tuple[Kind, Kind]:
    """Two seen combinations by rejection sampling."""
    while True:
        a, b = rng.choice(SEEN), rng.choice(SEEN)
        if accept(a, b):
            return a, b


# ---- training set --------------------------------------------------------------------------------


def _training(name: str, split: str) -> Dataset:
    """Scenes of seen combinations: 55 % one object, 15 % two or three alike, 30 % relations."""
    rng = random.Random(key("scenes", "training", split))
    count = TRAINING_IMAGES if split == "train" else VALIDATION_IMAGES
    scenes = [_random_scene(rng) for _ in range(count)]
    sentences = [str(scene) for scene in scenes]
    names = tuple(sorted(set(sentences)))
    index = {sentence: i for i, sentence in enumerate(names)}
    return make_dataset(name, split, "training", names, scenes, [index[s] for s in sentences])


def _random_scene(rng: random.Random) -> Scene:
    """Random scene of seen combinations that fits into an image."""
    category = rng.random()
    while True:
        a, b = Group(rng.choice(SEEN)), Group(rng.choice(SEEN))
        if category < 0.55:
            scene = Scene(a)
        elif category < 0.70:
            scene = Scene(Group(a.kind, rng.choice((2, 3))))
        else:
            a, b = Group(a.kind, rng.choice((1, 1, 1, 2))), Group(b.kind, rng.choice((1, 1, 1, 2)))
            scene = Scene(a, rng.choice(RELATIONS), b)
        if scene.fits and (scene.second is None or a.kind != b.kind):
            return scene


# ---- minimal pairs -------------------------------------------------------------------------------


def _pairs(name: str, split: str) -> Dataset:
    """Image i shows sentence i; the candidates of images 2m and 2m + 1 are these two sentences."""
    rng = random.Random(key("scenes", "pairs", split))
    scenes: list[Scene] = []
    for m in range(TEST_PAIRS if split == "test" else VALIDATION_IMAGES // 2):
        scenes.extend(_minimal_pair(rng, ("order", "colour", "size", "shape")[m % 4]))
    names = tuple(str(scene) for scene in scenes)
    labels = [i % 2 for i in range(len(scenes))]
    candidates = [(i - i % 2, i - i % 2 + 1) for i in range(len(scenes))]
    return make_dataset(name, split, "pairs", names, scenes, labels, candidates)


def _minimal_pair(rng: random.Random, exchanged: str) -> tuple[Scene, Scene]:
    """Two scenes whose sentences have the same words in another order.

    Args:
        rng: source of the objects and the relation.
        exchanged: ``order`` to exchange the two objects, or an attribute to exchange between them.
    """

    def swapped(a: Kind, b: Kind) -> tuple[Kind, Kind]:
        if exchanged == "order":
            return b, a
        parts_a, parts_b = vars(a).copy(), vars(b).copy()
        parts_a[exchanged], parts_b[exchanged] = parts_b[exchanged], parts_a[exchanged]
        return Kind(**parts_a), Kind(**parts_b)

    def differ(a: Kind, b: Kind) -> bool:
        # in every attribute, so that each exchange changes the image
        unlike = all(vars(a)[part] != vars(b)[part] for part in vars(a))
        return unlike and all(k in SEEN for k in swapped(a, b)) and _fit_together(a, b)

    a, b = _sample_pair(rng, differ)
    relation = rng.choice(RELATIONS)
    c, d = swapped(a, b)
    return Scene(Group(a), relation, Group(b)), Scene(Group(c), relation, Group(d))


# ---- items ---------------------------------------------------------------------------------------


def make_dataset(
    name: str,
    split: str,
    seed_name: str,
    names: tuple[str, ...],
    scenes: Sequence[Scene],
    labels: Sequence[int],
    candidates: Sequence[tuple[int, ...]] | None = None,
) -> Dataset:
    """Data set of rendered scenes.

    Args:
        name, split: name of the data set and of the split.
        seed_name: together with the split and the index, the seed of an image.
        names: (K,) class names.
        scenes: (n,) scene of each image.
        labels: (n,) label of each image.
        candidates: (n,) candidates of each image, see `diffcls.data.dataset.Item`; None for all
            classes.
    """
    keys = [key("scene", seed_name, split, i) for i in range(len(scenes))]
    items = tuple(
        Item(
            f"{split}/{i}",
            labels[i],
            partial(render_scene, scenes[i], keys[i]),
            candidates[i] if candidates else (),
        )
        for i in range(len(scenes))
    )
    # the first images stand for all: a change of the renderer changes the revision
    pixels = [item.open().tobytes() for item in items[:REVISION_IMAGES]]
    revision = content_hash(*names, *map(str, labels), *map(str, scenes), *pixels)
    return Dataset(name, split, names, items, revision)
