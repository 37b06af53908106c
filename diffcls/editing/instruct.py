"""Edit of an image by an instruction, by a model that was trained on instructions.

Brooks, Holynski and Efros 2023, "InstructPix2Pix: learning to follow image editing instructions".
"""

from __future__ import annotations

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


@torch.inference_mode()
def instruct(
    denoiser: Any,
    pixels: Tensor,
    instruction: str,
    settings: InstructSettings,
    noise: Tensor | None = None,
) -> InstructedEdit:
    """Edit an image as an instruction says.

    The result is sampled from noise, guided by image and instruction (`guided_by_both`).

    Args:
        denoiser: an instruction editor, a `diffcls.models.families.instruct_pix2pix` denoiser.
        pixels: (3, H, W) in [−1, 1], the image.
        instruction: what to change.
        settings: see `diffcls.editing.options.InstructSettings`.
        noise: (1, C, h, w) standard normal noise to begin with; None: that of the seed.

    Raises:
        ModelError: for a model that follows no instructions.
        UsageError: for more steps than the schedule has levels.
    """
    check_editor(denoiser)
    schedule = denoiser.schedule
    path, sampler = path_of(schedule, settings.steps), find_sampler(SAMPLER, denoiser)
    predict = guided_by_both(
        denoiser, pixels[None], instruction, settings.guidance, settings.image_guidance
    )
    start = noise_of(denoiser, settings.seed, [0]) if noise is None else noise
    x_t = start.to(denoiser.device) * float(schedule.sigma[-1])

    def draw(step: int) -> Tensor:
        return noise_of(denoiser, settings.seed, [0], step)

    for x0 in sampler.solve(schedule, predict, x_t, path, draw):
        final = x0
    both = torch.cat([denoiser.encode_images(pixels[None]), final])
    reconstruction, image = denoiser.decode_latents(both).clamp(-1, 1).float().cpu()
    return InstructedEdit(image, reconstruction)


def check_editor(denoiser: Any) -> None:
    """Raise ModelError for a model that follows no instructions."""
    if isinstance(denoiser, InstructionEditor):
        return
    if denoiser.labels is not None:
        reason = "a class-conditional model reads no words"
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
    denoiser: InstructionEditor, images: Tensor, instruction: str, text: float, image: float
) -> Predict:
    """Guidance by image and instruction (Brooks et al. 2023, equation 3).

        ε̃ = ε(∅, ∅) + s_I·(ε(I, ∅) − ε(∅, ∅)) + s_T·(ε(I, T) − ε(I, ∅))

    Args:
        denoiser: the model.
        images: (1, 3, H, W) in [−1, 1], the image I.
        instruction: T.
        text: s_T; 1 is no guidance by the instruction.
        image: s_I; 1 is no guidance by the image.
    """
    schedule, row = denoiser.schedule, denoiser.parameterization
    latents = denoiser.encode_edited(images)
    texts, nothing = denoiser.encode_prompts([instruction]), denoiser.no_instruction()
    rows = [
        (text, texts, latents),
        (image - text, nothing, latents),
        (1 - image, nothing, torch.zeros_like(latents)),
    ]
    used = [one for one in rows if one[0]]
    cond = Conditioning.concatenate(
        [Conditioning({**words, IMAGE: picture}) for _, words, picture in used]
    )
    weights = torch.tensor([one[0] for one in used], device=latents.device).reshape(-1, 1, 1, 1)

    def predict(x_t: Tensor, index: int) -> Estimates:
        steps = torch.full((len(used),), index, device=x_t.device)
        same = x_t.expand(len(used), -1, -1, -1).to(denoiser.dtype)
        # the native output is linear in ε, and the weights sum to 1: guiding it guides ε
        out = (denoiser.predict(same, steps, cond).float() * weights).sum(dim=0, keepdim=True)
        a, b = (
            torch.tensor(float(schedule.alpha[index])),
            torch.tensor(float(schedule.sigma[index])),
        )
        return Estimates(row.to_x0(out, x_t, a, b), row.to_noise(out, x_t, a, b))

    return predict
