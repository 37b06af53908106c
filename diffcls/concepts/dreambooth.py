"""DreamBooth with LoRA: low-rank changes of the network, with prior preservation.

    L = E‖out(x_t, t, c("<x> NOUN")) − target‖² + λ·E‖out(x'_t, t, c("NOUN")) − target'‖²

(Ruiz et al. 2023, eq. 2), where x are the images of the concept and x' images of its class that the
unchanged model generates: they keep what the model knows of the class. Only the matrices A and B of
W + B·A (Hu et al. 2021) in the network's attention are trained, and saved in the format of peft and
diffusers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from diffcls.concepts.kinds import LearningKind
from diffcls.concepts.task import Learned, LearningTask
from diffcls.generation.sample import sample
from diffcls.models.concept_files import LORA
from diffcls.models.denoiser import Conditioning
from diffcls.models.quiet import quiet
from diffcls.support.errors import RecordError
from diffcls.support.files import write_bytes
from diffcls.support.seeding import key
from diffcls.training.loop import Phase, generator
from diffcls.training.losses import noised, objective
from diffcls.training.noise_levels import discrete
from diffcls.training.recipes import Optimisation

if TYPE_CHECKING:
    from diffcls.concepts.options import ConceptSettings

PRESERVATION = 1.0
"""λ: weight of the prior preservation loss."""
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""Projections of attention that get a low-rank change."""
GUIDANCE, SAMPLER_STEPS = 2.0, 25
"""Of the generated images of the class."""
PRIOR_FILE = "prior.safetensors"
OPTIMISATION = Optimisation(
    images=300 * 8,
    batch=8,
    learning_rate=1e-3,
    warmup=0.05,
    decay="cosine",
    ema=0.9,
    weight_decay=0.01,
)


class LoraWeights(nn.Module):
    """The matrices A and B of a network with an adapter, and no other weight of it."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        trained = [p for _, p in sorted(network.named_parameters()) if p.requires_grad]
        for parameter in trained:
            parameter.data = parameter.data.float()
        self.matrices = nn.ParameterList(trained)


def learn(task: LearningTask) -> Learned:
    """Learn low-rank changes of the network by which ``NAME NOUN`` shows the concept."""
    settings = task.settings
    phrase = phrase_of(settings)
    prior = generated_prior(task)
    network: Any = task.denoiser.network
    add_adapter(network, settings.rank, settings.seed)
    weights = LoraWeights(network)
    loss = PreservingLoss(task, phrase, prior)
    loop = task.run(Phase("dreambooth", {"lora": weights}, loss, settings.optimisation()))
    return Learned(phrase, LORA, lora_tensors(network, task.denoiser.part), loop.seconds)


def phrase_of(settings: ConceptSettings) -> str:
    """What stands for the concept in a prompt: its name and its class."""
    return f"{settings.name} {settings.init}"


def add_adapter(network: Any, rank: int, seed: int) -> None:
    """Add trainable low-rank changes, at first without effect (B = 0), to the attention layers."""
    from peft import LoraConfig

    config = LoraConfig(
        r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(ATTENTION)
    )
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(key("lora", seed))
        network.add_adapter(config)


def lora_tensors(network: Any, part: str) -> dict[str, Tensor]:
    """The content of a file that diffusers' ``load_lora_weights`` reads."""
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    matrices = convert_state_dict_to_diffusers(get_peft_model_state_dict(network))
    return {
        f"{part}.{name}": tensor.detach().float().cpu().contiguous()
        for name, tensor in sorted(matrices.items())
    }


def generated_prior(task: LearningTask) -> Tensor:
    """(M, C, h, w) encoded images of the class, as the unchanged model generates them.

    They depend on the seed alone; with a folder they are kept there, for resumption.

    Raises:
        RecordError: for kept images that cannot be read.
    """
    from safetensors.torch import save

    settings, denoiser = task.settings, task.denoiser
    path = task.folder and task.folder / PRIOR_FILE
    if path and path.exists():
        return _kept_prior(path, (settings.prior_images, *denoiser.sample_shape))
    prompts = task.prompts(str(settings.init))
    texts = [prompts[i % len(prompts)] for i in range(settings.prior_images)]
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


def _kept_prior(path: Path, shape: tuple[int, ...]) -> Tensor:
    """(M, C, h, w) of a file, as `generated_prior` wrote it."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        x0 = load_file(path)["x0"]
        if x0.shape != shape:
            raise ValueError(f"shape {tuple(x0.shape)}, not {shape}")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise RecordError(
            f"the generated images of the class cannot be read ({error})",
            given=str(path),
            todo="delete the file, then rerun the same command: they are generated again",
        ) from error
    return x0


class PreservingLoss:
    """(step) -> L of a batch of the concept and one of its class.

    Args:
        task: the task.
        phrase: the concept in a prompt.
        prior: (M, C, h, w) encoded images of the class.
    """

    def __init__(self, task: LearningTask, phrase: str, prior: Tensor) -> None:
        self.task, self.prior = task, prior
        self.levels = discrete(task.denoiser.schedule)
        own, of_class = task.prompts(phrase), task.prompts(str(task.settings.init))
        self.templates = len(own)
        with torch.no_grad():  # (2·T,) prompts: the text encoder is frozen
            encoded = task.denoiser.encode_with_gradient([*own, *of_class])
        self.cond = Conditioning({name: rows.detach() for name, rows in encoded.items()})

    def __call__(self, step: int) -> Tensor:
        task = self.task
        rng = generator("dreambooth", task.settings.seed, step)
        own = self._loss(task.x0, 0, rng)
        return own + PRESERVATION * self._loss(self.prior, self.templates, rng)

    def _loss(self, images: Tensor, first: int, rng: torch.Generator) -> Tensor:
        denoiser, batch = self.task.denoiser, self.task.settings.optimisation().batch
        place = denoiser.device
        x0 = images[torch.randint(len(images), (batch,), generator=rng)].to(place)
        noise = torch.randn(x0.shape, generator=rng).to(place)
        levels = self.levels(batch, rng)
        prompt = first + torch.randint(self.templates, (batch,), generator=rng)
        index = torch.as_tensor(levels.index).to(place)
        x_t = noised(x0, noise, levels).to(denoiser.dtype)
        out = denoiser.predict(x_t, index, self.cond.rows(prompt.to(place)))
        row = denoiser.parameterization
        return objective(out.float(), x0, noise, levels, row, "native").mean()


DREAMBOOTH = LearningKind(
    learn,
    frozenset({"init", "rank", "prior_images"}),
    OPTIMISATION,
    "DreamBooth with prior preservation (Ruiz et al. 2023), as a LoRA",
    {"dreambooth": 1},
    {"init": "name the class of the concept, such as --init mug"},
    lambda settings: (phrase_of(settings), str(settings.init)),
)
"""DreamBooth: low-rank changes of the network."""
