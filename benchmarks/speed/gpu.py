"""``python -m benchmarks.speed.gpu``: a full accelerator, measure by measure, for whoever has one.

A U-Net of the size of Stable Diffusion 2-base with random weights (no download), scored as the
evaluate command scores: evaluations a second and the share of the device's peak arithmetic, before
and after each measure, each kept only where it is faster. Writes ``results/gpu-NAME.csv``. It runs
on a CPU too, with ``--tiny``, to see that it does.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffcls.cli import Parser, command
from diffcls.support.errors import UsageError

# dense peak of 16-bit arithmetic with 32-bit sums, in units of 10¹² operations a second, from the
# makers' data sheets; a device that is not here is measured without a share
PEAK = {
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
BATCHES = (8, 16, 32, 64, 128)
TOKENS, WIDTH = 77, 1024
LATENT = (4, 64, 64)
PROMPTS = 37
COLUMNS = (
    "device",
    "measure",
    "batch",
    "evaluations_per_second",
    "tflops",
    "share_of_peak",
    "memory_gib",
    "largest_difference",
)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    p = Parser(prog="benchmarks.speed.gpu", description=__doc__.splitlines()[0])
    p.formatter_class = argparse.RawDescriptionHelpFormatter
    p.add_argument("--output-dir", default="results", metavar="DIR")
    p.add_argument("--device", default="cuda", metavar="D", help="cuda (default), cuda:N or cpu")
    p.add_argument("--batches", type=int, nargs="+", default=BATCHES, metavar="N")
    p.add_argument("--seconds", type=float, default=5.0, metavar="S", help="of each timing (5)")
    p.add_argument("--tiny", action="store_true", help="a small network, to try the script")
    flags = p.parse_args(arguments)
    import torch

    if flags.device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("no CUDA device here", given=flags.device, allowed="--device cpu --tiny")
    rows = measure(flags.device, flags.batches, flags.seconds, flags.tiny)
    write(rows, Path(flags.output_dir))
    return 0


def network(tiny: bool) -> Any:
    """A U-Net with the shape of Stable Diffusion 2-base's, or a small one of the same anatomy."""
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
    """One network and one batch, as the scorer hands them over: many images, prompts and draws.

    Args:
        unet: the network, on its device.
        batch: rows.
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
        """Arithmetic of one forward of the batch, counted, not estimated."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            self()
        return float(counter.get_total_flops())


def rate(call: Callable[[], Any], batch: int, seconds: float, device: Any) -> float:
    """Evaluations a second; waits for the device only at both ends."""
    import torch

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with torch.inference_mode():
        for _ in range(3):
            call()
        wait()
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            for _ in range(3):
                call()
            wait()
            count += 3 * batch
        return count / (time.perf_counter() - began)


def peak_of(device: str) -> float | None:
    """Of a device, by the words of its name; None where it is not known."""
    words = set(re.split(r"[\s-]+", device))
    known = [name for name in PEAK if set(name.split()) <= words]
    return PEAK[max(known, key=len)] if known else None


def measure(
    device: str, batches: Sequence[int], seconds: float, tiny: bool = False
) -> list[dict[str, Any]]:
    """A row for each measure, each upon what was kept of those before it."""
    import torch

    from diffcls.scoring.batch_runner import is_out_of_memory
    from diffcls.support.environment import describe_device

    name = describe_device(device)
    peak = peak_of(name)
    unet = network(tiny).to(device).eval().requires_grad_(False)
    rows: list[dict[str, Any]] = []
    first, best = batches[0], 0.0
    flops = Bench(unet, first).flops() / first
    kept: Any = unet
    plain: Any = unet  # a compiled network is not to be changed any more
    truth: Any = None
    for label, change in MEASURES.items():
        batch = first
        try:
            tried = change(plain)
            bench = Bench(tried, batch)
            with torch.inference_mode():
                out = bench().float().cpu()
            truth = out if truth is None else truth
            found = rate(bench, batch, seconds, torch.device(device))
        except (RuntimeError, ImportError) as error:
            rows.append({"device": name, "measure": f"{label}: {str(error).splitlines()[0]}"})
            continue
        apart = float((out - truth).abs().max())
        rows.append(_row(name, label, batch, found, flops, peak, apart))
        if found > best or label == "baseline":
            best, kept = found, tried
            plain = plain if label.startswith("compiled") else tried
    for batch in batches[1:]:
        try:
            with memory(device) as used:
                found = rate(Bench(kept, batch), batch, seconds, torch.device(device))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            rows.append({"device": name, "measure": "out of memory", "batch": batch})
            break
        rows.append({**_row(name, "kept, larger batch", batch, found, flops, peak), **used})
    return rows


def _row(
    name: str,
    label: str,
    batch: int,
    found: float,
    flops: float,
    peak: float | None,
    apart: float | None = None,
) -> dict[str, Any]:
    tflops = found * flops / 1e12
    return {
        "device": name,
        "measure": label,
        "batch": batch,
        "evaluations_per_second": found,
        "tflops": tflops,
        "share_of_peak": tflops / peak if peak else None,
        "largest_difference": apart,
    }


@contextmanager
def memory(device: str) -> Iterator[dict[str, float]]:
    """The peak of the device's memory meanwhile, in GiB; empty on a CPU."""
    import torch

    used: dict[str, float] = {}
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    yield used
    if device.startswith("cuda"):
        used["memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30


def _half(unet: Any) -> Any:
    import copy

    import torch

    return copy.deepcopy(unet).to(torch.bfloat16)


def _channels_last(unet: Any) -> Any:
    import copy

    import torch

    return copy.deepcopy(unet).to(memory_format=torch.channels_last)


def _fused(unet: Any) -> Any:
    import copy

    fused = copy.deepcopy(unet)
    fused.fuse_qkv_projections()
    return fused


def _compiled(unet: Any) -> Any:
    import copy

    # static shapes: every forward of a run has the same
    compiled = copy.deepcopy(unet)
    compiled.compile(fullgraph=True, dynamic=False)
    return compiled


def _graphs(unet: Any) -> Any:
    import copy

    compiled = copy.deepcopy(unet)
    compiled.compile(fullgraph=True, dynamic=False, mode="reduce-overhead")
    return compiled


def _baseline(unet: Any) -> Any:
    return unet


MEASURES: dict[str, Callable[[Any], Any]] = {
    "baseline": _baseline,
    "bfloat16": _half,
    "channels last": _channels_last,
    "one projection for query, key and value": _fused,
    "compiled, static shapes": _compiled,
    "compiled, CUDA graphs": _graphs,
}


def write(rows: list[dict[str, Any]], output: Path) -> None:
    """The table, under the device's name."""
    import re

    import pandas as pd

    from diffcls.support.files import write_text

    output.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "-", str(rows[0]["device"])).strip("-").lower()
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    path = output / f"gpu-{name}.csv"
    write_text(path, frame.to_csv(index=False, float_format="%.6g"))
    print(frame.to_string(index=False))
    print(path)


if __name__ == "__main__":
    sys.exit(main())
