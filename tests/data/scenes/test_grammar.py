"""Scene grammar: a sentence is a scene and back; held-out combinations stay unseen."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from helpers.scenes import kinds_of, scenes_of
from hypothesis import given
from hypothesis import strategies as st

from diffcls.data import catalog
from diffcls.data.scenes.grammar import (
    COLOURS,
    HELD_OUT,
    KINDS,
    RELATIONS,
    SEEN,
    SHAPES,
    SIZES,
    Group,
    Kind,
    Scene,
    parse,
)
from diffcls.support.errors import DataError


def test_a_fifth_of_the_combinations_is_held_out() -> None:
    assert len(set(KINDS)) == len(SIZES) * len(COLOURS) * len(SHAPES) == 96
    assert len(HELD_OUT) == 20 >= 96 / 5
    assert sorted(SEEN + HELD_OUT) == sorted(KINDS)
    assert not set(SEEN) & set(HELD_OUT)


@pytest.mark.parametrize("parts", list(combinations(("size", "colour", "shape"), 2)))
def test_every_pair_of_attributes_is_seen(parts: tuple[str, str]) -> None:
    def pairs(kinds: tuple[Kind, ...]) -> set[tuple[str, ...]]:
        return {tuple(vars(kind)[part] for part in parts) for kind in kinds}

    assert pairs(SEEN) == pairs(KINDS)


def test_every_group_is_its_sentence() -> None:
    scenes = [Scene(Group(kind, n)) for kind, n in product(KINDS, (1, 2, 3))]
    assert [parse(str(scene)) for scene in scenes] == scenes
    assert str(scenes[0]) == "a small red circle"
    assert str(Scene(Group(Kind("large", "pink", "cross"), 2))) == "two large pink crosses"


GROUPS = st.builds(Group, st.sampled_from(KINDS), st.integers(1, 3))


@given(st.builds(Scene, GROUPS, st.sampled_from(RELATIONS), GROUPS))
def test_every_relation_is_its_sentence(scene: Scene) -> None:
    assert parse(str(scene)) == scene
    assert str(scene).count(scene.relation) == 1


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "circle",
        "red circle",
        "small red circle",
        "one small red circle",
        "four small red circles",
        "A small red circle",
        "a tiny red circle",
        "a small crimson circle",
        "a small red disc",
        "a red small circle",
        "a small red circles",
        "two small red circle",
        "two small red crosss",
        "a small red circle ",
        "a small red circle\n",
        "a  small red circle",
        "a picture of a small red circle",
        "a small red circle above",
        "a small red circle above ",
        "above a small red circle",
        "a small red circle left of a small blue square",
        "a small red circle a small blue square",
        "a small red circle above a small blue square above a small pink cross",
    ],
)
def test_other_sentences_are_refused(sentence: str) -> None:
    with pytest.raises(DataError, match="no sentence of a scene"):
        parse(sentence)


# ---- held-out combinations -----------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "validation"])
def test_training_shows_no_combination_that_is_held_out(split: str) -> None:
    assert not kinds_of(scenes_of("scenes", split)) & set(HELD_OUT)


def test_training_shows_every_other_combination_alone_and_beside_others() -> None:
    scenes = scenes_of("scenes", "train")
    assert {scene.first.kind for scene in scenes if scene.second is None} == set(SEEN)
    assert kinds_of(tuple(scene for scene in scenes if scene.second is not None)) == set(SEEN)
    assert {scene.relation for scene in scenes} == {"", *RELATIONS}
    assert all(scene.fits for scene in scenes)


@pytest.mark.parametrize("task", ["relations", "counting", "pairs"])
def test_benchmark_of_what_is_composed_holds_out_no_combination(task: str) -> None:
    name = f"scenes/{task}"
    for split in catalog.SPECS[name].splits:
        assert kinds_of(scenes_of(name, split)) <= set(SEEN)
