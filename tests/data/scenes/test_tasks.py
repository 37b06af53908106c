"""Scene benchmarks: their splits, classes, candidates and images."""

from __future__ import annotations

from collections import Counter

import pytest
from helpers.scenes import ALL, CANDIDATES, SPLITS, TASKS, load, meaning, scenes_of, shown

from diffcls.data import catalog
from diffcls.data.load import load_dataset
from diffcls.data.scenes import render
from diffcls.data.scenes.grammar import (
    COUNTS,
    HELD_OUT,
    RELATIONS,
    SEEN,
    Group,
    Kind,
)
from diffcls.support.errors import UsageError


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_split_has_its_stated_number_of_images(name: str, split: str) -> None:
    dataset = load(name, split)
    labelled = 60_000 if name == "scenes" else 19_200
    assert len(dataset) == {"test": 1000, "validation": 500, "train": labelled}[split]
    assert [item.image_id for item in dataset.items] == [
        f"{split}/{i}" for i in range(len(dataset))
    ]
    assert (dataset.name, dataset.split) == (name, split)


def test_training_set_has_no_test_split_and_pairs_have_no_train_split() -> None:
    assert ("scenes", "test") not in SPLITS and ("scenes/pairs", "train") not in SPLITS
    with pytest.raises(UsageError, match="unknown split of scenes: 'test'; allowed: train, "):
        load_dataset("scenes")


@pytest.mark.parametrize("split", ["test", "validation"])
@pytest.mark.parametrize("name", TASKS)
def test_classes_of_a_test_split_are_equally_frequent(name: str, split: str) -> None:
    counts = Counter(shown(load(name, split)))
    assert max(counts.values()) - min(counts.values()) <= 1
    tested = {"scenes/attributes": SEEN, "scenes/held-out": HELD_OUT}
    if name in tested:
        assert set(counts) == {f"a {kind}" for kind in tested[name]}
    else:
        assert set(counts) == set(load(name, split).class_names)


@pytest.mark.parametrize("name", TASKS)
def test_classes_of_a_labelled_train_split_are_equally_frequent(name: str) -> None:
    dataset = load(name, "train")
    counts = Counter(shown(dataset))
    assert set(counts.values()) == {19_200 // CANDIDATES.get(name, 24)}
    assert set(counts) == set(dataset.class_names)


@pytest.mark.parametrize("name", TASKS)
def test_splits_of_a_task_have_the_same_classes(name: str) -> None:
    names = {load(name, split).class_names for split in catalog.SPECS[name].splits}
    assert len(names) == 1
    assert load(name).n_candidates == CANDIDATES.get(name, 24)
    assert len({meaning(scene) for scene in scenes_of(name)}) == CANDIDATES.get(name, 24)


@pytest.mark.parametrize("name", CANDIDATES)
def test_candidates_of_single_object_tasks_are_all_combinations(name: str) -> None:
    assert load(name).class_names == ALL
    assert all(item.candidates == () for item in load(name).items)


def test_relations_task_combines_six_pairs_with_four_relations() -> None:
    relations: dict[tuple[Group, Group | None], list[str]] = {}
    for scene in scenes_of("scenes/relations"):
        relations.setdefault((scene.first, scene.second), []).append(scene.relation)
    assert list(relations.values()) == [list(RELATIONS)] * 6
    for a, b in relations:
        assert b is not None and a.count == b.count == 1
        assert a.kind.colour != b.kind.colour and a.kind.shape != b.kind.shape


def test_counting_task_combines_eight_kinds_with_three_counts() -> None:
    numbers: dict[Kind, list[int]] = {}
    for scene in scenes_of("scenes/counting"):
        assert scene.second is None
        numbers.setdefault(scene.first.kind, []).append(scene.first.count)
    assert list(numbers.values()) == [[1, 2, 3]] * 8
    # three larger objects do not fit into an image, so their size would reveal the number
    assert {kind.size for kind in numbers} == {"small"}
    assert len(COUNTS) == 3


@pytest.mark.parametrize("split", ["test", "validation"])
def test_sentences_of_a_pair_have_the_same_words(split: str) -> None:
    dataset, scenes = load("scenes/pairs", split), scenes_of("scenes/pairs", split)
    assert dataset.n_candidates == 2
    for i, item in enumerate(dataset.items):
        own = (i, i + 1) if i % 2 == 0 else (i - 1, i)
        assert (item.candidates, item.class_index) == (own, i)
        one, other = (sorted(dataset.class_names[k].split()) for k in own)
        assert one == other
        assert len({meaning(scenes[k]) for k in own}) == 2


def test_pair_exchanges_both_objects_or_one_attribute() -> None:
    scenes = scenes_of("scenes/pairs")
    changes = Counter[str]()
    for one, other in zip(scenes[::2], scenes[1::2], strict=True):
        (a, b), (c, d) = one.kinds, other.kinds
        assert one.relation == other.relation
        moved = [part for part in vars(a) if vars(a)[part] != vars(c)[part]]
        assert all((vars(a)[p], vars(b)[p]) == (vars(d)[p], vars(c)[p]) for p in moved)
        kept = vars(a).keys() - moved
        assert all((vars(a)[p], vars(b)[p]) == (vars(c)[p], vars(d)[p]) for p in kept)
        changes["order" if len(moved) == 3 else " ".join(moved)] += 1
    assert changes == {"order": 125, "size": 125, "colour": 125, "shape": 125}


# ---- images and revisions ------------------------------------------------------------------------


def test_splits_share_no_image() -> None:
    # except the labelled images of the two tasks on single objects
    splits = [pair for pair in SPLITS if pair != ("scenes/held-out", "train")]
    images = [item.open().tobytes() for pair in splits for item in load(*pair).items[:200]]
    assert len(set(images)) == len(images) == 200 * len(splits)


def test_single_object_tasks_share_their_labelled_images() -> None:
    one, other = load("scenes/attributes", "train"), load("scenes/held-out", "train")
    assert one.revision == other.revision
    assert shown(one) == shown(other)
    for i in (0, 95, 19_199):
        assert one.items[i].open().tobytes() == other.items[i].open().tobytes()


def test_revision_differs_between_tasks_and_splits() -> None:
    revisions = {pair: load(*pair).revision for pair in SPLITS}
    # except the labelled images that two tasks share
    assert len(set(revisions.values())) == len(SPLITS) - 1
    assert load_dataset("scenes/pairs").revision == revisions["scenes/pairs", "test"]


def test_revision_changes_with_the_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load("scenes/attributes").revision
    monkeypatch.setitem(render.COLOUR_RGB, "red", (0.80, 0.08, 0.08))
    assert load_dataset("scenes/attributes").revision != before


@pytest.mark.parametrize(
    ("name", "split", "revision"),
    [
        ("scenes", "train", "b2c4a42d63fb2a74"),
        ("scenes/attributes", "test", "c1c24b4213f9d559"),
        ("scenes/held-out", "test", "b89d6b7f86cb78d4"),
        ("scenes/relations", "test", "1efff03bbeb58cb1"),
        ("scenes/counting", "test", "239a43015e72fe76"),
        ("scenes/pairs", "test", "127c02fc691f1b3a"),
    ],
)
def test_revision_is_that_of_the_bundled_models(name: str, split: str, revision: str) -> None:
    # if a revision changes, retrain the models and repeat the measurements
    assert load(name, split).revision == revision
