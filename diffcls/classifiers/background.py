"""Background prompt: the class "none of these" beside the candidates of a diffusion classifier."""

from __future__ import annotations

import logging

from diffcls.data.prompts import PromptSet
from diffcls.metrics.rejection import Calibration
from diffcls.models.denoiser import Denoiser
from diffcls.support.errors import ModelError, UsageError
from diffcls.support.hashing import hash_json

logger = logging.getLogger(__name__)


def prompts_hash(denoiser: Denoiser, prompts: PromptSet, background: str) -> str:
    """Hash of what a calibration of "none of these" belongs to, see `Calibration.of`."""
    return hash_json([denoiser.card.name, sorted(prompts.prompts), background])


def check_prompts(calibration: Calibration, given: str) -> None:
    """Warn if a calibration was fitted for other prompts than those of `prompts_hash`, `given`."""
    if calibration.of not in ("", given):
        logger.warning(
            "the calibration of reject was fitted for another model, or for other labels, "
            "templates or background prompt: fit it again with those of the call"
        )


def check_background(denoiser: Denoiser, prompts: PromptSet, background: str, vote: str) -> None:
    """Check that a background prompt can be scored beside the candidates.

    Args:
        denoiser: the model.
        prompts: the candidates.
        background: the background prompt, "" for the empty one.
        vote: aggregation of the draws, see `diffcls.search.aggregation`.

    Raises:
        UsageError: for images with candidates of their own; ranks or votes, which are no
            log-likelihoods; a model without that prompt; a prompt that is a candidate's, too.
    """
    if prompts.asked:
        raise UsageError(
            "--reject needs classes that all images share",
            given="images with candidates of their own",
            todo="choose another data set",
        )
    if vote != "mean":
        raise UsageError(
            "--reject compares log-likelihoods, which votes are not",
            given=f"--vote {vote}",
            todo="remove --vote",
        )
    if background and denoiser.labels is not None:
        raise UsageError(
            "--background-prompt needs a text-conditional model",
            given=denoiser.card.name,
            todo="remove it: the background is the model's null class",
        )
    try:
        denoiser.encode_prompts([background])
        key = denoiser.prompt_keys([background])[0]
    except (UsageError, ModelError):
        raise UsageError(
            f"--reject: the model has no {'such' if background else 'empty'} prompt",
            given=f"{denoiser.card.name}, {background!r}" if background else denoiser.card.name,
            todo="choose a text-to-image model, or a class-conditional one with a null class",
        ) from None
    for row, other in enumerate(denoiser.prompt_keys(prompts.prompts)):
        if other == key:
            raise UsageError(
                "--background-prompt is a candidate's prompt, too",
                given=f"{prompts.prompts[row]!r} of {prompts.class_names[prompts.class_of[row]]}",
                todo="change the background prompt or the labels",
            )
