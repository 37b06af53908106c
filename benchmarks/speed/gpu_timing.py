"""Timings of the accelerator benchmark: forward passes, matrix products, memory."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# dense peak of 16-bit matrix products with 32-bit accumulation, from the makers' data sheets; for
# a device that is missing here no share of it is reported
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


def data_sheet_peak(device: str) -> float | None:
    """Peak TFLOP/s of a device, by the words of its name; None if it is not known."""
    words = set(re.split(r"[\s-]+", device))
    known = [name for name in PEAK_TFLOPS if set(name.split()) <= words]
    return PEAK_TFLOPS[max(known, key=len)] if known else None


def synchronise(device: str) -> None:
    """Wait until the device has finished what was launched; nothing to do on a CPU."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def seconds_per_call(call: Callable[[], Any], seconds: float, device: str) -> float:
    """Mean time of one call in seconds; the device is waited for at both ends.

    Args:
        call: launches the work.
        seconds: least duration of the measurement, after one call that warms up.
        device: torch's name of the device.
    """
    import torch

    with torch.inference_mode():
        call()
        synchronise(device)
        start, count, elapsed = time.perf_counter(), 0, 0.0
        while elapsed < seconds or count < 2:
            # as many calls as are sure to fit, so that waiting costs little
            for _ in range(max(1, min(10, int(count * (seconds - elapsed) / max(elapsed, 1e-9))))):
                call()
                count += 1
            synchronise(device)
            elapsed = time.perf_counter() - start
    return elapsed / count


def matrix_peak(device: str, side: int, seconds: float) -> float:
    """Measured peak in TFLOP/s: a product of two square matrices in bfloat16.

    Args:
        device: torch's name of the device.
        side: rows and columns; 8192 keeps a large accelerator busy.
        seconds: least duration of the measurement.
    """
    import torch

    a, b = (
        torch.randn(side, side, device=device).to(torch.bfloat16).contiguous() for _ in range(2)
    )
    out = torch.empty_like(a)
    time_of_one = seconds_per_call(lambda: torch.mm(a, b, out=out), seconds, device)
    return 2 * side**3 / time_of_one / 1e12


@contextmanager
def extra_memory(device: str) -> Iterator[dict[str, float]]:
    """Key ``gib``: the most memory that this context adds to what is held; empty on a CPU."""
    import torch

    used: dict[str, float] = {}
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    yield used
    if device.startswith("cuda"):
        used["gib"] = (torch.cuda.max_memory_allocated(device) - before) / 2**30


def free_memory(device: str) -> None:
    """Return what nothing refers to any more to the device."""
    import gc

    import torch

    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
