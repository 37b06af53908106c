"""Network of the accelerator benchmark: a U-Net of Stable Diffusion 2's size, and its timing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

# dense peak of 16-bit matrix products with 32-bit accumulation, from the makers' data sheets; for
# a device that is missing here no share of the peak is reported
PEAK_TFLOPS = {
    "H100": 989.0,
    "H100 PCIe": 756.0,
    "H200": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "4090": 165.0,
    "3090": 71.0,
    "T4": 65.0,
    "V100": 125.0,
}
TOKENS, WIDTH = 77, 1024
LATENT = (4, 64, 64)
PROMPTS = 37


def network(tiny: bool) -> Any:
    """A U-Net of the size of Stable Diffusion 2-base, or a small one of the same architecture."""
    import torch
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    if tiny:
        return UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(32, 64),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=64,
            attention_head_dim=8,
            norm_num_groups=8,
        )
    return UNet2DConditionModel(
        sample_size=LATENT[1],
        block_out_channels=(320, 640, 1280, 1280),
        cross_attention_dim=WIDTH,
        attention_head_dim=(5, 10, 20, 20),
        use_linear_projection=True,
    )


class Bench:
    """One network and one batch as the scorer makes it: of many images, prompts and draws.

    Args:
        unet: the network, on its device.
        batch: batch size.
    """

    def __init__(self, unet: Any, batch: int) -> None:
        import torch

        parameter = next(unet.parameters())
        self.unet, self.device, self.dtype = unet, parameter.device, parameter.dtype
        g = torch.Generator("cpu").manual_seed(0)
        side, width = unet.config.sample_size, unet.config.cross_attention_dim
        x = torch.randn(batch, LATENT[0], side, side, generator=g)
        text = torch.randn(PROMPTS, TOKENS, width, generator=g)
        self.x_t = x.to(self.device, self.dtype)
        self.text = text.to(self.device, self.dtype)[torch.arange(batch) % PROMPTS]
        self.timestep = (torch.arange(batch, device=self.device) * 37) % 1000

    def __call__(self) -> Any:
        return self.unet(self.x_t, self.timestep, encoder_hidden_states=self.text).sample

    def flops(self) -> float:
        """Floating-point operations of one forward pass of the batch, counted by torch."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            self()
        return float(counter.get_total_flops())


def rate(call: Callable[[], Any], batch: int, seconds: float, device: Any) -> float:
    """Evaluations per second; the device is synchronised every third call.

    Args:
        call: one forward pass.
        batch: its batch size.
        seconds: least duration of the measurement.
        device: torch's device.
    """
    import torch

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with torch.inference_mode():
        for _ in range(3):
            call()
        wait()
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            for _ in range(3):
                call()
            wait()
            count += 3 * batch
        return count / (time.perf_counter() - start)


def peak_of(device: str) -> float | None:
    """Peak TFLOP/s of a device, by the words of its name; None if it is not known."""
    words = set(re.split(r"[\s-]+", device))
    known = [name for name in PEAK_TFLOPS if set(name.split()) <= words]
    return PEAK_TFLOPS[max(known, key=len)] if known else None
