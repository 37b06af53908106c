"""Learning task: model, images and settings that all ways of learning a concept receive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.support.hashing import hash_text
from diffcls.training.loop import Loop, Phase

if TYPE_CHECKING:
    from torch import Tensor

    from diffcls.concepts.options import ConceptSettings
    from diffcls.models.denoiser import Conditioning
    from diffcls.models.families.base import PipelineDenoiser
    from diffcls.training.noise_levels import LevelBatch


@dataclass(frozen=True)
class LearningTask:
    """What a concept is learned from.

    Args:
        denoiser: the model; its pipeline gets the new token, and its weights stay as they are.
        token: name of the concept.
        x0: (N, C, h, w) float32, the encoded images.
        settings: see `diffcls.concepts.options.ConceptSettings`.
        templates: prompt templates with ``{}``.
        other: (M, C, h, w) encoded images that do not show the concept; None without any.
        folder: place of checkpoints and curves; None: keep neither.
        quiet: no progress bar.
    """

    denoiser: PipelineDenoiser
    token: str
    x0: Tensor
    settings: ConceptSettings
    templates: tuple[str, ...]
    other: Tensor | None = None
    folder: Path | None = None
    quiet: bool = True

    def run(self, phase: Phase) -> Loop:
        """Train a phase to its end, or resume it from its checkpoint; returns its loop."""
        from diffcls.training.distributed import ProcessGroup

        loop = Loop(
            phase,
            self.folder,
            quiet=self.quiet,
            processes=ProcessGroup(device=str(self.denoiser.device)),
        )
        loop.run()
        return loop

    def native_loss(
        self, x0: Tensor, noise: Tensor, levels: LevelBatch, cond: Conditioning
    ) -> Tensor:
        """The model's training loss of a batch, each row under a prompt of its own.

        Args:
            x0, noise: (B, C, h, w) on the model's device.
            levels: (B,) noise levels.
            cond: (B,) encoded prompts.
        """
        import torch

        from diffcls.training.losses import noised, objective

        denoiser = self.denoiser
        x_t = noised(x0, noise, levels).to(denoiser.dtype)
        index = torch.as_tensor(levels.index).to(denoiser.device)
        out = denoiser.predict(x_t, index, cond)
        row = denoiser.parameterization
        return objective(out.float(), x0, noise, levels, row, "native").mean()

    def prompts(self, phrase: str) -> list[str]:
        """(T,) the templates filled with the name of a class."""
        return [template.replace("{}", phrase) for template in self.templates]


@dataclass(frozen=True)
class Learned:
    """What was learned.

    Args:
        phrase: what stands for the concept in a prompt.
        file: name of the file of weights.
        tensors: its content.
        seconds: time of training.
        vectors: text encoder -> (V, D); empty for a LoRA.
    """

    phrase: str
    file: str
    tensors: Mapping[str, Tensor]
    seconds: float
    vectors: Mapping[str, Tensor] = field(default_factory=dict)

    def add_to(self, denoiser: Any) -> None:
        """Add the concept to the pipeline of a denoiser, which has a view of its own.

        Raises:
            UsageError, ModelError: see `diffcls.models.concepts.add_vectors`.
        """
        from diffcls.models.concepts import add_vectors, merge_tensors

        if self.vectors:
            add_vectors(denoiser.pipeline, self.phrase, self.vectors)
        else:
            merge_tensors(denoiser.pipeline, denoiser.network, self.tensors)

    def revision(self) -> str:
        """Hash of the content, for the revision of a model in memory that it is added to."""
        parts = [
            f"{name} {t.shape} {t.numpy().tobytes().hex()}" for name, t in self.tensors.items()
        ]
        return f"concept {self.phrase} {hash_text('|'.join(parts), 8)}"
