"""What a diffusion model must be able to do to be a classifier: the contract of all families."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from diffcls.diffusion.parameterization import Parameterization
    from diffcls.diffusion.schedule import NoiseSchedule


class Conditioning(Mapping[str, "torch.Tensor"]):
    """Encoded prompts: named tensors whose first axis is the prompt.

    Args:
        tensors: name to tensor (P, ...); the names are the model's own.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._tensors = dict(tensors)
        self.count = len(next(iter(self._tensors.values())))

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def rows(self, index: torch.Tensor) -> Conditioning:
        """The conditioning of prompts `index` (B,), in that order; repeats are allowed."""
        return Conditioning({k: v.index_select(0, index) for k, v in self._tensors.items()})

    @staticmethod
    def concatenate(parts: Sequence[Conditioning]) -> Conditioning:
        """All prompts of all parts, in order."""
        import torch

        return Conditioning({k: torch.cat([part[k] for part in parts]) for k in parts[0]})


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model beside its weights.

    Args:
        name: as the leaderboard calls it.
        revision: a commit, or a hash of the weights.
        temperature: of the posterior: scores summed over dimensions are divided by it; 1 where
            nobody fitted it.
        allocation: where in time draws lie by default, see `diffcls.diffusion.timestep_allocation`.
        trained_on: names of the data sets whose training split, with its class names, the model
            has seen, or patterns of names, such as ``scenes:*``; on these it is not zero-shot.
        labels: names of the classes of a model that reads class ids, where its card has them.
    """

    name: str
    revision: str
    temperature: float = 1.0
    allocation: str = "even"
    trained_on: tuple[str, ...] = field(default=())
    labels: tuple[str, ...] = field(default=())

    def has_seen(self, dataset: str) -> bool:
        """Whether the model was trained on a data set, with its class names."""
        return any(fnmatchcase(dataset, pattern) for pattern in self.trained_on)


class Denoiser(Protocol):
    """A trained diffusion model behind one interface.

    Attributes:
        card: name, revision, temperature.
        schedule: signal and noise at each index.
        parameterization: what `predict` returns, in terms of x0 and noise.
        sample_shape: (C, h, w) of x0: (4, 64, 64) for Stable Diffusion 2-base.
        image_size: side of the images it was trained on, in pixels.
        device, dtype: where and in what precision the network runs.
        labels: of a model that reads class ids instead of texts, the names of its classes by id,
            empty where it knows none; None for a model that reads texts. To such a model a prompt
            is a class id in decimal digits.
    """

    card: ModelCard
    schedule: NoiseSchedule
    parameterization: Parameterization
    sample_shape: tuple[int, int, int]
    image_size: int
    device: torch.device
    dtype: torch.dtype
    labels: tuple[str, ...] | None

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [−1, 1] -> x0 (B, C, h, w), float32.

        Latent models return the mean of the encoder's posterior, shifted and scaled as the
        model's own config says.
        """

    def decode_latents(self, x0: torch.Tensor) -> torch.Tensor:
        """x0 (B, C, h, w) -> images (B, 3, H, W), about in [−1, 1]."""

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """P texts -> their conditioning, padded as the model was trained."""

    def predict(self, x_t: torch.Tensor, index: torch.Tensor, cond: Conditioning) -> torch.Tensor:
        """The native output, without guidance; differentiable in the tensors of `cond`.

        Args:
            x_t: (B, C, h, w) in the denoiser's dtype.
            index: (B,) index into the schedule, on the same device.
            cond: of B rows.

        Returns:
            (B, C, h, w) in the denoiser's dtype.
        """

    def float32(self) -> AbstractContextManager[None]:
        """The network in single precision for as long as this lasts: for what overflowed."""
