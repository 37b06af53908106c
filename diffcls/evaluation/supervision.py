"""Supervision of a run: what its model has been trained on, for the leaderboard."""

from __future__ import annotations

from collections.abc import Iterator

from diffcls.classifiers.base import Built, Description
from diffcls.data import seen_images
from diffcls.data.dataset import Dataset
from diffcls.data.hub_ids import benchmark_of, is_personal
from diffcls.data.seen_images import SeenImages
from diffcls.evaluation.options import EvaluationOptions
from diffcls.models.concept_files import parse
from diffcls.models.denoiser import ModelCard

ZERO_SHOT = "zero-shot"
UNKNOWN = "unknown"
FEW_SHOT = "few-shot"
TRAINED_ON_DATA_SET = "model trained on this data set"


def supervision_of(
    options: EvaluationOptions, dataset: Dataset, described: Built | Description
) -> str:
    """The text of the leaderboard's column ``supervision``.

    With learned concepts it is ``few-shot, N images`` for a model that is zero-shot otherwise; for
    any other the supervision without concepts comes first.

    Raises:
        ModelError: see `without_concepts`.
    """
    base = without_concepts(options, dataset, described)
    if not options.concept:
        return base
    shots = _few_shot([parse(text).images for text in options.concept])
    return shots if base == ZERO_SHOT else f"{base}; {shots}"


def _few_shot(counts: list[int | None]) -> str:
    """``few-shot``, with the number of images per concept where it is known of all of them."""
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        return FEW_SHOT
    low, high = min(known), max(known)
    number = f"{low}" if low == high else f"{low} to {high}"
    return f"{FEW_SHOT}, {number} image{'' if high == 1 else 's'}"


def without_concepts(
    options: EvaluationOptions, dataset: Dataset, described: Built | Description
) -> str:
    """The supervision of a run without its learned concepts.

    A method that is trained on labels, or whose candidates another model proposes, states it
    itself. Else it depends on the training data in the model's card, and in that of a ControlNet:

    ``model trained on this data set``
        by the data set's name or Hub id, or as a sample of its images contains training images,
        see `diffcls.data.seen_images.SeenImages.is_copy`;
    ``unknown``
        for a person's own data that share a class name with the training data, or a few images; and
        where a model's card names training data of which no hashes are stored; and for weights in
        memory that are those of no known model;
    ``zero-shot``
        otherwise.

    Raises:
        ModelError: if the hashes stored with the model are damaged.
    """
    card = described.card
    if described.supervision:
        return described.supervision
    otherwise = ZERO_SHOT if all(part.is_traced for part in card.parts) else UNKNOWN
    if not any(part.trained_on for part in card.parts):
        return otherwise
    if card.has_seen(dataset.name):
        return TRAINED_ON_DATA_SET
    personal = is_personal(dataset.name)
    stored = [seen for part in card.parts for seen in _stored(part, with_benchmarks=personal)]
    if stored:
        hashes = seen_images.sample_hashes(dataset)
        if any(seen.is_copy(hashes) for seen in stored):
            return TRAINED_ON_DATA_SET
        if any(seen.common_images(hashes) for seen in stored):
            return UNKNOWN
    names = _names(options, dataset, described) if personal else ()
    if any(seen.has_name(names) for seen in stored):
        return UNKNOWN
    return UNKNOWN if any(_has_gaps(part, personal) for part in card.parts) else otherwise


def _stored(card: ModelCard, with_benchmarks: bool) -> Iterator[SeenImages]:
    """The hashes of the model's training data; benchmarks have other images than one another."""
    if card.seen_images is not None:
        yield seen_images.read(card.seen_images)
    if with_benchmarks:
        for name in card.trained_on:
            seen = seen_images.of_benchmark(benchmark_of(name))
            if seen is not None:
                yield seen


def _names(
    options: EvaluationOptions, dataset: Dataset, described: Built | Description
) -> tuple[str, ...]:
    """The class names as a person wrote them, those within a file of prompts included."""
    prompts = described.prompts.prompts if options.prompts else ()
    in_prompts = (phrase for text in prompts for phrase in seen_images.phrases(text))
    return (*dataset.class_names, *dataset.prompt_names, *in_prompts)


def _has_gaps(card: ModelCard, personal: bool) -> bool:
    """Whether nothing but its name is known of some training data that may be this data set."""
    if card.seen_images is not None:
        return False
    unknown = [n for n in card.trained_on if seen_images.of_benchmark(benchmark_of(n)) is None]
    return any(personal or is_personal(name) for name in unknown)
