"""Tasks of the few-shot benchmark: models, classes they have never seen, and images of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.data import catalog
from diffcls.data.load import load_dataset
from diffcls.data.scenes.grammar import HELD_OUT, Group
from diffcls.data.subsets import choose
from diffcls.support.errors import UsageError
from diffcls.support.files import safe_name
from diffcls.support.seeding import key

if TYPE_CHECKING:
    from diffcls.api.zero_shot import ZeroShotImageClassifier
    from diffcls.data.dataset import Dataset, Item

CONCEPT, WORDS, TRAINED = "concept", "words", "words, model trained with the class"
UNLEARNED = {WORDS: "zero-shot", TRAINED: "model trained on this data set"}
"""Methods that learn nothing from the images, with what a row says of their supervision."""
DREAMBOOTH = "dreambooth"
SHOTS, SEEDS = (5, 1, 2, 10), (0, 1, 2)
MAIN_SHOTS = 5
"""Number of images that the targets are set for."""
SEARCH = "gradient"
"""Search of the classifiers; on the scenes its answers are racing's (GROWTH.md)."""
TUNED_ON = 5
"""Every fifth held-out combination chose the settings of the learning; they are not reported."""
OWN = 100
"""Test images of the new class, at most."""


@dataclass(frozen=True)
class Learning:
    """One learning of a class.

    Args:
        shots: number of images.
        seed: of the choice of the images, and of the learning.
    """

    shots: int
    seed: int

    @property
    def is_first(self) -> bool:
        """Whether methods that learn nothing are measured beside it, and samples generated."""
        return self.shots == MAIN_SHOTS and self.seed == SEEDS[0]


@dataclass(frozen=True)
class Task:
    """A kind of new classes.

    Args:
        name: its name.
        dataset: whose training split shows the new class, and whose test split scores it.
        old_dataset: whose test split shows the old classes.
        clip: CLIP of the nearest class mean, and independent classifier of samples.
        many, few: number of classes that are learned from `MAIN_SHOTS` and from other numbers of
            images.
        old: number of test images of old classes.
        learning: settings of the learning.
    """

    name: str
    dataset: str
    old_dataset: str
    clip: str
    many: int
    few: int
    old: int
    learning: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def learnings(self, number: int) -> Iterator[Learning]:
        """All learnings of the class of that number."""
        for shots in SHOTS:
            if number < (self.many if shots == MAIN_SHOTS else self.few):
                yield from (Learning(shots, seed) for seed in SEEDS)


@dataclass(frozen=True)
class NewClass:
    """A class that a model has never seen.

    Args:
        task: its task.
        number: its place among the classes of the task.
        name: its name in the data set.
        model: name or path of the model.
        data_root: folder of local data.
        trained: model that was trained with the class; None without one.
    """

    task: Task
    number: int
    name: str
    model: str
    data_root: str | None = None
    trained: str | None = None

    def facts(self) -> dict[str, Any]:
        """What names it in a measurement."""
        return {"task": self.task.name, "class": self.name, "model": self.model}

    @property
    def label(self) -> int:
        """Index of the class."""
        return self._split(self.task.dataset, "test").class_names.index(self.name)

    @property
    def names(self) -> tuple[str, ...]:
        """(K,) names of all classes, as prompts contain them."""
        test = self._split(self.task.dataset, "test")
        return test.prompt_names or test.class_names

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates of the data set."""
        return self._split(self.task.dataset, "test").templates_or(
            catalog.find(self.task.dataset).templates
        )

    @property
    def learning(self) -> dict[str, Any]:
        """Settings of the learning; DreamBooth's are given the names of all classes."""
        chosen = dict(self.task.learning)
        if chosen.get("method") == DREAMBOOTH:
            others = [name for label, name in enumerate(self.names) if label != self.label]
            chosen |= {"init": self.names[self.label].lower(), "against": others}
        return chosen

    def shown(self, learning: Learning) -> list[Item]:
        """The images that the class is learned from, chosen by the seed."""
        return self.images("train", self.label, learning.shots, learning.seed)

    @cached_property
    def own(self) -> Sequence[Item]:
        """Test images of the class."""
        return self.images("test", self.label, OWN, 0)

    @cached_property
    def old(self) -> Sequence[Item]:
        """Test images of the old classes, a stratified sample."""
        whole = self._split(self.task.old_dataset, "test")
        others = [i for i, item in enumerate(whole.items) if item.label != self.label]
        return choose(whole.take(others), self.task.old)[0].items

    def images(self, split: str, label: int, count: int, seed: int = 0) -> list[Item]:
        """Random images of a class, at most `count`; more begin with those of fewer."""
        items = self.of_old_classes(split, label) or [
            item for item in self._split(self.task.dataset, split).items if item.label == label
        ]
        rng = random.Random(key("few-shot", split, label, seed))  # noqa: S311
        return rng.sample(items, len(items))[:count]

    def of_old_classes(self, split: str, label: int) -> list[Item]:
        """The images of a class in the data set of the old classes."""
        whole = self._split(self.task.old_dataset, split)
        return [item for item in whole.items if item.label == label]

    def classifier(self, model: str | None = None) -> ZeroShotImageClassifier:
        """A classifier of its own; by default of the model that has never seen the class."""
        import diffcls

        return diffcls.ZeroShotImageClassifier.from_pretrained(
            model or self.model, search=SEARCH, device="cpu"
        )

    def _split(self, dataset: str, split: str) -> Dataset:
        return _load(dataset, split, self.data_root)


@cache
def _load(dataset: str, split: str, data_root: str | None) -> Dataset:
    return load_dataset(dataset, split, data_root)


def scenes(models: Path, data_root: str | None) -> Iterator[NewClass]:
    """Combinations that no training image of the scenes shows, though the words are known."""
    kinds = [kind for i, kind in enumerate(HELD_OUT) if i % TUNED_ON != TUNED_ON - 1]
    for number, kind in enumerate(kinds[: TASKS["scenes"].many]):
        yield NewClass(TASKS["scenes"], number, str(Group(kind)), "scenes")


def fashion(models: Path, data_root: str | None) -> Iterator[NewClass]:
    """Classes of Fashion-MNIST, each unknown to a model of its own.

    Raises:
        UsageError: if a model is missing.
    """
    for number, name in enumerate(("Trouser", "Bag", "Shirt")):
        model = models / f"fashion_mnist-without-{safe_name(name).lower()}"
        if not model.is_dir():
            raise UsageError(
                "a model is missing",
                given=str(model),
                todo=f"python -m diffcls.train --dataset fashion_mnist --without {name} "
                f"--output-dir {models}",
            )
        yield NewClass(TASKS["fashion_mnist"], number, name, str(model), data_root, "fashion_mnist")


TASKS = {
    task.name: task
    for task in (
        Task(
            "scenes",
            "scenes/held-out",
            "scenes/attributes",
            "clip-scenes",
            many=10,
            few=4,
            old=100,
        ),
        Task(
            "fashion_mnist",
            "fashion_mnist",
            "fashion_mnist",
            "clip-fashion_mnist",
            many=3,
            few=3,
            old=300,
            # a word cannot show what the network never drew; chosen on training images
            learning={
                "method": DREAMBOOTH,
                "lora_layers": "blocks",
                "rank": 16,
                "learning_rate": 3e-3,
                "steps": 400,
                "batch_size": 16,
                "prior_images": 100,
                "augment": 20,
            },
        ),
    )
}
CLASSES = {"scenes": scenes, "fashion_mnist": fashion}
