"""Families that a ControlNet can steer: one map per image is added to the prompt (Zhang et al.)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import copy
from typing import Any, Self

import torch
from torch import Tensor

from diffcls.models.denoiser import CONTROL, Conditioning, ModelCard
from diffcls.models.families.base import PipelineDenoiser
from diffcls.models.precision import in_float32
from diffcls.support.errors import UsageError


class ControlledDenoiser(PipelineDenoiser):
    """A denoiser whose network takes the residuals of a ControlNet (Zhang et al. 2023).

    Without one it is the plain model. With one, every prediction is conditioned on the entry
    `diffcls.models.denoiser.CONTROL` of its conditioning, too.

    Attributes:
        control: the ControlNet of diffusers, or None.
        steered: the plain model of a steered one; None without a ControlNet.
    """

    control: Any = None
    steered: PipelineDenoiser | None = None

    def with_control(self, network: Any, card: ModelCard) -> Self:
        """This model, steered by a ControlNet; it shares all weights.

        Args:
            network: ControlNet of diffusers, of the class that the family's row names, in the
                precision of the model.
            card: card of both together.

        Raises:
            UsageError: for a ControlNet of other latents or prompts.
        """
        steered = copy(self)
        steered.steered, steered.card = self, card
        steered.control = network.to(self.device).eval().requires_grad_(False)
        if self.device.type == "cpu" and self.copies_convolutions_on_cpu:
            steered.control = steered.control.to(memory_format=torch.channels_last)
        steered._check_control()
        return steered

    @torch.inference_mode()
    def encode_control(self, maps: Tensor) -> Tensor:
        """Maps (B, 3, H, W) in [0, 1] -> what the ControlNet reads of them (B, ...)."""
        return maps.to(self.device, torch.float32)

    def predict_both(
        self, x_t: Tensor, index: Tensor, cond: Conditioning
    ) -> tuple[Tensor, Tensor | None]:
        """See `PipelineDenoiser.predict_both`.

        Raises:
            UsageError: for a steered model without a map, and a map without a ControlNet.
        """
        if (CONTROL in cond) != (self.control is not None):
            raise UsageError(
                "a model with a ControlNet needs a map of each image, and no other model takes one",
                given=self.card.name,
                todo="remove the control, or use evaluate or generate, which compute the maps",
            )
        return super().predict_both(x_t, index, cond)

    @contextmanager
    def float32(self) -> Iterator[None]:
        """Context in which network and ControlNet run in single precision."""
        own = in_float32(self.control, self.dtype, nullcontext) if self.control else nullcontext()
        with own, super().float32():
            yield

    def _check_control(self) -> None:
        """Raise UsageError for a ControlNet of other latents, or one that is not supported."""
        given, own = self.control.config.get("in_channels", None), self.network.config.in_channels
        if given != own:
            raise UsageError(
                "the ControlNet is for another model",
                given=f"{given} channels of latents",
                allowed=f"{own}, those of {self.card.name}",
                todo="choose one that was trained with this model: --control-model",
            )

    def _control(self, cond: Conditioning) -> Tensor:
        """The ControlNet's reading of the maps (B, ...), in the network's precision."""
        return cond[CONTROL].to(self.dtype)


class ControlledUNet(ControlledDenoiser):
    """A U-Net: the residuals are added to its skip connections and to its middle block."""

    def _output(self, x_t: Tensor, timestep: Tensor, cond: Conditioning, **inputs: Any) -> Tensor:
        """Output of the network, with the ControlNet's residuals if there is one.

        Args:
            x_t, timestep, cond: see `PipelineDenoiser._forward`.
            inputs: further inputs, the same of both networks.
        """
        residuals: dict[str, Any] = {}
        if self.control is not None:
            down, middle = self.control(
                x_t,
                timestep,
                controlnet_cond=self._control(cond),
                return_dict=False,
                **inputs,
            )
            residuals["down_block_additional_residuals"] = down
            residuals["mid_block_additional_residual"] = middle
        out: Tensor = self.network(x_t, timestep, **inputs, **residuals).sample
        return out
