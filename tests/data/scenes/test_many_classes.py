"""``scenes:N``: any number of classes, no two of the same meaning."""

from __future__ import annotations

import pytest

from diffcls.data.load import load_dataset
from diffcls.data.scenes.grammar import (
    Scene,
    parse,
)
from diffcls.data.scenes.paraphrases import CONVERSE
from diffcls.support.errors import UsageError


def test_number_of_classes_is_free_and_no_two_mean_the_same() -> None:
    small, large = (load_dataset(f"scenes:{n}", "test").class_names for n in (50, 1000))
    assert (len(small), len(large)) == (50, 1000)
    assert large[:50] == small and len(set(large)) == 1000
    meanings = set()
    for name in large:
        scene = parse(name)
        if scene.relation in ("to the right of", "below"):
            assert scene.second is not None
            scene = Scene(scene.second, CONVERSE[scene.relation], scene.first)
        meanings.add(scene)
    assert len(meanings) == 1000
    for n in ("1", "10001", "many", "-3"):
        with pytest.raises(UsageError, match="no number of classes"):
            load_dataset(f"scenes:{n}", "test")
