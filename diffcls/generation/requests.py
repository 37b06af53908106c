"""Requests of a generation run: its images, its settings and its batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from diffcls.generation import samplers
from diffcls.generation.control import steered_by, tell_unused
from diffcls.generation.generation_options import GenerationOptions
from diffcls.generation.guides import Guide
from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    from diffcls.generation.classes import Classes
    from diffcls.generation.sample import Batch
    from diffcls.models.denoiser import Denoiser

MAX_DEFAULT_CLASSES = 10
"""Number of classes generated if none is named."""
DEFAULT_GUIDANCE = 2.0
Pictures = tuple[Any, list[Any]]
"""Images (B, H, W, 3), and their estimates after each step, each of that shape."""


@dataclass
class _Requests:
    """One entry per image: label, prompt, sentence, and class index (−1 without a class)."""

    labels: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)


def _requests(options: GenerationOptions, denoiser: Denoiser, classes: Classes | None) -> _Requests:
    rows: list[tuple[str, str, str, int]]
    if options.prompts:
        if denoiser.labels is not None:
            what = "--prompt needs a model that reads texts"
            raise UsageError(what, given=denoiser.card.name, todo="use --class NAME")
        rows = [(text, text, text, -1) for text in options.prompts]
    elif classes is None:
        if options.classes:
            raise UsageError(
                "--class needs a class-conditional model, or a guide",
                given=denoiser.card.name,
                todo="add --guide classifier",
            )
        rows = [("unconditional", "", "", -1)]
    else:
        names = options.classes or classes.names[:MAX_DEFAULT_CLASSES]
        chosen = [classes.index(name) for name in names]
        rows = [(classes.names[k], classes.prompts[k], classes.texts[k], k) for k in chosen]
    requests = _Requests()
    for label, prompt, text, k in rows:
        requests.labels += [label] * options.count
        requests.prompts += [prompt] * options.count
        requests.texts += [text] * options.count
        requests.classes += [k] * options.count
    return requests


def _guidance(options: GenerationOptions, denoiser: Denoiser) -> float:
    if denoiser.labels == ():
        return 1.0  # an unconditional model has no prompt to be guided by
    if options.guidance is not None:
        return options.guidance
    return 0.0 if options.guide else DEFAULT_GUIDANCE


@dataclass(frozen=True)
class Prepared:
    """A generation run that is ready to sample.

    Args:
        settings: everything that decides the images, in plain JSON types.
        labels: label of each image.
        batches: first images of batches, in any order -> these batches; None: all, in order.
    """

    settings: dict[str, Any]
    labels: list[str]
    batches: Callable[[Iterable[int] | None], Iterator[Batch]]


def prepared(options: GenerationOptions, denoiser: Denoiser) -> Prepared:
    """The images that the options ask of a model, with its guidance.

    Raises:
        UsageError, DataError, ModelError: for options that do not fit the model.
    """
    from diffcls.generation import sample as sampling
    from diffcls.generation.classes import classes_of, dataset_of
    from diffcls.generation.guides import build_guidance

    maps, control = None, dict[str, Any]()
    if options.control is not None:
        denoiser, maps, control = steered_by(denoiser, options.control, options.control_model)
    # refused before anything is written
    sampling.find_sampler(options.sampler, denoiser)
    samplers.path_of(denoiser.schedule, options.steps)
    classes = None
    if options.guide or not (options.prompts or denoiser.labels == ()):
        dataset = dataset_of(denoiser, options.dataset)
        classes = classes_of(denoiser, dataset, options.root, streaming=options.streaming)
    requests, guidance = _requests(options, denoiser, classes), None
    if maps is not None:
        tell_unused(maps, len(requests.prompts))
    if options.guide and classes:
        guide = Guide(options.guide, options.guide_weight, options.guide_model)
        guidance = build_guidance(guide, denoiser, classes, requests.classes, requests.texts)
    settings = {
        **model_settings(denoiser),
        "prompts": requests.prompts,
        "guidance": _guidance(options, denoiser),
        "guide": options.guide,
        "guided_to": requests.texts if options.guide else None,
        "guide_dataset": classes.dataset if options.guide and classes else None,
        "guide_weight": options.guide_weight if options.guide else None,
        "guide_model": options.guide_model,
        "sampler": options.sampler,
        "steps": options.steps,
        "seed": options.seed,
        **control,
    }

    def batches(starts: Iterable[int] | None) -> Iterator[Batch]:
        return sampling.sample(
            denoiser,
            requests.prompts,
            range(len(requests.prompts)),
            seed=options.seed,
            scale=settings["guidance"],
            steps=options.steps,
            batch_size=min(options.batch_size, len(requests.prompts)),
            sampler=options.sampler,
            guidance=guidance,
            trajectory=options.trajectory,
            starts=starts,
            maps=maps,
        )

    return Prepared(settings, requests.labels, batches)


def pictures(batch: Batch) -> Pictures:
    """The images of a batch, and their estimates after each step, as bytes (B, H, W, 3)."""
    from diffcls.generation.image_grid import to_bytes

    return to_bytes(batch.images), [to_bytes(one) for one in batch.trajectory]


def model_settings(denoiser: Denoiser) -> dict[str, Any]:
    """The settings of a run that name its model."""
    return {
        "model": denoiser.card.name,
        "revision": denoiser.card.revision,
        "dtype": str(denoiser.dtype).removeprefix("torch."),
    }
