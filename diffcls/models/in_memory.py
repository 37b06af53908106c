"""Models in memory: denoisers of diffusers pipelines that somebody holds, and keeps unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from diffcls.models import card as cards
from diffcls.models import loading
from diffcls.models.adapters import FAMILIES, adapted
from diffcls.models.denoiser import Denoiser, ModelCard
from diffcls.models.evaluation_state import evaluating
from diffcls.models.family_table import AUTOENCODERS
from diffcls.models.model_argument import IN_MEMORY, shown
from diffcls.models.pipeline_revision import revision_of, state_of
from diffcls.models.pipeline_view import cast, dtype_of, family_of, modules_of, view_of
from diffcls.models.quiet import loading as loading_quietly
from diffcls.models.revision import with_card
from diffcls.models.weight_origin import folder_of
from diffcls.support.errors import UsageError

__all__ = ["Followed", "card_of", "denoiser_of", "evaluating", "images_seen", "known_card"]


def denoiser_of(
    pipeline: Any,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    img_size: int | None = None,
    *,
    labels: Sequence[str] = (),
    identify: bool = True,
) -> Denoiser:
    """The denoiser of a diffusers pipeline in memory, which stays as it is, to the bit.

    The networks are used through views of their own (`diffcls.models.pipeline_view`): in eval mode,
    without hooks and gradients of weights, while the pipeline may be in training. Weights are
    shared where neither device, data type nor memory layout differ, so a denoiser is of the weights
    at the time of this call: after a training step, make it again.

    Args:
        pipeline: of a family that `diffcls.models.adapters.FAMILIES` lists.
        device, dtype: device and precision of the network; default: the pipeline's own. The
            autoencoder computes in float32.
        img_size: side of the images in pixels; default: that of the model's training.
        labels: class names by id of a class-conditional model that has none of its own; of one row
            of its table less, for a pixel U-Net whose last row is "no class".
        identify: hash the weights for the card's revision, and compare them with those of known
            models, whose card they then have. False: a card without a revision, in less time, for
            repeated evaluation within a training.

    Raises:
        UsageError: for an object that is no pipeline of diffusers, and for an image size or class
            names that do not fit the model.
        ModelError: for a family that is not supported, weights that are quantised, sharded or moved
            away, or not finite, and parts that do not fit each other.
    """
    view = view_of(pipeline)
    family = type(view).__name__
    if identify:
        card = card_of(pipeline, labels)
    else:
        card = ModelCard(
            f"{IN_MEMORY} {family}", revision="", labels=tuple(labels), is_traced=False
        )
    network = getattr(view, FAMILIES.load(family).part)
    if dtype is not None:
        for name, part in vars(view).items():
            if isinstance(part, torch.nn.Module) and name not in AUTOENCODERS:
                cast(part, dtype)
    for name in AUTOENCODERS:
        if getattr(view, name, None) is not None:
            cast(getattr(view, name), torch.float32)
    place = _device_of(pipeline, network) if device is None else device
    with loading_quietly():
        denoiser = adapted(
            family, view, card, place, dtype_of(network), img_size, given=shown(pipeline)
        )
    if labels:
        _name_classes(denoiser, tuple(labels))
    return denoiser


def _name_classes(denoiser: Denoiser, labels: tuple[str, ...]) -> None:
    if not denoiser.labels:
        raise UsageError(
            "class names are of class-conditional models",
            given=denoiser.card.name,
            todo="leave them out",
        )
    if len(denoiser.labels) != len(labels):
        raise UsageError(
            "the number of class names is not that of the model's classes",
            given=len(labels),
            allowed=f"{len(denoiser.labels)}, in the order of their ids",
        )
    denoiser.labels = labels


def card_of(pipeline: Any, labels: Sequence[str] = ()) -> ModelCard:
    """The card of a pipeline in memory; its revision is the hash of its weights and configs.

    If the network has the weights of a bundled model, or of the folder that the pipeline was loaded
    from, the rest is that model's card. Else nothing is known of its training but that of the
    folder that it was loaded from.

    Args:
        pipeline: of a supported family.
        labels: class names by id, instead of those of the card.

    Raises:
        UsageError, ModelError: see `denoiser_of`.
    """
    card = known_card(pipeline)
    if labels:
        card = replace(card, labels=tuple(labels))
    return replace(card, revision=with_card(revision_of(pipeline), card))


def known_card(pipeline: Any) -> ModelCard:
    """What `card_of` describes, without the revision."""
    name = f"{IN_MEMORY} {family_of(pipeline)}"
    folder, is_same = folder_of(pipeline, [loading.WEIGHTS / model for model in loading.bundled()])
    card = ModelCard(name, revision="", is_traced=False)
    if folder is not None:
        stored = cards.read_stored(folder)
        known = cards.card_of(stored, folder)
        if is_same:
            own = stored.get("name")  # not that of a folder, which may be a copy
            card = replace(known, name=f"{name} ({own})" if own else name)
        else:
            card = replace(card, trained_on=known.trained_on, seen_images=known.seen_images)
    return card


def images_seen(pipeline: Any) -> int | None:
    """Training images of a pipeline with the weights of a bundled model; None for others."""
    folder, is_same = folder_of(pipeline, [loading.WEIGHTS / model for model in loading.bundled()])
    return loading.images_seen(str(folder)) if folder is not None and is_same else None


class Followed:
    """The denoiser of a pipeline whose weights may change: made again after they have.

    Args:
        pipeline: the pipeline, of which a reference is kept.
        arguments: of `denoiser_of`.
    """

    def __init__(self, pipeline: Any, **arguments: Any) -> None:
        self._pipeline, self._arguments = pipeline, arguments
        self._state: object = None
        self._denoiser: Denoiser | None = None

    def denoiser(self) -> Denoiser:
        """The denoiser of the weights as they are now; the same object while they stay."""
        state = state_of(self._pipeline)
        if self._denoiser is None or state != self._state:
            self._denoiser = denoiser_of(self._pipeline, **self._arguments)
            self._state = state
        return self._denoiser

    def move(self, device: torch.device | str, dtype: torch.dtype) -> Denoiser:
        """The denoiser on another device or in another precision; the pipeline stays as it is."""
        moved = Followed(self._pipeline, **self._arguments | {"device": device, "dtype": dtype})
        denoiser = moved.denoiser()  # a move that fails leaves this one as it was
        vars(self).update(vars(moved))
        return denoiser


def _device_of(pipeline: Any, network: torch.nn.Module) -> torch.device:
    """Where a pipeline runs: with model offloading, its weights may lie elsewhere."""
    if any("_hf_hook" in vars(part) for part in modules_of(pipeline).values()):
        return torch.device(pipeline._execution_device)
    return next(network.parameters()).device
