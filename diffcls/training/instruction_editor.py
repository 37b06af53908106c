"""Training of an instruction editor: InstructPix2Pix, fine-tuned from a text-to-image model.

Brooks, Holynski and Efros 2023, "InstructPix2Pix: learning to follow image editing instructions".
The U-Net gets the latents of the image beside its own; the weights that read them begin at zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from diffcls.data.dataset import Dataset
from diffcls.data.scenes.before_after import edits_of, images_of
from diffcls.data.scenes.instructions import keyed_instruction
from diffcls.diffusion.parameterization import parameterization_of
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.models.json_files import read_json
from diffcls.models.loading import CARD, family_of, find, read_card
from diffcls.models.quiet import quiet
from diffcls.models.small_stable_diffusion import save_half
from diffcls.support.errors import UsageError
from diffcls.support.seeding import key
from diffcls.training.caption_batches import CaptionBatch
from diffcls.training.distributed import device_of
from diffcls.training.fine_tuned_recipes import InstructRecipe
from diffcls.training.loop import Phase, generator
from diffcls.training.losses import noised, objective
from diffcls.training.mixed_precision import compiled, mixed_precision
from diffcls.training.model_card import EXAMPLE, instruct_readme
from diffcls.training.noise_levels import discrete
from diffcls.training.run import TrainingRun
from diffcls.training.stored_images import Images, store

if TYPE_CHECKING:
    from diffusers import StableDiffusionInstructPix2PixPipeline

BASE = "StableDiffusionPipeline"
"""Class of the pipelines that can be fine-tuned."""


class InstructTraining(TrainingRun):
    """Training of an instruction editor; see `diffcls.training.run.TrainingRun`."""

    index: ClassVar[str] = "model_index.json"
    recipe: InstructRecipe

    def __post_init__(self) -> None:
        if self.init is None:
            raise UsageError(
                "--model instruct fine-tunes a text-to-image model",
                todo=f"name one with --init, such as --init {self.dataset}",
            )
        if family_of(self.init) != BASE:
            raise UsageError(
                "--init names a model that cannot become an instruction editor",
                given=self.init,
                allowed=f"a {BASE}, such as {self.dataset}",
            )
        super().__post_init__()

    def run(self) -> dict[str, Any]:
        edits = edits_of("train", self.recipe.pairs)
        train = images_of(edits, "train")
        images, _ = store(train, self.recipe.image_size)
        torch.manual_seed(key("weights", self.seed))
        pipeline = self._open_init()
        latents = encoded_pairs(pipeline.vae, images, self._data_device)

        def words(pair: int, number: int) -> str:
            return keyed_instruction(edits[pair], self.seed, number)

        captions = self._caption_batches(pipeline.tokenizer, words, list(range(len(edits))))
        loop = self._loop(instruct_phase(pipeline, latents, captions, self.recipe, self.seed))
        loop.run(lambda step: {"images": step * self.recipe.batch}, self.points)
        if not self.processes.is_main_process:
            return {}
        save_half(pipeline, self.folder)
        return self._write_card(self._facts(train), train, loop.seconds / 3600, "instruct")

    def _facts(self, train: Dataset) -> dict[str, Any]:
        return {"trained_on": self.trained_on(train), "measured_on": self.dataset}

    def _open_card(self) -> tuple[Mapping[str, Any], str]:
        place = find(str(self.init))
        return read_json(place.path / CARD), read_card(place).revision

    def _open_init(self) -> StableDiffusionInstructPix2PixPipeline:
        """The editor that training begins with, in single precision.

        Raises:
            UsageError: unless the image size of the model is the recipe's.
        """
        from diffusers import StableDiffusionPipeline

        with quiet():
            pipeline = StableDiffusionPipeline.from_pretrained(
                find(str(self.init)).path, dtype=torch.float32
            )
        size = pipeline.vae.config.sample_size
        if size != self.recipe.image_size:
            raise UsageError(
                "--init names a model of another image size", size, f"{self.recipe.image_size}"
            )
        return editor_of(pipeline)

    def readme(self, card: dict[str, Any]) -> str:
        return instruct_readme(card)

    def report(self, card: dict[str, Any]) -> list[str]:
        return [
            f"{self.folder}: {card['recipe']['images']:,} pairs in {card['hours']:.2f} hours",
            f"edit an image: {EXAMPLE.format(self.folder)}",
        ]


def editor_of(pipeline: Any) -> StableDiffusionInstructPix2PixPipeline:
    """An editor with the parts of a ``StableDiffusionPipeline``, which belong to it from now on.

    The first convolution reads C channels of the image beside the C of x_t. Its new weights are
    zero, so that at first the editor predicts what the model predicted (section 3.2).
    """
    from diffusers import StableDiffusionInstructPix2PixPipeline

    unet = pipeline.unet
    narrow: Any = unet.conv_in
    own, image = narrow.in_channels, pipeline.vae.config.latent_channels
    wide = nn.Conv2d(
        own + image, narrow.out_channels, narrow.kernel_size, narrow.stride, narrow.padding
    )
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, :own] = narrow.weight
        wide.bias.copy_(narrow.bias)
    unet.conv_in = wide
    unet.register_to_config(in_channels=own + image)
    parts = {name: part for name, part in pipeline.components.items() if name != "image_encoder"}
    return StableDiffusionInstructPix2PixPipeline(**parts, requires_safety_checker=False)


@torch.inference_mode()
def encoded_pairs(vae: Any, images: Images, device: torch.device | str = "cpu") -> Tensor:
    """(2, N, C, h, w) latents of images before and after a change.

    As in diffusers, those of the image to be edited are not scaled, those of the result are.

    Args:
        vae: diffusers' ``AutoencoderKL``.
        images: (2·N, 3, H, W) in [−1, 1], before and after by turns.
        device: place of the latents.
    """
    vae, images, parts = vae.to(device), images.to(device), []
    for start in range(0, len(images), 256):
        parts.append(vae.encode(images[start : start + 256]).latent_dist.mean)
    # (2·N, C, h, w) -> (N, 2, C, h, w) -> (2, N, C, h, w)
    latents = torch.cat(parts).unflatten(0, (-1, 2)).transpose(0, 1).contiguous()
    latents[1] *= float(vae.config.scaling_factor)
    return latents


def instruct_phase(
    pipeline: Any, latents: Tensor, captions: CaptionBatch, recipe: InstructRecipe, seed: int
) -> Phase:
    """Training phase of an instruction editor: the weighted squared error of the native output.

        E ‖v − v_θ(x_t, t, image, instruction)‖²

    Image and instruction are left out of some examples (Brooks et al. 2023, section 3.2.1).

    Args:
        pipeline: its U-Net, text encoder and scheduler are used.
        latents: see `encoded_pairs`; random numbers are drawn on their device.
        captions: token ids of a batch of instructions.
        recipe: see `InstructRecipe`.
        seed: seed of all random choices.
    """
    here, batch = latents.device, recipe.batch
    scheduler = dict(pipeline.scheduler.config)
    row = parameterization_of(scheduler)
    levels = discrete(NoiseSchedule.from_diffusers(scheduler), here)
    unet, text_encoder = pipeline.unet, pipeline.text_encoder
    network = compiled(unet, recipe)

    def loss(step: int) -> Tensor:
        rng = generator("instruct", seed, step, device=here)
        pair = torch.randint(latents.shape[1], (batch,), generator=rng, device=here)
        image, x0 = latents[:, pair]
        noise = torch.randn(x0.shape, generator=rng, device=here)
        left = 1 - step / recipe.batches
        noise_levels = levels(batch, rng, 1 + (recipe.lateness - 1) * left**2)
        without_text, without_image = dropped(
            torch.rand(batch, generator=rng, device=here), recipe.dropped
        )
        image = image * ~without_image[:, None, None, None]
        device = device_of(unet)
        ids = captions(pair, without_text, step * batch, rng).to(device)
        x0, noise, image = x0.to(device), noise.to(device), image.to(device)
        x_t = noised(x0, noise, noise_levels)
        with mixed_precision(device, recipe):
            states = text_encoder(ids).last_hidden_state
            out = network(
                torch.cat([x_t, image], dim=1),  # (B, C, h, w) twice -> (B, 2·C, h, w)
                noise_levels.timestep.to(device),
                encoder_hidden_states=states,
            ).sample
        return objective(out.float(), x0, noise, noise_levels, row, recipe.loss_weighting).mean()

    return Phase("instruct", {"unet": unet, "text_encoder": text_encoder}, loss, recipe)


def dropped(uniform: Tensor, shares: Sequence[float]) -> tuple[Tensor, Tensor]:
    """(B,) which examples lose their instruction, and which their image.

    Args:
        uniform: (B,) numbers in [0, 1).
        shares: of the examples without instruction alone, without image alone, and without both.
    """
    text, image, both = shares
    without_both = (uniform >= text + image) & (uniform < text + image + both)
    without_image = (uniform >= text) & (uniform < text + image)
    return (uniform < text) | without_both, without_image | without_both
