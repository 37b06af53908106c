"""Edit of an image by two prompts: what it shows, and what it is to show."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffcls.editing.attention import check_network, controlled
from diffcls.editing.change_region import ChangeRegion
from diffcls.editing.inversion import Inversion, invert, step_to
from diffcls.editing.prompt_to_prompt import PromptToPrompt
from diffcls.editing.word_alignment import Words, align, bare, tokens_of
from diffcls.generation.guidance import guided
from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    from diffcls.editing.options import EditSettings
    from diffcls.models.denoiser import Conditioning

REGION_FROM = 0.2
"""Share of the steps after which the surroundings are kept: earlier, the estimates are blurred."""


@dataclass(frozen=True)
class Edit:
    """The result of an edit.

    Args:
        image: (3, H, W) in [−1, 1], the edited image.
        reconstruction: (3, H, W), the original after encoding and decoding.
        maps: (2, S, h, w) mean attention of source and target to each token.
        words: the two prompts with their tokens.
        region: (h, w) where the latents may have changed; None for everywhere.
    """

    image: Tensor
    reconstruction: Tensor
    maps: Tensor
    words: tuple[Words, Words]
    region: Tensor | None


@torch.inference_mode()
def inverted(denoiser: Any, pixels: Tensor, source: str, steps: int) -> Inversion:
    """The inversion of an image (3, H, W) in [−1, 1] under its prompt; see `edit`."""
    x0 = denoiser.encode_images(pixels[None])
    return invert(denoiser, x0, denoiser.encode_prompts([source]), steps)


@torch.inference_mode()
def reconstruction(denoiser: Any, inversion: Inversion) -> Tensor:
    """(3, H, W) in [−1, 1], the image after encoding and decoding; to the bit that of an `Edit`."""
    return _decoded(denoiser, inversion, inversion.states[-1:])[0]


def _decoded(denoiser: Any, inversion: Inversion, y: Tensor) -> tuple[Tensor, Tensor]:
    """The original and the edit, of a state (1, C, h, w) at the least noise."""
    final = torch.cat([inversion.states[-1:], y]) / float(denoiser.schedule.alpha[0])
    original, image = denoiser.decode_latents(final).clamp(-1, 1).float().cpu()
    return original, image


@torch.inference_mode()
def edit(
    denoiser: Any,
    pixels: Tensor,
    source: str,
    target: str,
    settings: EditSettings,
    inversion: Inversion | None = None,
) -> Edit:
    """Edit an image so that it fits another prompt.

    The image is inverted under the source prompt. On the way back, the target moves by the
    *difference* between its step and the source's, from the states of the inversion themselves:

        y_s = x_s + D(y_t, target) − D(x_t, source)

    with D a step of DDIM and x the states of the inversion. Direct inversion (Ju et al. 2024)
    corrects the source alone; here the target gets the same correction, so that with equal prompts
    y = x: the edit changes nothing, whatever the guidance.

    Args:
        denoiser: the model, a `diffcls.models.denoiser.Denoiser` of a diffusers pipeline.
        pixels: (3, H, W) in [−1, 1], the image.
        source: prompt that describes it.
        target: prompt that describes what it is to show.
        settings: see `diffcls.editing.options.EditSettings`.
        inversion: of the image under `source` with as many steps, if it is there already.

    Raises:
        ModelError: for a model without cross-attention, or a prompt that is too long.
        UsageError: for a weighted word that the target prompt lacks, or a strength at which no step
            is edited.
    """
    check_network(denoiser.network, denoiser.card.name)
    tokenizer = denoiser.pipeline.tokenizer
    words = Words.of(tokenizer, source), Words.of(tokenizer, target)
    weights = _weights(words[1], settings)
    control = PromptToPrompt(align(*words), settings.keep_words, settings.keep_layout, weights)
    inversion = inversion or inverted(denoiser, pixels, source, settings.steps)
    steps = len(inversion.path) - 1
    if not edited_steps(steps, settings.strength):
        raise UsageError(
            "--strength: no step of the path would be edited",
            given=f"{settings.strength:g} of {steps} steps",
            allowed=f"{1 / steps:.3g} or more",
            todo="raise --strength, or --steps",
        )
    cond = denoiser.encode_prompts([source, target])
    y, region = _followed(denoiser, inversion, cond, control, settings)
    original, image = _decoded(denoiser, inversion, y)
    maps = control.mean_maps((y.shape[-2], y.shape[-1]))
    return Edit(image, original, maps, words, region)


def edited_steps(steps: int, strength: float) -> int:
    """How many of the last steps of a path are edited at a strength: k/steps >= 1 − strength."""
    return sum(k / steps >= 1 - strength for k in range(steps))


def _followed(
    denoiser: Any,
    inversion: Inversion,
    cond: Conditioning,
    control: PromptToPrompt,
    settings: EditSettings,
) -> tuple[Tensor, Tensor | None]:
    """The target's state at the least noise, (1, C, h, w), and the region that may change."""
    schedule, path = denoiser.schedule, inversion.path.tolist()
    predict = guided(denoiser, cond, denoiser.encode_prompts([""]), settings.guidance)
    y, region, mask = inversion.states[:1], ChangeRegion(), None
    first = len(path) - 1 - edited_steps(len(path) - 1, settings.strength)
    with controlled(denoiser.network, control):
        for number, (t, s) in enumerate(pairwise(path)):
            control.progress = number / (len(path) - 1)
            x, following = inversion.states[number : number + 2].split(1)
            estimates = predict(torch.cat([x, y]), t)
            region.add(*estimates.x0.split(1))
            by_source, by_target = step_to(schedule, estimates, s).split(1)
            if number < first:
                y = following
                continue
            y = following + (by_target - by_source)
            is_last = number == len(path) - 2
            if settings.keep_surroundings and (control.progress >= REGION_FROM or is_last):
                mask = region.mask()
                y = torch.where(mask, y, following)
    return y, None if mask is None else mask[0, 0].cpu()


def _weights(words: Words, settings: EditSettings) -> Tensor:
    """(S,) factor of each token of the target."""
    named = [bare(word) for word, _ in settings.weights]
    if len(set(named)) < len(named):
        raise UsageError("--weight: a word is named twice", given=" ".join(named))
    result = torch.ones(words.length)
    for word, factor in settings.weights:
        tokens = tokens_of(words, word)
        if not tokens:
            raise UsageError(
                "--weight: the target prompt lacks the word",
                given=word,
                allowed=" ".join(map(bare, words.words)),
            )
        result[list(tokens)] = factor
    return result
