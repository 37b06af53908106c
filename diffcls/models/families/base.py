"""Pipeline denoiser: the base of all model families that diffusers loads."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from diffcls.models.autoencoder_kinds import autoencoder_of
from diffcls.models.denoiser import Conditioning, ModelCard
from diffcls.models.families.checks import (
    check_tokenizer,
    first_not_finite,
    square_side,
    training_noise,
)
from diffcls.models.family_table import AUTOENCODERS
from diffcls.models.memory_options import WHOLE_ON_DEVICE, MemoryOptions
from diffcls.models.pipeline_view import text_config
from diffcls.models.precision import in_float32, is_convertible
from diffcls.models.prompt_truncation import token_keys
from diffcls.models.quiet import quiet
from diffcls.models.residence import Residence, is_quantised
from diffcls.support.errors import ModelError, UsageError

PROMPTS_PER_BATCH = 16
"""Prompts encoded together; bounds the memory that the text encoder needs beside the encodings."""


class PipelineDenoiser(ABC):
    """A diffusers pipeline as a `diffcls.models.denoiser.Denoiser`.

    Args:
        pipeline: loaded with diffusers, the autoencoder in float32, the rest in `dtype`.
        card: name, revision, temperature.
        device, dtype: device and precision of the network.
        img_size: side of the images in pixels; default: the size that the network was trained on.
        memory: how the parts are held in memory.

    Raises:
        ModelError: if the parts do not fit each other.
        UsageError: for an image size that the model does not support.
    """

    part: ClassVar[str] = "transformer"
    """Name of the network among the pipeline's parts."""
    time_scale: ClassVar[float] = 1000.0
    """Timestep input of a flow model's network, divided by sigma."""
    may_learn_variance: ClassVar[bool] = False
    """Whether the second half of the output may be a learned variance."""
    copies_convolutions_on_cpu: ClassVar[bool] = False
    """Whether the network's convolutions get another memory layout on a CPU."""
    interpolation: str = "bicubic"
    """Resizing of images, see `diffcls.data.transforms.to_pixels`."""
    labels: tuple[str, ...] | None = None

    def __init__(
        self,
        pipeline: Any,
        card: ModelCard,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        img_size: int | None = None,
        memory: MemoryOptions = WHOLE_ON_DEVICE,
    ) -> None:
        self.card, self.device, self.dtype = card, torch.device(device), dtype
        self.pipeline = pipeline
        self._residence = Residence(self.device, memory.offload, memory.device_map is not None)
        self.network: Any = getattr(pipeline, self.part).eval()
        self._residence.hold("network", self.network)
        self.network.requires_grad_(False)  # only prompts and images are differentiated
        parts = [getattr(pipeline, name, None) for name in AUTOENCODERS]
        vae = next((part for part in parts if part is not None), None)
        self.autoencoder = None if vae is None else autoencoder_of(vae, self.device)
        if self.autoencoder is not None:
            self.autoencoder.save_memory(memory.vae_slicing, memory.vae_tiling)
            self._residence.hold("autoencoder", self.autoencoder.vae)
        self.schedule, self.parameterization = training_noise(pipeline.scheduler, self.time_scale)
        self._timesteps = torch.tensor(
            self.schedule.timesteps, dtype=torch.float32, device=self.device
        )
        self._check_parts()
        self._prepare_text()
        self.sample_shape, self.image_size = self._shape(img_size)

    @abstractmethod
    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """P prompts -> named tensors (P, ...), the inputs of `_forward`."""

    @abstractmethod
    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        """x_t (B, C, h, w), timestep (B,) float32 -> the native output, C channels or more."""

    def _channels(self) -> tuple[int, int]:
        """Input channels of the network, and output channels without a learned variance."""
        config = self.network.config
        inputs = int(config.in_channels)
        outputs = int(config.get("out_channels", None) or inputs)  # some name the inputs only
        if self.may_learn_variance and outputs == 2 * inputs:
            outputs = inputs
        return inputs, outputs

    def _patch(self) -> int:
        """Patch size: sides of latents must be a multiple of it."""
        return int(self.network.config.get("patch_size", None) or 1)

    def _native_size(self) -> object:
        """Side of the latents that the network was trained on, as the config has it.

        It may be a pair (h, w), or None.
        """
        return self.network.config.get("sample_size", None)

    def _positions(self) -> int | None:
        """Rows, and columns, of a table of positions of patches; None without such a table."""
        return None

    def _default(self, name: str) -> Any:
        """Default of a parameter of the pipeline's ``__call__``."""
        return inspect.signature(type(self.pipeline).__call__).parameters[name].default

    def _check_parts(self) -> None:
        """Raise ModelError if network and autoencoder do not fit each other."""
        inputs, outputs = self._channels()
        latent = inputs if self.autoencoder is None else self.autoencoder.channels
        if not inputs == outputs == latent:
            raise ModelError(
                f"{self.part} and autoencoder do not fit each other",
                given=f"{inputs} input, {outputs} output and {latent} latent channels",
                allowed="equal numbers (in-painting and up-scaling models are not supported)",
            )

    def _check_text(self, width: int, **fields: str) -> None:
        """Check that the outputs of the text encoders have the width of the network's input.

        Args:
            width: width of the network's input.
            fields: names of the text encoders whose outputs are concatenated to that input, each
                with the entry of its config that holds the width of its output.

        Raises:
            ModelError: if the widths differ, or an encoder is missing.
        """
        widths: dict[str, int] = {}
        for name, field in fields.items():
            encoder = getattr(self.pipeline, name)
            if encoder is None:
                raise ModelError("a text encoder of the model is missing", given=name)
            widths[name] = int(getattr(text_config(encoder), field))
        if sum(widths.values()) != width:
            given = ", ".join(f"{name} has {w}" for name, w in widths.items())
            raise ModelError(
                f"{self.part} and text encoder do not fit each other",
                given=f"the {self.part} expects width {width}, {given}",
            )

    def _prepare_text(self) -> None:
        """Move text encoders to the device, and limit tokenizers to their context length."""
        for name, encoder in self._text_encoders().items():
            self._residence.hold("text", encoder.eval())
            tokenizer = getattr(self.pipeline, name.replace("text_encoder", "tokenizer"))
            if tokenizer is None:
                raise ModelError("a text encoder of the model has no tokenizer", given=name)
            limit = getattr(text_config(encoder), "max_position_embeddings", None)
            if limit is not None:  # a tokenizer saved without a limit has 1e30
                tokenizer.model_max_length = min(tokenizer.model_max_length, limit)
            check_tokenizer(name, tokenizer, encoder)
        if hasattr(self.pipeline, "tokenizer_max_length"):  # some pipelines keep a copy
            known = (self.pipeline.tokenizer_max_length, self.pipeline.tokenizer.model_max_length)
            self.pipeline.tokenizer_max_length = min(known)

    def _shape(self, img_size: int | None) -> tuple[tuple[int, int, int], int]:
        factor = 1 if self.autoencoder is None else self.autoencoder.factor
        size = square_side(self._native_size(), factor) if img_size is None else img_size
        step = factor * self._patch()
        if size < step or size % step:
            raise UsageError(
                "image size does not fit the model", given=size, allowed=f"a multiple of {step}"
            )
        positions = self._positions()
        if positions is not None and size > positions * step:
            raise UsageError(
                "image size does not fit the model",
                given=size,
                allowed=f"at most {positions * step}",
            )
        return (self._channels()[0], size // factor, size // factor), size

    def encode_images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> x0 (B, C, h, w): the posterior's mean, shifted and scaled."""
        if self.autoencoder is None:
            return images.to(self.device, torch.float32)
        self._residence.need("autoencoder")
        return self.autoencoder.encode(images)

    def decode_latents(self, x0: Tensor) -> Tensor:
        """x0 (B, C, h, w) -> images (B, 3, H, W)."""
        if self.autoencoder is None:
            return x0
        self._residence.need("autoencoder")
        return self.autoencoder.decode(x0)

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """P texts -> their conditioning, padded as the model was trained.

        Raises:
            ModelError: if the encoding of a prompt is not finite, in single precision too.
        """
        self._residence.need("text")
        cond = self._encode_all(prompts)
        if first_not_finite(cond) is not None and self.dtype != torch.float32:
            with self._residence.whole("text"):
                for module in self._text_encoders().values():
                    if not is_quantised(module):
                        module.float()
            cond = self._encode_all(prompts)
        bad = first_not_finite(cond)
        if bad is not None:
            raise ModelError("the encoding of a prompt is not finite", given=prompts[bad])
        return cond

    def encode_with_gradient(self, prompts: Sequence[str]) -> Conditioning:
        """The result of `encode_prompts`, differentiable in what the text encoders read."""
        self._residence.need("text")
        with quiet():
            return Conditioning(self._encode(prompts))

    def prompt_keys(self, prompts: Sequence[str]) -> Sequence[Hashable]:
        """The token ids of all text encoders; the class ids of a class-conditional model."""
        names = [name.replace("text_encoder", "tokenizer") for name in self._text_encoders()]
        tokenizers = [getattr(self.pipeline, name) for name in names]
        return token_keys(tokenizers, prompts) if tokenizers else list(prompts)

    def _encode_all(self, prompts: Sequence[str]) -> Conditioning:
        encoded: dict[str, Tensor] = {}
        with quiet():  # truncated prompts are reported by `report_truncation` instead
            for start in range(0, len(prompts), PROMPTS_PER_BATCH):
                part = self._encode(prompts[start : start + PROMPTS_PER_BATCH])
                # written in place: a concatenation would need twice the memory
                for name, rows in part.items():
                    if start == 0:
                        encoded[name] = rows.new_empty(len(prompts), *rows.shape[1:])
                    encoded[name][start : start + len(rows)] = rows
        return Conditioning(encoded)

    def _text_encoders(self) -> dict[str, Any]:
        parts: dict[str, Any] = self.pipeline.components
        named = {name: part for name, part in parts.items() if name.startswith("text_encoder")}
        return {name: part for name, part in named.items() if part is not None}

    @property
    def is_latent(self) -> bool:
        """Whether x0 is the latent of an autoencoder."""
        return self.autoencoder is not None

    @property
    def learns_variance(self) -> bool:
        """Whether the output has a second half, the learned variance of the reverse step."""
        config = self.network.config
        return self.may_learn_variance and int(config.out_channels) == 2 * int(config.in_channels)

    def predict(self, x_t: Tensor, index: Tensor, cond: Conditioning) -> Tensor:
        """The network's output (B, C, h, w) at schedule index (B,), without guidance."""
        return self.predict_both(x_t, index, cond)[0]

    def predict_both(
        self, x_t: Tensor, index: Tensor, cond: Conditioning
    ) -> tuple[Tensor, Tensor | None]:
        """The result of `predict`, and the mixture v of a learned variance, or None.

        The network's second half is in [−1, 1] and v in [0, 1]: v = (out + 1)/2 (Nichol and
        Dhariwal 2021, eq. 15; `diffcls.diffusion.process.learned_variance`).
        """
        self._residence.need("network")
        out, channels = self._forward(x_t, self._timesteps[index], cond), x_t.shape[1]
        mixture = (out[:, channels:] + 1) / 2 if self.learns_variance else None
        return out[:, :channels], mixture

    @contextmanager
    def float32(self) -> Iterator[None]:
        """Context in which the network runs in single precision; quantised weights stay so."""
        own_dtype = self.dtype
        if not is_convertible(self.network):
            yield
            return
        try:
            with in_float32(self.network, own_dtype, partial(self._residence.whole, "network")):
                self.dtype = torch.float32
                yield
        finally:
            self.dtype = own_dtype
