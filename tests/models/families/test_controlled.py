"""Models with a ControlNet against plain diffusers: the same output from the same inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import control_nets, tiny_families
from torch import Tensor

from diffcls.models import control
from diffcls.models.denoiser import Conditioning
from diffcls.support.errors import UsageError

PROMPTS = ("a photo of one", "a photo of two")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


def inputs(denoiser: Any) -> tuple[Tensor, Tensor, Conditioning, Tensor]:
    """Two noisy latents, schedule indices, encoded prompts, and maps."""
    generator = torch.Generator().manual_seed(0)
    x_t = torch.randn(2, *denoiser.sample_shape, generator=generator)
    index = torch.tensor([10, len(denoiser.schedule) // 2])
    maps = control_nets.maps(2, denoiser.image_size)
    return x_t, index, denoiser.encode_prompts(PROMPTS), maps


def plain_unet(net: Any, d: Any, x_t: Tensor, t: Tensor, cond: Conditioning, maps: Tensor) -> Any:
    added = {}
    if "pooled" in cond:
        side = float(d.image_size)
        sizes = torch.tensor([[side, side, 0, 0, side, side]] * len(x_t))
        added = {"added_cond_kwargs": {"text_embeds": cond["pooled"], "time_ids": sizes}}
    down, middle = net(x_t, t, cond["text"], maps, return_dict=False, **added)
    return d.pipeline.unet(
        x_t,
        t,
        cond["text"],
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
        **added,
    ).sample


def plain_sd3(net: Any, d: Any, x_t: Tensor, t: Tensor, cond: Conditioning, maps: Tensor) -> Any:
    vae = d.pipeline.vae
    latents = vae.encode(2 * maps - 1).latent_dist.mean
    latents = (latents - vae.config.shift_factor) * vae.config.scaling_factor
    prompt = {"encoder_hidden_states": cond["text"], "pooled_projections": cond["pooled"]}
    blocks = net(x_t, timestep=t, controlnet_cond=latents, return_dict=False, **prompt)[0]
    return d.pipeline.transformer(
        x_t, timestep=t, block_controlnet_hidden_states=blocks, **prompt
    ).sample


def plain_flux(net: Any, d: Any, x_t: Tensor, t: Tensor, cond: Conditioning, maps: Tensor) -> Any:
    pipe, vae, (b, c, h, w) = d.pipeline, d.pipeline.vae, x_t.shape
    latents = vae.encode(2 * maps - 1).latent_dist.mean
    latents = (latents - vae.config.shift_factor) * vae.config.scaling_factor
    shared = {
        "hidden_states": pipe._pack_latents(x_t, b, c, h, w),
        "timestep": t,
        "encoder_hidden_states": cond["text"],
        "pooled_projections": cond["pooled"],
        "txt_ids": torch.zeros(cond["text"].shape[1], 3),
        "img_ids": pipe._prepare_latent_image_ids(b, h // 2, w // 2, "cpu", torch.float32),
    }
    double, single = net(
        controlnet_cond=pipe._pack_latents(latents, b, c, h, w), return_dict=False, **shared
    )
    out = pipe.transformer(
        **shared, controlnet_block_samples=double, controlnet_single_block_samples=single
    ).sample
    return pipe._unpack_latents(out, d.image_size, d.image_size, pipe.vae_scale_factor)


PLAIN = {"sd1": plain_unet, "sdxl": plain_unet, "sd3": plain_sd3, "flux": plain_flux}


@pytest.mark.parametrize("name", control_nets.CLASSES)
@torch.inference_mode()
def test_output_is_that_of_plain_diffusers(name: str, base: Path, tmp_path: Path) -> None:
    denoiser = tiny_families.loaded(tiny_families.saved(name, base))
    x_t, index, cond, maps = inputs(denoiser)
    folder = control_nets.save(name, denoiser.pipeline, tmp_path / "net")
    steered = control.steered(denoiser, str(folder))
    out = steered.predict(x_t, index, cond.with_control(control.encoded(steered, maps)))
    timestep = torch.tensor(denoiser.schedule.timesteps, dtype=torch.float32)[index]
    net = control_nets.control_net(name, denoiser.pipeline)
    expected = PLAIN[name](net, denoiser, x_t, timestep, cond, maps)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    without = denoiser.predict(x_t, index, cond)
    assert float((out - without).abs().max()) > 1e-2  # the maps count


@pytest.mark.parametrize("name", control_nets.CLASSES)
@torch.inference_mode()
def test_zero_convolutions_change_no_bit(name: str, base: Path, tmp_path: Path) -> None:
    denoiser = tiny_families.loaded(tiny_families.saved(name, base))
    x_t, index, cond, maps = inputs(denoiser)
    folder = control_nets.save(name, denoiser.pipeline, tmp_path / "net", is_zero=True)
    steered = control.steered(denoiser, str(folder))
    out = steered.predict(x_t, index, cond.with_control(control.encoded(steered, maps)))
    assert torch.equal(out, denoiser.predict(x_t, index, cond))


def test_a_map_is_needed_and_taken_by_a_steered_model_alone(base: Path, tmp_path: Path) -> None:
    denoiser = tiny_families.loaded(tiny_families.saved("sd1", base))
    x_t, index, cond, maps = inputs(denoiser)
    steered = control.steered(
        denoiser, str(control_nets.save("sd1", denoiser.pipeline, tmp_path / "net"))
    )
    with pytest.raises(UsageError, match="needs a map of each image"):
        steered.predict(x_t, index, cond)
    with pytest.raises(UsageError, match="no other model takes one"):
        denoiser.predict(x_t, index, cond.with_control(maps))
    assert control.plain(steered) is denoiser
    assert steered.card.revision.startswith(f"{denoiser.card.revision} + ")


@pytest.mark.parametrize(
    ("model", "words"), [("dit", "class-conditional"), ("class_unet", "of pixels")]
)
def test_other_families_are_refused(model: str, words: str, base: Path, tmp_path: Path) -> None:
    denoiser = tiny_families.loaded(tiny_families.saved(model, base))
    with pytest.raises(UsageError, match="no ControlNet steers models of this family") as caught:
        control.control_class(denoiser)
    assert words in str(caught.value)


def test_a_controlnet_of_another_family_is_refused(base: Path, tmp_path: Path) -> None:
    flux = tiny_families.loaded(tiny_families.saved("flux", base))
    sd1 = tiny_families.loaded(tiny_families.saved("sd1", base))
    folder = control_nets.save("flux", flux.pipeline, tmp_path / "net")
    with pytest.raises(UsageError, match="another family"):
        control.steered(sd1, str(folder))
