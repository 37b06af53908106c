"""The variational bound on −log p of a data set's images under a diffusion model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffcls.generation.options import Interrupted, ModelOptions
from diffcls.support.errors import UsageError, unknown_name
from diffcls.support.options import MAX_COUNT, MAX_STEPS, within
from diffcls.support.signatures import takes

if TYPE_CHECKING:
    from diffcls.data.dataset import Dataset
    from diffcls.generation.likelihood import Estimator
    from diffcls.models.denoiser import Denoiser
    from diffcls.support.types import Float64

IMAGES_PER_CHUNK = 50
"""Images between two updates; an interruption loses at most these."""
VARIANCES = ("small", "large", "learned")
CONDITIONS = ("none", "class")


@dataclass(frozen=True, kw_only=True)
class LikelihoodOptions(ModelOptions):
    """Options of `estimate_likelihood`, in addition to those of `ModelOptions`.

    Args:
        split: split of the data set.
        limit: number of images, a stratified sample.
        condition: ``none``: the empty prompt; ``class``: the prompt of each image's class.
        variance: variance of the reverse step: ``small``, ``large`` or ``learned``; None: learned
            if the network predicts it, else large.
        levels: timesteps evaluated per image; a larger number lowers the standard error.

    Raises:
        UsageError: for a name or number that is not allowed.
    """

    model: str = "digits-pixels"
    split: str = "test"
    limit: int = within(1, MAX_COUNT, 500)
    condition: str = "none"
    variance: str | None = None
    levels: int = within(1, MAX_STEPS, 20)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.condition not in CONDITIONS:
            raise unknown_name("condition", self.condition, CONDITIONS)
        if self.variance is not None and self.variance not in VARIANCES:
            raise unknown_name("variance of the reverse step", self.variance, VARIANCES)


@dataclass(frozen=True)
class LikelihoodResult:
    """A variational bound on −log p, in bits per dimension, and its terms.

    Args:
        model, dataset, split: their names.
        unit: what a dimension is: ``pixels-3x32x32``, or ``latents-4x8x8-of-MODEL``, whose density
            depends on the scale of the latents and cannot be compared with another model's.
        n: number of images.
        value: the bound; the sum of the three terms.
        stderr: its standard error over images, timesteps and noise; NaN for a single image.
        prior: L_T, which no training changes.
        steps: the sum of L_{t−1}.
        decoder: L_0.
        l_simple: mean squared error of the noise (Ho et al. 2020, eq. 14).
        variance: variance of the reverse step.
        levels: timesteps per image.
        condition: see `LikelihoodOptions`.
        is_latent: whether the model is one of latents.
        training_images: that the model has seen, if known.
        status: ``complete``, or ``partial`` after an interruption.
    """

    model: str
    dataset: str
    split: str
    unit: str
    n: int
    value: float
    stderr: float
    prior: float
    steps: float
    decoder: float
    l_simple: float
    variance: str
    levels: int
    condition: str
    is_latent: bool
    training_images: int | None
    status: str

    def row(self) -> dict[str, Any]:
        """The row of ``fidelity.csv``."""
        return {
            "model": self.model,
            "dataset": self.dataset,
            "split": self.split,
            "metric": "bits_per_dim",
            "extractor": self.unit,
            "n": self.n,
            "value": self.value,
            "stderr": self.stderr,
            # as of classifier-free guidance: 0 is the empty prompt, 1 that of the class
            "guidance": float(self.condition == "class"),
            "steps": self.levels,
            "training_images": self.training_images,
        }


@takes(LikelihoodOptions)
def estimate_likelihood(options: LikelihoodOptions) -> LikelihoodResult:
    """Estimate the variational bound on −log p of a data set's images.

    For a model of pixels, the images are whole numbers from 0 to 255; for a model of latents, the
    density is one of latents. See `diffcls.generation.likelihood.estimate`.

    Args:
        options: the fields of `LikelihoodOptions`, as keyword arguments.

    Returns:
        The bound and its terms, in bits per dimension.

    Raises:
        UsageError, DataError, ModelError: for options that do not fit the model, or missing data.
        RecordError: for an image whose bound is not finite.
        Interrupted: on Ctrl-C, with the result of the images finished so far, if any.
    """
    from diffcls.data.load import load_dataset
    from diffcls.data.own_data import announce
    from diffcls.data.subsets import choose
    from diffcls.diffusion.process import is_flow
    from diffcls.generation.classes import dataset_of

    data = options.data(options.split)
    # single precision: half precision would lose terms of a tenth of a bit
    with options.opened("float32") as denoiser:
        if is_flow(denoiser.schedule):
            raise UsageError(
                "likelihood does not support flow models",
                given=denoiser.card.name,
                allowed="models with a variance-preserving schedule",
            )
        dataset = dataset_of(denoiser, options.dataset)
        if data is None:
            data = load_dataset(dataset, options.split, options.root, streaming=options.streaming)
        announce(dataset, data)
        data, _ = choose(data, options.limit)
        estimator = _estimator(options, denoiser)
        prompts = _prompts(options, denoiser, dataset, data)
        terms = _terms(options, denoiser, data, prompts, estimator)
        result = _summarised(options, denoiser, data.name, estimator, terms, len(data.items))
    if result.status == "partial":
        raise Interrupted(result)
    return result


def _estimator(options: LikelihoodOptions, denoiser: Denoiser) -> Estimator:
    from diffcls.diffusion.bound import discretised_decoder, gaussian_decoder
    from diffcls.generation.likelihood import Estimator

    learned, pixels = denoiser.learns_variance, not denoiser.is_latent
    if options.variance == "learned" and not learned:
        what = "--variance learned needs a model that learned it"
        raise UsageError(what, denoiser.card.name, "small or large")
    return Estimator(
        discretised_decoder() if pixels else gaussian_decoder,
        options.variance or ("learned" if learned else "large"),
        options.levels,
        clip=pixels,
        seed=options.seed,
        batch_size=options.batch_size,
    )


def _prompts(
    options: LikelihoodOptions, denoiser: Denoiser, dataset: str, data: Dataset
) -> list[str]:
    """One prompt for all images, or one per image."""
    from diffcls.generation.classes import classes_of

    if options.condition == "none":
        return [""]
    if denoiser.labels == ():
        what = "the model is unconditional: --condition class needs a class-conditional one"
        raise UsageError(what, given=denoiser.card.name)
    classes = classes_of(denoiser, dataset, options.root, data, options.streaming)
    return [classes.prompts[item.class_index] for item in data.items]


def _terms(
    options: LikelihoodOptions,
    denoiser: Denoiser,
    data: Dataset,
    prompts: Sequence[str],
    estimator: Estimator,
) -> Float64:
    """(n, 4) terms, see `diffcls.generation.likelihood.estimate`; fewer rows if interrupted."""
    import numpy as np
    import torch

    from diffcls.data.transforms import load_image, to_pixels
    from diffcls.generation import likelihood

    terms = []
    with options.progress(len(data.items), "likelihood") as bar:
        try:
            for start in range(0, len(data.items), IMAGES_PER_CHUNK):
                items = data.items[start : start + IMAGES_PER_CHUNK]
                size, resizing = denoiser.image_size, denoiser.interpolation
                pixels = [to_pixels(load_image(i.open()), size, resizing) for i in items]
                x0 = denoiser.encode_images(torch.from_numpy(np.stack(pixels)))
                part = prompts if len(prompts) == 1 else prompts[start : start + IMAGES_PER_CHUNK]
                cond = denoiser.encode_prompts(part)
                ids = [item.image_id for item in items]
                terms.append(likelihood.estimate(denoiser, x0, ids, cond, estimator))
                bar.update(len(items))
        except KeyboardInterrupt:
            if not terms:
                raise
    return np.concatenate(terms)


def _summarised(
    options: LikelihoodOptions,
    denoiser: Denoiser,
    dataset: str,
    estimator: Estimator,
    terms: Float64,
    requested: int,
) -> LikelihoodResult:
    from diffcls.diffusion.bound import bits_per_dim, summarise
    from diffcls.models.given import images_seen

    channels, height, width = denoiser.sample_shape
    size = channels * height * width
    bound, latent = summarise(terms, size), denoiser.is_latent
    shape = "x".join(map(str, denoiser.sample_shape))
    unit = f"latents-{shape}-of-{denoiser.card.name}" if latent else f"pixels-{shape}"
    return LikelihoodResult(
        model=denoiser.card.name,
        dataset=dataset,
        split=options.split,
        unit=unit + (f", variance {estimator.variance}" if options.variance else ""),
        n=bound.images,
        value=bound.mean,
        stderr=bound.stderr,
        prior=bits_per_dim(bound.prior, size),
        steps=bits_per_dim(bound.steps, size),
        decoder=bits_per_dim(bound.decoder, size),
        l_simple=bound.simple,
        variance=str(estimator.variance),
        levels=options.levels,
        condition=options.condition,
        is_latent=latent,
        training_images=images_seen(options.model),
        status="complete" if len(terms) == requested else "partial",
    )
