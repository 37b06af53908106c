"""Grammar of scenes: objects, relations, canonical sentences, and the held-out combinations.

A scene has one canonical sentence, such as ``two small red circles to the left of a medium blue
square``; `parse` inverts it, so sentence and scene are equivalent.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from diffcls.support.errors import DataError

SIZES = ("small", "medium", "large")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SHAPES = ("circle", "square", "triangle", "cross")
COUNTS = ("a", "two", "three")
RELATIONS = ("to the left of", "to the right of", "above", "below")


@dataclass(frozen=True, order=True)
class Kind:
    """Kind of object: a combination of size, colour and shape, such as ``small red circle``."""

    size: str
    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.size} {self.colour} {self.shape}"

    @property
    def held_out(self) -> bool:
        """Whether training scenes leave out this combination; true of 20 of the 96.

        Every size, colour and shape occurs in training, and so does every pair of attributes.
        """
        indices = SIZES.index(self.size), COLOURS.index(self.colour), SHAPES.index(self.shape)
        size, colour, shape = indices
        return (colour + 3 * shape + size) % 5 == 1


KINDS = tuple(Kind(*parts) for parts in product(SIZES, COLOURS, SHAPES))
SEEN = tuple(kind for kind in KINDS if not kind.held_out)
HELD_OUT = tuple(kind for kind in KINDS if kind.held_out)


@dataclass(frozen=True, order=True)
class Group:
    """One to three objects of one kind."""

    kind: Kind
    count: int = 1

    def __str__(self) -> str:
        return f"{COUNTS[self.count - 1]} {self.kind}{_plural(self)}"


@dataclass(frozen=True)
class Scene:
    """One group of objects, or two in a relation: the first left of, above, … the second."""

    first: Group
    relation: str = ""
    second: Group | None = None

    def __str__(self) -> str:
        if self.second is None:
            return str(self.first)
        return f"{self.first} {self.relation} {self.second}"

    @property
    def groups(self) -> tuple[Group, ...]:
        """Groups in the order of the sentence."""
        return (self.first,) if self.second is None else (self.first, self.second)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Kind of each object, in the order of the sentence."""
        return tuple(group.kind for group in self.groups for _ in range(group.count))

    @property
    def fits(self) -> bool:
        """Whether all objects fit into 32 × 32 pixels without overlap."""
        sizes = sorted((SIZES.index(kind.size) for kind in self.kinds), reverse=True)
        if len(sizes) == 1:
            return True
        # up to three objects, all but one small; or two of which none is large
        return len(sizes) <= 3 and (sizes[1] == 0 or (len(sizes) == 2 and sizes[0] < 2))


def parse(sentence: str) -> Scene:
    """Scene of a canonical sentence; inverse of ``str(scene)``.

    Raises:
        DataError: for any other sentence.
    """
    for relation in RELATIONS:
        first, separator, second = sentence.partition(f" {relation} ")
        if separator:
            return Scene(_group(first), relation, _group(second))
    return Scene(_group(sentence))


def _group(text: str) -> Group:
    words = text.split(" ")
    if len(words) == 4 and words[0] in COUNTS:
        for shape in SHAPES:
            group = Group(Kind(words[1], words[2], shape), COUNTS.index(words[0]) + 1)
            if group.kind in KINDS and str(group) == text:
                return group
    raise DataError(
        "not the canonical sentence of a scene",
        given=text,
        allowed=f"sentences such as 'a {KINDS[0]}'",
    )


def _plural(group: Group) -> str:
    if group.count == 1:
        return ""
    return "es" if group.kind.shape == "cross" else "s"
