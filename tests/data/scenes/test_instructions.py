"""Instructions to change a scene: one object changes, the rest of the image does not."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from diffcls.data.scenes.before_after import edits_of, images_of, render_edit
from diffcls.data.scenes.grammar import HELD_OUT, SEEN, Group, Kind, Scene
from diffcls.data.scenes.instructions import (
    ATTRIBUTES,
    CHANGE_WEIGHTS,
    SceneEdit,
    attribute_edit,
    descriptions,
    instruction,
    keyed_instruction,
)
from diffcls.data.scenes.render import SIDE_PIXELS

EDITS = edits_of("train", 600)


def test_exactly_what_is_named_changes() -> None:
    for edit in EDITS:
        different = [i for i, (a, b) in enumerate(edit.objects) if a != b]
        assert different == [edit.place]
        before, after = edit.objects[edit.place]
        if edit.change in ATTRIBUTES:
            assert before is not None and after is not None
            changed = [name for name in vars(before) if vars(before)[name] != vars(after)[name]]
            assert changed == [edit.change]
        else:
            assert (before is None, after is None) == (
                edit.change == "add",
                edit.change == "remove",
            )


def test_no_image_shows_a_held_out_combination() -> None:
    shown = {kind for edit in EDITS for scene in (edit.before, edit.after) for kind in scene.kinds}
    assert not shown & {*HELD_OUT}
    assert shown == {*SEEN}


def test_changes_occur_as_often_as_they_are_to() -> None:
    # four standard errors; changes that are refused are drawn again, which shifts the shares
    counts = Counter(edit.change for edit in EDITS)
    for change, share in CHANGE_WEIGHTS.items():
        error = (share * (1 - share) / len(EDITS)) ** 0.5
        assert abs(counts[change] / len(EDITS) - share) < 4 * error + 0.04, change


def test_an_edit_depends_on_its_split_and_number_alone() -> None:
    assert edits_of("train", 20) == EDITS[:20]
    assert edits_of("validation", 20) != EDITS[:20]


@pytest.mark.parametrize("number", range(40))
def test_pixels_away_from_the_changed_object_are_equal(number: int) -> None:
    edit = EDITS[number]
    before, after = (np.asarray(p).astype(int) for p in render_edit(edit, number))
    changed = (before != after).any(axis=2)
    assert changed.any()
    # the changed pixels lie in a box no larger than the largest object
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) < 0.75 * SIDE_PIXELS


def test_a_recoloured_object_differs_by_the_colours_alone() -> None:
    edit = attribute_edit(Kind("large", "red", "circle"), "colour", "blue")
    before, after = (np.asarray(p).astype(float) for p in render_edit(edit, 7))
    inside = np.abs(before - after).max(axis=2) > 200
    gap = (after - before)[inside]
    # red (0.90, 0.08, 0.08) and blue (0.10, 0.20, 0.92) of `COLOUR_RGB`, of 255
    assert np.allclose(gap.mean(axis=0), np.array([-0.80, 0.12, 0.84]) * 255, atol=3)


def test_an_object_that_grows_at_the_edge_stays_in_the_image() -> None:
    edit = attribute_edit(Kind("small", "red", "square"), "size", "large")
    for key in range(30):
        _, after = render_edit(edit, key)
        pixels = np.asarray(after).astype(int)
        colourful = pixels.max(axis=2) - pixels.min(axis=2) > 60
        edge = np.concatenate([colourful[0], colourful[-1], colourful[:, 0], colourful[:, -1]])
        assert colourful.sum() > 100 and not edge.any()


def test_a_description_fits_one_object_alone() -> None:
    a, b = Kind("small", "red", "circle"), Kind("small", "blue", "circle")
    pair = Scene(Group(a), "above", Group(b))
    assert descriptions(a, pair) == [frozenset({"colour"}), frozenset({"size", "colour"})]
    assert len(descriptions(a, Scene(Group(a)))) == 4


def test_every_instruction_fits_into_the_prompt_of_the_bundled_model() -> None:
    from transformers import CLIPTokenizer

    from diffcls.models.loading import WEIGHTS

    tokenizer = CLIPTokenizer.from_pretrained(WEIGHTS / "scenes" / "tokenizer")
    texts = [keyed_instruction(edit, n) for n, edit in enumerate(EDITS)]
    assert max(len(tokenizer(text).input_ids) for text in texts) <= tokenizer.model_max_length


def test_sentences_say_what_changes() -> None:
    rng = random.Random(0)
    red, green = Kind("small", "red", "square"), Kind("medium", "green", "circle")
    colour = {instruction(attribute_edit(red, "colour", "blue"), rng) for _ in range(200)}
    assert "make the red square blue" in colour
    assert all(text.rstrip(".").endswith("blue") for text in colour)
    shape = {instruction(attribute_edit(red, "shape", "circle"), rng) for _ in range(200)}
    assert "turn the square into a circle" in shape
    rest, both = Scene(Group(red)), Scene(Group(green), "above", Group(red))
    added = {instruction(SceneEdit("add", rest, both), rng) for _ in range(300)}
    assert {"add a green circle", "add a medium green circle"} <= added
    assert any("above the" in text or "over the" in text for text in added)
    removed = {instruction(SceneEdit("remove", both, rest), rng) for _ in range(200)}
    assert {"remove the green circle", "erase the circle"} <= removed
    assert not any("it" in text.split() for text in removed)  # of two objects


def test_images_of_changes_are_a_data_set_of_both_sides() -> None:
    data = images_of(EDITS[:20], "train")
    assert len(data) == 40
    for number, item in enumerate(data.items):
        edit = EDITS[number // 2]
        assert data.class_names[item.label] == str((edit.before, edit.after)[number % 2])
    first, second = (data.items[i].open().tobytes() for i in (0, 1))
    assert first != second and data.items[0].open().tobytes() == first
    assert images_of(EDITS[:20], "train").revision == data.revision
    assert images_of(EDITS[1:21], "train").revision != data.revision
