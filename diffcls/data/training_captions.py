"""Training captions for small text-to-image models: caption augmentation, one grammar per data set.

A model trained on ten fixed sentences learns ten ids. Captions therefore vary the class's name and
the sentence, and insert filler words, so that the model learns the class word at any position.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial

from diffcls.data.class_names import words_of
from diffcls.data.scenes.paraphrases import paraphrase
from diffcls.support.seeding import key

TEMPLATES = (
    "{}",
    "a {}",
    "the {}",
    "a photo of {}",
    "a photo of a {}",
    "a photo of the {}",
    "an image of {}",
    "an image of a {}",
    "a picture of a {}",
    "a picture of the {}",
    "a blurry photo of a {}",
    "a low resolution image of a {}",
    "a small picture showing a {}",
    "a bad photo of the {}",
    "a good photo of one {}",
    "this is a {}",
    "this image shows the {}",
    "there is a {} in the picture",
    "a black and white photo of a {}",
    "a close-up of a {}",
    "it looks like a {}",
    "here you can see {}",
    "one {} in the middle",
    "a centered {}",
)

# common words that name no class, so that unforeseen prompts contain known words
FILLERS = tuple(
    """also and another any around at bad beautiful best big bright by can certain clean clear close
    cool cropped dark dim drawn everyday example find found from good gray grainy happy has hello
    here how i in is it item just kind known large like little lovely low made many maybe me middle
    my new nice noisy of old on our over paper part perhaps photograph plain please possibly quite
    rather real really scan scene see seen sharp show shown simple sketch soft some somebody
    something sort square such taken that their them thing tiny to today type typical under usual
    very view was we weird white with written yes you your""".split()
)

DIGIT_WORDS = "zero one two three four five six seven eight nine".split()


def _digit_names(label: int) -> tuple[str, ...]:
    word, numeral = DIGIT_WORDS[label], str(label)
    forms: tuple[str, ...] = (
        "{}",
        "{}",
        "digit {}",
        "number {}",
        "handwritten {}",
        "handwritten digit {}",
    )
    forms += ("numeral {}", "figure {}", "digit named {}", "number written as {}")
    return tuple(form.format(name) for form in forms for name in (word, numeral))


DIGIT_NAMES = tuple(_digit_names(label) for label in range(10))


FASHION_NAMES = (
    ("t-shirt", "tee shirt", "t-shirt/top", "top", "tee"),
    ("trouser", "trousers", "pair of trousers", "pants"),
    ("pullover", "sweater", "jumper"),
    ("dress", "gown", "woman's dress"),
    ("coat", "jacket", "overcoat"),
    ("sandal", "sandals", "open shoe"),
    ("shirt", "button shirt", "blouse"),
    ("sneaker", "trainer", "running shoe", "sneakers"),
    ("bag", "handbag", "purse"),
    ("ankle boot", "boot", "ankle boots"),
)

CIFAR10_NAMES = (
    ("airplane", "plane", "aeroplane", "aircraft", "jet"),
    ("automobile", "car", "motor car", "sedan"),
    ("bird", "small bird", "wild bird"),
    ("cat", "kitten", "house cat"),
    ("deer", "stag", "doe", "wild deer"),
    ("dog", "puppy", "pet dog"),
    ("frog", "toad", "green frog"),
    ("horse", "pony", "riding horse"),
    ("ship", "boat", "vessel", "sailing ship"),
    ("truck", "lorry", "fire truck", "pickup truck"),
)


def compose_caption(names: tuple[str, ...], rng: random.Random) -> str:
    """Caption from a random template and one of the names, in half the cases with filler words."""
    before, after = rng.choice(TEMPLATES).split("{}")
    words_before, words_after = before.split(), after.split()
    if rng.random() < 0.5:
        for words in (words_before, words_after):
            for _ in range(rng.choice((0, 0, 1, 2))):
                words.insert(rng.randint(0, len(words)), rng.choice(FILLERS))
            if words and rng.random() < 0.3:
                words[rng.randrange(len(words))] = rng.choice(FILLERS)
    sentence = " ".join([*words_before, rng.choice(names), *words_after])
    return sentence + rng.choice(("", "", ".", "!"))


def _from_names(table: tuple[tuple[str, ...], ...], label: int, _: str, rng: random.Random) -> str:
    return compose_caption(table[label], rng)


def _from_scene(_: int, name: str, rng: random.Random) -> str:
    return paraphrase(name, rng)


def _from_class_name(_: int, name: str, rng: random.Random) -> str:
    return compose_caption((words_of(name),), rng)


GRAMMARS: Mapping[str, Callable[[int, str, random.Random], str]] = {
    "digits": partial(_from_names, DIGIT_NAMES),
    "fashion_mnist": partial(_from_names, FASHION_NAMES),
    "cifar10": partial(_from_names, CIFAR10_NAMES),
    "scenes": _from_scene,
}
"""Caption grammar of each data set: (class index, class name, random generator) -> caption."""


def caption(
    dataset: str, label: int, seed: int, item: int, name: str = "", sentence: bool = False
) -> str:
    """Random caption for an image of class `label`.

    The wording depends only on (seed, item).

    Args:
        dataset: name of the data set, which selects the caption grammar; a data set without its own
            grammar uses general templates, filled with the class name.
        label: class index.
        seed, item: seed of the training, and index of the image.
        name: class name; used for scenes and for data sets without their own grammar.
        sentence: whether the class name is itself a caption, returned unchanged.
    """
    if sentence:
        return name
    grammar = GRAMMARS.get(dataset, _from_class_name)
    return grammar(label, name, random.Random(key("caption", seed, item)))
