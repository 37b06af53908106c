"""Preservation: what keeps a network's other answers, while it learns a concept.

Of the class of the concept alone, it is the prior preservation of DreamBooth (Ruiz et al. 2023,
eq. 2),

    E‖out(x'_t, t, c(NOUN)) − target'‖²

over images x' of the class that the unchanged model generates. Where other classes compete with the
concept, their errors are to stay as they are: the outputs of the unchanged network out₀ are
distilled (Li and Hoiem 2017, "Learning without Forgetting"),

    μ·E‖out(x'_t, t, c_k) − out₀(x'_t, t, c_k)‖²

over the classes k, and over generated images x' of them. NOUN is not among them unless it is
named: what a model without the class draws for its noun is not worth keeping.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffcls.generation.sample import sample
from diffcls.models.denoiser import Conditioning
from diffcls.support.errors import RecordError
from diffcls.support.files import write_bytes
from diffcls.training.losses import noised
from diffcls.training.noise_levels import discrete

if TYPE_CHECKING:
    from diffcls.concepts.options import ConceptSettings
    from diffcls.concepts.task import LearningTask

Preserve = Callable[[torch.Generator], Tensor]
"""(random generator) -> loss of a batch."""

GUIDANCE, SAMPLER_STEPS = 2.0, 25
"""Of the generated images of the classes."""
PRIOR_FILE = "prior.safetensors"
DISTILLATION = 10.0
"""μ: outputs differ by far less than their errors."""
OF_ANY = 1 / 2
"""Share of prompts that name any class, instead of the one that the image shows."""


def classes_of(settings: ConceptSettings) -> tuple[str, ...]:
    """Names of the classes that are preserved: those that compete, or else the concept's own."""
    return settings.against or (str(settings.init),)


def preservation_of(task: LearningTask) -> Preserve:
    """The loss that preserves the classes of a task."""
    images = generated_images(task)
    return Distillation(task, images) if task.settings.against else Prior(task, images)


class Prior:
    """Prior preservation: the training loss of the class of the concept.

    Args:
        task: the task.
        images: (M, C, h, w) encoded images of the class.
    """

    def __init__(self, task: LearningTask, images: Tensor) -> None:
        self.task, self.images = task, images
        self.cond = frozen_prompts(task, classes_of(task.settings))

    def __call__(self, rng: torch.Generator) -> Tensor:
        return training_loss(self.task, self.images, self.cond, rng)


class Distillation:
    """Distillation: the outputs of the unchanged network for prompts of all classes.

    Args:
        task: the task, whose network has an adapter.
        images: (M, C, h, w) encoded images, of the classes by turns.
    """

    def __init__(self, task: LearningTask, images: Tensor) -> None:
        self.task, self.images = task, images
        self.count = len(classes_of(task.settings))
        self.cond = frozen_prompts(task, classes_of(task.settings))
        self.levels = discrete(task.denoiser.schedule)

    def __call__(self, rng: torch.Generator) -> Tensor:
        denoiser = self.task.denoiser
        batch = self.task.settings.optimisation().batch
        x0, classes = self._choose(batch, rng)
        template = torch.randint(len(self.task.templates), (batch,), generator=rng)
        prompt = classes * len(self.task.templates) + template
        noise = torch.randn(x0.shape, generator=rng).to(denoiser.device)
        levels = self.levels(batch, rng)
        x_t = noised(x0.to(denoiser.device), noise, levels).to(denoiser.dtype)
        index = torch.as_tensor(levels.index).to(denoiser.device)
        cond = self.cond.rows(prompt.to(denoiser.device))
        network: Any = denoiser.network
        network.disable_adapters()
        with torch.no_grad():
            before = denoiser.predict(x_t, index, cond).float()
        network.enable_adapters()
        after = denoiser.predict(x_t, index, cond).float()
        return DISTILLATION * (after - before).square().mean()

    def _choose(self, batch: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) images, and (B,) the classes that their prompts name."""
        image = torch.randint(len(self.images), (batch,), generator=rng)
        of_any = torch.rand(batch, generator=rng) < OF_ANY
        any_class = torch.randint(self.count, (batch,), generator=rng)
        return self.images[image], torch.where(of_any, any_class, image % self.count)


def frozen_prompts(task: LearningTask, phrases: tuple[str, ...]) -> Conditioning:
    """(K·T,) encoded prompts, the templates of a phrase in succession; the text encoder is frozen.

    Args:
        task: the task.
        phrases: (K,) what fills the templates.
    """
    prompts = [prompt for phrase in phrases for prompt in task.prompts(phrase)]
    with torch.no_grad():
        encoded = task.denoiser.encode_with_gradient(prompts)
    return Conditioning({name: rows.detach() for name, rows in encoded.items()})


def training_loss(
    task: LearningTask, images: Tensor, cond: Conditioning, rng: torch.Generator
) -> Tensor:
    """The model's training loss of a batch of images under random prompts.

    Args:
        task: the task.
        images: (M, C, h, w) encoded images.
        cond: (T,) encoded prompts.
        rng: of all random choices.
    """
    denoiser, batch = task.denoiser, task.settings.optimisation().batch
    x0 = images[torch.randint(len(images), (batch,), generator=rng)].to(denoiser.device)
    noise = torch.randn(x0.shape, generator=rng).to(denoiser.device)
    levels = discrete(denoiser.schedule)(batch, rng)
    prompt = torch.randint(cond.count, (batch,), generator=rng)
    return task.native_loss(x0, noise, levels, cond.rows(prompt.to(denoiser.device)))


def generated_images(task: LearningTask) -> Tensor:
    """(M, C, h, w) encoded images of the classes by turns, as the unchanged model generates them.

    They depend on the seed alone; with a folder they are kept there, for resumption.

    Raises:
        RecordError: for kept images that cannot be read.
    """
    from safetensors.torch import save

    settings, denoiser = task.settings, task.denoiser
    path = task.folder and task.folder / PRIOR_FILE
    if path and path.exists():
        return _kept_images(path, (settings.prior_images, *denoiser.sample_shape))
    prompts = [task.prompts(name) for name in classes_of(settings)]
    texts = [
        (of_class := prompts[i % len(prompts)])[i // len(prompts) % len(of_class)]
        for i in range(settings.prior_images)
    ]
    rows = []
    for batch in sample(
        denoiser,
        texts,
        range(len(texts)),
        seed=settings.seed,
        scale=GUIDANCE,
        steps=SAMPLER_STEPS,
        batch_size=min(len(texts), settings.optimisation().batch),
    ):
        with torch.inference_mode():
            rows.append(denoiser.encode_images(batch.images).cpu())
    x0 = torch.cat(rows).clone(memory_format=torch.contiguous_format)
    if path:
        write_bytes(path, save({"x0": x0}))
    return x0


def _kept_images(path: Path, shape: tuple[int, ...]) -> Tensor:
    """(M, C, h, w) of a file, as `generated_images` wrote it."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        x0 = load_file(path)["x0"]
        if x0.shape != shape:
            raise ValueError(f"shape {tuple(x0.shape)}, not {shape}")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise RecordError(
            f"the generated images of the classes cannot be read ({error})",
            given=str(path),
            todo="delete the file, then rerun the same command: they are generated again",
        ) from error
    return x0
