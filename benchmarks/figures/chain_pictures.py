"""Pictures of images: the forward and the reverse chain, guidance, and the latent space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from diffcls.models.denoiser import Denoiser

SCENES, CLOTHES = "scenes", "fashion_mnist"
"""Bundled models."""
CAPTION, OTHER = "a large blue square", "a small yellow cross"
FORWARD_LEVELS = (0, 150, 300, 450, 600, 750, 900, 999)
REVERSE_CAPTIONS = (CAPTION, "a large red circle", "a small green triangle")
STEPS = 50
SHOWN_STEPS = (0, 10, 20, 30, 40, 44, 47, 49)
SCALES = (0.0, 1.0, 2.0, 4.0, 8.0)
GARMENTS = ("t-shirt", "trouser", "pullover", "dress", "sandal", "sneaker", "bag", "ankle boot")
SEED = 7


def forward_chain() -> Any:
    """An image at rising noise, and what the network makes of it with two prompts."""
    import torch

    from diffcls.diffusion.draws import noise
    from diffcls.diffusion.process import Step
    from diffcls.generation.guidance import guided

    denoiser, image = _scene()
    x0 = denoiser.encode_images(image[None])
    epsilon = noise(SEED, 0, denoiser.sample_shape)[None]
    cond = denoiser.encode_prompts([_prompt(CAPTION), _prompt(OTHER)])
    empty = denoiser.encode_prompts([""])
    pixel_noise = noise(SEED, 0, image.shape)
    noisy: list[Any] = []
    rows: list[list[Tensor]] = [[], [], []]
    for t in FORWARD_LEVELS:
        alpha, sigma = float(denoiser.schedule.alpha[t]), float(denoiser.schedule.sigma[t])
        noisy.append(_pixels(Step(alpha, sigma).forward(image, pixel_noise)))
        x_t = Step(alpha, sigma).forward(x0, epsilon)
        with torch.inference_mode():
            right, wrong = guided(denoiser, cond, empty, 1.0)(x_t.repeat(2, 1, 1, 1), t).x0
        for row, latent in zip(rows, (x_t[0], right, wrong), strict=True):
            row.append(latent)
    titles = [f"t = {t}" for t in FORWARD_LEVELS]
    names = [
        "noisy pixels",
        "noisy latent,\ndecoded",
        f"estimate, prompt\n“{CAPTION}”",
        f"estimate, prompt\n“{OTHER}”",
    ]
    return _grid([noisy, *(_decoded(denoiser, row) for row in rows)], titles, names)


def reverse_chain() -> Any:
    """Ancestral sampling of three prompts from the same noise: estimates of x0 on the way."""
    from diffcls.generation.sample import sample
    from diffcls.generation.samplers import path_of
    from diffcls.models.loading import load

    denoiser = load(SCENES)
    prompts = [_prompt(caption) for caption in REVERSE_CAPTIONS]
    options: dict[str, Any] = {"scale": 2.0, "steps": STEPS, "sampler": "ddpm", "batch_size": 3}
    (batch,) = sample(denoiser, prompts, [SEED] * 3, trajectory=True, **options)
    path = path_of(denoiser.schedule, STEPS)
    rows = [[_pixels(batch.trajectory[k][row]) for k in SHOWN_STEPS] for row in range(len(prompts))]
    titles = [f"t = {path[k]}" for k in SHOWN_STEPS]
    return _grid(rows, titles, [f"“{caption}”" for caption in REVERSE_CAPTIONS])


def guidance() -> Any:
    """The same noises under rising guidance: one row per scale, one column per class."""
    from diffcls.generation.sample import sample
    from diffcls.models.loading import load

    denoiser = load(CLOTHES)
    prompts = [_prompt(name, CLOTHES) for name in GARMENTS]
    rows = []
    for scale in SCALES:
        parts = sample(denoiser, prompts, range(len(prompts)), seed=SEED, scale=scale, batch_size=8)
        rows.append([_pixels(image) for part in parts for image in part.images])
    return _grid(rows, GARMENTS, [f"w = {scale:g}" for scale in SCALES])


def latent_space() -> Any:
    """An image, the channels of its latent, and the latent decoded."""
    import matplotlib.pyplot as plt

    denoiser, image = _scene()
    x0 = denoiser.encode_images(image[None])
    decoded = denoiser.decode_latents(x0)[0]
    channels = x0[0].cpu().numpy()
    figure, axes = plt.subplots(1, 2 + len(channels), figsize=(13, 1.9), layout="constrained")
    for axis, shown, title in (
        (axes[0], image, "image"),
        (axes[-1], decoded, "decoded"),
    ):
        axis.imshow(_pixels(shown))
        axis.set_title(title)
    limit = float(np.abs(channels).max())
    for number, channel in enumerate(channels):
        axis = axes[1 + number]
        axis.imshow(channel, cmap="cividis", vmin=-limit, vmax=limit)
        axis.set_title(f"channel {number + 1}")
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    return figure


def _scene() -> tuple[Denoiser, Tensor]:
    """The model of scenes, and the first test image of the caption (3, H, W) in [−1, 1]."""
    import torch

    from diffcls.data.load import load_dataset
    from diffcls.data.transforms import load_image, to_pixels
    from diffcls.models.loading import load

    denoiser = load(SCENES)
    data = load_dataset("scenes/attributes", "test")
    item = next(i for i in data.items if data.class_names[i.label] == CAPTION)
    return denoiser, torch.from_numpy(to_pixels(load_image(item.open()), denoiser.image_size))


def _prompt(caption: str, dataset: str = "scenes/attributes") -> str:
    from diffcls.data import catalog

    return catalog.find(dataset).templates[0].replace("{}", caption)


def _decoded(denoiser: Denoiser, latents: Sequence[Tensor]) -> list[Any]:
    import torch

    with torch.inference_mode():
        return [_pixels(image) for image in denoiser.decode_latents(torch.stack(list(latents)))]


def _pixels(image: Tensor) -> Any:
    """(H, W, 3) in [0, 1] of an image (3, H, W) in [−1, 1]."""
    return ((image.detach().cpu().clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy()


def _grid(rows: Sequence[Sequence[Any]], titles: Sequence[str], names: Sequence[str]) -> Any:
    """Images in rows with names, in columns with titles."""
    import matplotlib.pyplot as plt

    width, height = len(titles), len(rows)
    size = (1.35 * width + 2.2, 1.35 * height + 0.4)
    figure, axes = plt.subplots(height, width, figsize=size, squeeze=False, layout="constrained")
    for row, images, name in zip(axes, rows, names, strict=True):
        for axis, image in zip(row, images, strict=True):
            axis.imshow(image)
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    return figure
