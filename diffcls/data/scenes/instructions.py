"""Instructions to change a scene: the scene before and after, and sentences that ask for it.

They are the training data of an instruction editor (`diffcls.training.instruction_editor`). A
change concerns one object: its colour, shape or size, or whether it is there.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

from diffcls.data.scenes.grammar import (
    COLOURS,
    RELATIONS,
    SEEN,
    SHAPES,
    SIZES,
    Group,
    Kind,
    Scene,
)
from diffcls.data.scenes.paraphrases import RELATION_WORDS, SHAPE_WORDS, SIZE_WORDS
from diffcls.support.seeding import key

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {"colour": COLOURS, "shape": SHAPES, "size": SIZES}
"""Attributes of an object, with their values."""

WORDINGS: Mapping[str, tuple[str, ...]] = {
    "colour": (
        "make {object} {value}",
        "make {object} {value}",
        "turn {object} {value}",
        "paint {object} {value}",
        "change the colour of {object} to {value}",
    ),
    "shape": (
        "turn {object} into {value}",
        "turn {object} into {value}",
        "make {object} {value}",
        "change {object} into {value}",
        "replace {object} with {value}",
    ),
    "size": (
        "make {object} {value}",
        "make {object} {value}",
        "turn {object} {value}",
        "change the size of {object} to {value}",
    ),
    "add": ("add {value}", "add {value}", "draw {value}", "put in {value}"),
    "remove": (
        "remove {object}",
        "remove {object}",
        "delete {object}",
        "erase {object}",
        "take away {object}",
    ),
}
"""Change -> sentences, with the object as it is named and its new value."""

ENDS = ("", "", "", ".")
SHAPE, ONLY_COLOUR, WHOLE = frozenset[str](), frozenset({"colour"}), frozenset({"size", "colour"})
"""Attributes that a description names beside the shape."""

CHANGE_WEIGHTS: Mapping[str, float] = {
    "colour": 0.25,
    "shape": 0.25,
    "size": 0.25,
    "add": 0.125,
    "remove": 0.125,
}
"""Share of each change in the training data."""
SINGLE_SHARE = 0.65
"""Share of scenes with one object among those of which an attribute changes."""


@dataclass(frozen=True)
class SceneEdit:
    """A scene before and after a change of one object.

    Args:
        change: a key of `WORDINGS`.
        before, after: the scenes; of two objects each, both are in the same order.
        place: index of the changed object among those of the scene that has more of them.
    """

    change: str
    before: Scene
    after: Scene
    place: int = 0

    @property
    def larger(self) -> Scene:
        """The scene with more objects; the one before, if both have as many."""
        return self.after if self.change == "add" else self.before

    @property
    def objects(self) -> tuple[tuple[Kind | None, Kind | None], ...]:
        """Each object before and after, in the order of the larger scene; None: not there."""
        before: list[Kind | None] = list(self.before.kinds)
        after: list[Kind | None] = list(self.after.kinds)
        for kinds in (before, after):
            if len(kinds) < len(self.larger.kinds):
                kinds.insert(self.place, None)
        return tuple(zip(before, after, strict=True))


def changed(kind: Kind, attribute: str, value: str) -> Kind:
    """The combination with another value of one attribute."""
    return replace(kind, **{attribute: value})


def attribute_edit(kind: Kind, attribute: str, value: str) -> SceneEdit:
    """The change of an attribute of a single object."""
    after = changed(kind, attribute, value)
    return SceneEdit(attribute, Scene(Group(kind)), Scene(Group(after)))


def random_edit(rng: random.Random) -> SceneEdit:
    """A random change; no scene shows a held-out combination, before or after."""
    while True:
        change = rng.choices([*CHANGE_WEIGHTS], [*CHANGE_WEIGHTS.values()])[0]
        a, b = rng.choice(SEEN), rng.choice(SEEN)
        pair = Scene(Group(a), rng.choice(RELATIONS), Group(b))
        place = rng.randrange(2)
        if change in ATTRIBUTES:
            value = rng.choice(ATTRIBUTES[change])
            if rng.random() < SINGLE_SHARE:
                edit = attribute_edit(a, change, value)
            else:
                kinds = [a, b]
                kinds[place] = changed(kinds[place], change, value)
                after = Scene(Group(kinds[0]), pair.relation, Group(kinds[1]))
                edit = SceneEdit(change, pair, after, place)
        else:
            rest = Scene(Group((b, a)[place]))
            scenes = (rest, pair) if change == "add" else (pair, rest)
            edit = SceneEdit(change, *scenes, place)
        if _is_allowed(edit):
            return edit


def _is_allowed(edit: SceneEdit) -> bool:
    """Whether a change is one, of scenes that fit into the image and whose objects differ."""
    scenes = edit.before, edit.after
    return edit.before != edit.after and all(
        scene.fits
        and all(kind in SEEN for kind in scene.kinds)
        and len(set(scene.kinds)) == len(scene.kinds)
        for scene in scenes
    )


def instruction(edit: SceneEdit, rng: random.Random) -> str:
    """A random sentence that asks for a change.

    It names the object by as few or many of its attributes as tell it from the other one.
    """
    before, after = edit.objects[edit.place]
    named = "" if before is None else _named(before, edit.before, rng)
    value = "" if after is None else _value(edit, after, rng)
    return rng.choice(WORDINGS[edit.change]).format(object=named, value=value) + rng.choice(ENDS)


def keyed_instruction(edit: SceneEdit, *parts: object) -> str:
    """The instruction whose wording depends on `parts` alone."""
    return instruction(edit, random.Random(key("instruction", *parts)))


def descriptions(kind: Kind, scene: Scene) -> list[frozenset[str]]:
    """Sets of attributes, beside the shape, that tell an object from all others of its scene."""
    sets = [
        frozenset(name for name, used in zip(("size", "colour"), chosen, strict=True) if used)
        for chosen in product((False, True), repeat=2)
    ]
    others = [other for other in scene.kinds if other != kind]

    def is_clear(used: frozenset[str]) -> bool:
        names = {*used, "shape"}
        return all(any(vars(o)[n] != vars(kind)[n] for n in names) for o in others)

    return [used for used in sets if is_clear(used)]


def _named(kind: Kind, scene: Scene, rng: random.Random) -> str:
    """The object of a scene, such as ``the red square``; ``it``, if there is no other."""
    if len(scene.kinds) == 1 and rng.random() < 0.1:
        return "it"
    return f"the {_words(kind, rng.choice(descriptions(kind, scene)), rng)}"


def _words(kind: Kind, used: frozenset[str], rng: random.Random) -> str:
    words = []
    if "size" in used:
        words.append(rng.choice(SIZE_WORDS[kind.size]))
    if "colour" in used:
        words.append(kind.colour)
    return " ".join([*words, rng.choice(SHAPE_WORDS.get(kind.shape, (kind.shape,)))])


def _value(edit: SceneEdit, after: Kind, rng: random.Random) -> str:
    """What an object becomes; a new one has in some sentences its place beside the other."""
    if edit.change == "colour":
        return after.colour
    if edit.change == "size":
        return rng.choice(SIZE_WORDS[after.size])
    if edit.change == "shape":
        return _with_article(_words(after, ONLY_COLOUR if rng.random() < 0.2 else SHAPE, rng))
    text = _with_article(_words(after, ONLY_COLOUR if rng.random() < 0.3 else WHOLE, rng))
    if edit.place == 0 and rng.random() < 0.4:
        other = _named(edit.before.kinds[0], edit.before, rng)
        text += f" {rng.choice(RELATION_WORDS[edit.after.relation])} {other}"
    return text


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
