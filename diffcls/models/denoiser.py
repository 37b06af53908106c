"""Denoiser protocol: the interface that every model family implements, and its model card."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from diffcls.data.hub_ids import benchmark_of, is_personal

if TYPE_CHECKING:
    import torch
    from torch import nn

    from diffcls.diffusion.parameterization import Parameterization
    from diffcls.diffusion.schedule import NoiseSchedule
    from diffcls.models.autoencoder import Autoencoder

CONTROL = "control"
"""Entry of a conditioning that belongs to the image, not to the prompt: its map, encoded."""


class Conditioning(Mapping[str, "torch.Tensor"]):
    """Encoded prompts: named tensors whose first axis is the prompt.

    Args:
        tensors: name to tensor (P, ...); the names are the model's own.

    Attributes:
        count: P, the number of prompts.
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

    def with_control(self, control: torch.Tensor | None) -> Conditioning:
        """The same prompts, each with the map (P, ...) of its image; None: without maps."""
        return self if control is None else Conditioning({**self, CONTROL: control})

    @staticmethod
    def concatenate(parts: Sequence[Conditioning]) -> Conditioning:
        """All prompts of all parts, in order.

        Texts of another length are padded with zeros, which their mask marks as padding.
        """
        import torch
        from torch.nn.functional import pad

        joined = {}
        for name in parts[0]:
            tensors = [part[name] for part in parts]
            longest = max(t.shape[1] if t.ndim > 1 else 0 for t in tensors)
            if any(t.ndim > 1 and t.shape[1] != longest for t in tensors):
                # (P, L, …) -> (P, longest, …): `pad` counts axes from the last one
                tensors = [
                    pad(t, (*[0, 0] * (t.ndim - 2), 0, longest - t.shape[1])) for t in tensors
                ]
            joined[name] = torch.cat(tensors)
        return Conditioning(joined)


@dataclass(frozen=True)
class ModelCard:
    """Facts about a model that are stored together with its weights.

    Args:
        name: the model's name on the leaderboard.
        revision: a commit, or a hash of the weights.
        temperature: temperature scaling of the class posterior: scores summed over dimensions are
            divided by it; 1 if it has not been fitted.
        allocation: default distribution of the draws over timesteps, see
            `diffcls.diffusion.timestep_allocation`.
        trained_on: names of the data sets on whose training split, with its class names, the model
            was trained, or patterns such as ``scenes:*``; on these it is not zero-shot.
        labels: class names of a class-conditional model, if its card lists them.
        seen_images: file with the hashes of its training data, see `diffcls.data.seen_images`.
        is_traced: whether `trained_on` and the files that the weights come from account for its
            training; False for weights in memory that are those of no file.
        added: cards of networks that work with it and have training data of their own, such as a
            ControlNet.
    """

    name: str
    revision: str
    temperature: float = 1.0
    allocation: str = "even"
    trained_on: tuple[str, ...] = field(default=())
    labels: tuple[str, ...] = field(default=())
    seen_images: Path | None = field(default=None, compare=False)
    is_traced: bool = True
    added: tuple[ModelCard, ...] = field(default=())

    @property
    def parts(self) -> tuple[ModelCard, ...]:
        """The card itself and those of added networks, each with its own training data."""
        return (self, *self.added)

    def has_seen(self, dataset: str) -> bool:
        """Whether the model was trained on the data set with its class names, judged by its name.

        A repository of the Hub that holds a data set of the catalog counts as that data set. Added
        networks count as the model.
        """
        if any(network.has_seen(dataset) for network in self.added):
            return True
        name = benchmark_of(dataset)
        seen = [benchmark_of(entry) for entry in self.trained_on]
        # the name of a person's folder may contain brackets or stars: it is no pattern
        return name in seen or any(
            fnmatchcase(name, pattern) for pattern in seen if not is_personal(pattern)
        )


class Denoiser(Protocol):
    """A trained diffusion model behind one interface.

    Attributes:
        card: name, revision, temperature.
        schedule: signal and noise level at each index.
        parameterization: the network's native output in terms of x0 and noise.
        sample_shape: (C, h, w) of x0: (4, 64, 64) for Stable Diffusion 2-base.
        image_size: side of the images in pixels.
        interpolation: resizing of images as in the model's training, one of
            `diffcls.data.transforms.RESIZINGS`.
        device, dtype: device and precision of the network.
        labels: class names by id, for a class-conditional model; empty if it has no classes; None
            for a text-conditional model. The prompts of a class-conditional model are class
            ids in decimal digits; the empty prompt stands for no class.
        autoencoder: maps between images and latents; None for a model of pixels and for an
            analytic model. Use `encode_images` and `decode_latents`, which every model has.
        network: the neural network itself, for feature extraction and fine-tuning; None for an
            analytic model.
    """

    card: ModelCard
    schedule: NoiseSchedule
    parameterization: Parameterization
    sample_shape: tuple[int, int, int]
    image_size: int
    interpolation: str
    device: torch.device
    dtype: torch.dtype
    labels: tuple[str, ...] | None
    autoencoder: Autoencoder | None
    network: nn.Module | None

    @property
    def is_latent(self) -> bool:
        """Whether x0 is the latent of an autoencoder rather than the pixels themselves."""

    @property
    def learns_variance(self) -> bool:
        """Whether `predict_both` returns a learned variance; known without a forward pass."""

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [−1, 1] -> x0 (B, C, h, w), float32.

        Latent models return the mean of the encoder's posterior, shifted and scaled as the
        model's own config requires.
        """

    def decode_latents(self, x0: torch.Tensor) -> torch.Tensor:
        """x0 (B, C, h, w) -> images (B, 3, H, W), about in [−1, 1]; differentiable."""

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """P prompts -> their conditioning, padded as in the model's training."""

    def prompt_keys(self, prompts: Sequence[str]) -> Sequence[Hashable]:
        """(P,) what the network receives of each prompt: its token ids, or its class id.

        Equal for prompts with the same conditioning, and only for these.
        """

    def predict(self, x_t: torch.Tensor, index: torch.Tensor, cond: Conditioning) -> torch.Tensor:
        """The native output, without guidance; differentiable in the tensors of `cond`.

        Args:
            x_t: (B, C, h, w) in the denoiser's dtype.
            index: (B,) index into the schedule, on the same device.
            cond: of B rows.

        Returns:
            (B, C, h, w) in the denoiser's dtype.
        """

    def predict_both(
        self, x_t: torch.Tensor, index: torch.Tensor, cond: Conditioning
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The native output and the learned variance, in one forward pass.

        Args:
            x_t, index, cond: as for `predict`.

        Returns:
            the result of `predict`, and the mixture v (B, C, h, w), 0 for the smallest and 1 for
            the largest variance of the reverse step (Nichol and Dhariwal 2021, eq. 15; see
            `diffcls.diffusion.process.learned_variance`); None unless `learns_variance`.
        """

    def float32(self) -> AbstractContextManager[None]:
        """Context in which the network runs in single precision, for inputs that overflow."""
