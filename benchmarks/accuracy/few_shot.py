"""Few-shot benchmark: are classes recognised that were added from one to ten images?

The models have never seen these classes: combinations that the scenes leave out, and Fashion-MNIST
trained ``--without`` a class. A concept is learned from images of the training split and competes
with all other classes, which are named in words, on held-out images. Beside it, on the same images:
the class named in words, and the nearest class mean on the model's own features and on CLIP's.

Writes ``few_shot.csv`` and ``FEW_SHOT.md``; what is measured is kept in ``few_shot_runs``, so that
an interrupted benchmark goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.accuracy.few_shot_means import CLIP, MODEL, class_means
from benchmarks.accuracy.few_shot_samples import agreement
from benchmarks.accuracy.few_shot_tasks import (
    CLASSES,
    CONCEPT,
    SEARCH,
    TASKS,
    TRAINED,
    WORDS,
    Learning,
    NewClass,
)
from benchmarks.core.flags import add_data_root, add_report_only, entry_point, parser
from benchmarks.core.tables import record_environment
from diffcls.concepts.options import ConceptSettings
from diffcls.support.environment import commit
from diffcls.support.files import make_folder, write_text
from diffcls.support.hashing import hash_text

if TYPE_CHECKING:
    from diffcls.api.zero_shot import ZeroShotImageClassifier
    from diffcls.data.dataset import Item

NAME = "few_shot"
WORD = "<new>"
MODELS = "folder of the models of fashion_mnist trained --without a class (models)"


def _main(arguments: list[str]) -> int:
    from benchmarks.accuracy import few_shot_report

    p = parser(NAME, __doc__)
    add_data_root(p)
    add_report_only(p)
    p.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="(all)")
    p.add_argument("--models", default="models", metavar="DIR", help=MODELS)
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    if not flags.report_only:
        for name in flags.tasks:
            for new in CLASSES[name](Path(flags.models), flags.data_root):
                Measurement(new).measure(output / few_shot_report.RUNS)
        record_environment(output, NAME)
    few_shot_report.write(output)
    return 0


main = entry_point(_main)


@dataclass
class Measurement:
    """All methods on one new class.

    Args:
        new: the class, its model and images.
    """

    new: NewClass

    def measure(self, folder: Path) -> None:
        """Measure what is not in the folder yet: a file per method, number of images and seed."""
        from diffcls.support.environment import denormals_flushed, set_threads

        set_threads(1)
        make_folder(folder)
        for learning in self.new.task.learnings(self.new.number):
            for method, figures in self._methods(learning).items():
                facts = {**self.new.facts(), **vars(learning), "method": method}
                facts |= self._revisions(method)
                path = folder / f"{hash_text(json.dumps(facts), 16)}.json"
                if not path.exists():
                    with denormals_flushed():
                        row = {**facts, **self._common, **figures(), "commit": commit()}
                    write_text(path, json.dumps(row) + "\n")

    def _revisions(self, method: str) -> dict[str, Any]:
        """What decides on the figures of a method besides class, images and seed."""
        new = self.new
        settings = ConceptSettings(name=WORD, **new.learning)
        optimiser = vars(settings.optimisation())
        return {
            "settings": {**new.learning, **optimiser} if method == CONCEPT else {},
            "revision": _revision(str(new.trained) if method == TRAINED else new.model),
            "search": SEARCH,
        }

    def _methods(self, learning: Learning) -> dict[str, Callable[[], dict[str, Any]]]:
        """Each method, with the function that measures it."""
        new = self.new
        methods: dict[str, Callable[[], dict[str, Any]]] = {
            CONCEPT: lambda: self._concept(learning),
            MODEL: lambda: class_means(new, learning, MODEL),
            CLIP: lambda: class_means(new, learning, CLIP),
        }
        if learning.is_first:
            methods[WORDS] = lambda: self._words(new.model)
            if new.trained is not None:
                methods[TRAINED] = lambda: self._words(str(new.trained))
        return methods

    @cached_property
    def _common(self) -> dict[str, Any]:
        return {"old_images": [item.image_id for item in self.new.old]}

    @cached_property
    def _before(self) -> list[bool]:
        """Which images of old classes are right without the new class."""
        return self._right(self.new.classifier(), self.new.old, None)

    def _concept(self, learning: Learning) -> dict[str, Any]:
        new, classifier = self.new, self.new.classifier()
        shown = [item.open() for item in new.shown(learning)]
        learned = classifier.add_concept(shown, WORD, seed=learning.seed, **new.learning)
        figures = {
            "recalled": self._right(classifier, new.own, learned.phrase),
            "old_right": self._right(classifier, new.old, learned.phrase),
            "old_right_before": self._before,
            "seconds": learned.seconds,
        }
        return figures | (agreement(new, learned) if learning.is_first else {})

    def _words(self, model: str) -> dict[str, Any]:
        """The class named in words."""
        classifier = self.new.classifier(model)
        name = self.new.names[self.new.label]
        return {
            "recalled": self._right(classifier, self.new.own, name),
            "old_right": self._right(classifier, self.new.old, name),
            "old_right_before": self._before,
        }

    def _right(
        self, classifier: ZeroShotImageClassifier, items: Sequence[Item], phrase: str | None
    ) -> list[bool]:
        """Whether each image is right among all classes.

        Args:
            classifier: with the learned words.
            items: the images.
            phrase: what stands for the new class in a prompt; None: it is no candidate.
        """
        names: list[str | None] = list(self.new.names)
        names[self.new.label] = phrase
        labels = [name for name in names if name is not None]
        answers: Any = classifier([item.open() for item in items], labels, self.new.templates)
        return [
            answer[0]["label"] == names[item.class_index]
            for answer, item in zip(answers, items, strict=True)
        ]


@cache
def _revision(model: str) -> str:
    """Revision of a model, by its weights."""
    from diffcls.models import given

    return given.load(model, "cpu", None, None).card.revision
