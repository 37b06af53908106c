"""Accelerator benchmark: throughput and share of the peak, optimisation by optimisation.

A U-Net of the size of Stable Diffusion 2-base with random weights (no download) is run as the
evaluate command runs it. Each optimisation is measured on top of those kept before it, and kept
only if it is faster. Writes ``gpu-DEVICE.csv``. With ``--tiny`` it also runs on a CPU, as a trial.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.core.flags import entry_point, parser
from benchmarks.core.tables import SIX_DIGITS, write_rows
from benchmarks.speed.gpu_network import Bench, network, peak_of, rate
from diffcls.support.errors import UsageError

BATCHES = (8, 16, 32, 64, 128)
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


def _main(arguments: list[str]) -> int:
    p = parser("gpu", __doc__)
    p.add_argument("--device", default="cuda", metavar="D", help="cuda (default), cuda:N or cpu")
    p.add_argument("--batches", type=int, nargs="+", default=BATCHES, metavar="N")
    p.add_argument("--seconds", type=float, default=5.0, metavar="S", help="per timing (5)")
    p.add_argument("--tiny", action="store_true", help="a small network, for a trial")
    flags = p.parse_args(arguments)
    import torch

    if flags.device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(
            "--device needs CUDA, which is not available",
            given=flags.device,
            allowed="--device cpu --tiny",
        )
    output, rows = Path(flags.output_dir), []
    for row in measure(flags.device, flags.batches, flags.seconds, flags.tiny):
        rows.append(row)
        path = write(rows, output)  # after each row: compilation may outlast a lent device
        print({name: value for name, value in row.items() if value is not None}, flush=True)
    print(path)
    return 0


main = entry_point(_main)


def measure(
    device: str, batches: Sequence[int], seconds: float, tiny: bool = False
) -> Iterator[dict[str, Any]]:
    """One row per optimisation, each measured on top of those kept before it; then batch sizes.

    Args:
        device: torch's name of the device.
        batches: batch sizes; optimisations are measured at the first.
        seconds: duration of each timing.
        tiny: whether to measure a small network.
    """
    import torch

    from diffcls.scoring.batch_size import is_out_of_memory
    from diffcls.support.environment import describe_device

    name = describe_device(device)
    peak = peak_of(name)
    unet = network(tiny).to(device).eval().requires_grad_(False)
    first, best = batches[0], 0.0
    flops = Bench(unet, first).flops() / first
    best_network: Any = unet
    plain: Any = unet  # further optimisations start here, as a compiled network cannot be changed
    exact: Any = None
    for label, change in OPTIMISATIONS.items():
        batch = first
        try:
            changed = change(plain)
            bench = Bench(changed, batch)
            with torch.inference_mode():
                out = bench().float().cpu()
            exact = out if exact is None else exact
            measured = rate(bench, batch, seconds, torch.device(device))
        except (RuntimeError, ImportError) as error:
            yield {"device": name, "measure": f"{label}: {str(error).splitlines()[0]}"}
            continue
        difference = float((out - exact).abs().max())
        yield _row(name, label, batch, measured, flops, peak, difference)
        if measured > best or label == "baseline":
            best, best_network = measured, changed
            plain = plain if label.startswith("compiled") else changed
    for batch in batches[1:]:
        try:
            with memory(device) as used:
                measured = rate(Bench(best_network, batch), batch, seconds, torch.device(device))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            yield {"device": name, "measure": "out of memory", "batch": batch}
            break
        yield {**_row(name, "all kept, larger batch", batch, measured, flops, peak), **used}


def _row(
    name: str,
    label: str,
    batch: int,
    evaluations_per_second: float,
    flops: float,
    peak: float | None,
    difference: float | None = None,
) -> dict[str, Any]:
    tflops = evaluations_per_second * flops / 1e12
    return {
        "device": name,
        "measure": label,
        "batch": batch,
        "evaluations_per_second": evaluations_per_second,
        "tflops": tflops,
        "share_of_peak": tflops / peak if peak else None,
        "largest_difference": difference,
    }


@contextmanager
def memory(device: str) -> Iterator[dict[str, float]]:
    """Peak of the device's memory in this context, in GiB; empty on a CPU."""
    import torch

    used: dict[str, float] = {}
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    yield used
    if device.startswith("cuda"):
        used["memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30


def _half(unet: Any) -> Any:
    import torch

    return copy.deepcopy(unet).to(torch.bfloat16)


def _channels_last(unet: Any) -> Any:
    import torch

    return copy.deepcopy(unet).to(memory_format=torch.channels_last)


def _fused(unet: Any) -> Any:
    fused = copy.deepcopy(unet)
    fused.fuse_qkv_projections()
    return fused


def _compiled(unet: Any) -> Any:
    # static shapes: all forward passes of a run have one
    compiled = copy.deepcopy(unet)
    compiled.compile(fullgraph=True, dynamic=False)
    return compiled


def _graphs(unet: Any) -> Any:
    compiled = copy.deepcopy(unet)
    compiled.compile(fullgraph=True, dynamic=False, mode="reduce-overhead")
    return compiled


def _baseline(unet: Any) -> Any:
    return unet


OPTIMISATIONS: dict[str, Callable[[Any], Any]] = {
    "baseline": _baseline,
    "bfloat16": _half,
    "channels last": _channels_last,
    "fused query, key and value projection": _fused,
    "compiled, static shapes": _compiled,
    "compiled, CUDA graphs": _graphs,
}


def write(rows: list[dict[str, Any]], output: Path) -> Path:
    """Write the table, which is named after the device; returns its path."""
    name = re.sub(r"\W+", "-", str(rows[0]["device"])).strip("-").lower()
    path = output / f"gpu-{name}.csv"
    write_rows(path, rows, COLUMNS, SIX_DIGITS)
    return path
