"""Pictures of numbers: the terms of the variational bound over time, and a race."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from diffcls.models.denoiser import Denoiser
    from diffcls.search.error_table import Table

PIXELS, DIGITS = "digits-pixels", "digits"
"""Bundled models: a DDPM of pixels, and a small Stable Diffusion."""
IMAGES, LEVELS = 60, 32
DRAWS = 40
TEMPLATE = "the digit {}"
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
IMAGE_ROW = 1599
"""Row of scikit-learn's table: a held-out one that looks like a four."""
STAYING, DROPPED = ("#0072B2", "#D55E00"), "#9A9A9A"
LABEL_HEIGHT = 0.8
"""Thousandths of an error; names of curves that end nearer to each other share a label."""
SEED = 0


def bound_terms() -> Any:
    """Left: the term of each timestep; right: what it says about the class."""
    import matplotlib.pyplot as plt

    levels, right, wrong = measure_terms()
    figure, (left_axis, right_axis) = plt.subplots(1, 2, figsize=(10.5, 3.7), layout="constrained")
    left_axis.plot(levels, right.mean(axis=0), "o-", color=STAYING[0], label="right class")
    left_axis.plot(levels, wrong.mean(axis=0), "^--", color=STAYING[1], label="another class")
    left_axis.set(yscale="log", xlabel="timestep t", ylabel="nats per image")
    left_axis.set_title("term of the bound, $L_{t-1}$")
    left_axis.legend()
    gap = wrong - right
    right_axis.axhline(0, color=DROPPED, linewidth=1)
    right_axis.plot(levels, gap.mean(axis=0) / gap.std(axis=0, ddof=1), "o-", color=STAYING[0])
    right_axis.set(xlabel="timestep t", ylabel="mean / standard deviation over images")
    right_axis.set_title("another class minus right class")
    for axis in (left_axis, right_axis):
        axis.grid(alpha=0.3)
    return figure


def measure_terms() -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Timesteps (L,), and the terms (n, L) of test digits under the right and another class."""
    import torch

    from diffcls.data.load import load_dataset
    from diffcls.data.transforms import load_image, to_pixels
    from diffcls.models.loading import load

    denoiser = load(PIXELS)
    items = load_dataset("digits", "test").items[:IMAGES]
    opened = [load_image(item.open()) for item in items]
    images = [torch.from_numpy(to_pixels(one, denoiser.image_size)) for one in opened]
    x0 = denoiser.encode_images(torch.stack(images))
    labels = np.array([item.label for item in items])
    others = (labels + 1 + np.arange(len(labels)) % 9) % 10
    levels = np.linspace(1, len(denoiser.schedule) - 1, LEVELS).round().astype(np.int64)
    right, wrong = (
        np.stack([_terms(denoiser, x0, classes, int(t)) for t in levels], axis=1)
        for classes in (labels, others)
    )
    return levels, right, wrong


def _terms(
    denoiser: Denoiser, x0: Tensor, classes: NDArray[np.int64], t: int
) -> NDArray[np.float64]:
    """(n,) L_{t−1} of each image, with the variance β_t and noise that all classes share."""
    import torch

    from diffcls.diffusion.bound import step_term
    from diffcls.diffusion.draws import noise
    from diffcls.diffusion.process import Step, chain, reverse_variances

    steps = chain(denoiser.schedule)
    alpha, sigma = float(denoiser.schedule.alpha[t]), float(denoiser.schedule.sigma[t])
    epsilon = torch.stack([noise(SEED + i, t, x0.shape[1:]) for i in range(len(x0))])
    x_t = Step(alpha, sigma).forward(x0, epsilon)
    cond = denoiser.encode_prompts([str(k) for k in classes])
    with torch.inference_mode():
        out = denoiser.predict(x_t, torch.full((len(x0),), t), cond).float()
    gains = torch.tensor(alpha), torch.tensor(sigma)
    estimate = denoiser.parameterization.to_x0(out, x_t, *gains).clamp(-1, 1)
    rows = steps.rows(np.full(len(x0), t)).tensors(x0.double())
    variance = torch.tensor(float(reverse_variances(steps, "large")[t]), dtype=torch.float64)
    doubles = (x0.double(), x_t.double(), estimate.double())
    terms: NDArray[np.float64] = step_term(rows, *doubles, variance).numpy()
    return terms


def race() -> Any:
    """The image, and the mean paired difference of each class to the leader over the draws."""
    import matplotlib.pyplot as plt
    from sklearn.datasets import load_digits

    table = measure_table()
    curves, alive = run_race(table)
    image = load_digits().images[IMAGE_ROW]
    figure, (picture, axis) = plt.subplots(
        1, 2, figsize=(10.5, 4.2), width_ratios=(1, 4), layout="constrained"
    )
    picture.imshow(image, cmap="gray")
    picture.set(xticks=[], yticks=[], title="the image")
    last = int(alive.max())
    final = np.flatnonzero(alive == last).tolist()
    for k, n in enumerate(alive.tolist()):
        colour = STAYING[final.index(k) % 2] if k in final else DROPPED
        curve = 1000 * curves[k, 2 : n + 1]
        axis.plot(range(2, n + 1), curve, color=colour, lw=2.4 if k in final else 1.4)
        axis.plot(n, curve[-1], "o" if k in final else "x", color=colour, ms=8)
    for (n, value), names in _by_place(1000 * curves, alive).items():
        stays = n == last
        place = {"ha": "left" if stays else "center", "va": "center" if stays else "bottom"}
        text = (" and " if stays else ", ").join(names)
        axis.annotate(
            text,
            (n, value),
            (8 if stays else 0, 0 if stays else 6),
            textcoords="offset points",
            **place,
        )
    axis.set(xlabel="draws per class", ylabel="mean error − leader's, in thousandths")
    axis.set_title(f"{int(alive.sum())} evaluations instead of {table.size}; × marks elimination")
    axis.set_xlim(1.5, last + 7)
    axis.margins(y=0.12)
    axis.grid(alpha=0.3)
    return figure


def _by_place(
    curves: NDArray[np.float64], alive: NDArray[np.int64]
) -> dict[tuple[int, float], list[str]]:
    """(draws, value) of each curve's end -> names of the classes whose curves end about there."""
    places: dict[tuple[int, float], list[str]] = {}
    for k, n in enumerate(alive.tolist()):
        value = float(curves[k, n])
        near = [at for at in places if at[0] == n and abs(at[1] - value) < LABEL_HEIGHT]
        places.setdefault(near[0] if near else (n, value), []).append(NAMES[k])
    return places


def measure_table() -> Table:
    """(K, N) errors of the image under every class, on the draws of a race."""
    import torch
    from sklearn.datasets import load_digits

    from diffcls.data.prompts import PromptSet
    from diffcls.explain.measurement import thorough_method
    from diffcls.models.loading import load

    denoiser = load(DIGITS)
    prompts = PromptSet.from_templates(NAMES, [TEMPLATE], own=False)
    method = thorough_method(denoiser, prompts, DRAWS, allocation=denoiser.card.allocation)
    image = load_digits().images[IMAGE_ROW] / 16
    x0 = denoiser.encode_images(torch.from_numpy(method.pixels(image))[None])
    return np.stack(
        [
            method.scorer.errors(x0.repeat(DRAWS, 1, 1, 1), torch.full((DRAWS,), k), range(DRAWS))
            .cpu()
            .numpy()
            for k in range(len(NAMES))
        ]
    )


def run_race(full: Table) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A race on a full table: curves and draws of each class.

    Returns:
        (K, N + 1) mean paired difference to the leader after as many draws, NaN where not
        evaluated; and (K,) the draws of each class.
    """
    from diffcls.search.error_table import counts, leader
    from diffcls.search.racing import Racing

    search = Racing(draws=full.shape[1])
    table = np.full_like(full, np.nan)
    curves = np.full((len(full), full.shape[1] + 1), np.nan)
    while (asked := search.ask(table)) is not None:
        table[asked[:, 0], asked[:, 1]] = full[asked[:, 0], asked[:, 1]]
        n = counts(table)
        done = int(n.max())
        alive = np.flatnonzero(n == done)
        errors = table[alive, :done]
        best = leader(errors)
        difference = errors.astype(np.float64) - errors[best].astype(np.float64)
        curves[alive, done] = difference.mean(axis=1)
    return curves, counts(table)
