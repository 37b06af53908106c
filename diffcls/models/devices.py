"""Device and precision of a model, from the values of ``--device`` and ``--dtype``."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from diffcls.support.errors import UsageError, unknown_name
from diffcls.support.launchers import local_index_of

if TYPE_CHECKING:
    import torch

DEVICE = re.compile(r"(?:cpu|mps)(?::0)?|cuda(?::[0-9]{1,3})?")
DTYPES = ("float32", "float16", "bfloat16")


def resolve_device(name: str | None) -> str:
    """The named device; ``auto`` is an accelerator if present, else the CPU.

    Of several GPUs that torchrun's or SLURM's processes on one machine all see, ``auto`` is that of
    this process; where there are more processes than GPUs, they share them.

    Raises:
        UsageError: for an unknown name, or a device that is not available.
    """
    import torch

    check_device(name)
    if name in (None, "auto"):
        if torch.cuda.is_available():
            index = local_index_of(os.environ) % max(1, torch.cuda.device_count())
            return f"cuda:{index}" if index else "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    counts = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in counts:
        raise _unknown_device(str(name))
    if (device.index or 0) >= counts[device.type]:
        raise UsageError("--device is not available", given=name, todo="use --device cpu")
    return str(name)


def check_device(name: str | None) -> None:
    """Raise UsageError for what cannot be a device; does not import torch.

    Whether the device is available is known to `resolve_device` alone.
    """
    if name not in (None, "auto") and not DEVICE.fullmatch(str(name)):
        raise _unknown_device(str(name))


def _unknown_device(name: str) -> UsageError:
    return UsageError("unknown device", given=name, allowed="auto, cpu, cuda, cuda:N, mps")


def default_dtype(device: str) -> torch.dtype:
    """The precision of a model on a device where none is requested."""
    import torch

    return torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16


def resolve_dtype(name: str | None) -> torch.dtype | None:
    """The torch dtype of ``float32``, ``float16`` or ``bfloat16``; None for ``auto``.

    Raises:
        UsageError: for any other name.
    """
    import torch

    if name in (None, "auto"):
        return None
    check_dtype(str(name))
    dtype: torch.dtype = getattr(torch, str(name))
    return dtype


def check_dtype(name: str) -> None:
    """Raise UsageError for an unsupported dtype; does not import torch."""
    if name not in (*DTYPES, "auto"):
        raise unknown_name("dtype", name, (*DTYPES, "auto"))


ACCELERATOR_FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")
"""Device files of CUDA (natively and in WSL) and ROCm on Linux; without them, only a CPU."""


def dtype_without_torch(dtype: str, device: str | None) -> str | None:
    """The name of the dtype that a model runs in, without torch; None if only torch can tell.

    Args:
        dtype: ``auto``, or a name that `check_dtype` allows.
        device: as in `resolve_device`.
    """
    on_cpu = device == "cpu" or (
        device in (None, "auto")
        and sys.platform == "linux"
        and not any(map(os.path.exists, ACCELERATOR_FILES))
    )
    if not on_cpu:
        return None
    return "float32" if dtype == "auto" else dtype
