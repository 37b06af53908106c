"""Paraphrases of a scene's canonical sentence: training captions for models of scenes."""

from __future__ import annotations

import random

from diffcls.data.scenes.grammar import COUNTS, Group, Scene, parse

TEMPLATES = (
    "{}",
    "{}",
    "a picture of {}",
    "a picture of {}",
    "a photo of {}",
    "an image of {}",
    "a drawing of {}",
    "this is {}",
    "here you can see {}",
    "an image that shows {}",
    "{} on a plain background",
    "{} on gray",
)
SIZE_WORDS = {
    "small": ("small", "small", "little", "tiny"),
    "medium": ("medium", "medium", "medium-sized"),
    "large": ("large", "large", "big"),
}
SHAPE_WORDS = {"circle": ("circle", "circle", "disc"), "square": ("square", "square", "box")}
RELATION_WORDS = {
    "to the left of": ("to the left of", "to the left of", "left of", "on the left of"),
    "to the right of": ("to the right of", "to the right of", "right of", "on the right of"),
    "above": ("above", "above", "over"),
    "below": ("below", "below", "under", "beneath"),
}
CONVERSE = {
    "to the left of": "to the right of",
    "to the right of": "to the left of",
    "above": "below",
    "below": "above",
}


def paraphrase(sentence: str, rng: random.Random) -> str:
    """Random paraphrase of a canonical sentence; half of the relations are stated conversely."""
    scene = parse(sentence)
    if scene.second is not None and rng.random() < 0.5:
        scene = Scene(scene.second, CONVERSE[scene.relation], scene.first)
    text = _group(scene.first, rng)
    if scene.second is not None:
        text += f" {rng.choice(RELATION_WORDS[scene.relation])} {_group(scene.second, rng)}"
    return rng.choice(TEMPLATES).replace("{}", text) + rng.choice(("", "", "."))


def _group(group: Group, rng: random.Random) -> str:
    kind = group.kind
    shape = rng.choice(SHAPE_WORDS.get(kind.shape, (kind.shape,)))
    if group.count > 1:
        shape += "es" if shape.endswith(("s", "x")) else "s"
    count = COUNTS[group.count - 1]
    if count == "a":
        count = rng.choice(("a", "a", "a", "one", "the"))
    return f"{count} {rng.choice(SIZE_WORDS[kind.size])} {kind.colour} {shape}"
