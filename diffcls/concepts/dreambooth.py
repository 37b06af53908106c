"""DreamBooth with LoRA: low-rank changes of the network, with prior preservation.

    L = E‖out(x_t, t, c("<x> NOUN")) − target‖² + λ·E‖out(x'_t, t, c("NOUN")) − target'‖²

(Ruiz et al. 2023, eq. 2), where x are the images of the concept and x' images of its class that the
unchanged model generates: they keep what the model knows of the class. Where other classes are
named, `diffcls.concepts.preservation` keeps them in the place of the second term, and
`diffcls.concepts.separation` sets the concept apart from them. Only the matrices A and B of
W + B·A (Hu et al. 2021) in layers of the network are trained, and saved in peft's format, which
diffusers reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from diffcls.concepts import LAYERS
from diffcls.concepts.kinds import LearningKind
from diffcls.concepts.preservation import (
    Preserve,
    classes_of,
    frozen_prompts,
    preservation_of,
    training_loss,
)
from diffcls.concepts.separation import Separation
from diffcls.concepts.task import Learned, LearningTask
from diffcls.models.concept_files import LORA
from diffcls.models.quiet import quiet
from diffcls.support.seeding import key
from diffcls.training.loop import Phase, generator
from diffcls.training.recipes import Optimisation

if TYPE_CHECKING:
    from diffcls.concepts.options import ConceptSettings

PRESERVATION, SEPARATION = 1.0, 1.0
"""λ: weight of the preservation; weight of the separation."""
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""Projections of attention that get a low-rank change."""
BLOCKS = (*ATTENTION, "conv1", "conv2")
"""These and the convolutions of residual blocks."""
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
    preserve = preservation_of(task)
    network: Any = task.denoiser.network
    add_adapter(network, settings)
    weights = LoraWeights(network)
    loss = DreamBoothLoss(task, phrase, preserve)
    loop = task.run(Phase("dreambooth", {"lora": weights}, loss, settings.optimisation()))
    return Learned(phrase, LORA, lora_tensors(network, task.denoiser.part), loop.seconds)


def phrase_of(settings: ConceptSettings) -> str:
    """What stands for the concept in a prompt: its name and its class."""
    return f"{settings.name} {settings.init}"


def add_adapter(network: Any, settings: ConceptSettings) -> None:
    """Add trainable low-rank changes, at first without effect (B = 0), to layers of a network."""
    from peft import LoraConfig

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.rank,
        init_lora_weights="gaussian",
        target_modules=list(LAYERS.load(settings.lora_layers)),
    )
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(key("lora", settings.seed))
        network.add_adapter(config)


def lora_tensors(network: Any, part: str) -> dict[str, Tensor]:
    """The content of a file that diffusers' ``load_lora_weights`` reads."""
    from peft import get_peft_model_state_dict

    # not diffusers' older names, which it has for attention alone: of both it would read one half
    return {
        f"{part}.{name}": tensor.detach().float().cpu().contiguous()
        for name, tensor in sorted(get_peft_model_state_dict(network).items())
    }


class DreamBoothLoss:
    """(step) -> L of a batch; its random choices depend on seed and step alone.

    Args:
        task: the task.
        phrase: the concept in a prompt.
        preserve: see `diffcls.concepts.preservation`.
    """

    def __init__(self, task: LearningTask, phrase: str, preserve: Preserve) -> None:
        self.task, self.preserve = task, preserve
        self.cond = frozen_prompts(task, (phrase,))
        self.separate = Separation(task, self.cond) if task.settings.against else None

    def __call__(self, step: int) -> Tensor:
        rng = generator("dreambooth", self.task.settings.seed, step)
        loss = training_loss(self.task, self.task.x0, self.cond, rng)
        loss = loss + PRESERVATION * self.preserve(rng)
        return loss + SEPARATION * self.separate(rng) if self.separate else loss


DREAMBOOTH = LearningKind(
    learn,
    frozenset({"init", "rank", "lora_layers", "prior_images", "against"}),
    OPTIMISATION,
    "DreamBooth with prior preservation (Ruiz et al. 2023), as a LoRA",
    {"dreambooth": 1},
    {"init": "name the class of the concept, such as --init mug"},
    lambda settings: (phrase_of(settings), *classes_of(settings)),
)
"""DreamBooth: low-rank changes of the network."""
