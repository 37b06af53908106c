"""Worker of the Ray executor: the method and its images, built from options in the worker."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diffcls.classifiers.base import Built
from diffcls.classifiers.fitting import FitCost
from diffcls.data.dataset import Dataset, Item
from diffcls.data.prompts import PromptSet
from diffcls.evaluation.cost import fit_cost
from diffcls.evaluation.executors.serial import build
from diffcls.evaluation.options import EvaluationOptions
from diffcls.evaluation.plan import build_prompts, choose_images, spec_of
from diffcls.models.kept import models_kept
from diffcls.runs.spec import SCORING_VERSION
from diffcls.scoring.class_scores import ClassScores
from diffcls.support.cache import entries_used
from diffcls.support.environment import denormals_flushed, describe_device, set_threads
from diffcls.support.hashing import hash_json
from diffcls.support.version import __version__
from diffcls.support.workers.agreement import check_agreement

_process = contextlib.ExitStack()
"""What holds as long as the worker's process: flushed denormals, and models that are reused."""
_is_entered = False


def hash_images(dataset: Dataset) -> str:
    """A hash of the images' ids, labels and candidates, in their order."""
    return hash_json([[one.image_id, one.label, list(one.candidates)] for one in dataset.items])


def inputs_of(dataset: Dataset, prompts: PromptSet) -> dict[str, Any]:
    """What a machine gives to a run before a model is loaded; see `check_agreement`."""
    return {
        "version_of_diffcls": __version__,
        "scoring_version": SCORING_VERSION,
        "data_revision": dataset.revision,
        "images": hash_images(dataset),
        "class_names": hash_json(list(prompts.class_names)),
        "prompts": hash_json([list(prompts.prompts), list(prompts.class_of), prompts.asked]),
    }


@dataclass(frozen=True)
class Facts:
    """What the driver needs to know of a method that a worker has built.

    Args:
        built: the facts; its method is None, and what it fits is in `fit`.
        batch_size: rows of a forward pass.
        device: the device, as the leaderboard shows it.
        fit: cost of what is fitted before the first image; None if there is nothing to fit.
        spec: specification of the run, in plain JSON types.
    """

    built: Built
    batch_size: int
    device: str
    fit: FitCost | None
    spec: Mapping[str, Any]


@dataclass(frozen=True)
class MethodTask:
    """Makes the method of a run in a worker, by the same code as in a serial run.

    Args:
        method: name of the method.
        options: options of the evaluation.
        inputs: `inputs_of` of the driver.
        threads: CPU threads.
        batch_size: rows of a forward pass; None: as the options say.
        spec: specification of the run, in plain JSON types; None: that of the worker itself. It
            checks what is made, and makes nothing, so tasks that differ in it are equal.

    Raises:
        UsageError: where data, prompts, model or version differ from those of the run.
    """

    method: str
    options: EvaluationOptions
    inputs: Mapping[str, Any]
    threads: int
    batch_size: int | None = None
    spec: Mapping[str, Any] | None = field(default=None, compare=False)

    def __call__(self) -> ServedMethod:
        global _is_entered
        if not _is_entered:
            _process.enter_context(denormals_flushed())
            _process.enter_context(models_kept())
            _is_entered = True
        set_threads(self.threads)
        dataset, subset = choose_images(self.options)
        prompts = build_prompts(self.options, dataset)
        check_agreement(self.inputs, inputs_of(dataset, prompts))
        built = build(self.method, self.options, prompts)
        spec = spec_of(self.method, self.options, dataset, subset, built, built.img_size).as_dict()
        if self.spec is not None:
            check_agreement(self.spec, spec)
        if self.batch_size is not None:
            built.method.batch_size = self.batch_size
        return ServedMethod(built, dataset, spec)


class ServedMethod:
    """A method in a worker; images are named by their position in the data set.

    Args:
        built: the method.
        dataset: the images.
        spec: specification of the run, in plain JSON types.
    """

    def __init__(self, built: Built, dataset: Dataset, spec: Mapping[str, Any]) -> None:
        self._built, self._method, self._items = built, built.method, dataset.items
        self._spec = spec

    @property
    def batch_size(self) -> int:
        """Rows of a forward pass; a lack of memory halves them."""
        return self._method.batch_size

    def facts(self) -> Facts:
        """What the driver needs to know."""
        stripped: Any = {"method": None, "fitting": None}
        return Facts(
            dataclasses.replace(self._built, **stripped),
            self._method.batch_size,
            describe_device(self._built.device),
            fit_cost(self._built),
            self._spec,
        )

    def attribute(self, name: str) -> Any:
        """An attribute of the method, such as ``posterior_scale``."""
        return getattr(self._method, name)

    def seconds_per_batch(self) -> float:
        """See `diffcls.classifiers.base.Method`."""
        return self._method.seconds_per_batch()

    def check(self, positions: Sequence[int]) -> None:
        """See `diffcls.classifiers.base.Method`."""
        self._method.check([self._items[i] for i in positions])

    def fit(self) -> list[str]:
        """Fit what the method fits before its first image: the other workers read the result.

        Returns:
            Names of the files in which the fits are.
        """
        for _ in self._method.classify(()):
            pass
        return sorted(entries_used())

    def fit_file(self, name: str) -> bytes | None:
        """The content of such a file; None in a worker that has not read it."""
        path = entries_used().get(name)
        return None if path is None else path.read_bytes()

    def stream(self, keys: Iterator[int]) -> Iterator[tuple[int, ClassScores]]:
        """(position, scores) of each image, in order of completion."""
        positions: dict[str, int] = {}

        def items() -> Iterator[Item]:
            for key in keys:
                item = self._items[key]
                positions[item.image_id] = key
                yield item

        for result in self._method.classify(items()):
            yield positions.pop(result.image_id), result
