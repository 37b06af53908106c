"""Edit of an image by an instruction, by a model that was trained on instructions.

Brooks, Holynski and Efros 2023, "InstructPix2Pix: learning to follow image editing instructions".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffcls.generation.sample import find_sampler, noise_of
from diffcls.generation.samplers import path_of
from diffcls.generation.solvers import Estimates, Predict
from diffcls.models.denoiser import Conditioning
from diffcls.models.families.instruct_pix2pix import IMAGE, InstructionEditor
from diffcls.support.errors import ModelError

if TYPE_CHECKING:
    from diffcls.editing.options import InstructSettings

SAMPLER = "euler"
"""Sampler of the edits; see `diffcls.generation.samplers`."""


@dataclass(frozen=True)
class InstructedEdit:
    """The result of an edit by an instruction.

    Args:
        image: (3, H, W) in [−1, 1], the edited image.
        reconstruction: (3, H, W), the original after encoding and decoding.
    """

    image: Tensor
    reconstruction: Tensor


def instruct(
    denoiser: Any, pixels: Tensor, instruction: str, settings: InstructSettings
) -> InstructedEdit:
    """Edit an image (3, H, W) in [−1, 1] as an instruction says; see `instruct_all`."""
    return instruct_all(denoiser, pixels[None], [instruction], settings)[0]


@torch.inference_mode()
def instruct_all(
    denoiser: Any,
    pixels: Tensor,
    instructions: Sequence[str],
    settings: InstructSettings,
    noise: Tensor | None = None,
) -> list[InstructedEdit]:
    """Edit images as instructions say, in one batch.

    The results are sampled from noise, guided by images and instructions (`guided_by_both`).

    Args:
        denoiser: an instruction editor, see `diffcls.models.families.instruct_pix2pix`.
        pixels: (B, 3, H, W) in [−1, 1], the images.
        instructions: (B,) what to change.
        settings: see `diffcls.editing.options.InstructSettings`.
        noise: (B, C, h, w) standard normal noise to begin with; None: that of the seed, the same
            for all images.

    Raises:
        ModelError: for a model that follows no instructions.
        UsageError: for more steps than the schedule has levels.
    """
    check_editor(denoiser)
    schedule, numbers = denoiser.schedule, [0] * len(pixels)
    path, sampler = path_of(schedule, settings.steps), find_sampler(SAMPLER, denoiser)
    scales = settings.guidance, settings.image_guidance
    predict = guided_by_both(denoiser, pixels, instructions, *scales)
    start = noise_of(denoiser, settings.seed, numbers) if noise is None else noise
    x_t = start.to(denoiser.device) * float(schedule.sigma[-1])

    def draw(step: int) -> Tensor:
        return noise_of(denoiser, settings.seed, numbers, step)

    for x0 in sampler.solve(schedule, predict, x_t, path, draw):
        final = x0
    both = torch.cat([denoiser.encode_images(pixels), final])
    originals, images = denoiser.decode_latents(both).clamp(-1, 1).float().cpu().chunk(2)
    return [InstructedEdit(*pair) for pair in zip(images, originals, strict=True)]


def check_editor(denoiser: Any) -> None:
    """Raise ModelError for a model that follows no instructions."""
    if isinstance(denoiser, InstructionEditor):
        return
    if denoiser.labels is not None:
        kind = "a class-conditional" if denoiser.labels else "an unconditional"
        reason = f"{kind} model reads no words"
    elif not denoiser.is_latent:
        reason = "a model of pixels has no autoencoder"
    else:
        reason = "its network reads no image to be edited"
    raise ModelError(
        f"the model follows no instructions: {reason}",
        given=denoiser.card.name,
        allowed="an InstructPix2Pix model, such as scenes-instruct or timbrooks/instruct-pix2pix",
        todo="describe the image with --from and --to instead, if it reads prompts",
    )


def guided_by_both(
    denoiser: InstructionEditor,
    images: Tensor,
    instructions: Sequence[str],
    text: float,
    image: float,
) -> Predict:
    """Guidance by image and instruction (Brooks et al. 2023, equation 3).

        ε̃ = ε(∅, ∅) + s_I·(ε(I, ∅) − ε(∅, ∅)) + s_T·(ε(I, T) − ε(I, ∅))

    It is computed as a sum of the three with weights s_T, s_I − s_T and 1 − s_I; one with weight 0
    is not evaluated.

    Args:
        denoiser: the model.
        images: (B, 3, H, W) in [−1, 1], the images I.
        instructions: (B,) T.
        text: s_T; 1 is no guidance by the instruction.
        image: s_I; 1 is no guidance by the image.
    """
    schedule, row = denoiser.schedule, denoiser.parameterization
    latents, count = denoiser.encode_edited(images), len(images)
    first = torch.zeros(count, dtype=torch.long, device=latents.device)
    texts, nothing = denoiser.encode_prompts(instructions), denoiser.no_instruction().rows(first)
    parts = [
        (text, texts, latents),
        (image - text, nothing, latents),
        (1 - image, nothing, torch.zeros_like(latents)),
    ]
    used = [part for part in parts if part[0]]
    cond = Conditioning.concatenate(
        [Conditioning({**words, IMAGE: picture}) for _, words, picture in used]
    )
    weights = torch.tensor([part[0] for part in used], dtype=torch.float32, device=latents.device)

    def predict(x_t: Tensor, index: int) -> Estimates:
        every = x_t.repeat(len(used), 1, 1, 1)
        steps = torch.full((len(every),), index, device=x_t.device)
        # (R·B, C, h, w) -> (R, B, C, h, w)
        out = denoiser.predict(every.to(denoiser.dtype), steps, cond).float()
        out = out.unflatten(0, (len(used), count))
        # the native output is linear in ε, and the weights sum to 1: guiding it guides ε
        out = torch.einsum("r,rbchw->bchw", weights, out)
        a, b = (torch.tensor(float(level[index])) for level in (schedule.alpha, schedule.sigma))
        return Estimates(row.to_x0(out, x_t, a, b), row.to_noise(out, x_t, a, b))

    return predict
