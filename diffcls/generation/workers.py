"""Generation by workers: batches of images from a model that each worker has loaded."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from diffcls.data.load import load_dataset
from diffcls.generation.classes import classes_of, dataset_of
from diffcls.generation.fidelity_options import FidelityOptions
from diffcls.generation.generation_options import GenerationOptions
from diffcls.generation.image_features import sampled
from diffcls.generation.requests import model_settings, pictures, prepared
from diffcls.generation.sample import Batch
from diffcls.support.environment import threads
from diffcls.support.errors import ModelError
from diffcls.support.version import __version__
from diffcls.support.workers.agreement import check_agreement
from diffcls.support.workers.cluster import connected
from diffcls.support.workers.members import GivenUp, Make
from diffcls.support.workers.pool import Pool
from diffcls.support.workers.requests import WorkerRequest

if TYPE_CHECKING:
    from torch import Tensor

    from diffcls.generation.classes import Classes
    from diffcls.models.denoiser import Denoiser

_opened = contextlib.ExitStack()
"""The model of the worker's process, with its threads."""


class ServedBatches:
    """Batches of a generation run, named by their first image.

    Args:
        facts: what all workers must have in common, in plain JSON types.
        batches: first images -> their batches, in the same order.
        encode: a batch as it is sent.
    """

    def __init__(
        self,
        facts: Mapping[str, Any],
        batches: Callable[[Iterable[int]], Iterator[Batch]],
        encode: Callable[[Batch], Any],
    ) -> None:
        self._facts, self._batches, self._encode = facts, batches, encode

    def facts(self) -> Mapping[str, Any]:
        """What all workers must have in common, in plain JSON types."""
        return self._facts

    def stream(self, keys: Iterator[int]) -> Iterator[tuple[int, Any]]:
        """(first image, batch), in the order of the keys."""
        taken: deque[int] = deque()

        def starts() -> Iterator[int]:
            for key in keys:
                taken.append(key)
                yield key

        for batch in self._batches(starts()):
            yield taken.popleft(), self._encode(batch)


@dataclass(frozen=True)
class GenerationTask:
    """Makes a generation run in a worker.

    Args:
        options: options of the run.
        facts: what the worker must have in common with the run, as far as that is known. Tasks that
            differ in it are equal, as they make the same.
        version: version of the driver.

    Raises:
        UsageError: where the model, its prompts or the version differ from those of the run.
    """

    options: GenerationOptions
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)
    version: str = __version__

    def __call__(self) -> ServedBatches:
        _check_version(self.version)
        _opened.close()
        denoiser = _opened.enter_context(self.options.opened(self.options.dtype))
        run = prepared(self.options, denoiser)
        facts = {**run.settings, "labels": list(run.labels)}
        return _agreed(self.facts, ServedBatches(facts, run.batches, pictures))


@dataclass(frozen=True)
class FidelityTask:
    """Makes the generated images of a fidelity measurement in a worker.

    Args:
        options: options of the measurement, with the name of its data set.
        guidance: weight of classifier-free guidance.
        count: number of images.
        facts, version: see `GenerationTask`.

    Raises:
        UsageError: where the model, its prompts or the version differ from those of the run.
    """

    options: FidelityOptions
    guidance: float
    count: int
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)
    version: str = __version__

    def __call__(self) -> ServedBatches:
        _check_version(self.version)
        _opened.close()
        options = self.options
        denoiser = _opened.enter_context(options.opened())
        dataset = dataset_of(denoiser, options.dataset)
        data = None
        if options.real is None:
            data = load_dataset(dataset, options.split, options.root, streaming=options.streaming)
        classes = classes_of(denoiser, dataset, options.root, data, options.streaming)

        def batches(starts: Iterable[int]) -> Iterator[Batch]:
            return sampled(options, denoiser, classes, self.guidance, self.count, starts)

        facts = facts_of(denoiser, classes)
        served = ServedBatches(facts, batches, lambda batch: batch.images.numpy())
        return _agreed(self.facts, served)


def facts_of(denoiser: Denoiser, classes: Classes) -> dict[str, Any]:
    """What all workers of a fidelity measurement must have in common, in plain JSON types."""
    prompts = {"class_names": list(classes.names), "prompts": list(classes.prompts)}
    return {**model_settings(denoiser), **prompts}


def _check_version(version: str) -> None:
    check_agreement({"version of diffcls": version}, {"version of diffcls": __version__})


def _agreed(facts: Mapping[str, Any], served: ServedBatches) -> ServedBatches:
    here = served.facts()
    check_agreement(facts, {name: here[name] for name in facts if name in here})
    return served


def tensors_of(pool: Pool, task: FidelityTask) -> Iterator[Tensor]:
    """Generated images (B, 3, H, W) in [−1, 1], in order."""
    import torch

    task = replace(task, options=with_threads(task.options))
    task = replace(task, facts=pool.call(task, "facts"))  # all others must have the same
    for images in batches_of(pool, task, task.count, task.options.batch_size):
        yield torch.from_numpy(np.array(images))


def with_threads(options: Any) -> Any:
    """Options whose workers compute by as many threads as this process would."""
    return replace(options, threads=options.threads or threads())


@contextmanager
def pool_of(options: GenerationOptions | FidelityOptions) -> Iterator[Pool]:
    """The workers that the options ask for.

    Raises:
        UsageError: if Ray is not installed, or no cluster answers.
    """
    request = WorkerRequest(options.workers, options.address, options.device)
    with connected(options.address) as cluster:
        pool = request.pool(cluster, options.threads or threads())
        try:
            yield pool
        finally:
            pool.close()


def batches_of(pool: Pool, task: Make, images: int, size: int) -> Iterator[Any]:
    """All batches of a run in their order, whatever order they are finished in.

    Args:
        pool: the workers.
        task: makes the run in a worker.
        images: number of images.
        size: images of a batch.

    Raises:
        ModelError: for a batch with which several workers died.
    """
    finished: dict[int, Any] = {}
    following = 0
    for start, batch in pool.stream(task, range(0, images, size)):
        if isinstance(batch, GivenUp):
            raise ModelError(
                f"{batch.deaths} workers died while they generated a batch",
                given=f"images {start} to {min(start + size, images) - 1}",
                todo="look for a lack of memory; rerun with a smaller --batch-size",
            )
        finished[start] = batch
        while following in finished:
            yield finished.pop(following)
            following += size
