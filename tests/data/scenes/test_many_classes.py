"""``scenes:N``: N classes of different meanings, each set a prefix of the larger ones."""

from __future__ import annotations

import pytest

from diffcls.data.load import load_dataset
from diffcls.data.scenes.grammar import Scene, parse
from diffcls.data.scenes.paraphrases import CONVERSE
from diffcls.support.errors import UsageError


def test_classes_of_a_smaller_set_are_a_prefix_of_a_larger_one() -> None:
    small, large = (load_dataset(f"scenes:{n}", "test").class_names for n in (50, 1000))
    assert (len(small), len(large)) == (50, 1000)
    assert large[:50] == small


def test_no_two_classes_have_the_same_meaning() -> None:
    names = load_dataset("scenes:1000", "test").class_names
    assert len(set(names)) == 1000
    meanings = set()
    for name in names:
        scene = parse(name)
        if scene.relation in ("to the right of", "below"):
            assert scene.second is not None
            scene = Scene(scene.second, CONVERSE[scene.relation], scene.first)
        meanings.add(scene)
    assert len(meanings) == 1000


@pytest.mark.parametrize("count", ["1", "10001", "many", "-3"])
def test_number_of_classes_outside_2_to_10000_is_an_error(count: str) -> None:
    message = rf"scenes:N: invalid number of classes: 'scenes:{count}'; allowed: N from 2 to 10,000"
    with pytest.raises(UsageError, match=message):
        load_dataset(f"scenes:{count}", "test")


@pytest.mark.parametrize(("first", "last"), [(0, 5), (96, 100), (998, 1000)])
def test_a_range_has_the_classes_of_the_whole_from_its_first_to_its_end(
    first: int, last: int
) -> None:
    whole = load_dataset(f"scenes:{last}", "test").class_names
    assert load_dataset(f"scenes:{first}-{last}", "test").class_names == whole[first:]


@pytest.mark.parametrize("name", ["5-6", "6-5", "-5", "5-", "1-2-9", "9000-10001"])
def test_a_range_of_fewer_than_two_classes_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="or scenes:A-B"):
        load_dataset(f"scenes:{name}", "test")
